"""One run that is cut by faults and carried on until it is finished, against the same run uncut.

Why real processes: what a kill leaves behind is decided by the kernel, by SQLite and by the interpreter, none of which a
double of ours would copy.

Invariant: `acknowledged` is part of `recovered` is part of `attempted`; in the end the same tokens with the same ends, and
the same bytes in every sink (an effect, and a loose sink, may have done a thing again under its key).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from counterfoil.ledgers import Ledger
from ledger import events as e
from ledger import reader
from ledger.fold.steps import PROCESS_DIED
from tests.simulation import journal, left, windows
from tests.simulation.child import Knobs
from tests.simulation.children import RUN, Ended, Place
from tests.simulation.interposer import Plan
from tests.simulation.left import Left
from tests.simulation.pipelines import TOLD, Pipeline
from tests.simulation.windows import Window

OFTEN = Knobs(rows_per_commit=10, marks=True)
FAULTS = (errno.EIO, errno.ENOSPC, errno.EROFS)
TYPED = (0, 4, 6)
"""How a command may end on a disk that fails: done all the same, the run incomplete, the ledger not to be used."""


class Uncut(NamedTuple):
    """A run that nothing happened to: what it left, and the calls it made."""

    left: Left
    calls: list[journal.Call]

    def sinks(self, pipeline: Pipeline) -> frozenset[str]:
        """The files that are sinks."""
        return frozenset(pipeline.sinks.values())


@dataclass
class Cut:
    """What came of a run that was cut."""

    wrong: list[str] = field(default_factory=list)
    reached: list[Window] = field(default_factory=list)
    without: int = 0
    twice: int = 0
    differing_sinks: int = 0
    died: bool = False
    """A step failed because three processes had died in it: then its row's end is another than that of the uncut run."""
    unnoticed: int = 0
    """Faults that no exit code told of (they struck where nothing is lost by them)."""
    errors: list[str] = field(default_factory=list)


def uncut(base: Path, pipeline: Pipeline, library: Path, knobs: Knobs | None = OFTEN, database: str | None = None) -> Uncut:
    """Run it once, undisturbed."""
    place = Place(base, pipeline, library, knobs, database=database).made()
    told = place.run()
    assert told.code == 0, told.err
    found = left.left(place.folder, pipeline, place.url, RUN)
    assert left.unsound(place.url, RUN) == []
    return Uncut(found, place.calls())


def crash(place: Place, plans: Sequence[Plan], known: Uncut) -> Cut:
    """Run under the first plan, carry on under the others, then without any until it is finished; and compare."""
    cut = Cut()
    for number, plan in enumerate(plans):
        told = place.run(plan) if number == 0 else place.resume(plan)
        _look(place, plan, told, cut)
        if told.code == 0:
            break
    finish(place, known, cut)
    return cut


def _look(place: Place, plan: Plan, told: Ended, cut: Cut) -> None:
    """How a process under a plan ended."""
    calls = place.calls()
    if calls and calls[-1].op == "killed":
        killed(place, told, cut)
        return
    cut.wrong += told.faults()
    if plan.kind == "kill" or not any(one.error in FAULTS for one in _mine(calls)):
        return
    cut.reached.append(windows.reached(_until_the_fault(calls), frozenset(place.pipeline.sinks.values())))
    if told.code not in TYPED:
        cut.wrong.append(f"exit {told.code} under {plan}: {told.err[-300:]}")
    cut.unnoticed += told.code == 0
    cut.errors.append(told.error or "none")
    cut.wrong += _used_again(calls)
    _keeps(place, calls, cut)


def killed(place: Place, told: Ended, cut: Cut) -> None:
    """What a process that was killed left: everything that was acknowledged."""
    calls = place.calls()
    if told.code == 0:
        return
    if told.code != -9:
        cut.wrong.append(f"exit {told.code} where it was to be killed: {told.err[-300:]}")
    cut.reached.append(windows.reached(calls, frozenset(place.pipeline.sinks.values())))
    _keeps(place, calls, cut)


def _keeps(place: Place, calls: list[journal.Call], cut: Cut) -> None:
    """What was acknowledged has to be there."""
    acknowledged = max((journal.acknowledged(call, RUN) for call in calls), default=0)
    if not acknowledged:
        return
    with Ledger(place.url) as ledger:
        head = ledger.store.head(RUN)
    if head is None or head.size < acknowledged:
        cut.wrong.append(f"lost: {acknowledged} events were acknowledged, found {head.size if head else 0}")


def _mine(calls: list[journal.Call]) -> list[journal.Call]:
    return [call for call in calls if call.process == calls[-1].process] if calls else []


def _until_the_fault(calls: list[journal.Call]) -> list[journal.Call]:
    """The last process's calls up to the one that was refused (or all, when it was killed)."""
    mine = _mine(calls)
    place = next((n for n, call in enumerate(mine) if call.error in FAULTS), len(mine) - 1)
    return mine[:place + 1]


def _used_again(calls: list[journal.Call]) -> list[str]:
    """After a sync failed, nothing more may be written to that sink, and nothing acknowledged on that ledger.

    An effect opens its file anew for each attempt, and may be tried again; a database looks after its own.
    """
    mine = _mine(calls)
    failed = next((call for call in mine if call.op == "sync" and call.error in FAULTS), None)
    if failed is None:
        return []
    later = mine[mine.index(failed) + 1:]
    if failed.path == windows.WAL:
        return [f"acknowledged after a sync of the log failed: {one.path}" for one in later if one.path.startswith("ack ")]
    return [f"written after a sync failed: {one.path}" for one in later
            if one.op == "write" and one.path == failed.path and one.path.startswith("out/")
            and not one.path.endswith((TOLD, ".db"))]


def finish(place: Place, known: Uncut, cut: Cut) -> None:
    """Carry the run on without faults, until it is finished, and compare."""
    told = place.resume()
    cut.wrong += told.faults()
    if told.code:
        cut.wrong.append(f"not finished by a resume without faults: exit {told.code}, {told.err[-300:]}")
    else:
        compare(place, known, cut)


def compare(place: Place, known: Uncut, cut: Cut) -> None:
    """What a finished run left, against the uncut one."""
    cut.wrong += left.unsound(place.url, RUN)
    with Ledger(place.url) as ledger:
        count = left.counted(ledger.store, RUN)
        cut.died = any(isinstance(event, e.Diverted) and event.code == PROCESS_DIED
                       for _, event in reader.events(ledger.store, RUN))
    cut.without, cut.twice = count.without, count.twice
    if cut.died:
        return
    differs = left.differences(place.pipeline, left.left(place.folder, place.pipeline, place.url, RUN), known.left)
    cut.differing_sinks = sum(one.startswith("sink ") for one in differs)
    cut.wrong += differs
