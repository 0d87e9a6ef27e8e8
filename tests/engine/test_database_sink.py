"""The database sink: the tables that it makes, the rows that it refuses singly, and what it says when it cannot write."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import databases
from engine.schema import RowSchema
from engine.sinks.database import DatabaseSink
from tests.engine.databases import EPOCHS, RECEIPTS, ask, claim, codes, do, prepare, refused, sink, table, url, whole, write
from tests.engine.writing import Rows

FIXED = RowSchema.parse("fixed", ["id: int", "note: str?"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that is not there yet."""
    return tmp_path / "out.db"


def types(path: Path) -> list[tuple[object, ...]]:
    """Name, type, NOT NULL and place in the primary key of each column."""
    return ask(path, "SELECT name, type, \"notnull\", pk FROM pragma_table_info('t')")


# --- tables ------------------------------------------------------------------------------------------------------


def test_a_table_is_made_of_the_first_row(path: Path) -> None:
    """Types are those of its values; what is no int, float or truth value is text, and what has parts is its JSON."""
    row: dict[str, object] = {"i": 1, "f": 0.5, "b": True, "s": "x", "n": None, "l": [1, {"a": None}], "o": {}}
    assert whole(sink(path), [row, {"i": 2}]) == [[]]
    assert types(path) == [("i", "BIGINT", 0, 0), ("f", "DOUBLE", 0, 0), ("b", "BOOLEAN", 0, 0), ("s", "TEXT", 0, 0),
                           ("n", "TEXT", 0, 0), ("l", "TEXT", 0, 0), ("o", "TEXT", 0, 0)]
    assert table(path) == [(1, 0.5, 1, "x", None, '[1,{"a":null}]', "{}"), (2, None, None, None, None, None, None)]


def test_a_table_is_made_of_the_schema_before_the_first_row(path: Path) -> None:
    """Required fields and the primary key refuse to be empty."""
    whole(sink(path, schema=RowSchema.parse("fixed", ["id: int", "a: float", "b: bool?", "c: any"]), primary_key="id"))
    assert types(path) == [("id", "BIGINT", 1, 1), ("a", "DOUBLE", 1, 0), ("b", "BOOLEAN", 0, 0), ("c", "TEXT", 0, 0)]


def test_columns_are_declared_ones_and_the_first_taken_rows_others(path: Path) -> None:
    """A refused row decides nothing."""
    schema = RowSchema.parse("flexible", ["id: int", "note: str?"])
    found = whole(sink(path, schema=schema), [{"id": "x", "y": 1}, {"z": 1, "id": 2}], [{"id": 3, "note": "n", "y": 4}])
    assert [codes(one) for one in found] == [[(0, "schema")], [(0, "columns")]]
    assert table(path) == [(2, None, 1)]


def test_rows_are_refused_for_fields_and_values_that_the_table_does_not_take(path: Path) -> None:
    """Nothing is coerced on its way: SQLite would keep the text, PostgreSQL would round the fraction."""
    do(path, "CREATE TABLE t (i INTEGER, f REAL, b BOOLEAN, s VARCHAR(3), d DATE, g AS (i + 1))")
    rows: Rows = [{"i": 1, "f": 2, "b": True, "s": 3, "d": "2026-01-01"}, {"i": 1.0}, {"i": "1"}, {"i": True},
                  {"f": 2**53 + 1}, {"b": 1}, {"x": 1}, {}, {"g": 1}, {"I": 1}, {"s": False}]
    assert [codes(one) for one in whole(sink(path), rows)] == [
        [*((n, "type") for n in range(1, 6)), *((n, "columns") for n in range(6, 10))]]
    assert table(path) == [(1, 2.0, 1, "3", "2026-01-01", 2), (None, None, None, "false", None, None)]


