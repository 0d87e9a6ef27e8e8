"""What stands on record while a run goes on: the intent before the effect, the commit before anybody is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from engine.loop import Hooks
from engine.recorder import Recorder
from ledger import events as e
from ledger import ids, reader
from ledger.fold import State
from ledger.store import Part
from ledger.writer import Writer
from tests.kit.effects import numbered, stored
from tests.kit.pipelines import Sketch, Trial, trial
from tests.kit.ports import EPOCH_US
from tests.kit.twins import TrialStore

LINEAR = Sketch("rows").step("one", "rows", "out").sink("out").text()


class Watched(TrialStore):
    """A store that says after each append whether the run and the ledger's own stream tell the same of it."""

    def __init__(self) -> None:
        super().__init__()
        self.agrees: list[bool] = []

    def append(self, parts: Sequence[Part]) -> None:
        """See `ledger.store.Store`."""
        super().append(parts)
        said = [type(event) for _, event in reader.events(self, ids.LEDGER_STREAM)]
        head = self.head("tried")
        sealed = head is not None and head.status in ("completed", "failed")
        self.agrees.append((e.RunOpened in said, e.RunClosed in said) == (head is not None, sealed))


def test_a_run_is_opened_and_closed_in_one_transaction_with_the_ledgers_own_stream() -> None:
    """F2, law L1: at no append does the one know of the run, or of its end, and the other not."""
    store = Watched()
    assert trial(LINEAR, numbered(3), store=store).go().verdict.sealed
    assert len(store.agrees) > 3
    assert all(store.agrees)


def test_what_is_acknowledged_is_on_record() -> None:
    """W1, law L1: news of rows comes after the commit that covers them, each time."""
    made = trial(LINEAR, numbered(450))
    told: list[int] = []

    def progress(rows: int) -> None:
        told.append(rows)
        assert sum(told) <= sum(isinstance(event, e.RowRead) for event in stored(made))

    made.hooks = Hooks(progress=progress)
    assert made.go().verdict.sealed
    assert (sum(told), len(told) > 2) == (450, True)


def test_a_write_finds_its_intent_on_record_and_no_confirmation() -> None:
    """law R3: at each write of sinks and failsinks, and before what it takes is said to be written."""
    sketch = Sketch("rows").step("one", "rows", "out").sink("out", on_write_failure="spare")
    made = trial(sketch.sink("spare").text(), [{"n": 0}, {"n": 1, "refuse": ["out"]}])
    found: list[tuple[str, list[str], list[str]]] = []
    for name, sink in made.sinks.items():
        sink.while_writing = partial(_look, made, name, found)
    assert made.go().verdict.sealed
    assert found == [("out", ["out"], []), ("spare", ["out", "spare"], ["out"])]


def _look(made: Trial, name: str, found: list[tuple[str, list[str], list[str]]]) -> None:
    events = stored(made)
    found.append((name, [event.sink for event in events if isinstance(event, e.SinkWriteIntended)],
                  [event.sink for event in events if isinstance(event, e.SinkWriteConfirmed)]))


@pytest.mark.parametrize("backwards_us", [1, 3_600_000_000])
def test_a_clock_that_is_set_back_is_not_believed(backwards_us: int) -> None:
    """W7, D5, law L7: stamps stand still until the clock has come to where it was; nothing is refused for it."""
    made = trial(LINEAR)
    wall = [EPOCH_US]
    ports = replace(made.time.ports(), wall_us=lambda: wall[0])
    recorder = Recorder(State(made.run), Writer(made.store, made.run), ports)
    wall[0] -= backwards_us
    recorder.tick()
    assert recorder.at == EPOCH_US
    wall[0] = EPOCH_US + 1
    recorder.tick()
    assert recorder.at == EPOCH_US + 1
