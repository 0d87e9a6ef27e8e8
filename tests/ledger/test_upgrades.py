"""Ledgers that hold something, brought to a later schema: the record stays, to the byte; read tables are made again.

The logs are the museum's; they are put in with the columns of the revision that they stand at.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import migrations
from counterfoil.ledgers import Ledger
from ledger import sqlite_store
from projections import tables
from tests.doors.told import ask, done, tell, write
from tests.ledger import invented
from tests.ledger.revisions import COLUMNS, Place
from tests.museum import exhibits, logs

READING = (("runs",), ("show", "stopped"), ("replay", "stopped"), ("explain", "stopped", "0"), ("verify",), ("rebuild",),
           ("query", "SELECT 1"), ("tokens", "stopped"), ("pending", "stopped"), ("graph", "stopped"), ("db", "check"))
WRITING = (("run", "pipeline.yaml"), ("resume", "stopped"), ("abandon", "stopped", "--reason", "no more"))
ERAS = sorted(exhibits.eras())
KEPT = {"0001_log": "002/stopped"}
"""Each revision's file in the museum, and the log that was put into it."""

ON_POSTGRES = ("stopped", "lists", "batch_died", "troubled")
"""A run to carry on (of every era), lists in payloads, an open batch, and one with diverts and retries."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of one test."""
    monkeypatch.delenv("COUNTERFOIL_LEDGER", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, folder: Path) -> Place:
    """Where nothing is kept yet, on each database."""
    if request.param == "sqlite":
        return Place(f"sqlite:///{folder}/ledger.db")
    return Place(request.getfixturevalue("postgres_url"))


