"""The step executor: one attempt of a transform on one row.

Every way to fail ends in the same place, a `StepFailed` with a code and a text (E1): a returned non-row, a raised
`RowError`, any other exception, exhausted retries. What it means for the token is the fold's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from engine.bound import BoundStep
from engine.codes import code_of
from engine.executors.keeper import Keeper, describe
from engine.plugin_api import RetryableError, RowError
from engine.recorder import encode_row
from engine.rows import FrozenRow, check_row, freeze
from ledger.events import Event, Output, StepCompleted, StepFailed, TokenExpanded, TokenFiltered
from ledger.fold.state import Token

PLUGIN_RAISED = "plugin_raised"
BAD_OUTPUT = "bad_output"
RETRYABLE = "retries_exhausted"
LIMIT_EXCEEDED = "limit_exceeded"


class Attempted(NamedTuple):
    """The event of one attempt, and the rows it made (none when it failed or filtered)."""

    event: Event
    rows: tuple[FrozenRow, ...] = ()


class Failure(NamedTuple):
    """Why an attempt failed."""

    code: str
    text: str
    retryable: bool = False


class Limits(NamedTuple):
    """What one attempt may make: bytes of a row's JSON, and rows."""

    row_bytes_max: int
    children_max: int


class Called(NamedTuple):
    """What the plugin gave back: a result, or the failure that it raised."""

    result: object
    failure: Failure | None
    duration_us: int


def call(step: BoundStep, row: FrozenRow, now_ns: Callable[[], int]) -> Called:
    """Call the plugin once. Whatever it raises is a failure of this attempt, never of the run."""
    began_ns = now_ns()
    try:
        result = step.call(row)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Called(None, _failure(error), (now_ns() - began_ns) // 1000)
    return Called(result, None, (now_ns() - began_ns) // 1000)


def attempted(
    step: BoundStep, token: Token, row: FrozenRow, called: Called, keeper: Keeper, seed: int, limits: Limits
) -> Attempted:
    """Say what the attempt came to."""
    result, failure, duration_us = called
    if failure is not None:
        return _failed(step, token, failure, keeper, seed, duration_us)
    if isinstance(result, dict):
        fault = None if result is row else check_row(result)
        if fault is None:
            return _completed(step, token, row, result, keeper, seed, duration_us, limits)
    elif result is None:
        event = TokenFiltered(token=token.id, node=token.node, attempt=token.attempt, input=token.payload,
                              duration_us=duration_us)
        return Attempted(event)
    elif isinstance(result, list) and step.node.expands:
        if len(result) > limits.children_max:
            text = f"expected at most {limits.children_max} rows, found {len(result)}"
            return _failed(step, token, Failure(LIMIT_EXCEEDED, text), keeper, seed, duration_us)
        fault = next((text for text in map(check_row, result) if text is not None), None)
        if fault is None:
            return _expanded(step, token, result, keeper, seed, duration_us, limits)
    else:
        fault = f"expected a row{', a list of rows' if step.node.expands else ''} or None, found {type(result).__name__}"
    return _failed(step, token, Failure(BAD_OUTPUT, fault), keeper, seed, duration_us)


def _completed(
    step: BoundStep, token: Token, row: FrozenRow, result: dict[str, object], keeper: Keeper, seed: int,
    duration_us: int, limits: Limits,
) -> Attempted:
    output: Output = token.payload
    out = row
    if result is not row:
        data = encode_row(result)
        if len(data) > limits.row_bytes_max:
            return _failed(step, token, _too_long(data, limits), keeper, seed, duration_us)
        if result != row or data != encode_row(row):
            output = keeper.keep(data)
        out = freeze(result)
    event = StepCompleted(token=token.id, node=token.node, attempt=token.failures + token.deaths + 1,
                          input=token.payload, output=output, duration_us=duration_us)
    return Attempted(event, (out,))


def _expanded(
    step: BoundStep, token: Token, rows: list[dict[str, object]], keeper: Keeper, seed: int, duration_us: int,
    limits: Limits,
) -> Attempted:
    encoded = [encode_row(row) for row in rows]
    long = next((data for data in encoded if len(data) > limits.row_bytes_max), None)
    if long is not None:
        return _failed(step, token, _too_long(long, limits), keeper, seed, duration_us)
    outputs = tuple([keeper.keep(data) for data in encoded])
    event = TokenExpanded(token=token.id, node=token.node, attempt=token.attempt, input=token.payload,
                          count=len(rows), outputs=outputs, duration_us=duration_us)
    return Attempted(event, tuple(freeze(row) for row in rows))


def _too_long(data: bytes, limits: Limits) -> Failure:
    return Failure(LIMIT_EXCEEDED, f"expected a row of at most {limits.row_bytes_max} bytes, found {len(data)}")


def _failure(error: BaseException) -> Failure:
    """`RowError` is final; what may pass is retried; anything else that is raised fails the row."""
    if isinstance(error, RowError):
        return Failure(code_of(error.code), describe(error, named=False))
    if isinstance(error, (RetryableError, OSError)):
        return Failure(RETRYABLE, describe(error), retryable=True)
    return Failure(PLUGIN_RAISED, describe(error))


def _failed(step: BoundStep, token: Token, failure: Failure, keeper: Keeper, seed: int, duration_us: int) -> Attempted:
    number = token.attempt
    retry = failure.retryable and token.failures + 1 < step.node.attempts_max
    event = StepFailed(
        token=token.id,
        node=token.node,
        attempt=number,
        input=token.payload,
        code=failure.code,
        error=keeper.keep_text(failure.text),
        retry=retry,
        delay_ms=step.retry.delay_ms(seed, token.id, token.node, number) if retry else 0,
        duration_us=duration_us,
    )
    return Attempted(event)
