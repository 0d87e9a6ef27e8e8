"""Branches that will never arrive: told to their group at once, whatever the cause, and what each policy makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from engine.plugin_api import RowError
from ledger import events as e
from tests.kit.fates import AWAY, DISCARD, ENDS_OF_LOST, FAIL, FILTER, LOSSES, REASONS, ROUTE, Setting, row_of
from tests.kit.forks import POLICIES, Later, Row, Settings, forked, nested
from tests.kit.oracle import Table
from tests.kit.pipelines import Ran, Sketch, failing, tried

CAUSED_BY: Mapping[str, str] = {
    ROUTE: "Diverted 0.b error step_b > errors by step_b:__error_step_b__ told_to",
    DISCARD: "Diverted 0.b error drop_b > discard by None told_to",
    FILTER: "TokenFiltered 0.b step_b #1",
    AWAY: "Routed 0.b gate_b:away",
    FAIL: "StepFailed 0.b gate_b #1 unknown_label",
}


def facts_of(event: e.TokensCoalesced | e.CoalesceFailed) -> e.GroupFacts:
    """What was known of the group."""
    assert event.facts is not None
    return event.facts


def lose(policy: str, fates: Sequence[str], order: str = "abc") -> Ran:
    """One row whose branches a, b, c have these fates, joined by the policy."""
    table = Table(policy, ("a", "b", "c"), POLICIES[policy].get("quorum_count", 0))
    timeout = POLICIES[policy].get("timeout_seconds")
    setting = Setting(table, tuple(order), timeout)
    return tried(setting.text(), [row_of(0, "abc", fates)], setting.steps())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("cause", LOSSES)
def test_a_loss_is_told_at_once_and_the_policy_decides_again(cause: str, policy: str) -> None:
    """E9, E10: the loss follows its cause in the log; siblings get their end, a merge goes on, counts agree."""
    ran = lose(policy, ("arrive", cause, "arrive"))
    told = ran.told()
    lost = f"BranchLost 0.b 0+join b {REASONS[cause].format('b')}"
    if policy == "first":
        assert lost not in told
        assert told.index("TokensCoalesced 0+join first_arrival") < told.index(CAUSED_BY[cause])
    else:
        assert told.index(lost) == told.index(CAUSED_BY[cause]) + 1
    resolved: e.TokensCoalesced | e.CoalesceFailed
    resolved = ran.one(e.CoalesceFailed) if policy == "require_all" else ran.one(e.TokensCoalesced)
    losses = () if policy == "first" else (e.Loss("b", REASONS[cause].format("b")),)
    assert facts_of(resolved).branches_lost == losses
    siblings = {"require_all": "failed failed", "first": "coalesced failed"}.get(policy, "coalesced coalesced").split()
    assert [ran.outcomes[f"0.{name}"] for name in "abc"] == [siblings[0], ENDS_OF_LOST[cause], siblings[1]]
    assert ran.outcomes.get("0+join") == (None if policy == "require_all" else "completed")
    assert ran.receipt.late_arrivals == (policy == "first")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("cause", LOSSES)
def test_a_loss_before_the_first_arrival_names_the_lost_branch(cause: str, policy: str) -> None:
    """G9, E10: the loss opens the group; the sibling that comes then is not called late: it fails for the branch lost."""
    ran = lose(policy, ("arrive", cause, "arrive"), order="bac")
    reason = REASONS[cause].format("b")
    if policy == "require_all":
        failure = ran.one(e.CoalesceFailed)
        assert (failure.trigger, failure.reason) == ("branch_lost", "branch_lost:b")
        assert facts_of(failure).branches_missing == ("a", "c")
        assert ran.told("0+join")[1] == "CoalesceFailed 0+join branch_lost branch_lost:b"
    else:
        failure_or_merge = ran.one(e.TokensCoalesced)
        assert facts_of(failure_or_merge).branches_lost == (e.Loss("b", reason),)
    assert ran.told("0+join")[0] == f"BranchLost 0.b 0+join b {reason}"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fates", [(ROUTE, ROUTE, ROUTE), (FILTER, DISCARD, AWAY), (FAIL, FAIL, FILTER)])
def test_when_all_branches_are_lost_the_join_has_a_record_of_it(policy: str, fates: tuple[str, str, str]) -> None:
    """G3, G10: the group fails once, by name, under every policy; what the policy did not wait for is not lost twice."""
    ran = lose(policy, fates)
    failure = ran.one(e.CoalesceFailed)
    reason = {"require_all": "branch_lost:a", "quorum": "quorum_impossible:need=2,max_possible=1"}
    assert (failure.trigger, failure.reason) == ("branch_lost", reason.get(policy, "all_branches_lost"))
    assert len(ran.of(e.BranchLost)) == {"require_all": 1, "quorum": 2}.get(policy, 3)
    assert facts_of(failure).arrival_order == ()
    assert [ran.outcomes[f"0.{name}"] for name in "abc"] == [ENDS_OF_LOST[fate] for fate in fates]
    assert "0+join" not in ran.outcomes


@pytest.mark.parametrize("cause", LOSSES)
def test_a_loss_after_the_merge_opens_no_ghost_group(cause: str) -> None:
    """G2: the quorum was met before; nothing is said of the loss at the join, and nothing is open at the end."""
    ran = lose("quorum", ("arrive", "arrive", cause))
    assert ran.told("0+join")[:3] == ["BranchArrived 0.a 0+join a", "BranchArrived 0.b 0+join b",
                                      "TokensCoalesced 0+join quorum_met"]  # fmt: skip
    assert ran.of(e.BranchLost) == []
    assert ran.verdict.open_groups == 0


def test_an_arrival_does_not_count_twice_towards_what_is_possible() -> None:
    """G1: two of three are needed; one came, one is lost: still possible. The second loss makes it impossible."""
    ran = lose("quorum", ("arrive", FILTER, "arrive"))
    assert ran.one(e.TokensCoalesced).trigger == "quorum_met"
    ran = lose("quorum", ("arrive", FILTER, ROUTE))
    assert ran.one(e.CoalesceFailed).reason == "quorum_impossible:need=2,max_possible=1"


def test_a_late_branch_does_not_merge_again() -> None:
    """G5: it ends `failed` on its own, the merged row went on once, and the seal counts it apart."""
    ran = tried(forked("a", "b", policy="first", attempts=2).text(), [{"n": 0}], {"step_b": Later()})
    assert len(ran.of(e.TokensCoalesced)) == 1
    assert ran.told("0.b")[-1] == "BranchArrivedLate 0.b 0+join b merged"
    assert (ran.outcomes["0.b"], ran.receipt.late_arrivals, len(ran.rows("out"))) == ("failed", 1, 1)


def test_a_merge_that_a_loss_triggers_goes_on_downstream() -> None:
    """E9: the loss completes the inner group; its merge passes a step, arrives at the outer join and merges there."""
    text = nested({"policy": "best_effort", "timeout_seconds": 60}, {"policy": "require_all"}).text()
    ran = tried(text, [{"n": 0}], {"step_b": lambda row: None, "after": lambda row: {**row, "after": True}})
    told = ran.told()
    at = told.index("BranchLost 0.x.b 0.x+inner b filtered:step_b")
    assert told[at + 1 : at + 4] == ["TokensCoalesced 0.x+inner branch_lost", "StepCompleted 0.x+inner after #1",
                                     "BranchArrived 0.x+inner 0+outer x"]  # fmt: skip
    assert ran.outcomes["0.x+inner"] == "coalesced"
    assert ran.rows("out") == [{"n": 0, "after": True}]


@pytest.mark.parametrize(
    ("outer", "reason", "lost"),
    [
        ({"policy": "require_all"}, "branch_lost:x", ("x",)),
        ({"policy": "quorum", "quorum_count": 2}, "quorum_impossible:need=2,max_possible=1", ("x",)),
        ({"policy": "best_effort", "timeout_seconds": 60}, "all_branches_lost", ("x", "y")),
        ({"policy": "first"}, "all_branches_lost", ("x", "y")),
    ],
)
def test_an_inner_group_that_fails_is_a_loss_to_the_outer_one(outer: Settings, reason: str, lost: Sequence[str]) -> None:
    """E9, E10, B2: the chain is in the record: the branch, the inner group's failure, the outer one's, with reasons."""
    text = nested({"policy": "require_all"}, outer).text()
    steps = {"step_b": failing(lambda: RowError("no", "told_to")), "step_y": lambda row: None}
    ran = tried(text, [{"n": 0}], steps)
    told = ran.told()
    at = told.index("Diverted 0.x.b error step_b > discard by None told_to")
    inner = "group_failed:inner:branch_lost:b"
    assert told[at + 1 : at + 4] == [
        "BranchLost 0.x.b 0.x+inner b discarded:step_b:told_to",
        "CoalesceFailed 0.x+inner branch_lost branch_lost:b",
        f"BranchLost 0.x 0+outer x {inner}",
    ]
    failure = ran.of(e.CoalesceFailed)[1]
    reasons = {"x": inner, "y": "filtered:step_y"}
    assert (failure.group, failure.reason) == ("0+outer", reason)
    assert facts_of(failure).branches_lost == tuple(e.Loss(branch, reasons[branch]) for branch in lost)
    assert ran.outcomes == {"0": "forked", "0.x": "forked", "0.x.a": "failed", "0.x.b": "quarantined",
                            "0.y": "dropped_by_filter"}  # fmt: skip


def test_a_loss_inside_does_not_reach_past_an_inner_group_that_merges() -> None:
    """E9: only what the inner group comes to counts outside; the lost inner branch is no loss of the outer one."""
    text = nested({"policy": "quorum", "quorum_count": 1}, {"policy": "require_all"}).text()
    ran = tried(text, [{"n": 0}], {"step_a": lambda row: None})
    assert [event.group for event in ran.of(e.BranchLost)] == ["0.x+inner"]
    assert ran.outcomes["0+outer"] == "completed"


def test_groups_of_one_row_do_not_meet() -> None:
    """G6: two children of one row are forked alike; each has a group of its own, and a nested fork one more."""
    sketch = Sketch("rows").step("halve", "rows", "halves", expands=True).fork("split", "halves", "a", "b")
    sketch.join("join", {"a": "a", "b": "done_b"}, "require_all", "out", merge="nested").step("step_b", "b", "done_b")
    halves = {"halve": lambda row: [{"half": 1}, {"half": 2}]}
    ran = tried(sketch.sink("out").text(), [{"n": 0}], {**halves, "step_b": lambda row: {**row, "b": True}})
    assert sorted(event.group for event in ran.of(e.TokensCoalesced)) == ["0:0+join", "0:1+join"]
    rows = sorted(ran.rows("out"), key=lambda row: int(row["a"]["half"]))
    assert rows == [{"a": {"half": half}, "b": {"half": half, "b": True}} for half in (1, 2)]


def test_a_branch_that_is_not_lost_on_a_detour_still_arrives() -> None:
    """E9: a gate that leads back to the coalesce by another way is no loss."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b")
    sketch.gate("detour", "a", "row['far']", {"true": "far", "false": "done_a"}).step("walk", "far", "done_a")
    sketch.join("join", {"a": "done_a", "b": "b"}, "require_all", "out").sink("out")
    ran = tried(sketch.text(), [{"far": True}, {"far": False}])
    assert ran.of(e.BranchLost) == []
    assert [ran.outcomes[f"{n}+join"] for n in (0, 1)] == ["completed", "completed"]


@pytest.mark.parametrize(("condition", "code"), [
    ("row['label']", "unknown_label"), ("row['nowhere'] == 1", "condition_raised"), ("row['n']", "condition_type"),
    ("row['list']", "condition_type"),
])  # fmt: skip
def test_a_gate_that_cannot_choose_fails_its_row_and_not_the_run(condition: str, code: str) -> None:
    """G12, E9: a label that no route has, a condition that raises, an answer that is neither bool nor label."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b").gate("gate", "a", condition, {"go": "done_a"})
    text = sketch.join("join", {"a": "done_a", "b": "b"}, "require_all", "out").sink("out").text()
    good: Row = {"n": "go", "label": "go", "list": "go", "nowhere": 2}
    bad: Row = {"n": 1, "label": "elsewhere", "list": [1]}
    ran = tried(text, [bad, good])
    assert ran.told("0.a") == [f"StepFailed 0.a gate #1 {code}", f"BranchLost 0.a 0+join a failed:gate:{code}"]
    assert ran.outcomes["0.a"] == "failed"
    assert ran.outcomes["0.b"] == "failed"
    assert ran.receipt.status == "completed"
    if condition != "row['nowhere'] == 1":
        assert ran.outcomes["1+join"] == "completed"
