"""Ledgers by URL: make a new one, open one to write or to read, and its read tables beside it.

Invariants: a ledger file appears under its name only when it is whole, on disk too; whoever writes holds its lock; a ledger
of another schema, or no ledger at all, is said to be that before anything is read.
"""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from sqlalchemy.exc import SQLAlchemyError

import migrations
from engine.ports import system
from ledger import reader, registry
from ledger.errors import LedgerUnavailable, UsageError
from ledger.events import RunStarted
from ledger.file_lock import FileLock
from ledger.file_uri import file_uri
from ledger.sqlite_store import SqliteStore, checkpoint, prepare_file
from ledger.store import StreamHead
from projections import catch_up as catching
from projections.read_tables import ReadTables, remove

DEFAULT_URL = "sqlite:///counterfoil.db"
VARIABLE = "COUNTERFOIL_LEDGER"
_UNFIT = re.compile("[\0\ud800-\udfff]")
"""What SQLite takes in no path: NUL, and bytes that are no UTF-8."""
REVISIONS = ("0001_log",)
"""The log's schemas that `upgrade` can begin from, the last of them the head."""
READ_PAGE_BYTES = 16_384


class Ledger:
    """An open ledger: `store` is its log. Use it as a context manager."""

    def __init__(self, url: str = DEFAULT_URL, *, write: bool = False, wait: bool = False) -> None:
        self.path = path_of(url)
        if not self.path.exists():
            raise LedgerUnavailable("LEDGER_MISSING", "expected a ledger, found no file", where=str(self.path),
                                    next_step="name one with --ledger sqlite:///FILE; `counterfoil run` makes one")
        recognise(self.path)
        self._check_schema()
        self.store = SqliteStore(self.path, write=write, wait=wait)

    @classmethod
    def create(cls, url: str = DEFAULT_URL, *, wait: bool = False) -> Ledger:
        """Open a ledger to write; make it when there is none."""
        path = path_of(url)
        if not path.exists():
            _make(path, wait=wait)
        return cls(url, write=True, wait=wait)

    def _check_schema(self) -> None:
        found = revision(self.path)
        if found != migrations.HEADS["log"]:
            raise LedgerUnavailable("LEDGER_SCHEMA", f"expected schema {migrations.HEADS['log']}, found {found or 'none'}",
                                    where=str(self.path), next_step="run `counterfoil db upgrade`, or a version that "
                                    "knows this schema")

    def heads(self) -> list[StreamHead]:
        """Every stream, the ledger's own first."""
        return self.store.heads()

    def catch_up(self) -> ReadTables:
        """The read tables at the end of every run, open to read."""
        with _of_read_tables(self.path):
            return ReadTables(catching.catch_up(self.store, self.path, make_read_tables), write=False)

    def rebuild(self, run: str | None = None) -> Path:
        """Make the read tables again from zero; gives the generation swapped in."""
        with _of_read_tables(self.path):
            return catching.rebuild(self.store, self.path, make_read_tables, run)

    def differences(self) -> list[catching.Difference]:
        """Where the read tables and the log disagree."""
        return catching.differences(self.store, self.path, make_read_tables)

    def differences_of(self, run: str) -> list[catching.Difference]:
        """The same of one run."""
        return catching.differences(self.store, self.path, make_read_tables, run)

    def file_reader(self, run: str) -> Callable[[str, int, int], bytes]:
        """Reads pieces of the files that a run's sinks name, relative to the directory it ran in."""
        _, started = next(reader.events(self.store, run, until=1))
        directory = Path(started.directory if isinstance(started, RunStarted) else ".")

        def read(uri: str, offset: int, length: int) -> bytes:
            with (directory / uri).open("rb") as file:
                file.seek(offset)
                return file.read(length)

        return read

    @contextmanager
    def as_of(self, run: str, seq: int) -> Iterator[ReadTables]:
        """Read tables of one run as they stood at `seq`, made for this one question."""
        head = self.store.head(run)
        if head is None:
            raise UsageError("RUN_UNKNOWN", "expected a run", where=run)
        with tempfile.TemporaryDirectory(prefix="counterfoil-") as directory:
            path = Path(directory) / "as_of.db"
            make_read_tables(path)
            with ReadTables(path, write=True) as tables:
                catching.project(self.store, head, tables, until=seq)
                yield tables

    def close(self) -> None:
        """Let go of the ledger and its lock."""
        self.store.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


_FAULTS = (sqlite3.Error, SQLAlchemyError, OSError)
"""What a disk that is full, broken or read-only makes of a database's work."""


