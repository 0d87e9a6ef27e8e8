"""Ledgers for tests: files are made once by the migrations and then copied, since only the bytes matter."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from ledger.postgres_session import PATIENCE, Patience
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from ledger.sqlite_store import SqliteStore, prepare_file
from migrations import upgrade
from tests.kit.log import Log


@cache
def empty_ledger() -> bytes:
    """The bytes of a new ledger file, as `prepare_file` and the migrations of the log make it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.db"
        prepare_file(path)
        upgrade(f"sqlite:///{path}", "log")
        return path.read_bytes()


def new_file(folder: Path, name: str = "ledger.db") -> Path:
    """A new ledger file without a stream."""
    path = folder / name
    path.write_bytes(empty_ledger())
    return path


def written(folder: Path, *logs: Log, name: str = "ledger.db") -> Path:
    """A closed ledger file that holds these runs, in this order."""
    path = new_file(folder, name)
    store = SqliteStore(path, write=True)
    for log in logs:
        log.store(store)
    store.close()
    return path


def postgres_store(url: str, *, patience: Patience = PATIENCE) -> PostgresStore:
    """A new log without a stream on PostgreSQL, open to write."""
    address = parsed(url)
    upgrade(address.sqlalchemy(), "log", schema=address.schema)
    return PostgresStore(address, write=True, patience=patience)
