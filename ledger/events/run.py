"""The run and its source: start, claims, rows, interruptions, the seal."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ledger.events.header import Commitment, Event
from ledger.graph import Graph


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
    """A run begins. `settings` and, when it is too long for a body, `graph_list` are payloads that are never erased.

    `program` is what wrote it, with its version; empty where that is not on record (before version 2 of this event).
    """

    program: str
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