def _said(error: BaseException) -> str:
    """What went wrong first: the database's own undoing of it may have failed too."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(getattr(error, "orig", None) or error).split())


@contextmanager
def _of_read_tables(path: Path) -> Iterator[None]:
    """Read tables that cannot be written are no fault of the record."""
    try:
        yield
    except _FAULTS as error:
        raise LedgerUnavailable("READ_TABLES_FAULT", f"expected to bring the read tables up to date, found {_said(error)}",
                                where=str(path), next_step="free some space or mend the disk; the log is whole, and "
                                "`counterfoil rebuild` makes them again") from error


def url_of(named: str | None, environment: Mapping[str, str], of_file: str | None = None) -> str:
    """The ledger that was named, else the environment's, else the pipeline file's, else the default; "" names none."""
    return named if named is not None else environment.get(VARIABLE) or of_file or DEFAULT_URL


def path_of(url: str) -> Path:
    """The file that a `sqlite:///` URL names; of a link the file itself, for locks and logs stand beside that one.

    Raises `UsageError` for anything else.
    """
    prefix = "sqlite:///"
    if url.startswith(prefix) and len(url) > len(prefix) and not _UNFIT.search(url):
        path = Path(url.removeprefix(prefix))
        path = Path(os.path.realpath(path)) if path.is_symlink() else path
        return path.absolute() if str(path).startswith("file:") else path  # SQLite may take `file:` for the scheme of a URI
    scheme = url.partition(":")[0]
    if scheme.startswith("postgres"):
        raise UsageError("LEDGER_UNSUPPORTED", "expected sqlite:///FILE: this version keeps its ledger on SQLite only",
                         where="--ledger", next_step="name a file")
    shown = re.sub(r"//[^@]*@", "//***@", url)
    raise UsageError("LEDGER_URL_INVALID", f"expected sqlite:///FILE, found {shown!r:.100}", where="--ledger",
                     next_step="three slashes and a path, e.g. sqlite:///counterfoil.db")


def is_part_of(path: Path, ledger: Path) -> bool:
    """Whether a path is the ledger's file, or one that is kept beside it."""
    path, ledger = path.resolve(), ledger.resolve()
    beside = rf"{re.escape(ledger.name)}(-wal|-shm|-journal|\.lock|\.new.*|\.read\..*)?"
    return path.parent == ledger.parent and re.fullmatch(beside, path.name) is not None


def revision(path: Path) -> str | None:
    """The schema revision that a file stands at, or None."""
    try:
        with closing(sqlite3.connect(file_uri(path, "ro"), uri=True)) as connection:
            row = connection.execute(f"SELECT version_num FROM {migrations.VERSION_TABLE}").fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None


def recognise(path: Path) -> None:
    """Raises `LedgerUnavailable` for what is no ledger, before anything in it is changed, its journal mode included."""
    SqliteStore(path, write=False).close()


def make_read_tables(path: Path) -> None:
    """An empty file with the read tables in it."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {READ_PAGE_BYTES}")
        connection.execute("PRAGMA user_version = 1")
    finally:
        connection.close()
    migrations.upgrade(_engine_url(path), "read")


def upgrade(path: Path, *, wait: bool) -> str:
    """Bring an existing ledger's schema to the head; gives the revision. Another program's database is left alone."""
    recognise(path)
    found = revision(path)
    if found not in REVISIONS:
        raise LedgerUnavailable("LEDGER_SCHEMA", f"expected a schema from {REVISIONS[0]} to {REVISIONS[-1]}, found "
                                f"{found or 'none'}", where=str(path), next_step="use a version that knows this schema")
    lock = FileLock(Path(f"{path}.lock"), wait=wait)
    try:
        migrations.upgrade(_engine_url(path), "log")
    finally:
        lock.release()
    return migrations.HEADS["log"]


def _sync(path: Path) -> None:
    """Bring a file, or the entries of a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make(path: Path, *, wait: bool) -> None:
    """Make a whole ledger under another name, then give it its own."""
    if not path.parent.is_dir():
        raise LedgerUnavailable("LEDGER_MISSING", "expected a directory for the ledger, found none", where=str(path.parent),
                                next_step="make the directory, or name another file with --ledger")
    lock = FileLock(Path(f"{path}.lock"), wait=wait)
    temporary = path.with_name(f"{path.name}.new")
    try:
        if path.exists():
            return
        remove(temporary)
        ports = system()
        prepare_file(temporary)
        migrations.upgrade(_engine_url(temporary), "log")
        store = SqliteStore(temporary, write=True)
        try:
            registry.create(store, ports.random_bytes(16).hex(), ports.wall_us())
        finally:
            store.close()
        checkpoint(temporary)
        _sync(temporary)
        os.rename(temporary, path)
        _sync(path.parent)
    except _FAULTS as error:
        raise LedgerUnavailable("LEDGER_NOT_MADE", f"expected to make a ledger, found {_said(error)}", where=str(path),
                                next_step="check the directory and its space") from error
    finally:
        with suppress(OSError):
            remove(temporary)
        with suppress(OSError):
            path.with_name(f"{path.name}.new.lock").unlink()
        lock.release()


def _engine_url(path: Path) -> str:
    """The path for SQLAlchemy, which would take a `?` in it for the beginning of options."""
    return f"sqlite:///{quote(str(path.absolute()))}"
