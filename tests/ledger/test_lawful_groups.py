"""Lawful logs of forks and joins show what a group is told, when it is resolved, and what becomes of its tokens."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ledger import events as e
from ledger.coalesce import Fail, Merge
from ledger.fold.groups import facts as known
from ledger.fold.state import OwedLoss, OwedResolution, Stage, State
from ledger.replay import replay
from tests.kit.log import facts
from tests.ledger import lawful_groups as groups
from tests.ledger import lawful_many
from tests.ledger.folding import before, ends, fold, place, said, steps
from tests.ledger.lawful_groups import GROUP, GROUPED, at, dropped
from tests.ledger.lawful_many import LAWFUL

RESOLVED = (e.TokensCoalesced, e.CoalesceFailed)
MERGES = ["all_arrived", "quorum_met", "best_effort_lost", "best_effort_timed_out", "first_came", "selected",
          "flushed_and_merged", "nested_joins", "two_groups_a_row", "gathered_all"]


def owed_resolution(state: State) -> Merge | Fail:
    """The resolution that must be said next."""
    owed = state.owed[0]
    assert isinstance(owed, OwedResolution)
    return owed.resolution


def test_the_parent_of_a_fork_ends_in_the_event_that_makes_its_children() -> None:
    """B3: never before, never after."""
    for name, build in GROUPED.items():
        forks = [one for one in steps(build()) if isinstance(one[0], e.TokenForked)]
        assert forks, name
        for event, born, ended in forks:
            assert isinstance(event, e.TokenForked)
            assert born == [f"{event.token}.{branch}" for branch in event.branches]
            assert ended == [(event.token, "forked")]


@pytest.mark.parametrize("name", MERGES)
def test_consumed_tokens_end_coalesced_and_the_merged_one_lives_on(name: str) -> None:
    """B1, B2, law C1: with any policy, nested and gathered, each held token ends with the merge; no other does."""
    log = LAWFUL[name]()
    for event, born, ended in steps(log):
        if isinstance(event, e.TokensCoalesced):
            assert event.facts is not None
            assert ended == [(arrival.token, "coalesced") for arrival in event.facts.arrival_order]
            assert born == [event.merged] == [event.group]
    final = ends(log)
    assert {final[event.merged] for event in said(log, e.TokensCoalesced)} <= {"completed", "coalesced"}


def test_an_inner_merge_is_consumed_by_the_outer_one_only() -> None:
    """B2: the merged token of the inner join earns its own outcome at the outer one."""
    final = ends(groups.nested_joins())
    assert {token: final[token] for token in ("0.x.a", "0.x.b", "0.x+inner", "0.y", "0+outer")} == {
        "0.x.a": "coalesced", "0.x.b": "coalesced", "0.x+inner": "coalesced", "0.y": "coalesced",
        "0+outer": "completed"}


def test_a_token_is_held_until_its_group_resolves() -> None:
    """D4, D8: from its arrival to the resolution it stands at the join, and is listed with its group."""
    log = groups.all_arrived()
    for seq in range(place(log, e.BranchArrived), place(log, e.TokensCoalesced)):
        state = fold(log, seq)
        assert (state.tokens["0.b"].stage, state.tokens["0.b"].node) == (Stage.HELD, "join")
        assert state.open_groups == 1 and "b" in state.groups[GROUP].arrived
    assert fold(log, place(log, e.TokensCoalesced)).tokens["0.b"].outcome == "coalesced"


@pytest.mark.parametrize(
    ("name", "trigger", "reason"),
    [
        ("branch_lost", "branch_lost", "branch_lost:c"),
        ("lost_first", "branch_lost", "branch_lost:b"),
        ("quorum_impossible", "branch_lost", "quorum_impossible:need=2,max_possible=1"),
        ("all_lost", "branch_lost", "all_branches_lost"),
        ("all_lost_best_effort", "branch_lost", "all_branches_lost"),
        ("selected_lost", "branch_lost", "branch_lost:b"),
        ("gathered_nobody", "branch_lost", "quorum_impossible:need=1,max_possible=0"),
    ],
)
def test_a_group_that_cannot_merge_any_more_fails_at_once(name: str, trigger: str, reason: str) -> None:
    """G1, G3, G8, G9, G10, law C4: the last event before the failure is the one that made it impossible."""
    log = LAWFUL[name]()
    state = before(log, e.CoalesceFailed)
    assert owed_resolution(state) == Fail(trigger, reason)  # type: ignore[arg-type]
    waiting = fold(log, place(log, e.CoalesceFailed) - 2)
    assert not any(isinstance(owed, OwedResolution) for owed in waiting.owed)


@pytest.mark.parametrize(
    ("name", "trigger"),
    [
        ("all_arrived", "all_arrived"),
        ("quorum_met", "quorum_met"),
        ("quorum_still_possible", "quorum_met"),
        ("best_effort_lost", "branch_lost"),
        ("first_came", "first_arrival"),
        ("selected", "quorum_met"),
        ("gathered_none", "all_arrived"),
        ("gathered_quorum", "all_arrived"),
    ],
)
def test_a_group_merges_when_its_policy_is_met_and_not_before(name: str, trigger: str) -> None:
    """B2, D4, law C4: the event before the merge is the one that met it; before that nothing was owed."""
    log = LAWFUL[name]()
    assert owed_resolution(before(log, e.TokensCoalesced)) == Merge(trigger)  # type: ignore[arg-type]
    earlier = fold(log, place(log, e.TokensCoalesced) - 2)
    assert not any(isinstance(owed, OwedResolution) for owed in earlier.owed)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("branch_lost", facts(GROUP, "require_all", "abc", at("a"), [("c", "error_routed:step_c:bad")])),
        ("lost_first", facts(GROUP, "require_all", "ab", (), dropped("b"))),
        ("quorum_met", facts(GROUP, "quorum", "abcd", at("ca"))),
        ("quorum_timed_out", facts(GROUP, "quorum", "ab", at("b"), wait=130)),
        ("flushed_at_the_end", facts(GROUP, "require_all", "abc", at("ac"))),
        ("selected_lost", facts(GROUP, "best_effort", "abc", at("ac"), dropped("b"), merge="select")),
        ("all_arrived", facts(GROUP, "require_all", "ab", [("b", "0.b", 0), ("a", "0.a", 5)], wait=5)),
    ],
)
def test_a_resolution_records_what_was_known(name: str, expected: e.GroupFacts) -> None:
    """A3, D7, E10, law C3: policy, expected, arrived in order, lost with reasons, and the rest by name as missing."""
    log = GROUPED[name]()
    event = next(event for event in log.stamped() if isinstance(event, RESOLVED))
    state = fold(log, event.seq - 1)
    assert known(state.groups[GROUP], event.active_ms) == expected == event.facts
    told = {one.branch for one in expected.arrival_order} | {one.branch for one in expected.branches_lost}
    assert told.isdisjoint(expected.branches_missing)
    assert told.union(expected.branches_missing) == set(expected.expected_branches)


def test_facts_in_a_list_are_the_facts() -> None:
    """A3, D7, law C3: what is too long for a body stands in a payload, and is held to the same."""
    log = groups.all_arrived()
    place_of_merge = place(log, e.TokensCoalesced) - 1
    event = said(log, e.TokensCoalesced)[0]
    assert event.facts is not None
    log.said[place_of_merge] = replace(event, facts=None, facts_list=log.keep(event.facts))
    assert replay(log.store(), log.run, deep=True).verdict.findings == []
    other = replace(event.facts, policy="first")
    log = groups.all_arrived()
    log.said[place_of_merge] = replace(event, facts=None, facts_list=log.keep(other))
    assert [finding.law for finding in replay(log.store(), log.run).verdict.findings] == ["C3"]


def test_a_collision_that_somebody_won_is_told_with_its_values() -> None:
    """D7: the fields, the branches with the winner last, and every value that was there."""
    event = said(groups.collided_and_won(), e.TokensCoalesced)[0]
    assert event.collisions == {"x": ("a", "b")} and event.collided is not None


def test_a_loss_names_how_each_carrier_ended_or_left() -> None:
    """E9, E10, G10: an error route, a discard, a filter, another way, a failure, a failed group inside."""
    lost = [one for name in ("branch_lost", "all_lost", "nested_failure") for one in said(GROUPED[name](), e.BranchLost)]
    assert {one.cause for one in lost} == {"error_routed", "filtered", "routed_away", "failed", "discarded",
                                          "group_failed"}


@pytest.mark.parametrize("name", ["branch_lost", "all_lost", "nested_failure", "gathered_quorum"])
def test_a_loss_is_told_to_its_group_at_once(name: str) -> None:
    """E9: whatever ended the carrier, or sent it away, owes the loss: nothing else can be said first."""
    log = LAWFUL[name]()
    for nth, event in enumerate(said(log, e.BranchLost), start=1):
        owed = before(log, e.BranchLost, nth).owed[0]
        assert isinstance(owed, OwedLoss)
        assert (owed.token, owed.frames[-1].branch, owed.cause) == (event.token, event.branch, event.cause)


def test_a_quorum_counts_what_arrived_among_what_is_possible() -> None:
    """G1: with one arrived and one lost of three, a quorum of two can still be met; with two lost it cannot."""
    after_one_loss = fold(groups.quorum_still_possible(), place(groups.quorum_still_possible(), e.BranchLost))
    assert not after_one_loss.owed and after_one_loss.groups[GROUP].status == "open"
    log = groups.quorum_impossible()
    assert not fold(log, place(log, e.BranchLost, 1)).owed
    assert isinstance(owed_resolution(fold(log, place(log, e.BranchLost, 2))), Fail)


@pytest.mark.parametrize("name", ["quorum_met", "best_effort_timed_out", "first_came"])
def test_a_loss_after_the_merge_opens_no_group(name: str) -> None:
    """G2: nobody is told, no second group appears, and the late loser has its own end."""
    log = GROUPED[name]()
    for seq in range(place(log, e.TokensCoalesced), len(log.said)):
        state = fold(log, seq)
        assert state.open_groups == 0 and not any(isinstance(owed, OwedLoss) for owed in state.owed)
        assert set(state.groups) <= {GROUP}
    assert ends(log).keys() >= {"0.a", "0.b", GROUP}


def test_the_same_arrival_twice_is_a_note_and_changes_nothing() -> None:
    """W11, G4: the held token stays, its order of arrival too, and the other branch is still waited for."""
    log = groups.said_twice()
    first, second = (fold(log, place(log, e.BranchArrived, nth)) for nth in (1, 2))
    assert (first.notes, second.notes) == (0, 1)
    assert first.groups[GROUP].arrivals == second.groups[GROUP].arrivals == [e.Arrival("a", "0.a", 0)]
    assert second.groups[GROUP].arrived["a"] is second.tokens["0.a"] and not second.owed


@pytest.mark.parametrize(
    ("name", "closed_as"), [("quorum_met", "merged"), ("first_came", "merged"), ("branch_lost", "failed"),
                            ("quorum_timed_out", "failed"), ("gathered_late", "merged")])
def test_a_late_arrival_fails_and_merges_nothing(name: str, closed_as: str) -> None:
    """W11, G5, G9: one merge, and one end for the token; late only after a merge, else failed for the group's own reason."""
    log = LAWFUL[name]()
    late = said(log, e.BranchArrivedLate)[0]
    assert late.closed_as == closed_as and ends(log)[late.token] == "failed"
    assert fold(log).late_arrivals == (closed_as == "merged")
    assert (late.reason is None) == (closed_as == "merged")
    assert len([event for event in log.said if isinstance(event, RESOLVED)]) == 1


