"""A disk that is full, that cannot sync, that turns read-only, under the real program: an exit code, and resumable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.simulation import crashes, interposer, windows
from tests.simulation.children import LEDGER, Place
from tests.simulation.conftest import UncutOf
from tests.simulation.crashes import Uncut
from tests.simulation.interposer import Kind, Plan
from tests.simulation.pipelines import ALL
from tests.simulation.windows import Window

NAME = "array"

FAULTS: Sequence[tuple[Kind, Window, frozenset[str]]] = (
    ("full", "inside COMMIT", frozenset({"LEDGER_FULL"})),
    ("full", "before a sink write", frozenset({"LEDGER_FULL"})),
    ("full", "opening a sink", frozenset({"SINK_FAILED"})),
    ("full", "making the ledger", frozenset({"LEDGER_NOT_MADE"})),
    ("full", "read tables", frozenset({"READ_TABLES_FAULT"})),
    ("readonly", "making the ledger", frozenset({"LEDGER_NOT_MADE"})),
    ("readonly", "inside COMMIT", frozenset({"LEDGER_IO"})),
    ("readonly", "before a sink write", frozenset({"LEDGER_IO"})),
)
"""What is said when the ledger is on the same disk: that the write failed could not be put on record either."""


def _in(kind: Kind, known: Uncut, window: Window) -> Plan:
    """The first write of a run of writes, in the middle of those that lie in the window, or else any call there."""
    found = [interposer.at(kind, known.calls, call.number, "before")
             for call, at in windows.windows(known.calls, known.sinks(ALL[NAME])) if window in (at["before"], at["half"])]
    firsts = [plan for plan in found if plan.of.startswith("first:")] or found
    return firsts[len(firsts) // 2]


@pytest.mark.parametrize(("kind", "window", "errors"), FAULTS)
def test_a_disk_that_takes_no_more_is_said_and_the_run_goes_on_once_it_does(
        kind: Kind, window: Window, errors: frozenset[str], tmp_path: Path, library: Path, uncut: UncutOf) -> None:
    """W4, G13, law P3: a typed error, exit 4 or 6, nothing acknowledged is lost; mended, the run ends as the uncut one."""
    known = uncut(NAME)
    place = Place(tmp_path, ALL[NAME], library, crashes.OFTEN).made()
    cut = crashes.crash(place, [_in(kind, known, window)], known)
    assert cut.wrong == []
    assert cut.unnoticed == 0
    assert set(cut.errors) <= errors


@pytest.mark.parametrize(("path", "error"), [(windows.WAL, "LEDGER_IO"), ("out/good.json", "SINK_FAILED")])
def test_after_a_sync_that_failed_the_same_handle_is_not_trusted_again(
        path: str, error: str, tmp_path: Path, library: Path, uncut: UncutOf) -> None:
    """W4, G13, law P3: EIO on a sync of the log, of a sink: nothing acknowledged on that handle, nothing written to it."""
    known = uncut(NAME)
    syncs = sum(call.path == path and call.op == "sync" for call in known.calls)
    place = Place(tmp_path, ALL[NAME], library, crashes.OFTEN).made()
    cut = crashes.crash(place, [Plan("eio", syncs // 2, of=f"sync:{path}")], known)
    assert cut.wrong == []
    assert cut.errors == [error]


def test_a_ledger_is_whole_before_it_has_its_name_though_a_sync_of_its_log_failed(
        tmp_path: Path, library: Path, uncut: UncutOf) -> None:
    """W4, law P3: SQLite says nothing of a checkpoint that fails while it closes; what it left in the log would be lost."""
    known = uncut(NAME)
    path = f"{LEDGER}.new-wal"
    syncs = sum(call.path == path and call.op == "sync" for call in known.calls)
    place = Place(tmp_path, ALL[NAME], library, crashes.OFTEN).made()
    cut = crashes.crash(place, [Plan("eio", syncs, of=f"sync:{path}")], known)
    assert cut.wrong == []
