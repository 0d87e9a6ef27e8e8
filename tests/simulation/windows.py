"""Which crash window a call stands in: the names under which faults are drawn and counted.

Why by window and not by number: of a small run's calls most are alike, and the few between a write and its confirmation
are the ones that matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

from tests.simulation.children import LEDGER
from tests.simulation.interposer import Where
from tests.simulation.journal import OPS, Call

Window = Literal[
    "making the ledger", "taking a lock", "before append", "inside COMMIT", "after COMMIT, before the ack", "checkpoint",
    "opening a sink", "before a sink write", "mid-row", "between write and sync", "between write and confirmation",
    "after confirmation", "inside an effect", "read tables", "elsewhere",
]

WINDOWS: tuple[Window, ...] = get_args(Window)
WHERE: tuple[Where, ...] = ("before", "half", "after")
WAL = f"{LEDGER}-wal"


class Watch:
    """Follows the calls of one process; says of each in which windows a crash there falls."""

    def __init__(self, sinks: frozenset[str]) -> None:
        self._sinks = sinks
        self._in_commit = False
        self._written = False
        self._opened: set[str] = set()

    def window(self, call: Call) -> Mapping[Where, Window]:
        """For a crash before, in the middle of, and after the call."""
        path = call.other or call.path
        if path in self._sinks:
            return self._sink(call)
        if path == WAL:
            return self._log(call)
        if path.endswith(".lock"):
            return _all("taking a lock")
        if path.startswith(f"{LEDGER}.new") or path == LEDGER:
            return _all("checkpoint" if path == LEDGER and call.op != "rename" else "making the ledger")
        if path.startswith(f"{LEDGER}.read"):
            return _all("read tables")
        if path.startswith("out/"):
            return _all("inside an effect")
        return _all("opening a sink" if path == "out" else "elsewhere")

    def _log(self, call: Call) -> Mapping[Where, Window]:
        waiting: Window = "between write and confirmation" if self._written else "before append"
        if call.op == "write":
            before: Window = "inside COMMIT" if self._in_commit else waiting
            self._in_commit = True
            return {"before": before, "half": "inside COMMIT", "after": "inside COMMIT"}
        if call.op == "sync" and self._in_commit:
            self._in_commit = False
            after: Window = "after confirmation" if self._written else "after COMMIT, before the ack"
            self._written = False
            return {"before": "inside COMMIT", "half": after, "after": after}
        return _all("checkpoint")

    def _sink(self, call: Call) -> Mapping[Where, Window]:
        if call.op == "write":
            self._written = True
            return {"before": "before a sink write", "half": "mid-row", "after": "between write and sync"}
        if call.op == "sync" and self._written:
            return {"before": "between write and sync", "half": "between write and confirmation",
                    "after": "between write and confirmation"}
        return _all("opening a sink")


def _all(window: Window) -> Mapping[Where, Window]:
    return dict.fromkeys(WHERE, window)


def windows(calls: Sequence[Call], sinks: frozenset[str]) -> Iterator[tuple[Call, Mapping[Where, Window]]]:
    """Each call of one process with its windows."""
    watch = Watch(sinks)
    for call in calls:
        if call.is_call:
            yield call, watch.window(call)


def places(calls: Sequence[Call], sinks: frozenset[str]) -> dict[Window, list[tuple[int, Where]]]:
    """By window, where a process can be killed in it: the number of a call, and before, in or after it."""
    found: dict[Window, list[tuple[int, Where]]] = defaultdict(list)
    for call, at in windows(calls, sinks):
        for where in WHERE:
            if where != "half" or call.op == "write":
                found[at[where]].append((call.number, where))
    return dict(found)


def reached(calls: Sequence[Call], sinks: frozenset[str]) -> Window:
    """The window in which the last process of a journal ended: where its plan struck, or after its last call."""
    mine = [call for call in calls if call.process == calls[-1].process] if calls else []
    last: Window = "elsewhere"
    struck = WHERE[mine[-1].offset] if mine and mine[-1].op == "killed" else "after"
    watch = Watch(sinks)
    for call in mine:
        if call.is_call:
            last = watch.window(call)[struck if call.number == mine[-1].number else "after"]
    if struck == "before" and mine:
        last = _before(mine, watch)
    return last


def _before(mine: Sequence[Call], watch: Watch) -> Window:
    """The window before a call that was never made."""
    end = mine[-1]
    return watch.window(end._replace(op=OPS[end.length - 1]))["before"]
