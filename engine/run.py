"""A run, from its first event to its seal, or to the stop that leaves it resumable.

Invariants: `RunStarted` and the ledger's `RunOpened` are one transaction, so are `RunSealed` and `RunClosed`; sinks are
opened after the claim and closed whatever happens; a stop records `RunInterrupted` and leaves open work open.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from engine import changes
from engine.abandoning import abandon_open
from engine.bound import BoundPipeline
from engine.changes import RunChanged, bounded
from engine.executors.calls import Called
from engine.feed import Feed, ThreadFeed
from engine.loop import Hooks, Loop
from engine.masking import Masking
from engine.open_sinks import OpenSinks
from engine.plugin_api import SourceIdentity
from engine.ports import Ports
from engine.program import PROGRAM
from engine.recorder import Recorder
from engine.rows import FrozenRow
from engine.unfinished import Unfinished, open_rows, read_back, settings_of
from engine.workers import ThreadWorkers, Workers
from ledger import events as e
from ledger import registry
from ledger.codec import BODY_BYTES_MAX
from ledger.errors import CounterfoilError, LedgerUnavailable, RunIncomplete
from ledger.events import Change
from ledger.fold import State
from ledger.graph import Graph
from ledger.store import Store
from ledger.writer import Writer

GRAPH_BYTES_MAX = BODY_BYTES_MAX // 2


@dataclass(frozen=True)
class Opening:
    """What `RunStarted` says, known before the run: the pipeline file as written, its hash, its graph.

    `source` is what will be read, or why it cannot be: a run that has read it to its end needs it no more.
    """

    run: str
    pipeline: str
    graph: Graph
    settings_text: str
    settings_path: str
    settings_hash: str
    secrets: dict[str, str]
    directory: str
    source: SourceIdentity | RunIncomplete

    def identity(self) -> e.SourceIdentity:
        """What the source is. Raises `RunIncomplete` (SOURCE_UNREADABLE) when it cannot be read."""
        if isinstance(self.source, RunIncomplete):
            raise self.source
        return e.SourceIdentity(**self.source._asdict())


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
    store.hold(opening.run)
    if store.head(opening.run) is not None:
        raise LedgerUnavailable("RUN_EXISTS", "expected a new run id, found one that exists", where=f"run {opening.run}",
                                next_step="name another --run-id, or resume it")
    recorder = Recorder(State(opening.run), Writer(store, opening.run), ports, pipeline.masking)
    _open(recorder, store, opening, ports)
    return _carry_on(store, recorder, opening.pipeline, pipeline, hooks, feed, workers, {})


def resume(store: Store, opening: Opening, pipeline: BoundPipeline, ports: Ports, hooks: Hooks, feed: Feed | None = None,
           workers: Workers[Called] | None = None, *, accept_changes: bool = False) -> Receipt:
    """Carry on a run from where its log ends; `feed` begins after the position of its last row. A sealed run is left alone.

    Raises as `start` does; `RunChanged` when the pipeline is another and that is not accepted (then nothing is stored),
    `LedgerBroken` when the log does not hold, `RunIncomplete` (PAYLOAD_GONE) when an open row was erased.
    """
    if (closed := _held(store, opening.run)) is not None:
        return closed
    left = read_back(store, opening.run)
    found = _changes(store, left, opening)
    if found and not accept_changes:
        raise RunChanged(opening.run, found, reshaped=False)
    rows = open_rows(store, left)
    recorder = _claimed(store, left, ports, pipeline.masking, bounded(found))
    return _carry_on(store, recorder, left.started.pipeline, pipeline, hooks, feed, workers, rows)


def _held(store: Store, run: str) -> Receipt | None:
    """Be the one that writes the run, unless it is closed for good; it may be so once nobody else writes it any more."""
    if (closed := sealed(store, run)) is not None:
        return closed
    store.hold(run)
    return sealed(store, run)


def sealed(store: Store, run: str) -> Receipt | None:
    """What a run that is closed for good came to; None for one that is open, or is not there."""
    head = store.head(run)
    if head is None or head.status not in ("completed", "failed"):
        return None
    left = read_back(store, run)
    return _receipt(left.state, left.started.pipeline, left.head.size, left.head.root.hex())


def abandon(store: Store, run: str, reason: str, ports: Ports) -> Receipt:
    """Close a run for good: what is open is decided as at the end of the source, the rest ends `failed`.

    Touches no source, no plugin and no sink. A sealed run is left alone. Raises `LedgerBroken` for a log that does not hold.
    """
    if (closed := _held(store, run)) is not None:
        return closed
    left = read_back(store, run)
    rows = open_rows(store, left, erased=FrozenRow())
    recorder = _claimed(store, left, ports, Masking(), [])
    try:
        abandon_open(recorder, rows, reason)
        _seal(recorder, store)
    except CounterfoilError as error:
        _interrupt(recorder, error)
        raise
    return receipt(recorder, left.started.pipeline)


def _claimed(store: Store, left: Unfinished, ports: Ports, masking: Masking, accepted: Sequence[Change]) -> Recorder:
    """The recorder of a run that was left, its next epoch taken, durably: whoever wrote before writes no more."""
    recorder = Recorder(left.state, Writer(store, left.state.run, left.head, left.state.payloads), ports, masking)
    recorder.claim(accepted)
    recorder.commit()
    return recorder


def _changes(store: Store, left: Unfinished, opening: Opening) -> list[Change]:
    """What is another than it was at the run's start. Raises `RunChanged` where open tokens have no place in what is now."""
    started = left.started
    if started.graph is not None and (reshaped := changes.shape(started.graph, opening.graph)):
        raise RunChanged(opening.run, [*changes.settings(settings_of(store, left), opening.settings_text), *reshaped],
                         reshaped=True)
    found = changes.place(started, opening.pipeline, opening.directory)
    found += changes.settings(settings_of(store, left), opening.settings_text)
    found += changes.secrets(started.secrets, opening.secrets)
    if started.graph is not None:
        found += changes.plugins(started.graph, opening.graph)
    if not left.state.exhausted:
        found += changes.source(started.source, opening.identity())
    return found


