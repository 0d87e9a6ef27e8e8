"""The guards: what plain `sqlite3` is refused without our code, and guards that are gone, neutered or shadowed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ledger.guards import TRIGGERS
from ledger.sqlite_store import SqliteStore
from tests.kit.log import RUN
from tests.ledger.files import written
from tests.ledger.forging import AT_4, STREAM, faults, guards_of
from tests.ledger.lawful import one_row


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with one sealed run: 1 started, 2 claimed, 3 read, 4 step, 5 intended, 6 confirmed, 7 exhausted, 8 sealed."""
    return written(tmp_path, one_row())


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (f"UPDATE events SET body = x'00' WHERE {AT_4}", "events are never changed"),
        (f"UPDATE events SET token = '1' WHERE {AT_4}", "events are never changed"),
        ("UPDATE events SET seq = seq + 100", "events are never changed"),
        (f"DELETE FROM events WHERE {AT_4}", "events are never deleted"),
        ("DELETE FROM events", "events are never deleted"),
        (f"INSERT OR REPLACE INTO events SELECT stream, seq, type, v, token, row_index, at, x'00' FROM events "
         f"WHERE {AT_4}", "an event is appended with the next seq"),
        (f"REPLACE INTO events SELECT * FROM events WHERE {AT_4}", "an event is appended with the next seq"),
        ("INSERT INTO events SELECT stream, 99, type, v, token, row_index, at, body FROM events LIMIT 1",
         "an event is appended with the next seq"),
        ("INSERT INTO events SELECT stream, NULL, type, v, token, row_index, at, body FROM events LIMIT 1",
         "an event is appended with the next seq"),
        ("INSERT OR REPLACE INTO events (rowid, stream, seq, type, v, token, row_index, at, body) "
         "SELECT (SELECT min(rowid) FROM events), stream, max(seq) + 1, type, v, token, row_index, at, body FROM events "
         f"WHERE {STREAM}", "an event is appended with the next seq"),
        (f"INSERT INTO events SELECT * FROM events WHERE {AT_4} ON CONFLICT DO UPDATE SET body = x'00'",
         "an event is appended with the next seq"),
        (f"UPDATE payloads SET bytes = x'00' WHERE {STREAM} AND n = 2", "a payload is never changed, only erased"),
        (f"UPDATE payloads SET bytes = NULL WHERE {STREAM} AND n = 2", "a payload is never changed, only erased"),
        (f"UPDATE payloads SET salt = NULL, bytes = NULL WHERE {STREAM} AND n = 1",
         "a payload is never changed, only erased"),
        (f"UPDATE payloads SET salt = NULL, bytes = NULL, n = 9 WHERE {STREAM} AND n = 2",
         "a payload is never changed, only erased"),
        (f"UPDATE payloads SET salt = NULL, bytes = NULL, permanent = 1 WHERE {STREAM} AND n = 2",
         "a payload is never changed, only erased"),
        (f"DELETE FROM payloads WHERE {STREAM} AND n = 2", "payloads are never deleted"),
        (f"REPLACE INTO payloads SELECT * FROM payloads WHERE {STREAM} AND n = 2",
         "a payload is appended with the next number"),
        ("DELETE FROM streams", "streams are never deleted"),
        ("REPLACE INTO streams SELECT * FROM streams", "a stream is made once"),
        ("REPLACE INTO streams (run_id, size, epoch, root, frontier, status) VALUES "
         f"('{RUN}', 0, 0, x'', x'', 'running')", "a stream is made once"),
    ],
)
def test_the_guards_refuse_what_is_no_append(path: Path, statement: str, words: str) -> None:
    """F1: through plain `sqlite3`, without our code, each is refused by the file itself, and nothing is changed."""
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match=words):
        connection.execute(statement)
    connection.rollback()
    connection.close()
    assert faults(path) == set()


def test_the_guards_let_an_erasure_pass_and_verify_asks_for_its_record(path: Path) -> None:
    """A payload can be erased; without the ledger's word for it, it was stripped."""
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE payloads SET salt = NULL, bytes = NULL WHERE {STREAM} AND n = 2")
    connection.commit()
    connection.close()
    assert faults(path) == {"payload"}


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_dropped_guard_is_missed(path: Path, name: str) -> None:
    """Each of them, by name."""
    connection = sqlite3.connect(path)
    connection.execute(f"DROP TRIGGER {name}")
    connection.close()
    assert guards_of(path) == [f"guard {name} is missing"]


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_neutered_guard_is_seen(path: Path, name: str) -> None:
    """A trigger by the right name that does nothing is no guard, however it came into the schema."""
    table = name.split("_")[0]
    connection = sqlite3.connect(path)
    connection.execute(f"DROP TRIGGER {name}")
    connection.execute(f"CREATE TRIGGER {name} BEFORE DELETE ON {table} WHEN 0 BEGIN SELECT 1; END")
    connection.commit()
    connection.close()
    assert guards_of(path) == [f"guard {name} was changed"]


def test_a_guard_that_was_rewritten_in_the_schema_table_is_seen(path: Path) -> None:
    """`writable_schema` walks past CREATE and DROP."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_master SET sql = replace(sql, ' BEGIN', ' WHEN 0 BEGIN') "
                       "WHERE name = 'events_no_update'")
    connection.commit()
    connection.close()
    assert guards_of(path) == ["guard events_no_update was changed"]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE TRIGGER later AFTER INSERT ON events BEGIN DELETE FROM payloads; END", "trigger later does not belong"),
        ("CREATE TRIGGER first BEFORE UPDATE ON streams BEGIN SELECT RAISE(IGNORE); END", "trigger first does not belong"),
        ("CREATE TABLE events_2 AS SELECT * FROM events", "table events_2 does not belong"),
        ("CREATE VIEW mine AS SELECT * FROM events WHERE seq < 4", "view mine does not belong"),
    ],
)
def test_what_shadows_the_log_is_seen(path: Path, statement: str, words: str) -> None:
    """A trigger or a view more is named."""
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.close()
    assert [text for text in guards_of(path) if words in text]


@pytest.mark.parametrize(("table", "place", "columns"), [
    ("events", "seq", "type, v, token, row_index, at, body"), ("payloads", "n", "salt, bytes, permanent")])
def test_what_stands_before_the_first_is_seen(path: Path, table: str, place: str, columns: str) -> None:
    """F1, W12: whoever reads from the beginning would not meet it; the guard was back in its place before we looked."""
    guard = f"{table}_append_only"
    connection = sqlite3.connect(path)
    connection.execute(f"DROP TRIGGER {guard}")
    connection.execute(f"INSERT INTO {table} SELECT stream, 0, {columns} FROM {table} WHERE {STREAM} AND {place} = 1")
    connection.execute(TRIGGERS[guard])
    connection.commit()
    connection.close()
    assert guards_of(path) == [f"{table} of run {RUN} have one before the first"]


def test_a_view_in_the_place_of_a_table_is_no_ledger(path: Path) -> None:
    """The log moved away and a view put where it was: the file is not opened at all."""
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE events RENAME TO real_events")
    connection.execute("CREATE VIEW events AS SELECT * FROM real_events WHERE seq < 4")
    connection.close()
    with pytest.raises(Exception, match="LEDGER_FOREIGN"):
        SqliteStore(path, write=False)
