"""Sink writes: intended, then confirmed or failed."""

from __future__ import annotations

from msgspec import Struct

from ledger.events.header import Commitment, Count, Event


class Refusal(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """A token of a write (by its place in it) that the sink or its target refused."""

    ordinal: int
    code: str
    reason: Commitment | None


class SinkWriteIntended(Event, tag="SinkWriteIntended", frozen=True, kw_only=True):
    """These tokens (at most 1 000, in order) are about to be written under `key`, at `offset` of the artifact."""

    sink: str
    write: int
    tokens: tuple[str, ...]
    content_hash: str
    key: str
    offset: int | None


class SinkWriteConfirmed(Event, tag="SinkWriteConfirmed", frozen=True, kw_only=True):
    """The write is durable: accepted tokens have their outcome, refused ones are diverted next."""

    sink: str
    write: int
    uri: str
    size_bytes: int
    content_hash: str
    accepted: int
    refused: tuple[Refusal, ...] = ()
    duration_us: Count


class SinkWriteFailed(Event, tag="SinkWriteFailed", frozen=True, kw_only=True):
    """The sink could not be reached or written: its tokens wait for another write."""

    sink: str
    write: int
    code: str
    error: Commitment
