"""Appending to any store in tests: streams of small made-up events, without a run behind them."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.errors import LedgerUnavailable
from ledger.store import Part, Payload, Store, Stored, StreamHead, StreamStatus
from ledger.tree import Frontier


def event(seq: int, body: bytes = b"") -> Stored:
    """An event as stored; its body is told from others by its seq."""
    return Stored(seq, "Routed", 1, None if seq % 2 else str(seq), None if seq % 2 else seq, 1000 + seq,
                  body or b"body %d" % seq)


def payload(n: int, permanent: bool = False) -> Payload:
    """A payload as stored."""
    return Payload(n, b"salt %d" % n, b"bytes %d" % n, permanent)


def head_at(run: str, size: int, epoch: int = 1, status: StreamStatus = "running") -> StreamHead:
    """The head of a stream of `event`s of this size."""
    frontier = Frontier()
    for seq in range(1, size + 1):
        frontier.append(event(seq).body)
    return StreamHead(run, size, epoch, frontier.root(), frontier.pack(), status)


def part(run: str, old: int | None, new: int, *, epoch: int = 1, to_epoch: int | None = None,
         payloads: Sequence[Payload] = (), status: StreamStatus = "running") -> Part:
    """What brings a stream from size `old` (None: it does not exist) to size `new`."""
    events = [event(seq) for seq in range((old or 0) + 1, new + 1)]
    return Part(old, 0 if old is None else epoch, head_at(run, new, to_epoch or epoch, status), events, payloads)


def everything(store: Store) -> list[tuple[StreamHead, list[Stored], list[Payload]]]:
    """All that a store holds."""
    return [(head, list(store.read(head.run)), list(store.payloads_between(head.run, 1, 10_000)))
            for head in store.heads()]


def refused(store: Store, *parts: Part) -> str:
    """The code with which the store refuses these parts; it must hold what it held before."""
    before = everything(store)
    try:
        store.append(parts)
    except LedgerUnavailable as error:
        if everything(store) != before:
            raise AssertionError("a refused append stored something") from error
        return error.code
    raise AssertionError("stored")
