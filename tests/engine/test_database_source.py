"""The database source: rows by key, each once, whatever they hold; and from one database into another by a pipeline file."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.feed import Exhausted, ThreadFeed
from engine.plugins import Catalog, bind
from engine.schema import RowSchema
from engine.sources import database as module
from engine.sources.database import DatabaseSource
from engine.sources.database_values import json_value
from tests.engine.databases import ask, do, table, url
from tests.engine.reading import codes, good, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that is not there yet."""
    return tmp_path / "in.db"


def source(path: Path, **options: object) -> DatabaseSource:
    """A source ordered by `id`, its options checked as those of a pipeline file are."""
    if "query" not in options:
        options = {"table": "t", **options}
    made = bind(Catalog().find("source", "database"), {"url": url(path), "order_by": "id", **options})
    assert isinstance(made, DatabaseSource)
    return made


def numbered(path: Path, count: int, *, wal: bool = False) -> None:
    """A table of that many rows, ids from 1."""
    if wal:
        do(path, "PRAGMA journal_mode = WAL")
    do(path, "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)", "INSERT INTO t WITH RECURSIVE n(i) AS "
       f"(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i, 'x' FROM n")


# --- in order, each once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("after", [None, -5, 0, 1, 2, 4, 7, 8, 9])
@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_a_resume_reads_on_after_a_position(
    path: Path, wal: bool, after: int | None, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A position is the value of `order_by`, there or not any more; pages of any size make no difference."""
    monkeypatch.setattr(module, "PAGE_ROWS", page)
    if wal:
        do(path, "PRAGMA journal_mode = WAL")
    do(path, "CREATE TABLE t (a TEXT, id INTEGER)", "INSERT INTO t VALUES ('d', 8), ('a', -3), ('c', 4), ('b', 1)")
    expected = [(-3, "a"), (1, "b"), (4, "c"), (8, "d")]
    for made in (source(path), source(path, query="SELECT id, a AS a FROM t WHERE a <> ':x' AND id % 1 = 0 ; ")):
        assert [(row.position, row.row, row.fault) for row in read(made, after)] == [
            (place, {"a": text, "id": place}, None) for place, text in expected if after is None or place > after]


@given(st.lists(st.integers(-9, 9) | st.sampled_from((None, 1.5, "2", b"3", 2**63 - 1)), max_size=7),
       st.integers(-10, 10) | st.none(), st.integers(1, 3))
def test_a_row_that_has_no_place_of_its_own_ends_the_source(
    tmp_path_factory: pytest.TempPathFactory, ids: list[object], after: int | None, page: int
) -> None:
    """law R5: null, no int, or an int that is there twice: never passed by in silence, wherever a page or a run ended."""
    target = tmp_path_factory.mktemp("ids") / "in.db"
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("CREATE TABLE t (id)")
        connection.executemany("INSERT INTO t VALUES (?)", [(one,) for one in ids])
        connection.commit()
    ints = sorted(one for one in ids if type(one) is int)
    left = [one for one in ints if after is None or one >= after]
    odd = [one for one in ids if type(one) is not int and (not isinstance(one, float) or after is None or one > after)]
    found: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE_ROWS", page)
        rows = source(target).rows(after)
        if odd or len(set(left)) < len(left):
            with pytest.raises(ValueError, match="column 'id', which order_by names, found "):
                found.extend(row.position for row in rows)
        else:
            found.extend(row.position for row in rows)
            assert found == [one for one in left if one != after]
    assert found == sorted(set(found))
    assert set(found) <= set(left)


@pytest.mark.parametrize("wal", [False, True])
def test_rows_before_a_bad_place_are_read_first(path: Path, wal: bool) -> None:
    """What can be read is; and a resume after it does not slip past it."""
    if wal:
        do(path, "PRAGMA journal_mode = WAL")
    do(path, "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1), (2), (2), (3)")
    rows = source(path).rows(None)
    assert [next(rows).position, next(rows).position] == [1, 2]
    with pytest.raises(ValueError, match="found 2 after 2"):
        next(rows)
    with pytest.raises(ValueError, match="found 2 after 2"):
        list(source(path).rows(2))
    assert [row.position for row in source(path).rows(3)] == []


def test_who_writes_is_not_kept_waiting_by_who_reads(path: Path) -> None:
    """A sink commits to the file that the source is in the middle of; with a write-ahead log all rows are of one moment."""
    for name, wal, seen in (("one.db", False, 5001), ("two.db", True, 5000)):
        target = path.with_name(name)
        numbered(target, 5000, wal=wal)
        rows = source(target).rows(None)
        next(rows)
        with closing(sqlite3.connect(target, timeout=0)) as other:
            other.execute("INSERT INTO t VALUES (9999, 'late')")
            other.commit()
        assert 1 + len(list(rows)) == seen


def test_what_is_held_of_a_table_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By rows, and by characters: a page of long rows is a short one."""
    monkeypatch.setattr(module, "PAGE_CHARS", 10)
    do(path, "CREATE TABLE t (id INTEGER, a TEXT)", *(f"INSERT INTO t VALUES ({n}, 'xxxxxx')" for n in range(6)))
    with closing(sqlite3.connect(path)) as other:
        rows = source(path).rows(None)
        next(rows)
        other.execute("UPDATE t SET a = 'new' WHERE id = 1 OR id = 2")
        other.commit()
        assert [row.row["a"] for row in rows if isinstance(row.row, dict)] == ["xxxxxx", "new", "xxxxxx", "xxxxxx", "xxxxxx"]


@pytest.mark.parametrize("wal", [False, True])
def test_it_is_read_on_one_thread_and_closed_on_another(path: Path, wal: bool) -> None:
    """As the feed does it: made here, read there, closed here, in the middle or at the end."""
    numbered(path, 3000, wal=wal)
    made = source(path)
    made.identity()
    feed = ThreadFeed(made.rows(None), ahead=10)
    first = feed.take(None)
    feed.close()
    made.close()
    assert first is not None
    made = source(path)
    feed = ThreadFeed(made.rows(2990))
    taken = [feed.take(None) for _ in range(11)]
    assert isinstance(taken[-1], Exhausted)
    made.close()
    for thread in threading.enumerate():
        if thread.name == "source":
            thread.join()


# --- values ------------------------------------------------------------------------------------------------------


def test_values_become_json_values(path: Path) -> None:
    """Bytes are hex digits; a truth value is one where the table or the schema says so; numbers are as they are."""
    do(path, "CREATE TABLE t (id INTEGER, b BOOLEAN, x BLOB, f REAL, s TEXT, n)",
       "INSERT INTO t VALUES (1, 1, x'00ff', 0.5, 'é', NULL), (2, 0, 'text', 1, '', 9223372036854775807)",
       "INSERT INTO t VALUES (3, 2, 1, 2, 3, '1')")
    assert repr(good(source(path))) == repr([
        {"id": 1, "b": True, "x": "00ff", "f": 0.5, "s": "é", "n": None},
        {"id": 2, "b": False, "x": "text", "f": 1.0, "s": "", "n": 2**63 - 1},
        {"id": 3, "b": 2, "x": 1, "f": 2.0, "s": "3", "n": "1"},
    ])
    made = source(path, query="SELECT id, b FROM t", schema=RowSchema.parse("observed", ["b: bool"]))
    rows = read(made)
    assert repr([row.row for row in rows]) == repr([{"b": True, "id": 1}, {"b": False, "id": 2}, {"id": 3, "b": 2}])
    assert codes(rows) == [None, None, "schema"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("1.10"), "1.10"), (Decimal("NaN"), "NaN"), (date(2026, 1, 2), "2026-01-02"), (time(1, 2), "01:02:00"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"), (timedelta(days=1), "1 day, 0:00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"), (memoryview(b"\1"), "01"),
        ([Decimal(1), (b"",)], ["1", [""]]), ({"a": {"b": date(1, 1, 1)}}, {"a": {"b": "0001-01-01"}}), (1.5, 1.5),
    ],
)
def test_what_drivers_give_is_text_in_its_usual_form(value: object, expected: object) -> None:
    """Nothing is rounded."""
    assert json_value(value) == expected


