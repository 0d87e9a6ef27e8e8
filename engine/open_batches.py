"""Aggregations in motion: members are buffered, batches that are due are computed, their outputs go on.

Invariants:
- A batch is computed at the stamp at which it fell due, so that its trigger is true in the record (law C7).
- While a batch waits for another attempt, or is larger than it may be, it takes no member: tokens that come wait in line.
- Rows of members are kept with the desk and go with their tokens.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping

from engine.bound import BoundAggregation
from engine.desk import Desk
from engine.executors import batches
from engine.executors.calls import Failure, Limits
from engine.rows import FrozenRow
from ledger.events import BatchTrigger
from ledger.fold.state import Batch, Token


class Aggregations:
    """The batches of a desk. `tick` renews the stamp."""

    def __init__(self, desk: Desk, bound: Mapping[str, BoundAggregation], limits: Limits, tick: Callable[[], object]
                 ) -> None:
        self._desk = desk
        self._bound = bound
        self._limits = limits
        self._tick = tick
        self._waiting: dict[str, list[tuple[Token, FrozenRow]]] = {name: [] for name in bound}
        self._retries: list[tuple[int, int, Batch, BatchTrigger]] = []
        self._conditional = tuple(desk.state.plan.conditions)

    def take_up(self) -> None:
        """Line up the batches of the state that are due."""
        for batch in self._desk.state.batches.values():
            if batch.trigger is not None:
                self._line_up(batch, batch.trigger)

    def _line_up(self, batch: Batch, trigger: BatchTrigger) -> None:
        heapq.heappush(self._retries, (batch.due_ms, batch.opened_seq, batch, trigger))

    @property
    def waiting(self) -> int:
        """How many tokens wait for a batch that is tried again."""
        return sum(map(len, self._waiting.values()))

    @property
    def over_limit(self) -> Batch | None:
        """A batch that holds more rows than a batch may, and still is not due."""
        return next((batch for batch in self._desk.state.batches.values() if self._is_over(batch)), None)

    def _is_over(self, batch: Batch) -> bool:
        return batch.status == "open" and len(batch.members) > self._limits.batch_rows_max

    def take(self, token: Token, row: FrozenRow) -> None:
        """A token came to its aggregation: it becomes a member, and with it the batch may fall due."""
        desk, name = self._desk, token.node
        batch = desk.state.batches.get(name)
        if batch is not None and (batch.status == "due" or self._is_over(batch)):
            self._waiting[name].append((token, row))
            return
        desk.rows[token.id] = row
        desk.record(batches.buffer(desk.state, token))
        batch = desk.state.batches[name]
        if batch.trigger is not None:
            self.flush(batch, batch.trigger)

    def flush_due(self) -> bool:
        """Compute one batch that is due by its condition, or whose next attempt is; says whether there was one."""
        state = self._desk.state
        active_ms = self._desk.recorder.active_ms
        if self._retries and self._retries[0][0] <= active_ms:
            _, _, batch, trigger = heapq.heappop(self._retries)
            self.flush(batch, trigger)
            return True
        for name in self._conditional:
            waiting = state.batches.get(name)
            if waiting is None or waiting.status != "open":
                continue
            if state.plan.conditions[name](len(waiting.members), active_ms - waiting.opened_ms):
                self.flush(waiting, "condition")
                return True
        return False

    def next_attempt_ms(self) -> int | None:
        """When (in run time) the next attempt of a batch is due, or None."""
        return self._retries[0][0] if self._retries else None

    def flush(self, batch: Batch, trigger: BatchTrigger) -> None:
        """Compute a batch, say what came of it, and send on its outputs, or its members."""
        desk, bound = self._desk, self._bound[batch.node.id]
        rows = [desk.rows[token.id] for token in batch.members]
        called = batches.call(bound, rows, self._limits, desk.recorder.ports.monotonic_ns)
        if called.failure is not None:
            self._failed(batch, trigger, called.failure, called.duration_us)
            return
        members = list(batch.members)
        desk.record(batches.flushed(batch, trigger, called, desk.recorder))
        made = [one.made.row for one in called.made]
        if bound.passes_through:
            going_on = [members[one.parents[0]] for one in called.made if one.parents != "all"]
            for token in going_on:
                del desk.rows[token.id]
        else:
            going_on = list(desk.state.born)
        desk.place_all(list(zip(going_on, made, strict=True)))
        desk.settle()
        self._tick()
        self._reopen(batch.node.id)

    def _failed(self, batch: Batch, trigger: BatchTrigger, failure: Failure, duration_us: int) -> None:
        desk, bound = self._desk, self._bound[batch.node.id]
        event = batches.failed(bound, batch, trigger, failure, duration_us, desk.recorder, desk.state.jitter_seed)
        desk.record(event)
        desk.settle()
        self._tick()
        if event.retry:
            self._line_up(batch, trigger)
        else:
            self._reopen(batch.node.id)

    def _reopen(self, name: str) -> None:
        """Tokens that came while the batch was tried again go on, in their order."""
        waiting, self._waiting[name] = self._waiting[name], []
        self._desk.stack.extend(sorted(waiting, key=lambda one: one[0].placed, reverse=True))
