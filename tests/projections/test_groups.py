"""Coalesce groups and batches, case by case: open, merged, failed; flushed, failed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ledger import events as e
from tests.kit.log import Log
from tests.ledger import lawful_groups, lawful_many
from tests.ledger.folding import place
from tests.ledger.lawful_many import LAWFUL
from tests.projections.reading import told

WAY = "status, trigger, failure_reason"
MEMBERS = ("expected_branches", "branches_arrived", "branches_lost", "branches_missing")


def group(log: Log, until: int | None = None, group_id: str = "") -> dict[str, Any]:
    """One group with its JSON columns decoded."""
    with told(log, until) as found:
        row = found.one("coalesce_groups", where=f"group_id = '{group_id}'" if group_id else "")
    return {**row, **{name: msgspec.json.decode(row[name]) for name in (*MEMBERS, "arrival_order", "collisions")}}


@pytest.mark.parametrize(
    ("name", "status", "trigger", "reason"),
    [
        ("all_arrived", "merged", "all_arrived", None),
        ("branch_lost", "failed", "branch_lost", "branch_lost:c"),
        ("lost_first", "failed", "branch_lost", "branch_lost:b"),
        ("quorum_met", "merged", "quorum_met", None),
        ("quorum_impossible", "failed", "branch_lost", "quorum_impossible:need=2,max_possible=1"),
        ("quorum_timed_out", "failed", "timeout", "quorum_not_met_at_timeout"),
        ("best_effort_lost", "merged", "branch_lost", None),
        ("best_effort_timed_out", "merged", "timeout", None),
        ("first_came", "merged", "first_arrival", None),
        ("all_lost", "failed", "branch_lost", "all_branches_lost"),
        ("flushed_at_the_end", "failed", "end_of_source", "incomplete_branches"),
        ("flushed_and_merged", "merged", "end_of_source", None),
        ("selected_lost", "failed", "branch_lost", "branch_lost:b"),
        ("collided", "failed", "all_arrived", "union_collision"),
        ("abandoned_while_held", "failed", "abandoned", "incomplete_branches"),
        ("gathered_nobody", "failed", "branch_lost", "quorum_impossible:need=1,max_possible=0"),
    ],
)
def test_a_groups_row_says_how_it_closed_and_why(name: str, status: str, trigger: str, reason: str | None) -> None:
    """A1, A2, A3, G3, G10: trigger and reason as the resolution states them."""
    with told(LAWFUL[name]()) as found:
        assert found.told("coalesce_groups", WAY) == [(status, trigger, reason)]


def test_a_merge_carries_its_metadata() -> None:
    """D7: expected in declared order, arrivals in theirs with offsets, who waited how long."""
    log = lawful_groups.all_arrived()
    found = group(log)
    assert (found["coalesce"], found["group_id"], found["row_index"]) == ("join", "0+join", 0)
    assert (found["policy"], found["merge_strategy"], found["merged_token_id"]) == ("require_all", "union", "0+join")
    assert [found[name] for name in MEMBERS] == [["a", "b"], ["a", "b"], {}, []]
    assert found["arrival_order"] == [{"branch": "b", "offset_ms": 0}, {"branch": "a", "offset_ms": 5}]
    assert (found["wait_duration_ms"], found["collisions"]) == (5, {})
    assert (found["opened_seq"], found["closed_seq"]) == (place(log, e.BranchArrived), place(log, e.TokensCoalesced))


def test_a_failure_names_the_lost_with_reasons_and_the_missing() -> None:
    """E10, A3, law C5: and who had come."""
    found = group(lawful_groups.branch_lost())
    assert [found[name] for name in MEMBERS] == [["a", "b", "c"], ["a"], {"c": "error_routed:step_c:bad"}, ["b"]]
    assert found["merged_token_id"] is None


def test_a_merge_names_the_lost_as_well() -> None:
    """E10: `best_effort` went on without branch a, and says why."""
    found = group(lawful_groups.best_effort_lost())
    assert found["branches_lost"] == {"a": "filtered:step_a"} and found["status"] == "merged"


def test_a_group_that_nobody_reached_has_a_row_with_every_reason() -> None:
    """G10, E10, G9: it opened at the first loss."""
    log = lawful_groups.all_lost()
    found = group(log)
    assert found["branches_lost"] == {"a": "failed:gate_a:bad", "b": "routed_away:gate_b:away",
                                      "c": "discarded:step_c:bad", "d": "filtered:step_d"}
    assert list(found["branches_lost"]) == list("abcd")
    assert (found["branches_arrived"], found["arrival_order"], found["branches_missing"]) == ([], [], [])
    assert found["opened_seq"] == place(log, e.BranchLost)


def test_an_open_group_shows_who_has_come_and_who_has_not() -> None:
    """D8, F6: as of any event."""
    log = lawful_groups.quorum_still_possible()
    first, second = place(log, e.BranchArrived), place(log, e.BranchLost)
    found = group(log, first)
    assert (found["status"], found["trigger"], found["closed_seq"], found["wait_duration_ms"]) == ("open", None, None, None)
    assert [found[name] for name in MEMBERS] == [["a", "b", "c"], ["a"], {}, ["b", "c"]]
    found = group(log, second)
    assert [found[name] for name in MEMBERS] == [["a", "b", "c"], ["a"], {"b": "filtered:step_b"}, ["c"]]
    assert (found["opened_seq"], found["status"]) == (first, "open")


def test_a_group_opened_by_a_loss_is_open_until_it_is_decided() -> None:
    """G9: between the loss and the failure it is there, with the lost branch named."""
    log = lawful_groups.lost_first()
    found = group(log, place(log, e.BranchLost))
    assert (found["status"], found["branches_lost"]) == ("open", {"b": "filtered:step_b"})


def test_a_loss_after_the_merge_changes_nothing() -> None:
    """G2: one row, as it closed."""
    log = lawful_groups.best_effort_timed_out()
    closed = place(log, e.TokensCoalesced)
    assert group(log, closed) == group(log)
    assert group(log)["branches_missing"] == ["b"]


def test_a_gather_is_open_from_its_expansion() -> None:
    """D8: before the first child comes, all of them are missing."""
    log = lawful_many.gathered_all()
    seq = place(log, e.TokenExpanded)
    found = group(log, seq)
    assert (found["status"], found["group_id"], found["opened_seq"]) == ("open", "0+gather", seq)
    assert [found[name] for name in MEMBERS] == [["0", "1", "2"], [], {}, ["0", "1", "2"]]
    found = group(log)
    assert (found["status"], found["opened_seq"], found["closed_seq"]) == ("merged", seq, place(log, e.TokensCoalesced))
    assert [one["branch"] for one in found["arrival_order"]] == ["2", "0", "1"]


@pytest.mark.parametrize("name", ["gathered_none", "gathered_nobody"])
def test_an_empty_gather_has_its_row(name: str) -> None:
    """A3: nobody was expected; it opened with the expansion and closed at once."""
    log = LAWFUL[name]()
    found = group(log)
    assert [found[column] for column in MEMBERS] == [[], [], {}, []]
    assert (found["opened_seq"], found["closed_seq"]) == (place(log, e.TokenExpanded), place(log, e.TokenExpanded) + 1)


def test_collisions_name_the_branches_with_the_winner_last() -> None:
    """D7, G12: one entry a field, in the order in which they were merged."""
    assert group(lawful_groups.collided())["collisions"] == {"x": ["a", "b"]}


def test_one_row_may_have_many_groups_at_one_join() -> None:
    """G6: by lineage, each with its own members."""
    with told(lawful_groups.two_groups_a_row()) as found:
        assert found.told("coalesce_groups", "group_id, row_index, status, merged_token_id", order="group_id") == [
            ("0:0+join", 0, "merged", "0:0+join"), ("0:1+join", 0, "merged", "0:1+join")]


def test_an_inner_failure_is_a_loss_of_the_outer_group() -> None:
    """E10: with the inner group's reason."""
    found = group(lawful_groups.nested_failure(), group_id="0+outer")
    assert (found["status"], found["branches_lost"]) == ("merged", {"x": "group_failed:inner:branch_lost:b"})


