"""What goes on while effects are in flight: others are read and written, timers fire; and how many may be.

Where a test says how long an effect takes, `TimedWorkers` lets its answer come at that very millisecond.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from engine import run as running
from engine.attempts import Attempt
from engine.executors.calls import Called
from engine.in_flight import HUNG_MAX
from engine.loop import Hooks
from engine.ports import system
from engine.workers import Finished
from ledger import events as e
from tests.kit.effects import Row, Timed, asking, echo, numbered, threaded, within
from tests.kit.pipelines import Ran, Sketch, trial
from tests.kit.shuffled import ShuffledWorkers
from tests.kit.twins import Pause

PATIENCE_SECONDS = 30
"""How long a thread waits for another before its test fails."""


# --- how many ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2, 8])
def test_as_many_run_at_a_time_as_may_and_never_more(capacity: int) -> None:
    """On real threads: each waits until all of its company are there, which would never be if one fewer could run."""
    together = threading.Barrier(capacity)
    lock = threading.Lock()
    running: list[int] = []
    most: list[int] = []

    def ask(row: Row, attempt: Attempt) -> Row:
        with lock:
            running.append(1)
            most.append(len(running))
        together.wait(PATIENCE_SECONDS)
        with lock:
            running.pop()
        return row

    ran = threaded(trial(asking(workers=capacity), numbered(capacity * 5), {"ask": ask}))
    assert ran.receipt.outcomes == {"completed": capacity * 5}
    assert max(most) <= capacity
    threads = {thread for thread in threading.enumerate() if thread.name == "effect"}
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("capacity", range(1, 9))
def test_in_whatever_order_they_answer_the_room_is_used_and_kept(capacity: int) -> None:
    """Also when some hang, which take their place until their deadline, and some are lost."""
    made = within(trial(asking(attempts=4, workers=capacity, delay_seconds=0.01), numbered(60), {"ask": echo}), 1)
    made.workers = workers = ShuffledWorkers(
        capacity, made.time, lambda ticket: "hangs" if ticket % 5 == 0 else "lost" if ticket % 7 == 0 else "answers")
    ran = made.go()
    assert workers.most == capacity
    assert ran.receipt.status == "completed"


@pytest.mark.parametrize("capacity", [1, 3, 8])
def test_reading_stops_while_as_many_wait_as_may_run(capacity: int) -> None:
    """Memory is bounded by the room there is, and not by the source: so many run, so many wait, and no row more is read."""
    given: list[int] = []

    def rows() -> Iterator[object]:
        for n in range(100):
            given.append(n)
            yield {"n": n}

    open_rows: list[int] = []
    begun: list[int] = []
    timed = Timed(asking(workers=capacity), rows(), {("ask", n): 1000 for n in range(100)})
    timed.trial.hooks = Hooks(stopping=lambda: open_rows.append(at_node("ask")))
    recorder, loop = timed.trial.opened()

    def at_node(name: str) -> int:
        begun.append(len(given))
        return sum(token.node == name for token in recorder.state.tokens.values())

    assert loop.run() is None
    assert recorder.state.outcomes == {"completed": 100}
    assert max(open_rows) == 2 * capacity
    assert timed.workers.most == capacity


def test_too_many_that_outlive_their_deadline_stop_the_run() -> None:
    """Threads that hang are not replaced for ever: the run is interrupted, by name, and begins no attempt more."""

    class Hanging(ShuffledWorkers):
        """So many have been given up and did not come back."""

        @property
        def hung(self) -> int:
            """See `engine.workers.Workers`."""
            return HUNG_MAX + self.more

        more = 0

    made = trial(asking(), numbered(2), {"ask": echo})
    made.workers = workers = Hanging(0, made.time)
    assert made.go().receipt.outcomes == {"completed": 2}
    made = trial(asking(), numbered(2), {"ask": echo})
    made.workers = workers = Hanging(0, made.time)
    workers.more = 1
    ran = made.go()
    assert ran.fault is not None
    assert str(ran.fault).startswith("EFFECTS_HUNG: expected at most 256 attempts that outlive their deadline, found 257; "
                                     "step ask; ")
    assert ran.told() == ["RowRead 0", "RunInterrupted effects_hung step ask"]


def test_on_real_threads_a_hung_attempt_is_given_up_and_the_next_one_counts() -> None:
    """W8, law T10: the first hangs until a later one has begun, which only its deadline can bring about; it is not heard."""
    others = threading.Event()

    def ask(row: Row, attempt: Attempt) -> object:
        if attempt.number > 1:
            others.set()
            return {"n": "in time"}
        assert others.wait(PATIENCE_SECONDS)
        attempt.calling("http", "too late")
        return {"n": "too late"}

    made = within(trial(asking(attempts=1000, delay_seconds=0), numbered(1), {"ask": ask}), 0.2)
    ran = made.left(running.start(made.store, made.opening(), made.bound, system(), made.hooks))
    assert ran.told("ask")[:2] == ["StepStarted 0 ask #1", "StepFailed 0 ask #1 deadline_passed retry"]
    assert ran.rows("out") == [{"n": "in time"}]
    assert ran.of(e.CallRecorded) == []


# --- others go on --------------------------------------------------------------------------------------------------


def beside() -> str:
    """`gate -> (slow: ask | quick: step) -> out`."""
    sketch = Sketch("rows").gate("gate", "rows", "row['slow']", {"true": "slow", "false": "quick"})
    return sketch.effect("ask", "slow", "out").step("step", "quick", "out").sink("out").text()


def test_rows_keep_flowing_past_an_effect_that_takes_its_time() -> None:
    """They are read, processed, committed and at their sink while it is in flight, within fifty milliseconds."""
    rows = [{"n": 0, "slow": True}, *({"n": n, "slow": False} for n in range(1, 500)), Pause(20_000)]
    timed = Timed(beside(), rows, {("ask", 0): 10_000})
    ran = timed.trial.go()
    slow = next(one for one in ran.of(e.StepCompleted) if one.node == "ask")
    assert slow.active_ms == ran.one(e.StepStarted).active_ms + 10_000
    assert ran.of(e.RowRead)[1].seq > ran.one(e.StepStarted).seq
    quick = [one for one in ran.of(e.SinkWriteConfirmed) if one.active_ms <= 100]
    assert sum(one.accepted for one in quick) == 499
    assert [row["n"] for row in ran.rows("out")] == [*range(1, 500), 0]


def test_an_answer_is_recorded_when_it_comes_and_its_row_goes_on_at_once() -> None:
    """The place in the log is the order of the answers, not that of the rows."""
    timed = Timed(asking(workers=4), [*numbered(4), Pause(5000)], {("ask", n): 400 - 100 * n for n in range(4)})
    ran = timed.trial.go()
    completed = [(one.token, one.active_ms, one.duration_us) for one in ran.of(e.StepCompleted)]
    assert completed == [("3", 100, 100_000), ("2", 200, 200_000), ("1", 300, 300_000), ("0", 400, 400_000)]
    confirmed = [one.active_ms for one in ran.of(e.SinkWriteConfirmed)]
    assert len(confirmed) == 4
    assert all(answered <= written <= answered + 55 for written, (_, answered, _) in zip(confirmed, completed, strict=True))


def test_an_effect_waits_for_no_row_that_is_not_there() -> None:
    """There is room for two and one waits: on a silent source it begins at once, and does not wait for company."""
    began_ms: list[float] = []

    def ask(row: Row, attempt: Attempt) -> Row:
        began_ms.append(timed.time.now_ns / 1_000_000)
        return row

    timed = Timed(asking(workers=2), [{"n": 0}, Pause(5000), {"n": 1}], {}, {"ask": ask})
    timed.trial.go()
    assert len(began_ms) == 2
    assert began_ms[0] <= 2


@pytest.mark.parametrize("slow", ["a", "b"])
def test_an_effect_in_one_branch_and_a_step_in_the_other(slow: str) -> None:
    """B2, law C1: whichever is the effect, both arrive, and the merge has both."""
    quick = "b" if slow == "a" else "a"
    sketch = Sketch("rows", workers=2).fork("split", "rows", "a", "b").effect(f"ask_{slow}", slow, f"done_{slow}")
    sketch.step(f"step_{quick}", quick, f"done_{quick}").join("join", {"a": "done_a", "b": "done_b"}, "require_all", "out",
                                                              merge="nested")
    timed = Timed(sketch.sink("out").text(), numbered(3), {(f"ask_{slow}", n): 300 for n in range(3)})
    ran = timed.trial.go()
    assert sorted(row["a"]["n"] for row in ran.rows("out")) == [0, 1, 2]
    for merge in ran.of(e.TokensCoalesced):
        assert merge.facts is not None
        assert [arrival.branch for arrival in merge.facts.arrival_order] == [quick, slow]
        assert merge.facts.wait_duration_ms == merge.facts.arrival_order[1].offset_ms > 0


# --- timers --------------------------------------------------------------------------------------------------------


def raced(policy: str, answers_at_ms: int, **settings: object) -> Ran:
    """`split -> (a: ask | b) -> join`, which times out after 300 ms; `ask` answers when it is said."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b").effect("ask", "a", "done_a")
    sketch.join("join", {"a": "done_a", "b": "b"}, policy, "out", timeout_seconds=0.3, **settings)
    return Timed(sketch.sink("out").text(), [{"n": 0}, Pause(5000)], {("ask", 0): answers_at_ms}).trial.go()