@contextmanager
def next_version(folder: Path, body: str, branch: migrations.Branch = "log") -> Iterator[str]:
    """A version of the program that has one more revision, and knows what it makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_store, "TABLES", sqlite_store.TABLES | {"events_by_type"})
        if body == invented.FASTER:
            patch.setitem(tables.INDEXES, "p_tokens_by_sink", "p_tokens")
        if body == invented.WIDER:
            patch.setitem(tables.COLUMNS, "p_tokens", f"{tables.COLUMNS['p_tokens']} more")
        scripts = folder / "next_version"
        scripts.mkdir()
        yield invented.put_in_force(patch, scripts, body, branch)
    shutil.rmtree(scripts)


def told_of(place: Place, log: logs.Log, name: str) -> None:
    """It verifies, folds, and its read tables tell of every token the end that it had."""
    for run in log.runs:
        kept = logs.told(name)[run]
        assert done("verify", run, ledger=place.url).code == 0
        assert ask("replay", run, "--deep", ledger=place.url)["lawful"] is True
        rows = ask("tokens", run, ledger=place.url)["rows"]
        assert {row["token_id"]: row["outcome"] for row in rows} == kept["ends"]
        assert ask("show", run, ledger=place.url)["status"] == kept["status"]


def refused(place: Place, *command: str) -> str:
    """Exit 6 and one line; nothing was changed."""
    before = place.everything()
    told = tell(*command, ledger=place.url)
    *warnings, error = told.err.splitlines()
    assert (told.code, told.out, error.partition(":")[0]) == (6, "", "LEDGER_SCHEMA"), command
    assert [line for line in warnings if not line.startswith("warning: ")] == []
    assert place.everything() == before
    return error


# --- from every released revision ----------------------------------------------------------------------------------------


def test_every_released_revision_can_be_filled() -> None:
    """F7: who releases one says what columns it had, so that these tests go on from it."""
    assert set(COLUMNS) == set(migrations.REVISIONS["log"])


@pytest.mark.parametrize("revision", migrations.REVISIONS["log"])
@pytest.mark.parametrize("name", logs.names())
def test_a_kept_log_at_an_old_revision_is_brought_up_whole(revision: str, name: str, folder: Path) -> None:
    """F5, F7, W12: to the byte; what it tells is what it told; on a file."""
    brought_up(Place(f"sqlite:///{folder}/ledger.db"), revision, name)


@pytest.mark.parametrize("revision", migrations.REVISIONS["log"])
@pytest.mark.parametrize("name", [f"{ERAS[-1]}/{name}" for name in ON_POSTGRES] + [f"{era}/stopped" for era in ERAS[:-1]])
def test_a_kept_log_at_an_old_revision_is_brought_up_whole_on_postgresql(
    revision: str, name: str, postgres_url: str
) -> None:
    """F5, F7, W12: to the byte; what it tells is what it told; on PostgreSQL."""
    brought_up(Place(postgres_url), revision, name)


def brought_up(place: Place, revision: str, name: str) -> None:
    """A ledger at this revision, with this log in it, is upgraded by the door."""
    log = logs.load(name)
    place.make(revision, log)
    before = place.record()
    assert sum(map(len, before)) > 20
    assert ask("db", "upgrade", ledger=place.url)["current"] is True
    assert place.record() == before
    told_of(place, log, name)
    assert place.record() == before


@pytest.mark.parametrize("revision", migrations.REVISIONS["log"])
def test_a_file_that_was_kept_since_a_revision_is_read_and_brought_up(revision: str, folder: Path) -> None:
    """F5, F7, W12: a real file, page for page as the program of then left it; to this revision, and on to the next."""
    place = Place(f"sqlite:///{folder}/ledger.db")
    shutil.copy(logs.LOGS / "files" / f"{revision}.sqlite", folder / "ledger.db")
    store = sqlite_store.SqliteStore(folder / "ledger.db", write=False)
    log = logs.taken(store)
    store.close()
    assert log.streams == logs.load(KEPT[revision]).streams
    before = place.record()
    assert ask("db", "upgrade", ledger=place.url)["current"] is True
    told_of(place, log, KEPT[revision])
    with next_version(folder, invented.GROWN):
        assert ask("db", "upgrade", ledger=place.url)["current"] is True
        told_of(place, log, KEPT[revision])
    assert place.record() == before


# --- to the revision that comes next -------------------------------------------------------------------------------------


def test_a_ledger_at_the_revision_before_is_refused_with_the_command_to_run(place: Place, folder: Path) -> None:
    """F7: by every command, untouched; that command brings it up with the record untouched, and then all goes on."""
    name = f"{ERAS[-1]}/stopped"
    log = logs.load(name)
    place.make(migrations.HEADS["log"], log)
    write(log.files)
    old = migrations.HEADS["log"]
    with next_version(folder, invented.GROWN) as new:
        for command in (*READING, *WRITING):
            error = refused(place, *command)
            assert error.endswith("run `counterfoil db upgrade`") and new in error and old in error
        assert ask("db", "current", ledger=place.url) | {"ledger": ""} == {
            "schema": "counterfoil/db/1", "ledger": "", "revision": old, "head": new, "current": False}
        before = place.record()
        assert ask("db", "upgrade", ledger=place.url)["revision"] == new
        assert place.record() == before
        assert place.query("SELECT note FROM streams") == [(None,)] * len(log.streams)
        assert ask("db", "check", ledger=place.url)["guards"] == []
        told_of(place, log, name)
        assert ask("resume", "stopped", "--accept-changes", ledger=place.url)["status"] == "completed"
        assert set(place.record()[2]) > set(before[2])


def test_a_ledger_at_a_later_revision_is_refused_and_left_alone(place: Place, folder: Path) -> None:
    """F7: by every command of this version, `db upgrade` too; `db current` names it."""
    log = logs.load(f"{ERAS[-1]}/stopped")
    write(log.files)
    with next_version(folder, invented.GROWN) as new:
        place.make(migrations.HEADS["log"])
        done("db", "upgrade", ledger=place.url)
    for command in (*READING, *WRITING, ("db", "upgrade")):
        error = refused(place, *command)
        assert new in error and "a version that knows this schema" in error
    told = ask("db", "current", ledger=place.url)
    assert (told["revision"], told["current"]) == (new, False)


# --- read tables ---------------------------------------------------------------------------------------------------------


def generation(place: Place) -> str | None:
    """The read tables that would be read."""
    with Ledger(place.url) as ledger:
        return ledger.keeping.shelf().generation()


def stale(place: Place) -> str:
    """What `db check` says of the read tables, and the next reading command, which makes them again; then it is quiet."""
    before, held = generation(place), contents(place)
    checked = tell("db", "check", "-o", "json", ledger=place.url)
    assert (checked.code, checked.answer["read_tables"]) == (0, "stale")
    assert checked.error.startswith("READ_TABLES_STALE: ") and generation(place) == before
    assert contents(place) == held, "nothing is changed by looking"
    told = tell("runs", "-o", "json", ledger=place.url)
    assert told.code == 0
    lines = told.err.splitlines()
    assert lines[0].startswith("READ_TABLES_STALE: ") and generation(place) != before
    again = tell("runs", "-o", "json", ledger=place.url)
    assert (again.err, again.out) == ("", told.out)
    assert ask("db", "check", ledger=place.url)["read_tables"] == "current"
    return lines[0]


def contents(place: Place) -> Any:
    """What the read tables hold."""
    with Ledger(place.url) as ledger:
        shelf = ledger.keeping.shelf()
        name = shelf.generation()
        assert name is not None
        with shelf.open(name) as tables:
            return [tables.select(f"SELECT * FROM {table} ORDER BY 1, 2") for table in ("p_runs", "p_tokens", "p_places")]


def test_read_tables_of_an_earlier_revision_are_said_to_be_stale_and_made_again(place: Place, folder: Path) -> None:
    """F5, F7, W13: never moved: on stderr of the next command that reads, and by `db check`."""
    name = f"{ERAS[-1]}/stopped"
    log = logs.load(name)
    place.make(migrations.HEADS["log"], log)
    told_of(place, log, name)
    with next_version(folder, invented.FASTER, "read"):
        assert "another schema" in stale(place)
        told_of(place, log, name)
    assert "another schema" in stale(place), "so are those of a later one"


def test_read_tables_without_a_run_are_made_again_too(place: Place, folder: Path) -> None:
    """F5, F7, W13: nothing in them says by which projector they were made, and yet the next run is told."""
    done("db", "upgrade", ledger=place.url)
    assert ask("runs", ledger=place.url)["rows"] == []
    write(logs.load(f"{ERAS[-1]}/stopped").files)
    with next_version(folder, invented.WIDER, "read"):
        stale(place)
    stale(place)
    assert ask("run", "pipeline.yaml", "--run-id", "first", ledger=place.url)["status"] in ("completed", "interrupted")
    assert [row["run_id"] for row in ask("runs", ledger=place.url)["rows"]] == ["first"]


def test_read_tables_of_another_projector_are_said_to_be_stale_and_made_again(
    place: Place, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F5, W13: the code that makes rows has changed; the note names both."""
    name = f"{ERAS[-1]}/joined"
    log = logs.load(name)
    place.make(migrations.HEADS["log"], log)
    told_of(place, log, name)
    monkeypatch.setattr("projections.projectors._code", lambda: "other code")
    line = stale(place)
    assert "made by projector" in line
    told_of(place, log, name)
