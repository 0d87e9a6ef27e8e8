"""The feed is woken by what happens elsewhere: whatever waits for a row, or for time, ends; no row and no waking is lost.

No test waits for time: threads meet at events, and a wait that is too long is a failure.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from engine.feed import Exhausted, ThreadFeed
from engine.plugin_api import SourceRow
from engine.workers import ThreadWorkers

LONG = 30.0
"""Seconds after which a thread that should have come is taken for lost."""


class Silent:
    """A source that gives rows when it is told to."""

    def __init__(self) -> None:
        self.more = threading.Semaphore(0)
        self.closed = False

    def __iter__(self) -> Iterator[SourceRow]:
        position = 0
        while self.more.acquire(timeout=LONG) and not self.closed:
            position += 1
            yield SourceRow(position, {"n": position}, None)

    def end(self) -> None:
        """No more rows."""
        self.closed = True
        self.more.release()


@pytest.fixture
def source() -> Iterator[Silent]:
    """A source that ends with its test."""
    made = Silent()
    yield made
    made.end()


def nothing() -> None:
    """Nobody wakes the wait: it was woken before."""


def woken(wait: Callable[[], object], wake: Callable[[], None] = nothing) -> object:
    """What the wait came to, on a thread of its own, once it was woken."""
    came: list[object] = []
    waiting = threading.Thread(target=lambda: came.append(wait()), daemon=True)
    waiting.start()
    wake()
    waiting.join(LONG)
    assert not waiting.is_alive()
    return came[0]


@pytest.mark.parametrize("seconds", [None, LONG * 10])
def test_waking_ends_a_take_that_waits_for_a_row(source: Silent, seconds: float | None) -> None:
    """Before it waits, or while it does: it comes back with nothing."""
    feed = ThreadFeed(iter(source))
    for _ in range(200):
        assert woken(lambda: feed.take(seconds), feed.wake) is None


def test_waking_ends_a_pause(source: Silent) -> None:
    """The same for a wait that wants no row."""
    feed = ThreadFeed(iter(source))

    def pause() -> None:
        feed.pause(LONG * 10)

    for _ in range(200):
        woken(pause, feed.wake)


def test_a_wake_that_nobody_waits_for_ends_the_next_wait(source: Silent) -> None:
    """It is kept, once however often it was said, and forgotten with the wait that it ended."""
    feed = ThreadFeed(iter(source))
    feed.wake()
    feed.wake()
    assert woken(lambda: feed.take(None)) is None
    feed.wake()
    woken(lambda: feed.pause(LONG * 10))
    source.more.release()
    item = feed.take(LONG)
    assert isinstance(item, SourceRow)
    assert item.position == 1


def test_a_wake_hides_no_row(source: Silent) -> None:
    """Rows come in their order, each once, whatever wakes the feed meanwhile."""
    feed = ThreadFeed(iter(source))
    positions = []
    for _ in range(100):
        source.more.release()
        feed.wake()
        item = feed.take(LONG)
        if item is None:
            item = feed.take(LONG)
        assert isinstance(item, SourceRow)
        positions.append(item.position)
    source.end()
    feed.wake()
    last = feed.take(LONG)
    assert isinstance(last if last is not None else feed.take(LONG), Exhausted)
    assert positions == list(range(1, 101))


def test_no_wake_up_is_lost(source: Silent) -> None:
    """Whenever an answer comes, the wait that was begun before or is begun after it ends, and finds it there."""
    feed = ThreadFeed(iter(source))
    workers: ThreadWorkers[str] = ThreadWorkers(4, feed.wake)
    tickets = list(range(400))
    heard: list[int] = []

    def hear_all() -> None:
        for ticket in tickets:
            workers.ready(1)
            workers.start(ticket, lambda: "done")
            feed.pause(LONG * 10)
            heard.extend(one.ticket for one in workers.finished())

    hearing = threading.Thread(target=hear_all, daemon=True)
    hearing.start()
    hearing.join(LONG)
    workers.close()
    assert heard == tickets
