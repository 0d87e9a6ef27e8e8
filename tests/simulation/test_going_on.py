"""What a process does with a run that another left, or gives up: rules that need no run of any size to be seen."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from engine import run as running
from engine.executors import sources
from engine.loop import Hooks
from engine.plugin_api import Claim, Piece
from engine.recorder import Recorder, encode_row
from engine.sinks.files import ArtifactFile
from engine.unfinished import read_back
from ledger import events as e
from ledger import ids, reader
from ledger.store import StoreConflict
from ledger.writer import Writer
from tests.kit.deaths import Cut, MortalStore, died_at, killed
from tests.kit.effects import numbered
from tests.kit.pipelines import Sketch, Trial, trial
from tests.kit.ports import SimulatedTime
from tests.kit.small_runs import SMALL
from tests.kit.twins import Pause

Row = Mapping[str, Any]
LINEAR = Sketch("rows").step("one", "rows", "out", "errors").sink("out", "errors").text()


# --- the source ------------------------------------------------------------------------------------------------------


def test_the_source_is_read_on_after_the_last_row_on_record() -> None:
    """G7, G13: with the product's own feed: no row twice, and none left out."""
    made = trial(LINEAR, numbered(450), store=MortalStore(5))
    killed(made.start)
    _revive(made)
    running.resume(made.store, made.opening(), made.bound, made.time.ports(), Hooks())
    assert [event.row for event in made.left().of(e.RowRead)] == list(range(450))


def _revive(made: Trial) -> None:
    assert isinstance(made.store, MortalStore)
    made.store.revive()


# --- time ------------------------------------------------------------------------------------------------------------


def test_a_timer_counts_run_time_and_not_the_time_between() -> None:
    """W7, D5, law C7: a batch of ten seconds, four before the stop; after a day the next process waits the other six."""
    text = Sketch("rows").batch("batch", "rows", "out", trigger={"timeout_seconds": 10}).sink("out").text()
    made = trial(text, [{"n": 0}, Pause(4000), {"n": 1}], time=SimulatedTime())
    made.hooks = Hooks(stopping=lambda: "enough" if made.time.now_ns >= 4_000_000_000 else None)
    made.go()
    made.time.advance_ms(86_400_000)
    made.hooks = Hooks()
    made.source._rows = [{"n": 0}, {"n": 1}, Pause(20_000)]
    ran = made.again()
    flushed, claimed = ran.one(e.BatchFlushed), ran.of(e.RunClaimed)[-1]
    assert (flushed.trigger, flushed.active_ms, flushed.at - claimed.at) == ("timeout", 10_000, 6_000_000)


# --- a sink's file -------------------------------------------------------------------------------------------------


def test_a_file_whose_confirmed_bytes_were_changed_is_neither_cut_nor_written(tmp_path: Path) -> None:
    """law R3: it is left as it was found, what came after the confirmation too."""
    path = tmp_path / "out"
    path.write_bytes(b"abXdtail")
    pieces = [Piece(0, 2, sha256(b"ab").hexdigest()), Piece(2, 2, sha256(b"cd").hexdigest())]
    claim = Claim(begun=True, offset=4, pieces=pieces)
    with pytest.raises(OSError, match="expected the 2 bytes at 2 as they were confirmed"):
        ArtifactFile(str(path), "write").open(claim)
    assert path.read_bytes() == b"abXdtail"


def test_a_file_is_not_touched_by_a_process_that_was_overtaken(tmp_path: Path) -> None:
    """W5, law L3: also where it comes to the lock first; it is told what was found."""
    path = tmp_path / "out"
    path.write_bytes(b"abcdtail")
    for begun in (True, False):
        with pytest.raises(OSError, match="found that another process carries it on"):
            ArtifactFile(str(path), "write").open(Claim(begun=begun, offset=4 if begun else None, is_held=lambda: False))
    assert path.read_bytes() == b"abcdtail"


def test_a_sink_can_ask_whether_its_process_is_still_the_runs_writer() -> None:
    """law L3: true until another process has claimed the run."""
    made = died_at(SMALL["linear"], Cut(4, True))
    answers: list[bool] = []
    sink = made.sinks["out"]
    opened = sink.open

    def open_(claim: Claim) -> None:
        answers.append(claim.is_held())
        left = read_back(made.store, made.run)
        other = Recorder(left.state, Writer(made.store, made.run, left.head, left.state.payloads), made.time.ports())
        other.claim()
        other.commit()
        answers.append(claim.is_held())
        opened(claim)

    sink.open = open_  # type: ignore[method-assign]
    with pytest.raises(StoreConflict):
        made.resume()
    assert answers == [True, False]


