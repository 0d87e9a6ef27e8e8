"""What waits over a stop: groups, batches, next attempts. Run time is what counts; the time between processes is none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from engine.loop import Hooks
from engine.plugin_api import RetryableError, RowError
from ledger import events as e
from tests.kit.deaths import Cut, MortalStore, carried_on, cuts, died_at, facts, killed
from tests.kit.forks import Row
from tests.kit.pipelines import Ran, Sketch, Trial, failing, trial
from tests.kit.small_runs import LONG_SECONDS, making, numbered, sums
from tests.kit.twins import Pause

DAY_MS = 86_400_000


def stopped_at(made: Trial, ms: int) -> Ran:
    """The run, which is told to stop once its run time is so much."""
    until_ns = made.time.now_ns + ms * 1_000_000
    made.hooks = Hooks(stopping=lambda: "enough" if made.time.now_ns >= until_ns else None)
    ran = made.go() if made.store.head(made.run) is None else made.again()
    made.hooks = Hooks()
    return ran


def stopping(made: Trial) -> Hooks:
    """Told to stop after 400 ms."""
    return Hooks(stopping=lambda: "enough" if made.time.now_ns > 400_000_000 else None)


def pausing(rows: Sequence[object], ms: int) -> list[object]:
    """The rows, then nothing for so long."""
    return [*rows, *[Pause(1)] * ms]


# --- groups and their timers -----------------------------------------------------------------------------------------


def waiting(timeout_seconds: float) -> tuple[str, dict[str, Any]]:
    """A fork whose second branch is tried again for long, so that its first is held."""
    sketch = Sketch("rows", attempts=9, delay_seconds=1000).fork("split", "rows", "a", "b").step("slow", "b", "d", "errors")
    sketch.join("join", {"a": "a", "b": "d"}, "best_effort", "out", timeout_seconds=timeout_seconds)

    def slow(row: Row) -> Row:
        raise RetryableError("later")

    return sketch.sink("out", "errors").text(), {"slow": slow}


@pytest.mark.parametrize("stops_at", [0, 100, 250, 299])
def test_a_held_branch_waits_for_run_time_and_not_while_nobody_runs(stops_at: int) -> None:
    """W7, D5, D9, C4: 300 ms of run time, over a day of none; the wait on record is the run's."""
    text, steps = waiting(0.3)
    made = trial(text, numbered(1), steps)
    stopped_at(made, stops_at)
    made.time.advance_ms(DAY_MS)
    ran = stopped_at(made, 1000)
    merged = ran.one(e.TokensCoalesced)
    assert (merged.trigger, merged.active_ms) == ("timeout", 300)
    assert merged.facts is not None
    assert merged.facts.wait_duration_ms == 300
    assert ran.rows("out") == [{"n": 0}]


def test_a_deadline_that_is_reached_exactly_at_the_stop_is_decided_then_and_not_twice() -> None:
    """A2, D5, law C4: whether the stop or the timer comes first, the group is resolved once, at its deadline."""
    for ms in (299, 300, 301):
        text, steps = waiting(0.3)
        made = trial(text, numbered(1), steps)
        stopped_at(made, ms)
        ran = stopped_at(made, 500)
        assert ran.one(e.TokensCoalesced).active_ms == 300


def test_a_deadline_that_the_dead_process_had_reached_is_decided_at_the_claim() -> None:
    """A2, D5, law C4: run time was stored up to the deadline, its decision was not: it comes before anything else."""
    text, steps = waiting(0.05)
    store = MortalStore()
    made = trial(text, numbered(2), steps, store=store)
    total = 0
    for at in range(3, 9):
        for stored in (False, True):
            store = MortalStore()
            made = trial(text, numbered(2), steps, store=store)
            store.revive(at, stored=stored)
            made.hooks = stopping(made)
            try:
                made.start()
            except KeyboardInterrupt:
                total += 1
            store.revive()
            made.time.advance_ms(DAY_MS)
            ran = stopped_at(made, 200)
            assert {one.active_ms - one.facts.wait_duration_ms for one in ran.of(e.TokensCoalesced) if one.facts} == {0}
            assert len(ran.rows("out")) == 2
    assert total > 3


