"""A run, from its first event to its seal, or to the stop that leaves it resumable.

Invariants: `RunStarted` and the ledger's `RunOpened` are one transaction, so are `RunSealed` and `RunClosed`; sinks are
opened after the claim and closed whatever happens; a stop records `RunInterrupted` and leaves open work open.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from types import TracebackType

import msgspec

from engine.bound import BoundPipeline
from engine.executors.calls import Called
from engine.feed import Feed, ThreadFeed
from engine.loop import Hooks, Loop
from engine.plugin_api import Claim, Sink, SourceIdentity
from engine.ports import Ports
from engine.recorder import Recorder
from engine.workers import ThreadWorkers, Workers
from ledger import events as e
from ledger import registry
from ledger.codec import BODY_BYTES_MAX
from ledger.errors import CounterfoilError, LedgerUnavailable, RunIncomplete
from ledger.fold import State
from ledger.graph import Graph
from ledger.store import Store
from ledger.writer import Writer

GRAPH_BYTES_MAX = BODY_BYTES_MAX // 2


@dataclass(frozen=True)
class Opening:
    """What `RunStarted` says, known before the run: the pipeline file as written, its hash, its graph."""

    run: str
    pipeline: str
    graph: Graph
    settings_text: str
    settings_path: str
    settings_hash: str
    secrets: dict[str, str]
    directory: str
    source: SourceIdentity


@dataclass(frozen=True)
class Receipt:
    """What a run answers: how it ended, its counts, and the size and root to keep elsewhere."""

    run: str
    pipeline: str
    status: str
    rows: int
    tokens: int
    outcomes: dict[str, int]
    late_arrivals: int
    size: int
    root: str


def start(store: Store, opening: Opening, pipeline: BoundPipeline, ports: Ports, hooks: Hooks, feed: Feed | None = None,
          workers: Workers[Called] | None = None) -> Receipt:
    """Run a pipeline into a new stream; rows come from `feed`, effects run on `workers` (None: threads, for both).

    Raises `LedgerUnavailable` when the run exists, `RunIncomplete` when a source or sink failed (the run is then
    interrupted and resumable), `LawBroken` when an event is not allowed (nothing of it is stored).
    """
    if store.head(opening.run) is not None:
        raise LedgerUnavailable("RUN_EXISTS", "expected a new run id, found one that exists", where=f"run {opening.run}",
                                next_step="name another --run-id, or resume it")
    recorder = Recorder(State(opening.run), Writer(store, opening.run), ports, pipeline.masking)
    _open(recorder, store, opening, ports)
    feed = feed or ThreadFeed(pipeline.source.rows(None))
    workers = workers or ThreadWorkers(pipeline.workers_max, feed.wake)
    try:
        loop = Loop(pipeline, recorder, feed, workers, hooks, registry.ledger_id(store))
        return _drive(recorder, store, opening.pipeline, pipeline, loop)
    finally:
        feed.close()
        workers.close()
        _let_go(pipeline)


def _let_go(pipeline: BoundPipeline) -> None:
    """Close what source and transforms hold open. The run is over: what they raise now changes nothing of it."""
    for close in (pipeline.source.close, *pipeline.closers):
        with suppress(OSError, ValueError, TypeError, AttributeError, RuntimeError, LookupError):
            close()


def _open(recorder: Recorder, store: Store, opening: Opening, ports: Ports) -> None:
    """`RunStarted`, `RunClaimed`, and on the ledger's stream `RunOpened`, in one transaction."""
    encoded = msgspec.json.encode(opening.graph)
    settings = recorder.keep(opening.settings_text.encode(), permanent=True)
    long = len(encoded) > GRAPH_BYTES_MAX
    started = e.RunStarted(
        pipeline=opening.pipeline,
        settings=settings,
        settings_path=opening.settings_path,
        settings_hash=opening.settings_hash,
        secrets=opening.secrets,
        directory=opening.directory,
        source=e.SourceIdentity(**opening.source._asdict()),
        jitter_seed=int.from_bytes(sha256(opening.run.encode()).digest()[:6]),
        graph=None if long else opening.graph,
        graph_list=recorder.keep(encoded, permanent=True) if long else None,
    )
    recorder.start(started, opening.graph)
    recorder.record(e.RunClaimed(process=ports.process))
    opened = e.RunOpened(opened=opening.run, pipeline=opening.pipeline)
    recorder.commit([registry.entries(store, [opened], recorder.at)])


def _drive(recorder: Recorder, store: Store, name: str, pipeline: BoundPipeline, loop: Loop) -> Receipt:
    """Loop, then seal. A stop, and whatever goes wrong, leave the run interrupted, with all that was lawful until then."""
    try:
        with _Sinks(pipeline.sinks, recorder) as sinks:
            reason = loop.run()
            if reason is None:
                sinks.finish()
        if reason is None:
            _seal(recorder, store)
        else:
            recorder.interrupt("stopped", reason)
    except BaseException as error:
        _interrupt(recorder, error)
        raise
    return receipt(recorder, name)


def _interrupt(recorder: Recorder, error: BaseException) -> None:
    """Say why the run stopped. Where the store is what failed nothing can be said: the error itself is the message."""
    if isinstance(error, LedgerUnavailable):
        return
    code, where = ("unexpected", type(error).__name__)
    if isinstance(error, CounterfoilError):
        code, where = error.code.lower(), error.where
    with suppress(LedgerUnavailable):
        recorder.interrupt(code, where)


class _Sinks:
    """Opens every sink, and closes what was opened; a sink that cannot be opened or finished interrupts the run."""

    def __init__(self, sinks: Mapping[str, Sink], recorder: Recorder) -> None:
        self._sinks = sinks
        self._recorder = recorder
        self._opened: dict[str, Sink] = {}

    def __enter__(self) -> _Sinks:
        for name, sink in self._sinks.items():
            try:
                sink.open(Claim())
            except BaseException as error:
                self.__exit__(type(error), error, None)
                if isinstance(error, Exception):
                    raise self._fault(name, error) from error
                raise
            self._opened[name] = sink
        return self

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

    def _fault(self, name: str, error: Exception) -> RunIncomplete:
        return RunIncomplete("SINK_FAILED", f"expected a sink that takes rows, found {self._recorder.shown(str(error))}",
                             where=f"sink {name}", next_step="mend the sink, then resume the run")


def _seal(recorder: Recorder, store: Store) -> None:
    """Close the run for good; the ledger's stream states size and root, seal included, in the same transaction."""
    state = recorder.state
    recorder.tick()
    recorder.record(
        e.RunSealed(
            status="failed" if state.abandoned else "completed",
            outcomes=dict(sorted(state.outcomes.items())),
            rows=state.rows_read,
            tokens=state.tokens_made,
            late_arrivals=state.late_arrivals,
            size=state.seq,
            root=recorder.root(),
        )
    )
    closed = e.RunClosed(closed=state.run, status="failed" if state.abandoned else "completed", size=state.seq,
                         root=recorder.root())
    recorder.commit([registry.entries(store, [closed], recorder.at)])


def receipt(recorder: Recorder, pipeline: str) -> Receipt:
    """The run as it stands."""
    state = recorder.state
    return Receipt(
        run=state.run,
        pipeline=pipeline,
        status=state.status,
        rows=state.rows_read,
        tokens=state.tokens_made,
        outcomes=dict(sorted(state.outcomes.items())),
        late_arrivals=state.late_arrivals,
        size=recorder.size,
        root=recorder.root(),
    )
