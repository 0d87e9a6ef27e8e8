"""The sinks of a run while it goes: opened after the claim, each where this run's confirmed writes end; closed in any case.

Invariant: a sink that cannot be opened, or finished, interrupts the run; what was opened is closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType

from engine.plugin_api import Claim, Piece, Sink
from engine.recorder import Recorder
from ledger.errors import RunIncomplete
from ledger.reader import confirmed_writes
from ledger.store import Store, StoreConflict


class OpenSinks:
    """Opens every sink, and closes what was opened; a sink that cannot be opened or finished interrupts the run."""

    def __init__(self, sinks: Mapping[str, Sink], recorder: Recorder, store: Store, ledger: str) -> None:
        self._sinks = sinks
        self._recorder = recorder
        self._store = store
        self._ledger = ledger
        self._opened: dict[str, Sink] = {}

    def __enter__(self) -> OpenSinks:
        for name, sink in self._sinks.items():
            try:
                sink.open(self._claim(name))
            except BaseException as error:
                self.__exit__(type(error), error, None)
                if isinstance(error, Exception):
                    raise self._fault(name, error) from error
                raise
            self._opened[name] = sink
        return self

    def _claim(self, name: str) -> Claim:
        """Under what the sink is opened: as new, or where the writes that the log has confirmed end."""
        state = self._recorder.state
        if name not in state.sink_ends:
            return Claim(self._ledger, state.run, name, state.epoch, is_held=self._is_held)
        unconfirmed = (*state.writes.values(), *state.writes_failed.values())
        return Claim(self._ledger, state.run, name, state.epoch, begun=True, offset=state.sink_ends[name],
                     pieces=_pieces(self._store, state.run, name), keys=_keys(self._store, state.run, name),
                     in_doubt=any(write.sink == name for write in unconfirmed), is_held=self._is_held)

    def _is_held(self) -> bool:
        """Whether the run's epoch is still the one that was claimed."""
        head = self._store.head(self._recorder.state.run)
        return head is not None and head.epoch == self._recorder.state.epoch

    def finish(self) -> None:
        """Close each sink with what ends its artifact."""
        while self._opened:
            name, sink = self._opened.popitem()
            try:
                sink.close(True)
            except Exception as error:
                raise self._fault(name, error) from error

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        while self._opened:
            name, sink = self._opened.popitem()
            try:
                sink.close(False)
            except Exception as error:
                if fault is None:
                    raise self._fault(name, error) from error
                fault.add_note(f"sink {name} did not close either: {self._recorder.shown(str(error))}")

    def _fault(self, name: str, error: Exception) -> RunIncomplete | StoreConflict:
        """A sink at fault; or, where that was the reason, that another process carries the run on."""
        state = self._recorder.state
        if not self._is_held():
            return StoreConflict(state.run, f"epoch {state.epoch}", "a later one")
        return RunIncomplete("SINK_FAILED", f"expected a sink that takes rows, found {self._recorder.shown(str(error))}",
                             where=f"sink {name}", next_step="mend the sink, then resume the run")


def _pieces(store: Store, run: str, sink: str) -> Iterator[Piece]:
    """What each confirmed write put into the sink's artifact, read from the log as it is asked for."""
    for intent, write in confirmed_writes(store, run):
        if intent.sink == sink and intent.offset is not None:
            yield Piece(intent.offset, write.size_bytes - intent.offset, write.content_hash)


def _keys(store: Store, run: str, sink: str) -> Iterator[str]:
    """The keys of the confirmed writes."""
    return (intent.key for intent, _ in confirmed_writes(store, run) if intent.sink == sink)
