"""A run's log written by hand: events are said one after the other, stamped, and stored through the real writer.

Why by hand: a valid log shows that the fold accepts what it must, a broken one that it refuses what it must, and neither
may come from the code under test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec
from msgspec.structs import replace

from ledger import events as e
from ledger import ids, registry
from ledger.codec import VERSION_OF
from ledger.graph import Graph
from ledger.memory_store import MemoryStore
from ledger.store import Store, StreamStatus
from ledger.writer import Writer

RUN = "hand-made"
AT = 1_790_000_000_000_000
HASH = "0" * 64


class Log:
    """Says events at `ms` of run time. Payload numbers are given in the order of `keep`."""

    def __init__(self, graph: Graph, run: str = RUN) -> None:
        self.run = run
        self.ms = 0
        self.epoch = 1
        self.said: list[e.Event] = []
        self.kept: list[tuple[bytes, bytes]] = []
        self.writes = 0
        self.rows = 0
        self.say(started(graph, self.keep({"pipeline": "by hand"})), e.RunClaimed(process="test"))

    def keep(self, value: object) -> e.Commitment:
        """A payload of the value's JSON, under the next number."""
        data, salt = msgspec.json.encode(value), len(self.kept).to_bytes(16, "big")
        self.kept.append((salt, data))
        return e.Commitment(len(self.kept), sha256(salt + data).hexdigest())

    def say(self, *events: e.Event) -> Log:
        """Say the events now."""
        at = AT + self.ms * 1000
        self.said += [replace(event, at=at, active_ms=self.ms, epoch=self.epoch) for event in events]
        return self

    def wait(self, ms: int) -> Log:
        """Let run time pass."""
        self.ms += ms
        return self

    def row(self, value: object = None, *, code: str | None = None) -> int:
        """Read the next source row (invalid with `code`); gives the number of its payload."""
        data = self.keep({"row": self.rows} if value is None else value)
        error = self.keep("bad row") if code else None
        self.say(e.RowRead(token=str(self.rows), row=self.rows, valid=code is None, position=self.rows, data=data,
                           code=code, error=error))
        self.rows += 1
        return data.n

    def write(self, sink: str, *tokens: str, refused: Sequence[e.Refusal] = (), key: str | None = None) -> Log:
        """Write the tokens to the sink and confirm it."""
        self.intend(sink, *tokens, key=key)
        return self.confirm(sink, len(tokens) - len(refused), refused)

    def intend(self, sink: str, *tokens: str, key: str | None = None) -> Log:
        """Intend the next write, under a key of its own or one that was used before."""
        self.writes += 1
        return self.say(e.SinkWriteIntended(sink=sink, write=self.writes, tokens=tokens, content_hash=HASH,
                                            key=f"{self.run}:{self.writes}" if key is None else key, offset=None))

    def confirm(self, sink: str, accepted: int, refused: Sequence[e.Refusal] = ()) -> Log:
        """Confirm the last write."""
        return self.say(e.SinkWriteConfirmed(sink=sink, write=self.writes, uri=f"mem:{sink}", size_bytes=1,
                                             content_hash=HASH, accepted=accepted, refused=tuple(refused),
                                             duration_us=1))

    def interrupt(self) -> Log:
        """The run stops with work open."""
        return self.say(e.RunInterrupted(code="STOPPED"))

    def resume(self) -> Log:
        """Another process carries the run on."""
        self.epoch += 1
        return self.say(e.RunClaimed(process="test"))

    def exhaust(self) -> Log:
        """The source ended."""
        return self.say(e.SourceExhausted(rows=self.rows))

    def seal(self, *, status: str = "completed", late: int = 0, tokens: int | None = None, **outcomes: int) -> Log:
        """Seal with the stated counts (`tokens`: as many as outcomes, unless said)."""
        count = sum(outcomes.values()) if tokens is None else tokens
        return self.say(sealed("failed" if status == "failed" else "completed", outcomes, rows=self.rows, tokens=count,
                               late=late))

    def stamped(self) -> list[e.Event]:
        """The events with their headers; a seal states the size of what stands before it (its root comes with the bytes)."""
        return stamp(self.run, self.said)

    def store(self, store: Store | None = None) -> Store:
        """Everything stored: the ledger's own stream, the run's, and (after a seal) the ledger's closing entry."""
        return stored(self.run, self.stamped(), self.kept, store)


