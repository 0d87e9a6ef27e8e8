"""Read tables for tests: filled from hand-made logs in the in-memory store, read as rows.

Why copied files: the tables are made once by the migrations, then only their bytes matter.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ledger import events as e
from ledger.store import Store
from migrations import upgrade
from projections.project import Target, project
from projections.projectors import run_projector
from projections.sqlite_tables import SqliteTables
from projections.views import TOLD
from tests.kit.log import RUN, Log

Row = dict[str, Any]


@cache
def empty_tables() -> bytes:
    """The bytes of a file with the read tables and nothing in them, as the migrations make it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        upgrade(f"sqlite:///{path}", "read")
        return path.read_bytes()


def make(path: Path) -> None:
    """Make empty read tables at a path."""
    path.write_bytes(empty_tables())


class Told:
    """Read tables that were caught up with a store; `run` is the one asked about."""

    def __init__(self, store: Store, path: Path, run: str = RUN) -> None:
        self.store = store
        self.run = run
        self.path = path
        self.tables = SqliteTables(path, write=False)

    def rows(self, view: str, columns: str = "*", where: str = "", order: str = "") -> list[Row]:
        """Rows of the run as mappings of the named columns, in the order given (the key's, unless said)."""
        condition = f" AND ({where})" if where else ""
        ending = f" ORDER BY {order}" if order else ""
        return self.tables.records(f"SELECT {columns} FROM {view} WHERE run_id = ?{condition}{ending}", (self.run,))

    def told(self, view: str, columns: str, where: str = "", order: str = "") -> list[tuple[Any, ...]]:
        """The same as tuples."""
        return [tuple(row.values()) for row in self.rows(view, columns, where, order)]

    def one(self, view: str, columns: str = "*", where: str = "") -> Row:
        """The one row that there must be."""
        found = self.rows(view, columns, where)
        assert len(found) == 1, f"expected one row of {view} where {where}, found {len(found)}"
        return found[0]

    def close(self) -> None:
        """Let go of the file."""
        self.tables.close()


@contextmanager
def told(log: Log, until: int | None = None) -> Iterator[Told]:
    """The read tables of one log, as of `until`."""
    store = log.store()
    head = store.head(log.run)
    assert head is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tables.db"
        make(path)
        with SqliteTables(path, write=True) as tables:
            project(store, head, Target(tables, run_projector()), until=until)
        found = Told(store, path, log.run)
        try:
            yield found
        finally:
            found.close()


def dump(path: Path) -> Mapping[str, list[tuple[Any, ...]]]:
    """Every promised row of a file, by view, in one canonical order."""
    with SqliteTables(path, write=False) as tables:
        return {view: sorted(tables.select(f"SELECT * FROM {view}"), key=repr) for view in TOLD}


def event_at(log: Log, seq: int) -> e.Event:
    """The event that a row cites."""
    return log.stamped()[seq - 1]
