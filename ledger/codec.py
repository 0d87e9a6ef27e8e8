"""Events to bytes and back. The bytes are written once, hashed as stored, and never made again.

Why: what is hashed must be what is read. A body is the exact UTF-8 JSON of the event, its fields in declared order and
its maps sorted, so the same event always gives the same bytes (law L5).

Invariants: what is decoded is an event of today's shape, whatever shape its body has; a body of a type and version that no
upcaster leads from is refused by name. The names of the header (`type, run, seq, epoch, v, at, active_ms`) are for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import msgspec

from ledger import upcasters
from ledger.errors import LedgerBroken
from ledger.events import AnyEvent, Event
from ledger.versions import LEDGER_EVENTS, RUN_EVENTS, TYPE_OF, VERSION_OF, VERSIONS

__all__ = ["BODY_BYTES_MAX", "HEADER", "LEDGER_EVENTS", "RUN_EVENTS", "TYPE_OF", "VERSIONS", "VERSION_OF", "Said",
           "Undecodable", "decode", "encode", "event_token", "is_canonical", "listed", "said"]

Listed = TypeVar("Listed")

BODY_BYTES_MAX = 65_535

HEADER = ("type", *Event.__struct_fields__)
"""What every body begins with, in this order; a field at its default is left out."""

encode = msgspec.json.Encoder(order="deterministic").encode
"""Event to body."""

_decode = msgspec.json.Decoder(AnyEvent).decode


class Undecodable(LedgerBroken):
    """A body that is no event of a known type and version; reading stops at its seq and never skips it.

    `remedy` is what to do about it: bytes that are no event at all are read by no version.
    """

    def __init__(self, run: str, seq: int, found: str, remedy: str = "`counterfoil verify` says what does not hold") -> None:
        super().__init__(
            "EVENT_UNREADABLE",
            f"expected an event that this version reads, found {found}",
            where=f"run {run} seq {seq}",
            next_step=f"{remedy}; earlier history stays readable",
        )
        self.run = run
        self.seq = seq
        self.found = found


class Said(NamedTuple):
    """What a stored body says itself, in its own shape, of what the index columns repeat."""

    seq: int
    type: str
    v: int
    token: str | None
    at: int
    run: str


def decode(body: bytes, type_: str, version: int, *, run: str, seq: int) -> Event:
    """Body to event, in today's shape. `type_` and `version` are the index columns; raises `Undecodable`."""
    if VERSIONS.get(type_) != version:
        return _decode_earlier(body, type_, version, run, seq)
    if type(body) is not bytes:
        raise Undecodable(run, seq, f"a {type_} whose body is stored as {type(body).__name__}")
    try:
        event: Event = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(run, seq, f"a {type_} that does not decode: {error}") from None
    return event


def listed(data: bytes, kind: tuple[str, int], name: str, shape: type[Listed]) -> Listed:
    """A long list that stands in a payload, for the field `name` of an event that was stored as `kind`.

    Raises `msgspec.DecodeError` for one that is none, however deep.
    """
    steps = [step.lists[name] for step in upcasters.UPCASTERS.path(kind) or () if name in step.lists]
    try:
        if not steps:
            return msgspec.json.decode(data, type=shape)
        found = msgspec.json.decode(data)
        for step in steps:
            found = step(found)
        return msgspec.convert(found, shape)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise msgspec.DecodeError(f"a list of {kind[0]} version {kind[1]}: {error!r}") from None


def said(body: bytes, type_: str, version: int, event: Event) -> Said:
    """What the body of an event says of itself: of an earlier shape in that shape's own words."""
    if VERSIONS.get(type_) == version:
        return Said(event.seq, TYPE_OF[type(event)], event.v, event_token(event), event.at, event.run)
    raw = _raw(body)
    kind = _kind_of(raw)
    return Said(event.seq, *kind, _token_said(raw, kind), event.at, event.run)


def is_canonical(body: bytes, type_: str, version: int, event: Event) -> bool:
    """Whether the bytes are those that were written: of an event of today's shape, those that it encodes to.

    Of an earlier shape nobody knows the order of its own fields, nor which of them are left out: there it is the header in
    its order, first, and one text for one value: compact, no name twice, nothing escaped that need not be.
    """
    raw = {} if VERSIONS.get(type_) == version else _raw(body)
    kind = _kind_of(raw)
    if not raw or VERSIONS.get(kind[0]) == kind[1]:
        return encode(event) == body
    present = [name for name in HEADER if name in raw]
    return list(raw)[: len(present)] == present and msgspec.json.encode(raw) == body


def _decode_earlier(body: bytes, type_: str, version: int, run: str, seq: int) -> Event:
    """An event of an earlier shape, upcast. What the body says of its type and version counts, not the columns."""
    if upcasters.UPCASTERS.path((type_, version)) is None:
        known = f"{type_} is known at version {VERSIONS[type_]}" if type_ in VERSIONS else "no such type is known"
        raise Undecodable(run, seq, f"{type_} version {version} ({known})", "read it with a version that knows it")
    if type(body) is not bytes:
        raise Undecodable(run, seq, f"a {type_} whose body is stored as {type(body).__name__}")
    try:
        event: Event = msgspec.convert(_upcast(_raw(body)), AnyEvent)
    except MemoryError:
        raise
    except Exception as error:  # an upcaster meets whatever stands in a body
        raise Undecodable(run, seq, f"a {type_} version {version} that does not decode: {error!r}") from None
    return event


def _raw(body: bytes) -> dict[str, Any]:
    return msgspec.json.decode(body, type=dict[str, Any])


def _kind_of(raw: dict[str, Any]) -> tuple[str, int]:
    """The type and version that a body says; ones that it cannot have in place of none."""
    type_, version = raw.get("type"), raw.get("v")
    return type_ if type(type_) is str else "", version if type(version) is int else 0


def _upcast(raw: dict[str, Any]) -> dict[str, Any]:
    kind = _kind_of(raw)
    path = upcasters.UPCASTERS.path(kind)
    if path is None:
        raise ValueError(f"a body of {kind[0]} version {kind[1]}")
    header = {name: raw[name] for name in HEADER if name in raw}
    fields = {name: value for name, value in raw.items() if name not in header}
    for step in path:
        fields = step.fields(fields)
        kind = step.to
    if not fields.keys().isdisjoint(HEADER):
        raise ValueError("an upcaster that makes a header")
    return {**header, "type": kind[0], "v": kind[1], **fields}


def _token_said(raw: dict[str, Any], kind: tuple[str, int]) -> str | None:
    path = upcasters.UPCASTERS.path(kind)
    name = path[0].token if path else None
    found = raw.get("token", raw.get("group")) if name is None else raw.get(name)
    return found if isinstance(found, str) else None


def _token_field(cls: type[Event]) -> Callable[[Event], str | None]:
    for field in ("token", "group"):
        if field in cls.__struct_fields__:
            return attrgetter(field)
    return lambda event: None


_TOKEN_OF = {cls: _token_field(cls) for cls in TYPE_OF}


def event_token(event: Event) -> str | None:
    """The token an event is about: the index column `token` (for a group's resolution, the group's id)."""
    return _TOKEN_OF[type(event)](event)
