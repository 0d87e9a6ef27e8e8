"""A log in memory that grows, and its read tables on a shelf of either database: what a rebuild does must be the same there.

Invariants: the tables are made by the doors' own migrations; what is edited behind their back is edited by a plain session.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from counterfoil.ledgers import keeping_of
from ledger.postgres_url import parsed
from ledger.store import Store, Stored
from projections import catch_up as catching
from projections.catch_up import Difference
from projections.processes import Processes
from projections.projectors import Projector, run_projector
from projections.read_tables import ReadTables, Shelf
from projections.rebuild import Progress, Rebuild, rebuild
from projections.sqlite_shelf import SqliteShelf
from projections.views import TOLD
from tests.kit.log import Log
from tests.kit.postgres_databases import connected
from tests.kit.tamper import edit_events, rehash
from tests.projections.reading import make

Dump = Mapping[str, list[tuple[Any, ...]]]
Asking = Callable[[str], list[Any]]

BOTH = pytest.mark.parametrize("database", ["sqlite", "postgresql"])


class Kept:
    """A log in memory and read tables, of which `database` names the kind. A run can be cut back and grow again."""

    def __init__(self, shelf: Shelf, where: Path | str, logs: Sequence[Log]) -> None:
        self.shelf = shelf
        self.where = where
        self.said: list[str] = []
        self.store = stored(logs)
        self.whole = {log.run: list(self.store.read(log.run)) for log in logs}

    def grow(self, run: str, size: int | None = None) -> None:
        """Let the run's stream have exactly its first `size` events, or all."""
        self.say(run, self.whole[run][:size])

    def say(self, run: str, events: Sequence[Stored]) -> None:
        """Let the run's stream have these events, with the tree that belongs to them."""
        edit_events(self.store, run, lambda _: events)
        rehash(self.store, run)

    def catch_up(self, projector: Projector | None = None) -> str:
        """Catch the read tables up; gives the generation."""
        return catching.catch_up(self.store, self.shelf, self.said.append, Rebuild(projector or run_projector()))

    def rebuild(self, progress: Callable[[Progress], None] = lambda _: None, *, run: str | None = None,
                projector: Projector | None = None, helpers: Processes | None = None) -> str:
        """Make them again from zero."""
        return rebuild(self.store, self.shelf, Rebuild(projector or run_projector(), progress, helpers), run)

    def differences(self, run: str | None = None) -> list[Difference]:
        """Where they and the log disagree."""
        return catching.differences(self.store, self.shelf, run)

    def reading(self) -> ReadTables:
        """The generation that readers take, open."""
        name = self.shelf.generation()
        assert name is not None
        return self.shelf.open(name)

    def dump(self) -> Dump:
        """Every row that readers see, in one canonical order."""
        with self.reading() as tables:
            return dump_of(tables)

    @contextmanager
    def session(self, name: str | None = None) -> Iterator[Asking]:
        """A plain session, in a generation or in the shadow, that asks and edits."""
        if isinstance(self.where, str):
            schema = name or f"{parsed(self.where).schema}_read_new"
            with connected(self.where) as raw:
                raw.execute(f'SET search_path TO "{schema}"'.encode())

                def ask(statement: str) -> list[Any]:
                    cursor = raw.execute(statement.encode())
                    return cursor.fetchall() if cursor.description else []

                yield ask
        else:
            path = Path(name) if name else self.where.with_name(f"{self.where.name}.read.new")
            with closing(sqlite3.connect(path, isolation_level=None)) as file:
                yield lambda statement: file.execute(statement).fetchall()

    def edit(self, *statements: str, name: str | None = None) -> None:
        """Write behind the projector's back: in the shadow, or in a generation."""
        with self.session(name) as ask:
            for statement in statements:
                ask(statement)

    def left(self) -> list[str]:
        """What there is of read tables beside the generations and the locks that stay."""
        if isinstance(self.where, str):
            with connected(self.where) as raw:
                names = [name for (name,) in raw.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '_read_'")]
                locks = raw.execute("SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid() "
                                    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
                return [name for name in names if not name.rpartition("_")[2].isdecimal()] + [str(row) for row in locks]
        return [one.name for one in self.where.parent.iterdir() if ".new" in one.name or "compared" in one.name]


def stored(logs: Sequence[Log]) -> Store:
    """The logs in one store."""
    store: Store | None = None
    for log in logs:
        store = log.store(store)
    assert store is not None
    return store


def dump_of(tables: ReadTables) -> Dump:
    """Every promised row, by view."""
    return {view: sorted((_plain(row) for row in tables.select(f"SELECT * FROM {view}")), key=repr) for view in TOLD}


def _plain(row: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)


def named(log: Log, run: str) -> Log:
    """The same log as another run's."""
    log.run = run
    return log


def kept(request: pytest.FixtureRequest, tmp_path: Path, database: str, *logs: Log) -> Kept:
    """These logs over read tables of that kind."""
    if database == "postgresql":
        url: str = request.getfixturevalue("postgres_url")
        return Kept(keeping_of(url).shelf(), url, logs)
    path = tmp_path / "ledger.db"
    return Kept(SqliteShelf(path, make), path, logs)


def rebuilt(tmp_path: Path, *logs: Log) -> Dump:
    """What one rebuild on SQLite makes of these logs."""
    folder = tmp_path / "rebuilt"
    folder.mkdir(exist_ok=True)
    found = Kept(SqliteShelf(folder / "ledger.db", make), folder / "ledger.db", logs)
    found.rebuild()
    return found.dump()
