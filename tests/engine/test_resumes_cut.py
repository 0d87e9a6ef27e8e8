"""Runs of every kind, cut at every one of their appends and carried on: what comes out is what the uncut run gives.

A cut is the death of the process: before an append is stored, or after it is stored and before anyone was told.
"""

from __future__ import annotations

from functools import cache

import pytest

from tests.kit.deaths import Cut, MortalStore, carried_on, cuts, died_at, facts
from tests.kit.pipelines import Ran, Trial
from tests.kit.small_runs import SMALL

TWICE = ("linear", "gated", "invalid", "gate_routed", "collided", "batch_tried_again", "empty", "asked_twice")
"""Small ones, of which the resumed run is cut again at its every append."""
MANY = 25


@cache
def whole(name: str) -> tuple[dict[str, object], int]:
    """What the uncut run gives, and how often it appends."""
    made = SMALL[name](MortalStore())
    ran = made.go()
    assert ran.verdict.sealed
    return facts(ran), appends(made)


def appends(made: Trial) -> int:
    """How often anything was appended to its store."""
    assert isinstance(made.store, MortalStore)
    return len(made.store.appends)


def check(name: str, *places: Cut) -> Ran:
    """Cut, carry on, compare."""
    made = died_at(SMALL[name], *places)
    ran = carried_on(made)
    assert ran.verdict.sealed
    assert facts(ran) == whole(name)[0], places
    return ran


@pytest.mark.parametrize("name", SMALL)
def test_a_run_that_is_cut_at_any_append_gives_what_the_uncut_one_gives(name: str) -> None:
    """W1, D9, G7, G13, C4, law P3: the same tokens with the same ends, rows in the same order, the same decisions."""
    for cut in cuts(whole(name)[1]):
        check(name, cut)


@pytest.mark.parametrize("name", TWICE)
def test_a_resumed_run_that_is_cut_again_gives_what_the_uncut_one_gives(name: str) -> None:
    """G7, G13, law P3: every cut of every cut."""
    for first in cuts(whole(name)[1]):
        resumed = died_at(SMALL[name], first)
        before = appends(resumed)
        carried_on(resumed)
        for second in cuts(appends(resumed), before + 1):
            check(name, first, second)


@pytest.mark.parametrize("name", SMALL)
def test_processes_that_each_get_one_step_further_come_to_the_end(name: str) -> None:
    """D9, G13, law P3: each process appends a claim and two things more, then dies; the run ends, and as it should."""
    made = SMALL[name](MortalStore())
    store = made.store
    assert isinstance(store, MortalStore)
    for _ in range(4 * MANY):
        store.revive(len(store.appends) + 3, stored=True)
        ran = _lives(made)
        if ran is not None:
            assert ran.verdict.sealed
            assert facts(ran) == whole(name)[0]
            return
    raise AssertionError("no process came further than the one before it")


def _lives(made: Trial) -> Ran | None:
    try:
        return carried_on(made)
    except KeyboardInterrupt:
        return None


def test_the_comparison_can_fail() -> None:
    """Another run gives other facts, in each of them."""
    one, other = facts(SMALL["batch_count"](MortalStore()).go()), facts(SMALL["gathered"](MortalStore()).go())
    assert all(one[fact] != other[fact] for fact in one)


def test_runs_have_many_places_to_be_cut_at() -> None:
    """The cuts above are many: among them effects, writes, and the time between a batch and its next attempt."""
    assert sum(whole(name)[1] for name in SMALL) > 300
