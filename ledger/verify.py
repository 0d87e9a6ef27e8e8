"""Verify: do the bytes hold? Tree, columns, bodies, payloads, guards, seals; and completeness against a receipt.

Why its own answers: a log can be whole and unlawful, or lawful and cut short; each is said apart.

Invariants: reads, never writes; collects findings and does not stop at the first; what a kept receipt alone could show
is `not_proven` without one, never `ok`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from ledger import ids, reader
from ledger.codec import Undecodable, decode, is_canonical
from ledger.events import Commitment, Event, PayloadErased, RunClosed, RunInterrupted, RunOpened, RunSealed
from ledger.laws import LawBroken
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


def registry(store: Store) -> list[Fault]:
    """Whether the ledger's own stream and the runs' streams tell of the same runs: a run removed whole shows here."""
    opened = [event.opened for event in _ledger_events(store) if isinstance(event, RunOpened)]
    closed = [event.closed for event in _ledger_events(store) if isinstance(event, RunClosed)]
    runs = [head.run for head in store.heads() if head.run != ids.LEDGER_STREAM]
    texts = [(run, "the ledger's stream opened it, and its own stream is gone") for run in opened if run not in set(runs)]
    texts += [(run, "its stream is here, and the ledger's stream never opened it") for run in runs if run not in set(opened)]
    texts += [(run, "the ledger's stream opened it twice") for run in sorted(set(opened)) if opened.count(run) > 1]
    texts += [(run, "the ledger's stream closed it and never opened it") for run in closed if run not in set(opened)]
    return [Fault(kind="registry", run=run, seq=None, text=text) for run, text in texts]


def integrity(store: Store, run: str) -> list[Fault]:
    """Every fault of one stream's bytes, up to `FINDINGS_MAX`."""
    with store.snapshot():
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
    if size < 1:
        return Completeness(status="not_proven", text="a receipt of no events proves nothing")
    frontier = Frontier()
    for stored in store.read(run, until=size):
        frontier.append(as_bytes(stored.body))
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
        self._last: Event | None = None

    def stored(self, stored: Stored) -> None:
        """Check one stored event, and the payloads it introduces."""
        expected = self._frontier.size + 1
        if stored.seq != expected:
            self._fault("gap", stored.seq, f"expected seq {expected}, found {stored.seq}")
        event = self._decoded(stored)
        if isinstance(event, RunSealed):
            self._seal(event)
        self._frontier.append(as_bytes(stored.body))
        self._last = event
        if event is None:
            return
        if not is_canonical(stored.body, stored.type, stored.v, event):
            self._fault("body", stored.seq, "the bytes are not those that this event encodes to")
        self._columns(stored, event)
        permanent = _permanent(event)
        try:
            event = reader.resolved(self._store, event, (stored.type, stored.v))
        except LawBroken as broken:
            self._fault("payload", stored.seq, f"expected {broken.finding.expected}, found {broken.finding.found}")
        for commitment in commitments(event):
            self._payload(stored.seq, commitment, commitment.n in permanent)

    def _decoded(self, stored: Stored) -> Event | None:
        try:
            return decode(stored.body, stored.type, stored.v, run=self._run, seq=stored.seq)
        except Undecodable as unreadable:
            self._fault("body", stored.seq, unreadable.found)
            return None

    def _columns(self, stored: Stored, event: Event) -> None:
        body = (*reader.columns_of(stored, event), event.run)
        if body != (*stored[:6], self._run):
            self._fault("column", stored.seq, f"the index columns {stored[:6]} are not the body's {body}")

    def _payload(self, seq: int, commitment: Commitment, permanent: bool) -> None:
        payload = next(self._payloads, None)
        if commitment.n != self._next_payload or payload is None or payload.n != commitment.n:
            found = "none" if payload is None else f"payload {payload.n}"
            self._fault("payload", seq, f"expected payload {commitment.n}, found {found}")
        elif payload.bytes is None or payload.salt is None:
            if payload.n not in self._erased:
                self._fault("payload", seq, f"payload {payload.n} is gone without a record of its erasure")
        elif not reader.holds(payload, commitment):
            self._fault("payload", seq, f"payload {payload.n} is not the one committed to")
        elif payload.permanent != permanent:
            self._fault("payload", seq, f"payload {payload.n} is marked {'' if payload.permanent else 'not '}permanent")
        self._next_payload += 1

    def _seal(self, event: RunSealed) -> None:
        self._sealed = event
        if (event.size, event.root) != (self._frontier.size, self._frontier.root().hex()):
            self._fault("seal", event.seq, f"it states {event.size}:{event.root}, the bytes before it say otherwise")

    def head(self) -> None:
        """Compare the walk with the stream's own record of itself."""
        head = self._store.head(self._run)
        if head is None:
            self._fault("tree", None, "the stream is gone")
            return
        found = (self._frontier.size, self._frontier.root(), self._frontier.pack())
        if found != (head.size, head.root, head.frontier):
            self._fault("tree", None, f"recorded {head.size}:{as_bytes(head.root).hex()}, "
                        f"the bytes give {found[0]}:{found[1].hex()}")
        if self._last is not None and (head.epoch, head.status) != (self._last.epoch, self._status(self._last)):
            self._fault("tree", None, f"recorded epoch {head.epoch} and status {head.status}, the last event says "
                        f"{self._last.epoch} and {self._status(self._last)}")
        extra: Payload | None = next(self._payloads, None)
        if extra is not None:
            self._fault("payload", None, f"payload {extra.n} is in no event")

    def _status(self, last: Event) -> str:
        if self._run == ids.LEDGER_STREAM:
            return "ledger"
        if isinstance(last, RunSealed):
            return last.status
        return "interrupted" if isinstance(last, RunInterrupted) else "running"

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


def as_bytes(value: object) -> bytes:
    """What is stored as bytes; text that somebody stored in their place counts as its UTF-8, anything else as nothing."""
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b""


def _permanent(event: Event) -> frozenset[int]:
    """The payloads that an event introduces for good: settings and lists."""
    fields = ("settings", "graph_list", "facts_list", "outputs_list", "collisions_list", "rejected_list")
    found = (getattr(event, field, None) for field in fields)
    return frozenset(commitment.n for commitment in found if isinstance(commitment, Commitment))


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
