"""The tree is RFC 6962's: against its own recursive definition, and against known answers."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.tree import EMPTY_ROOT, HASH_BYTES, Frontier

SIZES = range(71)
KNOWN_LEAVES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
KNOWN_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
"""The leaves and roots of the certificate transparency project's own tests."""


def naive(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive(leaves[:k]) + naive(leaves[k:])).digest()


def bodies(size: int) -> list[bytes]:
    """Bodies that differ."""
    return [b"body %d" % n for n in range(size)]


def grown(leaves: Sequence[bytes]) -> Frontier:
    """The tree of these leaves, one after the other."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier


@pytest.mark.parametrize("size", SIZES)
def test_the_root_is_that_of_the_recursive_definition(size: int) -> None:
    """law L5: one hash speaks for every byte of every body, in order."""
    assert grown(bodies(size)).root() == naive(bodies(size))


@pytest.mark.parametrize("size", range(1, len(KNOWN_ROOTS) + 1))
def test_the_root_is_the_known_answer(size: int) -> None:
    """The definition above could be wrong in the same way as the code; these are somebody else's numbers."""
    assert grown([bytes.fromhex(leaf) for leaf in KNOWN_LEAVES[:size]]).root().hex() == KNOWN_ROOTS[size - 1]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    """A stream that begins has a root too."""
    assert Frontier().root() == EMPTY_ROOT == sha256(b"").digest()


@pytest.mark.parametrize("size", SIZES)
def test_a_frontier_that_was_packed_grows_as_if_it_never_was(size: int) -> None:
    """A writer that resumes has the packed frontier and nothing else."""
    frontier = grown(bodies(size))
    packed = frontier.pack()
    assert len(packed) == HASH_BYTES * size.bit_count()
    again = Frontier.unpack(size, packed)
    assert (again.size, again.root(), again.pack()) == (size, frontier.root(), packed)
    again.append(b"one more")
    assert again.root() == naive([*bodies(size), b"one more"])


def test_growing_a_copy_leaves_the_original_alone() -> None:
    """Two writers from one frontier do not share it."""
    one = grown(bodies(5))
    root = one.root()
    grown_copy = Frontier(one.size, one.nodes)
    grown_copy.append(b"other")
    assert one.root() == root != grown_copy.root()


@pytest.mark.parametrize(("size", "length"), [(0, 32), (1, 0), (1, 31), (1, 64), (3, 32), (4, 64), (7, 64)])
def test_a_frontier_of_another_size_is_refused(size: int, length: int) -> None:
    """A head whose frontier does not fit its size is no head."""
    with pytest.raises(ValueError, match=f"{size} leaves"):
        Frontier.unpack(size, bytes(length))


def test_nodes_that_are_too_many_or_too_few_are_refused() -> None:
    """The same, by nodes."""
    with pytest.raises(ValueError, match="3 leaves has 2 frontier nodes, not 1"):
        Frontier(3, [bytes(HASH_BYTES)])


@given(st.lists(st.binary(max_size=40), max_size=20), st.data())
def test_any_change_of_any_body_changes_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    """law L5: other bytes, another order, one more, one less: another root."""
    root = grown(leaves).root()
    assert grown([*leaves, b""]).root() != root
    if not leaves:
        return
    place = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(st.binary(max_size=40))
    changed = [*leaves[:place], other, *leaves[place + 1:]]
    assert (grown(changed).root() == root) == (changed == leaves)
    assert grown(leaves[:-1]).root() != root
    assert (grown(leaves[::-1]).root() == root) == (leaves[::-1] == leaves)


def test_a_leaf_is_never_taken_for_a_node() -> None:
    """A body that spells two hashes is not the tree of those two leaves."""
    two = [b"left", b"right"]
    forged = b"".join(sha256(b"\x00" + leaf).digest() for leaf in two)
    assert grown([forged]).root() != grown(two).root()