def test_groups_stay_open_over_a_stop_and_end_as_they_would() -> None:
    """D6, D9: a graceful stop flushes nothing; the resume carries the arrivals, their order and their offsets on."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b").step("one", "b", "c")
    sketch.batch("slow", "c", "d", output_mode="passthrough", trigger={"count": 3})
    sketch.join("join", {"a": "a", "b": "d"}, "require_all", "out", merge="nested")
    seen: list[object] = []

    def one(row: Row) -> Row:
        seen.append(row)
        return row

    made = trial(sketch.sink("out").text(), numbered(5), {"one": one})
    made.hooks = Hooks(stopping=lambda: "enough" if len(seen) == 2 else None)
    first = made.go()
    assert first.verdict.open_groups == 2
    made.hooks = Hooks()
    ran = made.again()
    assert len(ran.of(e.TokensCoalesced)) == 5
    assert [row["a"] for row in ran.rows("out")] == numbered(5)


# --- gathers and expansions ------------------------------------------------------------------------------------------


def test_a_large_gather_is_carried_on_with_its_parent_and_every_child() -> None:
    """C1, C4, D9: 2 500 children, one of them lost; cut where the most are held; the list is whole and in order."""
    sketch = Sketch("rows").step("parts", "rows", "c", expands=True).step("work", "c", "d", "errors")
    sketch.gather("join", "parts", "d", "best_effort", "out", timeout_seconds=LONG_SECONDS, into="all")

    def work(row: Row) -> Row:
        if row["n"] == 1700:
            raise RowError("no")
        return row

    make = making(sketch.sink("out", "errors").text(), [{"id": 7}], {"parts": lambda row: numbered(2500), "work": work},
                  takes_ms=1)
    whole = make(MortalStore())
    want = facts(whole.go())
    assert isinstance(whole.store, MortalStore)
    places = [*cuts(len(whole.store.appends))]
    assert len(places) > 60
    for cut in places[5::17]:
        made = died_at(make, cut)
        ran = made.again()
        assert facts(ran) == want, cut
        row = ran.rows("out")[0]
        assert (row["id"], [item["n"] for item in row["all"]]) == (7, [n for n in range(2500) if n != 1700])


def test_an_expansion_that_was_stopped_in_its_midst_goes_on_where_it_was() -> None:
    """G13, law P3: 3 000 children that nothing gathers; what was written is not written again, the order is theirs."""
    sketch = Sketch("rows").step("parts", "rows", "c", expands=True).step("work", "c", "out", "errors")
    asked: list[object] = []

    def work(row: Row) -> Row:
        asked.append(row["n"])
        return row

    make = making(sketch.sink("out", "errors").text(), [{"id": 7}], {"parts": lambda row: numbered(3000), "work": work},
                  takes_ms=1)
    made = died_at(make, Cut(30, True))
    stored = len(made.left().of(e.StepCompleted))
    assert 1000 < stored < 2000
    asked.clear()
    ran = made.again()
    assert ran.rows("out") == numbered(3000)
    assert asked == [*range(stored, 3000)]


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["transform", "passthrough"])
@pytest.mark.parametrize("stops_at", [0, 100, 299])
def test_a_batch_waits_for_run_time_over_a_stop(stops_at: int, mode: str) -> None:
    """D5, D9, law C7: its members are kept; it is computed after 300 ms of run time, whatever the clock says."""
    sketch = Sketch("rows").batch("batch", "rows", "out", trigger={"timeout_seconds": 0.3}, output_mode=mode)
    made = trial(sketch.sink("out").text(), pausing(numbered(3), 2000))
    stopped_at(made, stops_at)
    made.time.advance_ms(DAY_MS)
    ran = stopped_at(made, 400)
    flushed = ran.one(e.BatchFlushed)
    waited_ms = flushed.active_ms - ran.of(e.TokenBuffered)[0].active_ms
    assert (flushed.trigger, flushed.members, waited_ms) == ("timeout", 3, 300)


class Failing:
    """A batch plugin that fails so often."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.seen: list[list[object]] = []

    def __call__(self, rows: Sequence[Row]) -> list[dict[str, object]]:
        self.seen.append([row["n"] for row in rows])
        if self.left:
            self.left -= 1
            raise RetryableError("later")
        return [{"of": [row["n"] for row in rows]}]


@pytest.mark.parametrize("stops_at", [0, 1, 100, 400, 600, 800])
def test_a_batch_between_two_attempts_and_the_tokens_behind_it_are_carried_on(stops_at: int) -> None:
    """D9, law C7, law T10: members stay the members, what waits behind comes in its order, the attempt numbers go on."""
    sketch = Sketch("rows", attempts=3, delay_seconds=0.5).batch("batch", "rows", "out", "errors", trigger={"count": 2})
    plugin = Failing(2)
    made = trial(sketch.sink("out", "errors").text(), numbered(7), {"batch": plugin})
    stopped_at(made, stops_at)
    made.time.advance_ms(DAY_MS)
    ran = made.again()
    assert ran.rows("out") == [{"of": [0, 1]}, {"of": [2, 3]}, {"of": [4, 5]}, {"of": [6]}]
    failed = ran.of(e.BatchFailed)
    assert [one.attempt for one in failed] == [1, 2]
    flushed = ran.of(e.BatchFlushed)
    assert flushed[0].attempt == 3
    for one, after in zip(failed, [failed[1], flushed[0]], strict=True):
        assert after.active_ms >= one.active_ms + one.delay_ms
        assert after.active_ms < one.active_ms + one.delay_ms + 60
    assert plugin.seen == [[0, 1], [0, 1], [0, 1], [2, 3], [4, 5], [6]]