CLOSED = {
    "best_effort": "TokensCoalesced 0+join timeout",
    "require_all": "CoalesceFailed 0+join timeout incomplete_branches",
    "quorum": "CoalesceFailed 0+join timeout quorum_not_met_at_timeout",
}


@pytest.mark.parametrize("policy", CLOSED)
@pytest.mark.parametrize("answers_at_ms", [299, 300, 301, 1000])
def test_a_group_times_out_while_one_of_its_branches_is_in_flight(policy: str, answers_at_ms: int) -> None:
    """W11, A2, D5, G5, law C4: at its own millisecond; a branch in time is merged, one that is late is recorded so."""
    ran = raced(policy, answers_at_ms, **({"quorum_count": 2} if policy == "quorum" else {}))
    told = [line for line in ran.told() if line.split()[0] in ("BranchArrived", "BranchArrivedLate", "TokensCoalesced",
                                                               "CoalesceFailed")]
    if answers_at_ms < 300:
        met = "quorum_met" if policy == "quorum" else "all_arrived"
        assert told == ["BranchArrived 0.b 0+join b", "BranchArrived 0.a 0+join a", f"TokensCoalesced 0+join {met}"]
        return
    closed = "merged" if policy == "best_effort" else "failed"
    assert told == ["BranchArrived 0.b 0+join b", CLOSED[policy], f"BranchArrivedLate 0.a 0+join a {closed}"]
    resolved = next(one for one in ran.events if isinstance(one, (e.TokensCoalesced, e.CoalesceFailed)))
    assert resolved.active_ms == 300
    assert ran.one(e.BranchArrivedLate).active_ms == answers_at_ms
    assert ran.outcomes["0.a"] == "failed"
    assert ran.receipt.late_arrivals == (1 if closed == "merged" else 0)


