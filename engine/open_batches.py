"""Aggregations in motion: members are buffered, batches that are due are computed, their outputs go on.

Invariants:
- A batch is computed at the stamp at which it fell due, so that its trigger is true in the record (law C7).
- While the run is wary, an attempt says that it begins, durably, before the plugin is called.
- Tokens stand in line before their aggregation, in the order in which the log put them there, and are taken when nothing
  else is in hand, so that a resume takes them as the run would have. While a batch waits for another attempt, or is larger
  than it may be, it takes no member.
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
from engine.wary import Wary
from ledger.events import BatchTrigger
from ledger.fold.state import Batch, Token


class Aggregations:
    """The batches of a desk. `tick` renews the stamp; `waiting` is how many tokens stand in line."""

    def __init__(self, desk: Desk, bound: Mapping[str, BoundAggregation], limits: Limits, tick: Callable[[], object],
                 wary: Wary) -> None:
        self._desk = desk
        self._bound = bound
        self._limits = limits
        self._tick = tick
        self._wary = wary
        self._lines: dict[str, list[tuple[int, Token, FrozenRow]]] = {name: [] for name in bound}
        self._retries: list[tuple[int, int, Batch, BatchTrigger]] = []
        self.waiting = 0
        self._conditional = tuple(desk.state.plan.conditions)

    def take_up(self) -> None:
        """Line up the batches of the state that are due, but for those of which an attempt is on record as begun."""
        for batch in self._desk.state.batches.values():
            if not batch.began:
                self._line_up(batch)

    def again(self, batch: Batch) -> None:
        """Compute a batch in the midst of which a process died, before anything else: nothing had come after it."""
        if batch.trigger is not None:
            self.flush(batch, batch.trigger)

    def _line_up(self, batch: Batch) -> None:
        """Have a batch that is due computed when its next attempt is; one that is not waits for its trigger."""
        if batch.trigger is not None:
            heapq.heappush(self._retries, (batch.due_ms, batch.opened_seq, batch, batch.trigger))

    @property
    def over_limit(self) -> Batch | None:
        """A batch that holds more rows than a batch may, and still is not due."""
        return next((batch for batch in self._desk.state.batches.values() if self._is_over(batch)), None)

    def _is_over(self, batch: Batch) -> bool:
        return batch.status == "open" and len(batch.members) > self._limits.batch_rows_max

    def wait(self, token: Token, row: FrozenRow) -> None:
        """A token came to its aggregation: it stands in line."""
        heapq.heappush(self._lines[token.node], (token.placed, token, row))
        self.waiting += 1

    @property
    def may_take(self) -> bool:
        """Whether a token in line could become a member now."""
        return self.waiting > 0 and any(line and self._is_open(name) for name, line in self._lines.items())

    def take(self) -> bool:
        """Make the first in line a member, and with it the batch may fall due; False when none may be taken."""
        first = min((line for name, line in self._lines.items() if line and self._is_open(name)), default=None)
        if first is None:
            return False
        _, token, row = heapq.heappop(first)
        self.waiting -= 1
        desk = self._desk
        desk.rows[token.id] = row
        desk.record(batches.buffer(desk.state, token))
        batch = desk.state.batches[token.node]
        if batch.trigger is not None:
            self.flush(batch, batch.trigger)
        return True

    def _is_open(self, name: str) -> bool:
        batch = self._desk.state.batches.get(name)
        return batch is None or not (batch.status == "due" or self._is_over(batch))

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
        if self._wary.on:
            desk.record(batches.begun(batch, trigger))
            desk.recorder.commit()
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

    def _failed(self, batch: Batch, trigger: BatchTrigger, failure: Failure, duration_us: int) -> None:
        desk, bound = self._desk, self._bound[batch.node.id]
        event = batches.failed(bound, batch, trigger, failure, duration_us, desk.recorder, desk.state.jitter_seed)
        desk.record(event)
        desk.settle()
        self._tick()
        if event.retry:
            self._line_up(batch)
