"""What plugins answer in a drawn pipeline: a hash of the seed, the node, the row and the failed attempts behind it.

Why a hash: the oracle and the run ask for the same answers in orders of their own, and get the same.

Invariant: pure. Two tokens never come to one node with the same row, for where two ways meet a step has marked one.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from tests.simulation.predicted_merges import row_key
from tests.simulation.predicted_plan import (
    DIES,
    ERROR,
    FORK,
    LATER,
    NONSENSE,
    NOTHING,
    RAISES,
    ROW,
    ROWS,
    Answer,
    Batch,
    Choice,
    Gate,
    Output,
    Row,
    Step,
    Summed,
)

REFUSED, REFUSED_LATE = "refused_by_twin", "refused_by_target"
NOWHERE = "nowhere"


class Mood(NamedTuple):
    """How often, of 256 answers: failed for good, tried again, filtered, slow, killed the process, a batch failed."""

    fails: int = 12
    later: int = 16
    filters: int = 10
    slow: int = 30
    kills: int = 0
    batch_fails: int = 40


class Drawn:
    """Answers by the seed, in a mood."""

    def __init__(self, seed: int, mood: Mood) -> None:
        self._seed = seed
        self._mood = mood

    def _draw(self, node: str, key: bytes, failures: int) -> bytes:
        return blake2b(key, digest_size=8, key=f"{self._seed}/{node}/{failures}".encode()).digest()

    def _trouble(self, draw: int) -> tuple[str, str] | None:
        mood = self._mood
        if draw < mood.fails:
            kind = (ERROR, ERROR, RAISES, NONSENSE)[draw % 4]
            return kind, "told_to" if kind == ERROR else ""
        return (LATER, "") if draw < mood.fails + mood.later else None

    def _takes_ms(self, draw: int) -> int:
        return (1, 1, 7, 60, 400)[draw % 5] if draw < self._mood.slow else 0

    def step(self, node: Step, row: Row, failures: int) -> Answer:
        """See `predicted_plan.Answers`."""
        draw = self._draw(node.name, row_key(row), failures)
        takes_ms = self._takes_ms(draw[1])
        if draw[7] < self._mood.kills:
            return Answer(DIES)
        trouble = self._trouble(draw[0])
        if trouble is not None:
            return Answer(trouble[0], (), trouble[1], takes_ms)
        if draw[2] < self._mood.filters:
            return Answer(NOTHING, (), "", takes_ms)
        if node.expands:
            count = draw[3] % 4
            if count == 1 and draw[4] < 128:
                return Answer(ROWS, (row,), "", takes_ms)
            return Answer(ROWS, tuple({**row, node.name: n} for n in range(count)), "", takes_ms)
        return Answer(ROW, (_changed(node, row, draw),), "", takes_ms)

    def gate(self, node: Gate, row: Row) -> Choice:
        """See `predicted_plan.Answers`."""
        draw = self._draw(node.name, row_key(row), 0)
        takes_ms = self._takes_ms(draw[1])
        if draw[0] < self._mood.fails:
            return (Choice(RAISES), Choice(NONSENSE), Choice(ROW, NOWHERE))[draw[0] % 3]._replace(takes_ms=takes_ms)
        labels = sorted(node.routes)
        away = draw[2] < 2 * self._mood.filters + self._mood.fails
        main = next((label for label in labels if node.routes[label] == FORK), "go")
        return Choice(ROW, labels[draw[3] % len(labels)] if away else main, takes_ms)

    def batch(self, node: Batch, rows: Sequence[Row], failures: int) -> Summed:
        """See `predicted_plan.Answers`: the same of the same rows in any order."""
        keys = [row_key(row) for row in rows]
        order = sorted(range(len(rows)), key=lambda n: keys[n])
        draw = self._draw(node.name, b"\n".join(keys[n] for n in order), failures)
        takes_ms = self._takes_ms(draw[1])
        if draw[7] < self._mood.kills:
            return Summed(DIES)
        if draw[0] < self._mood.batch_fails:
            kind = (ERROR, LATER, LATER, LATER, RAISES, NONSENSE)[draw[0] % 6]
            return Summed(kind, code="told_to" if kind == ERROR else "", takes_ms=takes_ms)
        bad = {n for n in order if self._draw(node.name, keys[n], -1)[0] < self._mood.fails}
        rejected = tuple((n, "odd") for n in sorted(bad))
        if node.passes:
            kept = [n for n in range(len(rows)) if n not in bad]
            passed = tuple(Output({**rows[n], node.name: len(rows)} if draw[2] % 2 else rows[n], (n,)) for n in kept)
            return Summed(ROWS, passed, rejected, takes_ms=takes_ms)
        made = _summed(node, rows, [n for n in order if n not in bad], draw)
        return Summed(ROWS, tuple(made), rejected, takes_ms=takes_ms)

    def refuses(self, sink: str, row: Row) -> str | None:
        """See `predicted_plan.Answers`: what a row says of itself, to the sinks that it names."""
        if sink in row.get("refuse", ()):
            return REFUSED
        return REFUSED_LATE if sink in row.get("refuse_late", ()) else None


def _changed(node: Step, row: Row, draw: bytes) -> Row:
    """The row, changed or not; now and then one that sinks refuse."""
    if node.marks:
        return {**row, node.name: draw[3] % 3}
    if draw[2] > 248:
        return {**row, "refuse": ["out", "side"]}
    if draw[2] > 240:
        return {**row, "refuse_late": ["out", "spare"] if draw[3] % 2 else ["out"]}
    if draw[2] > 236:
        return {**row, "refuse": ["out", "errors", "spare", "side"]}
    if draw[4] < 60:
        return row
    if draw[4] < 180:
        return {**row, node.name: draw[3] % 5, "last": draw[4] % 4}
    return {**row, "note": [draw[3] % 2, {"x": None}]}


def _summed(node: Batch, rows: Sequence[Row], kept: Sequence[int], draw: bytes) -> list[Output]:
    """Rows of a batch: one of all, one of each, of every second alone, or none."""
    def made(k: int, parents: tuple[int, ...] | None) -> Output:
        row: dict[str, Any] = {"n": rows[kept[0]].get("n"), node.name: draw.hex(), "k": k}
        return Output(row, parents)

    kind = draw[3] % 8
    if not kept or kind == 0:
        return []
    if kind < 4:
        return [made(0, None)]
    if kind < 6:
        return [made(k, (n,)) for k, n in enumerate(kept)]
    return [made(k, (n,)) for k, n in enumerate(kept) if k % 2 == 0] if kind == 6 else [made(0, tuple(kept)), made(1, None)]