# --- claims and abandons ---------------------------------------------------------------------------------------------


def test_a_claim_is_durable_before_a_sink_is_opened() -> None:
    """W5, law L3: whoever wrote before is fenced off before its files are touched."""
    made = died_at(SMALL["linear"], Cut(4, True))
    epochs: list[int] = []
    sink = made.sinks["out"]
    opened = sink.open

    def open_(claim: Claim) -> None:
        head = made.store.head(made.run)
        assert head is not None
        epochs.append(head.epoch)
        opened(claim)

    sink.open = open_  # type: ignore[method-assign]
    made.again()
    assert epochs == [2]


def test_a_batch_in_which_everything_waits_is_given_up_with_its_run() -> None:
    """C2, law C7: nothing else is open, so nothing but the batch itself can end its members."""
    asked: list[object] = []
    text = Sketch("rows").step("one", "rows", "c").batch("batch", "c", "out", "discard").sink("out").text()

    def one(row: Row) -> Row:
        asked.append(row)
        return row

    made = trial(text, numbered(9), {"one": one})
    made.hooks = Hooks(stopping=lambda: "enough" if len(asked) >= 3 else None)
    assert made.go().verdict.open_tokens == 3
    ran = made.left(made.abandon())
    assert (ran.one(e.BatchFailed).code, [event.code for event in ran.of(e.Diverted)]) == ("abandoned", ["abandoned"] * 3)
    assert (ran.receipt.status, ran.verdict.open_tokens) == ("failed", 0)


@pytest.mark.parametrize("name", ["best_effort", "require_all"])
def test_an_abandoned_run_leaves_nothing_open_and_says_that_it_failed(name: str) -> None:
    """C2, E9, G2, law T1: wherever it stood: groups, branches that stand side by side; both streams say `failed`."""
    groups = 0
    for at in range(3, 10):
        made = died_at(SMALL[name], Cut(at, True))
        groups += made.left().verdict.open_groups
        ran = made.left(made.abandon())
        assert (ran.receipt.status, ran.verdict.open_groups, ran.verdict.sealed) == ("failed", 0, True)
        closed = [event for _, event in reader.events(made.store, ids.LEDGER_STREAM) if isinstance(event, e.RunClosed)]
        assert [event.status for event in closed] == ["failed"]
    assert groups


def test_an_abandoned_write_is_on_record_as_failed() -> None:
    """law R3: nobody knows whether the target took it, and the record says so."""
    made = died_at(SMALL["linear"], Cut(5, True))
    ran = made.left(made.abandon())
    assert ran.one(e.SinkWriteFailed).code == "abandoned"
    assert set(ran.outcomes.values()) <= {"completed", "failed"}


# --- a stop in the midst of something --------------------------------------------------------------------------------


def test_a_divert_that_was_owed_when_the_process_stopped_is_said_by_the_next() -> None:
    """E1, law R1: the last event on record is an invalid row, of which nothing has come yet."""
    made = trial(LINEAR, [({"n": 0}, ("odd", "no")), {"n": 1}])
    recorder, _ = made.opened()
    row = next(made.source.rows(None))
    recorder.record(sources.read(recorder.state, row, encode_row(row.row), None, recorder))
    recorder.interrupt("stopped", "in the midst of it")
    ran = made.again()
    assert [type(event) for event in ran.events[2:6]] == [e.RowRead, e.RunInterrupted, e.RunClaimed, e.Diverted]
    assert ran.outcomes == {"0": "quarantined", "1": "completed"}


def test_what_was_put_aside_for_an_event_that_was_never_said_is_not_stored() -> None:
    """law L4: a stop between the two leaves no payload without its event, and no number that is taken."""
    made = trial(LINEAR, numbered(1))
    recorder, _ = made.opened()
    recorder.keep(b"1")
    recorder.keep(b"2")
    recorder.interrupt("stopped", "in the midst of it")
    assert list(made.store.payloads_between(made.run, 2, 9)) == []
    assert made.again().verdict.sealed
