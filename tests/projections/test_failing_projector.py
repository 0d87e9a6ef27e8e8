"""A projector that fails on an event stops there, says so, and marks what is incomplete; and one that changes is noticed."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from ledger import events as e
from ledger import upcasters
from ledger.fold import State
from ledger.versions import VERSIONS
from projections import catch_up as catching
from projections import project as projecting
from projections import projectors
from projections.answers import is_complete, show
from projections.explain import explain
from projections.projector import RunProjector
from projections.projectors import Projector, run_projector
from projections.rebuild import Rebuild, rebuild
from tests.house.tree import ROOT
from tests.ledger import lawful, lawful_groups
from tests.projections import apart
from tests.projections.shelves import BOTH, Dump, Kept, dump_of, kept, named, rebuilt

BAD, GOOD = "bad", "good"
BATCH = 6


class Failing(RunProjector):
    """Fails at an event of the run `of`, before or after it has made that event's rows."""

    def __init__(self, run: str, of: str, seq: int, *, after: bool, error: BaseException) -> None:
        super().__init__(run)
        self._seq = seq if run == of else 0
        self._after = after
        self._error = error

    def event(self, state: State, event: e.Event) -> None:
        """As it should be, but for one event."""
        if event.seq == self._seq and not self._after:
            raise self._error
        super().event(state, event)
        if event.seq == self._seq:
            raise self._error


def failing(seq: int, *, after: bool = True, error: BaseException | None = None) -> Projector:
    """A projector that fails at that event of the bad run."""
    error = error or ZeroDivisionError("division by\nzero")
    begin = partial(Failing, of=BAD, seq=seq, after=after, error=error)
    return run_projector()._replace(version=7, begin=begin, fingerprint=f"fails at {seq}")


