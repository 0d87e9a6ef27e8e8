"""What would go wrong with effects if nobody looked: waiting for nothing, spinning, evidence that changes, jobs given up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from engine.attempts import CALLS_MAX, Attempt
from engine.in_flight import HUNG_MAX
from engine.loop import Hooks
from engine.masking import Masking
from engine.plugin_api import RowError
from engine.workers import ThreadWorkers
from ledger import events as e
from tests.kit.effects import Row, asking, echo, numbered, raising, within
from tests.kit.pipelines import Sketch, Trial, trial
from tests.kit.ports import SimulatedTime
from tests.kit.shuffled import AlarmTime, ShuffledWorkers, TimedWorkers
from tests.kit.twins import Pause


def test_an_effect_that_could_begin_does_not_wait_for_the_whole_source() -> None:
    """E9: room for two, nothing in flight, one effect waits: it begins with the next group commit, not after 5000 rows."""
    time = SimulatedTime()

    def quick(row: Row) -> Row:
        time.advance_ms(1)
        return row

    sketch = Sketch("rows", workers=2).gate("gate", "rows", "row['n']==0", {"true": "fork", "false": "quick"}, fork_to="ab")
    sketch.effect("ask", "a", "done_a").join("join", {"a": "done_a", "b": "b"}, "require_all", "out", timeout_seconds=1)
    ran = trial(sketch.step("step", "quick", "out").sink("out").text(), numbered(5000), {"ask": echo, "step": quick},
                time=time).go()
    assert ran.one(e.StepStarted).active_ms <= 250
    assert ran.outcomes["0+join"] == "completed"


def in_flight() -> Trial:
    """An effect is in flight while a sink is written."""
    sketch = Sketch("rows", workers=2).gate("gate", "rows", "row['n']==0", {"true": "slow", "false": "quick"})
    text = sketch.effect("ask", "slow", "out").step("step", "quick", "out").sink("out").text()
    time = AlarmTime()
    made = trial(text, [{"n": 0}, Pause(10), {"n": 1}, Pause(100), {"n": 2}], time=time)
    timed = TimedWorkers(time)

    def ask(row: Row, attempt: Attempt) -> Row:
        timed.take(500)
        attempt.calling("http", "sent")
        return row
    made.bound = replace(made.bound, steps={**made.bound.steps, "ask": replace(made.bound.steps["ask"], call=ask)})
    made.workers = timed
    return made


def test_a_sink_that_fails_lets_attempts_in_flight_finish() -> None:
    """law T10: as a stop and a failed source do: what was begun is heard and recorded before the run says that it stops."""
    made = in_flight()
    made.sinks["out"].broken = OSError(5, "EIO")
    ran = made.go()
    assert ran.fault is not None
    assert len(ran.of(e.StepStarted)) == 1
    assert len(ran.of(e.StepCompleted)) == 2


def test_too_many_hung_lets_attempts_in_flight_finish() -> None:
    """law T10: the run stops for those that hang, and hears the others."""
    time = AlarmTime()

    class Hung(TimedWorkers):
        """More and more of them hang."""

        more = 0

        @property
        def hung(self) -> int:
            """As many as are allowed, and one more once the first has begun."""
            return HUNG_MAX + self.more

    workers = Hung(time)

    def ask(row: Row, attempt: Attempt) -> Row:
        workers.take(500)
        workers.more = 1
        return row

    made = trial(asking(workers=2), [{"n": 0}, Pause(10), {"n": 1}], {"ask": ask}, time=time)
    made.workers = workers
    ran = made.go()
    assert ran.fault is not None and len(ran.of(e.StepStarted)) == 1
    assert len(ran.of(e.StepCompleted)) == 1


def test_a_stop_waits_and_does_not_spin() -> None:
    """D5: one attempt hangs until its deadline of 60 s: that many waits of 0.2 s, and none of 0 s for ever."""
    time = SimulatedTime()
    made = within(trial(asking(), numbered(1), {"ask": echo}, time=time), 60)
    made.workers = ShuffledWorkers(0, time, lambda ticket: "silent")
    pauses: list[float] = []
    _, loop = made.opened()
    pause = loop._feed.pause

    def watched(timeout_seconds: float) -> None:
        pauses.append(timeout_seconds)
        pause(timeout_seconds)

    loop._feed.pause = watched  # type: ignore[method-assign]
    loop._hooks = Hooks(stopping=lambda: "enough" if pauses else None)
    loop.run()
    assert pauses.count(0.0) < 10


def test_a_call_after_the_deadline_is_refused() -> None:
    """law T10: then nothing more may be sent, also while the loop has not noticed yet."""
    time = SimulatedTime()

    def ask(row: Row, attempt: Attempt) -> Row:
        time.advance_ms(2000)
        attempt.calling("http", "too late").answered("200", "sent all the same")
        return row

    ran = within(trial(asking(), numbered(1), {"ask": ask}, time=time), 1).go()
    assert ran.of(e.CallRecorded) == []


def test_an_answer_after_the_deadline_is_not_heard() -> None:
    """law T10: the attempt has failed by then, whatever it still says."""
    time = SimulatedTime()

    def ask(row: Row, attempt: Attempt) -> Row:
        call = attempt.calling("http", "in time")
        time.advance_ms(2000)
        call.answered("200", "too late")
        return row

    ran = within(trial(asking(), numbered(1), {"ask": ask}, time=time), 1).go()
    assert ran.one(e.CallRecorded).status == "unanswered"


def test_what_was_sent_is_recorded_as_it_was_when_it_was_sent() -> None:
    """F1: one dict for every page, as one writes it: the record has what went out, not what stood there at the end."""

    def ask(row: Row, attempt: Attempt) -> Row:
        body: dict[str, object] = {}
        for page in range(3):
            body["page"] = page
            with attempt.calling("http", body) as call:
                call.answered("200")
        return row

    ran = trial(asking(), numbered(1), {"ask": ask}).go()
    assert [ran.payload(one.request) for one in ran.of(e.CallRecorded)] == [{"page": 0}, {"page": 1}, {"page": 2}]


class Word(str):
    """A text that is not exactly a `str`."""


class Exits(list[object]):
    """A list that ends the process when it is looked at."""

    def __iter__(self) -> Iterator[object]:
        """See `list`."""
        raise SystemExit(3)


@pytest.mark.parametrize("say", [
    lambda attempt: attempt.calling(Word("http"), None),
    lambda attempt: raising(lambda: RowError("no", Word("code")))({}, attempt),
    lambda attempt: attempt.calling("http", Exits([1])),
])  # fmt: skip
def test_nonsense_of_a_plugin_breaks_no_run(say: Any) -> None:
    """E1, G12: what it says of its calls is judged within its attempt."""

    def ask(row: Row, attempt: Attempt) -> Row:
        say(attempt)
        return row

    assert trial(asking(), numbered(1), {"ask": ask}).go().receipt.status == "completed"


def test_a_secret_at_the_end_of_a_long_text_is_masked_whole() -> None:
    """E1: a text is masked before it is cut, so that no beginning of a secret stands at the cut."""
    made = trial(asking(), numbered(1), {"ask": raising(lambda: RowError("x" * 3990 + "hunter2-and-more"))})
    made.bound = replace(made.bound, masking=Masking(["hunter2-and-more"]))
    ran = made.go()
    assert "hunter2" not in ran.payload(ran.one(e.StepFailed).error)


@pytest.mark.parametrize("say", [lambda attempt: attempt.calling("hunter2-and-more", None),
                                 lambda attempt: attempt.calling("http", None).answered("hunter2-and-more"),
                                 lambda attempt: raising(lambda: RowError("no", "hunter2-and-more"))({}, attempt)])
def test_a_secret_is_masked_in_codes_too(say: Any) -> None:
    """E1: kinds, statuses and codes stand in bodies, which nothing can erase."""

    def ask(row: Row, attempt: Attempt) -> Row:
        say(attempt)
        return row

    made = trial(asking(), numbered(1), {"ask": ask})
    made.bound = replace(made.bound, masking=Masking(["hunter2-and-more"]))
    ran = made.go()
    assert [stored.seq for stored in ran.store.read(ran.run) if b"hunter2" in stored.body] == []


def test_a_job_that_was_given_up_before_it_began_never_begins() -> None:
    """law T10: on a slow machine a deadline can pass while the job waits for its thread."""
    news = threading.Semaphore(0)
    workers: ThreadWorkers[str] = ThreadWorkers(1, news.release)
    let_go, began = threading.Event(), threading.Event()
    workers.ready(1)
    workers.start(1, lambda: str(let_go.wait(30)))

    def begin() -> str:
        began.set()
        return "begun"

    workers.start(2, begin)
    workers.give_up(2)
    let_go.set()
    assert news.acquire(timeout=30)
    workers.start(3, lambda: "done")
    assert news.acquire(timeout=30)
    workers.close()
    assert not began.is_set()


def test_an_attempt_makes_a_bounded_number_of_calls() -> None:
    """law T10: one that calls for ever fills neither the memory nor the log; its row fails, with its calls on record."""

    def ask(row: Row, attempt: Attempt) -> Row:
        for number in range(100_000):
            attempt.calling("http", number)
        return row

    ran = trial(asking(), numbered(1), {"ask": ask}).go()
    assert len(ran.of(e.CallRecorded)) == CALLS_MAX
    assert ran.one(e.StepFailed).code == "limit_exceeded"
