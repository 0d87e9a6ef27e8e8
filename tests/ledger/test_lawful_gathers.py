"""Gathers at the end of a source and at an abandon: decided by policy with whoever has come, on record.

In a whole run every child has come or is lost by then; these logs are written by hand.
"""

from __future__ import annotations

from typing import Literal

import pytest

from ledger import events as e
from ledger.graph import PolicyName
from ledger.replay import replay
from tests.kit.log import Log, arrived_late, group_failed
from tests.ledger.broken_gathers import ITEMS, arrive, come, known, merge, split
from tests.ledger.folding import ends, fold
from tests.ledger.lawful_many import GATHER

Closing = Literal["end_of_source", "abandoned"]


def closing(cause: Closing, policy: PolicyName, come_first: tuple[int, ...]) -> Log:
    """Of two children these have come; the source has ended, or the run is given up."""
    log = arrive(split(2, policy, quorum=2 if policy == "quorum" else None), *come_first)
    return log.exhaust() if cause == "end_of_source" else log


@pytest.mark.parametrize("cause", ["end_of_source", "abandoned"])
@pytest.mark.parametrize(("policy", "come_first", "reason"), [
    ("require_all", (1,), "incomplete_branches"), ("require_all", (), "incomplete_branches"),
    ("quorum", (0,), "quorum_not_met"), ("best_effort", (), "incomplete_branches"), ("first", (), "incomplete_branches"),
])  # fmt: skip
def test_a_gather_that_cannot_merge_at_the_end_fails_with_what_it_held(
    cause: Closing, policy: PolicyName, come_first: tuple[int, ...], reason: str
) -> None:
    """A1, A3, C2, D6, law C4, law C5: by policy, with those missing by name; whoever was held ends with it."""
    here = known(2, come_first, policy)
    log = closing(cause, policy, come_first).say(group_failed(GATHER, cause, reason, here))
    assert replay(log.store(), log.run, deep=True).verdict.findings == []
    assert here.branches_missing == tuple(str(n) for n in (0, 1) if n not in come_first)
    assert ends(log) == {"0": "expanded", **{f"0:{n}": "failed" for n in come_first}}
    assert fold(log).open_groups == 0


@pytest.mark.parametrize("cause", ["end_of_source", "abandoned"])
def test_best_effort_merges_at_the_end_what_has_come(cause: Closing) -> None:
    """A1, D6, law C4, law C6: the child that did not come is missing from the facts and from the list."""
    log = closing(cause, "best_effort", (1,))
    merge(log, known(2, [1], "best_effort"), {"id": 7, "items": ITEMS[1:]}, cause)
    assert replay(log.store(), log.run, deep=True).verdict.findings == []
    assert ends(log) == {"0": "expanded", "0:1": "coalesced"}


def test_a_gather_that_was_closed_at_the_end_can_be_sealed_once_everybody_has_an_end() -> None:
    """C2, G5, law T1, law T7: the one that comes after is late, and nothing is open."""
    log = closing("end_of_source", "best_effort", (1,))
    merge(log, known(2, [1], "best_effort"), {"id": 7, "items": ITEMS[1:]}, "end_of_source")
    come(log, 0).say(arrived_late("0:0", GATHER, "merged")).write("out", GATHER)
    log.seal(late=1, expanded=1, coalesced=1, failed=1, completed=1)
    verdict = replay(log.store(), log.run, deep=True).verdict
    assert (verdict.findings, verdict.sealed, verdict.late_arrivals) == ([], True, 1)
    assert isinstance(log.said[-1], e.RunSealed)
