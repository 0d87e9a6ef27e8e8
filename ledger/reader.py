"""From stored events to decoded ones: the one read path of replay, verify, resume and projections.

Why one: decoding, the check of the index columns (law L6) and the resolving of lists happen in one place and stop at the
first event that does not hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from ledger import ids, upcasters
from ledger.codec import TYPE_OF, VERSIONS, Undecodable, decode, event_token, listed, said
from ledger.events import (
    BatchFlushed,
    BatchOutput,
    CoalesceFailed,
    Commitment,
    Event,
    GroupFacts,
    Output,
    RejectedMember,
    RunStarted,
    SinkWriteConfirmed,
    SinkWriteIntended,
    TokenExpanded,
    TokensCoalesced,
)
from ledger.graph import Graph
from ledger.laws import Finding, LawBroken
from ledger.store import Payload, Store, Stored

Listed = TypeVar("Listed")

NO_COLUMN_HOLDS = 2**63

_LISTED = frozenset({RunStarted, TokenExpanded, BatchFlushed, TokensCoalesced, CoalesceFailed})
"""Events whose long lists may stand in a payload."""

_OF_WRITES = frozenset({TYPE_OF[SinkWriteIntended], TYPE_OF[SinkWriteConfirmed]})


def events(store: Store, run: str, after: int = 0, until: int | None = None) -> Iterator[tuple[Stored, Event]]:
    """The events of a run with `after < seq <= until`, as stored and decoded.

    Raises `Undecodable` at a body that cannot be read and `LawBroken` (L4, L6) where columns or lists do not hold.
    """
    return _decoded(store, run, store.read(run, after, until))


def unreadable(store: Store, run: str) -> Iterator[tuple[Stored, str]]:
    """Every event of a run at which `events` would stop, and what is found there; it is read once, to its end."""
    last: deque[Stored] = deque(maxlen=1)

    def noted() -> Iterator[Stored]:
        for stored in store.read(run):
            last.append(stored)
            yield stored

    read = noted()
    while True:
        try:
            for _ in _decoded(store, run, read):
                pass
            return
        except Undecodable as found:
            fault = found.found
        except LawBroken as broken:
            fault = str(broken.finding)
        yield last[0], fault


def confirmed_writes(store: Store, run: str) -> Iterator[tuple[SinkWriteIntended, SinkWriteConfirmed]]:
    """The confirmed writes of a run, each with its intent, in the order of their confirmations."""
    intended: dict[int, SinkWriteIntended] = {}
    for stored in store.read(run):
        if stored.type not in _OF_WRITES and not _was_of_writes(stored):
            continue
        event = decode(stored.body, stored.type, stored.v, run=run, seq=stored.seq)
        if isinstance(event, SinkWriteIntended):
            intended[event.write] = event
        elif isinstance(event, SinkWriteConfirmed) and event.write in intended:
            yield intended.pop(event.write), event


def _decoded(store: Store, run: str, read: Iterator[Stored]) -> Iterator[tuple[Stored, Event]]:
    for stored in read:
        event = decode(stored.body, stored.type, stored.v, run=run, seq=stored.seq)
        kind = type(event)
        columns = (event.seq, TYPE_OF[kind], event.v, event_token(event), event.at)
        if (stored.seq, stored.type, stored.v, stored.token, stored.at) != columns and not _are_its_own(stored, event):
            _columns_differ(run, stored, event)
        if event.run != run or not _is_row_of(stored.row_index, stored.token):
            _columns_differ(run, stored, event)
        if kind in _LISTED:
            event = resolved(store, event, (stored.type, stored.v))
        yield stored, event


_SHORT: Mapping[str, object] = {"graph_list": None, "outputs_list": None, "facts_list": None, "collisions_list": {},
                                "rejected_list": ()}
"""The fields of lists, and what stands in the body in place of one."""


def _is_row_of(row: int | None, token: str | None) -> bool:
    """Whether `row` is the index column of `token`: the check of every event, made without taking the token apart."""
    if row is None or token is None:
        return row_index_of(token) == row
    text = str(row)
    return token == text or (token.startswith(text) and token[len(text)] in ".:+/")


def row_index_of(token: str | None) -> int | None:
    """The index column `row_index`: the source row a token descends from, None for a batch output or no token.

    A number that is too long to be one is told as one that no column holds.
    """
    if token is None:
        return None
    if len(token) > ids.ROW_DIGITS_MAX and token[: ids.ROW_DIGITS_MAX + 1].isdecimal():
        return NO_COLUMN_HOLDS
    family = int(token) if token.isdecimal() else ids.family(token)
    return family if isinstance(family, int) else None


def columns_of(stored: Stored, event: Event) -> tuple[int, str, int, str | None, int | None, int]:
    """What the index columns of a stored event have to be: what its body says, in the shape that it was written in."""
    told = said(stored.body, stored.type, stored.v, event)
    return told.seq, told.type, told.v, told.token, row_index_of(told.token), told.at


def _was_of_writes(stored: Stored) -> bool:
    """Whether it is an event of a write that was stored by another name."""
    return VERSIONS.get(stored.type) != stored.v and upcasters.UPCASTERS.becomes((stored.type, stored.v)) in _OF_WRITES


def _are_its_own(stored: Stored, event: Event) -> bool:
    """Whether the columns are those of an event that was stored in an earlier shape."""
    return VERSIONS.get(stored.type) != stored.v and columns_of(stored, event) == stored[:6]


def _columns_differ(run: str, stored: Stored, event: Event) -> None:
    seq, type_, v, token, _, at = columns_of(stored, event)
    expected = f"{type_}, seq {seq}, v {v}, token {token}, at {at}, run {event.run}"
    found = f"{stored.type}, seq {stored.seq}, v {stored.v}, token {stored.token}, at {stored.at}, row {stored.row_index}"
    raise LawBroken(Finding(law="L6", run=run, seq=stored.seq, token=stored.token, expected=expected, found=found))


def resolved(store: Store, event: Event, kind: tuple[str, int]) -> Event:
    """The event with what its list payloads hold in its own fields; `kind` is the type and version it was stored as.

    Raises `LawBroken` (L4) where a list does not hold, or stands in the body as well.
    """
    for name, short in _SHORT.items():
        if getattr(event, name, None) is not None and getattr(event, name.removesuffix("_list"), short) != short:
            raise LawBroken(Finding(law="L4", run=event.run, seq=event.seq, token=event_token(event), found="both",
                                    expected=f"{name.removesuffix('_list')} in the body or in a list"))
    lists = _Lists(store, event, kind)
    if isinstance(event, RunStarted) and event.graph is None:
        return replace(event, graph=lists.of("graph_list", Graph))
    if isinstance(event, TokenExpanded) and event.outputs is None:
        return replace(event, outputs=lists.of("outputs_list", tuple[Output, ...]))
    if isinstance(event, BatchFlushed):
        if event.outputs is None:
            event = replace(event, outputs=lists.of("outputs_list", tuple[BatchOutput, ...]))
        if event.rejected_list is not None:
            event = replace(event, rejected=lists.of("rejected_list", tuple[RejectedMember, ...]))
        return event
    if isinstance(event, (TokensCoalesced, CoalesceFailed)):
        if event.facts is None:
            event = replace(event, facts=lists.of("facts_list", GroupFacts))
        if event.collisions_list is not None:
            event = replace(event, collisions=lists.of("collisions_list", dict[str, tuple[str, ...]]))
    return event


class _Lists:
    """The list payloads of one event."""

    def __init__(self, store: Store, event: Event, kind: tuple[str, int]) -> None:
        self._store = store
        self._event = event
        self._kind = kind

    def of(self, name: str, kind: type[Listed]) -> Listed:
        """What a list payload holds. A list is never erased, so one that is missing or does not hold breaks L4."""
        event, commitment = self._event, getattr(self._event, name)
        payload = self._store.payloads(event.run, [commitment.n]).get(commitment.n) if commitment else None
        if commitment is not None and payload is not None and holds(payload, commitment):
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                return listed(payload.bytes or b"", self._kind, name, kind)
        raise LawBroken(Finding(law="L4", run=event.run, seq=event.seq, token=event_token(event),
                                expected=f"the list payload of {TYPE_OF[type(event)]}",
                                found="none" if payload is None else "one that its commitment does not match"))


def commit(salt: bytes, data: bytes) -> str:
    """The commitment to a payload: `sha256(salt || bytes)`, lower-case hex."""
    return sha256(salt + data).hexdigest()


def holds(payload: Payload, commitment: Commitment) -> bool:
    """Whether a payload that is there is the one committed to."""
    if type(payload.salt) is not bytes or type(payload.bytes) is not bytes:
        return False
    return commit(payload.salt, payload.bytes) == commitment.sha256


