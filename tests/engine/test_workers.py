"""The threads on which effects run: side by side, bounded, each heard once, and nobody waited for.

No test waits for time: threads meet at barriers and events, and a wait that is too long is a failure.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from engine.workers import Finished, ThreadWorkers
from ledger.errors import RunIncomplete

LONG = 30.0
"""Seconds after which a thread that should have come is taken for lost."""


class Crew:
    """Workers, what they have finished, and their threads."""

    def __init__(self, count: int) -> None:
        self._before = set(threading.enumerate())
        self._news = threading.Semaphore(0)
        self.workers: ThreadWorkers[str] = ThreadWorkers(count, self._news.release)

    def finished(self, count: int) -> list[Finished[str]]:
        """The next answers, once so many have come."""
        for _ in range(count):
            assert self._news.acquire(timeout=LONG)
        found = self.workers.finished()
        assert len(found) == count
        return found

    def start(self, ticket: int, job: Callable[[], str]) -> None:
        """Start a job as the engine does: with a thread for it, if there may be one more."""
        self.workers.ready(1)
        self.workers.start(ticket, job)

    @property
    def threads(self) -> set[threading.Thread]:
        """The threads that are alive."""
        return set(threading.enumerate()) - self._before

    def gone(self) -> None:
        """Close, and see every thread end."""
        self.workers.close()
        for thread in self.threads:
            thread.join(LONG)
        assert self.threads == set()


class Held:
    """A job that runs until it is let go."""

    def __init__(self, answer: str = "held") -> None:
        self.begun, self.let_go, self.over = threading.Event(), threading.Event(), threading.Event()
        self._answer = answer

    def __call__(self) -> str:
        self.begun.set()
        assert self.let_go.wait(LONG)
        self.over.set()
        return self._answer


def held(crew: Crew, ticket: int) -> Held:
    """A held job that has begun."""
    job = Held(f"held {ticket}")
    crew.start(ticket, job)
    assert job.begun.wait(LONG)
    return job


@pytest.fixture
def crew() -> Iterator[Callable[[int], Crew]]:
    """Makes crews, and sees that their threads end."""
    made: list[Crew] = []

    def make(count: int) -> Crew:
        made.append(Crew(count))
        return made[-1]

    yield make
    for one in made:
        one.gone()


Make = Callable[[int], Crew]


# --- running -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 8])
def test_as_many_jobs_as_threads_run_side_by_side(crew: Make, count: int) -> None:
    """Each waits for all the others; if one fewer could run they would never meet."""
    here, together = crew(count), threading.Barrier(count)

    def job() -> str:
        return str(together.wait(LONG))

    for ticket in range(count):
        here.start(ticket, job)
    assert {answer.ticket for answer in here.finished(count)} == set(range(count))


def test_never_more_threads_than_were_asked_for(crew: Make) -> None:
    """What is started beyond that runs when there is room, in its order."""
    here = crew(2)
    first, second = held(here, 1), held(here, 2)
    ran: list[int] = []

    def job(ticket: int) -> str:
        ran.append(ticket)
        return "done"

    for ticket in (3, 4, 5):
        here.start(ticket, partial(job, ticket))
    assert (len(here.threads), ran) == (2, [])
    first.let_go.set()
    assert [one.ticket for one in here.finished(4)] == [1, 3, 4, 5]
    assert (len(here.threads), ran) == (2, [3, 4, 5])
    second.let_go.set()
    here.finished(1)


def test_threads_are_made_when_they_are_needed_and_used_again(crew: Make) -> None:
    """One job after the other needs one thread, however many there might be."""
    here = crew(8)
    assert here.threads == set()
    names = set()
    for ticket in range(20):
        here.start(ticket, lambda: str(threading.get_ident()))
        names.add(here.finished(1)[0].answer)
    assert len(names) == len(here.threads) == 1


def test_a_run_that_ends_is_not_kept_by_a_thread(crew: Make) -> None:
    """Threads are daemons: a process can end while one hangs."""
    here = crew(1)
    job = held(here, 1)
    assert all(thread.daemon for thread in here.threads)
    job.let_go.set()
    here.finished(1)


# --- answers -------------------------------------------------------------------------------------------------------


def test_an_answer_is_given_once_and_in_the_order_in_which_it_came(crew: Make) -> None:
    """Asked again there is nothing; nothing is there before it is there, and asking never waits."""
    here = crew(2)
    one, two = held(here, 1), held(here, 2)
    assert here.workers.finished() == []
    two.let_go.set()
    assert here.finished(1) == [Finished(2, "held 2")]
    one.let_go.set()
    assert here.finished(1) == [Finished(1, "held 1")]
    assert here.workers.finished() == []


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError()])
def test_a_job_that_raises_is_a_worker_that_was_lost(crew: Make, error: BaseException) -> None:
    """Whatever it raises: its ticket has no answer, and the next job finds a worker."""
    here = crew(1)

    def job() -> str:
        raise error

    here.start(1, job)
    assert here.finished(1) == [Finished(1, None)]
    here.start(2, lambda: "still here")
    assert here.finished(1) == [Finished(2, "still here")]


def test_many_jobs_from_few_threads_are_each_answered_once(crew: Make) -> None:
    """Nothing is lost and nothing is heard twice, however the threads are scheduled."""
    here = crew(4)
    for ticket in range(500):
        here.start(ticket, partial(str, ticket))
    assert sorted(here.finished(500)) == [Finished(ticket, str(ticket)) for ticket in range(500)]


# --- giving up -----------------------------------------------------------------------------------------------------


def test_giving_up_makes_room_and_the_late_answer_is_dropped(crew: Make) -> None:
    """The one that hangs no longer counts: another runs in its place, and what it says in the end nobody hears."""
    here = crew(1)
    job = held(here, 1)
    here.workers.give_up(1)
    assert here.workers.hung == 1
    here.start(2, lambda: "in its place")
    assert here.finished(1) == [Finished(2, "in its place")]
    came_back = here.threads
    job.let_go.set()
    assert job.over.wait(LONG)
    here.gone()
    assert len(came_back) == 2
    assert (here.workers.hung, here.workers.finished()) == (0, [])


def test_a_thread_that_was_given_up_ends_when_it_comes_back(crew: Make) -> None:
    """It takes no other job: its place has been given to another."""
    here = crew(1)
    job = held(here, 1)
    (thread,) = here.threads
    here.workers.give_up(1)
    job.let_go.set()
    thread.join(LONG)
    assert not thread.is_alive()
    assert here.workers.hung == 0
    here.start(2, lambda: "another thread")
    assert here.finished(1) == [Finished(2, "another thread")]


def test_however_many_hang_as_many_run_as_may_and_never_more(crew: Make) -> None:
    """Each that is given up is counted until it comes back, and replaced once."""
    here = crew(2)
    hanging = []
    for ticket in range(10):
        hanging.append(held(here, ticket))
        here.workers.give_up(ticket)
        assert here.workers.hung == ticket + 1
    one, two = held(here, 10), held(here, 11)
    third = Held()
    here.start(12, third)
    assert len(here.threads) == 12
    assert not third.begun.is_set()
    for job in (*hanging, one, two, third):
        job.let_go.set()
    assert sorted(answer.ticket for answer in here.finished(3)) == [10, 11, 12]
    here.gone()
    assert here.workers.hung == 0


def test_giving_up_what_has_finished_changes_nothing(crew: Make) -> None:
    """An answer that stands there when its deadline comes: no thread is counted as hung, none is lost."""
    here = crew(1)
    here.start(1, lambda: "in time")
    here.finished(1)
    here.workers.give_up(1)
    here.workers.give_up(7)
    assert here.workers.hung == 0
    here.start(2, lambda: "next")
    assert here.finished(1) == [Finished(2, "next")]
    assert len(here.threads) == 1


def test_a_job_that_was_given_up_and_then_raises_is_not_heard_either(crew: Make) -> None:
    """A lost worker that nobody waits for any more."""
    here = crew(1)
    let_go = threading.Event()
    begun = threading.Event()

    def job() -> str:
        begun.set()
        assert let_go.wait(LONG)
        raise SystemExit(3)

    here.start(1, job)
    assert begun.wait(LONG)
    here.workers.give_up(1)
    let_go.set()
    here.gone()
    assert (here.workers.hung, here.workers.finished()) == (0, [])


def test_closing_ends_every_thread_and_waits_for_none(crew: Make) -> None:
    """Idle ones at once, the one that runs when it comes back, and one that was given up too."""
    here = crew(3)
    job, hung = held(here, 1), held(here, 2)
    here.start(3, lambda: "done")
    here.finished(1)
    here.workers.give_up(2)
    threads = here.threads
    assert len(threads) == 3
    here.workers.close()
    assert threads >= here.threads
    job.let_go.set()
    hung.let_go.set()
    for thread in threads:
        thread.join(LONG)
    assert not any(thread.is_alive() for thread in threads)
    assert here.workers.finished() == [Finished(1, "held 1")]


def test_without_a_single_thread_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """law T10: what cannot run is not announced; with one thread, that one does the work of all."""
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    crew = Crew(3)
    with monkeypatch.context() as none:
        none.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RunIncomplete) as raised:
            crew.workers.ready(2)
    assert raised.value.code == "NO_THREADS"
    crew.workers.ready(1)
    with monkeypatch.context() as none:
        none.setattr(threading.Thread, "start", refuse)
        crew.workers.ready(3)
    for ticket in range(3):
        crew.workers.start(ticket, partial(str, ticket))
    assert sorted(one.ticket for one in crew.finished(3)) == [0, 1, 2]
    crew.gone()
