"""Gathers in real runs: as many children as the data says, one next token, its row, and when the group is decided.

What becomes of a group when its children are late or lost in every combination stands in `test_runs_gather_fates.py`.
Time is simulated: it goes on when the source is idle, when a retry is waited for, and when a step says so.
"""

from __future__ import annotations

from itertools import count as counting
from typing import Any

import pytest

from engine.bound import Transform
from engine.loop import Hooks
from engine.plugin_api import RetryableError, RowError
from ledger import events as e
from ledger.codec import BODY_BYTES_MAX
from ledger.replay import replay
from tests.kit.admissible import inadmissible
from tests.kit.forks import POLICIES, Later, Row, Settings
from tests.kit.pipelines import Ran, Sketch, failing, trial, tried
from tests.kit.ports import SimulatedTime
from tests.kit.twins import Pause, TrialStore

MANY = (500, 3000)

def gathering(policy: str, *, attempts: int = 1, delay_seconds: float = 60.0, **settings: Any) -> str:
    """`source -> parts (expands) -> work -> gather -> after -> out`, errors to `errors`."""
    sketch = Sketch("rows", attempts=attempts, delay_seconds=delay_seconds)
    sketch.step("parts", "rows", "children", "errors", expands=True).step("work", "children", "done", "errors")
    sketch.gather("gather", "parts", "done", policy, "gathered", **settings)
    return sketch.step("after", "gathered", "out", "errors").sink("out", "errors").text()


def parts(row: Row) -> list[dict[str, object]]:
    """As many children as the row asks for."""
    return [{"n": part} for part in range(int(str(row["count"])))]


def facts_of(event: e.TokensCoalesced | e.CoalesceFailed) -> e.GroupFacts:
    """What was known of the group."""
    assert event.facts is not None
    return event.facts


def longest_body(ran: Ran) -> int:
    """In bytes, of all that is stored."""
    return max(len(stored.body) for stored in ran.store.read(ran.run))


@pytest.mark.parametrize("count", [0, 1, 2, *MANY])
@pytest.mark.parametrize(("policy", "settings"), [
    ("require_all", {}), ("best_effort", {"timeout_seconds": 60}), ("first", {}),
    ("quorum", {"quorum_count": 2}), ("quorum", {"quorum_count": 500}), ("quorum", {"quorum_count": 10**6}),
])  # fmt: skip
def test_as_many_children_as_the_data_says_make_one_next_token(policy: str, settings: Settings, count: int) -> None:
    """C1, C2: each policy, with none, one, two and thousands; the list in order, one token on, no body too long."""
    ran = tried(gathering(policy, **settings), [{"count": count}], {"parts": parts})
    need = {"quorum": settings.get("quorum_count", 0), "first": 1}.get(policy, count)
    names = [str(part) for part in range(count)]
    if need > count:
        resolved: e.TokensCoalesced | e.CoalesceFailed = ran.one(e.CoalesceFailed)
        impossible = f"quorum_impossible:need={need},max_possible={count}"
        assert ran.one(e.CoalesceFailed).reason == (impossible if policy == "quorum" else "all_branches_lost")
        assert ran.outcomes == {"0": "expanded", **{f"0:{name}": "failed" for name in names}}
        assert (ran.rows("out"), [*facts_of(resolved).branches_missing]) == ([], names)
    else:
        resolved = ran.one(e.TokensCoalesced)
        assert ran.rows("out") == [{"count": count, "items": [{"n": part} for part in range(need)]}]
        assert ran.outcomes["0+gather"] == "completed"
        assert [ran.outcomes[f"0:{name}"] for name in names] == ["coalesced"] * need + ["failed"] * (count - need)
        assert [arrival.token for arrival in facts_of(resolved).arrival_order] == [f"0:{name}" for name in names[:need]]
    assert [*facts_of(resolved).expected_branches] == names
    assert sum(event.node == "after" for event in ran.of(e.StepCompleted)) == (need <= count)
    assert ran.receipt.late_arrivals == (count - need if need <= count else 0)
    assert longest_body(ran) < BODY_BYTES_MAX