def test_two_groups_of_one_row_are_told_apart() -> None:
    """G6: a group is of a lineage, not of a row: each merges its own branches."""
    log = groups.two_groups_a_row()
    both = fold(log, place(log, e.BranchArrived, 2))
    assert {name: sorted(group.arrived) for name, group in both.groups.items()} == {
        "0:0+join": ["a"], "0:1+join": ["b"]}
    assert {token: end for token, end in ends(log).items() if "+" in token} == {
        "0:0+join": "completed", "0:1+join": "completed"}


def test_a_quorum_whose_timeout_passes_unmet_is_resolved_then() -> None:
    """A2: the deadline counts from the first arrival; when it has passed nothing else comes first."""
    log = groups.quorum_timed_out()
    state = before(log, e.CoalesceFailed)
    group = state.due(100)
    assert state.next_deadline_ms() == 100 and state.due(99) is None
    assert group is state.groups[GROUP]
    assert ends(log)["0.b"] == "failed" and said(log, e.CoalesceFailed)[0].reason == "quorum_not_met_at_timeout"


def test_at_the_end_of_the_source_an_incomplete_group_fails_with_what_it_held() -> None:
    """A1, D6: the reason is on record, and each held token ends `failed` in that event."""
    log = groups.flushed_at_the_end()
    ended = [ended for event, _, ended in steps(log) if isinstance(event, e.CoalesceFailed)]
    assert ended == [[("0.a", "failed"), ("0.c", "failed")]]
    assert said(log, e.CoalesceFailed)[0].reason == "incomplete_branches"
    assert before(log, e.CoalesceFailed).exhausted


