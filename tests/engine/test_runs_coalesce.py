"""Coalesces in real runs: who is held, when a group is decided, and what the record says of it.

Time is simulated: it goes on when the source is idle, when a retry is waited for, and when a step says so.
"""

from __future__ import annotations

from itertools import product

import pytest

from engine.bound import Transform
from engine.loop import Hooks
from engine.plugin_api import RowError
from ledger import events as e
from ledger.replay import replay
from tests.kit.forks import POLICIES, Later, Row, Settings, forked, nested, refusing
from tests.kit.pipelines import failing, trial, tried
from tests.kit.ports import SimulatedTime
from tests.kit.twins import Pause

# --- A: failures are recorded --------------------------------------------------------------------------------------


def test_an_impossible_quorum_is_recorded_with_everything_that_was_known() -> None:
    """A1, A3, E10: lost branches with reasons, the missing one, the policy, the decision; the held token fails with it."""
    text = forked("a", "b", "c", "d", policy="quorum", quorum_count=3, merge="nested").text()
    ran = tried(text, [{"n": 0}], {"step_b": failing(lambda: RowError("no", "bad_vote")), "step_c": lambda row: None})
    failure = ran.one(e.CoalesceFailed)
    assert (failure.trigger, failure.reason) == ("branch_lost", "quorum_impossible:need=3,max_possible=2")
    assert failure.facts == e.GroupFacts(
        policy="quorum", merge_strategy="nested", expected_branches=("a", "b", "c", "d"),
        arrival_order=(e.Arrival("a", "0.a", 0),),
        branches_lost=(e.Loss("b", "error_routed:step_b:bad_vote"), e.Loss("c", "filtered:step_c")),
        branches_missing=("d",), wait_duration_ms=0,
    )  # fmt: skip
    assert ran.outcomes == {"0": "forked", "0.a": "failed", "0.b": "routed", "0.c": "dropped_by_filter", "0.d": "failed"}
    assert ran.told("0.d") == ["StepCompleted 0.d step_d #1", "BranchArrivedLate 0.d 0+join d failed"]


@pytest.mark.parametrize(
    ("policy", "settings", "reason"),
    [("require_all", {}, "incomplete_branches"), ("quorum", {"quorum_count": 2}, "quorum_not_met_at_timeout")],
)
def test_a_group_that_waits_too_long_is_decided_while_no_row_comes(
    policy: str, settings: Settings, reason: str
) -> None:
    """A1, A2, D5: the timer fires at its very millisecond on an idle source; the held token fails, nothing pends."""
    text = forked("a", "b", policy=policy, attempts=2, delay_seconds=60, timeout_seconds=5, **settings).text()
    ran = tried(text, [{"n": 0}, Pause(120_000), {"n": 1}], {"step_b": Later()})
    first = ran.of(e.CoalesceFailed)[0]
    assert (first.group, first.trigger, first.reason, first.active_ms) == ("0+join", "timeout", reason, 5000)
    assert first.facts is not None
    assert (first.facts.branches_missing, first.facts.wait_duration_ms) == (("b",), 5000)
    assert ran.of(e.RowRead)[1].active_ms == 120_000
    assert ran.told("0.a")[-2:] == ["StepCompleted 0.a step_a #1", "BranchArrived 0.a 0+join a"]
    assert ran.outcomes["0.a"] == "failed"
    assert ran.told("0.b")[-1] == "BranchArrivedLate 0.b 0+join b failed"


def test_best_effort_goes_on_at_its_timeout_with_what_came() -> None:
    """A2, D5, D7: the merge is made at the deadline, while the late branch waits for its retry."""
    text = forked("a", "b", "c", policy="best_effort", attempts=2, delay_seconds=60, timeout_seconds=0.25).text()
    ran = tried(text, [{"n": 0}], {"step_b": Later(), "step_c": lambda row: None})
    merge = ran.one(e.TokensCoalesced)
    assert (merge.trigger, merge.active_ms) == ("timeout", 250)
    assert merge.facts is not None
    assert merge.facts.branches_missing == ("b",)
    assert merge.facts.branches_lost == (e.Loss("c", "filtered:step_c"),)
    assert ran.receipt.late_arrivals == 1
    assert ran.rows("out") == [{"n": 0}]


def test_a_timer_that_ran_out_while_a_step_blocked_is_decided_before_what_the_step_gave() -> None:
    """W11, A2, D5, law C4: nothing is stamped past an open deadline, not even the answer of the step that blocked."""
    time = SimulatedTime()

    def step_a(row: Row) -> Row:
        time.advance_ms(10_000 if row["n"] == 1 else 0)
        return row

    text = forked("a", "b", policy="require_all", attempts=2, delay_seconds=60, timeout_seconds=5).text()
    ran = tried(text, [{"n": 0}, {"n": 1}], {"step_a": step_a, "step_b": Later()}, time=time)
    told = ran.told()
    assert told.index("CoalesceFailed 0+join timeout incomplete_branches") < told.index("StepCompleted 1.a step_a #1")
    assert ran.of(e.CoalesceFailed)[0].active_ms == 10_000


