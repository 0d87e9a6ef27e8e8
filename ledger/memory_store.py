"""The in-memory store: the twin that tests and simulations use in place of a database.

Invariant: it passes the same contract suite as the stores that last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from ledger.store import Part, Payload, StoreConflict, Stored, StreamHead


class _Stream:
    def __init__(self, head: StreamHead) -> None:
        self.head = head
        self.events: list[Stored] = []
        self.payloads: dict[int, Payload] = {}


class MemoryStore:
    """Streams in dictionaries. `append` checks every part before it changes anything."""

    url = "memory:"

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}

    def append(self, parts: Sequence[Part]) -> None:
        """See `ledger.store.Store`."""
        for part in parts:
            self._check(part)
        for part in parts:
            stream = self._streams.setdefault(part.head.run, _Stream(part.head))
            stream.events.extend(part.events)
            stream.payloads.update({payload.n: payload for payload in part.payloads})
            stream.head = part.head

    def _check(self, part: Part) -> None:
        stream = self._streams.get(part.head.run)
        expected = "none" if part.expected_size is None else f"size {part.expected_size} epoch {part.expected_epoch}"
        found = "none" if stream is None else f"size {stream.head.size} epoch {stream.head.epoch}"
        if expected != found:
            raise StoreConflict(part.head.run, expected, found)
        first = (part.expected_size or 0) + 1
        if [event.seq for event in part.events] != list(range(first, part.head.size + 1)):
            raise StoreConflict(part.head.run, f"events {first}..{part.head.size}", "a gap or a repetition")
        known = len(stream.payloads) if stream else 0
        if [payload.n for payload in part.payloads] != list(range(known + 1, known + len(part.payloads) + 1)):
            raise StoreConflict(part.head.run, f"payloads from {known + 1}", "a gap or a repetition")

    def head(self, run: str) -> StreamHead | None:
        """See `ledger.store.Store`."""
        stream = self._streams.get(run)
        return stream.head if stream else None

    def heads(self) -> list[StreamHead]:
        """See `ledger.store.Store`."""
        return [stream.head for stream in self._streams.values()]

    def read(self, run: str, after: int = 0, until: int | None = None) -> Iterator[Stored]:
        """See `ledger.store.Store`."""
        stream = self._streams.get(run)
        return iter(stream.events[after:until] if stream else ())

    def payloads(self, run: str, numbers: Sequence[int]) -> dict[int, Payload]:
        """See `ledger.store.Store`."""
        stream = self._streams.get(run)
        return {n: stream.payloads[n] for n in numbers if n in stream.payloads} if stream else {}

    def payloads_between(self, run: str, first: int, last: int) -> Iterator[Payload]:
        """See `ledger.store.Store`."""
        stream = self._streams.get(run)
        kept = stream.payloads if stream else {}
        return (payload for n, payload in kept.items() if first <= n <= last)

    def kinds(self) -> list[tuple[str, int, int]]:
        """See `ledger.store.Store`."""
        found = Counter((event.type, event.v) for stream in self._streams.values() for event in stream.events)
        return [(*kind, count) for kind, count in sorted(found.items())]

    def hold(self, run: str) -> None:
        """See `ledger.store.Store`: there is no other process."""

    def wait(self, seconds: float) -> None:
        """See `ledger.store.Store`: whoever appends is this process, so there is nothing to wait for."""

    def guards(self) -> list[str]:
        """See `ledger.store.Store`: nothing can be changed but through `append`."""
        return []

    def snapshot(self) -> AbstractContextManager[None]:
        """See `ledger.store.Store`: there is no other writer."""
        return nullcontext()

    def close(self) -> None:
        """See `ledger.store.Store`: nothing to release."""
