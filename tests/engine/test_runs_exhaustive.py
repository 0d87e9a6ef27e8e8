"""Every policy against every fate of every branch, run for real and compared with the contract's table, event by event.

One run holds all combinations of fates, a row each; the groups of different rows share the clock, the retries and the
commits, and must not touch each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product
from random import Random

import pytest

from ledger import events as e
from tests.kit.fates import ARRIVE, AWAY, FATES, FILTER, LATE, ROUTE, Setting, expected, row_of
from tests.kit.oracle import tables
from tests.kit.pipelines import Ran, tried
from tests.kit.stories import said

LETTERS = "abcd"
TIMEOUT_SECONDS = 0.2
"""Shorter than a late branch's delay."""
SEED, SAMPLE = 20260711, 250

Fates = tuple[str, ...]


def settings(count: int, orders: Sequence[Sequence[str]], *, timed: bool) -> Iterator[Setting]:
    """Every row of the table, forked in each of the orders; `first` has no timeout and `best_effort` always one."""
    for table in tables(LETTERS[:count]):
        if table.policy == "first" if timed else table.policy == "best_effort":
            continue
        for order in orders:
            yield Setting(table, tuple(order), TIMEOUT_SECONDS if timed else None)


def stories(ran: Ran) -> dict[str, list[str]]:
    """What was said of each group, in order."""
    found: dict[str, list[str]] = {}
    for event in ran.events:
        if isinstance(event, (e.BranchArrived, e.BranchLost, e.BranchArrivedLate, e.TokensCoalesced, e.CoalesceFailed)):
            found.setdefault(event.group, []).append(said(event))
    return found


def second_tries(ran: Ran) -> dict[str, list[tuple[str, int]]]:
    """By row, the branches that succeeded at their second attempt, in the log's order, and when."""
    found: dict[str, list[tuple[str, int]]] = {}
    for event in ran.of(e.StepCompleted):
        if event.attempt == 2:
            row, _, branch = event.token.partition(".")
            found.setdefault(row, []).append((branch, event.active_ms))
    return found


def check(setting: Setting, fates: Sequence[Fates]) -> None:
    """Run all the fates, and hold each row's group and tokens to the table."""
    branches = setting.table.branches
    ran = tried(setting.text(), [row_of(n, branches, each) for n, each in enumerate(fates)], setting.steps())
    told, late, ends = stories(ran), second_tries(ran), dict[str, str]()
    for n, (each, read) in enumerate(zip(fates, ran.of(e.RowRead), strict=True)):
        right = expected(setting, n, dict(zip(branches, each, strict=True)), read.active_ms, late.get(str(n), ()))
        assert told.pop(f"{n}+join") == right.story, (setting, each)
        ends.update(right.ends)
    assert told == {}
    assert ran.outcomes == ends
    assert ran.receipt.late_arrivals == len([one for one in ran.of(e.BranchArrivedLate) if one.closed_as == "merged"])
    assert len(ran.rows("out")) == len(ran.of(e.TokensCoalesced))


@pytest.mark.parametrize("timed", [True, False])
def test_two_branches_in_every_order_with_every_fate(timed: bool) -> None:
    """W11, B1, B2, D1, E9, G2, G3, G5, G8, G9, G10, law C2, law C4, law T1: one resolution a group, one end a token."""
    for setting in settings(2, list(permutations("ab")), timed=timed):
        check(setting, list(product(FATES, repeat=2)))


@pytest.mark.parametrize("timed", [True, False])
def test_three_branches_in_every_order_with_the_fates_that_differ(timed: bool) -> None:
    """W11, B1, B2, D1, E9, G1, G2, G3, G5, G8, G9, G10, law C2, law C4, law T1: all orders, each loss with its reason."""
    fates = (ARRIVE, LATE, ROUTE, FILTER, AWAY)
    for setting in settings(3, list(permutations("abc")), timed=timed):
        check(setting, list(product(fates, repeat=3)))


@pytest.mark.parametrize("timed", [True, False])
def test_three_branches_with_every_fate(timed: bool) -> None:
    """B1, D1, E9, G1, G3, G10, law C2, law C4, law T1: all the ways to be lost together, forked in one order."""
    for setting in settings(3, ["bca"], timed=timed):
        check(setting, list(product(FATES, repeat=3)))


@pytest.mark.parametrize("timed", [True, False])
def test_four_branches_with_a_sample_of_every_fate(timed: bool) -> None:
    """W11, B1, D1, E9, G1, G3, G10, law C2, law C4, law T1: quorums of one to four, and each branch to select."""
    draw = Random(SEED)
    every = list(product(FATES, repeat=4))
    for setting in settings(4, ["cabd"], timed=timed):
        check(setting, draw.sample(every, SAMPLE))


def test_every_decision_of_the_table_occurs() -> None:
    """D1: the combinations reach each trigger and each reason that a run can come to while its losses are reported."""
    found = set()
    for timed in (True, False):
        for setting in settings(2, ["ab"], timed=timed):
            fates = list(product(FATES, repeat=2))
            ran = tried(setting.text(), [row_of(n, "ab", each) for n, each in enumerate(fates)], setting.steps())
            found |= {f"merge {event.trigger}" for event in ran.of(e.TokensCoalesced)}
            found |= {f"{event.trigger} {event.reason.partition(':')[0]}" for event in ran.of(e.CoalesceFailed)}
            found |= {f"late {event.closed_as}" for event in ran.of(e.BranchArrivedLate)}
    assert found == {
        "merge all_arrived", "merge quorum_met", "merge first_arrival", "merge branch_lost", "merge timeout",
        "branch_lost branch_lost", "branch_lost quorum_impossible", "branch_lost all_branches_lost",
        "timeout incomplete_branches", "timeout quorum_not_met_at_timeout", "timeout select_branch_not_arrived",
        "timeout best_effort_timeout_no_arrivals", "late merged", "late failed",
    }  # fmt: skip


def test_the_check_tells_a_wrong_table_apart() -> None:
    """G1: a quorum that asks for one more, or another order of the branches, does not pass for the right one."""
    setting = Setting(next(table for table in tables("abc") if table.need == 2), ("a", "b", "c"), None)
    fates = dict.fromkeys("abc", ARRIVE)
    right = expected(setting, 0, fates, 0, ())
    assert expected(setting._replace(table=setting.table._replace(need=3)), 0, fates, 0, ()) != right
    assert expected(setting._replace(order=("c", "b", "a")), 0, fates, 0, ()) != right

