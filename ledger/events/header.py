"""What every event is made of: the header, the names that events use, and how payloads are referred to."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

OutcomeName = Literal[
    "completed",
    "routed",
    "forked",
    "expanded",
    "coalesced",
    "consumed_in_batch",
    "dropped_by_filter",
    "quarantined",
    "diverted",
    "failed",
]
CoalesceTrigger = Literal[
    "all_arrived", "quorum_met", "first_arrival", "branch_lost", "timeout", "end_of_source", "abandoned"
]
BatchTrigger = Literal["count", "timeout", "condition", "end_of_source", "abandoned"]
DivertKind = Literal["error", "quarantine", "sink_refused"]
LossCause = Literal[
    "error_routed",
    "discarded",
    "failed",
    "filtered",
    "routed_away",
    "batch_empty",
    "group_failed",
    "late_arrival",
    "abandoned",
]


Count = Annotated[int, Meta(ge=0)]
"""A number, a length or a duration: never below 0."""


class Commitment(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """Introduces payload `n` of the stream: `sha256` is over salt and bytes, lower-case hex."""

    n: int
    sha256: str


Output = int | Commitment


class Event(
    Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"
):
    """The header that every event carries."""

    run: str = ""
    seq: int = 0
    epoch: int = 0
    v: int = 0
    at: int = 0
    active_ms: int = -1
