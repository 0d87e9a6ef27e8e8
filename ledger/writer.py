"""The writer of one stream: encodes, hashes, buffers, commits.

Why: what is stored is exactly what is hashed, once, and one commit covers whatever a decision needed.

Invariants: events are added in seq order; nothing is visible to anyone before `commit` returns; after a failed commit
the writer is spoilt and must be dropped, for what it holds in memory was never acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ledger.codec import BODY_BYTES_MAX, TYPE_OF, encode, event_token
from ledger.errors import LedgerBroken
from ledger.events import Commitment, Event
from ledger.reader import commit as commitment_of
from ledger.reader import row_index_of
from ledger.store import Part, Payload, Store, StoreConflict, Stored, StreamHead, StreamStatus
from ledger.tree import Frontier

TURNS_MAX = 1000
"""How often a commit gives way to another process on a stream that both append to: the ledger's own."""


class Writer:
    """Appends to the stream of `run`, from `head` (None: the stream begins with the first commit)."""

    def __init__(self, store: Store, run: str, head: StreamHead | None = None, payloads: int = 0) -> None:
        self.store = store
        self.run = run
        self.payloads = payloads
        self.epoch = head.epoch if head else 0
        self._stored_size = head.size if head else None
        self._stored_epoch = self.epoch
        self._frontier = Frontier.unpack(head.size, head.frontier) if head else Frontier()
        self._events: list[Stored] = []
        self._kept: list[Payload] = []
        self._said = payloads

    @property
    def size(self) -> int:
        """Events of the stream, buffered ones included."""
        return self._frontier.size

    @property
    def buffered(self) -> int:
        """Events added and not yet committed."""
        return len(self._events)

    def root(self) -> str:
        """Root of the tree over all events so far, buffered ones included, as hex."""
        return self._frontier.root().hex()

    def keep(self, salt: bytes, data: bytes, *, permanent: bool = False) -> Commitment:
        """Buffer a payload under the next number and commit to it."""
        self.payloads += 1
        self._kept.append(Payload(self.payloads, salt, data, permanent))
        return Commitment(self.payloads, commitment_of(salt, data))

    def add(self, event: Event) -> None:
        """Buffer a stamped event. Raises `LedgerBroken` (BODY_TOO_LONG) instead of storing what could not be read back."""
        body = encode(event)
        if len(body) > BODY_BYTES_MAX:
            raise LedgerBroken("BODY_TOO_LONG", f"expected a body of at most {BODY_BYTES_MAX} bytes, found {len(body)}",
                               where=f"run {self.run} seq {event.seq} {type(event).__name__}",
                               next_step="this is a defect: long lists belong in a payload")
        token = event_token(event)
        self._frontier.append(body)
        self._events.append(
            Stored(event.seq, TYPE_OF[type(event)], event.v, token, row_index_of(token), event.at, body)
        )
        self.epoch = event.epoch
        self._said = self.payloads

    def forget_unsaid(self) -> None:
        """Drop the payloads that were put aside for an event that was then not added."""
        while self.payloads > self._said:
            self._kept.pop()
            self.payloads -= 1

    def part(self, status: StreamStatus) -> Part:
        """What the buffer would add to the stream."""
        head = StreamHead(self.run, self.size, self.epoch, self._frontier.root(), self._frontier.pack(), status)
        return Part(self._stored_size, self._stored_epoch, head, self._events, self._kept)

    def commit(self, status: StreamStatus, also: Callable[[], Sequence[Part]] = tuple) -> None:
        """Store the buffer, together with parts of other streams, in one durable transaction.

        `also` makes those parts, and makes them again when another process has appended to one of those streams meanwhile:
        each time it does, that process has got on, so this ends. Raises `StoreConflict` when it is this stream that was.
        """
        for turn in range(1, TURNS_MAX + 1):
            try:
                self.store.append([self.part(status), *also()])
                break
            except StoreConflict as conflict:
                if conflict.run == self.run or turn == TURNS_MAX:
                    raise
        self.committed()

    def committed(self) -> None:
        """Forget the buffer: its part has been stored."""
        self._stored_size = self.size
        self._stored_epoch = self.epoch
        self._events = []
        self._kept = []
