"""The last attempt has failed: each cause by each way out, the whole log of one row, spelt out.

What an attempt can fail by: an answer that is an error, an exception that may pass, its deadline, its worker. Where the row
goes then: to the sink of `on_error`, nowhere (`discard`), or, at a gate that names neither, nowhere with the end `failed`.

A gate and a batch run in the loop itself: they have no deadline of their own and no worker, so what passes for a timeout
there is raised, and what can be lost there is the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pytest

from engine.bound import Transform
from engine.plugin_api import RetryableError, RowError
from ledger import events as e
from tests.kit.deaths import MortalStore, killed
from tests.kit.effects import Row, asking, numbered, within
from tests.kit.pipelines import Ran, Sketch, Trial, failing, trial
from tests.kit.ports import SimulatedTime
from tests.kit.shuffled import Fate, ShuffledWorkers

ATTEMPTS = 2
DEADLINE_SECONDS = 5.0

ROUTED = ["SinkWriteIntended errors 0", "SinkWriteConfirmed errors 1", "RunSealed completed"]
GONE = ["RunSealed completed"]


class Cause(NamedTuple):
    """What an effect does at each of its attempts, and what becomes of the attempt."""

    step: Transform
    fate: Fate = "answers"


CAUSES: Mapping[str, Cause] = {
    "returned error": Cause(lambda row: RowError("no", "no")),
    "final error": Cause(failing(lambda: RowError("no", "no"))),
    "raised": Cause(failing(lambda: OSError(5, "EIO"))),
    "timeout": Cause(dict, "hangs"),
    "worker lost": Cause(dict, "lost"),
}

WAYS = ("errors", "discard")

OF_AN_EFFECT: Mapping[tuple[str, str], Sequence[str]] = {
    ("returned error", "errors"): [
        "RowRead 0", "StepStarted 0 ask #1", "StepFailed 0 ask #1 bad_output",
        "Diverted 0 error ask > errors by ask:__error_ask__ bad_output", "SourceExhausted 1", *ROUTED],
    ("returned error", "discard"): [
        "RowRead 0", "StepStarted 0 ask #1", "StepFailed 0 ask #1 bad_output",
        "Diverted 0 error ask > discard by None bad_output", "SourceExhausted 1", *GONE],
    ("final error", "errors"): [
        "RowRead 0", "StepStarted 0 ask #1", "StepFailed 0 ask #1 no",
        "Diverted 0 error ask > errors by ask:__error_ask__ no", "SourceExhausted 1", *ROUTED],
    ("final error", "discard"): [
        "RowRead 0", "StepStarted 0 ask #1", "StepFailed 0 ask #1 no",
        "Diverted 0 error ask > discard by None no", "SourceExhausted 1", *GONE],
    ("raised", "errors"): [
        "RowRead 0", "StepStarted 0 ask #1", "StepFailed 0 ask #1 retryable retry", "SourceExhausted 1",
        "StepStarted 0 ask #2", "StepFailed 0 ask #2 retries_exhausted",
        "Diverted 0 error ask > errors by ask:__error_ask__ retries_exhausted", *ROUTED],
    ("raised", "discard"): [
        "RowRead 0", "StepStarted 0 ask #1", "StepFailed 0 ask #1 retryable retry", "SourceExhausted 1",
        "StepStarted 0 ask #2", "StepFailed 0 ask #2 retries_exhausted",
        "Diverted 0 error ask > discard by None retries_exhausted", *GONE],
    ("timeout", "errors"): [
        "RowRead 0", "StepStarted 0 ask #1", "SourceExhausted 1", "StepFailed 0 ask #1 deadline_passed retry",
        "StepStarted 0 ask #2", "StepFailed 0 ask #2 retries_exhausted",
        "Diverted 0 error ask > errors by ask:__error_ask__ retries_exhausted", *ROUTED],
    ("timeout", "discard"): [
        "RowRead 0", "StepStarted 0 ask #1", "SourceExhausted 1", "StepFailed 0 ask #1 deadline_passed retry",
        "StepStarted 0 ask #2", "StepFailed 0 ask #2 retries_exhausted",
        "Diverted 0 error ask > discard by None retries_exhausted", *GONE],
    ("worker lost", "errors"): [
        "RowRead 0", "StepStarted 0 ask #1", "StepFailed 0 ask #1 worker_lost retry", "SourceExhausted 1",
        "StepStarted 0 ask #2", "StepFailed 0 ask #2 retries_exhausted",
        "Diverted 0 error ask > errors by ask:__error_ask__ retries_exhausted", *ROUTED],
    ("worker lost", "discard"): [
        "RowRead 0", "StepStarted 0 ask #1", "StepFailed 0 ask #1 worker_lost retry", "SourceExhausted 1",
        "StepStarted 0 ask #2", "StepFailed 0 ask #2 retries_exhausted",
        "Diverted 0 error ask > discard by None retries_exhausted", *GONE],
}  # fmt: skip


@pytest.mark.parametrize(("cause", "on_error"), OF_AN_EFFECT)
def test_an_effect_whose_last_attempt_failed(cause: str, on_error: str) -> None:
    """W9, E1, E2, law R1, law T10: what may pass is tried again, what is final is not; then one divert, by the last code."""
    time = SimulatedTime()
    step, fate = CAUSES[cause]
    text = asking(on_error, attempts=ATTEMPTS)
    made = within(trial(text, numbered(1), {"ask": lambda row, attempt: step(row)}, time=time), DEADLINE_SECONDS)
    made.workers = ShuffledWorkers(0, time, lambda ticket: fate)
    ran = made.go()
    assert ran.told() == OF_AN_EFFECT[cause, on_error]
    ended(ran, on_error)


def test_each_cause_has_each_way_out() -> None:
    """W9: nothing of the product of causes and ways is left out above or below."""
    assert set(OF_AN_EFFECT) == {(cause, way) for cause in CAUSES for way in WAYS}
    assert set(OF_A_GATE) == {(cause, way) for cause in CONDITIONS for way in (*WAYS, None)}
    assert set(OF_A_BATCH) == {(cause, way) for cause in PLUGINS for way in WAYS}


def ended(ran: Ran, on_error: str | None) -> None:
    """The one end of row 0, and what is in the sinks."""
    assert ran.outcomes == {"0": {"errors": "routed", "discard": "quarantined", None: "failed"}[on_error]}
    assert (ran.rows("out"), ran.rows("errors")) == ([], numbered(1) if on_error == "errors" else [])


# --- gates -----------------------------------------------------------------------------------------------------------


CONDITIONS: Mapping[str, Transform] = {
    "returned error": lambda row: RowError("no", "no"),
    "raised": failing(lambda: OSError(5, "EIO")),
    "timeout": failing(lambda: TimeoutError("slow")),
}
"""What the condition of a gate does; in it there is no outside effect, so nothing of this is tried again."""

OF_A_GATE: Mapping[tuple[str, str | None], Sequence[str]] = {
    ("returned error", "errors"): [
        "RowRead 0", "StepFailed 0 gate #1 condition_type",
        "Diverted 0 error gate > errors by gate:__error_gate__ condition_type", "SourceExhausted 1", *ROUTED],
    ("returned error", "discard"): [
        "RowRead 0", "StepFailed 0 gate #1 condition_type",
        "Diverted 0 error gate > discard by None condition_type", "SourceExhausted 1", *GONE],
    ("returned error", None): ["RowRead 0", "StepFailed 0 gate #1 condition_type", "SourceExhausted 1", *GONE],
    ("raised", "errors"): [
        "RowRead 0", "StepFailed 0 gate #1 condition_raised",
        "Diverted 0 error gate > errors by gate:__error_gate__ condition_raised", "SourceExhausted 1", *ROUTED],
    ("raised", "discard"): [
        "RowRead 0", "StepFailed 0 gate #1 condition_raised",
        "Diverted 0 error gate > discard by None condition_raised", "SourceExhausted 1", *GONE],
    ("raised", None): ["RowRead 0", "StepFailed 0 gate #1 condition_raised", "SourceExhausted 1", *GONE],
    ("timeout", "errors"): [
        "RowRead 0", "StepFailed 0 gate #1 condition_raised",
        "Diverted 0 error gate > errors by gate:__error_gate__ condition_raised", "SourceExhausted 1", *ROUTED],
    ("timeout", "discard"): [
        "RowRead 0", "StepFailed 0 gate #1 condition_raised",
        "Diverted 0 error gate > discard by None condition_raised", "SourceExhausted 1", *GONE],
    ("timeout", None): ["RowRead 0", "StepFailed 0 gate #1 condition_raised", "SourceExhausted 1", *GONE],
}  # fmt: skip


def gated(on_error: str | None, condition: Transform) -> Trial:
    """`source -> gate -> out`."""
    sketch = Sketch("rows", attempts=ATTEMPTS).gate("gate", "rows", "True", {"true": "out"}, on_error=on_error)
    return trial(sketch.sink("out", "errors").text(), numbered(1), conditions={"gate": condition})


@pytest.mark.parametrize(("cause", "on_error"), OF_A_GATE)
def test_a_gate_whose_one_attempt_failed(cause: str, on_error: str | None) -> None:
    """W9, E1, E2, G12, law R1: with a route a divert, discarded by one without an edge, with neither `failed` and none."""
    ran = gated(on_error, CONDITIONS[cause]).go()
    assert ran.told() == OF_A_GATE[cause, on_error]
    ended(ran, on_error)


@pytest.mark.parametrize("fate", ["hangs", "lost"])
def test_a_gate_has_no_deadline_to_pass_and_no_worker_to_lose(fate: Fate) -> None:
    """W9: where every worker hangs or is lost, and however long a condition takes, the row is routed."""
    def slow(row: Row) -> bool:
        made.time.advance_ms(3_600_000)
        return True

    made = gated(None, slow)
    made.workers = ShuffledWorkers(0, made.time, lambda ticket: fate)
    ran = made.go()
    assert ran.told() == ["RowRead 0", "Routed 0 gate:true", "SinkWriteIntended out 0", "SinkWriteConfirmed out 1",
                          "SourceExhausted 1", "RunSealed completed"]


# --- batches ---------------------------------------------------------------------------------------------------------


PLUGINS: Mapping[str, Callable[[Sequence[Row]], object]] = {
    "returned error": lambda rows: RowError("no", "no"),
    "final error": failing(lambda: RowError("no", "no")),
    "raised": failing(lambda: RetryableError("busy")),
    "timeout": failing(lambda: TimeoutError("slow")),
}

AGAIN = ["RowRead 0", "TokenBuffered 0 batch@1 0", "BatchFailed batch@1 #1 count retryable retry", "SourceExhausted 1",
         "BatchFailed batch@1 #2 count retries_exhausted"]

OF_A_BATCH: Mapping[tuple[str, str], Sequence[str]] = {
    ("returned error", "errors"): [
        "RowRead 0", "TokenBuffered 0 batch@1 0", "BatchFailed batch@1 #1 count bad_output",
        "Diverted 0 error batch > errors by batch:__error_batch__ bad_output", "SourceExhausted 1", *ROUTED],
    ("returned error", "discard"): [
        "RowRead 0", "TokenBuffered 0 batch@1 0", "BatchFailed batch@1 #1 count bad_output",
        "Diverted 0 error batch > discard by None bad_output", "SourceExhausted 1", *GONE],
    ("final error", "errors"): [
        "RowRead 0", "TokenBuffered 0 batch@1 0", "BatchFailed batch@1 #1 count no",
        "Diverted 0 error batch > errors by batch:__error_batch__ no", "SourceExhausted 1", *ROUTED],
    ("final error", "discard"): [
        "RowRead 0", "TokenBuffered 0 batch@1 0", "BatchFailed batch@1 #1 count no",
        "Diverted 0 error batch > discard by None no", "SourceExhausted 1", *GONE],
    ("raised", "errors"): [
        *AGAIN, "Diverted 0 error batch > errors by batch:__error_batch__ retries_exhausted", *ROUTED],
    ("raised", "discard"): [*AGAIN, "Diverted 0 error batch > discard by None retries_exhausted", *GONE],
    ("timeout", "errors"): [
        *AGAIN, "Diverted 0 error batch > errors by batch:__error_batch__ retries_exhausted", *ROUTED],
    ("timeout", "discard"): [*AGAIN, "Diverted 0 error batch > discard by None retries_exhausted", *GONE],
}  # fmt: skip


@pytest.mark.parametrize(("cause", "on_error"), OF_A_BATCH)
def test_a_batch_whose_last_attempt_failed(cause: str, on_error: str) -> None:
    """W9, E1, E2, law R1, law T10: its member leaves as the row of a step would."""
    sketch = Sketch("rows", attempts=ATTEMPTS).batch("batch", "rows", "out", on_error, trigger={"count": 1})
    ran = trial(sketch.sink("out", "errors").text(), numbered(1), {"batch": PLUGINS[cause]}).go()
    assert ran.told() == OF_A_BATCH[cause, on_error]
    ended(ran, on_error)


# --- the process is lost ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_error", "last"), [
    ("errors", ["Diverted 0 error ask > errors by ask:__error_ask__ process_died", "SourceExhausted 1", *ROUTED]),
    ("discard", ["Diverted 0 error ask > discard by None process_died", "SourceExhausted 1", *GONE]),
])
def test_an_effect_whose_process_died_three_times(on_error: str, last: Sequence[str]) -> None:
    """W9, W8, E1, E2, law R1, law T10: whoever carries the run on says of each attempt that nobody knows its end."""
    store = MortalStore()
    made = trial(asking(on_error, attempts=ATTEMPTS), numbered(1), {"ask": lambda row, attempt: store.die()}, store=store)
    killed(made.start)
    for _ in range(2):
        store.revive()
        killed(made.resume)
    store.revive()
    ran = made.again()
    assert ran.told() == [
        "RowRead 0", "StepStarted 0 ask #1", "RunClaimed", "StepAbandoned", "StepStarted 0 ask #2", "RunClaimed",
        "StepAbandoned", "StepStarted 0 ask #3", "RunClaimed", "StepAbandoned", *last]
    assert [(one.token, one.node, one.attempt, one.code) for one in ran.of(e.StepAbandoned)] == [
        ("0", "ask", number, "process_died") for number in (1, 2, 3)]
    ended(ran, on_error)