@pytest.mark.parametrize("row", [{"a": 1, "A": 2}, {"": 1}, {"a\0": 1}, {"x" * 300: 1}, {f"f{n}": n for n in range(1001)}])
def test_a_row_that_no_table_can_be_made_of_is_refused(path: Path, row: dict[str, object]) -> None:
    """The run goes on, and the next row decides."""
    assert [codes(one) for one in whole(sink(path), [row, {"id": 1}])] == [[(0, "columns")]]
    assert table(path) == [(1,)]


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6)
VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5))


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=5), NAMES)
def test_whatever_fields_are_called_and_hold_is_in_the_table(
    tmp_path_factory: pytest.TempPathFactory, row: dict[str, object], name: str
) -> None:
    """Quotes, colons, percent signs, reserved words: names and values are data."""
    target = tmp_path_factory.mktemp("names") / "out.db"
    if len({one.lower() for one in row}) < len(row) or name.lower().startswith(("sqlite_", "counterfoil_")):
        return
    made = DatabaseSink(url=url(target), table=name)
    assert whole(made, [row]) == [[]]
    quoted = name.replace('"', '""')
    assert ask(target, f'SELECT * FROM "{quoted}"') == [tuple(row.values())]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"table": ""}, "table of your own"),
        ({"table": RECEIPTS}, "table of your own"),
        ({"table": EPOCHS.upper()}, "table of your own"),
        ({"table": "sqlite_master"}, "table of your own"),
        ({"primary_key": []}, "primary_key"),
        ({"primary_key": ["a", "a"]}, "primary_key"),
        ({"primary_key": "other", "schema": FIXED}, "primary key among"),
        ({"schema": RowSchema.parse("fixed", ["a: int", "A: int"])}, "more than case"),
        ({"url": "sqlite://"}, "no file"),
        ({"url": "sqlite:///:memory:"}, "no file"),
        ({"url": "sqlite:///x.db?mode=ro"}, "options after it"),
        ({"url": "out.db"}, "sqlite:///FILE"),
        ({"url": "mysql://u:hunter2@h/d"}, "found one of mysql by"),
        ({"url": "nonsense://u:hunter2@h/d"}, "sqlite:///FILE"),
        ({"url": "postgresql+psycopg://u:hunter2@h:port/d"}, "sqlite:///FILE"),
        ({"url": "postgresql+asyncpg://u:hunter2@h/d"}, "found one of postgresql by asyncpg"),
        ({"url": "postgresql+psycopg://h/d?password=hunter2"}, "password before the host|driver psycopg to be"),
    ],
)
def test_options_that_cannot_work_are_refused(path: Path, options: dict[str, object], text: str) -> None:
    """D2: before the run, in one line that repeats no password."""
    with pytest.raises(ValueError, match=text) as error:
        sink(path, **options)
    assert "hunter2" not in str(error.value)
    assert not path.exists()


def test_a_driver_that_is_not_installed_is_said_to_be_missing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D2: and what to install."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match=r"driver psycopg to be installed, found none: install counterfoil\[postgres\]"):
        sink(path, url="postgresql+psycopg://u:hunter2@h/d")


def test_what_is_said_of_a_database_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as it is written in the URL nor as it is meant; users and options are nobody's business either."""
    monkeypatch.setitem(sys.modules, "psycopg", ModuleType("psycopg"))
    one = databases.Database("postgresql+psycopg://user:p%40ss+w@Host:5433/d?connect_timeout=1")
    assert one.shown == "postgresql+psycopg://Host:5433/d"
    assert one.text(OSError("user:p@ss+w@host\nuser:p%40ss%2Bw p%40ss+w")) == "user:***@host; user:*** ***"
    assert one.place == databases.Database("postgresql+psycopg://other:pw@host:5433/d").place
    for url_of, text in (("h/d?password=hunter2", "a password before the host"), ("u:p@hunter2@h/d", "as %40 or %2F"),
                         ("u:p@hunter2/x@h/d", "as %40 or %2F"), ("u/x:hunter2@h/d", "as %40 or %2F")):
        with pytest.raises(ValueError, match=text) as error:
            databases.Database(f"postgresql+psycopg://{url_of}")
        assert "hunter2" not in str(error.value)


