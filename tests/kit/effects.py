"""Pipelines around one effect, `ask`, and what tests change about them: its deadline, its plugin, the threads it runs on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

import msgspec
from msgspec import structs

from engine import run as running
from engine.attempts import Attempt
from engine.bound import Transform
from engine.plugin_api import effect
from ledger import events as e
from ledger import reader
from tests.kit.pipelines import Ran, Sketch, Trial, trial
from tests.kit.shuffled import AlarmTime, TimedWorkers

Row = Mapping[str, object]

EXPANDING_EFFECT = "tests.kit.effects:asking_for_parts"
POSTING = "tests.kit.effects:posting"


@effect
def asking_for_parts(row: Row, attempt: Attempt) -> list[dict[str, object]]:
    """An effect that expands, for files to name; a test says by node name what it does."""
    return [dict(row)]


@effect
def posting(row: Row) -> dict[str, object]:
    """An effect that takes no attempt, for files to name; a test says by node name what it does."""
    return dict(row)


def echo(row: Row, attempt: Attempt) -> dict[str, object]:
    """An effect that says back what it was told."""
    return dict(row)


def raising(error: Callable[[], BaseException]) -> Transform:
    """An effect that raises."""

    def ask(row: Row, attempt: Attempt) -> object:
        raise error()

    return ask


def asking(on_error: str = "errors", *, attempts: int = 1, workers: int = 1, delay_seconds: float = 1.0) -> str:
    """`source -> ask -> out`, errors to `errors` or discarded."""
    sketch = Sketch("rows", attempts=attempts, workers=workers, delay_seconds=delay_seconds)
    return sketch.effect("ask", "rows", "out", on_error).sink("out", "errors").text()


def expanding_by_effect(text: str, *names: str) -> str:
    """The file, with these expanding transforms made effects."""
    data = msgspec.json.decode(text)
    for one in data["transforms"]:
        if one["name"] in names:
            one["plugin"] = EXPANDING_EFFECT
    return msgspec.json.encode(data).decode()


def marked(made: Trial, names: Collection[str]) -> Trial:
    """The trial, these transforms of which are effects, as if their plugins said so; many a file is built the faster."""
    nodes = tuple(structs.replace(node, effect=node.id in names) for node in made.graph.nodes)
    pipeline = replace(made.prepared.pipeline, graph=structs.replace(made.graph, nodes=nodes))
    made.prepared = replace(made.prepared, pipeline=pipeline)
    found = {node.id: node for node in nodes}
    steps = {name: replace(step, node=found[name], takes_attempt=name in names) for name, step in made.bound.steps.items()}
    made.bound = replace(made.bound, steps=steps)
    return made


def within(made: Trial, seconds: float) -> Trial:
    """The trial, each attempt of whose effects has this long."""
    steps = {name: replace(step, deadline_seconds=seconds) for name, step in made.bound.steps.items()}
    made.bound = replace(made.bound, steps=steps)
    return made


def threaded(made: Trial) -> Ran:
    """Run it with the product's own threads, for its source and for its effects; time stands still for all of them."""
    return made.left(running.start(made.store, made.opening(), made.bound, made.time.ports(), made.hooks))


def stored(made: Trial) -> list[e.Event]:
    """What is committed of the run by now: that, and nothing of what is still buffered."""
    return [event for _, event in reader.events(made.store, made.run)]


def numbered(count: int) -> list[object]:
    """So many rows."""
    return [{"n": n} for n in range(count)]


class Timed:
    """A trial whose effects take as long as `takes` says, by the name of the node and the row's `n`; else no time."""

    def __init__(self, text: str, rows: Iterable[object], takes: Mapping[tuple[str, object], float],
                 steps: Mapping[str, Transform] | None = None) -> None:
        self.time = AlarmTime()
        self.workers = TimedWorkers(self.time)
        self._takes = takes
        made = trial(text, rows, time=self.time)
        effects = {name: self._asking(name, (steps or {}).get(name, echo)) for name, step in made.bound.steps.items()
                   if step.node.effect}
        self.trial = trial(text, rows, {**(steps or {}), **effects}, time=self.time)
        self.trial.workers = self.workers

    def _asking(self, name: str, effect: Transform) -> Transform:
        def ask(row: Row, attempt: Attempt) -> object:
            self.workers.take(self._takes.get((name, row["n"]), 0))
            return effect(row, attempt)

        return ask
