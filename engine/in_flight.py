"""Effects in motion: attempts that wait for a worker, those that run, and what came of them.

Why apart from the loop: the loop decides one piece at a time; here is what goes on meanwhile. A completion enters the loop
like a row does, and its place in the log is the order in which the loop took it.

Invariants:
- One commit stands between the intents of all attempts that are about to begin and their beginning.
- At most `capacity` attempts run; when as many wait, `is_full` keeps the loop from reading on.
- An attempt ends once: by its answer, or at its deadline; what comes after that is not heard.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from engine.attempts import Attempt, CallMade
from engine.bound import BoundStep
from engine.desk import Desk
from engine.executors import calls, effects
from engine.rows import FrozenRow
from engine.wary import Wary
from engine.workers import Workers
from ledger import ids
from ledger.errors import RunIncomplete
from ledger.fold.state import Token

HUNG_MAX = 256


class _Running(NamedTuple):
    token: Token
    row: FrozenRow
    step: BoundStep
    attempt: Attempt


class Ended(NamedTuple):
    """An attempt that ended: what it came to, and the calls it had made until then."""

    token: Token
    row: FrozenRow
    step: BoundStep
    called: calls.Called
    calls: list[CallMade]


class Effects:
    """Attempts of effects, over `workers`."""

    def __init__(self, desk: Desk, steps: Mapping[str, BoundStep], workers: Workers[calls.Called], capacity: int,
                 limits: calls.Limits, ledger: str, wary: Wary) -> None:
        self._desk = desk
        self._steps = steps
        self._workers = workers
        self._capacity_max = capacity
        self._wary = wary
        self._limits = limits
        self._ledger = ledger
        self._encode = partial(effects.encoded, masking=desk.recorder.masking, bytes_max=limits.row_bytes_max)
        self._now_ns: Callable[[], int] = desk.recorder.ports.monotonic_ns
        self._waiting: list[tuple[int, Token, FrozenRow]] = []
        self._running: dict[int, _Running] = {}
        self._tickets = 0

    def wait(self, token: Token, row: FrozenRow) -> None:
        """Line a token up for an attempt: in the order in which the log has put them before their steps."""
        heapq.heappush(self._waiting, (token.placed, token, row))

    @property
    def _capacity(self) -> int:
        """One at a time while wary, so that an attempt that kills the process is not taken for its neighbours."""
        return 1 if self._wary.on else self._capacity_max

    @property
    def running(self) -> int:
        """How many attempts have begun and not ended."""
        return len(self._running)

    @property
    def may_start(self) -> bool:
        """Whether an attempt could begin now."""
        return bool(self._waiting) and len(self._running) < self._capacity

    @property
    def is_enough(self) -> bool:
        """Whether as many wait as could begin now."""
        return len(self._waiting) >= self._capacity - len(self._running)

    @property
    def is_full(self) -> bool:
        """Whether as many wait as may ever run at once: reading on would only make them more."""
        return len(self._waiting) >= self._capacity

    def start(self) -> None:
        """Begin as many attempts as there is room for: their intents, one commit, then the attempts.

        Raises `RunIncomplete` before anything is said: EFFECTS_HUNG when too many threads hang in attempts whose deadlines
        have passed, NO_THREADS when there is none.
        """
        if self._workers.hung > HUNG_MAX:
            raise RunIncomplete("EFFECTS_HUNG", f"expected at most {HUNG_MAX} attempts that outlive their deadline, found "
                                f"{self._workers.hung}", where=f"step {self._waiting[0][1].node}",
                                next_step="make the plugin give up at its deadline, then resume the run")
        count = min(len(self._waiting), self._capacity - len(self._running))
        self._workers.ready(count)
        begun = [self._announce(*heapq.heappop(self._waiting)[1:]) for _ in range(count)]
        self._desk.recorder.commit()
        for token, row, key in begun:
            step = self._steps[token.node]
            attempt = Attempt(key, token.attempt, step.deadline_seconds, self._now_ns, self._encode)
            self._tickets += 1
            self._running[self._tickets] = _Running(token, row, step, attempt)
            call = partial(step.call, attempt=attempt) if step.takes_attempt else step.call
            self._workers.start(self._tickets, partial(calls.call, step, call, row, self._limits, self._now_ns))

    def _announce(self, token: Token, row: FrozenRow) -> tuple[Token, FrozenRow, str]:
        key = ids.effect_key(self._ledger, self._desk.state.run, token.id, token.node)
        self._desk.record(effects.begun(token, key))
        return token, row, key

    def ended(self) -> Iterator[Ended]:
        """Every attempt that has ended, in the order in which it did; then those whose deadline has passed."""
        now_ns = self._now_ns()
        for finished in self._workers.finished():
            running = self._running.pop(finished.ticket, None)
            if running is not None:
                yield self._ended(running, self._answer(running, finished.answer))
        late = [ticket for ticket, running in self._running.items() if running.attempt.deadline_ns <= now_ns]
        for ticket in late:
            running = self._running.pop(ticket)
            self._workers.give_up(ticket)
            yield self._ended(running, effects.overdue(running.step.deadline_seconds))

    def _answer(self, running: _Running, called: calls.Called | None) -> calls.Called:
        """What a worker answered; an answer that took longer than the deadline is none."""
        if called is None:
            return effects.lost()
        seconds = running.step.deadline_seconds
        return effects.overdue(seconds) if called.duration_us > seconds * 1_000_000 else called

    def _ended(self, running: _Running, called: calls.Called) -> Ended:
        return Ended(running.token, running.row, running.step, called, running.attempt.close())

    def seconds_left(self) -> float | None:
        """Until the next deadline of a running attempt; None when none runs."""
        deadlines = [running.attempt.deadline_ns for running in self._running.values()]
        return max(0, min(deadlines) - self._now_ns()) / 1_000_000_000 if deadlines else None
