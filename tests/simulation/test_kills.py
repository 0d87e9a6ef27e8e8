"""The real program is killed at exact calls, and carried on: the same ends and the same bytes as if nothing had happened."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from tests.simulation import crashes, interposer, windows
from tests.simulation.children import RUN, Place, ended
from tests.simulation.conftest import UncutOf
from tests.simulation.interposer import Plan
from tests.simulation.pipelines import ALL
from tests.simulation.windows import Window

WINDOWS: Sequence[tuple[Window, str]] = (
    ("making the ledger", "array"),
    ("before append", "gathers"),
    ("inside COMMIT", "everything"),
    ("after COMMIT, before the ack", "gathers"),
    ("opening a sink", "array"),
    ("before a sink write", "appends"),
    ("mid-row", "array"),
    ("between write and sync", "appends"),
    ("between write and confirmation", "everything"),
    ("after confirmation", "appends"),
    ("inside an effect", "everything"),
    ("read tables", "appends"),
)


def _drawn(name: str, window: Window, uncut: UncutOf) -> Plan:
    """A kill somewhere within that window: at a call on a sink if there is one, for how often the log is called depends on
    when effects answer."""
    known = uncut(name)
    there = windows.places(known.calls, known.sinks(ALL[name]))[window]
    plans = [interposer.at("kill", known.calls, number, where) for number, where in there]
    at_sinks = [plan for plan in plans if ":out/" in plan.of]
    return Random(window).choice(at_sinks or [plan for plan in plans if plan.of] or plans)


@pytest.mark.parametrize(("window", "name"), WINDOWS)
def test_a_run_that_is_killed_and_resumed_is_the_uncut_run(
        window: Window, name: str, tmp_path: Path, library: Path, uncut: UncutOf) -> None:
    """W1, W2, G13, D9, G7, law P3, law T1, law T3: whatever the window, nothing acknowledged is lost, nothing done twice."""
    place = Place(tmp_path, ALL[name], library, crashes.OFTEN).made()
    cut = crashes.crash(place, [_drawn(name, window, uncut)], uncut(name))
    assert cut.wrong == []
    assert cut.reached == [window]
    assert (cut.without, cut.twice, cut.differing_sinks, cut.died) == (0, 0, 0, False)


@pytest.mark.parametrize("window", ["between write and sync", "between write and confirmation"])
def test_a_sink_that_holds_nothing_back_gets_what_was_in_doubt_again_under_its_key(
        window: Window, tmp_path: Path, library: Path, uncut: UncutOf) -> None:
    """W2, law R3: each row once or twice, always behind the one key of its write; no row is missing."""
    place = Place(tmp_path, ALL["loose"], library, crashes.OFTEN).made()
    cut = crashes.crash(place, [_drawn("loose", window, uncut)], uncut("loose"))
    assert (cut.wrong, cut.reached) == ([], [window])
    lines = [line.split(" ", 1) for line in (place.folder / "out/good.txt").read_text(encoding="utf-8").splitlines()]
    times = Counter(row for _, row in lines)
    assert set(times.values()) == {1, 2}
    assert len({(key, row) for key, row in lines}) == len(times) == ALL["loose"].rows


def test_a_run_that_is_killed_again_while_it_is_resumed_is_still_the_uncut_run(
        tmp_path: Path, library: Path, uncut: UncutOf) -> None:
    """W2, G13, C4, law P3: three processes, two of them killed in the midst of a gather's rows."""
    place = Place(tmp_path, ALL["gathers"], library, crashes.OFTEN).made()
    plans = [_drawn("gathers", "between write and confirmation", uncut), Plan("kill", 60, "half")]
    cut = crashes.crash(place, plans, uncut("gathers"))
    assert cut.wrong == []
    assert (len(cut.reached), cut.died) == (2, False)


def test_the_commands_say_that_all_is_well_after_a_kill(tmp_path: Path, library: Path) -> None:
    """G13, F4, law P4: the program as it is started by hand, killed, resumed, and asked; a second resume appends nothing."""
    place = Place(tmp_path, ALL["quorum"], library).made()
    assert place.run(Plan("kill", 2, "half", f"first:{windows.WAL}")).code == -9
    told = place.resume()
    assert (told.code, told.faults()) == (0, [])
    again = place.resume()
    assert (again.code, again.error) == (0, "RUN_SEALED")
    receipt = next(line for line in told.out.splitlines() if line.startswith("receipt "))
    assert receipt in again.out.splitlines()
    replayed = ended(place.start("replay", RUN, "--deep", "-o", "json", watched=False))
    verified = ended(place.start("verify", RUN, "--expect", receipt.removeprefix("receipt "), "-o", "json", watched=False))
    assert (replayed.code, verified.code) == (0, 0), (replayed.err, verified.err)
    assert json.loads(replayed.out)["ok"] is True
    assert json.loads(verified.out)["ok"] is True
