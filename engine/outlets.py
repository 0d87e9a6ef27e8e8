"""The outlets: tokens that wait in line at sinks, written as the run goes.

Why: a sink is an effect: the intents of all lines are committed first, then each is written and confirmed.

Invariants: one commit covers the intents of all lines; what a failsink gets is written after the write that refused it;
a sink at fault stops the run, resumable, with everything until then committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.desk import Desk
from engine.executors import sinks
from engine.executors.keeper import describe
from engine.plugin_api import Sink
from ledger.errors import RunIncomplete
from ledger.events import SinkWriteFailed
from ledger.fold.state import Token


class Outlets:
    """The lines of a desk and the sinks at their ends. `tick` renews the stamp and decides what is due by it."""

    def __init__(self, desk: Desk, bound: Mapping[str, Sink], tick: Callable[[], None]) -> None:
        self._desk = desk
        self._sinks = bound
        self._tick = tick

    def flush(self) -> None:
        """Write what waits at the sinks: intents, commit, writes, confirmations; failsinks after those that refused."""
        planned = self._plan()
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
            sink = self._sinks[name]
            offset = self._offset(name, sink) if line else None
            for tokens in sinks.chunks(line):
                write = self._planned(name, sink, tokens, offset)
                self._desk.record(write.intent)
                planned.append(write)
                offset = None if offset is None else offset + len(write.prepared.content)
            line.clear()
        return planned

    def _planned(self, name: str, sink: Sink, tokens: list[Token], offset: int | None) -> sinks.Planned:
        """One write. A sink that cannot even encode rows is a sink at fault: nothing of the write is on record."""
        try:
            return sinks.plan(self._desk.state, name, sink, tokens, self._desk.rows, offset)
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


def _fault(sink: str, what: str) -> RunIncomplete:
    return RunIncomplete("SINK_FAILED", what, where=f"sink {sink}", next_step="mend the sink, then resume the run")
