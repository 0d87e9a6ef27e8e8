"""More than a run may hold: it stops in good order, says which limit, and goes on from there when there is room again.

What stands for what: five open groups for a million, four rows in a batch for ten thousand, a generator without an end for
an expansion without one. A limit is a number in the pipeline file; nothing else about it depends on how large it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import msgspec
import pytest

from engine import recorder
from ledger import events as e
from ledger.errors import RunIncomplete
from tests.kit.deaths import facts
from tests.kit.effects import expanding_by_effect
from tests.kit.forks import Row
from tests.kit.pipelines import Ran, Sketch, Trial, trial
from tests.kit.small_runs import anew, numbered

LIMIT = 5


def waiting_groups(limits: dict[str, int]) -> str:
    """Forks whose second branch waits in a batch for the end of the source, so that every group stays open."""
    sketch = Sketch("rows", limits=limits).fork("split", "rows", "a", "b")
    sketch.batch("slow", "b", "c", output_mode="passthrough")
    return sketch.join("join", {"a": "a", "b": "c"}, "require_all", "out").sink("out").text()


def waiting_members(limits: dict[str, int]) -> str:
    """A batch that the end of the source makes due."""
    return Sketch("rows", limits=limits).batch("slow", "rows", "out").sink("out").text()


Making = Callable[[dict[str, int]], str]
STOPS: Sequence[tuple[Making, str]] = ((waiting_groups, "open_groups"), (waiting_members, "batch_rows"))
ROWS = 20


def next_process(made: Trial, now: Trial) -> Trial:
    """Another process with the file of `now`, over what the first one left."""
    other = anew(now, made.store)
    other.sinks, other.bound = made.sinks, replace(other.bound, sinks={**made.sinks})
    return other


def exceeded(ran: Ran, limit: str) -> None:
    """It says which limit, and that the run can be carried on."""
    assert ran.fault is not None
    assert (ran.fault.code, ran.fault.where) == ("LIMIT_EXCEEDED", f"limits.{limit}")
    assert "resume the run with --accept-changes" in ran.fault.next_step
    assert ran.told()[-1] == f"RunInterrupted limit_exceeded limits.{limit}"


@pytest.mark.parametrize(("making", "limit"), STOPS)
def test_a_run_that_held_too_much_goes_on_when_it_may_hold_more(making: Making, limit: str) -> None:
    """W15, G13, D8: as often as it is resumed within the limit it says so again; with more room it is the uncut run."""
    made = trial(making({limit: LIMIT}), numbered(ROWS))
    stopped = made.go()
    exceeded(stopped, limit)
    assert stopped.verdict.rows == LIMIT + 1
    for _ in range(3):
        again = next_process(made, trial(making({limit: LIMIT}), numbered(ROWS))).again()
        exceeded(again, limit)
        assert len(again.of(e.RowRead)) == LIMIT + 1
    wide = making({limit: ROWS})
    ran = next_process(made, trial(wide, numbered(ROWS))).again(accept_changes=True)
    assert [change.field for change in ran.of(e.RunClaimed)[-1].changes] == [f"limits.{limit}"]
    assert facts(ran) == facts(trial(wide, numbered(ROWS)).go())


@pytest.mark.parametrize("rows", [LIMIT + 1, 10_000])
def test_what_is_held_depends_on_the_limit_and_not_on_the_source(rows: int) -> None:
    """W15, D8: of ten thousand rows as many groups are opened as of six: one more than may be."""
    one, loop = trial(waiting_groups({"open_groups": LIMIT}), numbered(rows)).opened()
    with pytest.raises(RunIncomplete, match="LIMIT_EXCEEDED"):
        loop.run()
    state = one.state
    assert (state.open_groups, state.rows_read, len(state.tokens)) == (LIMIT + 1, LIMIT + 1, 3 * (LIMIT + 1))


def many_of_one(limits: dict[str, int]) -> str:
    """One row becomes 6 * 6 * 6, and each of those forks; the second branches wait for the end of the source."""
    sketch = Sketch("rows", limits=limits)
    for step, before, after in (("one", "rows", "c1"), ("two", "c1", "c2"), ("three", "c2", "c3")):
        sketch.step(step, before, after, expands=True)
    sketch.fork("split", "c3", "a", "b").batch("slow", "b", "c", output_mode="passthrough")
    return sketch.join("join", {"a": "a", "b": "c"}, "require_all", "out").sink("out").text()


def test_the_groups_of_one_row_are_bounded_too() -> None:
    """W15, G13, D8: one group more than may be is opened, the rest waits for more room, and then it is the uncut run."""

    def six(row: Any) -> list[Row]:
        return [{"n": row["n"] * 6 + child} for child in range(6)]

    steps = dict.fromkeys(("one", "two", "three"), six)
    made = trial(many_of_one({"open_groups": LIMIT}), numbered(1), steps)
    exceeded(made.go(), "open_groups")
    one, loop = trial(many_of_one({"open_groups": LIMIT}), numbered(1), steps).opened()
    with pytest.raises(RunIncomplete, match="LIMIT_EXCEEDED"):
        loop.run()
    assert (one.state.open_groups, one.state.rows_read) == (LIMIT + 1, 1)
    wide = many_of_one({"open_groups": 6**3})
    ran = next_process(made, trial(wide, numbered(1), steps)).again(accept_changes=True)
    assert facts(ran) == facts(trial(wide, numbered(1), steps).go())


# --- expansions without an end ---------------------------------------------------------------------------------------


class Endless:
    """Rows for ever; `drawn` is how many were asked for."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, row: object, **named: Any) -> object:
        """A generator, for row 0 or a batch with it."""
        first = row[0] if isinstance(row, list) else row
        return self._rows() if isinstance(first, dict) and first["n"] == 0 else [first]

    def _rows(self) -> Iterator[Row]:
        for n in count():
            self.drawn += 1
            yield {"n": n}


