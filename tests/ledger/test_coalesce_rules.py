"""The rules of a coalesce, exhaustively: every policy, quorum and selected branch, every order of arrivals and losses.

The rule is a function of the *sets* that arrived and were lost and of what came last, so walking every reachable pair
of sets covers every order; that it is one is shown by walking the orders themselves as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger.coalesce import Cause, Fail, Merge, Resolution, resolve
from ledger.graph import CoalesceRule
from tests.kit.oracle import FAILS, MERGES, Decision, Table, tables

LETTERS = "abcdef"
CLOSING = {"timeout": Cause.TIMEOUT, "end_of_source": Cause.END_OF_SOURCE, "abandoned": Cause.ABANDONED}


def rule_of(table: Table) -> CoalesceRule:
    """The settings that the table's row stands for."""
    return CoalesceRule(branches=table.branches, gate="fork", policy=table.policy, quorum=table.need or None,  # type: ignore[arg-type]
                        merge="select" if table.select else "union", select_branch=table.select)


def said(resolution: Resolution | None) -> Decision | None:
    """A resolution in the oracle's words."""
    if resolution is None:
        return None
    if isinstance(resolution, Merge):
        return Decision(MERGES, resolution.trigger)
    return Decision(FAILS, resolution.trigger, resolution.reason)


def closings(table: Table) -> list[str]:
    """The causes that can close a group from outside (`first` allows no timeout)."""
    return [cause for cause in CLOSING if not (cause == "timeout" and table.policy == "first")]


def check_closing(table: Table, rule: CoalesceRule, arrived: tuple[str, ...], lost: tuple[str, ...]) -> None:
    """Whatever closes the group, it is resolved as the table says."""
    for cause in closings(table):
        found = said(resolve(rule, table.branches, arrived, lost, CLOSING[cause]))
        assert found == table.on_close(cause, arrived), (table, arrived, lost, cause)


