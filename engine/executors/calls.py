"""One call of a transform, and what came of it, judged before anything is said about it.

Why judged here: what a plugin gives back is as much its own code as what it runs; a value that raises when it is looked at
fails its row like any other failure, and never the run.

Invariant: a `Called` holds plain rows with their bytes, no filter and no failure at once; nothing of the plugin's own is
touched after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from engine.bound import BoundStep
from engine.codes import code_of
from engine.executors.keeper import describe
from engine.plugin_api import RetryableError, RowError
from engine.recorder import encode_row
from engine.rows import FrozenRow, check_row, freeze

PLUGIN_RAISED = "plugin_raised"
BAD_OUTPUT = "bad_output"
RETRYABLE = "retryable"
RETRIES_EXHAUSTED = "retries_exhausted"
LIMIT_EXCEEDED = "limit_exceeded"


class Failure(NamedTuple):
    """Why an attempt failed."""

    code: str
    text: str
    retryable: bool = False


class Limits(NamedTuple):
    """What one attempt may make: bytes of a row's JSON, and rows."""

    row_bytes_max: int
    children_max: int


class Made(NamedTuple):
    """A row that a step made, with its bytes; None for bytes that are those of the input."""

    row: FrozenRow
    data: bytes | None


class Called(NamedTuple):
    """What a call came to: rows, none of them when it filtered, or a failure; `expanded` when a list was given."""

    made: tuple[Made, ...]
    expanded: bool
    failure: Failure | None
    duration_us: int


class _Refused(Exception):
    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.failure = Failure(code, text)


def call(step: BoundStep, row: FrozenRow, limits: Limits, now_ns: Callable[[], int]) -> Called:
    """Call the plugin once. Whatever it raises is a failure of this attempt; only a KeyboardInterrupt is not its own."""
    began_ns = now_ns()
    taken_ns = began_ns
    try:
        result = step.call(row)
        taken_ns = now_ns()
        if result is row:
            return Called((Made(row, None),), False, None, (taken_ns - began_ns) // 1000)
        expanded = isinstance(result, list)
        made = _children(step, result, limits) if expanded else _one(step, row, result, limits)
    except KeyboardInterrupt:
        raise
    except _Refused as refused:
        return Called((), False, refused.failure, (taken_ns - began_ns) // 1000)
    except BaseException as error:
        return Called((), False, _failure(error), (now_ns() - began_ns) // 1000)
    return Called(made, expanded, None, (taken_ns - began_ns) // 1000)


def _one(step: BoundStep, row: FrozenRow, result: object, limits: Limits) -> tuple[Made, ...]:
    if result is None:
        return ()
    if not isinstance(result, dict):
        expected = "a row, a list of rows" if step.node.expands else "a row"
        raise _Refused(BAD_OUTPUT, f"expected {expected} or None, found {type(result).__name__}")
    made = _made(result, limits)
    if made.row == row and made.data == encode_row(row):
        return (Made(row, None),)
    return (made,)


def _children(step: BoundStep, result: object, limits: Limits) -> tuple[Made, ...]:
    rows = list(result)  # type: ignore[call-overload]
    if not step.node.expands:
        raise _Refused(BAD_OUTPUT, "expected a row or None, found a list: an expanding step is annotated -> list[...]")
    if len(rows) > limits.children_max:
        raise _Refused(LIMIT_EXCEEDED, f"expected at most {limits.children_max} rows, found {len(rows)}")
    return tuple([_made(row, limits) for row in rows])


def _made(result: object, limits: Limits) -> Made:
    """A row that can be recorded, with its bytes. Raises `_Refused` for anything else."""
    row = result if type(result) is dict else dict(result) if isinstance(result, dict) else result
    fault = check_row(row)
    if fault is not None or not isinstance(row, dict):
        raise _Refused(BAD_OUTPUT, fault or "expected a row")
    frozen = freeze(row)
    data = encode_row(frozen)
    if len(data) > limits.row_bytes_max:
        raise _Refused(LIMIT_EXCEEDED, f"expected a row of at most {limits.row_bytes_max} bytes, found {len(data)}")
    return Made(frozen, data)


def _failure(error: BaseException) -> Failure:
    """`RowError` is final; what may pass is retried; anything else that is raised fails the row."""
    if isinstance(error, RowError):
        return Failure(code_of(getattr(error, "code", None)), describe(error, named=False))
    if isinstance(error, (RetryableError, OSError)):
        return Failure(RETRYABLE, describe(error), retryable=True)
    return Failure(PLUGIN_RAISED, describe(error))
