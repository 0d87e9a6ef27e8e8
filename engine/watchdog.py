"""The watchdog of `limits.step_seconds`: a process whose step does not come back ends itself, and a resume finds the row.

Why the whole process: Python cannot end a call. The next resume is wary, says before each step that it begins, and after
three deaths in it the step has failed with `process_died`.

Invariants: nothing is done, and no thread exists, until the first watched call; a call is never ended before its time, and
time in which the process itself was stopped does not count against it. A call that keeps the interpreter to itself (a
search that runs away, say) is ended too, by a timer that needs no interpreter, later and with a traceback.
"""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Callable, Iterator

TICKS = 4
STDERR = 2
INCOMPLETE = 4
"""The exit code of a run that did not complete."""


class Watchdog:
    """Watches calls, one at a time, each of which may take `seconds`; `end` is what is done about one that takes longer."""

    def __init__(self, seconds: float, end: Callable[[str], object] | None = None) -> None:
        self._seconds = seconds
        self._end = end or _end_process
        self._begun = 0
        self._name: str | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def watching(self, name: str, call: Callable[[object], object]) -> Callable[[object], object]:
        """The call, watched; if it gives an iterator, that is watched from row to row."""

        def watched(given: object) -> object:
            self._begin(name)
            try:
                result = call(given)
            finally:
                self._name = None
            return self._each(name, result) if isinstance(result, Iterator) else result

        return watched

    def _each(self, name: str, rows: Iterator[object]) -> Iterator[object]:
        while True:
            self._begin(name)
            try:
                row = next(rows)
            except StopIteration:
                return
            finally:
                self._name = None
            yield row

    def _begin(self, name: str) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._set_timer()
            self._thread.start()
        self._begun += 1
        self._name = name

    def _watch(self) -> None:
        seen, ticks = 0, 0
        while not self._closed.wait(self._seconds / TICKS):
            self._set_timer()
            begun, name = self._begun, self._name
            ticks = ticks + 1 if name is not None and begun == seen else 0
            seen = begun
            if ticks >= TICKS and name is not None:
                self._end(f"STEP_HUNG: expected an answer within {self._seconds:g} s, found none; {name}; the process ends "
                          "itself: resume the run")
        faulthandler.cancel_dump_traceback_later()

    def _set_timer(self) -> None:
        """Set the timer anew, that ends the process when the interpreter is not had for this long."""
        faulthandler.dump_traceback_later(self._seconds * TICKS, exit=True, file=STDERR)

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(1.0)


def _end_process(line: str) -> None:
    os.write(STDERR, f"{line}\n".encode())
    os._exit(INCOMPLETE)