def test_lists_of_any_length_are_on_record_in_full() -> None:
    """C1, A3: whether they stand in the body or in a payload of their own, what is read is what was said."""
    counts = range(0, 1200, 41)
    rows = [{"count": count} for count in counts]
    ran = tried(gathering("best_effort", timeout_seconds=60), rows, {"parts": parts, "work": odd_ones})
    for count, made, merged in zip(counts, ran.of(e.TokenExpanded), ran.of(e.TokensCoalesced), strict=True):
        assert made.outputs is not None
        assert made.count == len(made.outputs) == count
        come, lost = range(1, count, 2), range(0, count, 2)
        assert [arrival.branch for arrival in facts_of(merged).arrival_order] == [*map(str, come)]
        assert facts_of(merged).branches_lost == tuple(e.Loss(str(part), "filtered:work") for part in lost)
    kinds = {(event.outputs_list is None) for event in ran.of(e.TokenExpanded)}
    assert kinds == {(event.facts_list is None) for event in ran.of(e.TokensCoalesced)} == {True, False}
    assert longest_body(ran) < BODY_BYTES_MAX


def odd_ones(row: Row) -> Row | None:
    """Every other child is filtered."""
    return row if int(str(row["n"])) % 2 else None


@pytest.mark.parametrize("count", MANY)
def test_thousands_of_children_of_which_the_last_is_lost_fail_together(count: int) -> None:
    """C3, A1, A3, law C5: every one that was held has its end in that event, and is named."""
    ran = tried(gathering("require_all"), [{"count": count}],
                {"parts": parts, "work": lambda row: None if row["n"] == count - 1 else row})
    failure = ran.one(e.CoalesceFailed)
    assert failure.reason == f"branch_lost:{count - 1}"
    assert len(facts_of(failure).arrival_order) == count - 1
    assert facts_of(failure).branches_lost == (e.Loss(str(count - 1), "filtered:work"),)
    assert ran.receipt.outcomes == {"expanded": 1, "failed": count - 1, "dropped_by_filter": 1}


def test_rows_of_many_sizes_are_gathered_side_by_side() -> None:
    """C1, G6: more groups than rows in a commit, each with its own children."""
    counts = [n * 7 % 10 for n in range(450)]
    ran = tried(gathering("require_all"), [{"count": count} for count in counts], {"parts": parts})
    assert [row["count"] for row in ran.rows("out")] == counts
    assert all(row["items"] == [{"n": part} for part in range(row["count"])] for row in ran.rows("out"))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("policy", POLICIES)
def test_children_that_are_worked_on_side_by_side_make_one_next_token(policy: str, workers: int) -> None:
    """C1, C2: outside calls of many children at once, some of which are tried again, end in one list in its order."""
    sketch = Sketch("rows", attempts=2, delay_seconds=1, workers=workers)
    sketch.step("parts", "rows", "children", "errors", expands=True).effect("ask", "children", "answered", "errors")
    sketch.gather("gather", "parts", "answered", policy, "gathered", **POLICIES[policy])
    text = sketch.effect("after", "gathered", "out").sink("out", "errors").text()
    ask = EachLater()
    rows = [{"count": count} for count in (5, 0, 2, 1)]
    ran = tried(text, rows, {"parts": parts, "ask": lambda row, attempt: ask(row), "after": lambda row, attempt: row})
    merged = [event.group for event in ran.of(e.TokensCoalesced)]
    assert [event.token for event in ran.of(e.StepCompleted) if event.node == "after"] == merged
    assert [[child["n"] for child in row["items"]] for row in ran.rows("out")] == [
        sorted(int(one.branch) for one in facts_of(event).arrival_order) for event in ran.of(e.TokensCoalesced)]
    assert len(merged) + len(ran.of(e.CoalesceFailed)) == len(rows)
    assert inadmissible(ran.events, ran.graph) == []


# --- the merged row --------------------------------------------------------------------------------------------------


def test_the_merged_row_is_the_parents_with_the_children_under_their_name() -> None:
    """C1, law C6: the row as it was expanded, then the children in their order, whoever came first."""
    text = gathering("require_all", attempts=2, delay_seconds=1, into="answers")
    steps: dict[str, Transform] = {"parts": lambda row: [{"n": n, "of": row["id"]} for n in range(3)], "work": FirstLater()}
    ran = tried(text, [{"id": 7, "tags": ["a"], "n": None}], steps)
    assert [arrival.branch for arrival in facts_of(ran.one(e.TokensCoalesced)).arrival_order] == ["1", "2", "0"]
    assert [*ran.rows("out")[0].items()] == [
        ("id", 7), ("tags", ["a"]), ("n", None),
        ("answers", [{"n": 0, "of": 7, "late": True}, {"n": 1, "of": 7}, {"n": 2, "of": 7}]),
    ]  # fmt: skip
    output = ran.one(e.TokensCoalesced).output
    assert ran.payload(output) == ran.rows("out")[0]


