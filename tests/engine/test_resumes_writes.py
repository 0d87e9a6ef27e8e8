"""Writes that nobody confirmed: made again under their keys, with what was intended, where the confirmed ones end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from engine.plugin_api import Claim, Delivery, Piece, Prepared, Written
from ledger import events as e
from tests.kit.deaths import Cut, Killed, MortalStore, carried_on, cuts, died_at, killed
from tests.kit.forks import Row
from tests.kit.pipelines import Ran, Sketch, Trial, trial
from tests.kit.small_runs import SMALL, numbered
from tests.kit.twins import ListSink

LINEAR = Sketch("rows").step("one", "rows", "out", "errors").sink("out", "errors").text()
TWO = Sketch("rows").gate("gate", "rows", "row['n'] % 2 == 0", {"true": "even", "false": "odd"}).sink("even", "odd").text()


def intents(ran: Ran) -> list[tuple[str, str, str, int | None, tuple[str, ...]]]:
    """(sink, key, content hash, offset, tokens) of every write that was intended, in order."""
    return [(one.sink, one.key, one.content_hash, one.offset, one.tokens) for one in ran.of(e.SinkWriteIntended)]


def dies_while_writing(made: Trial, sink: str, nth: int = 1) -> None:
    """The process dies in that write of the sink, once."""
    left = [nth]

    def die() -> None:
        left[0] -= 1
        if left[0] == 0:
            assert isinstance(made.store, MortalStore)
            made.store.die()

    made.sinks[sink].while_writing = die


# --- open writes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_an_open_write_is_made_again_as_it_was_intended(nth: int) -> None:
    """W2, law R3: no other intent is said; the same key, the same content, the same place; rows are there once."""
    store = MortalStore()
    made = trial(LINEAR, numbered(500), store=store)
    dies_while_writing(made, "out", nth)
    killed(made.start)
    store.revive()
    was = intents(made.left())
    ran = made.again()
    assert intents(ran)[: len(was)] == was
    assert len({key for _, key, *_ in intents(ran)}) == len(intents(ran)) == 3
    assert made.sinks["out"].keys == [key for _, key, *_ in intents(ran)]
    assert ran.rows("out") == numbered(500)


@pytest.mark.parametrize("sink", ["even", "odd"])
def test_open_writes_of_several_sinks_are_made_again_in_their_order(sink: str) -> None:
    """law R3: also of the sink that had taken its write, which nobody can know."""
    store = MortalStore()
    made = trial(TWO, numbered(4), store=store)
    dies_while_writing(made, sink)
    killed(made.start)
    store.revive()
    ran = made.again()
    assert [one.write for one in ran.of(e.SinkWriteConfirmed)] == [1, 2]
    assert (ran.rows("even"), ran.rows("odd")) == ([{"n": 0}, {"n": 2}], [{"n": 1}, {"n": 3}])
    assert len(ran.of(e.SinkWriteIntended)) == 2


def test_a_failed_write_is_made_again_under_its_key() -> None:
    """law R3: with its tokens, as another write; what waited behind it comes after it, in its order."""
    made = trial(LINEAR, numbered(3))
    made.sinks["out"].broken = OSError(28, "No space left on device")
    first = made.go()
    assert first.fault is not None
    again = made.again()
    assert (again.fault is not None, first.told()[-2]) == (True, "SinkWriteFailed out sink_unwritable")
    made.sinks["out"].broken = None
    ran = made.again()
    assert ran.receipt.status == "completed"
    assert len(set(intents(ran))) == 1
    assert [one.write for one in ran.of(e.SinkWriteIntended)] == [1, 2, 3]
    assert [one.write for one in ran.of(e.SinkWriteConfirmed)] == [3]
    assert ran.rows("out") == numbered(3)


def test_a_write_that_failed_comes_before_those_that_were_open_behind_it() -> None:
    """law R3, law P3: 1 200 rows stand at the sink when it breaks; the file's order is the rows' order."""
    sketch = Sketch("rows").step("parts", "rows", "out", expands=True).sink("out")
    made = trial(sketch.text(), numbered(1), {"parts": lambda row: numbered(1200)})
    left = [1]

    def fail() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(5, "EIO")

    made.sinks["out"].while_writing = fail
    first = made.go()
    assert [len(one.tokens) for one in first.of(e.SinkWriteIntended)] == [500, 500, 200]
    ran = made.again()
    assert ran.rows("out") == numbered(1200)
    assert [one.write for one in ran.of(e.SinkWriteConfirmed)] == [4, 2, 3]
    keys = [one.key for one in ran.of(e.SinkWriteIntended)]
    assert keys[3] == keys[0]


def test_a_write_whose_content_would_differ_gives_way_to_another_under_its_key() -> None:
    """law R3: an accepted change of the sink; the record says why, and what is there is what was confirmed."""
    store = MortalStore()
    made = trial(LINEAR, numbered(2), store=store)
    dies_while_writing(made, "out")
    killed(made.start)
    store.revive()
    other = _Shouting("out")
    made.sinks["out"] = other
    made.bound = replace(made.bound, sinks={**made.bound.sinks, "out": other})
    ran = made.again()
    assert [line for line in ran.told() if "Write" in line] == [
        "SinkWriteIntended out 0,1", "SinkWriteFailed out content_changed", "SinkWriteIntended out 0,1",
        "SinkWriteConfirmed out 2",
    ]  # fmt: skip
    was, is_ = intents(ran)
    assert (was[1], was[3]) == (is_[1], is_[3])
    assert was[2] != is_[2]
    assert ran.rows("out") == [{"N": 0}, {"N": 1}]


class _Shouting(ListSink):
    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """In capitals."""
        return super().prepare([{key.upper(): value for key, value in row.items()} for row in rows])


class _Blind(ListSink):
    """A sink that knows no offsets, and whose target knows keys or not."""

    def __init__(self, name: str, delivery: Delivery) -> None:
        super().__init__(name)
        self.delivery = delivery
        self._dies = True
        self.kill: Callable[[], object] = lambda: None

    def open(self, claim: Claim) -> None:
        """Nothing is cut back."""
        self.claims.append(claim)

    def offset(self) -> int | None:
        """It has none."""
        return None

    def write(self, prepared: Prepared, key: str) -> Written:
        """Once a key, where that is known; the first is taken, and then the process dies."""
        if self.delivery == "at_least_once" or key not in self.keys:
            super().write(prepared, key)
        if self._dies:
            self._dies = False
            self.kill()
        return Written("blind:", 0, prepared.content_sha256, ())


@pytest.mark.parametrize(("delivery", "times"), [("idempotent", 1), ("transactional", 1), ("at_least_once", 2)])
def test_a_write_that_was_taken_and_not_confirmed_is_made_again_under_the_same_key(delivery: Delivery, times: int) -> None:
    """W2, law R3: whether it is there twice is what the sink's delivery says; the key is one either way."""
    store = MortalStore()
    made = trial(LINEAR, numbered(2), store=store)
    blind = _Blind("out", delivery)
    blind.kill = store.die
    made.sinks["out"] = blind
    made.bound = replace(made.bound, sinks={**made.bound.sinks, "out": blind})
    killed(made.start)
    store.revive()
    ran = made.again()
    assert ran.rows("out") == numbered(2) * times
    assert len(set(blind.keys)) == 1
    assert [(claim.begun, claim.offset, claim.epoch) for claim in blind.claims] == [(False, None, 1), (True, None, 2)]