def test_a_timer_that_ran_out_while_a_sink_wrote_is_decided_before_the_confirmation() -> None:
    """D5, law C4: a slow sink keeps no group waiting past its time either."""
    text = forked("a", "b", policy="require_all", attempts=2, delay_seconds=60, timeout_seconds=5).text()
    made = trial(text, [{"n": 0}, {"n": 1}, Pause(1000)], {"step_a": refusing(1), "step_b": Later()})
    made.sinks["errors"].while_writing = lambda: made.time.advance_ms(10_000)
    told = made.go().told()
    assert told.index("SinkWriteIntended errors 1.a") < told.index("CoalesceFailed 0+join timeout incomplete_branches")
    assert told.index("CoalesceFailed 0+join timeout incomplete_branches") < told.index("SinkWriteConfirmed errors 1")


# --- B: every consumed branch has its end --------------------------------------------------------------------------


def test_consumed_branches_are_coalesced_and_the_merged_token_earns_its_own_end() -> None:
    """B1, B3, law C1: one event makes the children, one consumes them; the merged token ends later, at the sink."""
    ran = tried(forked("a", "b", policy="require_all").text(), [{"n": 0}])
    assert ran.told() == [
        "RowRead 0",
        "TokenForked 0 split a,b",
        "StepCompleted 0.a step_a #1",
        "BranchArrived 0.a 0+join a",
        "StepCompleted 0.b step_b #1",
        "BranchArrived 0.b 0+join b",
        "TokensCoalesced 0+join all_arrived",
        "SourceExhausted 1",
        "SinkWriteIntended out 0+join",
        "SinkWriteConfirmed out 1",
        "RunSealed completed",
    ]
    assert ran.outcomes == {"0": "forked", "0.a": "coalesced", "0.b": "coalesced", "0+join": "completed"}
    merge = ran.one(e.TokensCoalesced)
    assert merge.facts is not None
    assert [arrival.token for arrival in merge.facts.arrival_order] == ["0.a", "0.b"]
    assert merge.group == merge.merged == "0+join"


@pytest.mark.parametrize(("inner", "outer"), list(product(POLICIES, repeat=2)))
def test_nested_joins_give_every_token_its_one_end(inner: str, outer: str) -> None:
    """B2: with every pair of policies, whole, with an inner branch lost, and with the other outer branch lost."""
    text = nested({"policy": inner, **POLICIES[inner]}, {"policy": outer, **POLICIES[outer]}).text()

    def losing(name: str) -> Transform:
        return lambda row: None if name in str(row["lose"]) else {**row, name: 1}

    rows = [{"n": n, "lose": lose} for n, lose in enumerate(["", "b", "ab", "y", "by", "aby"])]
    ran = tried(text, rows, {f"step_{name}": losing(name) for name in "aby"})
    for n, row in enumerate(rows):
        lose = str(row["lose"])
        arrived = 2 - len(lose.replace("y", ""))
        x_comes = arrived == 2 or (arrived == 1 and inner in ("best_effort", "first"))
        whole = x_comes + ("y" not in lose)
        merges = whole == 2 or (whole == 1 and outer in ("best_effort", "first"))
        assert ran.outcomes[f"{n}"] == ran.outcomes[f"{n}.x"] == "forked"
        assert (f"{n}.x+inner" in ran.outcomes) == x_comes, (row, ran.told())
        assert (f"{n}+outer" in ran.outcomes) == merges, (row, ran.told())
        if not x_comes:
            lost = [event for event in ran.of(e.BranchLost) if event.group == f"{n}+outer" and event.branch == "x"]
            assert [(event.cause, event.node) for event in lost] == [("group_failed", "inner")]
    merged = [token for token in ran.outcomes if token.endswith("+outer")]
    assert {ran.outcomes[token] for token in merged} <= {"completed"}
    assert len(ran.rows("out")) == len(merged)