def test_at_the_end_of_the_source_best_effort_merges_what_is_there() -> None:
    """D6: the flush is by policy."""
    log = groups.flushed_and_merged()
    assert ends(log) == {"0": "forked", "0.a": "coalesced", "0.b": "failed", GROUP: "completed"}


def test_a_group_of_a_run_that_stopped_is_still_open() -> None:
    """C2, D8: an interruption closes nothing; the deadline stays, and the next process finds it."""
    state = fold(groups.held())
    assert state.open_groups == 1 and state.next_deadline_ms() == 1000
    assert [token.id for token in state.groups[GROUP].arrived.values()] == ["0.a"]


def test_select_waits_for_its_branch_and_never_takes_another() -> None:
    """G8: a quorum of one that already holds another branch goes on waiting."""
    log = groups.selected()
    after_a = fold(log, place(log, e.BranchArrived))
    assert not after_a.owed and after_a.groups[GROUP].status == "open"
    assert said(log, e.TokensCoalesced)[0].output == 3


def test_a_gather_opens_at_its_expansion_also_when_it_is_empty() -> None:
    """D4: with children it waits, without any it is decided in that event."""
    full, empty = lawful_many.gathered_all(), lawful_many.gathered_none()
    opened = fold(full, place(full, e.TokenExpanded))
    assert opened.groups[lawful_many.GATHER].expected == ("0", "1", "2") and not opened.owed
    assert owed_resolution(fold(empty, place(empty, e.TokenExpanded))) == Merge("all_arrived")


def test_a_collision_under_fail_fails_the_group_and_not_the_run() -> None:
    """G12: the fields and the values that differed are on record, and the run goes on to its seal."""
    log = groups.collided()
    event = said(log, e.CoalesceFailed)[0]
    assert (event.reason, event.collisions) == ("union_collision", {"x": ("a", "b")})
    assert event.collided is not None and fold(log).status == "completed"
