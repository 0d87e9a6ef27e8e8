"""Two resumes of one run, and the first process that was taken for dead: stopped, robbed of its lock, and woken later.

What has to come of it: at most one carries on, by the epoch; the others say who holds the run, or that it is done; the one
that wakes appends nothing and says FENCED; then the run is finished, and is the uncut run.

A file sink holds a lock on its file as long as its process lives, stopped or not. So while the zombie is there a resume may
be refused by its sinks (SINK_FAILED): that is what is promised, and counted here. A process that was stopped in the midst
of a commit holds SQLite's own lock: nobody gets past it, and it has not been overtaken when it wakes.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from typing import NamedTuple

from counterfoil.ledgers import Ledger
from ledger.store import StreamHead
from tests.kit.postgres_databases import connected
from tests.simulation import journal, windows
from tests.simulation.children import LEDGER, RESUMING, RUN, RUNNING, Ended, Place, ended
from tests.simulation.crashes import Cut, Uncut, finish
from tests.simulation.interposer import Plan

RIVALS = 2
REFUSED = ("LEDGER_BUSY", "RUN_HELD", "FENCED", "SINK_FAILED")
"""What a rival may say that did not carry the run on."""


class Woken(NamedTuple):
    """What came of it: `said` counts how the rivals and the zombie ended."""

    cut: Cut
    said: Counter[str]


def begun_at(known: Uncut) -> int:
    """The number of the call after which the run is in the ledger."""
    return next(call.number for call in known.calls if journal.acknowledged(call, RUN))


def sealed_at(known: Uncut) -> int:
    """The number of the call after which it is sealed. A process that is stopped later may hold the lock of the read tables,
    for which everyone waits."""
    return max(call.number for call in known.calls if journal.acknowledged(call, RUN))


def stopped(child: subprocess.Popen[str]) -> bool:
    """Wait until a child has stopped (True) or ended."""
    found = os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return found is not None and found.si_code == os.CLD_STOPPED


def woken(place: Place, plan: Plan, known: Uncut) -> Woken:
    """Stop a run by a plan, let two others resume it at the same time, wake it, and finish."""
    cut, said = Cut(), Counter[str]()
    zombie = place.start(*RUNNING, plan=plan)
    try:
        if not stopped(zombie):
            cut.wrong.append(f"it ended before {plan}: {ended(zombie).err}")
            return Woken(cut, said)
        cut.reached.append(windows.reached(place.calls(), known.sinks(place.pipeline)))
        _rob(place, zombie)
        rivals = [place.start(*RESUMING, watched=False) for _ in range(RIVALS)]
        told = [ended(one) for one in rivals]
        before = _head(place)
        os.kill(zombie.pid, signal.SIGCONT)
        last = ended(zombie)
    finally:
        if zombie.poll() is None:
            zombie.kill()
            zombie.wait()
    _judge(told, last, before, _head(place), cut, said)
    finish(place, known, cut)
    return Woken(cut, said)


def _rob(place: Place, zombie: subprocess.Popen[str]) -> None:
    """Take its lock from a process that cannot help it: a file's name; on PostgreSQL its session, as when a network goes."""
    if place.database is None:
        (place.folder / f"{LEDGER}.lock").unlink()
        return
    with connected(place.database) as connection:
        connection.execute("SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE application_name LIKE %s",
                           (f"counterfoil %:{zombie.pid}",))


def _head(place: Place) -> StreamHead:
    with Ledger(place.url) as ledger:
        head = ledger.store.head(RUN)
    assert head is not None
    return head


def _judge(rivals: list[Ended], zombie: Ended, before: StreamHead, after: StreamHead, cut: Cut, said: Counter[str]) -> None:
    for one in (*rivals, zombie):
        cut.wrong += one.faults()
    for one in rivals:
        said[f"rival {one.error or one.code}"] += 1
        if one.code and one.error not in REFUSED:
            cut.wrong.append(f"a rival said {one.err[-300:]}")
    said[f"zombie {zombie.error or zombie.code}"] += 1
    overtaken = before.epoch > 1
    if overtaken and after != before:
        cut.wrong.append(f"the zombie appended: {before.size} events before, {after.size} after")
    if overtaken and (zombie.code, zombie.error) != (6, "FENCED"):
        cut.wrong.append(f"the zombie was overtaken, exit {zombie.code}: {zombie.err[-300:]}")
    if not overtaken and zombie.code != 0:
        cut.wrong.append(f"the zombie was not overtaken, exit {zombie.code}: {zombie.err[-300:]}")
    said["overtaken" if overtaken else "not overtaken"] += 1
