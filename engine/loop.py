"""The run loop: one work queue, decided one piece at a time, by the fold's state alone.

Why one loop: a fresh run and a resumed one do the same thing: settle what is owed, fire what is due, process what
stands before a node, hear what effects came to, write what waits at a sink, read the next row.

Invariants:
- Every event goes through the desk; whatever it owes is settled before anything else is said.
- The stamp is renewed before each piece of work and after each plugin call, and due timers are decided right after, so
  no event is ever stamped past a deadline that is still open.
- A group commit covers what about 200 rows or 50 ms left, and always stands before an effect (a sink write, an attempt
  that touches the outside world).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine import taking_up
from engine.bound import BoundPipeline, BoundStep
from engine.desk import Desk
from engine.end_of_source import EndOfSource
from engine.executors import calls, coalesces, effects, gates, sources, steps
from engine.executors.keeper import describe
from engine.feed import Broken, Exhausted, Feed
from engine.in_flight import Effects
from engine.open_batches import Aggregations
from engine.outlets import Outlets
from engine.plugin_api import SourceRow
from engine.recorder import Recorder, TooLarge
from engine.retries import Retries
from engine.rows import FrozenRow, freeze
from engine.wary import ROWS_PER_COMMIT, Wary
from engine.workers import Workers
from ledger import coalesce as rules
from ledger import ids
from ledger.errors import RunIncomplete
from ledger.events import SourceExhausted, SourceFailed, StepFailed, TokenExpanded
from ledger.fold.state import Batch, Token

COMMIT_EVERY_MS = 50
IDLE_SECONDS_MAX = 0.2
WAITING_MAX = 1000
"""So many tokens may wait for another attempt of their step, or of the batch before them, before the loop reads no more."""


@dataclass(frozen=True)
class Hooks:
    """What the caller wants of a run while it goes: a reason to stop (None: go on), and news of finished rows."""

    stopping: Callable[[], str | None] = lambda: None
    progress: Callable[[int], None] = lambda rows: None


class Loop:
    """Drives one run from its state to the end of its source, or to a stop.

    `ledger` is the ledger's id; `rows` are those that open tokens carry, by payload number; the loop takes them over.
    """

    def __init__(self, pipeline: BoundPipeline, recorder: Recorder, feed: Feed, workers: Workers[calls.Called], hooks: Hooks,
                 ledger: str, rows: dict[int, FrozenRow] | None = None) -> None:
        self._rows = rows if rows is not None else {}
        self._pipeline = pipeline
        self._recorder = recorder
        self._state = recorder.state
        self._feed = feed
        self._hooks = hooks
        self._now_ns = recorder.ports.monotonic_ns
        self._limits = calls.Limits(pipeline.row_bytes_max, pipeline.children_max, pipeline.batch_rows_max)
        self.desk = Desk(recorder, pipeline.sinks)
        self._wary = Wary(self._state)
        self._outlets = Outlets(self.desk, pipeline.sinks, self._tick, ledger)
        self._effects = Effects(self.desk, pipeline.steps, workers, pipeline.workers_max, self._limits, ledger, self._wary)
        self._aggregations = Aggregations(self.desk, pipeline.aggregations, self._limits, self._tick, self._wary)
        self._retries = Retries()
        self._end = EndOfSource(self.desk, self._aggregations)
        self._fault: RunIncomplete | None = None
        self._rows_since = 0
        self._committed_ms = recorder.active_ms
        self._handlers: dict[str, Callable[[Token, FrozenRow], None]] = {
            **{name: self._effects.wait if step.node.effect else self._step for name, step in pipeline.steps.items()},
            **dict.fromkeys(pipeline.gates, self._gate),
            **dict.fromkeys(pipeline.aggregations, self._aggregations.wait),
            **dict.fromkeys(self._state.plan.coalesces, self._arrive),
        }

    def run(self) -> str | None:
        """Go on until the source has ended and everything is flushed (None), or until there is a reason to stop.

        Raises `RunIncomplete` when the source or a sink failed: the rows read so far finish first, and everything is
        committed; at once when more groups are open than may be, for one row can open any number of them.
        """
        try:
            self._take_up()
            while (reason := self._hooks.stopping()) is None and not self._has_too_many_groups():
                self._tick()
                self._check_limits()
                if not self._go_on():
                    return None
        except TooLarge:
            raise
        except RunIncomplete:
            self._finish_what_runs()
            raise
        self._finish_what_runs()
        self._flush()
        if reason is None:
            raise _too_many_groups(self._pipeline.open_groups_max)
        return reason

    def _take_up(self) -> None:
        """Take up what stands in the state, in a fresh run nothing: what is owed, what is due, what was left begun."""
        taking_up.stand(self.desk, self._rows, self._put)
        self._rows.clear()
        self._aggregations.take_up()
        self.desk.settle()
        self._tick()
        taking_up.abandon_attempts(self.desk, self._put)
        self._outlets.make_again()
        taking_up.abandon_batches(self.desk, self._aggregations.again)

    def _put(self, token: Token, row: FrozenRow) -> None:
        """Put a token that stands before a node where it waits for what comes next."""
        step = self._pipeline.steps.get(token.node)
        if token.failures:
            self.desk.rows[token.id] = row
            self._retries.wait(token)
        elif step is not None and step.node.effect:
            self._effects.wait(token, row)
        elif token.node in self._pipeline.aggregations:
            self._aggregations.wait(token, row)
        else:
            self.desk.place(token, row)

    def _go_on(self) -> bool:
        """Do one piece of work; False when nothing is left to do."""
        if self._is_in_hand():
            self._drain()
            if self._is_in_hand():
                self._look_up()
        elif (self._effects.running and self._hear()) or self._try_again() or self._aggregations.flush_due():
            pass
        elif self._effects.may_start and (self._effects.is_enough or not self._may_read()):
            self._effects.start()
        elif self._commit_is_due():
            self._begin_and_flush()
        elif self._may_read():
            self._read()
        elif self._something_waits():
            self._feed.pause(self._patience())
        elif self._fault is not None:
            self._flush()
            raise self._fault
        elif not self._end.flush_next():
            self._flush()
            return self._is_in_hand() or self._something_waits()
        return True

    def _is_in_hand(self) -> bool:
        """Whether a token stands where nothing keeps it."""
        return bool(self.desk.stack) or self._aggregations.may_take

    def _look_up(self) -> None:
        """In the midst of very many tokens: hear what has ended, and commit, as at any other time."""
        self._hear()
        if self._commit_is_due():
            self._begin_and_flush()

    def _begin_and_flush(self) -> None:
        if self._effects.may_start:
            self._effects.start()
        self._flush()

    def _finish_what_runs(self) -> None:
        """Before a stop: finish what is in hand, attempts that run included; begin nothing that touches the outside.

        What is heard is committed as it comes. Tokens that stand before pure steps may be left to a resume.
        """
        self._tick()
        self._drain()
        while self._effects.running:
            if not self._hear():
                self._feed.pause(self._wait())
            self._tick()
            self._drain()
            if self._commit_is_due():
                self._recorder.commit()
                self._committed_ms = self._recorder.active_ms

    # --- one piece of work ---------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Renew the stamp and decide what is due by it."""
        state, recorder = self._state, self._recorder
        active_ms = recorder.tick()
        while state.timers and state.timers[0][0] <= active_ms:
            due = state.due(active_ms)
            if due is None:
                return
            if isinstance(due, Batch):
                self._aggregations.flush(due, "timeout")
            else:
                self.desk.close(due, rules.Cause.TIMEOUT)
            active_ms = recorder.active_ms

    def _check_limits(self) -> None:
        if self._fault is None and self._state.batches and (batch := self._aggregations.over_limit) is not None:
            self._fault = _too_large(batch, self._limits.batch_rows_max)

    def _has_too_many_groups(self) -> bool:
        return self._state.open_groups > self._pipeline.open_groups_max

    def _something_waits(self) -> bool:
        """Whether something goes on by itself: an attempt that runs, or another attempt that will be due."""
        return len(self._retries) > 0 or self._effects.running > 0 or self._aggregations.next_attempt_ms() is not None

    def _may_read(self) -> bool:
        """Whether the source has more, and there is room: what waits is bounded."""
        return (not self._state.exhausted and self._fault is None
                and len(self._retries) + self._aggregations.waiting < WAITING_MAX and not self._effects.is_full)

    def _read(self) -> None:
        """Take a row. Attempts that could begin wait for no row that is not there yet."""
        may_start = self._effects.may_start
        item = self._feed.take(0 if may_start else self._patience())
        if item is None:
            if may_start:
                self._effects.start()
            return
        self._tick()
        if isinstance(item, SourceRow):
            item, encoded = sources.fitted(item, self._pipeline.row_bytes_max)
            event = sources.read(self._state, item, encoded, self._pipeline.key_field, self._recorder)
            row = freeze(item.row if isinstance(item.row, dict) else {"value": item.row})
            self._rows_since += 1
            self.desk.record(event)
            token = self._state.born[0]
            if event.valid:
                self.desk.place(token, row)
            else:
                self.desk.rows[token.id] = row
                self.desk.settle()
        elif isinstance(item, Exhausted):
            self.desk.record(SourceExhausted(rows=self._state.rows_read))
        else:
            self._source_failed(item)

    def _source_failed(self, item: Broken) -> None:
        text = self._recorder.shown(describe(item.error))
        position = self._state.position
        self.desk.record(SourceFailed(position=position, code="source_raised", error=self._recorder.keep_text(text)))
        self._fault = RunIncomplete("SOURCE_FAILED", text, where=f"source, after position {position}",
                                    next_step="mend the source, then resume the run")

    def _drain(self) -> None:
        """Take tokens to their nodes until none is left, or a commit's time has passed: an expansion can leave very many.

        So can steps that expand one after the other, each child a group: then until too many are open.
        """
        stack, handlers, recorder, state = self.desk.stack, self._handlers, self._recorder, self._state
        until_ms, groups_max = recorder.active_ms + COMMIT_EVERY_MS, self._pipeline.open_groups_max
        while recorder.active_ms < until_ms and state.open_groups <= groups_max:
            if stack:
                token, row = stack.pop()
                handlers[token.node](token, row)
            elif not self._aggregations.waiting or not self._aggregations.take():
                return

    def _step(self, token: Token, row: FrozenRow) -> None:
        step = self._pipeline.steps[token.node]
        if self._wary.on:
            self.desk.record(effects.begun(token, None))
            self._recorder.commit()
        called = calls.call(step, step.call, row, self._limits, self._now_ns)
        self._tick()
        self._conclude(step, token, row, called)

    def _hear(self) -> bool:
        """Record what effects came to, in the order in which it is taken here; says whether there was anything."""
        heard = False
        for token, row, step, called, made in self._effects.ended():
            heard = True
            self._tick()
            for event in effects.calls_made(token, made, self._recorder):
                self.desk.record(event)
            self._conclude(step, token, row, called)
            self._drain()
        return heard

    def _conclude(self, step: BoundStep, token: Token, row: FrozenRow, called: calls.Called) -> None:
        """The end of an attempt, however it was made: the one place where it is said, and where its token goes on."""
        desk = self.desk
        event, rows = steps.attempted(step, token, called, self._recorder, self._state.jitter_seed)
        if type(event) is TokenExpanded:
            self._keep_parent(token, row)
        if not rows:
            desk.rows[token.id] = row
            desk.record(event)
            if isinstance(event, StepFailed) and event.retry:
                self._retries.wait(token)
                return
            desk.settle()
            return
        desk.record(event)
        if token.outcome is None:
            desk.place(token, rows[0])
            return
        desk.place_all(list(zip(self._state.born, rows, strict=True)))
        desk.settle()

    def _try_again(self) -> bool:
        """Put a token whose next attempt is due before its step again; says whether there was one."""
        token = self._retries.take(self._recorder.active_ms)
        if token is None:
            return False
        self.desk.stack.append((token, self.desk.rows.pop(token.id)))
        return True

    def _keep_parent(self, token: Token, row: FrozenRow) -> None:
        """A gathered expansion's list is merged into the parent's row, so it waits with the group."""
        join = self._state.plan.gathers.get(token.node)
        if join is not None:
            self.desk.rows[ids.merged_token(token.id, join)] = row

    def _gate(self, token: Token, row: FrozenRow) -> None:
        desk = self.desk
        event = gates.decide(self._pipeline.gates[token.node], token, row, self._recorder, self._now_ns)
        if isinstance(event, StepFailed):
            desk.rows[token.id] = row
            desk.record(event)
            desk.settle()
            return
        desk.record(event)
        if self._state.born:
            desk.place_all([(child, row) for child in self._state.born])
        else:
            desk.place(token, row)
        if self._state.owed:
            desk.settle()

    def _arrive(self, token: Token, row: FrozenRow) -> None:
        event = coalesces.arrive(self._state, token, token.node)
        if event is None:
            return
        self.desk.rows[token.id] = row
        self.desk.record(event)
        self.desk.settle()

    # --- the end, commits, waiting -------------------------------------------------------------------------------

    def _commit_is_due(self) -> bool:
        if self._rows_since >= ROWS_PER_COMMIT:
            return True
        waits = self._recorder.buffered > 0 or self._rows_since > 0
        return waits and self._recorder.active_ms - self._committed_ms >= COMMIT_EVERY_MS

    def _flush(self) -> None:
        self._outlets.flush()
        self._wary.look(self._state)
        self._hooks.progress(self._rows_since)
        self._rows_since = 0
        self._committed_ms = self._recorder.active_ms

    def _patience(self) -> float:
        """How long to wait for a row: until the next commit, timer, attempt or deadline, and never long."""
        until = [due for due in (self._aggregations.next_attempt_ms(), self._retries.next_ms()) if due is not None]
        if self._recorder.buffered or self._rows_since:
            until.append(self._committed_ms + COMMIT_EVERY_MS)
        return self._wait(*until)

    def _wait(self, *until_ms: int) -> float:
        """The seconds until the first of these moments of run time, the next timer, or the deadline of an attempt."""
        now = self._recorder.active_ms
        timer = self._state.next_deadline_ms()
        until = [now + IDLE_SECONDS_MAX * 1000, *until_ms, *([timer] if timer is not None else [])]
        seconds = max(0.0, min(until) - now) / 1000
        left = self._effects.seconds_left()
        return seconds if left is None else min(seconds, left)


def _too_many_groups(limit: int) -> RunIncomplete:
    return RunIncomplete("LIMIT_EXCEEDED", f"expected at most {limit} open groups, found more", where="limits.open_groups",
                         next_step="raise it, then resume the run with --accept-changes")


def _too_large(batch: Batch, limit: int) -> RunIncomplete:
    return RunIncomplete("LIMIT_EXCEEDED", f"expected at most {limit} rows in a batch of {batch.node.id}, found more before "
                         "any trigger", where="limits.batch_rows", next_step="raise it, then resume the run with "
                         "--accept-changes")