# --- claims ----------------------------------------------------------------------------------------------------------


class _Remembering(ListSink):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.pieces: list[list[Piece]] = []

    def open(self, claim: Claim) -> None:
        """Take down the pieces too."""
        self.pieces.append(list(claim.pieces))
        super().open(claim)


def test_a_sink_is_opened_under_the_claim_of_the_run_as_the_log_has_it() -> None:
    """law R4: at every cut: begun with the first intent, ending where the last confirmed write ends, of the next epoch."""
    store = MortalStore()
    trial(LINEAR, numbered(500), store=store).start()
    for cut in cuts(len(store.appends), 3):
        remembering = {name: _Remembering(name) for name in ("out", "errors")}

        def make(store: MortalStore, remembering: dict[str, _Remembering] = remembering) -> Trial:
            made = trial(LINEAR, numbered(500), store=store)
            made.sinks = {**remembering}
            made.bound = replace(made.bound, sinks=remembering)
            return made

        made = died_at(make, cut)
        left = made.left()
        if left.verdict.sealed:
            continue
        carried_on(made)
        confirmed = left.of(e.SinkWriteConfirmed)
        claim = remembering["out"].claims[-1]
        assert (claim.run, claim.sink, claim.epoch) == (made.run, "out", 2)
        assert claim.begun == bool(left.of(e.SinkWriteIntended))
        if claim.begun:
            assert claim.offset == (confirmed[-1].size_bytes if confirmed else 0)
        ends = [0, *(one.size_bytes for one in confirmed)]
        begins = {one.write: one.offset for one in left.of(e.SinkWriteIntended)}
        assert remembering["out"].pieces[-1] == [
            Piece(begins[one.write] or 0, end - begin, one.content_hash)
            for one, begin, end in zip(confirmed, ends, ends[1:], strict=False)
        ]
        assert not remembering["errors"].claims[-1].begun


