"""The workers: threads on which effects run, so that one that waits for the outside world does not hold up the rest.

Why threads of our own: a pool that joins its threads would wait for ever for one that hangs.

Invariants: at most `count` attempts run at a time, those that were given up aside; an answer is heard once, and never
after its ticket was given up; a thread that was given up ends when it comes back; nothing waits for a thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, NamedTuple, Protocol, TypeVar

from ledger.errors import RunIncomplete

Answer = TypeVar("Answer")


class Finished(NamedTuple, Generic[Answer]):
    """What came of a ticket; None when its worker was lost before it had an answer."""

    ticket: int
    answer: Answer | None


class Workers(Protocol[Answer]):
    """Where jobs run."""

    def ready(self, count: int) -> None:
        """See to it that so many more jobs can be started. Raises `RunIncomplete` (NO_THREADS) when none could."""
        ...

    def start(self, ticket: int, job: Callable[[], Answer]) -> None:
        """Run a job beside the others. Tickets are never used twice."""
        ...

    def finished(self) -> list[Finished[Answer]]:
        """What has finished since the last time, in the order in which it did; never waits."""
        ...

    def give_up(self, ticket: int) -> None:
        """Hear nothing more of this ticket."""
        ...

    @property
    def hung(self) -> int:
        """How many threads were given up and have not come back."""
        ...

    def close(self) -> None:
        """Start nothing more."""
        ...


Job = tuple[int, Callable[[], Answer]] | None


class ThreadWorkers(Generic[Answer]):
    """Runs jobs on up to `count` daemon threads, made when they are needed; calls `wake` when something has finished."""

    def __init__(self, count: int, wake: Callable[[], None]) -> None:
        self._count = count
        self._wake = wake
        self._jobs: SimpleQueue[Job[Answer]] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting: set[int] = set()
        self._running: set[int] = set()
        self._given_up: set[int] = set()
        self._threads = 0
        self._done: deque[Finished[Answer]] = deque()

    def ready(self, count: int) -> None:
        """See `Workers`. Where the system gives no more threads, those that are there do the work."""
        with self._lock:
            wanted = min(self._count, len(self._waiting) + len(self._running) + count)
        while self._threads < wanted:
            try:
                threading.Thread(target=self._work, name="effect", daemon=True).start()
            except RuntimeError as error:
                if self._threads:
                    return
                raise RunIncomplete("NO_THREADS", "expected a thread for effects, found that the system gives none",
                                    where="concurrency.max_workers", next_step="free some, then resume the run") from error
            with self._lock:
                self._threads += 1

    def start(self, ticket: int, job: Callable[[], Answer]) -> None:
        """See `Workers`."""
        with self._lock:
            self._waiting.add(ticket)
        self._jobs.put((ticket, job))

    def _work(self) -> None:
        going_on = True
        while going_on and (job := self._jobs.get()) is not None:
            ticket, run = job
            if not self._take(ticket):
                continue
            answer: Answer | None = None
            try:
                answer = run()
            except BaseException:
                answer = None  # a worker that is lost says so by having no answer
            going_on = self._hear(Finished(ticket, answer))

    def _take(self, ticket: int) -> bool:
        """Whether a job is still wanted; from here on it runs."""
        with self._lock:
            wanted = ticket in self._waiting
            if wanted:
                self._waiting.remove(ticket)
                self._running.add(ticket)
            return wanted

    def _hear(self, finished: Finished[Answer]) -> bool:
        """Take an answer; says whether its thread goes on."""
        with self._lock:
            if finished.ticket in self._given_up:
                self._given_up.remove(finished.ticket)
                return False
            self._running.discard(finished.ticket)
            self._done.append(finished)
        self._wake()
        return True

    def finished(self) -> list[Finished[Answer]]:
        """See `Workers`."""
        done = []
        while self._done:
            done.append(self._done.popleft())
        return done

    def give_up(self, ticket: int) -> None:
        """See `Workers`: one that has not begun never does; the thread of one that runs no longer counts."""
        with self._lock:
            self._waiting.discard(ticket)
            if ticket in self._running:
                self._running.remove(ticket)
                self._given_up.add(ticket)
                self._threads -= 1

    @property
    def hung(self) -> int:
        """See `Workers`."""
        return len(self._given_up)

    def close(self) -> None:
        """See `Workers`: threads end as they come back; what has not begun never does."""
        with self._lock:
            self._waiting.clear()
        for _ in range(self._threads):
            self._jobs.put(None)