# --- D: the executor -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("merge", "rows"),
    [
        ({"merge": "union"}, {"all": {"n": 0, "a": 1, "b": 2}, "one": {"n": 0, "a": 1}}),
        ({"merge": "nested"}, {"all": {"a": {"n": 0, "a": 1}, "b": {"n": 0, "b": 2}}, "one": {"a": {"n": 0, "a": 1}}}),
        ({"merge": "select", "select_branch": "a"}, {"all": {"n": 0, "a": 1}, "one": {"n": 0, "a": 1}}),
    ],
)
def test_every_policy_merges_in_every_way(policy: str, merge: Settings, rows: Settings) -> None:
    """D1, law C6: union, nested, select; `first` has one row to merge, the others two."""
    text = forked("a", "b", policy=policy, **POLICIES[policy], **merge).text()
    ran = tried(text, [{"n": 0}], {"step_a": lambda row: {**row, "a": 1}, "step_b": lambda row: {**row, "b": 2}})
    assert ran.rows("out") == [rows["one" if policy == "first" else "all"]]


def test_a_token_is_held_until_its_group_resolves() -> None:
    """D4, D6, D8: a stop finds it held, countable and listed; the end of the source waits for what is still retried."""
    stopping: list[str | None] = [None, None, "enough"]
    text = forked("a", "b", policy="require_all", attempts=2).text()
    made = trial(text, [{"n": 0}, {"n": 1}], {"step_b": Later()})
    made.hooks = Hooks(stopping=lambda: stopping.pop(0) if len(stopping) > 1 else stopping[0])
    ran = made.go()
    assert ran.receipt.status == "interrupted"
    assert (ran.verdict.open_groups, ran.verdict.open_tokens, ran.verdict.sealed) == (1, 2, False)
    state = replay(ran.store, ran.run).state
    assert [(group.id, [*group.arrived], group.status) for group in state.groups.values()] == [("0+join", ["a"], "open")]
    assert ran.told()[-1] == "RunInterrupted stopped enough"


def test_the_end_of_the_source_waits_for_what_is_tried_again() -> None:
    """D4, D6: nothing is flushed while a branch still has an attempt before it; then the group merges whole."""
    text = forked("a", "b", policy="require_all", attempts=2).text()
    ran = tried(text, [{"n": 0}], {"step_b": Later()})
    told = ran.told()
    assert told.index("SourceExhausted 1") < told.index("StepCompleted 0.b step_b #2")
    assert ran.one(e.TokensCoalesced).trigger == "all_arrived"


def test_the_facts_of_a_merge_are_exact_to_the_millisecond() -> None:
    """D7: policy, strategy, expected, arrived in order with offsets from the group's opening, lost, wait."""
    time = SimulatedTime()

    def taking(ms: int) -> Transform:
        def step(row: Row) -> Row:
            time.advance_ms(ms)
            return row

        return step

    def lost(row: Row) -> None:
        time.advance_ms(3)

    text = forked("c", "a", "b", policy="best_effort", timeout_seconds=9, merge="nested").text()
    ran = tried(text, [{"n": 0}], {"step_c": taking(40), "step_a": lost, "step_b": taking(12)}, time=time)
    merge = ran.one(e.TokensCoalesced)
    assert merge.active_ms == 55
    assert merge.facts == e.GroupFacts(
        policy="best_effort", merge_strategy="nested", expected_branches=("c", "a", "b"),
        arrival_order=(e.Arrival("c", "0.c", 0), e.Arrival("b", "0.b", 15)),
        branches_lost=(e.Loss("a", "filtered:step_a"),), branches_missing=(), wait_duration_ms=15,
    )  # fmt: skip
    assert merge.trigger == "all_arrived"


def test_offsets_count_from_a_loss_when_the_loss_opened_the_group() -> None:
    """D7, G9: a group opens at its first loss too, and its deadline counts from there."""
    time = SimulatedTime()

    def slow(row: Row) -> Row:
        time.advance_ms(20)
        return row

    text = forked("a", "b", policy="best_effort", timeout_seconds=9).text()
    ran = tried(text, [{"n": 0}], {"step_a": lambda row: None, "step_b": slow}, time=time)
    merge = ran.one(e.TokensCoalesced)
    assert merge.facts is not None
    assert merge.facts.arrival_order == (e.Arrival("b", "0.b", 20),)
    assert merge.facts.wait_duration_ms == 20


def test_two_rows_wait_side_by_side_and_resolve_in_the_order_of_their_deadlines() -> None:
    """A2, D5, D8: each group has its own clock; the earlier deadline is decided first."""
    text = forked("a", "b", policy="require_all", attempts=2, delay_seconds=60, timeout_seconds=5).text()
    ran = tried(text, [{"n": 0}, Pause(2000), {"n": 1}, Pause(100)], {"step_b": Later()})
    assert [(event.group, event.active_ms) for event in ran.of(e.CoalesceFailed)] == [("0+join", 5000), ("1+join", 7000)]
    assert sorted(event.token for event in ran.of(e.BranchArrivedLate)) == ["0.b", "1.b"]