class FirstLater:
    """The first child cannot be answered at once."""

    def __init__(self) -> None:
        self._later = Later()

    def __call__(self, row: Row) -> object:
        """The row, at the first or the second attempt."""
        return row if row["n"] else self._later(row)


def test_a_child_that_is_the_parent_itself_is_a_row_in_the_list() -> None:
    """C1, law C6: nothing between the step and the gather, and nothing changed: the list still has each child."""
    sketch = Sketch("rows").step("parts", "rows", "children", expands=True)
    text = sketch.gather("gather", "parts", "children", "require_all", "out").sink("out").text()
    ran = tried(text, [{"n": 0}], {"parts": lambda row: [row, dict(row)]})
    assert ran.rows("out") == [{"n": 0, "items": [{"n": 0}, {"n": 0}]}]


@pytest.mark.parametrize(("made", "outcome"), [(lambda row: row, "completed"), (lambda row: None, "dropped_by_filter"),
                                               (failing(lambda: RowError("no")), "routed")])  # fmt: skip
def test_the_merged_token_earns_its_own_end(made: Transform, outcome: str) -> None:
    """B1, B2, C1: whatever becomes of the next stage, the children stay `coalesced` and the parent `expanded`."""
    ran = tried(gathering("require_all"), [{"count": 2}], {"parts": parts, "after": made})
    assert ran.outcomes == {"0": "expanded", "0:0": "coalesced", "0:1": "coalesced", "0+gather": outcome}


# --- what is no member of the group ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("made", "told"), [
    (failing(lambda: RowError("no", "told_to")), ["StepFailed 0 parts #1 told_to",
                                                  "Diverted 0 error parts > errors by parts:__error_parts__ told_to"]),
    (lambda row: None, ["TokenFiltered 0 parts #1"]),
    (lambda row: [{"n": 0}, "no row"], ["StepFailed 0 parts #1 bad_output",
                                        "Diverted 0 error parts > errors by parts:__error_parts__ bad_output"]),
])  # fmt: skip
def test_a_step_that_does_not_expand_its_row_opens_no_group(made: Transform, told: list[str]) -> None:
    """C3, G10: nothing was expanded, so nothing is waited for: the row has its own end, and the gather never hears of it."""
    ran = tried(gathering("best_effort", timeout_seconds=60), [{"n": 0}], {"parts": made})
    assert ran.told()[1 : 1 + len(told)] == told
    assert [event for event in ran.events if isinstance(event, (e.TokenExpanded, e.CoalesceFailed, e.TokensCoalesced))] == []
    assert (len(ran.outcomes), ran.verdict.open_groups) == (1, 0)


def test_an_expansion_that_is_tried_again_opens_its_group_once() -> None:
    """C1: at the attempt that succeeded; the children are those of that attempt."""
    attempts = counting()

    def second(row: Row) -> object:
        if next(attempts) == 0:
            raise RetryableError("not yet")
        return parts(row)

    ran = tried(gathering("require_all", attempts=2, delay_seconds=1), [{"count": 2}], {"parts": second})
    assert [ran.one(e.TokenExpanded).attempt, ran.one(e.TokenExpanded).count] == [2, 2]
    assert facts_of(ran.one(e.TokensCoalesced)).wait_duration_ms == 0
    assert ran.outcomes["0+gather"] == "completed"


