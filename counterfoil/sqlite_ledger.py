"""A ledger in a SQLite file: made, known, opened.

Invariants: a ledger file appears under its name only when it is whole, on disk too; whoever writes holds its lock; a ledger
of another schema, or no ledger at all, is said to be that before anything is read.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import migrations
from counterfoil.boxes import Asked, ask_sqlite
from counterfoil.keeping import FAULTS, foreign_schema, said
from engine.ports import system
from ledger import registry
from ledger.errors import LedgerUnavailable
from ledger.file_lock import FileLock
from ledger.file_uri import file_uri
from ledger.sqlite_store import SqliteStore, checkpoint, prepare_file, sync
from projections.sqlite_shelf import SqliteShelf, remove

READ_PAGE_BYTES = 16_384


class SqliteKeeping:
    """See `counterfoil.keeping.Keeping`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shown = str(path)

    def exists(self) -> bool:
        """See `Keeping`."""
        return self.path.exists()

    def recognise(self) -> None:
        """See `Keeping`: neither is the journal mode of what is no ledger."""
        SqliteStore(self.path, write=False).close()

    def revision(self) -> str | None:
        """See `Keeping`."""
        try:
            with closing(sqlite3.connect(file_uri(self.path, "ro"), uri=True)) as connection:
                found = connection.execute(f"SELECT version_num FROM {migrations.VERSION_TABLE} ORDER BY 1").fetchall()
        except sqlite3.Error:
            return None
        return ", ".join(str(revision) for (revision,) in found) or None

    def make(self, *, wait: bool) -> None:
        """See `Keeping`: whole under another name, then it gets its own."""
        path = self.path
        if not path.parent.is_dir():
            raise LedgerUnavailable("LEDGER_MISSING", "expected a directory for the ledger, found none",
                                    where=str(path.parent), next_step="make it, or name another file with --ledger")
        lock = FileLock(Path(f"{path}.lock"), wait=wait)
        temporary = path.with_name(f"{path.name}.new")
        try:
            if path.exists():
                return
            _make(temporary)
            os.rename(temporary, path)
            sync(path.parent)
        except FAULTS as error:
            raise LedgerUnavailable("LEDGER_NOT_MADE", f"expected to make a ledger, found {said(error)}", where=str(path),
                                    next_step="check the directory and its space") from error
        finally:
            with suppress(OSError):
                remove(temporary)
            with suppress(OSError):
                path.with_name(f"{path.name}.new.lock").unlink()
            lock.release()

    def upgrade(self, *, wait: bool) -> list[str]:
        """See `Keeping`."""
        self.recognise()
        foreign_schema(self)
        lock = FileLock(Path(f"{self.path}.lock"), wait=wait)
        try:
            migrations.upgrade(_engine_url(self.path), "log")
        finally:
            lock.release()
        return []

    def safety(self) -> str | None:
        """See `Keeping`: who writes a file sets and reads back what makes it safe."""
        return None

    def store(self, *, write: bool, wait: bool) -> SqliteStore:
        """See `Keeping`."""
        return SqliteStore(self.path, write=write, wait=wait)

    def shelf(self) -> SqliteShelf:
        """See `Keeping`."""
        return _Shelf(self.path, make_read_tables)

    def ask(self, sql: str, read_tables: str) -> Asked:
        """See `Keeping`."""
        return ask_sqlite(sql, Path(read_tables), self.path)

    def is_part(self, path: Path) -> bool:
        """See `Keeping`."""
        path, ledger = path.resolve(), self.path.resolve()
        beside = rf"{re.escape(ledger.name)}(-wal|-shm|-journal|\.lock|\.new.*|\.read\..*)?"
        return path.parent == ledger.parent and re.fullmatch(beside, path.name) is not None

    def absolute(self) -> str:
        """See `Keeping`."""
        return f"sqlite:///{self.path.absolute()}"


class _Shelf(SqliteShelf):
    """The read tables, which are this version's when their file's revision is."""

    def is_of_this_schema(self, name: str) -> bool:
        """See `Shelf`."""
        with self.open(name) as tables:
            known = tables.select("SELECT 1 FROM sqlite_master WHERE name = ?", (migrations.VERSION_TABLE,))
            revision = tables.select(f"SELECT version_num FROM {migrations.VERSION_TABLE}") if known else []
        return revision == [(migrations.HEADS["read"],)] and super().is_of_this_schema(name)


def make_read_tables(path: Path) -> None:
    """An empty file with the read tables in it."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {READ_PAGE_BYTES}")
        connection.execute("PRAGMA user_version = 1")
    finally:
        connection.close()
    migrations.upgrade(_engine_url(path), "read")


def _make(temporary: Path) -> None:
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
    sync(temporary)


def _engine_url(path: Path) -> str:
    """The path for SQLAlchemy, which would take a `?` in it for the beginning of options."""
    return f"sqlite:///{quote(str(path.absolute()))}"
