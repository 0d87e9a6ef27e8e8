"""Ways to a database: who reads cannot write, who writes has the right to from the beginning of a transaction."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engine import databases
from engine.databases import Database
from tests.engine.databases import do, table, url


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with a table of one row, under a name that means something in a URL."""
    made = tmp_path / "a%20b#c d.db"
    do(made, "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1)")
    return made


def test_who_reads_cannot_write(path: Path) -> None:
    """Not even after asking for it."""
    database = Database(url(path))
    with database.engine("read").connect() as connection:
        assert connection.exec_driver_sql("SELECT id FROM t").fetchall() == [(1,)]
        connection.exec_driver_sql("PRAGMA query_only = OFF")
        with pytest.raises(OSError, match="readonly"), database.faults():
            connection.exec_driver_sql("INSERT INTO t VALUES (2)")
    assert table(path) == [(1,)]


def test_who_writes_waits_before_it_looks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that had looked first could neither of them go on; so nothing is read that another is about to change."""
    monkeypatch.setattr(databases, "BUSY_SECONDS", 0.01)
    database = Database(url(path))
    engine = database.engine("write")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="locked"), database.faults(), engine.begin():
            pass
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (2)")
    assert table(path) == [(1,), (2,)]


@pytest.mark.parametrize("access", ["make", "write"])
def test_who_writes_waits_until_the_end_of_the_journal_is_on_disk(path: Path, access: databases.Access) -> None:
    """W3, law R3: `EXTRA` syncs the directory in which the journal ended; with `FULL` power can take a commit back."""
    with Database(url(path)).engine(access).connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 3


def test_only_who_makes_it_makes_a_file(path: Path) -> None:
    """A sink makes one when it is opened; afterwards one that is gone is gone."""
    path.unlink()
    database = Database(url(path))
    for access in ("read", "write"):
        with pytest.raises(OSError, match="unable to open"), database.faults(), database.engine(access).connect() as one:
            one.exec_driver_sql("SELECT 1")
        assert not path.exists()
    with database.engine("make").begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INTEGER)")
    assert table(path) == []
