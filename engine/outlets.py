"""The outlets: tokens that wait in line at sinks, written as the run goes.

Why: a sink is an effect: the intents of all lines are committed first, then each is written and confirmed.

Why again under the same key: whether the target took a write that was not confirmed cannot be known here; with the key it
can be told there.

Invariants: one commit covers the intents of all lines; what a failsink gets is written after the write that refused it;
a sink at fault stops the run, resumable, with everything until then committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from engine.desk import Desk
from engine.executors import sinks
from engine.executors.keeper import describe
from engine.plugin_api import Prepared, Sink
from engine.rows import freeze
from ledger import ids
from ledger.errors import RunIncomplete
from ledger.events import SinkWriteFailed
from ledger.fold.state import Token, Write


class Outlets:
    """The lines of a desk and the sinks at their ends. `tick` renews the stamp and decides what is due by it."""

    def __init__(self, desk: Desk, bound: Mapping[str, Sink], tick: Callable[[], None], ledger: str) -> None:
        self._desk = desk
        self._sinks = bound
        self._tick = tick
        self._ledger = ledger

    def make_again(self) -> None:
        """Make every write that was begun and never confirmed, in the order of what they hold and each under its key.

        Its target may have taken it before or not: what then happens is what the sink's delivery says.
        """
        state = self._desk.state
        unconfirmed = sorted({**state.writes, **state.writes_failed}.items(), key=lambda one: one[1].tokens[0].placed)
        offsets = {name: self._offset(name, self._sinks[name]) for name in {write.sink for _, write in unconfirmed}}
        planned = []
        for number, write in unconfirmed:
            one = self._planned_again(number, write, offsets[write.sink])
            offsets[write.sink] = _after(offsets[write.sink], one)
            planned.append(one)
        if planned:
            self._perform(planned)

    def _planned_again(self, number: int, write: Write, offset: int | None) -> sinks.Planned:
        """An open write as it was intended; for one that failed, or would not be the same, another under its key."""
        prepared = self._prepared(write.sink, write.tokens)
        if number in self._desk.state.writes:
            if sinks.is_same(write, prepared, offset):
                return sinks.plan(number, write.sink, write.tokens, prepared, write.key, offset)
            self._desk.record(sinks.superseded(number, write, self._desk.recorder))
        return self._intend(write.sink, write.tokens, prepared, write.key, offset)

    def flush(self) -> None:
        """Write what waits at the sinks: intents, commit, writes, confirmations; failsinks after those that refused."""
        self._perform(self._plan())

    def _perform(self, planned: list[sinks.Planned]) -> None:
        self._desk.recorder.commit()
        while planned:
            for write in planned:
                self._write(write)
            planned = self._plan()
            if planned:
                self._desk.recorder.commit()

    def _plan(self) -> list[sinks.Planned]:
        planned = []
        for name, line in self._desk.lines.items():
            offset = self._offset(name, self._sinks[name]) if line else None
            for tokens in sinks.chunks(line):
                key = ids.write_key(self._ledger, self._desk.state.run, name, self._desk.state.writes_made + 1)
                write = self._intend(name, tokens, self._prepared(name, tokens), key, offset)
                offset = _after(offset, write)
                planned.append(write)
            line.clear()
        return planned

    def _intend(self, name: str, tokens: Sequence[Token], prepared: Prepared, key: str, offset: int | None) -> sinks.Planned:
        write = sinks.plan(self._desk.state.writes_made + 1, name, tokens, prepared, key, offset)
        self._desk.record(write.intent)
        return write

    def _prepared(self, name: str, tokens: Sequence[Token]) -> Prepared:
        """One write's rows, encoded. A sink that cannot even do that is at fault: nothing of the write is on record."""
        try:
            return self._sinks[name].prepare([freeze(self._desk.rows[token.id]) for token in tokens])
        except Exception as error:
            raise _fault(name, f"expected a sink that encodes rows, found {self._shown(error)}") from error

    def _write(self, write: sinks.Planned) -> None:
        name, recorder = write.intent.sink, self._desk.recorder
        performed = sinks.perform(write, self._sinks[name], recorder.ports.monotonic_ns)
        self._tick()
        event = sinks.confirm(write, performed, recorder)
        self._desk.record(event)
        if isinstance(event, SinkWriteFailed):
            recorder.commit()
            found = self._shown(performed.error) if performed.error else "nothing"
            raise _fault(name, f"expected a sink that takes rows, found {found}")
        self._desk.settle()

    def _offset(self, name: str, sink: Sink) -> int | None:
        try:
            return sink.offset()
        except Exception as error:
            raise _fault(name, f"expected a sink that knows its offset, found {self._shown(error)}") from error

    def _shown(self, error: BaseException) -> str:
        return self._desk.recorder.shown(describe(error))


def _after(offset: int | None, write: sinks.Planned) -> int | None:
    return None if offset is None else offset + len(write.prepared.content)


def _fault(sink: str, what: str) -> RunIncomplete:
    return RunIncomplete("SINK_FAILED", what, where=f"sink {sink}", next_step="mend the sink, then resume the run")