def two(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Kept:
    """Two runs, of which one will not be told to its end."""
    return kept(request, tmp_path, database, named(lawful_groups.branch_lost(), BAD), named(lawful.three_rows(), GOOD))


def wanted(request: pytest.FixtureRequest, tmp_path: Path, seq: int) -> Dump:
    """The dump of the log cut before that event, and what is said of the event; the good run is whole."""
    log = named(lawful_groups.branch_lost(), BAD)
    folder = tmp_path / f"cut {seq}"
    folder.mkdir()
    cut = kept(request, folder, "sqlite", log, named(lawful.three_rows(), GOOD))
    cut.grow(BAD, seq - 1)
    cut.rebuild()
    found = dict(cut.dump())
    kind = type(log.said[seq - 1]).__name__
    found["violations"] = [*found["violations"], (
        BAD, "projector", seq, None, f"projector run 7 to project a {kind}", "ZeroDivisionError: division by zero")]
    return found


def without_ends(dump: Dump) -> Dump:
    """Of the bad run its row without the root and the event it is stuck at; places without who made them."""
    found = {view: [tuple(row) for row in rows] for view, rows in dump.items()}
    found["runs"] = [row for row in found["runs"] if BAD not in row]
    found["projection_places"] = []
    found["violations"] = [tuple(sorted(map(str, row))) for row in found["violations"]]
    return found


EVENTS = len(lawful_groups.branch_lost().said)
AT = (2, 3, BATCH - 1, BATCH, BATCH + 1, BATCH + 2, 2 * BATCH, 2 * BATCH + 1, EVENTS)


@BOTH
@pytest.mark.parametrize("way", ["caught up", "caught up over", "rebuilt"])
def test_the_run_is_told_to_the_event_before_and_others_to_their_end(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F5, W12, law P1: the rows are those of the log cut there, whether the event is the first, the last or within a batch,
    and whether rows of it were made before it failed; nothing is skipped.
    """
    monkeypatch.setattr(projecting, "EVENTS_PER_BATCH", BATCH)
    for seq in AT if database == "sqlite" else (BATCH, BATCH + 1, BATCH + 2, EVENTS):
        ledger = two(request, tmp_path, database)
        projector = failing(seq, after=seq % 2 == 0)
        if way == "caught up over":
            ledger.grow(BAD, seq - 1)
            ledger.catch_up(projector)
            ledger.grow(BAD)
        if way == "rebuilt":
            ledger.rebuild(projector=projector)
        else:
            ledger.catch_up(projector)
        found = ledger.dump()
        assert without_ends(found) == without_ends(wanted(request, made(tmp_path, way), seq))
        with ledger.reading() as tables:
            assert tables.select("SELECT events, root, unreadable_from_seq FROM runs WHERE run_id = ?", (BAD,)) == [
                (seq - 1, None, seq)]
            assert [is_complete(tables, run) for run in (BAD, GOOD, None)] == [False, True, False]
            assert [show(tables, run)["complete"] for run in (BAD, GOOD)] == [False, True]
            if seq > BATCH:
                assert explain(tables, ledger.store, BAD, "0")["complete"] is False
        assert catching.standing(ledger.store, ledger.shelf, projector, ledger.shelf.generation()).state == "incomplete"
        assert catching.differences(ledger.store, ledger.shelf, projector=projector) == []


def made(folder: Path, name: str) -> Path:
    """A folder in it."""
    path = folder / name
    path.mkdir(exist_ok=True)
    return path


@BOTH
def test_a_run_that_is_stuck_is_not_tried_again_in_vain_and_is_told_by_a_mended_projector(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """F5: also when it grows; with another fingerprint everything is told again, and both are named."""
    ledger = two(request, tmp_path, database)
    tried: list[int] = []
    projector = failing(BATCH)

    def begin(run: str) -> RunProjector:
        tried.extend([1] * (run == BAD))
        return projector.begin(run)

    counting = projector._replace(begin=begin)
    ledger.grow(BAD, BATCH + 1)
    ledger.grow(GOOD, 5)
    name = ledger.catch_up(counting)
    once = len(tried)
    before = ledger.dump()
    for _ in range(3):
        assert ledger.catch_up(counting) == name
    ledger.grow(BAD)
    assert ledger.catch_up(counting) == name
    assert (len(tried), ledger.dump()) == (once, before)
    ledger.grow(GOOD)
    assert ledger.catch_up(counting) == name
    assert len(tried) == once
    assert ledger.said == []
    assert ledger.catch_up() != name
    stale, = ledger.said
    assert stale.startswith("READ_TABLES_STALE") and projector.fingerprint in stale and run_projector().fingerprint in stale
    assert ledger.dump() == rebuilt(tmp_path, named(lawful_groups.branch_lost(), BAD), named(lawful.three_rows(), GOOD))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_what_is_no_fault_of_the_projector_is_not_taken_for_one(
    request: pytest.FixtureRequest, tmp_path: Path, error: BaseException
) -> None:
    """F5: who stops the program stops it; memory that was short once says nothing of the event."""
    ledger = two(request, tmp_path, "sqlite")
    for work in (ledger.catch_up, lambda projector: ledger.rebuild(projector=projector)):
        with pytest.raises(type(error)):
            work(failing(BATCH, error=error))
        assert ledger.shelf.generation() is None
    ledger.catch_up()
    assert ledger.differences() == []


@BOTH
def test_several_processes_stop_where_one_does(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> None:
    """F5, W13: one of them meets the event; the rows are the same."""
    url = apart.real(tmp_path, request.getfixturevalue("postgres_url") if database == "postgresql" else None,
                     [named(lawful_groups.branch_lost(), BAD), named(lawful.three_rows(), GOOD)])
    found = []
    for helpers in (None, apart.processes(url, 2)):
        store, shelf = apart.opened(url)
        with closing(store):
            name = rebuild(store, shelf, Rebuild(failing(BATCH + 2), helpers=helpers))
            with shelf.open(name) as tables:
                found.append(dump_of(tables))
    assert found[0] == found[1]
    assert without_ends(found[0]) == without_ends(wanted(request, tmp_path, BATCH + 2))


# --- a projector that changes ------------------------------------------------------------------------------------------


class Shouting(RunProjector):
    """Makes another row: names of pipelines in capitals."""

    def event(self, state: State, event: e.Event) -> None:
        """As it should be, and then otherwise."""
        super().event(state, event)
        if isinstance(event, e.RunStarted):
            self.run[1] = event.pipeline.upper()


@BOTH
def test_tables_of_a_projector_that_changed_are_announced_and_brought_to_the_new_form(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """W13, F5: both fingerprints are named; who reads the old generation reads on; nothing is announced twice."""
    ledger = two(request, tmp_path, database)
    old = ledger.catch_up()
    changed = run_projector()._replace(version=2, begin=Shouting, fingerprint="0" * 16)
    standing = catching.standing(ledger.store, ledger.shelf, changed, old)
    assert standing.state == "stale"
    assert run_projector().fingerprint in standing.why and changed.fingerprint in standing.why
    with ledger.reading() as reader:
        before = reader.select("SELECT pipeline FROM runs")
        new = ledger.catch_up(changed)
        assert len(ledger.said) == 1 and standing.why in ledger.said[0]
        assert ledger.catch_up(changed) == new != old
        assert len(ledger.said) == 1
        assert reader.select("SELECT pipeline FROM runs") == before
    with ledger.reading() as tables:
        assert tables.select("SELECT pipeline FROM runs") == [(name.upper(),) for (name,) in before]
        assert tables.select("SELECT DISTINCT fingerprint FROM projection_places") == [(changed.fingerprint,)]
    assert catching.differences(ledger.store, ledger.shelf, projector=changed) == []
    assert {one.table for one in ledger.differences()} >= {"runs"}


@BOTH
def test_tables_that_tell_of_nothing_are_made_again_when_there_is_something_to_tell(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """F5: nothing in them says by whom they were made, perhaps in another form; nobody is told of it."""
    ledger = two(request, tmp_path, database)
    whole = dict(ledger.store._streams)  # type: ignore[attr-defined]
    for run in (BAD, GOOD):
        del ledger.store._streams[run]  # type: ignore[attr-defined]
    old = ledger.catch_up()
    assert ledger.catch_up() == old
    ledger.store._streams.update(whole)  # type: ignore[attr-defined]
    assert ledger.catch_up() != old
    assert (ledger.said, ledger.differences()) == ([], [])


MAKES_NO_ROW = frozenset({"ledger/__init__.py", "ledger/errors.py", "ledger/store.py", "projections/__init__.py",
                          "projections/projectors.py", "projections/read_tables.py", "projections/tally.py"})
"""What is imported for shapes, for errors, or to store what was made. Of views and of versions, what they come to counts."""
COUNTED_OTHERWISE = frozenset({"projections/views.py", "ledger/versions.py"})


def followed(path: str) -> set[str]:
    """A file and whatever of the log and the projections it imports, and so on."""
    seen: set[str] = set()
    left = {path}
    while left:
        seen.add(name := left.pop())
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("ledger", "projections"):
                folder = (node.module or "").replace(".", "/")
                named = {f"{folder}.py", f"{folder}/__init__.py", *(f"{folder}/{alias.name}.py" for alias in node.names)}
                left |= {one for one in named if (ROOT / one).is_file()} - seen
    return seen


def test_the_fingerprint_is_that_of_every_file_that_makes_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F5, W13: whatever file of the projector or the fold is changed; the same files elsewhere give the same."""
    for name in ("projections", "ledger"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    code: Callable[[], str] = projectors._code.__wrapped__
    here = code()
    monkeypatch.setattr(projectors, "__file__", str(tmp_path / "projections" / "projectors.py"))
    monkeypatch.setattr(upcasters, "__file__", str(tmp_path / "ledger" / "upcasters.py"))
    assert code() == here
    makes = followed("projections/project.py") - MAKES_NO_ROW - COUNTED_OTHERWISE
    assert len(makes) > 30
    for name in sorted(makes):
        path = tmp_path / name
        before = path.read_bytes()
        path.write_bytes(before + b"\n# changed\n")
        assert code() != here, name
        path.write_bytes(before)
    assert code() == here


def test_the_fingerprint_is_the_same_in_every_process_and_changes_with_what_is_read() -> None:
    """F5, W13: whatever the seed of its hashes; with another version, another shape of an event, another upcaster."""
    program = "from projections.projectors import run_projector; print(run_projector().fingerprint)"
    for seed in ("1", "2"):
        told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={"PYTHONHASHSEED": seed}, capture_output=True,
                              text=True, check=True, timeout=60)
        assert told.stdout.strip() == run_projector().fingerprint


def test_folders_called_like_our_packages_are_no_part_of_them(tmp_path: Path) -> None:
    """F5: in the directory where one stands, which comes first where Python looks."""
    for name in ("ledger", "projections", "engine", "migrations"):
        (tmp_path / name).mkdir()
    program = "from projections.projectors import run_projector; print(run_projector().fingerprint)"
    told = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, check=True, timeout=60)
    assert told.stdout.strip() == run_projector().fingerprint


def test_the_fingerprint_changes_with_the_shapes_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """F5, G7: an event of a version more, or another upcaster."""
    here = run_projector().fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(projectors, "VERSIONS", {**VERSIONS, "RowRead": 99})
        assert run_projector().fingerprint != here
    assert run_projector().fingerprint == here
