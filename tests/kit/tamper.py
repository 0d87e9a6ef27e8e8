"""Reaching into the in-memory store behind its back: what an attacker, a bug or a bad disk would have done."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ledger.codec import TYPE_OF, encode, event_token
from ledger.events import Event
from ledger.memory_store import MemoryStore
from ledger.reader import row_index_of
from ledger.store import Payload, Store, Stored, StreamHead
from ledger.tree import Frontier


def memory(store: Store) -> MemoryStore:
    """The store, which must be the in-memory one."""
    if not isinstance(store, MemoryStore):
        raise TypeError("only the in-memory store can be tampered with here")
    return store


def as_stored(event: Event) -> Stored:
    """A stamped event as the writer would store it."""
    token = event_token(event)
    return Stored(event.seq, TYPE_OF[type(event)], event.v, token, row_index_of(token), event.at, encode(event))


def edit_events(store: Store, run: str, edit: Callable[[list[Stored]], Iterable[Stored]]) -> None:
    """Replace a run's stored events, and nothing else."""
    stream = memory(store)._streams[run]
    stream.events = list(edit(list(stream.events)))


def edit_payload(store: Store, run: str, n: int, payload: Payload | None) -> None:
    """Replace (or drop) one payload."""
    kept = memory(store)._streams[run].payloads
    if payload is None:
        del kept[n]
    else:
        kept[n] = payload


def edit_head(store: Store, run: str, edit: Callable[[StreamHead], StreamHead]) -> None:
    """Replace a stream's record of itself."""
    stream = memory(store)._streams[run]
    stream.head = edit(stream.head)


def rehash(store: Store, run: str) -> None:
    """Make the head agree with the bytes that are there now: what a forger without a receipt to fool would do."""
    stream = memory(store)._streams[run]
    frontier = Frontier()
    for one in stream.events:
        frontier.append(one.body)
    stream.head = stream.head._replace(size=frontier.size, root=frontier.root(), frontier=frontier.pack())


def remove_run(store: Store, run: str) -> None:
    """Drop a whole stream."""
    del memory(store)._streams[run]
