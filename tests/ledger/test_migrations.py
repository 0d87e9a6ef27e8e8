"""The floor plan on both databases: what the scripts make; an upgrade is one step that happens once, or not at all."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, text
from sqlalchemy.pool import NullPool

import ledger.tables
import migrations
import projections.tables
from ledger.errors import LedgerUnavailable
from migrations import Branch
from tests.kit.postgres_databases import connected
from tests.ledger.invented import put_in_force
from tests.ledger.revisions import Place

SCHEMES: dict[Branch, MetaData] = {"log": ledger.tables.metadata, "read": projections.tables.metadata}


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where nothing is kept yet, on each database."""
    if request.param == "sqlite":
        return Place(f"sqlite:///{tmp_path}/ledger.db")
    return Place(request.getfixturevalue("postgres_url"))


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A next revision of the log that makes a column and a table, and fails then."""
    put_in_force(monkeypatch, tmp_path, 'op.add_column("streams", sa.Column("more", sa.Text))\n    '
           'op.create_table("made", sa.Column("n", sa.Integer))\n    op.execute("SELECT no_such_thing()")')


@pytest.mark.parametrize("branch", SCHEMES)
def test_the_revisions_are_those_of_the_scripts_in_their_order(branch: Branch) -> None:
    """F7: each released revision can be named, none is forgotten; there is one way from the first to the head."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(map(str, migrations.SCRIPTS[branch])).replace("%", "%%"))
    found = list(ScriptDirectory.from_config(config).walk_revisions())[::-1]
    assert [one.revision for one in found] == list(migrations.REVISIONS[branch])
    assert [one.down_revision for one in found] == [None, *migrations.REVISIONS[branch][:-1]]


# --- what the scripts make on PostgreSQL; of SQLite `tests/projections/test_tables.py` says it -----------------------------


def difference(url: str, branch: Branch, schema: str) -> list[object]:
    """What alembic finds between a schema and the metadata."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql(f'SET LOCAL search_path TO "{schema}"')
        options = {"compare_type": True, "include_object": lambda _, name, kind, *rest: name != migrations.VERSION_TABLE}
        found: list[object] = compare_metadata(MigrationContext.configure(connection, opts=options), SCHEMES[branch])
        return found


@pytest.mark.parametrize("branch", SCHEMES)
def test_alembic_finds_no_drift_from_the_metadata_on_postgresql(branch: Branch, postgres_url: str) -> None:
    """F7: in the schema that was named; and a column that no script makes would be found."""
    migrations.upgrade(postgres_url, branch, schema="kept_here")
    assert difference(postgres_url, branch, "kept_here") == []
    with connected(postgres_url) as session:
        session.execute(f"ALTER TABLE kept_here.{next(iter(SCHEMES[branch].tables))} ADD COLUMN drifted text")
    assert difference(postgres_url, branch, "kept_here") != []


@pytest.mark.parametrize("branch", SCHEMES)
def test_the_metadata_makes_the_same_to_the_letter_on_postgresql(branch: Branch, postgres_url: str) -> None:
    """F7, law P5: types, collations, defaults, keys, indexes whole: what alembic does not compare."""
    migrations.upgrade(postgres_url, branch, schema="one")
    with create_engine(postgres_url, poolclass=NullPool).begin() as connection:
        connection.execute(text('CREATE SCHEMA "two"'))
        connection.execute(text('SET LOCAL search_path TO "two"'))
        SCHEMES[branch].create_all(connection)
    found = Place(postgres_url).everything()
    for what in ("columns", "indexes", "constraints"):
        one, two = (sorted(str(row[1:]).replace(f"{schema}.", "") for row in found[what]
                           if row[0] == schema and row[1].rpartition(".")[2] in SCHEMES[branch].tables)
                    for schema in ("one", "two"))
        assert one == two != []


@pytest.mark.parametrize("branch", SCHEMES)
def test_every_text_on_postgresql_is_ordered_by_its_bytes(branch: Branch, postgres_url: str) -> None:
    """law P5: as SQLite orders it, whatever the database's own collation is."""
    migrations.upgrade(postgres_url, branch, schema="one")
    columns = [row for row in Place(postgres_url).everything()["columns"]
               if row[1] in SCHEMES[branch].tables and row[3] == "text"]
    assert columns and {row[5] for row in columns} == {"C"}