def test_sinks_that_cannot_be_opened_leave_the_run_resumable() -> None:
    """law T1: the one that was opened before is closed; nothing but the claim and the stop is said."""
    made = died_at(SMALL["troubled"], Cut(9, True))
    before = made.left().told()
    made.sinks["errors"].unopenable = OSError(13, "Permission denied")
    ran = made.again()
    assert ran.fault is not None
    assert ran.fault.code == "SINK_FAILED"
    assert ran.told() == [*before, "RunClaimed", "RunInterrupted sink_failed sink errors"]
    assert made.sinks["out"].closed is False
    made.sinks["errors"].unopenable = None
    assert made.again().receipt.status == "completed"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Killed()])
def test_an_interrupt_in_a_sink_leaves_its_write_open(error: BaseException) -> None:
    """law R3: it may be there or not; the write is made again, and the rows are there once."""
    made = trial(LINEAR, numbered(3))
    left = [error]
    made.sinks["out"].while_writing = lambda: _raise(left.pop()) if left else None
    with pytest.raises(type(error)):
        made.start()
    assert made.left().told()[-2:] == ["SinkWriteIntended out 0,1,2", f"RunInterrupted unexpected {type(error).__name__}"]
    ran = made.again()
    assert ran.rows("out") == numbered(3)
    assert len(ran.of(e.SinkWriteIntended)) == 1


def _raise(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize("times", [1, 3])
def test_a_sink_that_fails_while_writes_are_made_again_can_fail_for_long(times: int) -> None:
    """law R3: every resume says that it failed; behind it nothing is lost."""
    store = MortalStore()
    made = trial(TWO, numbered(4), store=store)
    dies_while_writing(made, "even")
    killed(made.start)
    store.revive()
    made.sinks["even"].broken = OSError(5, "EIO")
    for _ in range(times):
        assert made.again().fault is not None
    made.sinks["even"].broken = None
    ran = made.again()
    assert (ran.rows("even"), ran.rows("odd")) == ([{"n": 0}, {"n": 2}], [{"n": 1}, {"n": 3}])
    keys = [one.key for one in ran.of(e.SinkWriteIntended) if one.sink == "even"]
    assert len(set(keys)) == 1


def test_a_failsink_gets_what_was_refused_before_the_death_and_after_it_once() -> None:
    """law R3, E2: refused, the failsink refuses too, and is refused late: at every cut of the run."""
    whole = SMALL["refusals"](MortalStore())
    ran = whole.go()
    assert set(ran.outcomes.values()) == {"completed", "diverted"}
    assert isinstance(whole.store, MortalStore)
    for cut in cuts(len(whole.store.appends)):
        again = carried_on(died_at(SMALL["refusals"], cut))
        assert [len(again.rows(name)) for name in ("out", "spare", "last")] == [
            len(ran.rows(name)) for name in ("out", "spare", "last")
        ]
        diverted = [event for event in again.of(e.Diverted) if event.kind == "sink_refused"]
        assert len({(event.token, event.node) for event in diverted}) == len(diverted)


def test_a_write_that_fails_twice_keeps_its_place_before_those_behind_it() -> None:
    """law R3, law P3: under a new number, and its key; those of its sink that were planned with it stand behind it."""
    sketch = Sketch("rows").step("parts", "rows", "out", expands=True).sink("out")
    made = trial(sketch.text(), numbered(1), {"parts": lambda row: numbered(1200)})
    failures = iter([True, True])

    def fail() -> None:
        if next(failures, False):
            raise OSError(5, "Input/output error")

    made.sinks["out"].while_writing = fail
    assert [made.go().fault is not None, made.again().fault is not None] == [True, True]
    assert made.again().rows("out") == numbered(1200)
