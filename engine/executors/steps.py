"""The step executor: what one attempt of a transform came to, as an event.

Every way to fail ends in the same place, a `StepFailed` with a code and a text (E1): a returned non-row, a raised
`RowError`, any other exception, exhausted retries. What it means for the token is the fold's to say.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.bound import BoundStep
from engine.executors.calls import Called, Failure, Made, settled
from engine.executors.keeper import Keeper
from engine.rows import FrozenRow
from ledger.events import Event, StepCompleted, StepFailed, TokenExpanded, TokenFiltered
from ledger.fold.state import Token


class Attempted(NamedTuple):
    """The event of one attempt, and the rows it made (none when it failed or filtered)."""

    event: Event
    rows: tuple[FrozenRow, ...] = ()


def attempted(step: BoundStep, token: Token, called: Called, keeper: Keeper, seed: int) -> Attempted:
    """Say what the attempt came to."""
    made, expanded, failure, duration_us = called
    if failure is not None:
        return _failed(step, token, failure, keeper, seed, duration_us)
    if expanded:
        return _expanded(token, made, keeper, duration_us)
    if not made:
        event = TokenFiltered(token=token.id, node=token.node, attempt=token.attempt, input=token.payload,
                              duration_us=duration_us)
        return Attempted(event)
    row, data = made[0]
    return Attempted(StepCompleted(token=token.id, node=token.node, attempt=token.failures + token.deaths + 1,
                                   input=token.payload, output=token.payload if data is None else keeper.keep(data),
                                   duration_us=duration_us), (row,))


def _expanded(token: Token, made: tuple[Made, ...], keeper: Keeper, duration_us: int) -> Attempted:
    outputs = tuple([token.payload if data is None else keeper.keep(data) for _, data in made])
    event = TokenExpanded(token=token.id, node=token.node, attempt=token.attempt, input=token.payload,
                          count=len(made), outputs=outputs, duration_us=duration_us)
    return Attempted(event, tuple([row for row, _ in made]))


def _failed(step: BoundStep, token: Token, failure: Failure, keeper: Keeper, seed: int, duration_us: int) -> Attempted:
    left = token.failures + 1 < step.node.attempts_max
    code, retry, delay_ms = settled(failure, step.retry, seed, token.id, step.node.id, token.failures + 1 if left else None)
    event = StepFailed(
        token=token.id,
        node=token.node,
        attempt=token.attempt,
        input=token.payload,
        code=keeper.code(code),
        error=keeper.keep_text(failure.text),
        retry=retry,
        delay_ms=delay_ms,
        duration_us=duration_us,
    )
    return Attempted(event)
