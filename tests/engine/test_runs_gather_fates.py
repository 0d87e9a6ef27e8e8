"""Every policy of a gather against every fate of every child, run for real and compared with the contract's table.

One run holds all combinations of fates, a source row each; the groups of different rows share the clock, the retries and
the commits, and must not touch each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import pytest

from ledger import events as e
from tests.kit.fates import ARRIVE, FILTER, ROUTE
from tests.kit.gathers import FAILURES, FATES, LATE, LOST, TIMEOUT_SECONDS, TOO_LATE, Setting, expected, row_of, settings
from tests.kit.pipelines import Ran, tried
from tests.kit.stories import said

Fates = Sequence[str]
OF_GROUPS = (e.BranchArrived, e.BranchLost, e.BranchArrivedLate, e.TokensCoalesced, e.CoalesceFailed)


def stories(ran: Ran) -> dict[str, list[str]]:
    """What was said of each group, in order."""
    found: dict[str, list[str]] = {}
    for event in ran.events:
        if isinstance(event, OF_GROUPS):
            found.setdefault(event.group, []).append(said(event))
    return found


def tried_again(ran: Ran) -> dict[str, list[tuple[int, int]]]:
    """By row, the children that were through after more than one attempt, in the log's order, and when."""
    found: dict[str, list[tuple[int, int]]] = {}
    for event in ran.events:
        if isinstance(event, (e.StepCompleted, e.StepFailed)) and event.attempt > 1 and not getattr(event, "retry", False):
            row, _, part = event.token.partition(":")
            found.setdefault(row, []).append((int(part), event.active_ms))
    return found


def check(setting: Setting, fates: Iterable[Fates]) -> None:
    """Run all the fates, and hold each row's group, its facts, its merged row and its tokens to the table."""
    rows = [row_of(n, each) for n, each in enumerate(fates)]
    ran = tried(setting.text(), rows, setting.steps())
    told, late, ends = stories(ran), tried_again(ran), dict[str, str]()
    resolved = {event.group: event for event in ran.events if isinstance(event, (e.TokensCoalesced, e.CoalesceFailed))}
    merged: list[dict[str, Any]] = []
    for row, parent in zip(rows, ran.of(e.TokenExpanded), strict=True):
        right = expected(setting, row, parent.active_ms, late.get(str(row["n"]), ()))
        group = f"{row['n']}+gather"
        assert told.pop(group) == right.story, (setting, row)
        assert resolved.pop(group).facts == right.facts, (setting, row)
        merged += [right.row] if right.row is not None else []
        ends |= right.ends
    assert (told, resolved) == ({}, {})
    assert ran.outcomes == ends
    assert sorted(ran.rows("out"), key=lambda row: row["n"]) == merged
    made = [event.token for event in ran.of(e.StepCompleted) if event.node == "after"]
    assert len(made) == len(set(made)) == len(merged)
    assert ran.receipt.late_arrivals == sum(event.closed_as == "merged" for event in ran.of(e.BranchArrivedLate))


def dealt(count: int) -> list[Fates]:
    """Every child there, late, too late or lost; the ways to be lost take turns."""
    every: list[Fates] = []
    for turn, each in enumerate(product((ARRIVE, LATE, TOO_LATE, None), repeat=count)):
        every.append([fate or LOST[(turn + place) % len(LOST)] for place, fate in enumerate(each)])
    return every


@pytest.mark.parametrize("setting", list(settings()), ids=lambda setting: "-".join(map(str, setting[:3])))
def test_none_to_four_children_with_every_fate(setting: Setting) -> None:
    """C1, C2, C3, D7, E9, E10, law C1, law C2, law C3, law C4: one decision a group, one next token, one end a token."""
    check(setting, [*(each for count in range(3) for each in product(FATES, repeat=count)), *dealt(3), *dealt(4)])


def test_three_children_with_every_fate() -> None:
    """C3, E9, E10, G2, G5, law C3, law C4: all the ways to be lost together, one after the other, and after the decision."""
    for setting in (Setting("best_effort", 0, TIMEOUT_SECONDS), Setting("quorum", 2, TIMEOUT_SECONDS)):
        check(setting, product(FATES, repeat=3))


def test_four_children_with_the_fates_that_differ() -> None:
    """C3, E9, E10, G1, G2, G5, law C3, law C4: each of four in time, late, too late, failing at last, or filtered."""
    for setting in (Setting("require_all"), Setting("best_effort", 0, TIMEOUT_SECONDS), Setting("quorum", 3)):
        check(setting, product((*FAILURES, ARRIVE, FILTER), repeat=4))


def test_every_decision_of_a_gather_occurs() -> None:
    """C1, C3: the combinations above reach each trigger and each reason that a whole run of a gather can come to."""
    found = set()
    for setting in settings():
        rows = [row_of(n, each) for n, each in enumerate([[], *dealt(1), *dealt(2)])]
        ran = tried(setting.text(), rows, setting.steps())
        found |= {f"merge {event.trigger}" for event in ran.of(e.TokensCoalesced)}
        found |= {f"{event.trigger} {event.reason.partition(':')[0]}" for event in ran.of(e.CoalesceFailed)}
        found |= {f"late {event.closed_as}" for event in ran.of(e.BranchArrivedLate)}
        found |= {f"lost {event.cause}" for event in ran.of(e.BranchLost)}
    assert found == {
        "merge all_arrived", "merge quorum_met", "merge first_arrival", "merge branch_lost", "merge timeout",
        "branch_lost branch_lost", "branch_lost quorum_impossible", "branch_lost all_branches_lost",
        "timeout incomplete_branches", "timeout quorum_not_met_at_timeout", "timeout best_effort_timeout_no_arrivals",
        "late merged", "late failed",
        "lost error_routed", "lost discarded", "lost filtered", "lost routed_away", "lost failed",
    }  # fmt: skip


def test_the_check_tells_a_wrong_table_apart() -> None:
    """C3: another quorum, another time, another name or order of the list do not pass for the right ones."""
    setting, row = Setting("quorum", 2, TIMEOUT_SECONDS), row_of(0, [FILTER, LATE, ARRIVE])
    right = expected(setting, row, 0, [(1, 700)])
    assert right.row == {**row, "items": [{"n": 0, "part": n, "fate": row["fates"][n], "done": True} for n in (1, 2)]}
    assert right != expected(setting._replace(need=3), row, 0, [(1, 700)])
    assert right != expected(setting, row, 0, [(1, 1000)])
    assert right != expected(setting._replace(into="parts"), row, 0, [(1, 700)])
    assert right != expected(setting, row_of(0, [ROUTE, LATE, ARRIVE]), 0, [(1, 700)])