def test_a_batch_of_a_condition_counts_its_members_of_before() -> None:
    """D9, law C7: two members before the death, the third after it."""
    sketch = Sketch("rows").effect("one", "rows", "c").batch("batch", "c", "out", trigger={"condition": "batch_count >= 3"})
    make = making(sketch.sink("out").text(), numbered(4), {"batch": lambda rows: [{"of": [row["n"] for row in rows]}]})
    for cut in cuts(12, 3):
        assert died_at(make, cut).again().rows("out") == [{"of": [0, 1, 2]}, {"of": [3]}]


# --- next attempts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stops_at", [0, 100, 600, 900, 1300])
def test_retries_keep_their_count_and_their_delay_over_a_stop(stops_at: int) -> None:
    """D5, law T10: three attempts in all, each after its delay of run time; the last failure leaves by the route."""
    sketch = Sketch("rows", attempts=3, delay_seconds=1).step("one", "rows", "out", "errors").sink("out", "errors")
    asked: list[int] = []

    def one(row: Row) -> Row:
        asked.append(1)
        raise RetryableError("later")

    made = trial(sketch.text(), numbered(1), {"one": one})
    stopped_at(made, stops_at)
    made.time.advance_ms(DAY_MS)
    ran = made.again()
    failed = ran.of(e.StepFailed)
    assert [(event.attempt, event.retry) for event in failed] == [(1, True), (2, True), (3, False)]
    assert [later.active_ms - before.active_ms - before.delay_ms for before, later in pairwise(failed)] == [0, 0]
    assert (len(asked), ran.outcomes) == (3, {"0": "routed"})


def test_an_effect_that_waits_for_another_attempt_is_asked_when_it_is_due() -> None:
    """D5, law T10: over a death in its second attempt: the third comes at once, for its delay has passed."""
    sketch = Sketch("rows", attempts=3, delay_seconds=1).effect("ask", "rows", "out", "errors").sink("out", "errors")
    store = MortalStore()
    asked: list[int] = []

    def ask(row: Row, attempt: Any) -> Row:
        asked.append(attempt.number)
        if attempt.number == 1:
            raise RetryableError("later")
        return store.die() if attempt.number == 2 else row

    made = trial(sketch.text(), numbered(1), {"ask": ask}, store=store)
    killed(made.start)
    store.revive()
    ran = made.again()
    assert asked == [1, 2, 3]
    started = ran.of(e.StepStarted)
    assert started[2].active_ms == started[1].active_ms


def test_a_source_that_raises_at_once_on_resume_lets_what_is_held_be() -> None:
    """W10, D6, D9: what was taken up goes as far as it can; groups stay open; the next resume finds them."""
    text, steps = waiting(500.0)
    rows: list[object] = [{"n": 0}, *[Pause(1)] * 50]
    made = trial(text, rows, steps)
    stopped_at(made, 20)
    rows.append(OSError(5, "EIO"))
    broken = stopped_at(made, 60)
    rows.pop()
    rows.append({"n": 1})
    ran = stopped_at(made, 700_000)
    assert (broken.verdict.open_groups, broken.receipt.status) == (1, "interrupted")
    first = ran.of(e.TokensCoalesced)[0]
    assert first.facts is not None
    assert first.active_ms == first.facts.wait_duration_ms
    assert len(ran.rows("out")) == 2


def test_tokens_that_several_events_put_before_a_batch_come_to_it_in_their_order() -> None:
    """law P3: the losses of one settle merge several groups, and the merged tokens stand before a batch at the cut."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b").batch("sums", "b", "c", "discard", output_mode="passthrough")
    sketch.step("one", "a", "d").join("join", {"a": "d", "b": "c"}, "best_effort", "e", timeout_seconds=LONG_SECONDS)
    sketch.batch("last", "e", "out", trigger={"count": 2})
    make = making(sketch.sink("out").text(), numbered(6), {"sums": failing(lambda: RowError("no")), "last": sums})
    store = MortalStore()
    uncut = facts(make(store).go())
    for cut in cuts(len(store.appends)):
        assert facts(carried_on(died_at(make, cut))) == uncut, cut