def stamp(run: str, said: Iterable[e.Event]) -> list[e.Event]:
    """Fill in run, seq, version and a seal's size where an event leaves them empty."""
    stamped = [
        replace(event, run=event.run or run, seq=event.seq or seq, v=event.v or VERSION_OF[type(event)])
        for seq, event in enumerate(said, start=1)
    ]
    return [
        replace(event, size=event.size or event.seq - 1) if isinstance(event, e.RunSealed) else event
        for event in stamped
    ]


def stored(run: str, events: Sequence[e.Event], kept: Sequence[tuple[bytes, bytes]], store: Store | None = None) -> Store:
    """Store a run's stamped events through the writer; the first payload (settings) is permanent."""
    store = MemoryStore() if store is None else store
    if store.head(ids.LEDGER_STREAM) is None:
        registry.create(store, "test-ledger", AT)
    writer = Writer(store, run)
    for salt, data in kept:
        writer.keep(salt, data, permanent=writer.payloads == 0)
    last: e.Event = events[-1]
    for event in events:
        if isinstance(event, e.RunSealed):
            event = replace(event, size=event.size or writer.size, root=event.root or writer.root())
        writer.add(event)
        last = event
    opened: list[e.Event] = [e.RunOpened(opened=run, pipeline="by hand")]
    if isinstance(last, e.RunSealed):
        opened.append(e.RunClosed(closed=run, status=last.status, size=writer.size, root=writer.root()))
    status: StreamStatus = "interrupted" if isinstance(last, e.RunInterrupted) else "running"
    if isinstance(last, e.RunSealed):
        status = last.status
    writer.commit(status, lambda: [registry.entries(store, opened, AT)])
    return store


def started(graph: Graph, settings: e.Commitment) -> e.RunStarted:
    """The first event of a run over `graph`."""
    return e.RunStarted(program="a test", pipeline="by-hand", settings=settings, settings_path="by-hand.yaml",
                        settings_hash=HASH, secrets={}, directory="somewhere", source=e.SourceIdentity(kind="null"),
                        jitter_seed=7, graph=graph)


def sealed(status: str, outcomes: dict[str, int], *, rows: int, tokens: int, late: int) -> e.RunSealed:
    """A seal whose size and root are filled in when it is stored."""
    return e.RunSealed(status="failed" if status == "failed" else "completed", outcomes=outcomes, rows=rows,
                       tokens=tokens, late_arrivals=late, size=0, root="")


def step(token: str, node: str, input_: int, output: e.Output, attempt: int = 1) -> e.StepCompleted:
    """An attempt that succeeded."""
    return e.StepCompleted(token=token, node=node, attempt=attempt, input=input_, output=output, duration_us=5)


def begun(token: str, node: str, input_: int, attempt: int = 1) -> e.StepStarted:
    """An attempt that begins, under the key that all attempts of the token at the node have."""
    return e.StepStarted(token=token, node=node, attempt=attempt, input=input_, key=f"{token}/{node}")


def died(token: str, node: str, attempt: int) -> e.StepAbandoned:
    """An attempt in which the process died."""
    return e.StepAbandoned(token=token, node=node, attempt=attempt, code="process_died")


def failed(token: str, node: str, input_: int, error: e.Commitment | None, *, attempt: int = 1, code: str = "bad",
           retry: bool = False, delay_ms: int = 0) -> e.StepFailed:
    """An attempt that failed."""
    return e.StepFailed(token=token, node=node, attempt=attempt, input=input_, code=code, error=error, retry=retry,
                        delay_ms=delay_ms, duration_us=5)


def filtered(token: str, node: str, input_: int) -> e.TokenFiltered:
    """A token that a step dropped."""
    return e.TokenFiltered(token=token, node=node, attempt=1, input=input_, duration_us=5)


def diverted(token: str, node: str, to: str, *, kind: e.DivertKind = "error", edge: str | None = None,
             code: str = "bad", reason: int | None = None) -> e.Diverted:
    """A token off the normal path; by no edge when it is discarded."""
    return e.Diverted(token=token, kind=kind, node=node, edge=edge, to=to, code=code, reason=reason)


def routed(token: str, node: str, label: str) -> e.Routed:
    """A gate's choice."""
    return e.Routed(token=token, node=node, label=label, edge=f"{node}:{label}")


def forked(token: str, node: str, branches: str | Sequence[str]) -> e.TokenForked:
    """A gate's fork."""
    return e.TokenForked(token=token, node=node, label="fork", branches=tuple(branches))


def expanded(token: str, node: str, input_: int, *outputs: e.Output) -> e.TokenExpanded:
    """One token that became as many as there are outputs."""
    return e.TokenExpanded(token=token, node=node, attempt=1, input=input_, count=len(outputs), outputs=outputs,
                           duration_us=5)


