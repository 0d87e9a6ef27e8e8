"""Logs as an earlier program would have written them: the same events, some of them in shapes that are no more.

Why: whatever reads a log has to give of it what it gives of the same log in today's shapes. The shapes are invented; the
upcasters from them are handed to production's own machinery.

Invariant: the tree, the heads, the seals and what the ledger's own stream says of them belong to the bytes that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from ledger import ids
from ledger.codec import HEADER, VERSIONS
from ledger.memory_store import MemoryStore
from ledger.store import Part, Store, Stored
from ledger.tree import Frontier
from ledger.upcasters import UPCASTERS, Fields, Kind, Upcaster, Upcasters

Back = Callable[[Fields], Fields | None]
"""An event's fields as the earlier shape had them; None where that shape was not used."""


class Step(NamedTuple):
    """One earlier shape of a type: how it was said then, and the upcaster from it."""

    back: Back
    up: Upcaster


class Change(NamedTuple):
    """What has changed: the earlier shapes, the latest first where one came of another."""

    steps: tuple[Step, ...]

    @property
    def upcasters(self) -> Upcasters:
        """Production's upcasters and those of this change."""
        return Upcasters((*UPCASTERS.table, *(step.up for step in self.steps)), VERSIONS)


def change(*steps: tuple[Kind, Kind, Back, Callable[[Fields], Fields]], token: str | None = None) -> Change:
    """A change of steps (earlier kind, later kind, how to say it as the earlier, how to read that)."""
    return Change(tuple(Step(back, Upcaster(of, to, up, token=token)) for of, to, back, up in steps))


def aged(store: Store, made: Change, into: MemoryStore) -> list[int]:
    """Write what is in the store into another, empty one, as it was said before the change; the seqs that are other now.

    Only the runs' seqs are given, in their order.
    """
    roots: dict[str, str] = {}
    parts, touched = [], []
    for head in sorted(store.heads(), key=lambda head: head.run == ids.LEDGER_STREAM):
        frontier, events = Frontier(), []
        for one in store.read(head.run):
            said = _earlier(_resealed(one, frontier, roots), made)
            touched += [one.seq] if said[1:3] != one[1:3] and head.run != ids.LEDGER_STREAM else []
            frontier.append(said.body)
            events.append(said)
        roots[head.run] = frontier.root().hex()
        now = head._replace(root=frontier.root(), frontier=frontier.pack())
        parts.append(Part(None, 0, now, events, list(store.payloads_between(head.run, 1, 2**62))))
    into.append(parts[::-1])
    return touched


def _resealed(one: Stored, before: Frontier, roots: Mapping[str, str]) -> Stored:
    """A seal states the root of the bytes that stand before it now."""
    if one.type not in ("RunSealed", "RunClosed"):
        return one
    raw = msgspec.json.decode(one.body)
    root = before.root().hex() if one.type == "RunSealed" else roots[raw["closed"]]
    return one._replace(body=msgspec.json.encode(raw | {"root": root}))


def _earlier(one: Stored, made: Change) -> Stored:
    kind = (one.type, one.v)
    raw: dict[str, Any] = msgspec.json.decode(one.body)
    header = {name: raw.pop(name) for name in HEADER if name in raw}
    fields: Fields = raw
    for step in made.steps:
        said = step.back(dict(fields)) if step.up.to == kind else None
        if said is not None:
            kind, fields = step.up.of, said
    if kind == (one.type, one.v):
        return one
    body = msgspec.json.encode({**header, "type": kind[0], "v": kind[1], **fields})
    return one._replace(type=kind[0], v=kind[1], body=body)
