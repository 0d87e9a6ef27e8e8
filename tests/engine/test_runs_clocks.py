"""The clock on the wall is set back, set forward, stands still, goes on while the machine sleeps: nothing follows from it.

What timers count is run time, from a clock that never falls and that stands still while the machine sleeps; the wall's time
is only written down, and never earlier than what was written before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from time import get_clock_info, monotonic_ns

import pytest

from engine.loop import Hooks
from engine.ports import Ports, system
from ledger import events as e
from tests.kit.forks import Later, forked
from tests.kit.pipelines import Ran, Sketch, Trial, trial
from tests.kit.ports import EPOCH_US, SimulatedTime
from tests.kit.stories import said
from tests.kit.twins import Pause

HOUR_US = 3_600_000_000
Wall = Callable[[int, int], int]
"""What the wall shows at its n-th reading, and by what it should: microseconds."""

WALLS: Mapping[str, Wall] = {
    "set back at the first reading": lambda n, right: right - HOUR_US * (n > 0),
    "set back in the midst": lambda n, right: right - HOUR_US * (n > 20),
    "set back by a microsecond each time": lambda n, right: right - n,
    "set forward in the midst": lambda n, right: right + 24 * HOUR_US * (n > 20),
    "asleep for an hour, again and again": lambda n, right: right + HOUR_US * (n // 7),
    "set to and fro": lambda n, right: right + HOUR_US * (-1) ** n,
    "stands still": lambda n, right: EPOCH_US,
}


class Wandering(SimulatedTime):
    """Run time goes on as told; what the wall shows is another matter."""

    def __init__(self, wall: Wall) -> None:
        super().__init__()
        self.wall = wall
        self.readings = 0

    def ports(self) -> Ports:
        """Ports that read both."""
        return replace(super().ports(), wall_us=self._wall_us)

    def _wall_us(self) -> int:
        self.readings += 1
        return self.wall(self.readings - 1, EPOCH_US + self.now_ns // 1000)


def waiting(time: SimulatedTime) -> Trial:
    """Groups and batches that wait 300 ms, retries after half a second or more; rows come now and then."""
    sketch = forked("a", "b", policy="best_effort", attempts=2, timeout_seconds=0.3)
    return trial(sketch.text(), [{"n": 0}, {"n": 1}, Pause(200), {"n": 2}, Pause(2000)], {"step_b": Later()}, time=time)


def batching(time: SimulatedTime) -> Trial:
    """Batches that wait 300 ms."""
    text = Sketch("rows").batch("batch", "rows", "out", trigger={"timeout_seconds": 0.3}).sink("out").text()
    return trial(text, [{"n": 0}, Pause(200), {"n": 1}, Pause(500), {"n": 2}, Pause(500)], time=time)


def test_run_time_is_of_a_clock_that_nobody_can_set() -> None:
    """W7, D5: the real ports read the system's monotonic clock, and nothing else for run time."""
    clock = get_clock_info("monotonic")
    assert (clock.monotonic, clock.adjustable) == (True, False)
    assert system().monotonic_ns is monotonic_ns


def told(ran: Ran) -> list[tuple[str, int]]:
    """Everything that was said, and when by run time."""
    return [(said(event), event.active_ms) for event in ran.events]


@pytest.mark.parametrize("wall", WALLS)
@pytest.mark.parametrize("making", [waiting, batching])
def test_whatever_the_wall_shows_order_and_timeouts_stay(making: Callable[[SimulatedTime], Trial], wall: str) -> None:
    """W7, D5, law L7, law C4, law C7: every event at the millisecond of run time of a run with a right clock."""
    time = Wandering(WALLS[wall])
    ran = making(time).go()
    assert told(ran) == told(making(SimulatedTime()).go())
    assert "timeout" in {getattr(event, "trigger", None) for event in ran.events}
    assert time.readings > 30
    assert all(later.at >= earlier.at for earlier, later in pairwise(ran.events))


@pytest.mark.parametrize("other_us", [-24 * HOUR_US, -1, 24 * HOUR_US])
def test_a_process_whose_clock_is_another_goes_on_from_what_the_log_says(other_us: int) -> None:
    """W7, D5, law L7: on another machine, or once the clock was put right: groups wait as long as they would have."""
    time = Wandering(lambda n, right: right)
    made = waiting(time)
    made.hooks = Hooks(stopping=lambda: "enough" if time.now_ns >= 100_000_000 else None)
    stopped = made.go()
    assert stopped.verdict.open_groups == 2
    made.hooks = Hooks()
    time.wall = lambda n, right: right + other_us
    ran = made.again()
    last, claim = stopped.events[-1], ran.of(e.RunClaimed)[1]
    assert claim.at == last.at + max(0, other_us)
    assert all(later.at >= earlier.at for earlier, later in pairwise(ran.events))
    assert [(one.group, one.trigger, one.active_ms) for one in ran.of(e.TokensCoalesced)][:2] == [
        ("0+join", "timeout", 300), ("1+join", "timeout", 300)]
