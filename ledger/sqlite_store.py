"""The event store on SQLite: the embedded default.

Why so: one writing process per file, held by an OS lock (common SQLite builds before 3.51.3 can corrupt a write-ahead log
with two writers); one read-write connection in it; everyone else reads with `mode=ro` and never waits for the writer.

Invariants: WAL, and `synchronous=FULL` read back and insisted on; every append is one `BEGIN IMMEDIATE` transaction that
checks size and epoch first; the tables and triggers are alembic's, this file only checks that they are there.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from ledger.errors import LedgerUnavailable, UsageError
from ledger.file_lock import DISK_FAULTS, FileLock
from ledger.file_uri import UNDECODABLE, as_text, file_uri
from ledger.guards import TRIGGERS
from ledger.rows import EARLY, FETCH_ROWS, pages, payload_of
from ledger.store import Part, Payload, StoreConflict, Stored, StreamHead

PAGE_BYTES = 8192
LOOK_AGAIN_SECONDS = 0.05
_BLOCK_BYTES = 1024 * 1024
APPLICATION_ID = 0x43464C31
"""`CFL1` in the file's header: tells our ledgers from other programs' databases."""

TABLES = frozenset({"streams", "events", "payloads", "alembic_version"})

_STRAYS = (
    "WITH RECURSIVE found(stream) AS (SELECT min(stream) FROM {table} UNION ALL SELECT (SELECT min(stream) FROM {table} "
    "WHERE stream > found.stream) FROM found WHERE found.stream IS NOT NULL) "
    "SELECT stream FROM found WHERE stream IS NOT NULL AND stream NOT IN (SELECT stream FROM streams)"
)
"""Stream numbers without a stream, found by leaps over the key rather than by a walk."""

_HEAD = "SELECT run_id, size, epoch, root, frontier, status FROM streams"


class SqliteStore:
    """A ledger file. `write=True` takes the file's lock and makes it the one writing process."""

    def __init__(self, path: Path, *, write: bool, wait: bool = False) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self._ids: dict[str, int] = {}
        self._lock = FileLock(Path(f"{path}.lock"), wait=wait) if write else None
        try:
            self._engine, self._connection = _connect(path, write=write)
        except BaseException:
            if self._lock:
                self._lock.release()
            raise

    def append(self, parts: Sequence[Part]) -> None:
        """See `ledger.store.Store`."""
        sql = self._connection.exec_driver_sql
        try:
            sql("BEGIN IMMEDIATE")
            try:
                for part in parts:
                    self._append(part)
                sql("COMMIT")
            except BaseException:
                self._rollback()
                raise
        except DBAPIError as error:
            raise _unavailable(error, self.path) from error

    def _rollback(self) -> None:
        raw = self._raw()
        if raw.in_transaction:
            raw.execute("ROLLBACK")
        self._ids.clear()

    def _append(self, part: Part) -> None:
        sql, head = self._connection.exec_driver_sql, part.head
        stream = self._begin(part)
        if part.events:
            sql(f"INSERT INTO events VALUES ({stream}, ?, ?, ?, ?, ?, ?, ?)", part.events)
        if part.payloads:
            sql(f"INSERT INTO payloads VALUES ({stream}, ?, ?, ?, ?)", part.payloads)
        sql(
            "UPDATE streams SET size = ?, epoch = ?, root = ?, frontier = ?, status = ? WHERE stream = ?",
            (head.size, head.epoch, head.root, head.frontier, head.status, stream),
        )

    def _begin(self, part: Part) -> int:
        """The stream's number, once it stands where the writer thinks it does; a new stream is made."""
        sql, run = self._connection.exec_driver_sql, part.head.run
        row = sql("SELECT stream, size, epoch FROM streams WHERE run_id = ?", (run,)).fetchone()
        found = None if row is None else (row[1], row[2])
        expected = None if part.expected_size is None else (part.expected_size, part.expected_epoch)
        if found != expected:
            raise StoreConflict(run, f"{expected or 'none'}", f"{found or 'none'}")
        size = (part.expected_size or 0) + len(part.events)
        if part.head.size != size:
            raise StoreConflict(run, f"a head of size {size}", f"size {part.head.size}")
        if row is not None:
            return int(row[0])
        sql("INSERT INTO streams (run_id, size, epoch, root, frontier, status) VALUES (?, 0, 0, x'', x'', 'running')",
            (run,))
        return int(sql("SELECT last_insert_rowid()").scalar_one())

    def head(self, run: str) -> StreamHead | None:
        """See `ledger.store.Store`."""
        row = self._select(f"{_HEAD} WHERE run_id = ?", (run,))
        return StreamHead._make(row[0]) if row else None

    def heads(self) -> list[StreamHead]:
        """See `ledger.store.Store`."""
        return [StreamHead._make(row) for row in self._select(f"{_HEAD} ORDER BY stream", ())]

    def read(self, run: str, after: int = 0, until: int | None = None) -> Iterator[Stored]:
        """See `ledger.store.Store`."""
        stream = self._stream(run)
        last = until if until is not None else 2**62
        if stream is not None:
            for rows in pages(after, lambda place: self._select(
                    "SELECT seq, type, v, token, row_index, at, body FROM events "
                    "WHERE stream = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?", (stream, place, last, FETCH_ROWS))):
                yield from map(Stored._make, rows)

    def payloads(self, run: str, numbers: Sequence[int]) -> dict[int, Payload]:
        """See `ledger.store.Store`."""
        stream = self._stream(run)
        found: dict[int, Payload] = {}
        for start in range(0, len(numbers) if stream is not None else 0, 500):
            some = tuple(numbers[start : start + 500])
            marks = ",".join("?" * len(some))
            rows = self._select(
                f"SELECT n, salt, bytes, permanent FROM payloads WHERE stream = ? AND n IN ({marks})", (stream, *some)
            )
            found.update({row[0]: payload_of(row) for row in rows})
        return found

    def payloads_between(self, run: str, first: int, last: int) -> Iterator[Payload]:
        """See `ledger.store.Store`."""
        stream = self._stream(run)
        if stream is not None:
            for rows in pages(first - 1, lambda place: self._select(
                    "SELECT n, salt, bytes, permanent FROM payloads "
                    "WHERE stream = ? AND n > ? AND n <= ? ORDER BY n LIMIT ?", (stream, place, last, FETCH_ROWS))):
                yield from map(payload_of, rows)

    def kinds(self) -> list[tuple[str, int, int]]:
        """See `ledger.store.Store`."""
        found = self._select("SELECT type, v, count(*) FROM events GROUP BY type, v ORDER BY type, v", ())
        return [tuple(row) for row in found]

    def hold(self, run: str) -> None:
        """See `ledger.store.Store`: the file's lock keeps every other writer out of every run."""

    def wait(self, seconds: float) -> None:
        """See `ledger.store.Store`: a file tells nobody, so it is looked at again after a moment."""
        time.sleep(min(seconds, LOOK_AGAIN_SECONDS))

    def guards(self) -> list[str]:
        """See `ledger.store.Store`: triggers as migrated, no other table, trigger or view, no entry of no stream."""
        rows = self._select("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'", ())
        found = {name: (kind, sql) for kind, name, sql in rows}
        faults = [f"guard {name} is missing" for name in TRIGGERS if name not in found]
        faults += [
            f"guard {name} was changed"
            for name, text in TRIGGERS.items()
            if name in found and _squeeze(found[name][1]) != _squeeze(text)
        ]
        known = TRIGGERS.keys() | TABLES
        faults += [f"{kind} {name} does not belong here" for name, (kind, _) in found.items() if name not in known]
        for table, place in (("events", "seq"), ("payloads", "n")):
            strays = self._select(_STRAYS.format(table=table), ())
            faults += [f"{table} of stream {stream} are of no run" for (stream,) in strays]
            early = self._select(EARLY.format(table=table, place=place), ())
            faults += [f"{table} of run {run} have one before the first" for (run,) in early]
        return faults

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See `ledger.store.Store`: one read transaction; a writer needs none, for there is no other."""
        raw = self._raw()
        if self._lock is not None or raw.in_transaction:
            yield
            return
        self._select("BEGIN", ())
        try:
            yield
        finally:
            if self._raw().in_transaction:
                self._select("ROLLBACK", ())

    def close(self) -> None:
        """See `ledger.store.Store`."""
        self._connection.close()
        self._engine.dispose()
        if self._lock:
            self._lock.release()

    def _stream(self, run: str) -> int | None:
        if run not in self._ids:
            row = self._select("SELECT stream FROM streams WHERE run_id = ?", (run,))
            if not row:
                return None
            self._ids[run] = row[0][0]
        return self._ids[run]

    def _select(self, statement: str, values: tuple[object, ...]) -> Sequence[Any]:
        raw = self._raw()
        try:
            return raw.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            if UNDECODABLE not in str(error) or raw.text_factory is not str:
                raise _unavailable(error, self.path) from error
        raw.text_factory = as_text  # so that one edited text is told as what it is, and hides nothing beside it
        return self._select(statement, values)

    def _raw(self) -> sqlite3.Connection:
        raw: object = self._connection.connection.dbapi_connection
        if not isinstance(raw, sqlite3.Connection):
            raise TypeError("the connection is not SQLite's")
        return raw


def _connect(path: Path, *, write: bool) -> tuple[Engine, Connection]:
    """One connection; a writer's is WAL and FULL or not at all."""
    if path.is_dir():
        raise UsageError("LEDGER_IS_DIRECTORY", "expected a ledger file, found a directory", where=str(path),
                         next_step="name a file with --ledger sqlite:///FILE")
    uri = file_uri(path, "rw" if write else "ro")

    def creator() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)

    engine = create_engine("sqlite://", creator=creator, poolclass=StaticPool, isolation_level="AUTOCOMMIT")
    try:
        connection = engine.connect()
        if write:
            _insist(connection, path)
        _recognise(connection, path)
        if write:
            _make_durable(connection, path)
    except DBAPIError as error:
        engine.dispose()
        raise _unavailable(error, path) from error
    except BaseException:
        engine.dispose()
        raise
    return engine, connection


