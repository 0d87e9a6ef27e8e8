"""Verify: do the bytes hold? Tree, columns, bodies, payloads, guards, seals; and completeness against a receipt.

Why its own answers: a log can be whole and unlawful, or lawful and cut short; each is said apart.

Invariants: reads, never writes; collects findings and does not stop at the first; what a kept receipt alone could show
is `not_proven` without one, never `ok`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
from msgspec import Struct

from ledger import ids, reader
from ledger.codec import Undecodable, decode, encode, event_token
from ledger.events import Commitment, Event, PayloadErased, RunClosed, RunSealed
from ledger.store import Payload, Store, Stored
from ledger.tree import Frontier

FINDINGS_MAX = 100


class Fault(Struct, frozen=True, kw_only=True):
    """One thing that does not hold. `kind`: `gap, body, column, tree, payload, guard, seal, registry`."""

    kind: str
    run: str
    seq: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.kind} at run {self.run}" + (f" seq {self.seq}" if self.seq is not None else "") + f": {self.text}"


class Completeness(Struct, frozen=True, kw_only=True):
    """Whether the log is all there, as far as a receipt `SIZE:ROOT` kept elsewhere can tell."""

    status: Literal["proven", "not_proven", "failed"]
    text: str


def guards(store: Store) -> list[Fault]:
    """The faults of the append-only guards."""
    return [Fault(kind="guard", run="", seq=None, text=text) for text in store.guards()]


def integrity(store: Store, run: str) -> list[Fault]:
    """Every fault of one stream's bytes, up to `FINDINGS_MAX`."""
    check = _Stream(store, run)
    for stored in store.read(run):
        check.stored(stored)
        if len(check.faults) >= FINDINGS_MAX:
            return check.faults
    check.head()
    if run != ids.LEDGER_STREAM:
        check.registry()
    return check.faults


def completeness(store: Store, run: str, expect: tuple[int, str] | None) -> Completeness:
    """Compare with a receipt: the log must be at least that long, and have that root at that size."""
    if expect is None:
        return Completeness(status="not_proven", text="no receipt given: a cut tail or a rolled-back file would not show")
    size, root = expect
    frontier = Frontier()
    for stored in store.read(run, until=size):
        frontier.append(stored.body)
    if frontier.size < size:
        return Completeness(status="failed", text=f"expected at least {size} events, found {frontier.size}")
    if frontier.root().hex() != root:
        return Completeness(status="failed", text=f"expected root {root} at {size}, found {frontier.root().hex()}")
    return Completeness(status="proven", text=f"{size} events as in the receipt")


class _Stream:
    """Walks one stream."""

    def __init__(self, store: Store, run: str) -> None:
        self.faults: list[Fault] = []
        self._store = store
        self._run = run
        self._frontier = Frontier()
        self._next_payload = 1
        self._erased = _erased(store, run)
        self._payloads = store.payloads_between(run, 1, 2**62)
        self._sealed: RunSealed | None = None

    def stored(self, stored: Stored) -> None:
        """Check one stored event, and the payloads it introduces."""
        expected = self._frontier.size + 1
        if stored.seq != expected:
            self._fault("gap", stored.seq, f"expected seq {expected}, found {stored.seq}")
        if stored.type == "RunSealed":
            self._seal(stored)
        self._frontier.append(stored.body)
        try:
            event = decode(stored.body, stored.type, stored.v, run=self._run, seq=stored.seq)
        except Undecodable as unreadable:
            self._fault("body", stored.seq, unreadable.found)
            return
        if encode(event) != stored.body:
            self._fault("body", stored.seq, "the bytes are not those that this event encodes to")
        self._columns(stored, event)
        for commitment in commitments(event):
            self._payload(stored.seq, commitment)

    def _columns(self, stored: Stored, event: Event) -> None:
        token = event_token(event)
        body = (event.seq, type(event).__name__, event.v, token, reader.row_index_of(token), event.at, event.run)
        if body != (*stored[:6], self._run):
            self._fault("column", stored.seq, f"the index columns {stored[:6]} are not the body's {body}")

    def _payload(self, seq: int, commitment: Commitment) -> None:
        payload = next(self._payloads, None)
        if commitment.n != self._next_payload or payload is None or payload.n != commitment.n:
            found = "none" if payload is None else f"payload {payload.n}"
            self._fault("payload", seq, f"expected payload {commitment.n}, found {found}")
        elif payload.bytes is None or payload.salt is None:
            if payload.n not in self._erased:
                self._fault("payload", seq, f"payload {payload.n} is gone without a record of its erasure")
        elif not reader.holds(payload, commitment):
            self._fault("payload", seq, f"payload {payload.n} is not the one committed to")
        self._next_payload += 1

    def _seal(self, stored: Stored) -> None:
        try:
            event = msgspec.json.decode(stored.body, type=RunSealed)
        except msgspec.DecodeError:
            return
        self._sealed = event
        if (event.size, event.root) != (self._frontier.size, self._frontier.root().hex()):
            self._fault("seal", stored.seq, f"it states {event.size}:{event.root}, the bytes before it say otherwise")

    def head(self) -> None:
        """Compare the walk with the stream's own record of itself."""
        head = self._store.head(self._run)
        if head is None:
            self._fault("tree", None, "the stream is gone")
            return
        found = (self._frontier.size, self._frontier.root(), self._frontier.pack())
        if found != (head.size, head.root, head.frontier):
            self._fault("tree", None, f"recorded {head.size}:{head.root.hex()}, "
                        f"the bytes give {found[0]}:{found[1].hex()}")
        extra: Payload | None = next(self._payloads, None)
        if extra is not None:
            self._fault("payload", None, f"payload {extra.n} is in no event")

    def registry(self) -> None:
        """Compare a sealed run with what the ledger's own stream says of it."""
        closed = [event for event in _ledger_events(self._store) if isinstance(event, RunClosed)
                  and event.closed == self._run]
        stated = [(event.size, event.root) for event in closed]
        found = [(self._frontier.size, self._frontier.root().hex())] if self._sealed is not None else []
        if stated != found:
            self._fault("registry", None, f"the ledger's stream states {stated or 'no seal'}, "
                        f"the run's gives {found or 'no seal'}")

    def _fault(self, kind: str, seq: int | None, text: str) -> None:
        self.faults.append(Fault(kind=kind, run=self._run, seq=seq, text=text))


def commitments(value: object) -> Iterator[Commitment]:
    """The commitments in an event, in the order in which they introduce payloads."""
    found: list[Commitment] = []
    _collect(value, found)
    found.sort(key=lambda commitment: commitment.n)
    return iter(found)


def _collect(value: object, found: list[Commitment]) -> None:
    if isinstance(value, Commitment):
        found.append(value)
    elif isinstance(value, tuple):
        for item in value:
            _collect(item, found)
    elif isinstance(value, Struct):
        for field in value.__struct_fields__:
            _collect(getattr(value, field), found)


def _ledger_events(store: Store) -> Iterator[Event]:
    for stored in store.read(ids.LEDGER_STREAM):
        try:
            yield decode(stored.body, stored.type, stored.v, run=ids.LEDGER_STREAM, seq=stored.seq)
        except Undecodable:
            return


def _erased(store: Store, run: str) -> frozenset[int]:
    events = (event for event in _ledger_events(store) if isinstance(event, PayloadErased) and event.erased == run)
    return frozenset(number for event in events for number in event.payloads)