def test_batches_are_numbered_and_say_what_flushed_them() -> None:
    """F2: with their size and where they opened and closed."""
    log = lawful_many.batch_totals()
    with told(log) as found:
        assert found.told("batches", "batch_id, aggregation, number, status, trigger, size, opened_seq, closed_seq",
                          order="number") == [
            ("totals@1", "totals", 1, "flushed", "count", 2, place(log, e.TokenBuffered, 1), place(log, e.BatchFlushed, 1)),
            ("totals@2", "totals", 2, "flushed", "end_of_source", 1, place(log, e.TokenBuffered, 3),
             place(log, e.BatchFlushed, 2))]
        assert found.told("batch_members", "batch_id, token_id, ordinal", order="batch_id, ordinal") == [
            ("totals@1", "0", 0), ("totals@1", "1", 1), ("totals@2", "2", 0)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("batch_timed_out", [("flushed", "timeout"), ("flushed", "condition"), ("failed", "end_of_source")]),
        ("batch_abandoned", [("failed", "abandoned")]),
        ("batch_open", [("open", None)]),
    ],
)
def test_a_batch_is_open_flushed_or_failed(name: str, expected: list[tuple[str, str | None]]) -> None:
    """F2, D8: a failure that is tried again leaves it open."""
    with told(LAWFUL[name]()) as found:
        assert found.told("batches", "status, trigger", order="number") == expected


def test_a_batch_that_is_tried_again_is_still_open() -> None:
    """D8: its members wait, and what made it due stands."""
    log = lawful_many.batch_timed_out()
    with told(log, place(log, e.BatchFailed)) as found:
        assert found.told("batches", "status, trigger, size", "number = 3") == [("open", "end_of_source", 1)]