def prepare_file(path: Path) -> None:
    """Make a new ledger file with what must be set before its first table; alembic makes the tables."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    finally:
        connection.close()


def checkpoint(path: Path) -> None:
    """Bring what stands in a write-ahead log into the file itself, which nobody has open, so that it may get another name.

    Closing does so too, but says nothing when it fails. Raises sqlite3.Error.
    """
    connection = sqlite3.connect(file_uri(path, "rw"), uri=True, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.close()
    if busy:
        raise sqlite3.OperationalError("a file that is being made is in use")


def sync(path: Path) -> None:
    """Bring a file, or the entries of a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _insist(connection: Connection, path: Path) -> None:
    sql = connection.exec_driver_sql
    sql("PRAGMA synchronous = FULL")
    sql("PRAGMA cache_size = -16000")
    mode, synchronous = sql("PRAGMA journal_mode = WAL").scalar(), sql("PRAGMA synchronous").scalar()
    if mode != "wal" or synchronous != 2:
        raise LedgerUnavailable("LEDGER_UNSAFE", f"expected journal WAL and synchronous FULL, found {mode}, {synchronous}",
                                where=str(path), next_step="put the ledger on a local disk that SQLite can use")


def _make_durable(connection: Connection, path: Path) -> None:
    """Write what is in the write-ahead log once more, and sync it, before anything is added to it.

    A process whose sync failed may have died with its commit in the kernel's cache only, marked as written: this connection
    reads that commit like any other, and no later sync would bring it to the disk. The same bytes written again do.
    """
    done = 0
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # nobody changes the log meanwhile
    try:
        with Path(f"{path}-wal").open("r+b", buffering=0) as log:
            while block := os.pread(log.fileno(), _BLOCK_BYTES, done):
                done += os.pwrite(log.fileno(), block, done)
            os.fsync(log.fileno())
    except FileNotFoundError:
        pass
    except OSError as error:
        code, step = DISK_FAULTS.get(error.errno or 0, ("LEDGER_IO", "mend the disk, then resume the run"))
        raise LedgerUnavailable(code, f"expected a disk that keeps what is written, found {error.strerror}", where=str(path),
                                next_step=step) from error
    finally:
        connection.exec_driver_sql("ROLLBACK")


