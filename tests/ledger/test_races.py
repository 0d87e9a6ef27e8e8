"""Who comes first at a coalesce: every policy over up to six branches, every pattern of fates, a timeout at every place.

Each branch arrives, arrives twice, or is lost, one after the other, in time, at the last millisecond before the deadline, on
the deadline itself, or later; what comes after the decision is late.

Why one order of the branches: their names decide nothing but which one is to be selected, and each is tried. (That the rule
takes no other notice of the order is shown in `test_coalesce_rules`.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest

from ledger import events as e
from tests.kit.oracle import Table, tables
from tests.ledger.folding import ends
from tests.ledger.walks import Move, Plan, Walk

LETTERS = "abcdef"
TIMEOUT_MS = 10


def races(table: Table) -> Iterator[Plan]:
    """A row for every pattern of arrivals and losses, all moving together; the deadline falls before each branch, or never.

    Every other row has its arrivals said twice.
    """
    count = len(table.branches)
    patterns = [(twice, fates) for twice in (False, True) for fates in product(("arrive", "filter"), repeat=count)]
    for deadline in range(1, count + 1):
        moves: list[Move] = []
        for place, branch in enumerate(table.branches):
            wait = {deadline - 1: TIMEOUT_MS - 1, deadline: 1}.get(place, 0) if deadline > 1 else TIMEOUT_MS * (place == 1)
            for row, (twice, fates) in enumerate(patterns):
                fate = "twice" if twice and fates[place] == "arrive" else fates[place]
                moves.append(Move(row, branch, fate, 0 if row else wait))
        yield Plan(table, None if table.policy == "first" else TIMEOUT_MS, len(patterns), tuple(moves))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("policy", ["require_all", "quorum", "best_effort", "first"])
def test_the_first_in_the_log_decides_and_every_token_ends_once(policy: str, count: int) -> None:
    """W11, D5, E9, G4, G5, law C2, law C4, law T1: as the oracle's books have it, whatever comes late, twice or never."""
    for table in tables(LETTERS[:count]):
        for plan in races(table) if table.policy == policy else ():
            walk = Walk(plan)
            assert ends(walk.log) == walk.ends


@pytest.mark.parametrize("policy", ["require_all", "quorum", "best_effort", "first"])
def test_an_arrival_on_the_deadline_is_late_and_one_just_before_it_is_not(policy: str) -> None:
    """W11, D5, G5: of two branches the second comes at 9 ms, or at 10 ms, when the group was due."""
    table = next(table for table in tables("ab") if table.policy == policy)
    late = []
    for plan in races(table._replace(need=2 if policy == "quorum" else 0)):
        said = [event for event in Walk(plan).log.said if getattr(event, "group", None) == "0+join"]
        late.append([(type(event).__name__, event.active_ms) for event in said[1:]])
    in_time: list[tuple[str, int]] = [("BranchArrived", 9), ("TokensCoalesced", 9)]
    closed = "TokensCoalesced" if policy == "best_effort" else "CoalesceFailed"
    expected = [[(closed, 10), ("BranchArrivedLate", 10)], in_time]
    if policy == "first":
        expected = [[("TokensCoalesced", 0), ("BranchArrivedLate", ms)] for ms in (10, 9)]
    assert late == expected


def test_every_race_is_run_among_them() -> None:
    """W11: a walk that never met a case would say nothing of it."""
    found = Counter[str]()
    for table in tables("abc"):
        for plan in races(table):
            said = Walk(plan).log.said
            arrivals = Counter((event.group, event.branch) for event in said if isinstance(event, e.BranchArrived))
            found["twice"] += sum(count == 2 for count in arrivals.values())
            found.update(type(event).__name__ for event in said)
            found.update(f"by {event.trigger}" for event in said
                         if isinstance(event, e.TokensCoalesced | e.CoalesceFailed))
    assert {"by all_arrived", "by quorum_met", "by first_arrival", "by branch_lost", "by timeout"} <= set(found)
    assert min(found["twice"], found["BranchArrivedLate"], found["BranchLost"], found["BranchArrived"]) > 200
