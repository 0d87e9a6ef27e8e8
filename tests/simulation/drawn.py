"""Random pipelines, rows, and the circumstances of a run, from a seed: plain numbers, so that one int repeats a case.

Why several seeds share a pipeline: to build one takes longer than to run it, and the rows and answers of each seed differ.

Invariants: what is drawn builds; it has at most `NODES_MAX` nodes (sinks aside) and `ROWS_MAX` rows, mostly far fewer;
every kind of node that a run knows is drawn. Nothing here knows the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from random import Random
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from tests.simulation.drawn_answers import Drawn, Mood
from tests.simulation.predicted_alone import PATIENT_MS
from tests.simulation.predicted_plan import DISCARD, FORK, Answers, Batch, Gate, Join, Node, Pipeline, Row, Sink, Step

NODES_MAX, ROWS_MAX, DEPTH_MAX = 12, 40, 3
SEEDS_PER_PIPELINE = 5
TIMEOUTS_MS = (3, 20, 300, 5000)
POLICIES = ("require_all", "quorum", "quorum", "best_effort", "first")
KILLED_ROWS_MAX = 5
SINKS = (Sink("spare", "side"), Sink("side"), Sink("out", "spare"), Sink("errors", "spare"))
Delivery = Literal["truncatable", "transactional", "idempotent", "at_least_once"]
DELIVERIES: tuple[Delivery, ...] = ("truncatable", "transactional", "idempotent", "at_least_once")


class Item(NamedTuple):
    """What the source has next: a `row`, an `invalid` one (with a code), a `pause` of so many ms, or it `raises`."""

    kind: str
    row: Row = MappingProxyType({})
    code: str = ""
    ms: int = 0


class Case(NamedTuple):
    """One case. Effects run on so many `workers`; with `troubled` they may miss their deadline or lose their worker.
    `kills`: a plugin may end the process.
    """

    seed: int
    pipeline: Pipeline
    items: tuple[Item, ...]
    answers: Answers
    deliveries: Mapping[str, Delivery]
    kills: bool = False
    workers: int = 1
    deadline_seconds: float = 10_000.0
    troubled: bool = False

    @property
    def rows(self) -> list[tuple[Row, str | None]]:
        """The rows that its source has, each with the code of its fault."""
        return [(item.row, item.code or None) for item in self.items if item.kind in ("row", "invalid")]


def drawn(seed: int) -> Case:
    """The case of a seed."""
    shape, chance = seed // SEEDS_PER_PIPELINE, Random(f"case {seed}")
    pipeline = drawn_pipeline(shape)
    calm = chance.random() < 0.35
    mood = Mood(3, 4, 3, 10, 0, 20) if calm else Mood(*(chance.choice(level) for level in LEVELS))
    items = _items(chance)
    kills = chance.random() < 0.2 and len(items) <= KILLED_ROWS_MAX
    if kills:
        mood = mood._replace(kills=20)
    deliveries = {sink.name: chance.choice(DELIVERIES) if chance.random() < 0.4 else DELIVERIES[0] for sink in SINKS}
    several = chance.random() < 0.35 and any(isinstance(node, Step) and node.effect for node in pipeline.nodes)
    troubled = several and chance.random() < 0.4
    return Case(seed, pipeline, items, Drawn(seed, mood), deliveries, kills, chance.randint(2, 6) if several else 1,
                chance.choice((0.03, 0.3, 60.0)) if troubled else 10_000.0, troubled)


LEVELS: Sequence[Sequence[int]] = ((6, 14, 30), (8, 16, 50), (4, 12, 24), (0, 30, 90), (0,), (20, 60))


def _items(chance: Random) -> tuple[Item, ...]:
    sizes = (0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5) if chance.random() < 0.85 else (6, 7, 8, 9, 12, 16, 24, ROWS_MAX)
    count = chance.choice(sizes)
    raises_at = chance.randrange(count + 1) if chance.random() < 0.15 else -1
    items: list[Item] = []
    for n in range(count):
        if n == raises_at:
            items.append(Item("raises"))
        if chance.random() < 0.15:
            items.append(Item("pause", ms=chance.choice((1, 30, 100, 700))))
        bad = chance.random() < 0.08
        row = {"n": n, "of": n % 3}
        items.append(Item("invalid", row, "invalid") if bad else Item("row", row))
    if raises_at == count:
        items.append(Item("raises"))
    return tuple(items)


@lru_cache(maxsize=4)
def drawn_pipeline(shape: int) -> Pipeline:
    """The pipeline of a shape."""
    chance = Random(f"pipeline {shape}")
    pipeline = _Grower(chance).grow()
    while len(pipeline.nodes) > NODES_MAX:
        pipeline = _Grower(chance).grow()
    return pipeline


class _Grower:
    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._nodes: list[Node] = []
        self._made = 0
        self._settled = chance.random() < 0.5
        self._left = chance.choice((3, 4, 5, 6, 7, 9, NODES_MAX))
        self._later: list[str] = []

    def grow(self) -> Pipeline:
        """Segments one after the other, as many as there is room for."""
        chance = self._chance
        self._chain("rows", "out", min(self._left, chance.choice((1, 1, 2, 2, 3, 4))), depth=0)
        attempts = chance.choice((1, 2, 2, 3))
        return Pipeline("rows", chance.choice((DISCARD, "spare", "errors")), attempts, chance.choice((4, 40, 1000)),
                        tuple(self._nodes), SINKS)

    def _chain(self, input_: str, to: str, length: int, *, depth: int) -> None:
        between = [input_, *(self._name("c") for _ in range(length - 1)), to]
        for n, (here, there) in enumerate(pairwise(between)):
            if depth == 0:
                self._later = between[n + 2 :] or ["out"]
            self._segment(here, there, depth, reserve=length - n - 1)

    def _segment(self, input_: str, to: str, depth: int, *, reserve: int) -> None:
        room = self._left - reserve
        kinds = ["step"] * 3 + ["gate"] * 2 + ["batch"]
        if depth < DEPTH_MAX and room >= 2:
            kinds += ["fork"] * 4 + ["gather"] * 2
        if depth == 0:
            kinds += ["parts", "batch"]
        kind = self._chance.choice(kinds)
        if kind == "step":
            self._step(input_, to)
        elif kind == "parts":
            self._step(input_, to, expands=True)
        elif kind == "gate":
            self._gate(input_, to)
        elif kind == "batch":
            self._batch(input_, to, depth)
        elif kind == "fork":
            self._fork(input_, to, depth, reserve)
        else:
            self._gather(input_, to, depth, reserve)

    def _add(self, node: Node) -> None:
        self._nodes.append(node)
        self._left -= 1

    def _step(self, input_: str, to: str, *, expands: bool = False, marks: bool = False) -> str:
        name = self._name("step")
        effect = not marks and self._chance.random() < 0.25
        self._add(Step(name, input_, to, self._on_error(), expands, effect, marks))
        return name

    def _gate(self, input_: str, to: str) -> None:
        routes = {"go": to, "away": self._away()}
        self._add(Gate(self._name("gate"), input_, routes, on_error=self._chance.choice((None, DISCARD, "errors"))))

    def _away(self) -> str:
        """Off to a sink, or past what is ahead; rows that do so are marked."""
        if self._left < 3 or self._chance.random() < 0.7:
            return "side"
        aside = self._name("c")
        self._step(aside, self._chance.choice(self._later), marks=True)
        return aside

    def _batch(self, input_: str, to: str, depth: int) -> None:
        chance = self._chance
        passes = depth > 0 or chance.random() < 0.4
        node = Batch(self._name("batch"), input_, to, self._on_error(), passes=passes)
        if self._settled:
            node = node._replace(full_at=chance.choice((None, 1)))
        else:
            trigger: dict[str, Any] = chance.choice((
                {"full_at": 1}, {"full_at": 2}, {"full_at": 3}, {"at_least": 2}, {"age_ms": 50}, {"timeout_ms": 30},
                {"timeout_ms": 300}, {"full_at": 4, "timeout_ms": 20}, {"at_least": 3, "timeout_ms": 5}, {},
            ))  # fmt: skip
            node = node._replace(**trigger)
        self._add(node._replace(expected=chance.choice((None, None, None, 1))))

    def _fork(self, input_: str, to: str, depth: int, reserve: int) -> None:
        chance = self._chance
        name, count = self._name("split"), chance.choice((2, 2, 2, 3))
        branches = [f"{name}_{letter}" for letter in "abc"[:count]]
        self._left -= 2
        leaving = [self._name("aside")] if depth == 0 and self._left > reserve and chance.random() < 0.2 else []
        for branch in leaving:
            self._step(branch, chance.choice(["side", "out", *self._later]), marks=True)
        routes = {"all": FORK, "away": "side"} if chance.random() < 0.6 else {"all": FORK, "away": self._away()}
        carried = {branch: self._branch(branch, depth, reserve) for branch in branches}
        fork_to = [*branches, *leaving]
        chance.shuffle(fork_to)
        self._nodes.append(Gate(name, input_, routes, tuple(fork_to), chance.choice((None, DISCARD, "errors"))))
        self._nodes.append(Join(self._name("join"), to=to, branches=carried, **self._rule(branches, count)))

    def _branch(self, branch: str, depth: int, reserve: int) -> str:
        """The connection that carries the branch to its coalesce."""
        length = self._chance.randint(0, min(2, max(0, self._left - reserve)))
        if not length:
            return branch
        carrier = self._name("c")
        self._chain(branch, carrier, length, depth=depth + 1)
        return carrier

    def _gather(self, input_: str, to: str, depth: int, reserve: int) -> None:
        parts = self._name("c")
        self._left -= 1
        step = self._step(input_, parts, expands=True)
        join = Join(self._name("join"), to=to, gathers=step, input=self._branch(parts, depth, reserve),
                    into=self._chance.choice(("items", "of")), **self._rule([], 3))
        self._nodes.append(join)

    def _rule(self, branches: list[str], count: int) -> dict[str, Any]:
        chance = self._chance
        policy = chance.choice(("require_all", "best_effort") if self._settled else POLICIES)
        rule: dict[str, Any] = {"policy": policy}
        if policy == "best_effort" or (policy != "first" and chance.random() < 0.6):
            rule["timeout_ms"] = PATIENT_MS if self._settled or chance.random() < 0.3 else chance.choice(TIMEOUTS_MS)
        if policy == "quorum":
            rule["need"] = chance.randint(1, count)
        rule["merge"] = chance.choice(("union", "union", "nested", "select")) if branches else "list"
        if rule["merge"] == "select":
            rule["select"] = chance.choice(branches)
        if rule["merge"] == "union":
            rule["collision"] = chance.choice(("last_wins", "first_wins", "fail"))
        return rule

    def _on_error(self) -> str:
        return self._chance.choice(("errors", DISCARD, "spare"))

    def _name(self, kind: str) -> str:
        self._made += 1
        return f"{kind}_{self._made}"