def _recognise(connection: Connection, path: Path) -> None:
    """Tell a ledger from another program's database."""
    tables = {row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")}
    missing = {"streams", "events", "payloads"} - tables
    if missing:
        raise LedgerUnavailable("LEDGER_FOREIGN", f"expected a counterfoil ledger, found no table {sorted(missing)[0]}",
                                where=str(path), next_step="name another file, or `counterfoil db upgrade` a new one")


def _unavailable(error: Exception, path: Path) -> LedgerUnavailable:
    """SQLite's own words as a typed error with a next step."""
    text = str(error.orig if isinstance(error, DBAPIError) else error)
    for sign, code, step in _FAULTS:
        if sign in text:
            return LedgerUnavailable(code, text, where=str(path), next_step=step)
    return LedgerUnavailable("LEDGER_FAULT", text, where=str(path), next_step="check the file and its directory")


_FAULTS = (
    ("not a database", "LEDGER_FOREIGN", "this is no SQLite file: name another one"),
    ("malformed", "LEDGER_DAMAGED", "restore the file from a copy; `counterfoil verify` says what holds"),
    ("disk is full", "LEDGER_FULL", "free some space, then resume the run"),
    ("disk I/O error", "LEDGER_IO", "mend the disk, then resume the run"),
    ("readonly", "LEDGER_READ_ONLY", "make the file and its directory writable"),
    ("unable to open", "LEDGER_MISSING", "check the path; a run makes a new ledger"),
    ("locked", "LEDGER_BUSY", "another process writes this file: wait, or use --wait"),
    ("no such column", "LEDGER_SCHEMA", "run `counterfoil db check`"),
)


def _squeeze(sql: str) -> str:
    return " ".join(sql.split())
