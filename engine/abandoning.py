"""Giving a run up: what is open is decided as at the end of the source, the rest ends `failed`, and the run is sealed.

Why without plugins: a run is often given up because its pipeline cannot be run any more; so no source is read, no step is
called, no sink is opened. What a sink took of a write that was never confirmed stays there, and the record says that it
was not confirmed.

Invariant: every token ends, every group and batch is resolved, in the order of the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from engine import taking_up
from engine.desk import Desk
from engine.executors.sinks import chunks
from engine.recorder import Recorder
from engine.rows import FrozenRow
from ledger import coalesce as rules
from ledger.events import BatchFailed, BatchTrigger, SinkWriteFailed, TokensAbandoned
from ledger.fold.state import Batch, Group, Stage, Token

ABANDONED: Final = "abandoned"


def abandon_open(recorder: Recorder, rows: Mapping[int, FrozenRow], reason: str) -> None:
    """End everything that is open. `rows` are those of open tokens, by payload number."""
    given_up = _GivenUp(recorder, reason)
    given_up.take_up(rows)
    given_up.writes()
    given_up.flush()
    given_up.tokens()


class _GivenUp:
    """Every piece of work is noted in the state and nothing is done about it."""

    def __init__(self, recorder: Recorder, reason: str) -> None:
        self._recorder = recorder
        self._reason = reason
        self._state = recorder.state
        self._desk = Desk(recorder, recorder.state.plan.sinks)

    def take_up(self, rows: Mapping[int, FrozenRow]) -> None:
        """Settle what is owed; attempts that a dead process had begun are over."""
        taking_up.stand(self._desk, rows, self._desk.place)
        self._desk.settle()
        self._due()
        taking_up.abandon_attempts(self._desk, self._desk.place)
        taking_up.abandon_batches(self._desk, lambda batch: None)

    def _due(self) -> None:
        while (thing := self._state.due(self._recorder.active_ms)) is not None:
            if isinstance(thing, Group):
                self._desk.close(thing, rules.Cause.TIMEOUT)
            else:
                self._fail(thing, "timeout")

    def writes(self) -> None:
        """Writes that were not confirmed are none: their tokens stand before their sinks again."""
        for number, write in sorted(self._state.writes.items()):
            text = "expected a confirmation, found that the run was abandoned: the target may have taken it"
            error = self._recorder.keep_text(text)
            self._desk.record(SinkWriteFailed(sink=write.sink, write=number, code=ABANDONED, error=error))

    def flush(self) -> None:
        """Groups and batches, node by node in the order of the graph; what that makes stands before its next node."""
        while (thing := self._first()) is not None:
            if isinstance(thing, Group):
                self._desk.close(thing, rules.Cause.ABANDONED)
            else:
                self._fail(thing)

    def _first(self) -> Group | Batch | None:
        groups = (group for group in self._state.groups.values() if group.status == "open")
        open_: Iterator[Group | Batch] = (thing for things in (groups, self._state.batches.values()) for thing in things)
        return min(open_, key=lambda thing: thing.node.step, default=None)

    def _fail(self, batch: Batch, trigger: BatchTrigger = ABANDONED) -> None:
        """A batch is not computed any more; its members leave as after a failure."""
        error = self._recorder.keep_text(f"the run was abandoned: {self._reason}")
        self._desk.record(BatchFailed(aggregation=batch.node.id, batch=batch.number, attempt=batch.attempt, trigger=trigger,
                                      members=len(batch.members), code=ABANDONED, error=error, retry=False, duration_us=0))
        self._desk.settle()

    def tokens(self) -> None:
        """Tokens that stand before nodes end `failed`; groups that are told of it may merge, and what they make ends too."""
        ready = self._standing()
        self._abandon([])
        while ready:
            for some in chunks(ready):
                self._abandon(some)
            self.flush()
            ready = self._standing()

    def _standing(self) -> list[Token]:
        return [token for token in self._state.tokens.values() if token.stage is Stage.READY]

    def _abandon(self, tokens: list[Token]) -> None:
        standing = tuple([token.id for token in tokens])
        reason = self._recorder.keep_text(self._reason)
        self._desk.record(TokensAbandoned(tokens=standing, code=ABANDONED, reason=reason))
        self._desk.settle()
