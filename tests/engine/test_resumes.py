"""What a resume is: the same run carried on by another process, from the log alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from engine import run as running
from engine.loop import Hooks
from engine.plugin_api import SourceIdentity, SourceRow
from engine.recorder import Recorder
from engine.unfinished import read_back
from ledger import events as e
from ledger.errors import LedgerUnavailable, RunIncomplete, UsageError
from ledger.store import StoreConflict
from ledger.writer import Writer
from tests.kit.deaths import Cut, Killed, MortalStore, died_at, facts, killed
from tests.kit.forks import Row
from tests.kit.pipelines import Sketch, Trial, trial
from tests.kit.small_runs import SMALL, numbered

LINEAR = Sketch("rows").step("one", "rows", "out").sink("out").text()


def stopping_after(made: Trial, rows: int) -> Trial:
    """The trial, which is told to stop once so many rows were taken to their end, or wait."""
    seen: list[int] = []
    step = made.bound.steps["one"]

    def one(row: Row) -> object:
        seen.append(1)
        return step.call(row)

    made.bound = replace(made.bound, steps={**made.bound.steps, "one": replace(step, call=one)})
    made.hooks = Hooks(stopping=lambda: "enough" if len(seen) >= rows else None)
    return made


# --- rows and the source ---------------------------------------------------------------------------------------------


def test_after_a_stop_unread_rows_are_read_and_finished_ones_are_not_redone() -> None:
    """G7, G13, law T3: each row has one root, each step runs once, across a stop and its resume."""
    asked: list[object] = []

    def one(row: Row) -> Row:
        asked.append(row["n"])
        return row

    made = stopping_after(trial(LINEAR, numbered(6), {"one": one}), 3)
    assert made.go().receipt.status == "interrupted"
    assert asked == [0, 1, 2]
    made.hooks = Hooks()
    ran = made.again()
    assert ran.receipt.status == "completed"
    assert asked == [0, 1, 2, 3, 4, 5]
    assert [event.token for event in ran.of(e.RowRead)] == ["0", "1", "2", "3", "4", "5"]
    assert ran.rows("out") == numbered(6)


def test_after_a_death_only_what_was_not_stored_is_redone() -> None:
    """W1, G7, G13, law P3: 450 rows, commits of 200; the process dies at the third of them."""
    making = numbered(450)
    store = MortalStore()
    made = trial(LINEAR, making, store=store)
    store.revive(5)
    killed(made.start)
    store.revive()
    stored = made.left()
    assert stored.verdict.rows == 400
    ran = made.again()
    assert ran.rows("out") == making
    assert [event.row for event in ran.of(e.RowRead)] == list(range(450))


def test_a_source_that_ended_is_not_opened_again() -> None:
    """G13: with the product's own feed: the resume that only has to seal asks the source for nothing."""
    store = MortalStore()
    made = trial(LINEAR, numbered(3), store=store)
    made.bound = replace(made.bound, source=_OnceOnly(made))
    store.revive(4)
    killed(lambda: running.start(store, made.opening(), made.bound, made.time.ports(), Hooks()))
    store.revive()
    assert made.left().told()[-1] == "SinkWriteIntended out 0,1,2"
    running.resume(store, made.opening(), made.bound, made.time.ports(), Hooks())
    assert made.left().verdict.sealed


class _OnceOnly:
    def __init__(self, made: Trial) -> None:
        self._source = made.source
        self._asked = False
        self.identity, self.close = made.source.identity, made.source.close

    def rows(self, after: int | None) -> Iterator[SourceRow]:
        assert not self._asked
        self._asked = True
        return self._source.rows(after)


@pytest.mark.parametrize("k", range(4))
def test_a_source_that_failed_is_read_on_after_its_last_row_once_it_is_mended(k: int) -> None:
    """W10, G7, G13, law R5: rows so far finish; the resume reads what follows them; one that fails again says so again."""
    rows: list[object] = [*numbered(k), OSError(5, "EIO"), *numbered(5)[k:]]
    made = trial(LINEAR, rows)
    ran = made.go()
    assert ran.fault is not None
    assert len(ran.rows("out")) == k
    broken = made.again()
    assert broken.fault is not None
    assert (broken.fault.code, broken.told()[-1]) == ("SOURCE_FAILED", ran.told()[-1])
    assert broken.told()[-3:-1] == ["RunClaimed", f"SourceFailed {k or None} source_raised"]
    rows.pop(k)
    mended = made.again()
    assert mended.rows("out") == numbered(5)
    assert [event.token for event in mended.of(e.RowRead)] == ["0", "1", "2", "3", "4"]


# --- what is sealed, what is not there -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "empty", "gathered", "batch_count", "asked"])
def test_resuming_a_sealed_run_appends_nothing_and_gives_its_receipt(name: str) -> None:
    """law P4: also when the pipeline is another by then, and the source is gone."""
    store = MortalStore()
    made = SMALL[name](store)
    receipt, appends = made.start(), len(store.appends)
    assert made.resume() == receipt
    made.source.identity = _gone  # type: ignore[method-assign]
    assert made.resume() == receipt
    assert made.abandon() == receipt
    assert len(store.appends) == appends


def _gone() -> SourceIdentity:
    raise FileNotFoundError(2, "No such file or directory")


def test_a_run_that_is_not_there_is_unknown() -> None:
    """law L2: neither resume nor abandon makes one."""
    made = trial(LINEAR, numbered(1))
    for way in (made.resume, made.abandon):
        with pytest.raises(UsageError) as unknown:
            way()
        assert unknown.value.code == "RUN_UNKNOWN"
    assert made.store.head(made.run) is None


