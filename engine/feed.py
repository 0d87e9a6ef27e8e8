"""The feed: source rows, read ahead by one thread, so that a source that blocks never stops the loop.

Why: timers fire, buffers are committed and signals are heard also when no row comes.

Invariants: rows come in the source's order; what waits is bounded in rows and in characters; what waits and was not taken
is not recorded, and a resume reads it again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from engine.plugin_api import SourceRow

READ_AHEAD_ROWS = 512
READ_AHEAD_CHARS = 2**24


class Exhausted:
    """The source ended."""


class Broken:
    """The source raised `error`."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Feed(Protocol):
    """Where the loop takes rows from."""

    def take(self, timeout_seconds: float | None) -> SourceRow | Exhausted | Broken | None:
        """The next row, or None when none came within the timeout (None: wait for as long as it takes)."""
        ...

    def pause(self, timeout_seconds: float) -> None:
        """Take nothing for this long."""
        ...

    def wake(self) -> None:
        """Something else has happened: end whatever waits in `take` or `pause`, or the next of them. From any thread."""
        ...

    def close(self) -> None:
        """Stop reading."""
        ...


class ThreadFeed:
    """Reads `rows` on a thread of its own."""

    def __init__(self, rows: Iterator[SourceRow], ahead: int = READ_AHEAD_ROWS) -> None:
        self._rows = rows
        self._ahead = ahead
        self._waiting: deque[SourceRow | Exhausted | Broken] = deque()
        self._chars = 0
        self._some = threading.Event()
        self._room = threading.Event()
        self._woken = threading.Event()
        self._closed = False
        threading.Thread(target=self._read, name="source", daemon=True).start()

    def take(self, timeout_seconds: float | None) -> SourceRow | Exhausted | Broken | None:
        """See `Feed`."""
        waiting = self._waiting
        if not waiting:
            self._some.clear()
            if not waiting and not self._woken.is_set():
                self._some.wait(timeout_seconds)
            self._woken.clear()
            if not waiting:
                return None
        item = waiting.popleft()
        if not self._room.is_set() and len(waiting) * 2 < self._ahead:
            self._room.set()
        return item

    def pause(self, timeout_seconds: float) -> None:
        """See `Feed`."""
        if not self._closed:
            self._woken.wait(timeout_seconds)
            self._woken.clear()

    def wake(self) -> None:
        """See `Feed`."""
        self._woken.set()
        self._some.set()

    def close(self) -> None:
        """See `Feed`."""
        self._closed = True
        self.wake()
        self._room.set()

    def _read(self) -> None:
        last: Exhausted | Broken = Exhausted()
        try:
            for row in self._rows:
                self._put(row)
                if self._closed:
                    return
        except BaseException as error:
            last = Broken(error)
        self._put(last)

    def _put(self, item: SourceRow | Exhausted | Broken) -> None:
        """Wait for room, then line the item up.

        Characters are counted since the line was last empty; beyond the bound it has to be empty first.
        """
        waiting = self._waiting
        size = _chars(item)
        self._chars = self._chars + size if waiting else size
        ahead = self._ahead if self._chars <= READ_AHEAD_CHARS else 1
        while len(waiting) >= ahead and not self._closed:
            self._room.clear()
            if len(waiting) >= ahead:
                self._room.wait()
        if ahead == 1:
            self._chars = size
        waiting.append(item)
        if not self._some.is_set():
            self._some.set()


def _chars(item: SourceRow | Exhausted | Broken) -> int:
    """About how many characters a row holds: those of its texts."""
    if not isinstance(item, SourceRow):
        return 0
    row = item.row
    if isinstance(row, dict):
        return sum([len(value) for value in row.values() if type(value) is str])
    return len(row) if isinstance(row, str) else 0
