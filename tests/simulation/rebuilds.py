"""A rebuild of the read tables by the real command, every call of it known; and what is made of it when it is killed at one.

Invariant: what a kill leaves is what the calls before it left; the machine has not been started anew, so it is gone on with.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from counterfoil.ledgers import keeping_of
from projections import catch_up as catching
from projections.projectors import run_projector
from projections.rebuild import Progress, Rebuild, rebuild
from projections.sqlite_shelf import generation
from tests.kit.log import Log
from tests.ledger import lawful, lawful_groups, lawful_many
from tests.projections import apart
from tests.projections.shelves import Dump, dump_of, named
from tests.simulation import power
from tests.simulation.children import LEDGER, Place, ended
from tests.simulation.crashes import OFTEN
from tests.simulation.disk import Disk, put
from tests.simulation.journal import Call
from tests.simulation.pipelines import ALL

RUNS = ("small", "middle", "large", "last")
WAYS: Sequence[tuple[str, ...]] = ((), ("--processes", "2"), ("--run", "middle"))


def logs() -> list[Log]:
    """Runs of different sizes."""
    made = [lawful.one_row(), lawful_groups.two_groups_a_row(), lawful.many_rows(30), lawful_many.batch_rejected()]
    return [named(log, run) for log, run in zip(made, RUNS, strict=True)]


EVENTS = sum(len(log.said) for log in logs())


@dataclass(frozen=True)
class Rebuilt:
    """What there was before the command, its calls, and the rows that readers saw before and after."""

    folder: Path
    before: dict[str, bytes]
    inodes: dict[str, int]
    calls: Sequence[Call]
    rows: Dump
    only: str | None
    """The one run that is made again, or None for all."""

    @property
    def events(self) -> int:
        """How many there are to project."""
        return sum(len(log.said) for log in logs() if self.only in (None, log.run))


class Found(NamedTuple):
    """One kill, after so many calls: what readers take, what was left to project, and what was wrong."""

    position: int
    generation: str
    total: int
    wrong: list[str]


def told(base: Path, library: Path, way: Sequence[str]) -> Rebuilt:
    """Rebuild by the command, and write down every call."""
    place = Place(base, ALL["quarantine"], library, OFTEN, data=True)
    place.folder.mkdir(parents=True)
    apart.real(place.folder, None, logs())
    assert rebuilt(place.folder) == EVENTS
    before = power.files_in(place.folder)
    inodes = {name: (place.folder / name).stat().st_ino for name in before}
    rows = seen(place.folder)[1]
    said = ended(place.start("rebuild", *way))
    assert said.code == 0, said.err
    assert seen(place.folder)[1] == rows
    return Rebuilt(place.folder, before, inodes, place.calls(), rows, way[1] if "--run" in way else None)


def rebuilt(folder: Path, processes: int = 1, run: str | None = None) -> int:
    """Rebuild here; gives how many events there were to project."""
    progress: list[Progress] = []
    store, shelf = apart.opened(f"sqlite:///{folder / LEDGER}")
    try:
        helpers = apart.processes(store.url, processes) if processes > 1 else None
        rebuild(store, shelf, Rebuild(run_projector(), progress.append, helpers), run)
        assert catching.differences(store, shelf) == []
    finally:
        store.close()
    return progress[0].total


def seen(folder: Path) -> tuple[str, Dump]:
    """The generation that readers take, and every row of it."""
    found = generation(folder / LEDGER)
    assert found is not None
    with keeping_of(f"sqlite:///{folder / LEDGER}").shelf().open(str(found)) as tables:
        return found.name, dump_of(tables)


def killed(story: Rebuilt, positions: Sequence[int]) -> Iterator[Found]:
    """Kill it after so many calls, each time from the beginning, and go on with what is left."""
    disk, played = Disk(story.before, story.inodes), 0
    for position in sorted(positions):
        for call in story.calls[played:position]:
            disk.play(call)
        played = position
        put({name: content for name, content in disk.whole().items() if name.startswith(LEDGER)}, story.folder)
        yield _look(story, position)


def _look(story: Rebuilt, position: int) -> Found:
    wrong = []
    name, rows = seen(story.folder)
    if rows != story.rows:
        wrong.append("readers saw other rows")
    total = rebuilt(story.folder, run=story.only)
    if total > story.events:
        wrong.append(f"{total} events were projected again, of {story.events}")
    if seen(story.folder)[1] != story.rows:
        wrong.append("the next rebuild made other rows")
    wrong += [f"left {one.name}" for one in story.folder.iterdir() if ".new" in one.name or "compared" in one.name]
    return Found(position, name, total, wrong)


def drawn(story: Rebuilt, count: int, seed: str) -> list[int]:
    """So many places among the calls, the first and the last among them."""
    chance, last = random.Random(seed), len(story.calls)
    return sorted({0, last, *(chance.randint(0, last) for _ in range(count - 2))})