def walk(table: Table) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Every (arrived, lost) of a group that is still open, reached one branch at a time; checks each step on the way."""
    rule = rule_of(table)
    seen: set[tuple[frozenset[str], frozenset[str]]] = set()
    todo: list[tuple[tuple[str, ...], tuple[str, ...]]] = [((), ())]
    while todo:
        arrived, lost = todo.pop()
        key = (frozenset(arrived), frozenset(lost))
        if key in seen:
            continue
        seen.add(key)
        yield arrived, lost
        for branch in [branch for branch in table.branches if branch not in (*arrived, *lost)]:
            for now, gone, cause in (((*arrived, branch), lost, Cause.ARRIVAL), (arrived, (*lost, branch), Cause.LOSS)):
                expected = table.on_arrival(now, gone) if cause is Cause.ARRIVAL else table.on_loss(now, gone)
                assert said(resolve(rule, table.branches, now, gone, cause)) == expected, (table, now, gone, cause)
                if expected is None:
                    todo.append((now, gone))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_every_reachable_state_decides_as_the_table_says(count: int) -> None:
    """W11, D1, G1, G3, G8, law C4: no state of up to six branches decides otherwise than the table."""
    for table in tables(LETTERS[:count]):
        for arrived, lost in walk(table):
            if arrived or lost:
                check_closing(table, rule_of(table), arrived, lost)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_no_group_waits_once_every_branch_is_accounted_for(count: int) -> None:
    """E9, law C2: a group with all branches arrived or lost is resolved, whatever the policy: nothing pends for ever."""
    for table in tables(LETTERS[:count]):
        assert all(len(arrived) + len(lost) < count for arrived, lost in walk(table))


def check_orders(table: Table, rule: CoalesceRule, arrived: tuple[str, ...], lost: tuple[str, ...]) -> int:
    """Every way to go on from here, one branch at a time, up to the first decision, or with a close first; how many."""
    left = [branch for branch in table.branches if branch not in arrived and branch not in lost]
    assert left, f"{table} is stuck after {arrived} and without {lost}"
    if arrived or lost:
        check_closing(table, rule, arrived, lost)
    ways = 0
    for branch in left:
        here, gone = (*arrived, branch), (*lost, branch)
        came, went = table.on_arrival(here, lost), table.on_loss(arrived, gone)
        assert said(resolve(rule, table.branches, here, lost, Cause.ARRIVAL)) == came, (table, here, lost)
        assert said(resolve(rule, table.branches, arrived, gone, Cause.LOSS)) == went, (table, arrived, gone)
        ways += 1 if came is not None else check_orders(table, rule, here, lost)
        ways += 1 if went is not None else check_orders(table, rule, arrived, gone)
    return ways


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_every_order_of_arrivals_and_losses_resolves_exactly_once(count: int) -> None:
    """W11, D1, E9, law C2: true orders, each branch arriving or lost, a close before any of them: as the table says."""
    for table in tables(LETTERS[:count]):
        assert check_orders(table, rule_of(table), (), ()) >= 2 * count


@pytest.mark.parametrize(
    ("policy", "need", "arrived", "lost", "cause", "expected"),
    [
        ("require_all", 0, "a", "b", Cause.LOSS, Fail("branch_lost", "branch_lost:b")),
        ("require_all", 0, "", "cb", Cause.LOSS, Fail("branch_lost", "branch_lost:b,c")),
        ("require_all", 0, "ab", "", Cause.TIMEOUT, Fail("timeout", "incomplete_branches")),
        ("require_all", 0, "ab", "", Cause.END_OF_SOURCE, Fail("end_of_source", "incomplete_branches")),
        ("quorum", 2, "a", "bc", Cause.LOSS, Fail("branch_lost", "quorum_impossible:need=2,max_possible=1")),
        ("quorum", 2, "a", "b", Cause.LOSS, None),
        ("quorum", 2, "a", "", Cause.TIMEOUT, Fail("timeout", "quorum_not_met_at_timeout")),
        ("quorum", 2, "a", "", Cause.END_OF_SOURCE, Fail("end_of_source", "quorum_not_met")),
        ("quorum", 2, "a", "", Cause.ABANDONED, Fail("abandoned", "quorum_not_met")),
        ("best_effort", 0, "", "abc", Cause.LOSS, Fail("branch_lost", "all_branches_lost")),
        ("best_effort", 0, "", "a", Cause.TIMEOUT, Fail("timeout", "best_effort_timeout_no_arrivals")),
        ("best_effort", 0, "", "a", Cause.END_OF_SOURCE, Fail("end_of_source", "incomplete_branches")),
        ("best_effort", 0, "b", "a", Cause.TIMEOUT, Merge("timeout")),
        ("first", 0, "", "abc", Cause.LOSS, Fail("branch_lost", "all_branches_lost")),
        ("first", 0, "", "ab", Cause.END_OF_SOURCE, Fail("end_of_source", "incomplete_branches")),
    ],
)
def test_the_reasons_are_the_exact_words_of_the_contract(
    policy: str, need: int, arrived: str, lost: str, cause: Cause, expected: Resolution | None
) -> None:
    """A2, A3, G1, G3: the words that people search for, spelt out once without the oracle."""
    rule = rule_of(Table(policy, tuple("abc"), need))
    assert resolve(rule, tuple("abc"), list(arrived), list(lost), cause) == expected


@pytest.mark.parametrize("policy", ["require_all", "quorum", "best_effort"])
def test_a_selected_branch_that_did_not_arrive_is_never_replaced_by_another(policy: str) -> None:
    """G8: `select` fails by name when its branch is lost, and by its own reason when it is merely absent."""
    rule = rule_of(Table(policy, tuple("abc"), 1, "b"))
    assert not isinstance(resolve(rule, tuple("abc"), ["a"], [], Cause.ARRIVAL), Merge)
    assert resolve(rule, tuple("abc"), ["a"], ["b"], Cause.LOSS) == Fail("branch_lost", "branch_lost:b")
    closing = resolve(rule, tuple("abc"), ["a"], [], Cause.TIMEOUT)
    reason = "incomplete_branches" if policy == "require_all" else "select_branch_not_arrived"
    assert closing == Fail("timeout", reason)


@pytest.mark.parametrize("policy", ["require_all", "best_effort"])
def test_an_empty_gather_merges_where_nothing_can_be_missing(policy: str) -> None:
    """law C4: no children is all children."""
    rule = CoalesceRule(gathers="split", policy=policy, merge="list")  # type: ignore[arg-type]
    assert isinstance(resolve(rule, (), (), (), Cause.LOSS), Merge)


@pytest.mark.parametrize("policy", ["quorum", "first"])
def test_an_empty_gather_fails_where_somebody_has_to_come(policy: str) -> None:
    """law C4: a quorum of nobody, and the first of nobody, cannot be."""
    rule = CoalesceRule(gathers="split", policy=policy, quorum=1, merge="list")  # type: ignore[arg-type]
    assert isinstance(resolve(rule, (), (), (), Cause.LOSS), Fail)


def test_the_oracle_would_catch_a_quorum_that_is_off_by_one() -> None:
    """G1: the check can fail: a rule that asks for one more, or counts arrivals as possible again, is told apart."""
    table = Table("quorum", tuple("abc"), 2)
    one_more = rule_of(table._replace(need=3))
    assert said(resolve(one_more, table.branches, ["a", "b"], [], Cause.ARRIVAL)) != table.on_arrival(["a", "b"], [])
    assert said(resolve(one_more, table.branches, [], ["a", "b"], Cause.LOSS)) != table.on_loss([], ["a", "b"])