EXPANDING = Sketch("rows", limits={"expand_children": LIMIT}).step("many", "rows", "out", "errors", expands=True)
GATHERED = Sketch("rows", limits={"expand_children": LIMIT}).step("many", "rows", "c", "errors", expands=True).gather(
    "join", "many", "c", "require_all", "out")
BATCHED = Sketch("rows", limits={"batch_rows": LIMIT}).batch("many", "rows", "out", "errors", trigger={"count": 1})


@pytest.mark.parametrize("text", [
    EXPANDING.sink("out", "errors").text(), GATHERED.sink("out", "errors").text(), BATCHED.sink("out", "errors").text(),
    expanding_by_effect(EXPANDING.sink("out", "errors").text(), "many"),
], ids=["step", "gathered", "batch", "effect"])
def test_an_expansion_without_an_end_is_asked_for_one_row_too_many_and_no_more(text: str) -> None:
    """W15, E1: its row leaves as one that failed, the other goes on, and the run is finished."""
    endless = Endless()
    ran = trial(text, numbered(2), {"many": endless}).go()
    assert endless.drawn == LIMIT + 1
    failed = [event for event in ran.events if isinstance(event, e.StepFailed | e.BatchFailed)]
    assert [event.code for event in failed] == ["limit_exceeded"]
    assert ran.rows("errors") == [{"n": 0}]
    assert ran.receipt.status == "completed"
    assert msgspec.json.encode(ran.rows("out")).count(b'"n":1') >= 1


def test_a_merged_row_that_no_store_could_hold_stops_the_run_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """W15: however often it is resumed; 2 000 bytes stand for what SQLite holds in a row."""
    monkeypatch.setattr(recorder, "PAYLOAD_BYTES_MAX", 2000)

    def children(row: Any) -> list[Row]:
        return [{"n": row["n"], "text": "x" * 500} for _ in range(5)]

    sketch = Sketch("rows").step("many", "rows", "c", expands=True).gather("join", "many", "c", "require_all", "out")
    text = sketch.sink("out").text()
    made = trial(text, numbered(2), {"many": children})
    stopped = made.go()
    again = next_process(made, trial(text, numbered(2), {"many": children})).again()
    for ran in (stopped, again):
        assert ran.fault is not None
        assert (ran.fault.code, ran.fault.where) == ("LIMIT_EXCEEDED", "ledger")
        assert ran.told()[-1] == "RunInterrupted limit_exceeded ledger"


def test_a_row_that_is_too_long_in_the_midst_of_a_decision_leaves_a_lawful_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """W15, law C4, G13: nothing is said after it though siblings stand in hand; with room again it is the uncut run."""

    def children(row: Any) -> list[Row]:
        return [{"n": row["n"], "text": "x" * 500} for _ in range(5)]

    sketch = Sketch("rows").step("many", "rows", "c", expands=True).step("more", "c", "d", expands=True)
    sketch.gather("inner", "more", "d", "require_all", "e").gather("join", "many", "e", "require_all", "out")
    text = sketch.sink("out")
    steps = dict.fromkeys(("many", "more"), children)
    uncut = trial(text.text(), numbered(3), steps).go()
    for most in (2000, 3000, 10_000):
        with monkeypatch.context() as limited:
            limited.setattr(recorder, "PAYLOAD_BYTES_MAX", most)
            made = trial(text.text(), numbered(3), steps)
            stopped = made.go()
        assert stopped.fault is not None
        assert (stopped.fault.code, stopped.told()[-1]) == ("LIMIT_EXCEEDED", "RunInterrupted limit_exceeded ledger")
        assert facts(next_process(made, trial(text.text(), numbered(3), steps)).again()) == facts(uncut)
