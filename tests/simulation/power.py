"""Power cuts: from one journalled run, what any of its moments might have left on the disk, and what is made of it.

At each cut the disk is put together (`disk`), then:
- the ledger opens, or nothing of the run was acknowledged; it is lawful, every byte as committed;
- the run's log is a beginning of what was written, and holds everything that was acknowledged;
- every confirmed sink write of it has its bytes in the file (law R4);
- the run is carried on in this process, and leaves what the uncut run left.

Invariant: position and seed name a cut; the same ones make the same disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

import counterfoil
from counterfoil.ledgers import Ledger
from engine import binding
from engine import run as running
from engine.loop import Hooks
from engine.ports import system
from ledger import ids, verify
from ledger.errors import CounterfoilError
from ledger.replay import replay
from ledger.sqlite_store import SqliteStore
from ledger.world import artifacts
from tests.simulation import journal, left
from tests.simulation.child import Broken, Knobs
from tests.simulation.children import LEDGER, RUN, Place
from tests.simulation.disk import SHARED_MEMORY, Disk, put
from tests.simulation.interposer import Plan
from tests.simulation.journal import Call
from tests.simulation.left import Left
from tests.simulation.pipelines import FILE, Pipeline

THROUGH_THE_DOORS = 25
"""One cut in so many."""
URL = f"sqlite:///{LEDGER}"


@dataclass(frozen=True)
class Story:
    """A run whose every call is known (it may have been killed and resumed on the way), and what it came to."""

    place: Place
    before: dict[str, bytes]
    inodes: dict[str, int]
    calls: Sequence[Call]
    bodies: Sequence[bytes]
    left: Left
    after: dict[str, bytes]
    has_failed_commits: bool
    """Then what was attempted has branches: a commit that failed may stand on the disk until it is written over."""

    def disk(self) -> Disk:
        """The disk before the first call."""
        return Disk(self.before, self.inodes)

    def acknowledged(self, position: int) -> int:
        """How many events of the run a commit had returned for."""
        return max((journal.acknowledged(call, RUN) for call in self.calls[:position]), default=0)


def told(base: Path, pipeline: Pipeline, library: Path, *, rows_per_commit: int = 10, broken: Broken | None = None,
         plans: Sequence[Plan] = ()) -> Story:
    """Run a pipeline, under these plans and then to its end, and write down every call."""
    knobs = Knobs(rows_per_commit=rows_per_commit, marks=True, broken=broken)
    place = Place(base, pipeline, library, knobs, data=True).made()
    before = files_in(place.folder)
    inodes = {name: (place.folder / name).stat().st_ino for name in before}
    ended = place.run(plans[0] if plans else None)
    for plan in (*plans[1:], *([None] if plans else [])):
        if ended.code == 0:
            break
        ended = place.resume(plan)
    assert ended.code == 0, ended.err
    after = files_in(place.folder)
    store = SqliteStore(place.folder / LEDGER, write=False)
    try:
        bodies = [stored.body for stored in store.read(RUN)]
        found = left.in_files(left.ends_in_log(store, RUN)[0], place.folder, pipeline)
    finally:
        store.close()
    return Story(place, before, inodes, place.calls(), bodies, found, after,
                 any(plan.kind != "kill" for plan in plans))


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path, but for SQLite's shared memory."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(SHARED_MEMORY))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


class Cut(NamedTuple):
    """One cut: after so many calls of the story, with a seed; what was wrong, and what was found of the run."""

    position: int
    seed: str
    wrong: list[str]
    found: int
    acknowledged: int


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """With this working directory, to which a pipeline's paths are relative."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def positions(story: Story, count: int, chance: Random) -> list[int]:
    """So many places to cut: half of them right at a sync or a mark, where what is promised changes; few before the run."""
    begun = next(place for place, call in enumerate(story.calls) if journal.acknowledged(call, RUN))
    ended = max(place for place, call in enumerate(story.calls) if journal.acknowledged(call, RUN))
    edges = [place for place, call in enumerate(story.calls) if begun <= place <= ended and call.op != "write"]
    drawn = [chance.randint(0, begun) for _ in range(count // 20)]
    drawn += [chance.randint(ended, len(story.calls)) for _ in range(count // 20)]
    drawn += [chance.choice(edges) + chance.choice((0, 0, 1)) for _ in range(count // 2)]
    return sorted(drawn + [chance.randint(begun, ended) for _ in range(count - len(drawn))])


def cut(story: Story, places: Iterable[int], seed: str, *, resuming: bool = True) -> Iterator[Cut]:
    """Cut the story at these places. The journalled run's folder is where each disk is put."""
    disk, played = story.disk(), 0
    with working_in(story.place.folder):
        for number, position in enumerate(sorted(places)):
            for call in story.calls[played:position]:
                disk.play(call)
            played = position
            one = f"{seed}/{number}"
            yield look(story, disk, position, one, resuming=resuming)


def once(story: Story, position: int, seed: str) -> Cut:
    """One cut again, by its position and its seed."""
    disk = story.disk()
    for call in story.calls[:position]:
        disk.play(call)
    with working_in(story.place.folder):
        return look(story, disk, position, seed, resuming=True)


def look(story: Story, disk: Disk, position: int, seed: str, *, resuming: bool) -> Cut:
    """Put what is left of the disk into the folder, and look."""
    put(disk.left(Random(seed)), story.place.folder)
    acknowledged = story.acknowledged(position)
    wrong: list[str] = []
    found = 0
    try:
        found = _look(story, acknowledged, wrong)
        if resuming and not wrong and Random(f"{seed}/doors").random() < 1 / THROUGH_THE_DOORS:
            _through_the_doors(found, wrong)
        if resuming and not wrong:
            _carry_on(story, found, wrong)
    except CounterfoilError as error:
        wrong.append(f"{type(error).__name__}: {error}")
    return Cut(position, seed, wrong, found, acknowledged)


def _look(story: Story, acknowledged: int, wrong: list[str]) -> int:
    """What is in the ledger; gives the events of the run that are there."""
    path = Path(LEDGER)
    if not path.exists():
        if acknowledged:
            wrong.append(f"lost: the ledger, with {acknowledged} events acknowledged")
        return 0
    store = SqliteStore(path, write=False)
    try:
        bodies = [stored.body for stored in store.read(RUN)]
        if len(bodies) < acknowledged:
            wrong.append(f"lost: {len(bodies)} events found, {acknowledged} acknowledged")
        known = bodies[:acknowledged] if story.has_failed_commits else bodies
        if known != list(story.bodies[:len(known)]):
            wrong.append("the log is no beginning of the one that was written")
        wrong += [f"integrity: {one}" for stream in (ids.LEDGER_STREAM, RUN) for one in verify.integrity(store, stream)
                  if bodies or stream != RUN]
        if bodies:
            wrong += [f"law: {one}" for one in replay(store, RUN, deep=True).verdict.findings]
            wrong += [f"lost: {one}" for one in artifacts(store, RUN, _read)]
        return len(bodies)
    finally:
        store.close()


def _read(uri: str, offset: int, length: int) -> bytes:
    with Path(uri).open("rb") as file:
        file.seek(offset)
        return file.read(length)


def _through_the_doors(found: int, wrong: list[str]) -> None:
    """To the end by the public functions, with read tables, which may be torn; then `_carry_on` finds a closed run."""
    if found:
        counterfoil.resume(RUN, ledger=URL)
    else:
        counterfoil.run(FILE, run_id=RUN, ledger=URL)
    wrong += left.unsound(URL, RUN)


def _carry_on(story: Story, found: int, wrong: list[str]) -> None:
    """To the end, from what is there: by the doors' own steps, but for the read tables, which would take most of the time.

    One cut in so many has gone through the doors themselves before.
    """
    ports = system()
    prepared = binding.prepare(FILE, ports)
    pipeline = binding.bound(prepared)
    opening = binding.opening(prepared, pipeline, ports, RUN, resumed=found > 0)
    with Ledger.create(URL) as ledger:
        begin = running.start if ledger.store.head(RUN) is None else running.resume
        begin(ledger.store, opening, pipeline, ports, Hooks())
        verdict = replay(ledger.store, RUN, deep=True).verdict
        wrong += [f"law: {one}" for one in verdict.findings]
        wrong += [f"integrity: {one}" for one in verify.integrity(ledger.store, RUN)]
        wrong += [f"lost: {one}" for one in artifacts(ledger.store, RUN, _read)]
        ends, count = left.ends_in_log(ledger.store, RUN)
    if count.without or count.twice or not verdict.sealed:
        wrong.append(f"{count.without} tokens without an end, {count.twice} with two; the run is {verdict.status}")
    here = left.in_files(ends, Path(), story.place.pipeline)
    wrong += left.differences(story.place.pipeline, here, story.left)
