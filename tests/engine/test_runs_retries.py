"""Attempts that fail, and the next ones: the exact events of every way to fail, and when the next attempt comes."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bound import RetryPolicy, Transform
from engine.plugin_api import RetryableError, RowError
from ledger import events as e
from tests.kit.effects import Row, asking, numbered, within
from tests.kit.pipelines import Ran, Sketch, Trial, failing, trial
from tests.kit.ports import SimulatedTime
from tests.kit.shuffled import Fate, ShuffledWorkers
from tests.kit.twins import Pause

ATTEMPTS = 3
DEADLINE_SECONDS = 5.0


class Way(NamedTuple):
    """One way to fail: what the step does, the code of each attempt, whether another follows, how its text begins."""

    step: Transform
    code: str
    again: bool
    text: str
    fate: Fate = "answers"


def answers(row: Row) -> object:
    """Nothing wrong with the step itself."""
    return dict(row)


WAYS: Mapping[str, Way] = {
    "returns no row": Way(lambda row: 7, "bad_output", False, "expected a row or None, found int"),
    "returns a list": Way(lambda row: [row], "bad_output", False, "expected a row or None, found a list"),
    "RowError": Way(failing(lambda: RowError("hopeless", "hopeless")), "hopeless", False, "hopeless"),
    "raises": Way(failing(lambda: ValueError("broken")), "plugin_raised", False, "ValueError: broken"),
    "exits": Way(failing(lambda: SystemExit(3)), "plugin_raised", False, "SystemExit: 3"),
    "RetryableError": Way(failing(lambda: RetryableError("busy")), "retryable", True, "RetryableError: busy"),
    "OSError": Way(failing(lambda: OSError(5, "EIO")), "retryable", True, "OSError: [Errno 5] EIO"),
    "ConnectionError": Way(failing(lambda: ConnectionResetError("reset")), "retryable", True, "ConnectionResetError: reset"),
    "TimeoutError": Way(failing(lambda: TimeoutError("slow")), "retryable", True, "TimeoutError: slow"),
}
WAYS_OF_EFFECTS: Mapping[str, Way] = {
    **WAYS,
    "hangs": Way(answers, "deadline_passed", True, "TimeoutError: expected an answer within 5 s, found none", "hangs"),
    "is silent": Way(answers, "deadline_passed", True, "TimeoutError: expected an answer within 5 s, found none", "silent"),
    "worker lost": Way(answers, "worker_lost", True, "expected an answer, found that its worker ended", "lost"),
}


def attempted(way: Way, *, effect: bool) -> list[str]:
    """What the log says of the attempts."""
    lines = []
    for number in range(1, ATTEMPTS + 1 if way.again else 2):
        lines += [f"StepStarted 0 ask #{number}"] if effect else []
        last = not way.again or number == ATTEMPTS
        code = "retries_exhausted" if way.again and last else way.code
        lines.append(f"StepFailed 0 ask #{number} {code}{'' if last else ' retry'}")
    return lines


def whole(way: Way, on_error: str, *, effect: bool) -> list[str]:
    """The whole log of one row that fails that way. While it waits, or hangs, the source is found to have ended."""
    code = "retries_exhausted" if way.again else way.code
    to = "discard by None" if on_error == "discard" else "errors by ask:__error_ask__"
    lines = ["RowRead 0", *attempted(way, effect=effect), f"Diverted 0 error ask > {to} {code}"]
    if way.fate in ("hangs", "silent"):
        ended = 2
    elif way.again:
        ended = lines.index(f"StepFailed 0 ask #1 {way.code} retry") + 1
    else:
        ended = len(lines)
    lines.insert(ended, "SourceExhausted 1")
    written = [] if on_error == "discard" else ["SinkWriteIntended errors 0", "SinkWriteConfirmed errors 1"]
    return [*lines, *written, "RunSealed completed"]


def told_as_failed(ran: Ran, way: Way, on_error: str) -> None:
    """Beyond the events: texts, reasons, the end, what is in the error sink."""
    failures = ran.of(e.StepFailed)
    assert [ran.payload(failure.error)[: len(way.text)] for failure in failures] == [way.text] * len(failures)
    assert failures[-1].error is not None
    assert ran.one(e.Diverted).reason == failures[-1].error.n
    assert ran.outcomes == {"0": "quarantined" if on_error == "discard" else "routed"}
    assert ran.rows("errors") == ([] if on_error == "discard" else [{"n": 0}])


@pytest.mark.parametrize("on_error", ["errors", "discard"])
@pytest.mark.parametrize("name", WAYS)
def test_a_transform_that_keeps_failing(name: str, on_error: str) -> None:
    """W9, E1, E2, law R1, law T10: what may pass is tried three times, what is final once; one divert, by the last text."""
    way = WAYS[name]
    text = Sketch("rows", attempts=ATTEMPTS).step("ask", "rows", "out", on_error).sink("out", "errors").text()
    ran = trial(text, numbered(1), {"ask": way.step}).go()
    assert ran.told() == whole(way, on_error, effect=False)
    told_as_failed(ran, way, on_error)


@pytest.mark.parametrize("on_error", ["errors", "discard"])
@pytest.mark.parametrize("name", WAYS_OF_EFFECTS)
def test_an_effect_that_keeps_failing(name: str, on_error: str) -> None:
    """W9, E1, E2, law R1, law T10: the same, each with its intent; hung and lost ones are tried again like any other."""
    way = WAYS_OF_EFFECTS[name]
    time = SimulatedTime()
    made = within(trial(asking(on_error, attempts=ATTEMPTS), numbered(1), {"ask": lambda row, attempt: way.step(row)},
                        time=time), DEADLINE_SECONDS)
    made.workers = ShuffledWorkers(0, time, lambda ticket: way.fate)
    ran = made.go()
    assert ran.told() == whole(way, on_error, effect=True)
    told_as_failed(ran, way, on_error)
    assert len({started.key for started in ran.of(e.StepStarted)}) == 1


@pytest.mark.parametrize("on_error", ["errors", "discard", None])
@pytest.mark.parametrize("error", [RetryableError("busy"), OSError(5, "EIO"), TimeoutError("slow"), RowError("no", "no"),
                                   ValueError("broken")])  # fmt: skip
def test_a_gate_that_raises_is_not_tried_again(error: Exception, on_error: str | None) -> None:
    """W9, E1, E2, G12: a condition is no outside effect: one attempt; with a route a divert, without one `failed`."""
    sketch = Sketch("rows", attempts=ATTEMPTS).gate("gate", "rows", "True", {"true": "out"}, on_error=on_error)
    made = trial(sketch.sink("out", "errors").text(), numbered(1), conditions={"gate": failing(lambda: error)})
    code = "condition_raised"
    lines = {
        "errors": [f"Diverted 0 error gate > errors by gate:__error_gate__ {code}", "SourceExhausted 1",
                   "SinkWriteIntended errors 0", "SinkWriteConfirmed errors 1"],
        "discard": [f"Diverted 0 error gate > discard by None {code}", "SourceExhausted 1"],
        None: ["SourceExhausted 1"],
    }[on_error]  # fmt: skip
    ran = made.go()
    assert ran.told() == ["RowRead 0", f"StepFailed 0 gate #1 {code}", *lines, "RunSealed completed"]
    assert ran.payload(ran.one(e.StepFailed).error) == f"{type(error).__name__}: {error}"
    assert ran.outcomes == {"0": {"errors": "routed", "discard": "quarantined", None: "failed"}[on_error]}


# --- when the next attempt comes -----------------------------------------------------------------------------------


POLICY = {"max_attempts": 7, "initial_delay_seconds": 0.1, "max_delay_seconds": 1.0, "exponential_base": 2.0}
FULL_MS = (100, 200, 400, 800, 1000, 1000)


def retrying(policy: Mapping[str, float], rows: int = 1, *, run: str = "tried", effect: bool = False) -> Trial:
    """A step whose every attempt fails in a way that may pass."""
    sketch = Sketch("rows").sink("out", "errors")
    add = sketch.effect if effect else sketch.step
    data: dict[str, Any] = msgspec.json.decode(add("ask", "rows", "out", "errors").text())
    data["retry"] = dict(policy)
    error = failing(lambda: OSError("not yet"))
    step = (lambda row, attempt: error(row)) if effect else error
    return trial(msgspec.json.encode(data).decode(), numbered(rows), {"ask": step}, run=run)


def drawn(seed: int, token: str, attempt: int) -> float:
    """What the jitter of that attempt is, from 0 to 1: made of the recorded seed and of nothing else."""
    return int.from_bytes(sha256(f"{seed}/{token}/ask/{attempt}".encode()).digest()[:4]) / 2**32


@pytest.mark.parametrize("effect", [False, True])
def test_delays_follow_the_policy_and_the_recorded_seed(effect: bool) -> None:
    """law T10: the full delay doubles up to its cap; each is between half of it and all of it, as the seed says."""
    ran = retrying(POLICY, 5, effect=effect).go()
    seed = ran.one(e.RunStarted).jitter_seed
    for token in "01234":
        failures = [failure for failure in ran.of(e.StepFailed) if failure.token == token]
        assert [failure.attempt for failure in failures] == list(range(1, 8))
        delays = [failure.delay_ms for failure in failures]
        assert delays[-1] == 0
        for full, delay, failure in zip(FULL_MS, delays, failures, strict=False):
            assert full / 2 <= delay <= full
            assert delay == int(full * (0.5 + drawn(seed, token, failure.attempt) / 2))
        assert len({delay / full for full, delay in zip(FULL_MS, delays, strict=False)}) > 1


def test_the_same_run_waits_as_long_again_and_another_run_does_not() -> None:
    """law T10: delays depend on the run, the token, the node and the attempt; no clock and no other draw is in them."""
    def waits(run: str) -> list[tuple[str, int, int]]:
        return [(one.token, one.attempt, one.delay_ms) for one in retrying(POLICY, 4, run=run).go().of(e.StepFailed)]

    assert waits("one") == waits("one")
    assert sorted(waits("one")) != sorted(waits("other"))
    assert len({delay for _, attempt, delay in waits("one") if attempt == 1}) > 1


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.floats(1, 1e300), st.integers(0, 2**48), st.integers(1, 10_000))
def test_no_policy_makes_a_delay_outside_its_bounds(initial: int, longest: int, base: float, seed: int, attempt: int
                                                    ) -> None:
    """law T10: from half of the full delay to all of it, whatever overflows on the way."""
    delay = RetryPolicy(initial, longest, base).delay_ms(seed, "17.x:3", "ask", attempt)
    grown = initial * base ** min(attempt - 1, 100) if base < 1e3 else initial if attempt == 1 else None
    full = longest if grown is None else min(longest, grown)
    assert 0 <= delay <= longest
    if attempt <= 100 and base < 1e3:
        assert int(full / 2) <= delay <= full


@pytest.mark.parametrize("effect", [False, True])
def test_the_next_attempt_comes_on_an_idle_run_as_soon_as_it_is_due(effect: bool) -> None:
    """D5, law T10: nothing is read meanwhile: the source is silent for a minute, and the row is through long before."""
    time = SimulatedTime()
    began_ms: list[float] = []

    def step(row: Row, attempt: object = None) -> Row:
        began_ms.append(time.now_ns / 1_000_000)
        if len(began_ms) < ATTEMPTS:
            raise OSError("not yet")
        return row

    sketch = Sketch("rows", attempts=ATTEMPTS, delay_seconds=2).sink("out", "errors")
    add = sketch.effect if effect else sketch.step
    text = add("ask", "rows", "out", "errors").text()
    ran = trial(text, [{"n": 0}, Pause(60_000), Pause(1)], {"ask": step}, time=time).go()
    delays = [failure.delay_ms for failure in ran.of(e.StepFailed)]
    assert [there - here for here, there in pairwise(began_ms)] == pytest.approx(delays, abs=2)
    assert all(there - here >= delay for (here, there), delay in zip(pairwise(began_ms), delays, strict=True))
    completed, exhausted = ran.one(e.StepCompleted), ran.one(e.SourceExhausted)
    assert completed.active_ms < 5_000 < 60_000 <= exhausted.active_ms
    assert ran.one(e.SinkWriteConfirmed).active_ms < 5_000


@pytest.mark.parametrize("effect", [False, True])
def test_rows_that_wait_hold_up_no_other_and_come_back_in_the_order_in_which_they_are_due(effect: bool) -> None:
    """law T10: the others go on at once; of those that wait the first that is due is the first that is tried."""
    tried: set[object] = set()

    def step(row: Row, attempt: object = None) -> Row:
        if row["n"] not in (7, 8, 9) and row["n"] not in tried:
            tried.add(row["n"])
            raise OSError("not yet")
        return row

    sketch = Sketch("rows", attempts=2, delay_seconds=60, workers=3).sink("out", "errors")
    add = sketch.effect if effect else sketch.step
    ran = trial(add("ask", "rows", "out", "errors").text(), numbered(10), {"ask": step}).go()
    completed = [one.token for one in ran.of(e.StepCompleted)]
    assert completed[:3] == ["7", "8", "9"]
    due = sorted((failure.active_ms + failure.delay_ms, failure.seq, failure.token) for failure in ran.of(e.StepFailed))
    assert completed[3:] == [token for _, _, token in due]


@pytest.mark.parametrize("effect", [False, True])
def test_of_those_that_are_due_at_once_the_first_that_failed_is_tried_first(effect: bool) -> None:
    """law T10: the order of the log decides, not the order of a heap."""
    tried: set[object] = set()

    def step(row: Row, attempt: object = None) -> Row:
        if row["n"] not in tried:
            tried.add(row["n"])
            raise OSError("not yet")
        return row

    sketch = Sketch("rows", attempts=2, delay_seconds=0, workers=4).step("parts", "rows", "c", expands=True).sink("out")
    add = sketch.effect if effect else sketch.step
    ran = trial(add("ask", "c", "out").text(), numbered(1),
                {"parts": lambda row: [{"n": n} for n in range(4)], "ask": step}).go()  # fmt: skip
    assert [one.token for one in ran.of(e.StepFailed)] == [f"0:{n}" for n in range(4)]
    assert [one.token for one in ran.of(e.StepCompleted)] == [f"0:{n}" for n in range(4)]


def test_attempts_count_anew_at_each_node() -> None:
    """law T10: a token that was tried twice at one step begins with 1 at the next, for effects and others."""
    asked: set[tuple[str, object]] = set()

    def once_more(name: str) -> Transform:
        def step(row: Row, attempt: Any = None) -> Row:
            numbers.append((name, getattr(attempt, "number", None)))
            if (name, row["n"]) not in asked:
                asked.add((name, row["n"]))
                raise RetryableError("once more")
            return row
        return step

    numbers: list[tuple[str, int | None]] = []
    sketch = Sketch("rows", attempts=2).step("one", "rows", "c1").effect("two", "c1", "c2").step("three", "c2", "c3")
    text = sketch.effect("four", "c3", "out").sink("out").text()
    ran = trial(text, numbered(1), {name: once_more(name) for name in ("one", "two", "three", "four")}).go()
    assert numbers == [(name, number if name in ("two", "four") else None)
                       for name in ("one", "two", "three", "four") for number in (1, 2)]
    assert [line for line in ran.told("0") if line.startswith("Step")] == [
        "StepFailed 0 one #1 retryable retry", "StepCompleted 0 one #2",
        "StepStarted 0 two #1", "StepFailed 0 two #1 retryable retry", "StepStarted 0 two #2", "StepCompleted 0 two #2",
        "StepFailed 0 three #1 retryable retry", "StepCompleted 0 three #2",
        "StepStarted 0 four #1", "StepFailed 0 four #1 retryable retry", "StepStarted 0 four #2", "StepCompleted 0 four #2",
    ]  # fmt: skip
    assert len({started.key for started in ran.of(e.StepStarted)}) == 2