# --- if_exists ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("if_exists", "kept"), [("append", [(0,)]), ("replace", []), ("fail", None)])
def test_what_is_there_is_kept_replaced_or_a_reason_to_fail(
    path: Path, if_exists: str, kept: list[tuple[int]] | None
) -> None:
    """As for a new run."""
    do(path, "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (0)")
    made = sink(path, if_exists=if_exists)
    if kept is None:
        for _ in range(2):
            with pytest.raises(OSError, match="expected no table"):
                made.open(claim())
        return
    whole(made, [{"id": 1}])
    assert table(path) == [*kept, (1,)]


@pytest.mark.parametrize("if_exists", ["append", "replace", "fail"])
@pytest.mark.parametrize("schema", [None, FIXED])
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_a_stop_before_the_first_confirmation_neither_replaces_again_nor_fails(
    path: Path, if_exists: str, schema: RowSchema | None, written: bool, begun: bool
) -> None:
    """The ledger may not know yet that the run has begun to write; its own rows and table are no reason to begin anew."""
    first = sink(path, if_exists=if_exists, schema=schema)
    first.open(claim(1))
    if written:
        write(first, [{"id": 1, "note": "a"}], "1")
    second = sink(path, if_exists=if_exists, schema=schema)
    second.open(claim(2, begun=begun))
    for number, row in enumerate([{"id": 1, "note": "a"}, {"id": 2, "note": "b"}], start=1):
        assert refused(prepare(second, [row]), write(second, [row], str(number))) == []
    assert table(path) == [(1, "a"), (2, "b")]


def test_another_run_replaces_what_the_first_one_wrote(path: Path) -> None:
    """Whose table it was is remembered for each run apart; the receipts of the first one stay."""
    for run in ("one", "two"):
        whole(sink(path, if_exists="replace"), [{"id": 1, "run": run}], by=claim(run=run))
    assert table(path) == [(1, "two")]
    assert ask(path, f"SELECT run, epoch, inserted FROM {RECEIPTS} ORDER BY run") == [("one", 1, 1), ("two", 1, 1)]


def test_a_run_that_has_written_does_not_go_on_where_nothing_is_known_of_it(path: Path) -> None:
    """Another database, or a table that somebody removed: what was confirmed is not there."""
    with pytest.raises(OSError, match="no trace of the run"):
        sink(path).open(claim(2, begun=True))
    whole(sink(path), [{"id": 1}])
    do(path, "DROP TABLE t")
    with pytest.raises(OSError, match="expected the table that this run has written to, found none"):
        sink(path).open(claim(2, begun=True))


