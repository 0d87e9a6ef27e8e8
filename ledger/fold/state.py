"""What is open in a run: the state that the one fold builds.

Why: live execution, resume and replay all decide on this state and on nothing else.

Invariants:
- Memory is what is open: a family (a source row, or the outputs of one batch) is evicted with all its tokens and groups
  once none of its tokens is live; closed row numbers stay as intervals, so an event on a closed row is still caught.
- `owed` lists, in order, what the log must say next: a divert after a failure, a loss after a carrier's end, a
  resolution once a policy is met. Executors read it to decide, the law reads it to refuse anything else.
- `writes` are intended and neither confirmed nor failed, `writes_failed` wait to be made again under their keys;
  `sink_ends` has every sink that was written to, and where its confirmed writes end (None: it knows no offsets).
- `unclean_rows` is how many rows had been read when, last, a process ended without a word (None: that never happened).
- `born` and `ended` hold the tokens that the last event made and ended; projections read them.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from heapq import heapify, heappop, heappush
from typing import Literal, NamedTuple

from msgspec import Struct

from ledger.coalesce import Resolution
from ledger.events import Arrival, BatchTrigger, DivertKind, LossCause, OutcomeName
from ledger.fold.intervals import Intervals
from ledger.fold.plan import Plan
from ledger.graph import Graph, Node


class Stage(IntEnum):
    """Where a token stands at its node. Up to STARTED an attempt may still be made."""

    READY = 0
    STARTED = 1
    HELD = 2
    BUFFERED = 3
    WRITING = 4
    FAILED = 5
    ENDED = 6


Via = Literal["normal", "gate", "error", "quarantine", "refused"]
"""The kind of edge by which a token came to its node; it decides the outcome at a sink."""

OUTCOME_AT_SINK: dict[Via, OutcomeName] = {
    "normal": "completed",
    "gate": "routed",
    "error": "routed",
    "quarantine": "quarantined",
    "refused": "diverted",
}


class Frame(Struct, frozen=True, gc=False):
    """One level of the lineage stack: `token` was forked (or expanded) at `node`; `join` is the coalesce ahead, if any."""

    token: str
    node: str
    branch: str
    join: str | None


class Family:
    """A source row (int key) or a batch (str key) with every token and group that descends from it."""

    __slots__ = ("groups", "key", "live", "tokens")

    def __init__(self, key: int | str) -> None:
        self.key = key
        self.live = 0
        self.tokens: list[Token] = []
        self.groups: list[str] | None = None


class Token(Struct):
    """One token of an open family, and known to it. `failures` and `deaths` count the attempts behind the current one.

    The next attempt comes no earlier than `due_ms` of run time; `key` is what an effect's attempts here have in common;
    `began` is the epoch in which the attempt that is STARTED began. `placed` orders what stands before nodes: by the event
    that put it there, then by its place among those that the event put down.
    """

    id: str
    family: Family
    frames: tuple[Frame, ...]
    payload: int
    node: str
    stage: Stage = Stage.READY
    via: Via = "normal"
    failures: int = 0
    deaths: int = 0
    calls: int = 0
    due_ms: int = 0
    key: str | None = None
    began: int = 0
    placed: int = 0
    outcome: OutcomeName | None = None

    @property
    def attempt(self) -> int:
        """The number of the attempt that runs or comes next, from 1."""
        return self.failures + self.deaths + 1


class Group:
    """A coalesce group: open from its first arrival or loss (a gather from its expansion) to its one resolution."""

    __slots__ = (
        "arrivals",
        "arrived",
        "deadline_ms",
        "expected",
        "failure",
        "family",
        "frame",
        "frames",
        "id",
        "lost",
        "node",
        "opened_ms",
        "opened_seq",
        "parent_payload",
        "status",
    )

    def __init__(
        self, id_: str, node: Node, frame: Frame, frames: tuple[Frame, ...], family: Family, expected: tuple[str, ...]
    ) -> None:
        self.id = id_
        self.node = node
        self.failure: str | None = None
        self.frame = frame
        self.frames = frames
        self.family = family
        self.expected = expected
        self.arrived: dict[str, Token] = {}
        self.arrivals: list[Arrival] = []
        self.lost: dict[str, str] = {}
        self.opened_ms = 0
        self.opened_seq = 0
        self.deadline_ms: int | None = None
        self.parent_payload: int | None = None
        self.status: Literal["open", "merged", "failed"] = "open"


class Batch:
    """The open batch of one aggregation. Once its `trigger` is known it is due: no member joins, and its timer is void.

    `failures` and `deaths` count the attempts behind the current one; `began` is the epoch in which that one began, where
    this is on record (0: it has not begun).
    """

    __slots__ = ("began", "deadline_ms", "deaths", "due_ms", "failures", "members", "node", "number", "opened_ms",
                 "opened_seq", "status", "trigger")

    def __init__(self, node: Node, number: int, opened_ms: int, opened_seq: int) -> None:
        self.node = node
        self.number = number
        self.members: list[Token] = []
        self.opened_ms = opened_ms
        self.opened_seq = opened_seq
        self.failures = 0
        self.deaths = 0
        self.began = 0
        self.due_ms = 0
        timeout_ms = node.batch.timeout_ms if node.batch else None
        self.deadline_ms = None if timeout_ms is None else opened_ms + timeout_ms
        self.trigger: BatchTrigger | None = None
        self.status: Literal["open", "due", "closed"] = "open"

    @property
    def attempt(self) -> int:
        """The number of the attempt that runs or comes next, from 1."""
        return self.failures + self.deaths + 1


class Write(NamedTuple):
    """A sink write that is intended and not confirmed."""

    sink: str
    tokens: tuple[Token, ...]
    key: str
    offset: int | None
    content_hash: str


class OwedDivert(NamedTuple):
    """`token` failed, was invalid or was refused at `node`: it has to leave the normal path next."""

    token: Token
    kind: DivertKind
    node: str
    to: str
    edge: str | None
    code: str
    reason: int | None


class OwedLoss(NamedTuple):
    """The carrier `token` of `frame`'s branch ended or left: its group has to be told next."""

    token: str
    family: Family
    frames: tuple[Frame, ...]
    cause: LossCause
    node: str
    code: str | None


