"""Pipelines nobody designed, with effects in them: those of `tests.kit.wild`, some with a batch, over shuffled workers.

Why the same answers in any order: a plugin's answer is a hash of a seed, the node, the row and how often it was asked for
it, so that a run with many workers can be compared with the run that has one.

Invariant: what is drawn builds. What `settled` gives has nothing in it that depends on an order: no timer, and no policy
that some of the branches can meet before the others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import msgspec
from hypothesis import strategies as st

from engine.attempts import Attempt
from engine.bound import Transform
from tests.kit.effects import Row, marked, within
from tests.kit.pipelines import BATCHING, Trial, trial
from tests.kit.ports import SimulatedTime
from tests.kit.shuffled import Fate, ShuffledWorkers, show
from tests.kit.wild import Answers, Wild, wild

CAPACITY_MAX = 8


class Crowd(NamedTuple):
    """One pipeline with its rows, the seed of its answers and of their order, and how many effects may run at a time."""

    text: str
    rows: list[object]
    seed: int
    effects: tuple[str, ...]
    capacity: int
    deadline_seconds: float = 60.0
    troubled: bool = False

    def trial(self) -> Trial:
        """Ready to run, over shuffled workers; each trial begins anew."""
        show(f"{self}")
        made = self._trial(self.capacity)
        made.workers = ShuffledWorkers(self.seed, made.time, self._fate)
        return made

    def alone(self) -> Trial:
        """The same with one effect at a time, each answered at once."""
        return self._trial(1)

    def _trial(self, capacity: int) -> Trial:
        time = SimulatedTime()
        made = within(marked(trial(self.text, self.rows, time=time), self.effects), self.deadline_seconds)
        answers = Answers(self.seed, time)
        steps = dict(made.bound.steps)
        for name, step in steps.items():
            answer = answers.parts(name) if step.node.expands else answers.step(name)
            steps[name] = replace(step, call=asking(answer) if step.node.effect else answer)
        gates = {name: replace(gate, condition=answers.choice(name, sorted(gate.routes)))
                 for name, gate in made.bound.gates.items()}
        made.bound = replace(made.bound, steps=steps, gates=gates, workers_max=capacity)
        return made

    def _fate(self, ticket: int) -> Fate:
        fates: dict[int, Fate] = {0: "hangs", 1: "silent", 2: "lost"}
        return fates.get(hash((self.seed, ticket)) % 16, "answers") if self.troubled else "answers"


def asking(answer: Transform) -> Transform:
    """The effect that gives this answer, and says something of its calls before and after it."""

    def ask(row: Row, attempt: Attempt) -> object:
        attempt.calling("left", {"number": attempt.number})
        with attempt.calling("asked", dict(row)) as call:
            given = answer(row)
            call.answered("ok", attempt.key)
        return given

    return ask


def changed(text: str, *, batch: dict[str, object] | None = None, settled: bool = False) -> str:
    """The file with a batch before all else; `settled`: without what depends on an order."""
    data = msgspec.json.decode(text)
    if batch is not None:
        data["aggregations"] = [{"name": "before", "plugin": BATCHING, "input": "sourced", "on_success":
                                 data["source"]["on_success"], "on_error": "discard"} | batch]
        data["source"]["on_success"] = "sourced"
    for one in data["coalesce"] if settled else ():
        one["timeout_seconds"] = 1_000_000
        if one["policy"] != "best_effort":
            one["policy"] = "require_all"
            one.pop("quorum_count", None)
    return msgspec.json.encode(data).decode()


TRIGGERS: tuple[dict[str, object], ...] = (
    {"count": 1}, {"count": 3}, {"timeout_seconds": 0.1}, {"condition": "batch_count >= 2"}, {},
)  # fmt: skip


@st.composite
def crowds(draw: st.DrawFn, *, settled: bool = False) -> Crowd:
    """Any small pipeline with effects in it; a settled one has an outcome that no order changes."""
    made: Wild = draw(wild())
    batch: dict[str, object] | None = None
    if draw(st.integers(0, 2)) == 0:
        triggers, modes = TRIGGERS[:2] if settled else TRIGGERS, ["transform", "passthrough"]
        batch = {"trigger": draw(st.sampled_from(triggers)), "output_mode": draw(st.sampled_from(modes))}
    text = changed(made.text, batch=batch, settled=settled)
    steps = [one["name"] for one in msgspec.json.decode(text)["transforms"]]
    effects = tuple(draw(st.lists(st.sampled_from(steps), min_size=1, unique=True))) if steps else ()
    capacity = draw(st.integers(1, CAPACITY_MAX))
    if settled:
        return Crowd(text, made.rows, made.seed, effects, capacity)
    seconds, troubled = draw(st.sampled_from([0.03, 0.3, 60.0])), draw(st.booleans())
    return Crowd(text, made.rows, made.seed, effects, capacity, seconds, troubled)
