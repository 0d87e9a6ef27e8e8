"""Power cuts at any moment of a run: a beginning of the log with everything acknowledged, and every confirmed byte."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random

import pytest

from tests.simulation import power
from tests.simulation.child import Broken
from tests.simulation.interposer import Plan
from tests.simulation.pipelines import ALL

CUTS = 20
CONTROL_CUTS = 40


def _cut(story: power.Story, seed: str, count: int, *, resuming: bool = True) -> list[power.Cut]:
    return list(power.cut(story, power.positions(story, count, Random(seed)), seed, resuming=resuming))


def test_a_power_cut_loses_nothing_that_was_acknowledged(everything: power.Story) -> None:
    """W3, G13, D9, law P3, law R4: what is left opens, is lawful, has its sinks' bytes, is carried on to the uncut end."""
    found = _cut(everything, "everything", CUTS)
    assert [one for one in found if one.wrong] == []
    assert any(0 < one.found < len(everything.bodies) for one in found)


def test_a_power_cut_of_a_run_that_was_killed_and_resumed_loses_nothing_either(tmp_path: Path, library: Path) -> None:
    """W3, G13, law P3, law R4: the kernel still held what the killed one wrote; the cut of a sink on resume is durable."""
    story = power.told(tmp_path, ALL["appends"], library, plans=[
        Plan("kill", 5, "half", "first:out/good.csv"), Plan("kill", 2, "after", "sync:out/bad.jsonl")])
    assert sum(call.op == "killed" for call in story.calls) == 2
    assert [one for one in _cut(story, "killed", CUTS // 2) if one.wrong] == []


def test_a_power_cut_loses_no_confirmed_write_of_a_database(tmp_path: Path, library: Path) -> None:
    """W3, G13, law R3: its commit is durable before the write is confirmed, the end of its journal too."""
    story = power.told(tmp_path, ALL["stored"], library)
    assert [one for one in _cut(story, "stored", 2 * CUTS) if one.wrong] == []


def test_a_commit_whose_sync_failed_is_written_again_before_it_is_relied_on(tmp_path: Path, library: Path) -> None:
    """W3, W4, G13, law P3: it stands in the kernel's cache, maybe never on the disk, and nobody took it back."""
    story = power.told(tmp_path, ALL["linear"], library, plans=[Plan("dies", 6, of="sync:ledger.db-wal")])
    assert [call.op for call in story.calls if call.error == errno.EIO or call.op == "killed"] == ["sync", "killed"]
    assert [one for one in _cut(story, "failed sync", 4 * CUTS) if one.wrong] == []


@pytest.mark.parametrize("broken", ["synchronous_normal", "sink_not_synced", "directory_not_synced"])
def test_what_makes_it_durable_is_needed(broken: Broken, tmp_path: Path, library: Path) -> None:
    """W3: controls: with one sync less than there is, power cuts lose something; else the harness would be blind."""
    story = power.told(tmp_path, ALL["linear"], library, broken=broken)
    found = _cut(story, broken, CONTROL_CUTS, resuming=False)
    lost = [text for one in found for text in one.wrong if text.startswith("lost: ")]
    assert lost
    assert any("R4" in text for text in lost) == (broken in ("sink_not_synced", "directory_not_synced"))