def test_a_timer_that_fell_due_before_an_answer_was_heard_is_decided_first() -> None:
    """W11, D5, law C4: the answer comes when the loop looks; by then the group was due: it is late, as its stamp says."""

    class Slow(ShuffledWorkers):
        """Looking takes longer than the group may wait."""

        def finished(self) -> list[Finished[Called]]:
            """See `engine.workers.Workers`."""
            if self._out:
                self._time.advance_ms(1000)
            return [self._out.pop(ticket) for ticket in sorted(self._out)]

    sketch = Sketch("rows").fork("split", "rows", "a", "b").effect("ask", "a", "done_a")
    sketch.join("join", {"a": "done_a", "b": "b"}, "best_effort", "out", timeout_seconds=0.3)
    made = trial(sketch.sink("out").text(), numbered(1), {"ask": echo})
    made.workers = Slow(0, made.time)
    ran = made.go()
    kinds = [type(one) for one in ran.events]
    assert kinds.index(e.TokensCoalesced) < kinds.index(e.StepCompleted) < kinds.index(e.BranchArrivedLate)
    assert ran.one(e.StepCompleted).active_ms == 1000


def test_a_batch_times_out_while_an_effect_is_in_flight() -> None:
    """law C7: it is flushed with what has come; what is still in flight is of the next batch."""
    sketch = Sketch("rows", workers=2).effect("ask", "rows", "asked")
    sketch.batch("batch", "asked", "out", trigger={"timeout_seconds": 0.3}, output_mode="transform")
    ran = Timed(sketch.sink("out").text(), [*numbered(2), Pause(5000)], {("ask", 0): 10, ("ask", 1): 1000}).trial.go()
    assert [line for line in ran.told() if line.startswith(("TokenBuffered", "Batch"))] == [
        "TokenBuffered 0 batch@1 0", "BatchFlushed batch@1 #1 timeout all", "TokenBuffered 1 batch@2 0",
        "BatchFlushed batch@2 #1 timeout all",
    ]  # fmt: skip
    assert [(one.active_ms - two.active_ms) for one, two in zip(ran.of(e.BatchFlushed), ran.of(e.TokenBuffered), strict=True)
            ] == [300, 300]