def test_a_source_that_cannot_be_read_is_said_before_anything_is_appended() -> None:
    """G13: SOURCE_UNREADABLE; a run whose source had ended needs it no more."""
    made = stopping_after(trial(LINEAR, numbered(3)), 1)
    made.go()
    before = made.store.head(made.run)
    made.source.identity = _gone  # type: ignore[method-assign]
    with pytest.raises(RunIncomplete) as unreadable:
        made.resume()
    assert unreadable.value.code == "SOURCE_UNREADABLE"
    assert made.store.head(made.run) == before

    finished = died_at(SMALL["linear"], Cut(6, True))
    finished.source.identity = _gone  # type: ignore[method-assign]
    assert finished.again().receipt.status == "completed"


# --- one writer ------------------------------------------------------------------------------------------------------


def test_of_two_resumes_the_one_with_the_stale_head_is_fenced_and_stores_nothing() -> None:
    """W5, law L3: both fold the same log; the second to claim finds another epoch."""
    made = died_at(SMALL["linear"], Cut(4, True))
    stale = _Stale(made)
    other = replace(made, store=stale)  # type: ignore[arg-type]
    ran = made.again()
    head = made.store.head(made.run)
    with pytest.raises(StoreConflict) as fenced:
        running.resume(other.store, made.opening(), made.bound, made.time.ports(), Hooks())
    assert fenced.value.code == "FENCED"
    assert made.store.head(made.run) == head
    assert made.left().told() == ran.told()


class _Stale:
    """What a reader saw before another resumed; appends reach the store as it is now."""

    def __init__(self, made: Trial) -> None:
        self._store = made.store
        self._events = list(made.store.read(made.run))
        self._run, self._head = made.run, made.store.head(made.run)
        self.append, self.payloads, self.payloads_between = (made.store.append, made.store.payloads,
                                                             made.store.payloads_between)

    def hold(self, run: str) -> None:
        """Nothing keeps it out, as it would be of a lock that was lost."""

    def head(self, run: str) -> object:
        return self._head if run == self._run else self._store.head(run)

    def read(self, run: str, after: int = 0, until: int | None = None) -> object:
        return iter(self._events[after:until]) if run == self._run else self._store.read(run, after, until)


def test_a_process_that_wakes_after_it_was_overtaken_appends_nothing() -> None:
    """W5, law L3: its recorder goes on as it was; what it says is refused as FENCED, and so is its last word."""
    made = died_at(SMALL["linear"], Cut(4, True))
    left = read_back(made.store, made.run)
    zombie = Recorder(left.state, Writer(made.store, made.run, left.head, left.state.payloads), made.time.ports())
    made.resume()
    told = made.left().told()
    zombie.claim()
    with pytest.raises(LedgerUnavailable, match="FENCED"):
        zombie.commit()
    with pytest.raises(LedgerUnavailable, match="FENCED"):
        zombie.interrupt("late", "")
    assert made.left().told() == told


def test_a_loop_that_is_overtaken_in_its_midst_stops_as_fenced() -> None:
    """W5, law L3, G13: another resumes while a step of this one hangs; only what the other says is on record."""
    store = MortalStore()
    made = trial(LINEAR, numbered(3), store=store)
    other = trial(LINEAR, numbered(3), store=store)

    def one(row: Row) -> Row:
        if row["n"] == 1:
            other.resume()
        return row

    made.bound = replace(made.bound, steps={"one": replace(made.bound.steps["one"], call=one)})
    with pytest.raises(StoreConflict):
        made.start()
    ran = other.left()
    assert ran.verdict.sealed
    assert [line for line in ran.told() if line.startswith("Run")] == ["RunClaimed", "RunSealed completed"]
    assert (made.sinks["out"].rows, other.sinks["out"].rows) == ([], numbered(3))


# --- clean and unclean -----------------------------------------------------------------------------------------------


def test_every_claim_takes_the_next_epoch_and_names_its_process() -> None:
    """law L3: a start, and three resumes."""
    made = stopping_after(trial(LINEAR, numbered(4)), 0)
    made.go()
    for _ in range(2):
        made.again()
    made.hooks = Hooks()
    claims = made.again().of(e.RunClaimed)
    assert [(claim.epoch, claim.process, claim.changes) for claim in claims] == [
        (n, "simulated:1", ()) for n in (1, 2, 3, 4)
    ]


class _Interrupting:
    """A reason to stop that is none: the question itself raises, the `nth` time it is asked."""

    def __init__(self, nth: int, error: BaseException) -> None:
        self._left = nth
        self._error = error

    def __call__(self) -> str | None:
        self._left -= 1
        if self._left < 0:
            raise self._error
        return None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), RecursionError(), Killed()])
@pytest.mark.parametrize("name", ["crossed", "gathered", "batch_tried_again", "asked_again", "refusals"])
def test_whatever_the_question_for_a_stop_raises_the_run_can_be_carried_on(name: str, error: BaseException) -> None:
    """G13, law P3: at each of the first questions; the stop is on record, nothing is lost, nothing is done twice."""
    wanted = facts(SMALL[name](MortalStore()).go())
    for nth in range(0, 30, 3):
        made = SMALL[name](MortalStore())
        made.hooks = Hooks(stopping=_Interrupting(nth, error))
        try:
            made.start()
        except type(error):
            pass
        else:
            assert nth > 0
            return
        assert made.left().told()[-1] == f"RunInterrupted unexpected {type(error).__name__}"
        made.hooks = Hooks()
        assert facts(made.again()) == wanted
