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

from typing import Literal

from msgspec import Struct

from ledger.graph import Graph

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


# --- the run -----------------------------------------------------------------------------------------------------


class SourceIdentity(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """What was read: enough to tell that it changed since."""

    kind: str
    path: str = ""
    size_bytes: int | None = None
    sha256: str | None = None


class Change(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """One accepted difference between the recorded run and the one that carries it on."""

    field: str
    was: str
    now: str


class RunStarted(Event, tag="RunStarted", frozen=True, kw_only=True):
    """A run begins. `settings` and, when it is too long for a body, `graph_list` are payloads that are never erased."""

    pipeline: str
    settings: Commitment
    settings_path: str
    settings_hash: str
    secrets: dict[str, str]
    directory: str
    source: SourceIdentity
    jitter_seed: int
    graph: Graph | None
    graph_list: Commitment | None = None


class RunClaimed(Event, tag="RunClaimed", frozen=True, kw_only=True):
    """A process took the writer's epoch: at the start and at each resume."""

    process: str
    changes: tuple[Change, ...] = ()


class RunInterrupted(Event, tag="RunInterrupted", frozen=True, kw_only=True):
    """The run stopped with work open; it can be resumed."""

    code: str
    detail: str = ""


class RunSealed(Event, tag="RunSealed", frozen=True, kw_only=True):
    """The run is closed for good. `size` and `root` are the log's before this event."""

    status: Literal["completed", "failed"]
    outcomes: dict[str, int]
    rows: int
    tokens: int
    late_arrivals: int
    size: int
    root: str


class TokensAbandoned(Event, tag="TokensAbandoned", frozen=True, kw_only=True):
    """`abandon` ended these open tokens."""

    tokens: tuple[str, ...]
    code: str
    reason: Commitment | None = None


# --- the source --------------------------------------------------------------------------------------------------


class RowRead(Event, tag="RowRead", frozen=True, kw_only=True):
    """A source row became a root token: the root's step 0, completed when `valid`, failed with `code` when not."""

    token: str
    row: int
    valid: bool
    position: int
    data: Commitment
    key: Commitment | None = None
    code: str | None = None
    error: Commitment | None = None


class SourceExhausted(Event, tag="SourceExhausted", frozen=True, kw_only=True):
    """The source ended after `rows` rows."""

    rows: int


class SourceFailed(Event, tag="SourceFailed", frozen=True, kw_only=True):
    """The source raised after `position` (the last one read, None when there was none)."""

    position: int | None
    code: str
    error: Commitment


# --- steps -------------------------------------------------------------------------------------------------------


class StepStarted(Event, tag="StepStarted", frozen=True, kw_only=True):
    """An attempt is about to begin: written before an outside effect, and before every step after an unclean stop."""

    token: str
    node: str
    attempt: int
    input: int
    key: str | None = None


class StepCompleted(Event, tag="StepCompleted", frozen=True, kw_only=True):
    """An attempt succeeded; the token goes on with `output`."""

    token: str
    node: str
    attempt: int
    input: int
    output: Output
    duration_us: int


class StepFailed(Event, tag="StepFailed", frozen=True, kw_only=True):
    """An attempt failed. With `retry` another follows no earlier than `delay_ms` of run time later."""

    token: str
    node: str
    attempt: int
    input: int
    code: str
    error: Commitment | None
    retry: bool
    delay_ms: int = 0
    duration_us: int


class StepAbandoned(Event, tag="StepAbandoned", frozen=True, kw_only=True):
    """The process died in this attempt."""

    token: str
    node: str
    attempt: int
    code: str


class CallRecorded(Event, tag="CallRecorded", frozen=True, kw_only=True):
    """One outside call inside an attempt; `call` counts from 0."""

    token: str
    node: str
    attempt: int
    call: int
    kind: str
    status: str
    request: Commitment
    response: Commitment | None
    latency_us: int


class TokenFiltered(Event, tag="TokenFiltered", frozen=True, kw_only=True):
    """A 1 to 0 step: the token ended by rule."""

    token: str
    node: str
    attempt: int
    input: int
    duration_us: int


# --- ways --------------------------------------------------------------------------------------------------------


class Routed(Event, tag="Routed", frozen=True, kw_only=True):
    """A gate chose `label`, and with it `edge`."""

    token: str
    node: str
    label: str
    edge: str
    duration_us: int = 0


class TokenForked(Event, tag="TokenForked", frozen=True, kw_only=True):
    """A gate's fork: the parent ended, one child per branch exists, in this one event."""

    token: str
    node: str
    label: str
    branches: tuple[str, ...]
    duration_us: int = 0


class TokenExpanded(Event, tag="TokenExpanded", frozen=True, kw_only=True):
    """A 1 to N step: the parent ended, `count` children exist. Long lists of outputs are in `outputs_list`."""

    token: str
    node: str
    attempt: int
    input: int
    count: int
    outputs: tuple[Output, ...] | None
    outputs_list: Commitment | None = None
    duration_us: int


class Diverted(Event, tag="Diverted", frozen=True, kw_only=True):
    """A token left the normal path: along a divert edge `to` a sink, or to `discard` (then there is no edge).

    `reason` refers to the payload that the failure, the invalid row or the refusal introduced.
    """

    token: str
    kind: DivertKind
    node: str
    edge: str | None
    to: str
    code: str
    reason: int | None


# --- coalesce ----------------------------------------------------------------------------------------------------


class Arrival(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """A branch that arrived, `offset_ms` of run time after its group opened."""

    branch: str
    token: str
    offset_ms: int


class Loss(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """A branch that will never arrive, and why: `cause[:node[:code]]`."""

    branch: str
    reason: str


class GroupFacts(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """What was known of a group when it closed. `branches_missing`: neither arrived nor lost."""

    policy: str
    merge_strategy: str
    expected_branches: tuple[str, ...]
    arrival_order: tuple[Arrival, ...]
    branches_lost: tuple[Loss, ...]
    branches_missing: tuple[str, ...]
    wait_duration_ms: int


class BranchArrived(Event, tag="BranchArrived", frozen=True, kw_only=True):
    """A carrier is held at its coalesce."""

    token: str
    coalesce: str
    group: str
    branch: str


class BranchLost(Event, tag="BranchLost", frozen=True, kw_only=True):
    """A branch will never arrive: `token` was its carrier; what became of it is `cause`, at `node`, with `code`."""

    token: str
    coalesce: str
    group: str
    branch: str
    cause: LossCause
    node: str
    code: str | None = None


class BranchArrivedLate(Event, tag="BranchArrivedLate", frozen=True, kw_only=True):
    """A carrier came after its group closed; the token ends `failed`, reason `late_arrival`."""

    token: str
    coalesce: str
    group: str
    branch: str
    closed_as: Literal["merged", "failed"]


class TokensCoalesced(Event, tag="TokensCoalesced", frozen=True, kw_only=True):
    """A group merged: `consumed` (in order of arrival) ended, `merged` exists and goes on.

    `collisions` maps a field to the branches whose values differed, the winner last; the values themselves are the
    payload `collided`.
    """

    coalesce: str
    group: str
    merged: str
    trigger: CoalesceTrigger
    facts: GroupFacts | None
    facts_list: Commitment | None = None
    output: Output
    collisions: dict[str, tuple[str, ...]] = {}
    collided: Commitment | None = None


class CoalesceFailed(Event, tag="CoalesceFailed", frozen=True, kw_only=True):
    """A group closed without a merge: each held token (those of `arrival_order`) fails with `reason`."""

    coalesce: str
    group: str
    trigger: CoalesceTrigger
    reason: str
    facts: GroupFacts | None
    facts_list: Commitment | None = None
    collisions: dict[str, tuple[str, ...]] = {}
    collided: Commitment | None = None


# --- batches -----------------------------------------------------------------------------------------------------


class TokenBuffered(Event, tag="TokenBuffered", frozen=True, kw_only=True):
    """A token became member `ordinal` (from 0) of a batch."""

    token: str
    aggregation: str
    batch: int
    ordinal: int


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
    """A batch was computed: accepted members are consumed (or go on, in passthrough mode), outputs exist."""

    aggregation: str
    batch: int
    attempt: int
    trigger: BatchTrigger
    members: int
    rejected: tuple[RejectedMember, ...]
    outputs: tuple[BatchOutput, ...] | None
    outputs_list: Commitment | None = None
    duration_us: int


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
    delay_ms: int = 0
    duration_us: int


# --- sinks -------------------------------------------------------------------------------------------------------


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
    duration_us: int


class SinkWriteFailed(Event, tag="SinkWriteFailed", frozen=True, kw_only=True):
    """The sink could not be reached or written: its tokens wait for another write."""

    sink: str
    write: int
    code: str
    error: Commitment


# --- the ledger's own stream -------------------------------------------------------------------------------------


class LedgerCreated(Event, tag="LedgerCreated", frozen=True, kw_only=True):
    """The ledger exists; `ledger` is its random id."""

    ledger: str


class RunOpened(Event, tag="RunOpened", frozen=True, kw_only=True):
    """A run's stream exists."""

    opened: str
    pipeline: str


class RunClosed(Event, tag="RunClosed", frozen=True, kw_only=True):
    """A run was sealed at `size` and `root`: in the transaction of its `RunSealed`, which they include."""

    closed: str
    status: Literal["completed", "failed"]
    size: int
    root: str


class PayloadErased(Event, tag="PayloadErased", frozen=True, kw_only=True):
    """Payloads of a run were removed for good: by whom, why, which."""

    erased: str
    payloads: tuple[int, ...]
    who: str
    why: str


class KeyAdded(Event, tag="KeyAdded", frozen=True, kw_only=True):
    """A signing key may sign from here on."""

    key: str
    public: str


class KeyRetired(Event, tag="KeyRetired", frozen=True, kw_only=True):
    """A signing key must not sign from here on."""

    key: str
    why: str


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
    | BatchFlushed
    | BatchFailed
    | SinkWriteIntended
    | SinkWriteConfirmed
    | SinkWriteFailed
)
LedgerEvent = LedgerCreated | RunOpened | RunClosed | PayloadErased | KeyAdded | KeyRetired
AnyEvent = RunEvent | LedgerEvent
