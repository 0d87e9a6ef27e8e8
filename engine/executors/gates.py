"""The gate executor: one condition on one row, one way on, or a fork. A bad label fails that row, not the run (G12)."""

from __future__ import annotations

from collections.abc import Callable

from engine.bound import BoundGate
from engine.executors.keeper import Keeper, describe
from engine.rows import FrozenRow
from ledger.events import Event, Routed, StepFailed, TokenForked
from ledger.fold.state import Token

FORK = "fork"
CONDITION_RAISED = "condition_raised"
CONDITION_TYPE = "condition_type"
UNKNOWN_LABEL = "unknown_label"


def decide(gate: BoundGate, token: Token, row: FrozenRow, keeper: Keeper, now_ns: Callable[[], int]) -> Event:
    """Evaluate the condition and say where the token goes."""
    began_ns = now_ns()
    try:
        answer = gate.condition(row)
    except Exception as error:
        return _failed(gate, token, CONDITION_RAISED, describe(error), keeper, (now_ns() - began_ns) // 1000)
    duration_us = (now_ns() - began_ns) // 1000
    if answer is True:
        label = "true"
    elif answer is False:
        label = "false"
    elif isinstance(answer, str):
        label = answer
    else:
        text = f"expected a bool or a label, found {type(answer).__name__}"
        return _failed(gate, token, CONDITION_TYPE, text, keeper, duration_us)
    to = gate.routes.get(label)
    if to is None:
        text = f"expected one of {sorted(gate.routes)}, found label {label!r:.80}"
        return _failed(gate, token, UNKNOWN_LABEL, text, keeper, duration_us)
    node = token.node
    if to == FORK:
        return TokenForked(token=token.id, node=node, label=label, branches=gate.node.fork_to, duration_us=duration_us)
    return Routed(token=token.id, node=node, label=label, edge=f"{node}:{label}", duration_us=duration_us)


def _failed(gate: BoundGate, token: Token, code: str, text: str, keeper: Keeper, duration_us: int) -> StepFailed:
    return StepFailed(token=token.id, node=gate.node.id, attempt=token.attempt, input=token.payload, code=code,
                      error=keeper.keep_text(text), retry=False, duration_us=duration_us)