def test_a_value_that_no_row_can_hold_makes_its_row_invalid(path: Path) -> None:
    """Infinity, and text that is none: on record with what could be read, and the rows around it are read."""
    do(path, "CREATE TABLE t (id INTEGER, v)",
       "INSERT INTO t VALUES (1, 9e999), (2, CAST(x'61ff' AS TEXT)), (3, -9e999), (4, 'fine')")
    rows = read(source(path))
    assert codes(rows) == ["bad_value", "encoding", "bad_value", None]
    assert [row.row for row in rows] == [{"id": 1, "v": "inf"}, {"id": 2, "v": "a\\xff"}, {"id": 3, "v": "-inf"},
                                         {"id": 4, "v": "fine"}]


def test_a_row_that_the_schema_rejects_is_invalid(path: Path) -> None:
    """Not fatal; a valid one is in declared types and order."""
    do(path, "CREATE TABLE t (a TEXT, id INTEGER)", "INSERT INTO t VALUES ('1', 1), ('x', 2), (NULL, 3)")
    rows = read(source(path, schema=RowSchema.parse("fixed", ["id: int", "a: int?"])))
    assert [row.row for row in rows] == [{"id": 1, "a": 1}, {"a": "x", "id": 2}, {"id": 3, "a": None}]
    assert isinstance(rows[0].row, dict)
    assert list(rows[0].row) == ["id", "a"]
    assert codes(rows) == [None, "schema", None]


