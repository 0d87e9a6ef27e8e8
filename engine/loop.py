"""The run loop: one work queue, decided one piece at a time, by the fold's state alone.

Why one loop: a fresh run and a resumed one do the same thing: settle what is owed, fire what is due, process what
stands before a node, write what waits at a sink, read the next row.

Invariants:
- Every event goes through `_record`; whatever it owes is settled before anything else is said.
- The stamp is renewed before each piece of work and after each plugin call, and due timers are decided right after, so
  no event is ever stamped past a deadline that is still open.
- A group commit covers what about 200 rows or 50 ms left, and always stands before an effect (a sink write).
- Rows of tokens that wait are kept here and dropped with their token; memory is what is open.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from engine.bound import BoundPipeline
from engine.executors import calls, coalesces, gates, owed, sinks, sources, steps
from engine.executors.keeper import describe
from engine.feed import Broken, Exhausted, Feed
from engine.plugin_api import Sink, SourceRow
from engine.recorder import Recorder
from engine.rows import FrozenRow, freeze
from ledger import coalesce as rules
from ledger import ids
from ledger.errors import RunIncomplete
from ledger.events import Event, SinkWriteFailed, SourceExhausted, SourceFailed, StepFailed, StepStarted, TokenExpanded
from ledger.fold.groups import rule_of
from ledger.fold.state import Group, OwedDivert, OwedLoss, Stage, Token

ROWS_PER_COMMIT = 200
COMMIT_EVERY_MS = 50
IDLE_SECONDS_MAX = 0.2
RETRIES_WAITING_MAX = 1000


@dataclass(frozen=True)
class Hooks:
    """What the caller wants of a run while it goes: a reason to stop (None: go on), and news of finished rows."""

    stopping: Callable[[], str | None] = lambda: None
    progress: Callable[[int], None] = lambda rows: None


class Loop:
    """Drives one run from its state to the end of its source, or to a stop."""

    def __init__(self, pipeline: BoundPipeline, recorder: Recorder, feed: Feed, hooks: Hooks) -> None:
        self._pipeline = pipeline
        self._recorder = recorder
        self._state = recorder.state
        self._feed = feed
        self._hooks = hooks
        self._now_ns = recorder.ports.monotonic_ns
        self._stack: list[tuple[Token, FrozenRow]] = []
        self._rows: dict[str, FrozenRow] = {}
        self._at_sink: dict[str, list[Token]] = {name: [] for name in pipeline.sinks}
        self._retries: list[tuple[int, int, Token]] = []
        self._limits = calls.Limits(pipeline.row_bytes_max, pipeline.children_max)
        self._fault: RunIncomplete | None = None
        self._closing: list[Group] = []
        self._rows_since = 0
        self._committed_ms = recorder.active_ms
        self._handlers: dict[str, Callable[[Token, FrozenRow], None]] = {
            **dict.fromkeys(pipeline.steps, self._step),
            **dict.fromkeys(pipeline.gates, self._gate),
            **dict.fromkeys(self._state.plan.coalesces, self._arrive),
        }

    def run(self) -> str | None:
        """Go on until the source has ended and everything is flushed (None), or until there is a reason to stop.

        Raises `RunIncomplete` when the source or a sink failed: the rows read so far finish first, and everything is
        committed.
        """
        while (reason := self._hooks.stopping()) is None:
            self._tick()
            if self._state.open_groups > self._pipeline.open_groups_max and self._fault is None:
                self._fault = _too_many_groups(self._pipeline.open_groups_max)
            if self._stack:
                self._drain()
            elif self._retries and self._retries[0][0] <= self._recorder.active_ms:
                token = heapq.heappop(self._retries)[2]
                self._stack.append((token, self._rows.pop(token.id)))
            elif self._commit_is_due():
                self._flush()
            elif self._may_read():
                self._read()
            elif self._retries:
                self._feed.pause(self._patience())
            elif self._fault is not None:
                self._flush()
                raise self._fault
            elif not self._flush_next_node():
                self._flush()
                if not self._stack and not self._retries:
                    return None
        self._tick()
        self._drain()
        self._flush()
        return reason

    # --- one piece of work ---------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Renew the stamp and decide what is due by it."""
        active_ms = self._recorder.tick()
        while self._state.timers and self._state.timers[0][0] <= active_ms:
            due = self._state.due(active_ms)
            if due is None:
                return
            if isinstance(due, Group):
                self._close(due, rules.Cause.TIMEOUT)

    def _may_read(self) -> bool:
        """Whether the source has more, and there is room: rows that wait for a retry are bounded."""
        return not self._state.exhausted and self._fault is None and len(self._retries) < RETRIES_WAITING_MAX

    def _read(self) -> None:
        item = self._feed.take(self._patience())
        if item is None:
            return
        self._tick()
        if isinstance(item, SourceRow):
            item, encoded = sources.fitted(item, self._pipeline.row_bytes_max)
            event = sources.read(self._state, item, encoded, self._pipeline.key_field, self._recorder)
            row = freeze(item.row if isinstance(item.row, dict) else {"value": item.row})
            self._rows_since += 1
            self._record(event)
            token = self._state.born[0]
            if event.valid:
                self._place(token, row)
            else:
                self._rows[token.id] = row
                self._settle()
        elif isinstance(item, Exhausted):
            self._record(SourceExhausted(rows=self._state.rows_read))
        else:
            self._source_failed(item)

    def _source_failed(self, item: Broken) -> None:
        text = describe(item.error)
        position = self._state.position
        self._record(SourceFailed(position=position, code="source_raised", error=self._recorder.keep_text(text)))
        self._fault = RunIncomplete("SOURCE_FAILED", text, where=f"source, after position {position}",
                                    next_step="mend the source, then resume the run")

    def _drain(self) -> None:
        stack, handlers = self._stack, self._handlers
        while stack:
            token, row = stack.pop()
            handlers[token.node](token, row)

    def _step(self, token: Token, row: FrozenRow) -> None:
        step = self._pipeline.steps[token.node]
        if step.node.effect:
            self._announce(token)
        called = calls.call(step, row, self._limits, self._now_ns)
        self._tick()
        event, rows = steps.attempted(step, token, called, self._recorder, self._state.jitter_seed)
        if type(event) is TokenExpanded:
            self._keep_parent(token, row)
        if not rows:
            self._rows[token.id] = row
            self._record(event)
            if isinstance(event, StepFailed) and event.retry:
                due_ms = self._recorder.active_ms + event.delay_ms
                heapq.heappush(self._retries, (due_ms, self._state.seq, token))
                return
            self._settle()
            return
        self._record(event)
        if token.outcome is None:
            self._place(token, rows[0])
            return
        self._place_all(list(zip(self._state.born, rows, strict=True)))
        self._settle()

    def _announce(self, token: Token) -> None:
        """An effect's intent is durable before the effect."""
        key = f"{self._state.run}/{token.id}/{token.node}"
        self._record(StepStarted(token=token.id, node=token.node, attempt=token.attempt, input=token.payload, key=key))
        self._recorder.commit()

    def _keep_parent(self, token: Token, row: FrozenRow) -> None:
        """A gathered expansion's list is merged into the parent's row, so it waits with the group."""
        join = self._state.plan.gathers.get(token.node)
        if join is not None:
            self._rows[ids.merged_token(token.id, join)] = row

    def _gate(self, token: Token, row: FrozenRow) -> None:
        event = gates.decide(self._pipeline.gates[token.node], token, row, self._recorder, self._now_ns)
        if isinstance(event, StepFailed):
            self._rows[token.id] = row
            self._record(event)
            self._settle()
            return
        self._record(event)
        if self._state.born:
            self._place_all([(child, row) for child in self._state.born])
        else:
            self._place(token, row)
        if self._state.owed:
            self._settle()

    def _arrive(self, token: Token, row: FrozenRow) -> None:
        event = coalesces.arrive(self._state, token, token.node)
        if event is None:
            return
        self._rows[token.id] = row
        self._record(event)
        self._settle()

    # --- decisions -----------------------------------------------------------------------------------------------

    def _record(self, event: Event) -> None:
        self._recorder.record(event)
        for token in self._state.ended:
            self._rows.pop(token.id, None)

    def _settle(self) -> None:
        """Say everything the fold owes; a merge that a loss triggers goes on downstream (E9)."""
        state = self._state
        while state.owed:
            first = state.owed[0]
            if isinstance(first, OwedDivert):
                row = self._rows.get(first.token.id, FrozenRow())
                self._record(owed.divert(first))
                if first.token.stage is Stage.READY:
                    self._place(first.token, row)
            elif isinstance(first, OwedLoss):
                self._record(owed.lose(first))
            else:
                self._resolve(first.group, first.resolution)

    def _close(self, group: Group, cause: rules.Cause) -> None:
        """Resolve a group for a closing cause, and everything that follows from it."""
        resolution = rules.resolve(rule_of(group), group.expected, group.arrived, group.lost, cause)
        if resolution is None:
            raise ValueError(f"{group.id}: a closing cause must decide")
        self._resolve(group, resolution)
        self._settle()

    def _resolve(self, group: Group, resolution: rules.Resolution) -> None:
        held = {token.id: self._rows[token.id] for token in group.arrived.values()}
        parent = self._rows.pop(group.id, None)
        event, row = coalesces.close(group, resolution, held, parent, self._recorder.active_ms, self._recorder)
        self._record(event)
        if row is not None:
            self._place(self._state.born[0], row)

    def _place(self, token: Token, row: FrozenRow) -> None:
        """Put the token before its node: into the work queue, or into the line at a sink."""
        line = self._at_sink.get(token.node)
        if line is None:
            self._stack.append((token, row))
        else:
            line.append(token)
            self._rows[token.id] = row

    def _place_all(self, children: list[tuple[Token, FrozenRow]]) -> None:
        """Put siblings before their nodes, so that they go on in their order: the queue gives out what was put in last."""
        for token, row in children:
            if token.node in self._at_sink:
                self._place(token, row)
        for token, row in reversed(children):
            if token.node not in self._at_sink:
                self._place(token, row)

    def _flush_next_node(self) -> bool:
        """At end of source: decide open groups of the first node, in topological order, that has any (D6).

        So many at a time as rows in a commit, so that memory stays bounded and a stop is heard.
        """
        if not self._closing:
            groups = [group for group in self._state.groups.values() if group.status == "open"]
            if not groups:
                return False
            step = min(group.node.step for group in groups)
            self._closing = [group for group in reversed(groups) if group.node.step == step]
        for _ in range(min(len(self._closing), ROWS_PER_COMMIT)):
            group = self._closing.pop()
            if group.status == "open":
                self._close(group, rules.Cause.END_OF_SOURCE)
        return True

    # --- commits and sinks ---------------------------------------------------------------------------------------

    def _commit_is_due(self) -> bool:
        if self._rows_since >= ROWS_PER_COMMIT:
            return True
        waits = self._recorder.buffered > 0 or self._rows_since > 0
        return waits and self._recorder.active_ms - self._committed_ms >= COMMIT_EVERY_MS

    def _flush(self) -> None:
        """Write what waits at the sinks: intents, commit, writes, confirmations; failsinks after those that refused."""
        planned = self._plan_writes()
        self._recorder.commit()
        while planned:
            for write in planned:
                self._write(write)
            planned = self._plan_writes()
            if planned:
                self._recorder.commit()
        self._hooks.progress(self._rows_since)
        self._rows_since = 0
        self._committed_ms = self._recorder.active_ms

    def _plan_writes(self) -> list[sinks.Planned]:
        planned = []
        for name, line in self._at_sink.items():
            sink = self._pipeline.sinks[name]
            offset = self._offset(name, sink) if line else None
            for tokens in sinks.chunks(line):
                write = self._planned(name, sink, tokens, offset)
                self._record(write.intent)
                planned.append(write)
                offset = None if offset is None else offset + len(write.prepared.content)
            line.clear()
        return planned

    def _offset(self, name: str, sink: Sink) -> int | None:
        try:
            return sink.offset()
        except Exception as error:
            raise RunIncomplete("SINK_FAILED", f"expected a sink that knows its offset, found {describe(error)}",
                                where=f"sink {name}", next_step="mend the sink, then resume the run") from error

    def _planned(self, name: str, sink: Sink, tokens: list[Token], offset: int | None) -> sinks.Planned:
        """One write. A sink that cannot even encode rows is a sink at fault: nothing of the write is on record."""
        try:
            return sinks.plan(self._state, name, sink, tokens, self._rows, offset)
        except Exception as error:
            raise RunIncomplete("SINK_FAILED", f"expected a sink that encodes rows, found {describe(error)}",
                                where=f"sink {name}", next_step="mend the sink, then resume the run") from error

    def _write(self, write: sinks.Planned) -> None:
        name = write.intent.sink
        performed = sinks.perform(write, self._pipeline.sinks[name], self._now_ns)
        self._tick()
        event = sinks.confirm(write, performed, self._recorder)
        self._record(event)
        if isinstance(event, SinkWriteFailed):
            self._recorder.commit()
            found = describe(performed.error) if performed.error else "nothing"
            raise RunIncomplete("SINK_FAILED", f"expected a sink that takes rows, found {found}", where=f"sink {name}",
                                next_step="mend the sink, then resume the run")
        self._settle()

    def _patience(self) -> float:
        """How long to wait for a row: until the next commit, timer or retry, and never long."""
        now = self._recorder.active_ms
        until = [now + IDLE_SECONDS_MAX * 1000]
        if self._recorder.buffered or self._rows_since:
            until.append(self._committed_ms + COMMIT_EVERY_MS)
        if self._retries:
            until.append(self._retries[0][0])
        deadline = self._state.next_deadline_ms()
        if deadline is not None:
            until.append(deadline)
        return max(0.0, min(until) - now) / 1000


def _too_many_groups(limit: int) -> RunIncomplete:
    return RunIncomplete("LIMIT_EXCEEDED", f"expected at most {limit} open groups, found more", where="limits.open_groups",
                         next_step="raise it or give the coalesces a timeout, then resume the run")
