"""A rebuild of the read tables is killed: whoever reads finds the old ones whole, or the new ones whole."""

from __future__ import annotations

from pathlib import Path

from projections.read_tables import generation
from tests.projections.reading import dump
from tests.simulation import crashes, power
from tests.simulation.children import LEDGER, Place, ended
from tests.simulation.disk import Disk, put
from tests.simulation.pipelines import ALL


def test_at_whatever_call_a_rebuild_is_killed_readers_see_whole_tables(tmp_path: Path, library: Path) -> None:
    """W13, F5: the real command: from its first file to the removal of the last: the same rows, of one generation."""
    place = Place(tmp_path / "place", ALL["quarantine"], library, crashes.OFTEN, data=True).made()
    assert place.run().code == 0
    before, known = power.files_in(place.folder), len(place.calls())
    old = generation(place.folder / LEDGER)
    assert old is not None
    wanted = dump(old)
    inodes = {name: (place.folder / name).stat().st_ino for name in before}
    assert ended(place.start("rebuild")).code == 0
    new = generation(place.folder / LEDGER)
    assert new is not None
    disk, seen = Disk(before, inodes), []
    folder = tmp_path / "left"
    folder.mkdir()
    for call in place.calls()[known:]:
        disk.play(call)
        put({name: content for name, content in disk.whole().items() if name.startswith(LEDGER)}, folder)
        found = generation(folder / LEDGER)
        assert found is not None
        assert dump(found) == wanted, call
        seen.append(found.name)
    assert (set(seen), seen == sorted(seen)) == ({old.name, new.name}, True)
    assert len(seen) > 20