def test_a_view_is_no_table(path: Path) -> None:
    """It is said at once, and not with the first row."""
    do(path, "CREATE VIEW t AS SELECT 1 AS id")
    with pytest.raises(OSError, match=r"expected a table, found a view.*out\.db#t"):
        sink(path).open(claim())


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "bad", "text"),
    [
        ("CREATE TABLE t (id INTEGER, a TEXT NOT NULL)", {"id": 9}, "NOT NULL"),
        ("CREATE TABLE t (id INTEGER, a TEXT UNIQUE)", {"id": 9, "a": "1"}, "UNIQUE"),
        ("CREATE TABLE t (id INTEGER, a TEXT CHECK (a < 'x'))", {"id": 9, "a": "x"}, "CHECK"),
        ("CREATE TABLE t (id INTEGER, a TEXT UNIQUE ON CONFLICT ROLLBACK)", {"id": 9, "a": "1"}, "UNIQUE"),
        ("CREATE TABLE t (id INTEGER, a TEXT UNIQUE ON CONFLICT FAIL)", {"id": 9, "a": "1"}, "UNIQUE"),
        ("CREATE TABLE t (id INTEGER, a TEXT UNIQUE ON CONFLICT IGNORE)", {"id": 9, "a": "1"}, "ignores"),
        ("CREATE TABLE t (id INTEGER, a TEXT REFERENCES p)", {"id": 9, "a": "p"}, "FOREIGN KEY"),
        ("CREATE TABLE t (id INTEGER, a TEXT REFERENCES p DEFERRABLE INITIALLY DEFERRED)", {"id": 9, "a": "p"},
         "foreign key"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, a BLOB)", {"id": 1, "a": "again"}, "UNIQUE"),
    ],
)
@pytest.mark.parametrize("places", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_a_row_that_a_constraint_rejects_is_refused_and_the_others_stay(
    path: Path, make: str, bad: dict[str, object], text: str, places: tuple[int, ...]
) -> None:
    """Wherever the bad ones stand, and however the target rejects them: at once, at the end, by undoing everything."""
    do(path, "CREATE TABLE p (a TEXT PRIMARY KEY)", "INSERT INTO p VALUES ('1'), ('2'), ('3')", make)
    made = sink(path)
    made.open(claim())
    write(made, [{"id": 1, "a": "1"}], "first")
    rows: list[dict[str, object]] = [{"id": 2, "a": "2"}, {"id": 3, "a": "3"}]
    for place in places:
        rows.insert(place, {**bad})
    prepared = prepare(made, rows)
    written = made.write(prepared, "second")
    assert [one.ordinal for one in written.refused] == list(places)
    assert all(text in one.text and one.code in ("constraint", "ignored") for one in written.refused)
    assert table(path) == [(1, "1"), (2, "2"), (3, "3")]
    assert made.write(prepared, "second") == written
    assert table(path) == [(1, "1"), (2, "2"), (3, "3")]


def test_refusals_of_the_sink_and_of_the_target_are_told_in_the_places_of_the_rows(path: Path) -> None:
    """The target's are places within what was offered to it."""
    do(path, "CREATE TABLE t (id INTEGER UNIQUE, a TEXT)")
    made = sink(path)
    made.open(claim())
    prepared = prepare(made, [{"x": 1}, {"id": 1}, {"id": "2"}, {"id": 1}, {"id": 3}])
    written = made.write(prepared, "key")
    assert (prepared.ordinals, codes(written.refused)) == ((1, 3, 4), [(1, "constraint")])
    assert codes(refused(prepared, written)) == [(0, "columns"), (2, "type"), (3, "constraint")]


# --- upsert ------------------------------------------------------------------------------------------------------


def test_a_row_that_is_there_is_updated_by_its_primary_key(path: Path) -> None:
    """In the fields that the new row has; the last of two in one write counts; a row without its key is refused."""
    first = [{"a": 1, "b": 1, "c": 1, "d": 1}, {"a": 1, "b": 2, "c": 2, "d": 2}]
    then: Rows = [{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 1}, {"b": 1, "c": 1}, {"a": None, "b": 1},
                  {"a": 1, "b": 2, "c": 4}]
    found = whole(sink(path, primary_key=["a", "b"]), first, then)
    assert [codes(one) for one in found] == [[], [(2, "primary_key"), (3, "primary_key")]]
    assert table(path) == [(1, 1, 1, 1), (1, 2, 4, 2)]


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=5), max_size=4))
def test_upserts_leave_the_last_row_of_each_key(
    tmp_path_factory: pytest.TempPathFactory, writes: list[list[tuple[int, int]]]
) -> None:
    """However they are put into writes."""
    target = tmp_path_factory.mktemp("upsert") / "out.db"
    schema = RowSchema.parse("fixed", ["id: int", "v: int"])
    whole(DatabaseSink(url=url(target), table="t", primary_key="id", schema=schema),
          *[[{"id": key, "v": value} for key, value in rows] for rows in writes])
    assert dict(table(target)) == {key: value for rows in writes for key, value in rows}  # type: ignore[arg-type]


