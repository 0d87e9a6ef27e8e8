"""An interrupt at any moment at all: between an event and what it owes, in the midst of a batch, while a stop is said.

Why at the ports: everything that the run does asks for the time or for randomness, so that an error which comes out of
there can come anywhere. What was lawful until then is on record, also where something is still owed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine import run as running
from engine.loop import Hooks
from engine.ports import Ports
from ledger import events as e
from ledger.replay import replay
from tests.kit.deaths import MortalStore, facts
from tests.kit.pipelines import Sketch, Trial, trial
from tests.kit.ports import SimulatedTime
from tests.kit.small_runs import SMALL, numbered

NAMES = ("troubled", "crossed", "collided", "gathered", "gathered_all", "batch_failing", "batch_rejecting_passing",
         "batch_tried_again", "refusals", "one_sink", "asked_again", "experiments")
STRIDE = 3


class Interrupting:
    """Ports over a clock that raise at the question number `at`, of whatever kind, and never again."""

    def __init__(self, time: SimulatedTime, at: int) -> None:
        self._real = time.ports()
        self.asked = 0
        self._at = at

    def ports(self) -> Ports:
        """Ports that count."""
        real = self._real

        def counted() -> None:
            self.asked += 1
            if self.asked == self._at:
                raise KeyboardInterrupt

        def wall_us() -> int:
            counted()
            return real.wall_us()

        def monotonic_ns() -> int:
            counted()
            return real.monotonic_ns()

        def random_bytes(count: int) -> bytes:
            counted()
            return real.random_bytes(count)

        return replace(real, wall_us=wall_us, monotonic_ns=monotonic_ns, random_bytes=random_bytes)


def interrupted(name: str, at: int) -> Trial | None:
    """The trial, whose start was interrupted at that question; None when it was over before."""
    made = SMALL[name](MortalStore())
    clock = Interrupting(made.time, at)
    try:
        running.start(made.store, made.opening(), made.bound, clock.ports(), made.hooks, made.feed(), made.workers)
    except KeyboardInterrupt:
        return made
    return None


def test_an_interrupt_at_any_moment_leaves_a_run_that_can_be_carried_on_or_given_up() -> None:
    """W14, G13, law P3, law T1: nothing is lost, nothing is there twice; something is owed at the stop more than once."""
    owed = stopped = 0
    for name in NAMES:
        wanted = facts(SMALL[name](MortalStore()).go())
        for at in range(1, 100_000, STRIDE):
            made = interrupted(name, at)
            if made is None:
                break
            if made.store.head(made.run) is None:
                continue
            stopped += 1
            owed += bool(replay(made.store, made.run).state.owed)
            if at % 2:
                made.abandon()
                assert made.left().verdict.sealed
                continue
            assert facts(made.again()) == wanted, (name, at)
    assert stopped > 300
    assert owed > 3


def test_the_products_own_feed_goes_on_after_the_last_row_on_record() -> None:
    """G7, G13: rows that were read ahead and not recorded are read again, those on record are not."""
    made = trial(Sketch("rows").step("one", "rows", "out").sink("out").text(), numbered(50))
    rows: list[int] = []
    ports = made.time.ports()
    hooks = Hooks(stopping=lambda: "enough" if len(rows) == 2 else None, progress=rows.append)
    step = made.bound.steps["one"]

    def one(row: object) -> object:
        made.time.advance_ms(60)
        return row

    made.bound = replace(made.bound, steps={"one": replace(step, call=one)})
    running.start(made.store, made.opening(), made.bound, ports, hooks)
    first = made.left()
    assert 0 < len(first.of(e.RowRead)) < 50
    running.resume(made.store, made.opening(resumed=True), made.bound, ports, Hooks())
    ran = made.left()
    assert ran.verdict.sealed
    assert ran.rows("out") == numbered(50)


@pytest.mark.parametrize("name", ["linear", "gathered"])
def test_a_run_that_is_never_interrupted_asks_often(name: str) -> None:
    """The moments above are many."""
    made = SMALL[name](MortalStore())
    clock = Interrupting(made.time, -1)
    running.start(made.store, made.opening(), made.bound, clock.ports(), made.hooks, made.feed(), made.workers)
    assert clock.asked > 30
