"""What row a merge makes in a real run, what it keeps of what it overwrote, and whom it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from engine.bound import Transform
from ledger import events as e
from tests.kit.forks import POLICIES, Later, Row, Settings, forked
from tests.kit.pipelines import Ran, tried


def setting(**fields: object) -> Transform:
    """A step that sets fields."""
    return lambda row: {**row, **fields}


def collide(policy: str, *branches: str, steps: Mapping[str, Transform] | None = None, **settings: Any) -> Ran:
    """One row whose branches all set `x` to their own name, under a collision policy."""
    text = forked(*branches, policy="require_all", attempts=2, union_collision_policy=policy, **settings).text()
    made = {f"step_{name}": setting(**{"x": name, f"only_{name}": 1}) for name in branches}
    return tried(text, [{"n": 0}, {"n": 1}], {**made, **(steps or {})})


@pytest.mark.parametrize(
    ("policy", "winner", "order"), [("last_wins", "c", ("b", "a", "c")), ("first_wins", "b", ("a", "c", "b"))]
)
def test_a_collision_keeps_every_value_with_its_branch(policy: str, winner: str, order: tuple[str, ...]) -> None:
    """D1, law C6: declared order decides; the event names field and branches, the winner last; a payload has the values."""
    ran = collide(policy, "b", "a", "c")
    merge = ran.of(e.TokensCoalesced)[0]
    assert ran.rows("out")[0] == {"n": 0, "x": winner, "only_b": 1, "only_a": 1, "only_c": 1}
    assert merge.collisions == {"x": order}
    assert ran.payload(merge.collided) == {"x": {"b": "b", "a": "a", "c": "c"}}


def test_a_collision_that_may_not_be_fails_its_group_and_not_the_run() -> None:
    """G12: the held tokens fail, the values are kept, and the other rows go on."""
    same = {f"step_{name}": lambda row: {**row, "x": row["n"]} for name in "b"}
    ran = collide("fail", "a", "b", steps={**same, "step_a": lambda row: {**row, "x": 1}})
    failure = ran.one(e.CoalesceFailed)
    assert (failure.group, failure.trigger, failure.reason) == ("0+join", "all_arrived", "union_collision")
    assert failure.collisions == {"x": ("a", "b")}
    assert ran.payload(failure.collided) == {"x": {"a": 1, "b": 0}}
    assert (ran.outcomes["0.a"], ran.outcomes["0.b"], ran.outcomes["1+join"]) == ("failed", "failed", "completed")
    assert "0+join" not in ran.outcomes
    assert ran.receipt.status == "completed"


@pytest.mark.parametrize(
    ("one", "other", "collides"),
    [(1, 1, False), (1, 1.0, True), (1, True, True), (0, False, True), ([1, {"a": 2}], [1, {"a": 2}], False),
     ([1], [1.0], True), (None, 0, True), ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False), ("é", "e\u0301", True),
     (0.0, -0.0, True)],
)  # fmt: skip
def test_a_collision_is_one_field_with_different_json_values(one: object, other: object, collides: bool) -> None:
    """D1, law C6: equality is that of JSON: `1`, `1.0` and `true` all differ, the order of fields does not matter."""
    ran = collide("fail", "a", "b", steps={"step_a": setting(x=one), "step_b": setting(x=other)})
    assert len(ran.of(e.CoalesceFailed)) == (2 if collides else 0)


def test_a_union_goes_in_declared_order_whatever_came_first() -> None:
    """D1, D7: the first branch comes last and still counts as the first; the arrival order says who came when."""
    later = Later()

    def slow(row: Row) -> object:
        return {**row, "x": "a"} if later(row) else None

    ran = collide("last_wins", "a", "b", steps={"step_a": slow})
    assert [row["x"] for row in ran.rows("out")] == ["b", "b"]
    merge = ran.of(e.TokensCoalesced)[0]
    assert merge.facts is not None
    assert [arrival.branch for arrival in merge.facts.arrival_order] == ["b", "a"]


def test_nested_and_union_hold_only_what_arrived() -> None:
    """D1, E10: a lost branch is in the facts and not in the row."""
    for merge, row in (("nested", {"a": {"n": 0, "a": 1}}), ("union", {"n": 0, "a": 1})):
        text = forked("a", "b", policy="best_effort", merge=merge, timeout_seconds=60).text()
        ran = tried(text, [{"n": 0}], {"step_a": setting(a=1), "step_b": lambda row: None})
        assert ran.rows("out") == [row]


@pytest.mark.parametrize("policy", POLICIES)
def test_select_never_takes_another_branch_when_its_own_is_lost(policy: str) -> None:
    """G8: the group fails and names the branch; `first` alone takes the one that arrived, and says so."""
    text = forked("a", "b", "c", policy=policy, merge="select", select_branch="b", **POLICIES[policy]).text()
    ran = tried(text, [{"n": 0}], {"step_b": lambda row: None, "step_a": setting(a=1)})
    if policy == "first":
        merge = ran.one(e.TokensCoalesced)
        assert merge.facts is not None
        assert [arrival.branch for arrival in merge.facts.arrival_order] == ["a"]
        assert ran.rows("out") == [{"n": 0, "a": 1}]
    else:
        assert ran.one(e.CoalesceFailed).reason == "branch_lost:b"
        assert ran.rows("out") == []


def test_select_waits_for_its_branch_past_the_quorum() -> None:
    """G8: two of three are there, the selected one is not: the merge is made when it comes, of its row."""
    text = forked("a", "b", "c", policy="quorum", quorum_count=2, attempts=2, merge="select", select_branch="b").text()
    ran = tried(text, [{"n": 0}], {"step_b": Later(), "step_a": setting(a=1)})
    merge = ran.one(e.TokensCoalesced)
    assert merge.facts is not None
    assert [arrival.branch for arrival in merge.facts.arrival_order] == ["a", "c", "b"]
    assert ran.rows("out") == [{"n": 0, "late": True}]


def test_the_parents_of_a_merged_token_are_those_that_were_consumed_in_the_order_they_came() -> None:
    """D7, law C1: provenance: arrival order in the event, and no lost or late branch among the parents."""
    text = forked("a", "b", "c", "d", policy="quorum", quorum_count=2, attempts=2).text()
    ran = tried(text, [{"n": 0}], {"step_a": Later(), "step_b": lambda row: None})
    merge = ran.one(e.TokensCoalesced)
    assert merge.facts is not None
    consumed = [arrival.token for arrival in merge.facts.arrival_order]
    assert consumed == ["0.c", "0.d"]
    assert consumed == [token for token, outcome in ran.outcomes.items() if outcome == "coalesced"]
    assert ran.told("0.a")[-1] == "BranchArrivedLate 0.a 0+join a merged"


@pytest.mark.parametrize("merge", ["union", "select"])
def test_branches_that_changed_nothing_share_their_parents_payload(merge: str) -> None:
    """law C6: nothing is stored twice; the merge refers to the row as it was read."""
    select: Settings = {"select_branch": "b"} if merge == "select" else {}
    ran = tried(forked("a", "b", policy="require_all", merge=merge, **select).text(), [{"n": 0}])
    read = ran.one(e.RowRead).data
    assert ran.one(e.TokensCoalesced).output == read.n
    assert ran.rows("out") == [{"n": 0}]


def test_a_merge_of_what_one_branch_changed_is_a_new_payload() -> None:
    """D1, law C6: and the record's merged row is the one that was written."""
    ran = tried(forked("a", "b", policy="require_all").text(), [{"n": 0}], {"step_a": setting(a=[1, {"deep": None}])})
    output = ran.one(e.TokensCoalesced).output
    assert isinstance(output, e.Commitment)
    assert ran.payload(output) == ran.rows("out")[0] == {"n": 0, "a": [1, {"deep": None}]}


def test_a_branch_cannot_change_what_its_siblings_see() -> None:
    """D4: the row is shared and frozen: a step that writes into it fails, and its sibling sees the row as it was."""

    def writes_into(get: Callable[[Any], Any]) -> Transform:
        def step(row: Row) -> Row:
            get(row)["x"] = 1
            return row

        return step

    for get in (lambda row: row, lambda row: row["inner"], lambda row: row["list"][0]):
        text = forked("a", "b", policy="best_effort", timeout_seconds=60).text()
        row = {"inner": {"x": 0}, "list": [{"x": 0}]}
        ran = tried(text, [row], {"step_a": writes_into(get)})
        assert ran.told("0.a")[0] == "StepFailed 0.a step_a #1 plugin_raised"
        assert ran.rows("out") == [row]