def _carry_on(store: Store, recorder: Recorder, name: str, pipeline: BoundPipeline, hooks: Hooks, feed: Feed | None,
              workers: Workers[Called] | None, rows: dict[int, FrozenRow]) -> Receipt:
    """Drive a run that was claimed from its state on, and let go of everything after it."""
    state = recorder.state
    feed = feed or ThreadFeed(iter(()) if state.exhausted else pipeline.source.rows(state.position))
    workers = workers or ThreadWorkers(pipeline.workers_max, feed.wake)
    try:
        ledger = registry.ledger_id(store)
        loop = Loop(pipeline, recorder, feed, workers, hooks, ledger, rows)
        return _drive(recorder, OpenSinks(pipeline.sinks, recorder, store, ledger), store, name, loop)
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
        program=PROGRAM,
        pipeline=opening.pipeline,
        settings=settings,
        settings_path=opening.settings_path,
        settings_hash=opening.settings_hash,
        secrets=opening.secrets,
        directory=opening.directory,
        source=opening.identity(),
        jitter_seed=int.from_bytes(sha256(opening.run.encode()).digest()[:6]),
        graph=None if long else opening.graph,
        graph_list=recorder.keep(encoded, permanent=True) if long else None,
    )
    recorder.start(started, opening.graph)
    recorder.claim()
    opened = e.RunOpened(opened=opening.run, pipeline=opening.pipeline)
    recorder.commit(lambda: [registry.entries(store, [opened], recorder.at)])


def _drive(recorder: Recorder, opened: OpenSinks, store: Store, name: str, loop: Loop) -> Receipt:
    """Loop, then seal. A stop, and whatever goes wrong, leave the run interrupted, with all that was lawful until then."""
    try:
        with opened as sinks:
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
    recorder.commit(lambda: [registry.entries(store, [closed], recorder.at)])


def receipt(recorder: Recorder, pipeline: str) -> Receipt:
    """The run as it stands."""
    return _receipt(recorder.state, pipeline, recorder.size, recorder.root())


def _receipt(state: State, pipeline: str, size: int, root: str) -> Receipt:
    return Receipt(
        run=state.run,
        pipeline=pipeline,
        status=state.status,
        rows=state.rows_read,
        tokens=state.tokens_made,
        outcomes=dict(sorted(state.outcomes.items())),
        late_arrivals=state.late_arrivals,
        size=size,
        root=root,
    )
