"""The graph of upcasters: one path from every version to today's, and whatever is wrong with it found by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.codec import VERSIONS
from ledger.errors import LedgerBroken
from ledger.upcaster_graph import Edge, Flaw, flaws
from ledger.upcasters import FINGERPRINT, UPCASTERS, Kind, Upcaster, Upcasters
from tests.house.tree import ROOT
from tests.ledger import lawful_groups


def test_production_knows_one_path_from_every_version_that_was_ever_written() -> None:
    """W12, law L5: its own table has no gap, no cycle, no branch, and ends at what is written now."""
    assert flaws([(one.of, one.to) for one in UPCASTERS.table], VERSIONS) == []
    for type_, current in VERSIONS.items():
        for version in range(1, current + 1):
            path = UPCASTERS.path((type_, version))
            assert path is not None and [step.of for step in path][:1] == [(type_, version)][: len(path)]
    assert UPCASTERS.versions is VERSIONS and UPCASTERS.fingerprint == FINGERPRINT


NOW: Mapping[str, int] = {"A": 3, "B": 1}
WHOLE: Sequence[Edge] = ((("A", 1), ("A", 2)), (("A", 2), ("A", 3)), (("Old", 1), ("Old", 2)), (("Old", 2), ("B", 1)))

WRONG: Mapping[str, tuple[Sequence[Edge], list[Flaw]]] = {
    "gap at the beginning": (WHOLE[1:], [Flaw("gap", ("A", 1))]),
    "gap in the midst": ([WHOLE[0], *WHOLE[2:]], [Flaw("gap", ("A", 2))]),
    "gap in what is retired": ([*WHOLE[:2], WHOLE[3]], [Flaw("gap", ("Old", 1))]),
    "nothing leads on": (WHOLE[:3], [Flaw("nowhere", ("Old", 2))]),
    "to what nobody knows": ([*WHOLE, (("Older", 1), ("Unknown", 1))], [Flaw("nowhere", ("Unknown", 1))]),
    "to a version that is not there yet": ([*WHOLE[:3], (("Old", 2), ("B", 2))], [Flaw("nowhere", ("B", 2))]),
    "branch": ([*WHOLE, (("Old", 1), ("B", 1))], [Flaw("branch", ("Old", 1))]),
    "the same twice": ([*WHOLE, WHOLE[0]], [Flaw("branch", ("A", 1))]),
    "cycle": ([*WHOLE[:3], (("Old", 2), ("Old", 1))], [Flaw("cycle", ("Old", 1)), Flaw("jump", ("Old", 2))]),
    "to itself": ([*WHOLE, (("Older", 1), ("Older", 1))], [Flaw("cycle", ("Older", 1)), Flaw("jump", ("Older", 1))]),
    "from what is written now": ([*WHOLE, (("B", 1), ("A", 3))], [Flaw("current", ("B", 1))]),
    "from the future": ([*WHOLE, (("B", 2), ("A", 3))], [Flaw("current", ("B", 2))]),
    "over a version": ([(("A", 1), ("A", 3)), *WHOLE[1:]], [Flaw("jump", ("A", 1))]),
}
"""What is wrong with upcasters, and what is said of it."""


def test_upcasters_that_are_whole_have_no_flaw() -> None:
    """W12: the twin of what follows."""
    assert flaws(WHOLE, NOW) == [] and flaws([], {"A": 1}) == []


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_upcasters_is_named_with_its_place(name: str) -> None:
    """W12, law L5: a gap, a cycle, a branch, an edge into nowhere or out of today; and nothing is read then."""
    edges, found = WRONG[name]
    assert flaws(edges, NOW) == sorted(found)
    table = Upcasters([Upcaster(of, to, lambda fields: fields) for of, to in edges], NOW)
    with pytest.raises(LedgerBroken) as raised:
        table.path(("A", 1))
    assert raised.value.code == "UPCASTERS_INVALID" and str(min(found)) in str(raised.value)
    assert table.path(("A", 3)) == ()


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[Edge], dict[str, int]]:
    """Types at any version, and retired ones that end at any of them, straight or one by another."""
    now = {f"T{n}": draw(st.integers(1, 4)) for n in range(draw(st.integers(1, 4)))}
    edges = [((type_, v), (type_, v + 1)) for type_, current in now.items() for v in range(1, current)]
    for n in range(draw(st.integers(0, 4))):
        name, last = f"R{n}", draw(st.integers(1, 3))
        ends = sorted({kind for edge in edges for kind in edge} | set(now.items()))
        chain = [(name, v) for v in range(1, last + 1)] + [draw(st.sampled_from(ends))]
        edges += list(pairwise(chain))
    return edges, now


@given(chains(), st.randoms())
def test_every_version_reaches_a_current_one_in_exactly_one_way(made: tuple[list[Edge], dict[str, int]], random: Random
                                                               ) -> None:
    """W12, law L5: whatever the chains are; counted by walking every edge there is."""
    edges, now = made
    random.shuffle(edges)
    table = Upcasters([Upcaster(of, to, lambda fields: fields) for of, to in edges], now)
    assert flaws(edges, now) == []

    def ways(kind: Kind) -> list[Kind]:
        further = [to for of, to in edges if of == kind]
        return [end for to in further for end in ways(to)] if further else [kind]

    for kind in {kind for edge in edges for kind in edge} | set(now.items()):
        (end,) = ways(kind)
        path = table.path(kind)
        assert now[end[0]] == end[1] and path is not None
        assert [step.to for step in path][-1:] == ([end] if path else []) and table.becomes(kind) == end[0]
        assert len(path) == 0 or (path[0].of == kind and all(a.to == b.of for a, b in pairwise(path)))
    assert table.path(("T0", 9)) is None and table.becomes(("R9", 1)) is None


@given(chains(), st.data())
def test_one_fault_in_a_whole_graph_is_found(made: tuple[list[Edge], dict[str, int]], data: st.DataObject) -> None:
    """W12, law L5: an upcaster taken away, one added from a version that has one, one from what is written now, one back."""
    edges, now = made
    current = data.draw(st.sampled_from(sorted(now.items())))
    assert Flaw("current", current) in flaws([*edges, (current, ("T0", 1))], now)
    assert Flaw("nowhere", ("Elsewhere", 1)) in flaws([*edges, (("New", 1), ("Elsewhere", 1))], now)
    if not edges:
        return
    of, to = data.draw(st.sampled_from(sorted(edges)))
    rest = [edge for edge in edges if edge[0] != of]
    known = of[0] in now or any(of in edge or (edge[0][0] == of[0] and edge[0][1] > of[1]) for edge in rest)
    assert (of in {flaw.at for flaw in flaws(rest, now)}) == known
    assert Flaw("branch", of) in flaws([*edges, (of, ("T0", now["T0"]))], now)
    around = [edge for edge in edges if edge[0] != to]
    assert "cycle" in {flaw.kind for flaw in flaws([*around, (to, of)], now)}


def test_what_a_store_holds_and_nobody_reads_is_listed() -> None:
    """W12: each such kind with the number of its events; kinds that a path covers are not."""
    kinds = [("RunStarted", 1, 3), ("RunStarted", 2, 9), ("RunStarted", 3, 1), ("RowRead", 1, 5), ("RowSeen", 1, 4)]
    assert UPCASTERS.uncovered(kinds) == [("RowSeen", 1, 4), ("RunStarted", 3, 1)]
    assert UPCASTERS.uncovered(lawful_groups.all_arrived().store().kinds()) == []


def test_versions_that_are_no_numbers_are_listed_too() -> None:
    """W12: a column may hold anything; numbers stand in their order, before what is none."""
    strange: list[tuple[Any, Any, int]] = [("RowRead", "zz", 1), ("RowRead", 10, 1), ("RowRead", None, 1), ("RowRead", 9, 1),
                                           (b"RowRead", 1, 1), (7, 1, 1), ("RowRead", b"1", 1), ("RowRead", 1.5, 1)]
    for kinds in (strange, strange[::-1]):
        found = UPCASTERS.uncovered(kinds)
        assert sorted(found, key=repr) == sorted(strange, key=repr)
        assert [version for type_, version, _ in found if type_ == "RowRead"][:3] == [1.5, 9, 10]
    assert UPCASTERS.uncovered(strange) == UPCASTERS.uncovered(strange[::-1])


def test_a_changed_upcaster_changes_the_fingerprint() -> None:
    """F5: read tables that were made by another edition, or without it, are made again."""
    table = UPCASTERS.table
    others = [Upcasters(other, VERSIONS).fingerprint for other in (
        (), (table[0]._replace(edition=2), *table[1:]), (*table, Upcaster(("RowSeen", 1), ("RowRead", 1), dict)))]
    assert len({FINGERPRINT, *others}) == 4
    assert Upcasters(table[::-1], VERSIONS).fingerprint == FINGERPRINT


CURRENT_ONLY = """
import sys
from ledger import ids, reader, registry, verify
from ledger.memory_store import MemoryStore
from ledger.replay import replay
store = MemoryStore()
registry.create(store, "test", 1)
assert [event.ledger for _, event in reader.events(store, ids.LEDGER_STREAM)] == ["test"]
assert verify.integrity(store, ids.LEDGER_STREAM) == []
replay(store, "none")
assert "networkx" not in sys.modules, "networkx"
from ledger.upcasters import UPCASTERS
UPCASTERS.path(("RunStarted", 1))
assert "networkx" in sys.modules
"""


def test_who_meets_no_earlier_event_does_not_pay_for_the_graph() -> None:
    """W12: a process that writes and reads today's shapes never imports networkx for upcasters."""
    command = [sys.executable, "-c", CURRENT_ONLY]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
