"""Workers whose answers come later: in an order nobody chose, or at the very time a test says.

Why: with real threads the order of answers is the machine's; here it is a seed's, so that a failure can be shown again, or
it is said to the millisecond. The seed is printed, so that a failing test shows it.

Invariants: a job runs when it is started, or never before its ticket was given up; an answer is handed out once, and
never after its ticket was given up; as many are out at a time as the engine has running (`most` is their peak).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Literal

from hypothesis import currently_in_test_context, note

from engine.executors.calls import Called
from engine.workers import Finished
from tests.kit.ports import SimulatedTime

Job = Callable[[], Called]
Fate = Literal["answers", "silent", "hangs", "lost"]
"""What becomes of a ticket: it answers; runs and never answers; runs only when it was given up; or loses its worker."""

STEP_MS_MAX = 3


def show(text: str) -> None:
    """Have a failing test show this: as a note where hypothesis prints the last example, else on stdout."""
    if currently_in_test_context():
        note(text)
    else:
        print(text)


def always_answers(ticket: int) -> Fate:
    """Every ticket does."""
    return "answers"


class ShuffledWorkers:
    """Hands out answers in a random order and in random portions, and lets a little time pass meanwhile."""

    def __init__(self, seed: int, time: SimulatedTime, fate: Callable[[int], Fate] = always_answers) -> None:
        show(f"ShuffledWorkers(seed={seed})")
        self._chance = Random(seed)
        self._time = time
        self._fate = fate
        self._out: dict[int, Finished[Called]] = {}
        self._hanging: dict[int, Job | None] = {}
        self._late: list[Job] = []
        self._seen: set[int] = set()
        self.most = 0
        self.closed = False

    def ready(self, count: int) -> None:
        """See `engine.workers.Workers`."""

    def start(self, ticket: int, job: Job) -> None:
        """See `engine.workers.Workers`."""
        assert ticket not in self._seen, f"ticket {ticket} is used twice"
        assert not self.closed, f"ticket {ticket} is started after the end"
        self._seen.add(ticket)
        fate = self._fate(ticket)
        if fate == "hangs":
            self._hanging[ticket] = job
        else:
            called = job()
            if fate == "silent":
                self._hanging[ticket] = None
            else:
                self._out[ticket] = Finished(ticket, called if fate == "answers" else None)
        self.most = max(self.most, len(self._out) + len(self._hanging))

    def finished(self) -> list[Finished[Called]]:
        """See `engine.workers.Workers`."""
        late, self._late = self._late, []
        for job in late:
            job()
        if not self._out:
            return []
        self._time.advance_ms(self._chance.randint(0, STEP_MS_MAX))
        tickets = self._chance.sample(sorted(self._out), self._chance.randint(0, len(self._out)))
        return [self._out.pop(ticket) for ticket in tickets]

    def give_up(self, ticket: int) -> None:
        """See `engine.workers.Workers`."""
        self._out.pop(ticket, None)
        job = self._hanging.pop(ticket, None)
        if job is not None:
            self._late.append(job)

    @property
    def hung(self) -> int:
        """See `engine.workers.Workers`."""
        return len(self._late)

    def close(self) -> None:
        """See `engine.workers.Workers`."""
        self.closed = True


class AlarmTime(SimulatedTime):
    """Time that stops at the next alarm on its way, as a wait does that something wakes."""

    def __init__(self) -> None:
        super().__init__()
        self.alarms_ns: set[int] = set()

    def advance_ms(self, milliseconds: float) -> None:
        """Let time pass, until the next alarm."""
        until = self.now_ns + int(milliseconds * 1_000_000)
        self.now_ns = min([until, *(alarm for alarm in self.alarms_ns if alarm > self.now_ns)])


class TimedWorkers:
    """Runs a job when it is started; its answer comes as much later as the job said by `take`, to the millisecond."""

    def __init__(self, time: AlarmTime) -> None:
        self._time = time
        self._takes_ms = 0.0
        self._out: list[tuple[int, int, Finished[Called]]] = []
        self.most = 0
        self.given_up: list[int] = []

    def take(self, milliseconds: float) -> None:
        """For plugins: the attempt that runs takes this long."""
        self._takes_ms = milliseconds

    def ready(self, count: int) -> None:
        """See `engine.workers.Workers`."""

    def start(self, ticket: int, job: Job) -> None:
        """See `engine.workers.Workers`."""
        self._takes_ms = 0
        called = job()
        ready_ns = self._time.now_ns + int(self._takes_ms * 1_000_000)
        self._time.alarms_ns.add(ready_ns)
        taken = called._replace(duration_us=called.duration_us + int(self._takes_ms * 1000))
        self._out.append((ready_ns, ticket, Finished(ticket, taken)))
        self.most = max(self.most, len(self._out))

    def finished(self) -> list[Finished[Called]]:
        """See `engine.workers.Workers`."""
        now_ns = self._time.now_ns
        ready = sorted(one for one in self._out if one[0] <= now_ns)
        self._out = [one for one in self._out if one[0] > now_ns]
        return [finished for _, _, finished in ready]

    def give_up(self, ticket: int) -> None:
        """See `engine.workers.Workers`."""
        self.given_up.append(ticket)
        self._out = [one for one in self._out if one[1] != ticket]

    @property
    def hung(self) -> int:
        """See `engine.workers.Workers`."""
        return 0

    def close(self) -> None:
        """See `engine.workers.Workers`."""
