"""Every mutant on the list is noticed by its check: what the tests hold is not only said."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.simulation.mutant_children import tried, without
from tests.simulation.mutants import MUTANTS
from tests.simulation.mutation import Mutant, stale

TRAPS = {f"G{number}" for number in range(1, 14)}
MANY = 60


def test_every_mutant_is_killed_by_its_check() -> None:
    """F3, G1, G2, G3, G4, G5, G6, G7, G8, G9, G10, G11, G12, G13: all of them, by checks that pass without them."""
    assert without(sorted({mutant.check for mutant in MUTANTS})) == []
    told = list(tried(MUTANTS))
    print(*(one.line() for one in told), sep="\n")
    assert [one.line() for one in told if one.wrong] == []


def test_every_trap_has_a_mutant() -> None:
    """G1, G2, G3, G4, G5, G6, G7, G8, G9, G10, G11, G12, G13: and there are many, each with a name of its own."""
    assert {word for mutant in MUTANTS for word in re.findall(r"G\d+", mutant.breaks)} == TRAPS
    assert len(MUTANTS) >= MANY
    assert [name for name, count in Counter(mutant.name for mutant in MUTANTS).items() if count > 1] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_text_that_a_mutant_changes_is_there_once(mutant: Mutant) -> None:
    """A list that names what is not there any more holds nothing."""
    assert stale(mutant) is None


SOUND = next(mutant for mutant in MUTANTS if mutant.name == "quorum_off_by_one")
NOT_KILLED = {
    "passed": SOUND._replace(check="tests/ledger/test_coalesce_rules.py::"
                             "test_an_empty_gather_merges_where_nothing_can_be_missing[require_all]"),
    "its code is never imported": SOUND._replace(file="engine/loop.py", old="WAITING_MAX = 1000", new="WAITING_MAX = 1",
                                                 check="tests/ledger/test_tree.py::test_the_root_of_nothing_is_the_hash_of_nothing"),
    "there is no such check": SOUND._replace(check="tests/ledger/test_coalesce_rules.py::test_nothing_of_the_kind"),
    "not in its own words": SOUND._replace(new="met = len(arrived) >= needed"),
    "found it 0 times": SOUND._replace(old="met = len(arrived) >= needed"),
}  # fmt: skip


def test_what_is_no_kill_is_not_taken_for_one() -> None:
    """The trial of a mutant can fail: in each of the ways in which a check has not noticed."""
    told = list(tried(list(NOT_KILLED.values())))
    for text, one in zip(NOT_KILLED, told, strict=True):
        assert text in one.wrong, one
    broken = SOUND._replace(old="met = len(arrived) >= need", new="met = = need")
    assert "not in its own words" in next(tried([broken])).wrong
