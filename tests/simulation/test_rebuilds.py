"""A rebuild of the read tables is killed: readers find the old ones whole, or the new ones; the next one goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.simulation import rebuilds
from tests.simulation.children import LEDGER, Place, ended
from tests.simulation.crashes import OFTEN
from tests.simulation.pipelines import ALL
from tests.simulation.rebuilds import EVENTS, WAYS

KILLS = {(): 50, ("--processes", "2"): 20, ("--run", "middle"): 20}


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_at_whatever_call_a_rebuild_is_killed_readers_see_whole_tables_and_the_next_one_goes_on(
    tmp_path: Path, library: Path, way: tuple[str, ...]
) -> None:
    """W13, F5: the real command, from its first file to the removal of the last: the same rows, of one generation; what is
    done is not done again, no row is doubled and nothing is left in the end. Two processes are killed at once.
    """
    story = rebuilds.told(tmp_path / "place", library, way)
    assert len(story.calls) > KILLS[way]
    found = list(rebuilds.killed(story, rebuilds.drawn(story, KILLS[way], "1")))
    assert [one for one in found if one.wrong] == []
    names = [one.generation for one in found]
    assert (names == sorted(names), len(set(names))) == (True, 2)
    killed_before_the_swap = [one.total for one in found if one.generation == names[0]]
    assert min(killed_before_the_swap) < story.events / 2
    if not way:
        assert len(set(killed_before_the_swap)) == len(rebuilds.RUNS) + 1
        assert killed_before_the_swap == sorted(killed_before_the_swap, reverse=True)


@pytest.mark.parametrize("victim", ["parent", "child"])
def test_one_of_two_processes_killed_from_outside_leaves_whole_tables(
    tmp_path: Path, library: Path, victim: str
) -> None:
    """W13, F5: an orphan ends by itself, and whoever rebuilds next waits for its part; a dead child is told by name."""
    story = rebuilds.told(tmp_path / "place", library, ())
    place = Place(tmp_path / "place", ALL["quarantine"], library, OFTEN)
    parent = place.start("rebuild", "--processes", "2", watched=False)
    child = holding(place.folder)
    os.kill(parent.pid if victim == "parent" else child, signal.SIGKILL)
    told = ended(parent)
    if victim == "child" and told.code:  # else it was done when it was killed
        assert (told.code, told.error, told.faults()) == (6, "REBUILD_STOPPED", [])
    assert rebuilds.seen(place.folder)[1] == story.rows
    assert rebuilds.rebuilt(place.folder, 2) <= EVENTS
    assert rebuilds.seen(place.folder)[1] == story.rows
    assert [one.name for one in place.folder.iterdir() if ".new" in one.name] == []


def holding(folder: Path) -> int:
    """The process that holds the lock of the first part, as soon as there is one."""
    lock = folder / f"{LEDGER}.read.new.0.lock"
    for _ in range(3_000_000):
        text = lock.read_text(encoding="ascii") if lock.exists() else ""
        if text:
            return int(text)
    raise AssertionError("nobody takes the part")
