"""The event store: what every keeper of the log must do, whatever it is made of.

Why a protocol: SQLite, PostgreSQL and the in-memory store pass one contract suite, and the writer, the readers and the
verifier know only this.

Invariants of every store:
- A stream is one run's (or the ledger's own); `(stream, seq)` is the only order anything depends on.
- `append` is one transaction over all its parts: it names the size and the epoch it expects of each stream and stores
  everything or nothing. It returns only when the bytes are durable.
- Nothing stored is ever changed, but payloads can be erased (salt and bytes become null).
- Reading never blocks writing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, Protocol

from ledger.errors import LedgerUnavailable

PAYLOAD_BYTES_MAX = 900_000_000
"""What every store holds: SQLite's rows are of at most 1 000 000 000 bytes unless it was built otherwise."""

StreamStatus = Literal["running", "interrupted", "completed", "failed", "ledger"]


class Stored(NamedTuple):
    """One stored event: the index columns and the body as it was hashed."""

    seq: int
    type: str
    v: int
    token: str | None
    row_index: int | None
    at: int
    body: bytes


class Payload(NamedTuple):
    """One payload. `permanent` ones (lists, settings) are never erased; an erased one has neither salt nor bytes."""

    n: int
    salt: bytes | None
    bytes: bytes | None
    permanent: bool = False


class StreamHead(NamedTuple):
    """Where a stream stands: the concurrency point. `root` and `frontier` are those of its tree at `size`."""

    run: str
    size: int
    epoch: int
    root: bytes
    frontier: bytes
    status: StreamStatus


class Part(NamedTuple):
    """What one append adds to one stream: from `expected` (None: the stream must not exist yet) to `head`."""

    expected_size: int | None
    expected_epoch: int
    head: StreamHead
    events: Sequence[Stored]
    payloads: Sequence[Payload] = ()


class StoreConflict(LedgerUnavailable):
    """The stream is not where the writer thought: another writer overtook it. Nothing was stored."""

    def __init__(self, run: str, expected: str, found: str) -> None:
        self.run = run
        super().__init__(
            "FENCED",
            f"expected stream at {expected}, found {found}",
            where=f"run {run}",
            next_step="another process carries this run on; let it, or resume when it has stopped",
        )


class Store(Protocol):
    """An append-only log of streams with their payloads."""

    url: str

    def append(self, parts: Sequence[Part]) -> None:
        """Store all parts in one durable transaction, or raise `StoreConflict` and store nothing."""
        ...

    def head(self, run: str) -> StreamHead | None:
        """Where a run's stream stands, or None when there is none."""
        ...

    def heads(self) -> list[StreamHead]:
        """Every stream, in the order of creation, the ledger's own first."""
        ...

    def read(self, run: str, after: int = 0, until: int | None = None) -> Iterator[Stored]:
        """The events with `after < seq <= until` in order, fetched in batches."""
        ...

    def payloads(self, run: str, numbers: Sequence[int]) -> dict[int, Payload]:
        """The payloads with these numbers; one that does not exist is absent."""
        ...

    def payloads_between(self, run: str, first: int, last: int) -> Iterator[Payload]:
        """The payloads `first <= n <= last` in order, fetched in batches."""
        ...

    def kinds(self) -> list[tuple[str, int, int]]:
        """Every (type, version) that is stored, with the number of its events: the whole log is read for it."""
        ...

    def hold(self, run: str) -> None:
        """Be the one process that writes `run`, until `close`. Raises `LedgerUnavailable` (RUN_HELD) while another is."""
        ...

    def wait(self, seconds: float) -> None:
        """Return when something may have been appended, after `seconds` at the latest. A hint: positions are the truth."""
        ...

    def guards(self) -> list[str]:
        """What is wrong with the guards that keep the log append-only, and what lies here that is no part of a log."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Inside, everything read is of one moment, whatever a writer does meanwhile."""
        ...

    def close(self) -> None:
        """Release the store and its lock."""
        ...
