"""Aggregations: members, attempts, flushes, failures."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ledger.events.header import BatchTrigger, Commitment, Count, Event, Output


class TokenBuffered(Event, tag="TokenBuffered", frozen=True, kw_only=True):
    """A token became member `ordinal` (from 0) of a batch."""

    token: str
    aggregation: str
    batch: int
    ordinal: int


class BatchStarted(Event, tag="BatchStarted", frozen=True, kw_only=True):
    """An attempt to compute a batch is about to begin: written before every one after an unclean stop."""

    aggregation: str
    batch: int
    attempt: int
    members: int
    trigger: BatchTrigger


class BatchAbandoned(Event, tag="BatchAbandoned", frozen=True, kw_only=True):
    """The process died in this attempt to compute a batch."""

    aggregation: str
    batch: int
    attempt: int
    code: str


class RejectedMember(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """A member the batch plugin refused; it leaves by the aggregation's `on_error`."""

    ordinal: int
    code: str
    reason: Commitment | None


class BatchOutput(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """One output and its parents: `all` accepted members, or these ordinals."""

    output: Output
    parents: Literal["all"] | tuple[int, ...]


class BatchFlushed(Event, tag="BatchFlushed", frozen=True, kw_only=True):
    """A batch was computed: accepted members are consumed (or go on, in passthrough mode), outputs exist.

    Lists that are too long for a body are in `rejected_list` (then `rejected` is empty) and `outputs_list`.
    """

    aggregation: str
    batch: int
    attempt: int
    trigger: BatchTrigger
    members: int
    rejected: tuple[RejectedMember, ...]
    outputs: tuple[BatchOutput, ...] | None
    outputs_list: Commitment | None = None
    rejected_list: Commitment | None = None
    duration_us: Count


class BatchFailed(Event, tag="BatchFailed", frozen=True, kw_only=True):
    """A batch could not be computed; with `retry` another attempt follows, otherwise each member leaves by `on_error`."""

    aggregation: str
    batch: int
    attempt: int
    trigger: BatchTrigger
    members: int
    code: str
    error: Commitment | None
    retry: bool
    delay_ms: Count = 0
    duration_us: Count
