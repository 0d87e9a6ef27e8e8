"""A ledger in a schema of a PostgreSQL database: made, known, opened.

Invariants: a ledger is made in a schema that is empty, on a server that keeps what it acknowledges, or not at all; who may
do what in it is `counterfoil.postgres_roles`. SQLAlchemy gets connections that are made here, so it never learns a password.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

import migrations
from counterfoil import postgres_roles
from counterfoil.boxes import Asked
from counterfoil.keeping import foreign_schema
from counterfoil.postgres_box import ask_postgres
from counterfoil.postgres_reading import ReadShelf
from engine.ports import system
from ledger import ids, registry
from ledger.errors import LedgerUnavailable
from ledger.postgres_session import Session, connect, unavailable
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import PostgresUrl
from ledger.store import StoreConflict

TABLES = ("streams", "events", "payloads")


class PostgresKeeping:
    """See `counterfoil.keeping.Keeping`."""

    def __init__(self, url: PostgresUrl, given: str) -> None:
        self.url = url
        self.shown = url.shown
        self._given = given

    def exists(self) -> bool:
        """See `Keeping`: whether the schema has tables of that name, and not only what is left of a `make` cut off."""
        found = self._tables()
        if not found.get("streams"):
            return bool(found)
        with self._session() as session:
            return session.raw.execute(f"SELECT 1 WHERE to_regclass('{migrations.VERSION_TABLE}') IS NULL OR EXISTS "
                                       "(SELECT FROM streams)").fetchone() is not None

    def recognise(self) -> None:
        """See `Keeping`: nor anything that this login may not read."""
        found = self._tables()
        missing = sorted(set(TABLES) - set(found))
        if missing:
            raise self._foreign(f"no table {missing[0]}")
        hidden = [name for name, readable in found.items() if not readable]
        if hidden:
            raise LedgerUnavailable("LEDGER_DENIED", f"expected a login that may read the ledger, found one that may not "
                                    f"read {hidden[0]}", where=self.shown, next_step="make it a member of the role "
                                    f"{postgres_roles.reader(self.url.schema)} or {postgres_roles.writer(self.url.schema)} "
                                    "(docs/postgresql.md)")

    def _foreign(self, found: str) -> LedgerUnavailable:
        return LedgerUnavailable("LEDGER_FOREIGN", f"expected a counterfoil ledger, found {found}", where=self.shown,
                                 next_step="name another schema (?schema=NAME), or another database")

    def revision(self) -> str | None:
        """See `Keeping`."""
        with self._session() as session:
            if session.raw.execute(f"SELECT to_regclass('{migrations.VERSION_TABLE}')").fetchone() == (None,):
                return None
            found = session.raw.execute(f"SELECT version_num FROM {migrations.VERSION_TABLE} ORDER BY 1").fetchall()
        return ", ".join(str(revision) for (revision,) in found) or None

    def make(self, *, wait: bool) -> None:
        """See `Keeping`: in one transaction the tables, and then, if nobody was faster, the ledger's first event."""
        self._insist()
        self._migrate()
        store = self.store(write=True, wait=wait)
        ports = system()
        try:
            if store.head(ids.LEDGER_STREAM) is None:
                registry.create(store, ports.random_bytes(16).hex(), ports.wall_us())
        except StoreConflict:
            return
        finally:
            store.close()

    def upgrade(self, *, wait: bool) -> list[str]:
        """See `Keeping`. Roles and their rights are put right too."""
        self.recognise()
        foreign_schema(self)
        self._insist()
        return self._migrate()

    def safety(self) -> str | None:
        """See `Keeping`: what a server has to be set to before anything is written to it."""
        try:
            self._insist()
        except LedgerUnavailable as error:
            if error.code != "LEDGER_READ_ONLY":
                raise
            return str(error)
        return None

    def _insist(self) -> None:
        Session(self.url, write=True, search_path="pg_catalog").close()

    def store(self, *, write: bool, wait: bool) -> PostgresStore:
        """See `Keeping`."""
        return PostgresStore(self.url, write=write, wait=wait)

    def shelf(self) -> ReadShelf:
        """See `Keeping`."""
        return ReadShelf(self.url, self._make_read_tables)

    def ask(self, sql: str, read_tables: str) -> Asked:
        """See `Keeping`."""
        return ask_postgres(sql, read_tables, self.url)

    def is_part(self, path: Path) -> bool:
        """See `Keeping`: no file is."""
        return False

    def absolute(self) -> str:
        """See `Keeping`."""
        return self._given

    def _make_read_tables(self, schema: str) -> None:
        with self._transaction() as connection:
            postgres_roles.as_writer(connection, self.url.schema)
            migrations.enter(connection, schema)
            migrations.upgrade(connection, "read")

    def _migrate(self) -> list[str]:
        with self._transaction() as connection:
            migrations.enter(connection, self.url.schema)
            self._check_empty(connection)
            migrations.upgrade(connection, "log")
            return postgres_roles.put_right(connection, self.url.schema)

    def _check_empty(self, connection: Connection) -> None:
        """A ledger is not made among what somebody else keeps: it would not be told from it."""
        found = connection.execute(text("SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(:name) "
                                        "AND relkind IN ('r', 'v', 'm', 'f', 'p') ORDER BY relname"),
                                   {"name": f'"{self.url.schema}"'}).scalars().all()
        if found and not set(TABLES).issubset(found):
            raise self._foreign(f"{found[0]}, which another program keeps in this schema")

    @contextmanager
    def _session(self) -> Iterator[Session]:
        session = Session(self.url, write=False, search_path=f'"{self.url.schema}"')
        try:
            with session.faults():
                yield session
        finally:
            session.close()

    def _tables(self) -> dict[str, bool]:
        """Which of the log's tables are there, and whether this login may read them."""
        with self._session() as session:
            found = session.raw.execute(
                "SELECT c.relname, has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') FROM "
                "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = ANY(%s) "
                "AND c.relkind IN ('r', 'p') ORDER BY c.relname", (self.url.schema, list(TABLES))).fetchall()
        return dict(found)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """One transaction; what the server refuses is said as everywhere."""
        from psycopg import Connection as Raw
        from psycopg import Error

        def made() -> Raw:
            raw = connect(self.url)
            raw.autocommit = False
            return raw

        engine = create_engine("postgresql+psycopg://", creator=made, poolclass=NullPool, hide_parameters=True)
        try:
            with engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            if isinstance(error.orig, Error):
                raise unavailable(error.orig, self.url) from None
            raise