class OwedResolution(NamedTuple):
    """The policy of `group` is met or cannot be met any more: it has to be resolved next."""

    group: Group
    resolution: Resolution


Owed = OwedDivert | OwedLoss | OwedResolution
Timer = tuple[int, int, Group | Batch]

Status = Literal["new", "running", "interrupted", "completed", "failed"]


TIMERS_KEPT = 64
PLACES = 2**32
"""More tokens than one event can put down: `placed` is the event's seq times this, and a place among its tokens."""

_NO_PLAN = Plan(Graph(nodes=(), edges=()))


class State:
    """The fold's state of one run's stream: apply events to it with `ledger.fold.apply`."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.seq = 0
        self.epoch = 0
        self.at = 0
        self.active_ms = 0
        self.status: Status = "new"
        self.plan: Plan = _NO_PLAN
        self.jitter_seed = 0
        self.rows_read = 0
        self.position: int | None = None
        self.exhausted = False
        self.abandoned = False
        self.unclean_rows: int | None = None
        self.payloads = 0
        self.tokens: dict[str, Token] = {}
        self.families: dict[int | str, Family] = {}
        self.groups: dict[str, Group] = {}
        self.open_groups = 0
        self.batches: dict[str, Batch] = {}
        self.batch_numbers: dict[str, int] = {}
        self.writes: dict[int, Write] = {}
        self.writes_failed: dict[int, Write] = {}
        self.writes_made = 0
        self.sink_ends: dict[str, int | None] = {}
        self.timers: list[Timer] = []
        self._timers_max = TIMERS_KEPT
        self.claimed_seq = 0
        self.closed_rows = Intervals()
        self.closed_batches: dict[str, Intervals] = {}
        self.closing: list[Family] = []
        self.owed: deque[Owed] = deque()
        self.losses_owed = 0
        self.born: list[Token] = []
        self.ended: list[Token] = []
        self.live = 0
        self.tokens_made = 0
        self.late_arrivals = 0
        self.notes = 0
        self.outcomes: dict[str, int] = {}

    def wait_for(self, deadline_ms: int, seq: int, thing: Group | Batch) -> None:
        """Set a timer. Those of what has closed meanwhile are dropped when they are the most, so memory is what is open."""
        if len(self.timers) > self._timers_max:
            self.timers = [timer for timer in self.timers if timer[2].status == "open"]
            heapify(self.timers)
            self._timers_max = max(TIMERS_KEPT, 2 * len(self.timers))
        heappush(self.timers, (deadline_ms, seq, thing))

    def due(self, active_ms: int) -> Group | Batch | None:
        """The group or batch whose timer comes first and is due at `active_ms`; closed ones are forgotten on the way."""
        while self.timers and self.timers[0][0] <= active_ms:
            thing = self.timers[0][2]
            if thing.status == "open":
                return thing
            heappop(self.timers)
        return None

    def next_deadline_ms(self) -> int | None:
        """When (in run time) the next open timer is due, or None."""
        while self.timers and self.timers[0][2].status != "open":
            heappop(self.timers)
        return self.timers[0][0] if self.timers else None