def test_a_child_that_leaves_past_the_gather_is_lost_and_goes_on_alone() -> None:
    """C3, E9: the next stage then sees both, the merged row and the one that did not wait for it; each is one token."""
    sketch = Sketch("rows").step("parts", "rows", "children", expands=True)
    sketch.gate("way", "children", "row['n'] == 1", {"true": "next", "false": "work"})
    sketch.gather("gather", "parts", "work", "best_effort", "next", timeout_seconds=60)
    text = sketch.step("after", "next", "out").sink("out").text()
    ran = tried(text, [{"count": 3}], {"parts": parts})
    assert ran.told("0:1")[:3] == ["Routed 0:1 way:true", "BranchLost 0:1 0+gather 1 routed_away:way:true",
                                   "StepCompleted 0:1 after #1"]  # fmt: skip
    assert ran.outcomes["0:1"] == ran.outcomes["0+gather"] == "completed"
    assert {"n": 1} in ran.rows("out")
    assert {"count": 3, "items": [{"n": 0}, {"n": 2}]} in ran.rows("out")


def test_a_child_on_a_detour_still_arrives() -> None:
    """E9: two ways to the gather are one way to it: nobody is lost, and the order stays that of the children."""
    sketch = Sketch("rows").step("parts", "rows", "children", expands=True)
    sketch.gate("way", "children", "row['n'] == 0", {"true": "far", "false": "near"}).step("walk", "far", "near")
    text = sketch.gather("gather", "parts", "near", "require_all", "out").sink("out").text()
    ran = tried(text, [{"count": 2}], {"parts": parts, "walk": lambda row: {**row, "far": True}})
    assert ran.of(e.BranchLost) == []
    assert ran.rows("out") == [{"count": 2, "items": [{"n": 0, "far": True}, {"n": 1}]}]


# --- time ------------------------------------------------------------------------------------------------------------


class Slow:
    """The first child takes three seconds, the others cannot be answered for a long time."""

    def __init__(self, time: SimulatedTime, answers: bool) -> None:
        self._time = time
        self._answers = answers
        self._later = Later()

    def __call__(self, row: Row) -> object:
        """A row, a filter, or not yet."""
        if row["n"]:
            return self._later(row)
        self._time.advance_ms(3000)
        return row if self._answers else None


@pytest.mark.parametrize(("policy", "settings", "answers", "reason"), [
    ("require_all", {}, True, "incomplete_branches"),
    ("quorum", {"quorum_count": 2}, True, "quorum_not_met_at_timeout"),
    ("best_effort", {}, False, "best_effort_timeout_no_arrivals"),
    ("best_effort", {}, True, None),
])  # fmt: skip
def test_a_gather_that_waits_too_long_is_decided_while_no_row_comes(
    policy: str, settings: Settings, answers: bool, reason: str | None
) -> None:
    """A2, D5, law C4: the time counts from the expansion, not from the first arrival, and runs on an idle source."""
    time = SimulatedTime()
    text = gathering(policy, attempts=2, delay_seconds=60, timeout_seconds=5, **settings)
    ran = tried(text, [{"count": 2}, Pause(200_000)], {"parts": parts, "work": Slow(time, answers)}, time=time)
    resolved = next(event for event in ran.events if isinstance(event, (e.TokensCoalesced, e.CoalesceFailed)))
    assert (resolved.trigger, resolved.active_ms, getattr(resolved, "reason", None)) == ("timeout", 5000, reason)
    known = facts_of(resolved)
    assert known.arrival_order == ((e.Arrival("0", "0:0", 3000),) if answers else ())
    assert known.branches_lost == (() if answers else (e.Loss("0", "filtered:work"),))
    assert (known.branches_missing, known.wait_duration_ms) == (("1",), 5000)
    assert ran.told("0:1")[-1] == f"BranchArrivedLate 0:1 0+gather 1 {'failed' if reason else 'merged'}"
    assert ran.of(e.BranchArrivedLate)[0].active_ms < 200_000 <= ran.one(e.SourceExhausted).active_ms
    assert ran.rows("out") == ([] if reason else [{"count": 2, "items": [{"n": 0}]}])


def test_a_timer_that_ran_out_while_a_child_was_worked_on_is_decided_before_its_answer() -> None:
    """A2, D5, law C4: the answer of the step that blocked comes too late, by the log's own order."""
    time = SimulatedTime()

    def work(row: Row) -> Row:
        time.advance_ms(3000)
        return row

    ran = tried(gathering("best_effort", timeout_seconds=5), [{"count": 3}], {"parts": parts, "work": work}, time=time)
    told = ran.told()
    assert told.index("TokensCoalesced 0+gather timeout") + 1 == told.index("StepCompleted 0:1 work #1")
    assert ran.one(e.TokensCoalesced).active_ms == 6000
    assert ran.rows("out") == [{"count": 3, "items": [{"n": 0}]}]
    assert ran.receipt.late_arrivals == 2


