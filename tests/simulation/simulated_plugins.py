"""The plugins of a simulated process: what they answer is the case's, what they raise the engine's.

Why they count: a plugin is not told how often its step failed before, and its answer depends on it. A process that
carries on takes the counts from the log that it finds, as the oracle read it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.attempts import Attempt
from engine.bound import BoundPipeline, Transform
from engine.plugin_api import BatchResult, Derived, Rejected, RetryableError, RowError
from ledger import ids
from tests.kit.ports import SimulatedTime
from tests.simulation.drawn import Case
from tests.simulation.predicted import key_of
from tests.simulation.predicted_by_log import Follower
from tests.simulation.predicted_merges import row_key
from tests.simulation.predicted_plan import (
    DIES,
    ERROR,
    LATER,
    NONSENSE,
    NOTHING,
    RAISES,
    ROW,
    Answer,
    Answers,
    Batch,
    Choice,
    Gate,
    Node,
    Row,
    Step,
    Summed,
)

LEDGER, RUN = "simulated", "run"
RAISED: Sequence[Callable[[], BaseException]] = (
    lambda: ValueError("no"), lambda: SystemExit(3), lambda: RecursionError("deep"), lambda: KeyError("gone"),
)
PASSING: Sequence[Callable[[], BaseException]] = (
    lambda: RetryableError("later"), lambda: ConnectionResetError("gone"), lambda: TimeoutError("slow"),
)
NO_ROWS: Sequence[object] = (5, "row", {"x": float("nan")}, {"x": {1}}, True)


class Plugins:
    """Binds a case's answers to a pipeline. `dies` ends the process; `calls` is asked at every call of a plugin."""

    def __init__(self, case: Case, run: str, time: SimulatedTime, known: Follower, calls: Callable[[], None],
                 dies: Callable[[], BaseException], complain: Callable[[str], None]) -> None:
        self._case = case
        self._run = run
        self._answers: Answers = case.answers
        self._time = time
        self._calls = calls
        self._dies = dies
        self._complain = complain
        self._failures: Counter[tuple[str, bytes]] = Counter()
        self._known = known
        self._finished = frozenset(known.finished)
        for token in known.machine.live.values():
            if token.failures:
                self._failures[key_of(token)] = token.failures
        for batch in known.machine.batches.values():
            self._failures[batch.node.name, _key([token.row for token in batch.members])] = batch.failures

    def bound(self, pipeline: BoundPipeline) -> BoundPipeline:
        """The pipeline with these plugins."""
        nodes = {node.name: node for node in self._case.pipeline.nodes}
        case = self._case
        steps = {name: replace(step, call=self._step(nodes[name]), deadline_seconds=case.deadline_seconds)
                 for name, step in pipeline.steps.items()}
        gates = {name: replace(gate, condition=self._gate(nodes[name])) for name, gate in pipeline.gates.items()}
        batches = {name: replace(one, call=self._batch(nodes[name])) for name, one in pipeline.aggregations.items()}
        return replace(pipeline, steps=steps, gates=gates, aggregations=batches, workers_max=case.workers)

    def _passes(self, answer: Answer | Choice | Summed, key: tuple[str, bytes]) -> None:
        """G13: what is finished on record is not done again."""
        if key in self._finished:
            self._complain(f"{key} is done again")
        self._calls()
        if answer.takes_ms:
            self._time.advance_ms(answer.takes_ms)

    def _step(self, node: Node) -> Transform:
        assert isinstance(node, Step)

        def ask(row: Row, attempt: Attempt) -> object:
            key = (node.name, row_key(row))
            answer = self._answers.step(node, row, self._failed_before(node.name, attempt))
            with attempt.calling("asked", {"of": node.name}) as call:
                call.answered("ok", answer.kind)
            return self._given(answer, key)

        def answer_of(row: Row) -> object:
            key = (node.name, row_key(row))
            answer = self._answers.step(node, row, self._failures[key])
            if answer.kind == LATER:
                self._failures[key] += 1
            return self._given(answer, key)

        return ask if node.effect else answer_of

    def _failed_before(self, node: str, attempt: Attempt) -> int:
        """What the log says: it is committed before an effect begins. Nobody hears an attempt that is found no more."""
        for token in self._known.machine.live.values():
            if token.node == node and ids.effect_key(LEDGER, self._run, token.id, node) == attempt.key:
                return token.failures
        return 0

    def _given(self, answer: Answer, key: tuple[str, bytes]) -> object:
        """What the plugin gives back, or raises."""
        self._passes(answer, key)
        odd = sum(key[1])
        if answer.kind == ERROR:
            raise RowError("told to", answer.code)
        if answer.kind == LATER:
            raise PASSING[odd % len(PASSING)]()
        if answer.kind == RAISES:
            raise RAISED[odd % len(RAISED)]()
        if answer.kind == DIES:
            raise self._dies()
        if answer.kind == NONSENSE:
            return NO_ROWS[odd % len(NO_ROWS)]
        if answer.kind == NOTHING:
            return None
        return answer.rows[0] if answer.kind == ROW else [dict(row) for row in answer.rows]

    def _gate(self, node: Node) -> Transform:
        assert isinstance(node, Gate)

        def choose(row: Row) -> object:
            choice = self._answers.gate(node, row)
            self._passes(choice, (node.name, row_key(row)))
            if choice.kind == RAISES:
                raise LookupError("no such field")
            return 7 if choice.kind == NONSENSE else choice.label

        return choose

    def _batch(self, node: Node) -> Callable[[Sequence[Mapping[str, Any]]], object]:
        assert isinstance(node, Batch)

        def compute(rows: Sequence[Row]) -> object:
            key = (node.name, _key(rows))
            answer = self._answers.batch(node, rows, self._failures[key])
            self._passes(answer, key)
            odd = sum(key[1])
            if answer.kind == DIES:
                raise self._dies()
            if answer.kind == LATER:
                self._failures[key] += 1
                raise PASSING[odd % len(PASSING)]()
            if answer.kind == ERROR:
                raise RowError("told to", answer.code)
            if answer.kind == RAISES:
                raise RAISED[odd % len(RAISED)]()
            if answer.kind == NONSENSE:
                return [5] if odd % 2 else 5
            made = [output.row if output.parents is None or node.passes else Derived(output.row, output.parents)
                    for output in answer.outputs]
            return BatchResult(made, [Rejected(n, "odd", code) for n, code in answer.rejected])

        return compute


def _key(rows: Sequence[Row]) -> bytes:
    return b"\n".join(map(row_key, rows))