def arrived(token: str, group: str) -> e.BranchArrived:
    """A carrier at the coalesce that its group is of."""
    return e.BranchArrived(token=token, coalesce=group.rpartition("+")[2], group=group, branch=branch_of(token, group))


def arrived_late(token: str, group: str, closed: str) -> e.BranchArrivedLate:
    """A carrier after its group closed: `merged`, or for the reason why it failed."""
    merged = closed == "merged"
    return e.BranchArrivedLate(token=token, coalesce=group.rpartition("+")[2], group=group,
                               branch=branch_of(token, group), closed_as="merged" if merged else "failed",
                               reason=None if merged else closed)


def lost(token: str, group: str, cause: e.LossCause, node: str, code: str | None = None) -> e.BranchLost:
    """A carrier that will not come."""
    return e.BranchLost(token=token, coalesce=group.rpartition("+")[2], group=group, branch=branch_of(token, group),
                        cause=cause, node=node, code=code)


def branch_of(token: str, group: str) -> str:
    """The branch (or ordinal) on which `token` carries the forked or expanded ancestor of `group`."""
    rest = token.removeprefix(group.rpartition("+")[0])[1:]
    return rest.split("+")[0].split(".")[0]


def facts(group: str, policy: str, expected: str | Sequence[str], arrived: Sequence[tuple[str, str, int]] = (),
          lost: Sequence[tuple[str, str]] = (), *, wait: int = 0, merge: str = "union") -> e.GroupFacts:
    """What is known of a group: `arrived` as (branch, token, offset), `lost` as (branch, reason); the rest is missing."""
    here = {branch for branch, *_ in (*arrived, *lost)}
    return e.GroupFacts(policy=policy, merge_strategy=merge, expected_branches=tuple(expected),
                        arrival_order=tuple(e.Arrival(*one) for one in arrived),
                        branches_lost=tuple(e.Loss(*one) for one in lost),
                        branches_missing=tuple(branch for branch in expected if branch not in here),
                        wait_duration_ms=wait)


def merged(group: str, trigger: e.CoalesceTrigger, known: e.GroupFacts, output: e.Output) -> e.TokensCoalesced:
    """A group that merged."""
    return e.TokensCoalesced(coalesce=group.rpartition("+")[2], group=group, merged=group, trigger=trigger, facts=known,
                             output=output)


def group_failed(group: str, trigger: e.CoalesceTrigger, reason: str, known: e.GroupFacts) -> e.CoalesceFailed:
    """A group that failed."""
    return e.CoalesceFailed(coalesce=group.rpartition("+")[2], group=group, trigger=trigger, reason=reason, facts=known)


def buffered(token: str, ordinal: int, batch: int = 1, aggregation: str = "totals") -> e.TokenBuffered:
    """A member of a batch."""
    return e.TokenBuffered(token=token, aggregation=aggregation, batch=batch, ordinal=ordinal)


def batch_begun(members: int, trigger: e.BatchTrigger, *, batch: int = 1, attempt: int = 1, aggregation: str = "totals"
                ) -> e.BatchStarted:
    """An attempt to compute a batch that begins."""
    return e.BatchStarted(aggregation=aggregation, batch=batch, attempt=attempt, members=members, trigger=trigger)


def batch_died(attempt: int, *, batch: int = 1, aggregation: str = "totals") -> e.BatchAbandoned:
    """An attempt to compute a batch in which the process died."""
    return e.BatchAbandoned(aggregation=aggregation, batch=batch, attempt=attempt, code="process_died")


def flushed(members: int, trigger: e.BatchTrigger, *outputs: e.BatchOutput, batch: int = 1, attempt: int = 1,
            rejected: Sequence[e.RejectedMember] = (), aggregation: str = "totals") -> e.BatchFlushed:
    """A batch that was computed."""
    return e.BatchFlushed(aggregation=aggregation, batch=batch, attempt=attempt, trigger=trigger, members=members,
                          rejected=tuple(rejected), outputs=outputs, duration_us=5)


def batch_failed(members: int, trigger: e.BatchTrigger, error: e.Commitment | None, *, batch: int = 1,
                 attempt: int = 1, retry: bool = False, aggregation: str = "totals", delay_ms: int = 0) -> e.BatchFailed:
    """A batch that could not be computed."""
    return e.BatchFailed(aggregation=aggregation, batch=batch, attempt=attempt, trigger=trigger, members=members,
                         code="bad_batch", error=error, retry=retry, delay_ms=delay_ms, duration_us=5)


def counted(*outcomes: str) -> dict[str, int]:
    """Outcomes as the seal counts them."""
    return dict(Counter(outcomes))
