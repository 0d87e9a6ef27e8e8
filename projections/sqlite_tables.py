"""Read tables in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

from ledger.errors import LedgerUnavailable
from ledger.file_uri import as_text, file_uri
from projections.output import Record, Rows

FETCH_ROWS = 1000
ROWS_PER_STATEMENT = 50


class SqliteTables:
    """One open file. See `projections.read_tables.ReadTables`. Without `write` it is opened read-only."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self.path = path
        self._connection = _connected(path, write=write)
        try:
            tables = [row[0] for row in self.select("SELECT name FROM sqlite_master WHERE type = 'table'")]
            self._columns = {name: len(self.select(f"SELECT name FROM pragma_table_info('{name}')")) for name in tables}
        except BaseException:
            self.close()
            raise

    @property
    def where(self) -> str:
        """See `ReadTables`: the file's path."""
        return str(self.path)

    def select(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """See `ReadTables`."""
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise unreadable(self.path, error) from error

    def records(self, statement: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        """See `ReadTables`."""
        return list(self.stream(statement, values))

    def stream(self, statement: str, values: Sequence[object] = ()) -> Iterator[dict[str, Any]]:
        """See `ReadTables`."""
        try:
            cursor = self._connection.execute(statement, values)
            names = [column[0] for column in cursor.description]
            while rows := cursor.fetchmany(FETCH_ROWS):
                yield from (dict(zip(names, row, strict=True)) for row in rows)
        except sqlite3.Error as error:
            raise unreadable(self.path, error) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `ReadTables`."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise unreadable(self.path, error) from error
            raise

    def begin_run(self, run_id: str, run: int | None = None) -> int:
        """See `ReadTables`."""
        found = self.select("SELECT run FROM p_runs WHERE run_id = ?", (run_id,))
        if found:
            return int(found[0][0])
        self._connection.execute("INSERT INTO p_runs (run, run_id) SELECT coalesce(?, max(run) + 1, 1), ? FROM p_runs",
                                 (run, run_id))
        return self.begin_run(run_id)

    def put(self, run: int, rows: Rows) -> None:
        """See `ReadTables`."""
        for verb, by_table in (("INSERT", rows.new), ("INSERT OR REPLACE", rows.again)):
            for table, records in by_table.items():
                if records:
                    self._insert(f"{verb} INTO {table} VALUES", f"({run}{', ?' * (self._columns[table] - 1)})", records)

    def _insert(self, verb: str, marks: str, records: Sequence[Record]) -> None:
        """Many rows to a statement, for it costs about as much as a row does; the rest one by one."""
        many = f"{verb} {', '.join([marks] * ROWS_PER_STATEMENT)}"
        whole = len(records) // ROWS_PER_STATEMENT * ROWS_PER_STATEMENT
        for start in range(0, whole, ROWS_PER_STATEMENT):
            self._connection.execute(many, list(chain.from_iterable(records[start : start + ROWS_PER_STATEMENT])))
        self._connection.executemany(f"{verb} {marks}", records[whole:])

    def put_run(self, run: int, record: Record) -> None:
        """See `ReadTables`."""
        self._connection.execute(f"INSERT OR REPLACE INTO p_runs VALUES ({run}, {', '.join('?' * len(record))})", record)

    def put_place(self, run: int, projector: str, fingerprint: str, seq: int) -> None:
        """See `ReadTables`."""
        self._connection.execute("INSERT OR REPLACE INTO p_places VALUES (?, ?, ?, ?)", (run, projector, fingerprint, seq))

    def forget(self, run_id: str) -> None:
        """See `ReadTables`."""
        for (run,) in self.select("SELECT run FROM p_runs WHERE run_id = ?", (run_id,)):
            for table in self._columns:
                if table.startswith("p_"):
                    self._connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))

    def execute(self, *statements: str) -> None:
        """What only a shelf may say: settings, indexes, copies between files."""
        try:
            for statement in statements:
                self._connection.execute(statement)
        except sqlite3.Error as error:
            raise unreadable(self.path, error) from error

    @contextmanager
    def beside(self, other: Path, name: str) -> Iterator[None]:
        """Inside, another file's tables can be named, as `name.table`, and read."""
        self.select(f"ATTACH ? AS {name}", (file_uri(other, "ro"),))
        try:
            yield
        finally:
            self.execute(f"DETACH {name}")

    def copy_to(self, path: Path) -> None:
        """A whole copy in another file."""
        target = sqlite3.connect(path)
        try:
            self._connection.backup(target)
        finally:
            target.close()

    def close(self) -> None:
        """See `ReadTables`."""
        self._connection.close()

    def __enter__(self) -> SqliteTables:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _connected(path: Path, *, write: bool) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(file_uri(path, "rw" if write else "ro"), uri=True, isolation_level=None,
                                     check_same_thread=False)
        connection.text_factory = as_text
        connection.execute("PRAGMA synchronous = NORMAL" if write else "PRAGMA query_only = 1")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise unreadable(path, error) from error
    return connection


def unreadable(path: Path, error: sqlite3.Error) -> LedgerUnavailable:
    """Tables that cannot be read are made again; a disk that is full or fails is mended first."""
    if any(sign in str(error) for sign in ("disk is full", "disk I/O error", "readonly")):
        return LedgerUnavailable("READ_TABLES_FAULT", f"expected to bring the read tables up to date, found {error}",
                                 where=str(path), next_step="free some space or mend the disk; the log is whole, and "
                                 "`counterfoil rebuild` makes them again")
    return LedgerUnavailable("READ_TABLES_UNREADABLE", f"expected read tables, found {error}", where=str(path),
                             next_step="run `counterfoil rebuild`")
