"""Forks and joins to try, and steps that answer late or refuse one row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.bound import Transform
from engine.plugin_api import RetryableError, RowError
from tests.kit.pipelines import Sketch

Row = Mapping[str, object]
Settings = Mapping[str, Any]

POLICIES: Mapping[str, Settings] = {
    "require_all": {}, "quorum": {"quorum_count": 2}, "best_effort": {"timeout_seconds": 60}, "first": {},
}  # fmt: skip
"""Each policy with the settings it needs for two branches or more."""


def forked(*branches: str, policy: str, attempts: int = 1, delay_seconds: float = 1.0,
           limits: Mapping[str, int] | None = None, **settings: Any) -> Sketch:
    """`source -> split -> step_x per branch -> join -> out`, errors to `errors`."""
    sketch = Sketch("rows", attempts=attempts, delay_seconds=delay_seconds, limits=limits)
    sketch.fork("split", "rows", *branches)
    for name in branches:
        sketch.step(f"step_{name}", name, f"done_{name}", "errors")
    sketch.join("join", {name: f"done_{name}" for name in branches}, policy, "out", **settings)
    return sketch.sink("out", "errors")


def nested(inner: Settings, outer: Settings) -> Sketch:
    """`split -> (x: inner_split -> a, b -> inner -> after; y: step_y) -> outer -> out`."""
    sketch = Sketch("rows").fork("split", "rows", "x", "y").fork("inner_split", "x", "a", "b")
    sketch.step("step_a", "a", "done_a").step("step_b", "b", "done_b").step("step_y", "y", "done_y")
    sketch.step("after", "inner_out", "done_x")
    sketch.join("inner", {"a": "done_a", "b": "done_b"}, str(inner["policy"]), "inner_out", **settings_of(inner))
    sketch.join("outer", {"x": "done_x", "y": "done_y"}, str(outer["policy"]), "out", **settings_of(outer))
    return sketch.sink("out")


def settings_of(policy: Settings) -> dict[str, object]:
    """A policy's settings without its name."""
    return {key: value for key, value in policy.items() if key != "policy"}


def refusing(number: int) -> Transform:
    """A step that fails the row of this number, for good."""

    def step(row: Row) -> Row:
        if row["n"] == number:
            raise RowError("not this one")
        return row

    return step


class Later:
    """A step that cannot answer at its first attempt at a row."""

    def __init__(self) -> None:
        self._asked: set[object] = set()

    def __call__(self, row: Row) -> object:
        """The row, at the second attempt."""
        if row["n"] not in self._asked:
            self._asked.add(row["n"])
            raise RetryableError("not yet")
        return {**row, "late": True}
