"""The read tables of one ledger on SQLite: generation files `<ledger>.read.<n>.db` beside it.

Why generations: a rebuild fills a new file under a temporary name and renames it when it is whole; whoever reads goes on
reading the old one. Readers take the highest.

Invariants: no file that is open is ever renamed over; effect and place are stored in one transaction; what is here can be
thrown away, so nothing but speed and wholeness is asked of it.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ledger.errors import LedgerUnavailable
from ledger.file_uri import as_text, file_uri
from ledger.sqlite_store import checkpoint
from projections.output import Record

FETCH_ROWS = 1000
CHANGING = frozenset({"p_payloads", "p_tokens", "p_states", "p_groups", "p_batches", "p_sink_writes", "p_violations"})
"""Tables whose rows are stored again when what they tell of goes on."""


class ReadTables:
    """One open generation. `write=False` opens it read-only."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(file_uri(path, "rw" if write else "ro"), uri=True, isolation_level=None,
                                               check_same_thread=False)
            self._connection.text_factory = as_text
            self._connection.execute("PRAGMA synchronous = NORMAL" if write else "PRAGMA query_only = 1")
            self._columns = self._count_columns()
        except sqlite3.Error as error:
            raise _unreadable(path, error) from error

    def _count_columns(self) -> dict[str, int]:
        tables = [row[0] for row in self.select("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: len(self.select(f"SELECT name FROM pragma_table_info('{name}')")) for name in tables}

    def select(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """All rows of a SELECT, as tuples."""
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _unreadable(self.path, error) from error

    def records(self, statement: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        """All rows of a SELECT, as mappings by column name."""
        return list(self.stream(statement, values))

    def stream(self, statement: str, values: Sequence[object] = ()) -> Iterator[dict[str, Any]]:
        """The rows of a SELECT as mappings, fetched in batches."""
        try:
            cursor = self._connection.execute(statement, values)
            names = [column[0] for column in cursor.description]
            while rows := cursor.fetchmany(FETCH_ROWS):
                yield from (dict(zip(names, row, strict=True)) for row in rows)
        except sqlite3.Error as error:
            raise _unreadable(self.path, error) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is stored, or nothing."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise _unreadable(self.path, error) from error
            raise

    def key_of(self, run_id: str) -> int:
        """The number by which the tables know a run; a new run gets the next."""
        found = self.select("SELECT run FROM p_runs WHERE run_id = ?", (run_id,))
        if found:
            return int(found[0][0])
        self._connection.execute("INSERT INTO p_runs (run, run_id) SELECT coalesce(max(run), 0) + 1, ? FROM p_runs",
                                 (run_id,))
        return self.key_of(run_id)

    def put(self, run: int, rows: Mapping[str, Sequence[Record]]) -> None:
        """Store a projector's rows; where rows can change, one whose key is there already takes its place."""
        for table, records in rows.items():
            if records:
                marks = ", ".join("?" * (self._columns[table] - 1))
                verb = "INSERT OR REPLACE" if table in CHANGING else "INSERT"
                self._connection.executemany(f"{verb} INTO {table} VALUES ({run}, {marks})", records)

    def put_run(self, run: int, record: Record) -> None:
        """Store the run's own row."""
        self._connection.execute(f"INSERT OR REPLACE INTO p_runs VALUES ({run}, {', '.join('?' * len(record))})", record)

    def put_place(self, run: int, projector: str, fingerprint: str, seq: int) -> None:
        """Store how far a projector has read."""
        self._connection.execute("INSERT OR REPLACE INTO p_places VALUES (?, ?, ?, ?)", (run, projector, fingerprint, seq))

    def forget(self, run_id: str) -> None:
        """Remove every row of one run."""
        for (run,) in self.select("SELECT run FROM p_runs WHERE run_id = ?", (run_id,)):
            for table in self._columns:
                if table.startswith("p_"):
                    self._connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))

    def places(self) -> dict[str, tuple[str, int]]:
        """Run id to (fingerprint, seq) of the projector."""
        found = self.select("SELECT stream, fingerprint, seq FROM projection_places")
        return {stream: (fingerprint, seq) for stream, fingerprint, seq in found}

    def runs(self) -> set[str]:
        """The runs that are told here."""
        return {run for (run,) in self.select("SELECT run_id FROM p_runs")}

    def differences(self, other: Path, views: Sequence[str], run: str, limit: int
                    ) -> list[tuple[str, str, dict[str, Any]]]:
        """(view, `here` or `there`, row) of a run that only one of the two files has, up to `limit` a side of a view."""
        self._connection.execute("ATTACH ? AS other", (file_uri(other, "ro"),))
        found: list[tuple[str, str, dict[str, Any]]] = []
        for view in views:
            for side, one, two in (("here", "main", "other"), ("there", "other", "main")):
                sql = (f"SELECT * FROM {one}.{view} WHERE run_id = ? EXCEPT SELECT * FROM {two}.{view} WHERE run_id = ? "
                       f"LIMIT {limit}")
                found += [(view, side, row) for row in self.records(sql, (run, run))]
        self._connection.execute("DETACH other")
        return found

    def copy_to(self, path: Path) -> None:
        """A whole copy in another file."""
        target = sqlite3.connect(path)
        try:
            self._connection.backup(target)
        finally:
            target.close()

    def has_views(self, names: Sequence[str]) -> bool:
        """Whether every view is there."""
        found = {row[0] for row in self.select("SELECT name FROM sqlite_master WHERE type = 'view'")}
        return found.issuperset(names)

    def damage(self) -> str | None:
        """What SQLite finds wrong with the file's pages, or None."""
        found = self.select("PRAGMA quick_check(1)")
        return None if found == [("ok",)] else str(found[0][0])

    def hurry(self) -> None:
        """Settings for a file that nobody reads before it is whole."""
        self._connection.execute("PRAGMA journal_mode = MEMORY")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("PRAGMA cache_size = -65536")

    def settle(self) -> None:
        """Turn a freshly filled file into one that can be read while it is written, and whose planner knows its shape."""
        self._connection.execute("PRAGMA analysis_limit = 400")
        self._connection.execute("ANALYZE")
        self._connection.execute("PRAGMA journal_mode = WAL")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def __enter__(self) -> ReadTables:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def generation(ledger: Path) -> Path | None:
    """The highest whole generation beside a ledger, or None."""
    found = _generations(ledger)
    return found[-1][1] if found else None


def next_generation(ledger: Path) -> Path:
    """The name that the next whole generation gets."""
    found = _generations(ledger)
    return ledger.with_name(f"{ledger.name}.read.{found[-1][0] + 1 if found else 1}.db")


def swap_in(temporary: Path, ledger: Path) -> Path:
    """Make a whole, closed file the highest generation, durably; generations before the last are removed."""
    path = next_generation(ledger)
    checkpoint(temporary)
    _sync(temporary)
    temporary.rename(path)
    _sync(path.parent)
    for _, old in _generations(ledger)[:-2]:
        remove(old)
    return path


def remove(path: Path) -> None:
    """Remove a file with what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()


def _generations(ledger: Path) -> list[tuple[int, Path]]:
    pattern = re.compile(re.escape(f"{ledger.name}.read.") + r"(\d+)\.db")
    try:
        names = os.listdir(ledger.parent)
    except OSError:
        return []
    matches = [match for match in map(pattern.fullmatch, names) if match]
    return sorted((int(match.group(1)), ledger.parent / match.group(0)) for match in matches)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unreadable(path: Path, error: sqlite3.Error) -> LedgerUnavailable:
    return LedgerUnavailable("READ_TABLES_UNREADABLE", f"expected read tables, found {error}", where=str(path),
                             next_step="run `counterfoil rebuild`")
