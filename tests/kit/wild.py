"""Pipelines nobody designed: drawn at random, with plugins whose every answer is a hash of a seed, the node and the row.

Why hashes: the same seed gives the same run, whatever the order in which plugins are called, so a failure can be shown
again and a run can be compared with itself.

Invariant: what is drawn builds; it has at most `NODES_MAX` nodes, and every kind of node that a run knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from engine.bound import Transform
from engine.plugin_api import RetryableError, RowError
from tests.kit.pipelines import Sketch, Trial, trial
from tests.kit.ports import SimulatedTime
from tests.kit.twins import Pause

NODES_MAX, ROWS_MAX, DEPTH_MAX = 12, 12, 2
TIMEOUTS = (0.02, 0.3, 5.0)

_canonical = msgspec.json.Encoder(order="sorted").encode


class Wild(NamedTuple):
    """One pipeline with its rows and the seed of its answers."""

    text: str
    rows: list[object]
    seed: int

    def trial(self) -> Trial:
        """Ready to run; each trial begins anew."""
        time = SimulatedTime()
        made = trial(self.text, self.rows, time=time)
        answers = Answers(self.seed, time)
        steps: dict[str, Transform] = {
            name: answers.parts(name) if step.node.expands else answers.step(name) for name, step in made.bound.steps.items()
        }
        conditions = {name: answers.choice(name, sorted(gate.routes)) for name, gate in made.bound.gates.items()}
        return trial(self.text, self.rows, steps, conditions=conditions, time=time)


class Answers:
    """What plugins answer."""

    def __init__(self, seed: int, time: SimulatedTime) -> None:
        self._seed = seed
        self._time = time
        self._asked: Counter[tuple[str, bytes]] = Counter()

    def _draw(self, node: str, row: Mapping[str, object]) -> int:
        """0 to 99 for this attempt; now and then it takes its time."""
        key = (node, _canonical(row))
        self._asked[key] += 1
        digest = sha256(f"{self._seed}/{self._asked[key]}/{node}/".encode() + key[1]).digest()
        self._time.advance_ms({0: 1, 1: 40, 2: 400}.get(digest[1] % 16, 0))
        return digest[0] * 100 // 256

    def step(self, node: str) -> Transform:
        """A step that mostly changes the row or not, and otherwise fails, filters, or asks to be tried again."""

        def answer(row: Mapping[str, object]) -> object:
            draw = self._draw(node, row)
            self._trouble(draw)
            if draw < 21:
                return None
            if draw < 25:
                return {**row, "refuse": ["out", "side"]}
            return {**row, node: draw, "last": node} if draw < 65 else row

        return answer

    def parts(self, node: str) -> Transform:
        """A step that makes none to three rows."""

        def answer(row: Mapping[str, object]) -> object:
            draw = self._draw(node, row)
            self._trouble(draw)
            return [{**row, f"{node}_part": n} for n in range(draw % 4)]

        return answer

    def _trouble(self, draw: int) -> None:
        if draw < 4:
            raise RowError("told to", "told_to")
        if draw < 6:
            raise SystemExit(draw)
        if draw < 16:
            raise RetryableError("later")

    def choice(self, node: str, labels: list[str]) -> Transform:
        """A condition that mostly leads on; sometimes away, nowhere, or it raises."""

        def answer(row: Mapping[str, object]) -> object:
            draw = self._draw(node, row)
            if draw < 4:
                raise KeyError("no such field")
            if draw < 8:
                return "nowhere"
            return labels[draw % len(labels)] if draw < 30 else "go"

        return answer


@st.composite
def wild(draw: st.DrawFn) -> Wild:
    """Any small pipeline, its rows, and a seed."""
    sketch = Sketch("rows", attempts=draw(st.integers(1, 3)), delay_seconds=draw(st.sampled_from(TIMEOUTS)),
                    invalid=draw(st.sampled_from(["discard", "spare"])))  # fmt: skip
    grower = _Grower(draw, sketch)
    grower.chain("rows", "out", draw(st.integers(1, 3)), depth=0)
    sketch.sink("spare", "side").sink("out", "errors", on_write_failure="spare")
    rows = draw(st.lists(st.sampled_from(["row"] * 6 + ["invalid", "pause"]), min_size=1, max_size=ROWS_MAX))
    made: list[object] = []
    for n, kind in enumerate(rows):
        row = {"n": n}
        made.append(Pause(100) if kind == "pause" else (row, ("invalid", "told to")) if kind == "invalid" else row)
    return Wild(sketch.text(), made, draw(st.integers(0, 2**32)))


class _Grower:
    def __init__(self, draw: st.DrawFn, sketch: Sketch) -> None:
        self._draw = draw
        self._sketch = sketch
        self._left = NODES_MAX
        self._made = 0

    def chain(self, input_: str, to: str, length: int, *, depth: int, corridor: bool = False) -> None:
        """`length` segments one after the other from one connection to another."""
        between = [input_, *(self._name("c") for _ in range(length - 1)), to]
        for here, there in pairwise(between):
            self._segment(here, there, depth, corridor)

    def _segment(self, input_: str, to: str, depth: int, corridor: bool) -> None:
        kinds = ["step", "step", "gate"]
        if depth < DEPTH_MAX and self._left >= 4:
            kinds += ["fork", "fork", "fork", "gather"]
        if not corridor:
            kinds.append("parts")
        kind = self._draw(st.sampled_from(kinds))
        self._left -= 2 if kind in ("fork", "gather") else 1
        if kind == "step" or kind == "parts":
            self._sketch.step(self._name("step"), input_, to, self._on_error(), expands=kind == "parts")
        elif kind == "gate":
            self._sketch.gate(self._name("gate"), input_, "True", {"go": to, "away": "side"},
                              on_error=self._draw(st.sampled_from([None, "discard", "errors"])))  # fmt: skip
        elif kind == "fork":
            self._fork(input_, to, depth, corridor)
        else:
            self._gather(input_, to, depth)

    def _fork(self, input_: str, to: str, depth: int, corridor: bool) -> None:
        count = self._draw(st.integers(2, 3))
        name, join = self._name("split"), self._name("join")
        branches = {f"{name}_{letter}": f"{name}_{letter}" for letter in "abc"[:count]}
        extra = not corridor and self._draw(st.integers(0, 3)) == 0
        leaving = [self._name("aside")] if extra else []
        self._sketch.gate(name, input_, "True", {"go": "fork", "away": "side"}, fork_to=[*branches, *leaving],
                          on_error=self._draw(st.sampled_from([None, "discard", "errors"])))  # fmt: skip
        for branch in branches:
            length = self._draw(st.integers(0, min(2, max(0, self._left))))
            if length:
                branches[branch] = self._name("c")
                self.chain(branch, branches[branch], length, depth=depth + 1, corridor=True)
        for branch in leaving:
            self._sketch.step(self._name("step"), branch, "side", self._on_error())
        self._sketch.join(join, branches, *self._policy_and(to), **self._settings(list(branches), count))

    def _gather(self, input_: str, to: str, depth: int) -> None:
        step, join, parts = self._name("step"), self._name("join"), self._name("c")
        self._sketch.step(step, input_, parts, self._on_error(), expands=True)
        length = self._draw(st.integers(0, min(2, max(0, self._left))))
        done = self._name("c") if length else parts
        if length:
            self.chain(parts, done, length, depth=depth + 1, corridor=True)
        self._sketch.gather(join, step, done, *self._policy_and(to), **self._settings([], 3))

    def _policy_and(self, to: str) -> tuple[str, str]:
        self._policy = self._draw(st.sampled_from(["require_all", "quorum", "best_effort", "first"]))
        return self._policy, to

    def _settings(self, branches: list[str], count: int) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        if self._policy == "best_effort" or (self._policy != "first" and self._draw(st.booleans())):
            settings["timeout_seconds"] = self._draw(st.sampled_from(TIMEOUTS))
        if self._policy == "quorum":
            settings["quorum_count"] = self._draw(st.integers(1, count))
        if branches:
            settings["merge"] = self._draw(st.sampled_from(["union", "union", "nested", "select"]))
            if settings["merge"] == "select":
                settings["select_branch"] = self._draw(st.sampled_from(branches))
            if settings["merge"] == "union":
                settings["union_collision_policy"] = self._draw(st.sampled_from(["last_wins", "first_wins", "fail"]))
        return settings

    def _on_error(self) -> str:
        return self._draw(st.sampled_from(["errors", "discard", "spare"]))

    def _name(self, kind: str) -> str:
        self._made += 1
        return f"{kind}_{self._made}"
