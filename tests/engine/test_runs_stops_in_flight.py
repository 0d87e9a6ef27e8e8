"""A stop, and a source that raises, while effects are in flight: what was begun is finished and on record.

Where a test says how long an effect takes, `TimedWorkers` lets its answer come at that very millisecond.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from engine.attempts import Attempt
from engine.loop import Hooks
from engine.plugin_api import RetryableError
from ledger import events as e
from tests.kit.effects import Row, Timed, asking, numbered, threaded, within
from tests.kit.pipelines import Ran, Sketch, trial

PATIENCE_SECONDS = 30
"""How long a thread waits for another before its test fails."""


# --- a stop --------------------------------------------------------------------------------------------------------


def stopped(timed: Timed, at_ms: float) -> Ran:
    """The run, which is told at that time to stop."""
    timed.time.alarms_ns.add(int(at_ms * 1_000_000))
    timed.trial.hooks = Hooks(stopping=lambda: "enough" if timed.time.now_ns >= at_ms * 1_000_000 else None)
    ran = timed.trial.go()
    assert ran.receipt.status == "interrupted"
    assert ran.told()[-1] == "RunInterrupted stopped enough"
    return ran


def test_a_stop_finishes_what_is_in_flight_and_begins_nothing() -> None:
    """law T10: three run and three wait; the three are recorded and written, no other is asked, all rest open."""
    ran = stopped(Timed(asking(workers=3), numbered(10), {("ask", n): 100 * (n + 1) for n in range(10)}), 50)
    assert [one.token for one in ran.of(e.StepStarted)] == ["0", "1", "2"]
    assert [(one.token, one.active_ms) for one in ran.of(e.StepCompleted)] == [("0", 100), ("1", 200), ("2", 300)]
    assert ran.rows("out") == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert ran.outcomes == {"0": "completed", "1": "completed", "2": "completed"}
    assert ran.verdict.open_tokens == len(ran.of(e.RowRead)) - 3 == 3


def test_a_stop_waits_for_a_hung_attempt_no_longer_than_its_deadline() -> None:
    """D5: it ends as any other that hangs; its next attempt is left to a resume."""
    timed = Timed(asking(workers=2, attempts=3), numbered(2), {("ask", 0): 10**9, ("ask", 1): 100})
    within(timed.trial, 5)
    ran = stopped(timed, 50)
    assert ran.told("0")[-1] == "StepFailed 0 ask #1 deadline_passed retry"
    assert ran.one(e.StepFailed).active_ms == 5000
    assert timed.workers.given_up == [1]
    assert ran.outcomes == {"1": "completed"}


def test_a_stop_tries_nothing_again_and_asks_no_effect_downstream() -> None:
    """law T10: a failure that would be retried at once stays the last of its token; a row goes as far as the next effect."""
    def fails_first(row: Row, attempt: Attempt) -> Row:
        if row["n"] == 0:
            raise RetryableError("once more")
        return row

    sketch = Sketch("rows", workers=2, attempts=3, delay_seconds=0).effect("one", "rows", "c").step("step", "c", "d")
    timed = Timed(sketch.effect("two", "d", "out").sink("out").text(), numbered(2), {("one", 0): 100, ("one", 1): 200},
                  {"one": fails_first})
    ran = stopped(timed, 50)
    assert [line for line in ran.told() if "Step" in line] == [
        "StepStarted 0 one #1", "StepStarted 1 one #1", "StepFailed 0 one #1 retryable retry", "StepCompleted 1 one #1",
        "StepCompleted 1 step #1",
    ]  # fmt: skip
    assert ran.outcomes == {}


def test_timers_fire_while_a_stop_waits() -> None:
    """A2, D5: a group that is due before the last attempt ended is resolved then, and the late branch is late."""
    sketch = Sketch("rows", workers=2).fork("split", "rows", "a", "b").effect("ask", "a", "done_a")
    sketch.join("join", {"a": "done_a", "b": "b"}, "best_effort", "out", timeout_seconds=0.3)
    ran = stopped(Timed(sketch.sink("out").text(), numbered(1), {("ask", 0): 1000}), 50)
    assert ran.one(e.TokensCoalesced).active_ms == 300
    assert ran.told("ask") == ["StepStarted 0.a ask #1", "StepCompleted 0.a ask #1"]
    assert ran.one(e.BranchArrivedLate).active_ms == 1000
    assert ran.outcomes["0+join"] == "completed"


def test_a_stop_on_real_threads_hears_the_answer_it_waits_for() -> None:
    """law T10: the effect is let go only once the stop was asked for; its row is recorded and written."""
    asked, going_on = threading.Event(), threading.Event()

    def ask(row: Row, attempt: Attempt) -> Row:
        asked.set()
        assert going_on.wait(PATIENCE_SECONDS)
        return row

    def stopping() -> str | None:
        if not asked.is_set():
            return None
        going_on.set()
        return "enough"

    made = trial(asking(), hanging_on(asked), {"ask": ask})
    made.hooks = Hooks(stopping)
    ran = threaded(made)
    assert ran.rows("out") == [{"n": 0}]
    assert ran.told()[-1] == "RunInterrupted stopped enough"


def hanging_on(asked: threading.Event) -> Iterator[object]:
    """A source that has nothing more until the effect was asked."""
    yield {"n": 0}
    assert asked.wait(PATIENCE_SECONDS)
    yield {"n": 1}


# --- a source that fails -------------------------------------------------------------------------------------------


def test_a_source_that_raises_lets_what_is_in_flight_finish() -> None:
    """W10, law T1: the attempts in flight, those that wait, another attempt of one that fails: all before the run stops."""
    asked: list[object] = []

    def once_more(row: Row, attempt: Attempt) -> Row:
        asked.append(row["n"])
        if row["n"] == 1 and attempt.number == 1:
            raise RetryableError("once more")
        return row

    rows = [*numbered(3), OSError(5, "EIO")]
    timed = Timed(asking(workers=2, attempts=2), rows, {("ask", n): 100 for n in range(3)}, {"ask": once_more})
    ran = timed.trial.go()
    assert ran.fault is not None
    assert ran.fault.code == "SOURCE_FAILED"
    told = ran.told()
    assert told[:6] == ["RowRead 0", "RowRead 1", "StepStarted 0 ask #1", "StepStarted 1 ask #1", "RowRead 2",
                        "SourceFailed 3 source_raised"]
    assert ran.outcomes == {"0": "completed", "1": "completed", "2": "completed"}
    assert told[-1].startswith("RunInterrupted source_failed")
    assert sorted(str(row["n"]) for row in ran.rows("out")) == ["0", "1", "2"]
    assert asked == [0, 1, 2, 1]
