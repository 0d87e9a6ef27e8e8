"""The oracle without a log: where no order decides anything, any order of acts gives the same ends.

Why any order: the acts are taken in an order that a seed shuffles, so that a prediction which depends on it after all is
seen (two seeds differ) and is not held against the engine.

Invariant: imports nothing of the engine, and nothing of the ledger.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from tests.simulation.predicted import Machine
from tests.simulation.predicted_merges import row_key
from tests.simulation.predicted_plan import DIES, Answers, Batch, Gate, Join, Pipeline, Row, Step
from tests.simulation.predicted_state import Members, Token

PATIENT_MS = 10**9
"""A timeout that never passes in a simulated run."""

_NUMBERED = re.compile(r"@\d+:\d+")


class End(NamedTuple):
    """What became of a token: its outcome, the sink that has it, why."""

    outcome: str
    sink: str
    reason: str


class Prediction(NamedTuple):
    """The ends of tokens that a source row's id names, those of the others by the shape of their id, the rows in each sink,
    each group's decision, how many came late."""

    ends: Mapping[str, End]
    others: Counter[tuple[str, End]]
    sinks: Mapping[str, Counter[bytes]]
    groups: Mapping[str, tuple[str, frozenset[str], frozenset[str]]]
    late: int


def settled(pipeline: Pipeline) -> bool:
    """Whether no order can decide anything: everyone is waited for, no timer fires, no batch depends on who came when."""
    return all(_is_settled(node) for node in pipeline.nodes)


def _is_settled(node: object) -> bool:
    if isinstance(node, Join):
        return node.policy in ("require_all", "best_effort") and (node.timeout_ms or PATIENT_MS) >= PATIENT_MS
    if isinstance(node, Batch):
        return node.full_at in (None, 1) and node.at_least is None and node.age_ms is None and node.timeout_ms is None
    return True


def predict(pipeline: Pipeline, answers: Answers, rows: Sequence[tuple[Row, str | None]], seed: int) -> Machine:
    """What a run over the rows must come to, by acts in an order that the seed shuffles."""
    chance = Random(seed)
    machine = Machine(pipeline, answers)
    unread = list(reversed(rows))
    while True:
        while machine.owed:
            machine.tell()
        ready = [token for token in machine.live.values() if token.state == "ready"]
        if unread and chance.random() * (len(ready) + 1) < 1:
            machine.read(*unread.pop())
        elif ready:
            _act(machine, chance.choice(ready))
        elif not _close_first(machine):
            return machine


def _act(machine: Machine, token: Token) -> None:
    node = machine.ways.nodes.get(token.node)
    if node is None:
        machine.confirm(token.node, [token])
    elif isinstance(node, Step):
        if machine.answers.step(node, token.row, token.failures).kind == DIES:
            machine.died(token)
        else:
            machine.attempt(token)
    elif isinstance(node, Gate):
        machine.choose(token)
    elif isinstance(node, Join):
        machine.arrive(token)
    else:
        machine.buffer(token)
        batch = machine.batches[node.name]
        while node.name in machine.batches and node.full_at is not None and len(batch.members) >= node.full_at:
            _compute(machine, batch, "count")


def _compute(machine: Machine, batch: Members, trigger: str) -> None:
    rows = [token.row for token in batch.members]
    if machine.answers.batch(batch.node, rows, batch.failures).kind == DIES:
        machine.died_in(batch)
    else:
        machine.flush(batch, trigger)


def _close_first(machine: Machine) -> bool:
    """At end of source: the first open group or batch that nothing open leads to; says whether there was one."""
    reach = machine.ways.reach
    waiting = [*(group.join.name for group in machine.open.values()), *machine.batches]
    first = [name for name in waiting if not any(name in reach[other] for other in waiting if other != name)]
    for name in first[:1]:
        batch = machine.batches.get(name)
        if batch is not None:
            _compute(machine, batch, "end_of_source")
        else:
            group = next(group for group in machine.open.values() if group.join.name == name)
            machine.close(group, "end_of_source")
    return bool(first)


def told(machine: Machine) -> Prediction:
    """What a machine has come to, without what depends on an order: batch numbers, and of several lost who was first."""
    ends: dict[str, End] = {}
    others: Counter[tuple[str, End]] = Counter()
    sinks: dict[str, Counter[bytes]] = {sink.name: Counter() for sink in machine.pipeline.sinks}
    for token in machine.tokens.values():
        end = End(token.outcome or "open", token.sink, _reason(token.reason))
        if "@" in token.id:
            others[_NUMBERED.sub("@", token.id), end] += 1
        else:
            ends[token.id] = end
        if token.sink:
            sinks[token.sink][row_key(token.row)] += 1
    groups = {group.id: _group(machine, group.id) for group in machine.groups.values() if "@" not in group.id}
    return Prediction(ends, others, sinks, groups, machine.late)


def _group(machine: Machine, id_: str) -> tuple[str, frozenset[str], frozenset[str]]:
    """How a group ended; who arrived and who was lost, where it waited for all of them."""
    group = machine.groups[id_]
    decision = group.closed
    if decision is None:
        return "open", frozenset(), frozenset()
    if decision.kind == "merge":
        return "merged", frozenset(group.arrived), frozenset(group.lost)
    return f"failed {_reason(decision.reason)}", frozenset(), frozenset()


def _reason(reason: str) -> str:
    """A reason without what an order decides: which of several losses was told first, and so whether all are named."""
    word = reason.partition(":")[0]
    return "branch_lost" if word == "all_branches_lost" else word
