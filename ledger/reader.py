"""From stored events to decoded ones: the one read path of replay, verify, resume and projections.

Why one: decoding, the check of the index columns (law L6) and the resolving of lists happen in one place and stop at the
first event that does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from ledger import ids
from ledger.codec import TYPE_OF, decode, event_token
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

_LISTED = frozenset({RunStarted, TokenExpanded, BatchFlushed, TokensCoalesced, CoalesceFailed})
"""Events whose long lists may stand in a payload."""

_OF_WRITES = frozenset({TYPE_OF[SinkWriteIntended], TYPE_OF[SinkWriteConfirmed]})


def events(store: Store, run: str, after: int = 0, until: int | None = None) -> Iterator[tuple[Stored, Event]]:
    """The events of a run with `after < seq <= until`, as stored and decoded.

    Raises `Undecodable` at a body that cannot be read and `LawBroken` (L4, L6) where columns or lists do not hold.
    """
    for stored in store.read(run, after, until):
        event = decode(stored.body, stored.type, stored.v, run=run, seq=stored.seq)
        kind = type(event)
        columns = (event.seq, TYPE_OF[kind], event.v, event_token(event), event.at)
        if (stored.seq, stored.type, stored.v, stored.token, stored.at) != columns:
            _columns_differ(run, stored, event)
        if event.run != run or not _is_row_of(stored.row_index, stored.token):
            _columns_differ(run, stored, event)
        if kind in _LISTED:
            event = resolved(store, event)
        yield stored, event


def confirmed_writes(store: Store, run: str) -> Iterator[tuple[SinkWriteIntended, SinkWriteConfirmed]]:
    """The confirmed writes of a run, each with its intent, in the order of their confirmations."""
    intended: dict[int, SinkWriteIntended] = {}
    for stored in store.read(run):
        if stored.type not in _OF_WRITES:
            continue
        event = decode(stored.body, stored.type, stored.v, run=run, seq=stored.seq)
        if isinstance(event, SinkWriteIntended):
            intended[event.write] = event
        elif isinstance(event, SinkWriteConfirmed) and event.write in intended:
            yield intended.pop(event.write), event


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
    """The index column `row_index`: the source row a token descends from, None for a batch output or no token."""
    if token is None:
        return None
    if token.isdecimal():
        return int(token)
    family = ids.family(token)
    return family if isinstance(family, int) else None


def _columns_differ(run: str, stored: Stored, event: Event) -> None:
    token = event_token(event)
    expected = f"{TYPE_OF[type(event)]}, seq {event.seq}, v {event.v}, token {token}, at {event.at}, run {event.run}"
    found = f"{stored.type}, seq {stored.seq}, v {stored.v}, token {stored.token}, at {stored.at}, row {stored.row_index}"
    raise LawBroken(Finding(law="L6", run=run, seq=stored.seq, token=stored.token, expected=expected, found=found))


def resolved(store: Store, event: Event) -> Event:
    """The event with what its list payloads hold in its own fields.

    Raises `LawBroken` (L4) where a list does not hold, or stands in the body as well.
    """
    for name, short in _SHORT.items():
        if getattr(event, name, None) is not None and getattr(event, name.removesuffix("_list"), short) != short:
            raise LawBroken(Finding(law="L4", run=event.run, seq=event.seq, token=event_token(event), found="both",
                                    expected=f"{name.removesuffix('_list')} in the body or in a list"))
    if isinstance(event, RunStarted) and event.graph is None:
        return replace(event, graph=_listed(store, event, event.graph_list, Graph))
    if isinstance(event, TokenExpanded) and event.outputs is None:
        return replace(event, outputs=_listed(store, event, event.outputs_list, tuple[Output, ...]))
    if isinstance(event, BatchFlushed):
        if event.outputs is None:
            event = replace(event, outputs=_listed(store, event, event.outputs_list, tuple[BatchOutput, ...]))
        if event.rejected_list is not None:
            found = _listed(store, event, event.rejected_list, tuple[RejectedMember, ...])
            event = replace(event, rejected=found)
        return event
    if isinstance(event, (TokensCoalesced, CoalesceFailed)):
        if event.facts is None:
            event = replace(event, facts=_listed(store, event, event.facts_list, GroupFacts))
        if event.collisions_list is not None:
            collisions = _listed(store, event, event.collisions_list, dict[str, tuple[str, ...]])
            event = replace(event, collisions=collisions)
    return event


def _listed(store: Store, event: Event, commitment: Commitment | None, kind: type[Listed]) -> Listed:
    """What a list payload holds. A list is never erased, so one that is missing or does not hold breaks L4."""
    payload = store.payloads(event.run, [commitment.n]).get(commitment.n) if commitment else None
    if commitment is not None and payload is not None and holds(payload, commitment):
        try:
            return msgspec.json.decode(payload.bytes or b"", type=kind)
        except msgspec.DecodeError:
            pass
    found = "none" if payload is None else "one that its commitment does not match"
    token = event_token(event)
    raise LawBroken(Finding(law="L4", run=event.run, seq=event.seq, token=token, found=found,
                            expected=f"the list payload of {TYPE_OF[type(event)]}"))


def commit(salt: bytes, data: bytes) -> str:
    """The commitment to a payload: `sha256(salt || bytes)`, lower-case hex."""
    return sha256(salt + data).hexdigest()


def holds(payload: Payload, commitment: Commitment) -> bool:
    """Whether a payload that is there is the one committed to."""
    if type(payload.salt) is not bytes or type(payload.bytes) is not bytes:
        return False
    return commit(payload.salt, payload.bytes) == commitment.sha256


