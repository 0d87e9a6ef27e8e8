"""One call of a transform, and what came of it, judged before anything is said about it.

Why judged here: what a plugin gives back is as much its own code as what it runs; a value that raises when it is looked at
fails its row like any other failure, and never the run.

Invariant: a `Called` holds plain rows with their bytes, no filter and no failure at once; nothing of the plugin's own is
touched after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from engine.bound import BoundStep, RetryPolicy, Transform
from engine.codes import BAD_CODE, code_of
from engine.executors.keeper import describe
from engine.plugin_api import RetryableError, RowError
from engine.recorder import encode_row
from engine.rows import FrozenRow, check_row, freeze, is_untouched

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
    """What one attempt may make: bytes of a row's JSON, and rows; and how many rows a batch may hold or make."""

    row_bytes_max: int
    children_max: int
    batch_rows_max: int


class Made(NamedTuple):
    """A row that a step made, with its bytes; None for bytes that are those of the input."""

    row: FrozenRow
    data: bytes | None

    def like(self, row: FrozenRow) -> Made:
        """This row; without bytes of its own where they are those of `row`."""
        return Made(row, None) if self.row == row and self.data == encode_row(row) else self


class Called(NamedTuple):
    """What a call came to: rows, none of them when it filtered, or a failure.

    `expanded` when a list was given, or a row by a step that expands: that is a list of one.
    """

    made: tuple[Made, ...]
    expanded: bool
    failure: Failure | None
    duration_us: int


class Refused(Exception):
    """What a plugin gave back cannot be recorded."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.failure = Failure(code, text)


def call(step: BoundStep, run: Transform, row: FrozenRow, limits: Limits, now_ns: Callable[[], int]) -> Called:
    """Call the step's plugin once, as `run`.

    Whatever it raises is a failure of this attempt; only a KeyboardInterrupt is not its own.
    """
    began_ns = now_ns()
    answered_ns = began_ns
    try:
        given = freeze(row)
        result = run(given)
        answered_ns = now_ns()
        expanded = False
        if result is given and is_untouched(given, row):
            made: tuple[Made, ...] = (Made(row, None),)
        elif isinstance(result, (list, Iterator)):
            made, expanded = _children(step, result, limits), True
            answered_ns = now_ns()
        else:
            made = _one(step, row, result, limits)
    except KeyboardInterrupt:
        raise
    except Refused as refused:
        return Called((), False, refused.failure, (now_ns() - began_ns) // 1000)
    except BaseException as error:
        return Called((), False, failure_of(error), (now_ns() - began_ns) // 1000)
    return Called(made, expanded or (bool(made) and step.node.expands), None, (answered_ns - began_ns) // 1000)


def _one(step: BoundStep, row: FrozenRow, result: object, limits: Limits) -> tuple[Made, ...]:
    if result is None:
        return ()
    if not isinstance(result, dict):
        expected = "a row, a list of rows" if step.node.expands else "a row"
        raise Refused(BAD_OUTPUT, f"expected {expected} or None, found {type(result).__name__}")
    return (made_of(result, limits).like(row),)


def _children(step: BoundStep, result: object, limits: Limits) -> tuple[Made, ...]:
    if not step.node.expands:
        raise Refused(BAD_OUTPUT, f"expected a row or None, found a {type(result).__name__}: an expanding step is annotated "
                      "-> list[...]")
    return tuple([made_of(row, limits) for row in taken(result, limits.children_max, "rows")])


def taken(rows: object, most: int, what: str) -> list[object]:
    """The rows of a list, or of an iterator, no more of them than are allowed, so that an endless one ends too."""
    found = list(islice(rows, most + 1))  # type: ignore[call-overload]
    if len(found) > most:
        raise Refused(LIMIT_EXCEEDED, f"expected at most {most} {what}, found more")
    return found


def made_of(result: object, limits: Limits) -> Made:
    """A row that can be recorded, with its bytes. Raises `Refused` for anything else."""
    row = result if type(result) is dict else dict(result) if isinstance(result, dict) else result
    fault = check_row(row)
    if fault is not None or not isinstance(row, dict):
        raise Refused(BAD_OUTPUT, fault or "expected a row")
    frozen = freeze(row)
    data = encode_row(frozen)
    if len(data) > limits.row_bytes_max:
        raise Refused(LIMIT_EXCEEDED, f"expected a row of at most {limits.row_bytes_max} bytes, found {len(data)}")
    return Made(frozen, data)


def failure_of(error: BaseException) -> Failure:
    """`RowError` is final; what may pass is retried; anything else that is raised fails the row."""
    if isinstance(error, RowError):
        return Failure(_code_of(error), describe(error, named=False))
    if isinstance(error, (RetryableError, OSError)):
        return Failure(RETRYABLE, describe(error), retryable=True)
    return Failure(PLUGIN_RAISED, describe(error))


def _code_of(error: RowError) -> str:
    """The code that a row error carries; one that raises when it is asked for has a bad one."""
    try:
        return code_of(getattr(error, "code", None))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return BAD_CODE


class Settled(NamedTuple):
    """What a failure comes to: its code, whether another attempt follows, and how long after it (run time)."""

    code: str
    retry: bool
    delay_ms: int


def settled(failure: Failure, retry: RetryPolicy, seed: int, name: str, node: str, attempt: int | None) -> Settled:
    """The one place that says whether something is tried again. `attempt` is the one that failed; None: it was the last."""
    if not failure.retryable:
        return Settled(failure.code, False, 0)
    if attempt is None:
        return Settled(RETRIES_EXHAUSTED, False, 0)
    return Settled(failure.code, True, retry.delay_ms(seed, name, node, attempt))
