"""Pipelines in tests: a pipeline file's text, run in this process by the production code, and everything it left behind.

Why: no test has a waiting loop of its own (C5). The file is parsed, its graph built and its gates bound by the product;
only what touches the outside world is a twin: the source, the sinks, the clock, the store.

Invariant: whatever a run left is replayed deep and verified before a test sees it, and every token's end is counted from
the events alone, by a bookkeeping (`tests.kit.stories`) that shares nothing with the fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from engine import binding, pipeline_file
from engine import graph as graphs
from engine import run as running
from engine.attempts import Attempt
from engine.bound import BoundPipeline, Transform
from engine.executors.calls import Called
from engine.loop import Hooks, Loop
from engine.plugin_api import SourceRow, aggregation, effect
from engine.plugins import Catalog
from engine.recorder import Recorder
from engine.workers import Workers
from ledger import events as e
from ledger import ids, reader, registry
from ledger.errors import RunIncomplete
from ledger.fold import State
from ledger.graph import Graph
from ledger.replay import Verdict, replay
from ledger.store import Store
from ledger.verify import integrity
from ledger.writer import Writer
from tests.kit import stories
from tests.kit.ports import EPOCH_US, SimulatedTime
from tests.kit.twins import InlineWorkers, ListSink, ListSource, Pause, StepFeed, TrialStore

RUN = "tried"
PATH = "pipeline.yaml"
EXPANDING = "tests.kit.pipelines:expanding"
BATCHING = "tests.kit.pipelines:batching"
EFFECT = "tests.kit.pipelines:touching"

EventT = TypeVar("EventT", bound=e.Event)
Rows = list[dict[str, Any]]


def expanding(row: Mapping[str, object]) -> list[dict[str, object]]:
    """A plugin that expands, for files to name; a test says by node name what it does."""
    return [dict(row)]


@aggregation
def batching(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """A batch plugin for files to name; a test says by node name what it does."""
    return [dict(row) for row in rows]


@effect
def touching(row: Mapping[str, object], attempt: Attempt) -> dict[str, object]:
    """An effect for files to name; a test says by node name what it does: `(row, attempt)`."""
    return dict(row)


@dataclass
class Trial:
    """A pipeline ready to run: change what is bound, then `go`."""

    prepared: binding.Prepared
    bound: BoundPipeline
    source: ListSource
    sinks: dict[str, ListSink]
    time: SimulatedTime
    store: Store
    run: str = RUN
    hooks: Hooks = field(default_factory=Hooks)
    workers: Workers[Called] = field(default_factory=InlineWorkers)

    @property
    def graph(self) -> Graph:
        """The graph that the run records."""
        return self.prepared.pipeline.graph

    def opening(self, *, resumed: bool = False) -> running.Opening:
        """What `RunStarted` will say; one that is resumed may need its source no more."""
        return binding.opening(self.prepared, self.bound, self.time.ports(), self.run, resumed=resumed)

    def start(self) -> running.Receipt:
        """Run it with the production code; whatever it raises is raised."""
        ports = self.time.ports()
        return running.start(self.store, self.opening(), self.bound, ports, self.hooks, self.feed(), self.workers)

    def feed(self) -> StepFeed:
        """Its rows from the first on."""
        return StepFeed(self.source.items(None), self.time)

    def resume(self, *, accept_changes: bool = False, workers: Workers[Called] | None = None) -> running.Receipt:
        """Carry it on as another process would: a new recorder, feed and workers, over the same store, source and sinks."""
        feed, workers = StepFeed(self._unread(), self.time), workers or InlineWorkers()
        return running.resume(self.store, self.opening(resumed=True), self.bound, self.time.ports(), self.hooks, feed,
                              workers, accept_changes=accept_changes)

    def _unread(self) -> Iterator[SourceRow | Pause]:
        """What follows the last row on record; looked up when the first of it is asked for."""
        events = [event for _, event in reader.events(self.store, self.run)]
        assert not any(isinstance(event, e.SourceExhausted) for event in events), "a source that has ended is asked again"
        positions = [event.position for event in events if isinstance(event, e.RowRead)]
        yield from self.source.items(positions[-1] if positions else None)

    def abandon(self, reason: str = "given up") -> running.Receipt:
        """Close it for good."""
        return running.abandon(self.store, self.run, reason, self.time.ports())

    def opened(self) -> tuple[Recorder, Loop]:
        """The run with its first events said, and the loop that would drive it: for tests that look inside."""
        ports = self.time.ports()
        recorder = Recorder(State(self.run), Writer(self.store, self.run), ports)
        running._open(recorder, self.store, self.opening(), ports)
        return recorder, Loop(self.bound, recorder, self.feed(), self.workers, self.hooks, registry.ledger_id(self.store))

    def go(self) -> Ran:
        """Run it, and check what it left; a run that stopped by a fault has `fault` and no receipt."""
        try:
            receipt, fault = self.start(), None
        except RunIncomplete as incomplete:
            receipt, fault = None, incomplete
        return self.left(receipt, fault)

    def again(self, *, accept_changes: bool = False, workers: Workers[Called] | None = None) -> Ran:
        """Carry it on, and check what it left."""
        try:
            receipt, fault = self.resume(accept_changes=accept_changes, workers=workers), None
        except RunIncomplete as incomplete:
            receipt, fault = None, incomplete
        return self.left(receipt, fault)

    def left(self, receipt: running.Receipt | None = None, fault: RunIncomplete | None = None) -> Ran:
        """What stands in the store, checked."""
        return Ran(self, checked(self.store, self.run), receipt, fault)


def trial(text: str, rows: Iterable[object] = (), steps: Mapping[str, Transform] | None = None, *,
          conditions: Mapping[str, Transform] | None = None, time: SimulatedTime | None = None,
          store: Store | None = None, run: str = RUN) -> Trial:
    """Read and build the file.

    `steps` and `conditions` say by node name what its transforms, its aggregations and its gates answer; the others do what
    the file says. A step that is an effect is called with its row and, by name, its `attempt`.
    """
    file = pipeline_file.parse(text, PATH, {})
    prepared = binding.Prepared(file, graphs.build(file, Catalog()))
    bound = binding.bound(prepared)
    source = ListSource(rows)
    sinks = {name: ListSink(name) for name in bound.sinks}
    unknown = (set(steps or {}) - set(bound.steps) - set(bound.aggregations)) | (set(conditions or {}) - set(bound.gates))
    if unknown:
        raise ValueError(f"no such nodes in the file: {sorted(unknown)}")
    batches = {name: replace(one, call=(steps or {}).get(name, one.call)) for name, one in bound.aggregations.items()}
    made = {name: replace(step, call=(steps or {}).get(name, step.call)) for name, step in bound.steps.items()}
    gates = {name: replace(gate, condition=(conditions or {}).get(name, gate.condition))
             for name, gate in bound.gates.items()}
    bound = replace(bound, source=source, steps=made, gates=gates, aggregations=batches, sinks=sinks)
    store = store if store is not None else TrialStore()
    if store.head(ids.LEDGER_STREAM) is None:
        registry.create(store, "trial", EPOCH_US)
    return Trial(prepared, bound, source, sinks, time or SimulatedTime(), store, run)


def tried(text: str, rows: Iterable[object] = (), steps: Mapping[str, Transform] | None = None, *,
          time: SimulatedTime | None = None) -> Ran:
    """Run the file over the rows to its end."""
    return trial(text, rows, steps, time=time).go()


def checked(store: Store, run: str) -> Verdict:
    """The verdict on what stands in the store: lawful, deep, and every byte as committed."""
    verdict = replay(store, run, deep=True).verdict
    assert verdict.lawful, [str(finding) for finding in verdict.findings]
    assert [str(fault) for stream in (run, ids.LEDGER_STREAM) for fault in integrity(store, stream)] == []
    return verdict


class Ran:
    """A run that was made, or was stopped: its events, what each token came to, what is in the sinks."""

    def __init__(self, made: Trial, verdict: Verdict, receipt: running.Receipt | None, fault: RunIncomplete | None) -> None:
        self.store = made.store
        self.run = made.run
        self.graph = made.graph
        self.time = made.time
        self.sinks = made.sinks
        self.verdict = verdict
        self._receipt = receipt
        self.fault = fault
        self.events = [event for _, event in reader.events(made.store, made.run)]
        self.ends = stories.ends(self.events, made.graph)
        if verdict.sealed:
            stories.check_sealed(self.events, self.ends)

    @property
    def receipt(self) -> running.Receipt:
        """What the run answered; fails when it was stopped by a fault."""
        assert self._receipt is not None, str(self.fault)
        return self._receipt

    @property
    def outcomes(self) -> dict[str, str]:
        """The one outcome of each token that ended."""
        return {token: outcomes[0] for token, outcomes in self.ends.items() if outcomes}

    def of(self, kind: type[EventT]) -> list[EventT]:
        """The events of one kind."""
        return [event for event in self.events if type(event) is kind]

    def one(self, kind: type[EventT]) -> EventT:
        """The only event of its kind."""
        found = self.of(kind)
        assert len(found) == 1, [stories.said(event) for event in found]
        return found[0]

    def told(self, about: str | None = None) -> list[str]:
        """Every event after the claim in one line each; with `about`, those that name this token, group or node."""
        lines = [stories.said(event) for event in self.events[2:]]
        return lines if about is None else [line for line in lines if about in line.replace(",", " ").split()]

    def rows(self, sink: str) -> Rows:
        """What is in a sink; nothing in one that the file does not have."""
        return [dict(row) for row in self.sinks[sink].rows] if sink in self.sinks else []

    def payload(self, reference: e.Output | None) -> Any:
        """The value of a payload."""
        assert reference is not None
        number = reference.n if isinstance(reference, e.Commitment) else reference
        data = self.store.payloads(self.run, [number])[number].bytes
        assert data is not None
        return msgspec.json.decode(data)


class Sketch:
    """A pipeline file in the making, for tests that make many; what it says is text in the end, as anyone's file."""

    def __init__(self, first: str, *, attempts: int = 1, delay_seconds: float = 1.0, invalid: str = "discard",
                 limits: Mapping[str, int] | None = None, workers: int = 1) -> None:
        self._data: dict[str, Any] = {
            "name": "sketch",
            "source": {"plugin": "null", "on_success": first, "options": {"on_validation_failure": invalid}},
            "retry": {"max_attempts": attempts, "initial_delay_seconds": delay_seconds,
                      "max_delay_seconds": delay_seconds, "exponential_base": 1.0},
            "concurrency": {"max_workers": workers}, "limits": dict(limits or {}),
            "transforms": [], "gates": [], "aggregations": [], "coalesce": [], "sinks": {},
        }  # fmt: skip

    def step(self, name: str, input_: str, to: str, on_error: str = "discard", *, expands: bool = False) -> Sketch:
        """A transform."""
        self._data["transforms"].append({"name": name, "plugin": EXPANDING if expands else "passthrough",
                                         "input": input_, "on_success": to, "on_error": on_error})
        return self

    def gate(self, name: str, input_: str, condition: str, routes: Mapping[str, str], *,
             fork_to: Iterable[str] = (), on_error: str | None = None) -> Sketch:
        """A gate."""
        section: dict[str, Any] = {"name": name, "input": input_, "condition": condition, "routes": dict(routes)}
        if on_error is not None:
            section["on_error"] = on_error
        if fork_to:
            section["fork_to"] = list(fork_to)
        self._data["gates"].append(section)
        return self

    def fork(self, name: str, input_: str, *branches: str) -> Sketch:
        """A gate that forks every row."""
        return self.gate(name, input_, "True", {"true": "fork"}, fork_to=branches)

    def join(self, name: str, branches: Mapping[str, str], policy: str, to: str, **settings: object) -> Sketch:
        """A coalesce of {branch: connection}; a union unless `settings` say otherwise."""
        self._data["coalesce"].append({"name": name, "branches": dict(branches), "policy": policy, "on_success": to,
                                       "merge": "union"} | settings)
        return self

    def gather(self, name: str, step: str, input_: str, policy: str, to: str, **settings: object) -> Sketch:
        """A coalesce of what a step expanded."""
        self._data["coalesce"].append({"name": name, "gathers": step, "input": input_, "policy": policy,
                                       "on_success": to, "merge": "list"} | settings)
        return self

    def batch(self, name: str, input_: str, to: str, on_error: str = "discard", **settings: object) -> Sketch:
        """An aggregation, with `trigger`, `output_mode` and `expected_output_count` among the `settings`."""
        self._data["aggregations"].append({"name": name, "plugin": BATCHING, "input": input_, "on_success": to,
                                           "on_error": on_error} | settings)
        return self

    def effect(self, name: str, input_: str, to: str, on_error: str = "discard") -> Sketch:
        """A transform that touches the outside world, and takes its attempt."""
        self._data["transforms"].append({"name": name, "plugin": EFFECT, "input": input_, "on_success": to,
                                         "on_error": on_error})
        return self

    def sink(self, *names: str, on_write_failure: str = "discard") -> Sketch:
        """Sinks; one that nothing leads to is left out of the file."""
        for name in names:
            self._data["sinks"][name] = {"plugin": "json", "on_write_failure": on_write_failure,
                                         "options": {"path": f"{name}.jsonl"}}
        return self

    def text(self) -> str:
        """The file: YAML, in its JSON form."""
        sections = {name: section for name, section in self._data.items() if name != "sinks"}
        sinks = self._data["sinks"]
        named = set(_texts([sections, [sink["on_write_failure"] for sink in sinks.values()]]))
        used = {name: sink for name, sink in sinks.items() if name in named}
        return msgspec.json.format(msgspec.json.encode({**sections, "sinks": used})).decode()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def failing(error: Callable[[], BaseException]) -> Transform:
    """A step that raises."""

    def step(row: Mapping[str, object]) -> object:
        raise error()

    return step
