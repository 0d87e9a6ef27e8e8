"""A process that was taken for dead wakes when others have carried its run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation import crashes, zombies
from tests.simulation.children import Place
from tests.simulation.conftest import UncutOf
from tests.simulation.interposer import Plan
from tests.simulation.pipelines import ALL


@pytest.mark.parametrize(("name", "refused"), [("loose", False), ("appends", True)])
def test_of_two_resumes_one_wins_and_the_process_that_wakes_appends_nothing(
        name: str, refused: bool, tmp_path: Path, library: Path, uncut: UncutOf) -> None:
    """W5, G13, G7, law L3: the epoch decides; a file sink's lock keeps all others out while the zombie is there."""
    known = uncut(name)
    place = Place(tmp_path, ALL[name], library, crashes.OFTEN).made()
    found = zombies.woken(place, Plan("stop", 4, "after", f"sync:{ALL[name].sinks['good']}"), known)
    assert found.cut.wrong == []
    assert found.said["overtaken"] == 1
    assert found.said["zombie FENCED"] == 1
    assert (found.said["rival SINK_FAILED"] > 0) == refused