# --- what is read ------------------------------------------------------------------------------------------------


def test_its_identity_names_the_database_and_the_table_or_the_query(path: Path) -> None:
    """What the query says stays out of it; size and hash are not known."""
    numbered(path, 1)
    assert source(path).identity() == ("database", f"{url(path)}#t", None, None)
    one, other = source(path, query="SELECT * FROM t"), source(path, query="SELECT id FROM t")
    assert one.identity().path.startswith(f"{url(path)}#query-")
    assert one.identity() != other.identity()


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"table": "none"}, OSError, "no such table"),
        ({"query": "SELECT * FROM none"}, OSError, "no such table"),
        ({"query": "not sql"}, OSError, "syntax error"),
        ({"query": "DELETE FROM t RETURNING id"}, OSError, "syntax error"),
        ({"query": "SELECT id FROM t; DELETE FROM t"}, OSError, "syntax error"),
        ({"query": "SELECT 1 AS id) AS x; DELETE FROM t --"}, OSError, "one statement"),
        ({"query": "ATTACH 'x' AS y"}, OSError, "syntax error"),
        ({"query": "SELECT 1 AS ID"}, ValueError, "expected a column 'id' for order_by, found ID"),
        ({"order_by": "x"}, ValueError, "expected a column 'x' for order_by, found id, a"),
    ],
)
def test_what_cannot_be_read_is_said_before_the_run(
    path: Path, options: dict[str, object], kind: type[Exception], text: str
) -> None:
    """Also by one who begins to read all the same; nothing is written, whatever the query says."""
    numbered(path, 1)
    made = source(path, **options)
    with pytest.raises(kind, match=text):
        made.identity()
    with pytest.raises((OSError, ValueError)):
        list(made.rows(None))
    assert table(path) == [(1, "x")]


def test_a_comment_at_a_querys_end_hides_nothing(path: Path) -> None:
    """And colons are no parameters."""
    numbered(path, 2)
    assert good(source(path, query="SELECT id, ':a \\:b 10%' AS a FROM t -- all of it")) == [
        {"id": 1, "a": ":a \\:b 10%"}, {"id": 2, "a": ":a \\:b 10%"}]


def test_a_database_that_is_not_there_is_not_made(path: Path) -> None:
    """Nor is one written to that is."""
    with pytest.raises(OSError, match="unable to open"):
        source(path).identity()
    path.write_bytes(b"nothing that SQLite knows" * 100)
    with pytest.raises(OSError, match="not a database"):
        source(path).identity()
    path.unlink()
    assert not path.exists()


@pytest.mark.parametrize("options", [{}, {"table": "t", "query": "SELECT 1"}, {"table": ""}, {"query": " ; "},
                                     {"table": "t", "order_by": ""}, {"table": "t", "url": "sqlite://"}])
def test_options_that_cannot_work_are_refused(path: Path, options: dict[str, object]) -> None:
    """D2: before the run."""
    with pytest.raises(ValueError, match="expected "):
        DatabaseSource(**{"url": url(path), "order_by": "id", **options})  # type: ignore[arg-type]
    assert not path.exists()
    assert ask(":memory:", "SELECT 1") == [(1,)]
