"""Events to bytes and back. The bytes are written once, hashed as stored, and never made again.

Why: what is hashed must be what is read. A body is the exact UTF-8 JSON of the event, its fields in declared order and
its maps sorted, so the same event always gives the same bytes (law L5).

Invariants: `VERSIONS` names every stored type and its current version; a body of another version needs an upcaster and
is refused by name until it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import get_args

import msgspec

from ledger.errors import LedgerBroken
from ledger.events import AnyEvent, Event, LedgerEvent, RunEvent

BODY_BYTES_MAX = 65_535

RUN_EVENTS: tuple[type[Event], ...] = get_args(RunEvent)
LEDGER_EVENTS: tuple[type[Event], ...] = get_args(LedgerEvent)

VERSIONS: dict[str, int] = {cls.__struct_config__.tag: 1 for cls in (*RUN_EVENTS, *LEDGER_EVENTS)}  # type: ignore[misc]
TYPE_OF: dict[type[Event], str] = {cls: str(cls.__struct_config__.tag) for cls in (*RUN_EVENTS, *LEDGER_EVENTS)}

VERSION_OF: dict[type[Event], int] = {cls: VERSIONS[type_] for cls, type_ in TYPE_OF.items()}

encode = msgspec.json.Encoder(order="deterministic").encode
"""Event to body."""

_decode = msgspec.json.Decoder(AnyEvent).decode


class Undecodable(LedgerBroken):
    """A body that is no event of a known type and version; reading stops at its seq and never skips it."""

    def __init__(self, run: str, seq: int, found: str) -> None:
        super().__init__(
            "EVENT_UNREADABLE",
            f"expected an event that this version reads, found {found}",
            where=f"run {run} seq {seq}",
            next_step="read it with a version that knows it; earlier history stays readable",
        )
        self.run = run
        self.seq = seq
        self.found = found


def decode(body: bytes, type_: str, version: int, *, run: str, seq: int) -> Event:
    """Body to event. `type_` and `version` are the index columns; raises `Undecodable`."""
    if VERSIONS.get(type_) != version:
        known = f"{type_} is known at version {VERSIONS[type_]}" if type_ in VERSIONS else "no such type is known"
        raise Undecodable(run, seq, f"{type_} version {version} ({known})")
    if type(body) is not bytes:
        raise Undecodable(run, seq, f"a {type_} whose body is stored as {type(body).__name__}")
    try:
        event: Event = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable(run, seq, f"a {type_} that does not decode: {error}") from None
    return event


def _token_field(cls: type[Event]) -> Callable[[Event], str | None]:
    for field in ("token", "group"):
        if field in cls.__struct_fields__:
            return attrgetter(field)
    return lambda event: None


_TOKEN_OF = {cls: _token_field(cls) for cls in TYPE_OF}


def event_token(event: Event) -> str | None:
    """The token an event is about: the index column `token` (for a group's resolution, the group's id)."""
    return _TOKEN_OF[type(event)](event)