def test_gathers_time_out_in_the_order_of_their_expansions() -> None:
    """A2, D5, D8: each group has its own clock; an empty one in between needs none."""
    text = gathering("require_all", attempts=2, delay_seconds=60, timeout_seconds=5)
    rows = [{"count": 1}, Pause(2000), {"count": 0}, {"count": 2}, Pause(100)]
    ran = tried(text, rows, {"parts": parts, "work": failing(lambda: OSError("busy"))})
    assert [(event.group, event.active_ms) for event in ran.of(e.CoalesceFailed)] == [("0+gather", 5000), ("2+gather", 7000)]
    assert [event.group for event in ran.of(e.TokensCoalesced)] == ["1+gather"]
    assert inadmissible(ran.events, ran.graph) == []


# --- ends of the run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_the_end_of_the_source_waits_for_children_that_are_tried_again(policy: str) -> None:
    """C1, D6: nothing is flushed while a child still has an attempt before it; then the group is decided as ever."""
    text = gathering(policy, attempts=2, delay_seconds=1, **POLICIES[policy])
    ran = tried(text, [{"count": 2}], {"parts": parts, "work": EachLater()})
    told = ran.told()
    assert told.index("SourceExhausted 1") < told.index("StepCompleted 0:0 work #2")
    trigger = {"quorum": "quorum_met", "first": "first_arrival"}.get(policy, "all_arrived")
    assert ran.one(e.TokensCoalesced).trigger == trigger
    assert len(ran.rows("out")) == 1


class EachLater:
    """No child can be answered at its first attempt."""

    def __init__(self) -> None:
        self._later = Later()

    def __call__(self, row: Row) -> object:
        """The row, at the second attempt."""
        self._later(row)
        return row


def test_a_stop_leaves_a_gather_open_with_what_it_holds() -> None:
    """C2, D4, D8: held and missing can be listed; nothing is decided and nothing is sealed."""
    stopping: list[str | None] = [None, None, "enough"]
    made = trial(gathering("require_all", attempts=2), [{"count": 3}, {"count": 1}], {"parts": parts, "work": FirstLater()})
    made.hooks = Hooks(stopping=lambda: stopping.pop(0) if len(stopping) > 1 else stopping[0])
    ran = made.go()
    assert (ran.receipt.status, ran.verdict.open_groups, ran.verdict.sealed) == ("interrupted", 1, False)
    group = replay(ran.store, ran.run).state.groups["0+gather"]
    assert (group.expected, [*group.arrived], group.status) == (("0", "1", "2"), ["1", "2"], "open")
    assert ran.told()[-1] == "RunInterrupted stopped enough"


def test_when_the_source_raises_a_gather_still_gets_the_child_that_is_tried_again() -> None:
    """D6: a source that raised did not end: nothing is flushed, and what can still come does."""
    text = gathering("require_all", attempts=2, delay_seconds=1)
    ran = tried(text, [{"count": 2}, OSError(5, "EIO")], {"parts": parts, "work": FirstLater()})
    assert ran.fault is not None
    assert (ran.one(e.TokensCoalesced).trigger, ran.outcomes["0+gather"]) == ("all_arrived", "completed")
    assert ran.of(e.SourceExhausted) == []


def test_a_store_that_fails_between_any_two_commits_leaves_no_half_of_a_gather() -> None:
    """C1, law C2, law L1: at every append what stands replays, and no group was decided twice or in part."""
    rows = [{"count": n % 4} for n in range(500)]
    whole = TrialStore()
    trial(gathering("require_all"), rows, {"parts": parts}, store=whole).go()
    assert len(whole.appends) > 5
    for append in range(3, len(whole.appends) + 1):
        made = trial(gathering("require_all"), rows, {"parts": parts}, store=TrialStore(fail_at=append))
        with pytest.raises(OSError, match="No space left"):
            made.start()
        ran = made.left()
        merged = [event.group for event in ran.of(e.TokensCoalesced)]
        assert len(merged) == len(set(merged)) == len(ran.of(e.TokenExpanded)) - ran.verdict.open_groups
        assert not ran.verdict.sealed