def test_a_table_that_does_not_tell_rows_apart_cannot_be_updated(path: Path) -> None:
    """A unique index will do, one over a part of the rows will not."""
    do(path, "CREATE TABLE t (id INTEGER, a INTEGER)", "CREATE UNIQUE INDEX some ON t (id) WHERE a = 1")
    with pytest.raises(OSError, match="expected a primary key or a unique index over id"):
        sink(path, primary_key="id").open(claim())
    do(path, "CREATE UNIQUE INDEX every ON t (id)")
    whole(sink(path, primary_key="id"), [{"id": 1, "a": 1}, {"id": 1, "a": 2}])
    assert table(path) == [(1, 2)]


# --- what cannot be written --------------------------------------------------------------------------------------


def gone(path: Path) -> None:
    """The file was taken away."""
    path.unlink()


def foreign(path: Path) -> None:
    """It is no database any more."""
    path.write_bytes(b"nothing that SQLite knows" * 100)


def dropped(path: Path) -> None:
    """The table is not there any more."""
    do(path, "DROP TABLE t")


@pytest.mark.parametrize("harm", [gone, foreign, dropped])
def test_a_target_that_cannot_be_written_is_an_os_error(path: Path, harm: Callable[[Path], None]) -> None:
    """In words, with the database's name; nothing is made anew in its place."""
    made = sink(path)
    made.open(claim())
    write(made, [{"id": 1}], "1")
    harm(path)
    with pytest.raises(OSError, match=r"sqlite:///.*out\.db: "):
        write(made, [{"id": 2}], "2")
    made.close(False)
    assert harm is not gone or not path.exists()


def test_a_locked_target_is_an_os_error_and_can_be_written_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program writes to it for longer than a sink waits."""
    monkeypatch.setattr(databases, "BUSY_SECONDS", 0.01)
    made = sink(path)
    made.open(claim())
    prepared = prepare(made, [{"id": 1}])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="locked"):
            made.write(prepared, "1")
        with pytest.raises(OSError, match="locked"):
            sink(path).open(claim(2))
        other.execute("ROLLBACK")
    made.write(prepared, "1")
    assert table(path) == [(1,)]


def test_a_target_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    """A directory is not made for it; a sink that is not open takes nothing."""
    with pytest.raises(OSError, match="unable to open"):
        sink(tmp_path / "none" / "out.db").open(claim())
    made = sink(tmp_path / "out.db")
    with pytest.raises(OSError, match="found it closed"):
        write(made, [{"id": 1}])
    made.open(claim())
    made.close(False)
    made.close(True)
    with pytest.raises(OSError, match="found it closed"):
        write(made, [{"id": 1}])


def test_what_is_prepared_touches_nothing_and_is_the_same_each_time(path: Path) -> None:
    """The content is the rows' lines, fields by name, so that it does not depend on how a row was made."""
    made = sink(path)
    assert made.offset() is None  # type: ignore[func-returns-value]
    one = prepare(made, [{"b": 1, "a": [{"d": 1, "c": 2}]}, {"a": "é\n"}])
    assert one.content == '{"a":[{"c":2,"d":1}],"b":1}\n{"a":"é\\n"}\n'.encode()
    assert prepare(made, [{"a": [{"c": 2, "d": 1}], "b": 1}, {"a": "é\n"}]) == one
    assert not path.exists()


def test_a_write_names_its_table_and_says_its_own_size(path: Path) -> None:
    """And the hash of its content; one in which every row was refused is a write too."""
    made = sink(path)
    made.open(claim())
    prepared = prepare(made, [{"id": 1}])
    assert made.write(prepared, "1") == (f"{url(path)}#t", len(prepared.content), prepared.content_sha256, ())
    empty = prepare(made, [{"x": 1}])
    assert made.write(empty, "2") == (f"{url(path)}#t", 0, empty.content_sha256, ())
    assert table(path) == [(1,)]
