"""The effect executor: what is said before an attempt that touches the outside world, and of the calls it made.

Invariants: the intent names the key under which the world will hear of it; each call begun is on record, answered or not,
its request and response as payloads; secrets that the pipeline file took from the environment are masked in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.attempts import CallMade, status_of
from engine.executors.calls import Called, Failure
from engine.executors.keeper import Keeper
from engine.masking import Masking
from engine.recorder import encode_row
from engine.rows import value_fault
from ledger.events import CallRecorded, StepStarted
from ledger.fold.state import Token

DEADLINE_PASSED = "deadline_passed"
WORKER_LOST = "worker_lost"


def begun(token: Token, key: str | None) -> StepStarted:
    """An attempt is about to begin; `key` is an effect's."""
    return StepStarted(token=token.id, node=token.node, attempt=token.attempt, input=token.payload, key=key)


def encoded(value: object, masking: Masking, bytes_max: int) -> bytes:
    """A value that a plugin says of a call, as JSON, at once; of one that is no JSON, or too long, only what it was."""
    try:
        fault = value_fault(value)
        data = b"" if fault else encode_row(masking.value(value))
    except BaseException as error:
        fault, data = f"expected a value that can be looked at, found {type(error).__name__}", b""
    if fault is None and len(data) > bytes_max:
        fault = f"expected at most {bytes_max} bytes, found {len(data)}"
    return encode_row(masking.text(f"not kept: {fault}")) if fault else data


def calls_made(token: Token, calls: Sequence[CallMade], keeper: Keeper) -> Iterator[CallRecorded]:
    """The calls of the token's attempt, each to be recorded before the next is taken."""
    for number, call in enumerate(calls):
        request = keeper.keep(call.request)
        yield CallRecorded(
            token=token.id,
            node=token.node,
            attempt=token.attempt,
            call=number,
            kind=keeper.code(call.kind),
            status=status_of(keeper.shown(call.status)),
            request=request,
            response=keeper.keep(call.response) if call.response is not None else None,
            latency_us=call.latency_us,
        )


def overdue(seconds: float) -> Called:
    """What an attempt came to whose deadline has passed."""
    text = f"TimeoutError: expected an answer within {seconds:g} s, found none"
    return Called((), False, Failure(DEADLINE_PASSED, text, retryable=True), round(seconds * 1_000_000))


def lost() -> Called:
    """What an attempt came to whose worker ended without an answer."""
    return Called((), False, Failure(WORKER_LOST, "expected an answer, found that its worker ended", retryable=True), 0)
