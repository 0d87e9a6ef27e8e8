"""The Merkle tree of a stream: RFC 6962 section 2.1 over SHA-256, kept as its frontier.

Why: one 32-byte root speaks for every byte of every body before it, and appending costs one hash a leaf and one a node.

Invariants: a leaf is `sha256(0x00 || body)`, an inner node `sha256(0x01 || left || right)`; the frontier holds the roots
of the perfect subtrees of the tree, largest first, so their sizes are the binary digits of the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()
HASH_BYTES = 32


class Frontier:
    """An append-only tree of `size` leaves."""

    __slots__ = ("nodes", "size")

    def __init__(self, size: int = 0, nodes: Sequence[bytes] = ()) -> None:
        if len(nodes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} frontier nodes, not {len(nodes)}")
        self.size = size
        self.nodes = list(nodes)

    @classmethod
    def unpack(cls, size: int, packed: bytes) -> Frontier:
        """The frontier that `pack` gave. Raises ValueError when the bytes are no whole nodes of a tree of that size."""
        if len(packed) != HASH_BYTES * size.bit_count():
            raise ValueError(f"a tree of {size} leaves packs to {HASH_BYTES * size.bit_count()} bytes, not {len(packed)}")
        return cls(size, [packed[start : start + HASH_BYTES] for start in range(0, len(packed), HASH_BYTES)])

    def pack(self) -> bytes:
        """The nodes, largest subtree first, as bytes."""
        return b"".join(self.nodes)

    def append(self, body: bytes) -> None:
        """Add the leaf of one body."""
        node = sha256(b"\x00" + body).digest()
        nodes, size = self.nodes, self.size
        while size & 1:
            node = sha256(b"\x01" + nodes.pop() + node).digest()
            size >>= 1
        nodes.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The tree's root hash (of the empty tree: the hash of nothing)."""
        if not self.nodes:
            return EMPTY_ROOT
        node = self.nodes[-1]
        for left in reversed(self.nodes[:-1]):
            node = sha256(b"\x01" + left + node).digest()
        return node