@pytest.mark.parametrize("branch", SCHEMES)
def test_upgrading_again_does_nothing_on_postgresql(branch: Branch, postgres_url: str) -> None:
    """F5, F7: at the head there is nothing to do; nothing is made outside the schema that was named."""
    migrations.upgrade(postgres_url, branch, schema="kept_here")
    before = Place(postgres_url).everything()
    migrations.upgrade(postgres_url, branch, schema="kept_here")
    assert Place(postgres_url).everything() == before
    assert {row[0] for row in before["relations"]} == {"kept_here"}


# --- one step ----------------------------------------------------------------------------------------------------------


def test_an_upgrade_that_fails_half_way_leaves_nothing(place: Place, broken: None) -> None:
    """F7: of a new ledger, and of one at the revision before: as it was, and the next try goes as the first."""
    for revision in (None, migrations.REVISIONS["log"][0]):
        if revision is not None:
            place.make(revision)
        before = place.everything() if revision is not None or not place.file else None
        for _ in range(2):
            with pytest.raises(Exception, match=r"no_such_thing|no such function"):
                migrations.upgrade(place.sqlalchemy, "log", schema=place.schema)
            if before is not None:
                assert place.everything() == before
        if place.file and revision is None:
            assert place.everything() == ["BEGIN TRANSACTION;", "COMMIT;"]
            place.file.unlink()


def test_what_stands_at_a_revision_that_is_not_ours_is_left_alone(place: Place) -> None:
    """F7: another program's migrations write the same table."""
    place.make(migrations.HEADS["log"])
    place.execute("UPDATE alembic_version SET version_num = 'ae1027a6acf'")
    before = place.everything()
    with pytest.raises(LedgerUnavailable, match=r"LEDGER_SCHEMA: .*ae1027a6acf"):
        migrations.upgrade(place.sqlalchemy, "log", schema=place.schema)
    assert place.everything() == before


def test_the_second_of_two_upgrades_waits_for_the_first_on_postgresql(postgres_url: str) -> None:
    """F7: and finds the work done."""
    ended: list[str | None] = []

    def second() -> None:
        migrations.upgrade(postgres_url, "log", schema="kept_here")
        with create_engine(postgres_url, poolclass=NullPool).begin() as connection:
            connection.exec_driver_sql('SET LOCAL search_path TO "kept_here"')
            ended.append(migrations.current(connection))

    waiting = threading.Thread(target=second)
    with create_engine(postgres_url, poolclass=NullPool).begin() as first:
        migrations.enter(first, "kept_here")
        migrations.upgrade(first, "log")
        waiting.start()
        assert _until_waiting(postgres_url)
        assert ended == []
    waiting.join(60)
    assert ended == [migrations.HEADS["log"]]


def test_upgrades_of_one_file_at_once_all_end_well(tmp_path: Path) -> None:
    """F7: SQLite lets one write; the other finds the work done."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    failed: list[BaseException] = []
    threads = [threading.Thread(target=_caught(failed, lambda: migrations.upgrade(url, "log"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert migrations.current(url) == migrations.HEADS["log"]


def _caught(into: list[BaseException], do: Callable[[], None]) -> Callable[[], None]:
    def done() -> None:
        try:
            do()
        except BaseException as error:
            into.append(error)

    return done


def _until_waiting(url: str) -> bool:
    """Somebody waits for an advisory lock; the server is asked until it says so."""
    with closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=True)) as session:
        for _ in range(20_000):
            row = session.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = "
                                  "(SELECT oid FROM pg_database WHERE datname = current_database())").fetchone()
            if row != (0,):
                return True
    return False


def _commands(url: str, count: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "counterfoil", "db", "upgrade", "--wait", "--ledger", url]
    for _ in range(count):
        yield subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_make_one_ledger_at_once_make_one(place: Place) -> None:
    """F7: each ends well, and the ledger begins once."""
    processes = list(_commands(place.url, 2))
    said = [process.communicate(timeout=60) for process in processes]
    assert [(process.returncode, err) for process, (_, err) in zip(processes, said, strict=True)] == [(0, "")] * 2
    assert place.query("SELECT type FROM events") == [("LedgerCreated",)]


def test_two_ledgers_stand_beside_each_other_in_schemas_of_one_database(postgres_url: str) -> None:
    """F7: `?schema=` names where; neither touches the other."""
    places = [Place(f"{postgres_url}?schema={name}") for name in ("one", "two")]
    for place in places:
        place.make(migrations.HEADS["log"])
    places[0].execute("INSERT INTO streams (run_id, size, epoch, root, frontier, status) VALUES ('x', 0, 0, '', '', 'new')")
    assert [place.query("SELECT run_id FROM streams") for place in places] == [[("x",)], []]
