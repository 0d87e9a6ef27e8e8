"""The desk: where events are said and tokens are put down, whatever piece of work brought them.

Why: steps, gates, joins, batches, effects and sinks end alike: an event is recorded, what it owes is settled, and tokens
stand before their next nodes with their rows.

Invariants:
- Every event goes through `record`; whatever it owes is settled before anything else is said.
- Rows of tokens that wait are kept in `rows` and dropped with their token; memory is what is open.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.executors import coalesces, owed
from engine.recorder import Recorder
from engine.rows import FrozenRow
from ledger import coalesce as rules
from ledger.events import Event
from ledger.fold.groups import rule_of
from ledger.fold.state import Group, OwedDivert, OwedLoss, Stage, Token


class Desk:
    """`stack` is the work queue, `lines` the tokens that wait at each sink, `rows` those of tokens that wait anywhere."""

    def __init__(self, recorder: Recorder, sinks: Iterable[str]) -> None:
        self.recorder = recorder
        self.state = recorder.state
        self.stack: list[tuple[Token, FrozenRow]] = []
        self.rows: dict[str, FrozenRow] = {}
        self.lines: dict[str, list[Token]] = {name: [] for name in sinks}

    def record(self, event: Event) -> None:
        """Say an event; the rows of tokens that it ended are forgotten."""
        self.recorder.record(event)
        for token in self.state.ended:
            self.rows.pop(token.id, None)

    def settle(self) -> None:
        """Say everything the fold owes; a merge that a loss triggers goes on downstream (E9)."""
        state = self.state
        while state.owed:
            first = state.owed[0]
            if isinstance(first, OwedDivert):
                row = self.rows.get(first.token.id, FrozenRow())
                self.record(owed.divert(first))
                if first.token.stage is Stage.READY:
                    self.place(first.token, row)
            elif isinstance(first, OwedLoss):
                self.record(owed.lose(first))
            else:
                self._resolve(first.group, first.resolution)

    def close(self, group: Group, cause: rules.Cause) -> None:
        """Resolve a group for a closing cause, and everything that follows from it."""
        resolution = rules.resolve(rule_of(group), group.expected, group.arrived, group.lost, cause)
        if resolution is None:
            raise ValueError(f"{group.id}: a closing cause must decide")
        self._resolve(group, resolution)
        self.settle()

    def _resolve(self, group: Group, resolution: rules.Resolution) -> None:
        held = {token.id: self.rows[token.id] for token in group.arrived.values()}
        parent = self.rows.pop(group.id, None)
        event, row = coalesces.close(group, resolution, held, parent, self.recorder.active_ms, self.recorder)
        self.record(event)
        if row is not None:
            self.place(self.state.born[0], row)

    def place(self, token: Token, row: FrozenRow) -> None:
        """Put the token before its node: into the work queue, or into the line at a sink."""
        line = self.lines.get(token.node)
        if line is None:
            self.stack.append((token, row))
        else:
            line.append(token)
            self.rows[token.id] = row

    def place_all(self, children: list[tuple[Token, FrozenRow]]) -> None:
        """Put siblings before their nodes, so that they go on in their order: the queue gives out what was put in last."""
        for token, row in children:
            if token.node in self.lines:
                self.place(token, row)
        for token, row in reversed(children):
            if token.node not in self.lines:
                self.place(token, row)
