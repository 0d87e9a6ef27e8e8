"""The domain events: everything that can be said about a run, in the past tense and in its users' words.

Why: executors append these and nothing else; every read table, verdict and answer is derived from them.

Invariants:
- An event is immutable and tagged by an explicit stored name, never by an import path.
- The header (`run, seq, epoch, v, at, active_ms`) is filled in once, by the recorder; an executor leaves it empty.
- Anything derived from row values lives in a payload. Bodies hold codes, names, counts and commitments, so that
  erasing a payload really erases.
- A shape once written is never edited: raise `v` and add an upcaster.

Units: `at` is microseconds since the epoch (UTC) and never falls; `active_ms` is run time in milliseconds, summed over
epochs, and is what timers count; `*_us` are microseconds.

A payload reference is its number `n` in the stream's payloads. `Output` is either a number (an earlier payload, referred
to again) or a `Commitment` that introduces the next number together with `sha256(salt || bytes)`.
"""

from __future__ import annotations

from ledger.events.batches import (
    BatchAbandoned,
    BatchFailed,
    BatchFlushed,
    BatchOutput,
    BatchStarted,
    RejectedMember,
    TokenBuffered,
)
from ledger.events.header import (
    BatchTrigger,
    CoalesceTrigger,
    Commitment,
    DivertKind,
    Event,
    LossCause,
    OutcomeName,
    Output,
)
from ledger.events.joins import (
    Arrival,
    BranchArrived,
    BranchArrivedLate,
    BranchLost,
    CoalesceFailed,
    GroupFacts,
    Loss,
    TokensCoalesced,
)
from ledger.events.own_stream import KeyAdded, KeyRetired, LedgerCreated, PayloadErased, RunClosed, RunOpened
from ledger.events.run import (
    Change,
    RowRead,
    RunClaimed,
    RunInterrupted,
    RunSealed,
    RunStarted,
    SourceExhausted,
    SourceFailed,
    SourceIdentity,
    TokensAbandoned,
)
from ledger.events.sinks import Refusal, SinkWriteConfirmed, SinkWriteFailed, SinkWriteIntended
from ledger.events.steps import (
    CallRecorded,
    Diverted,
    Routed,
    StepAbandoned,
    StepCompleted,
    StepFailed,
    StepStarted,
    TokenExpanded,
    TokenFiltered,
    TokenForked,
)

RunEvent = (
    RunStarted
    | RunClaimed
    | RunInterrupted
    | RunSealed
    | TokensAbandoned
    | RowRead
    | SourceExhausted
    | SourceFailed
    | StepStarted
    | StepCompleted
    | StepFailed
    | StepAbandoned
    | CallRecorded
    | TokenFiltered
    | Routed
    | TokenForked
    | TokenExpanded
    | Diverted
    | BranchArrived
    | BranchLost
    | BranchArrivedLate
    | TokensCoalesced
    | CoalesceFailed
    | TokenBuffered
    | BatchStarted
    | BatchFlushed
    | BatchFailed
    | BatchAbandoned
    | SinkWriteIntended
    | SinkWriteConfirmed
    | SinkWriteFailed
)
LedgerEvent = LedgerCreated | RunOpened | RunClosed | PayloadErased | KeyAdded | KeyRetired
AnyEvent = RunEvent | LedgerEvent

__all__ = [
    "AnyEvent",
    "Arrival",
    "BatchAbandoned",
    "BatchFailed",
    "BatchFlushed",
    "BatchOutput",
    "BatchStarted",
    "BatchTrigger",
    "BranchArrived",
    "BranchArrivedLate",
    "BranchLost",
    "CallRecorded",
    "Change",
    "CoalesceFailed",
    "CoalesceTrigger",
    "Commitment",
    "DivertKind",
    "Diverted",
    "Event",
    "GroupFacts",
    "KeyAdded",
    "KeyRetired",
    "LedgerCreated",
    "LedgerEvent",
    "Loss",
    "LossCause",
    "OutcomeName",
    "Output",
    "PayloadErased",
    "Refusal",
    "RejectedMember",
    "Routed",
    "RowRead",
    "RunClaimed",
    "RunClosed",
    "RunEvent",
    "RunInterrupted",
    "RunOpened",
    "RunSealed",
    "RunStarted",
    "SinkWriteConfirmed",
    "SinkWriteFailed",
    "SinkWriteIntended",
    "SourceExhausted",
    "SourceFailed",
    "SourceIdentity",
    "StepAbandoned",
    "StepCompleted",
    "StepFailed",
    "StepStarted",
    "TokenBuffered",
    "TokenExpanded",
    "TokenFiltered",
    "TokenForked",
    "TokensAbandoned",
    "TokensCoalesced",
]
