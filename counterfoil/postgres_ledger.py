"""A ledger in a schema of a PostgreSQL database: made, known, opened; and the roles of those who write and those who read.

Invariants: the log's tables belong to whoever ran `db upgrade`; `<schema>_writer` may append to them and not change them,
`<schema>_reader` may read, and neither is made when the one who upgrades may make no roles. What a password says is never
shown.
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
from counterfoil.boxes import Asked, ask_postgres
from counterfoil.keeping import foreign_schema
from engine.ports import system
from ledger import ids, registry
from ledger.errors import LedgerUnavailable
from ledger.postgres_session import Session, unavailable
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import PostgresUrl
from ledger.store import StoreConflict
from projections.postgres_shelf import PostgresShelf

TABLES = ("streams", "events", "payloads")


class PostgresKeeping:
    """See `counterfoil.keeping.Keeping`."""

    def __init__(self, url: PostgresUrl, given: str) -> None:
        self.url = url
        self.shown = url.shown
        self._given = given

    def exists(self) -> bool:
        """See `Keeping`: whether the schema has tables of that name."""
        return bool(self._tables())

    def recognise(self) -> None:
        """See `Keeping`."""
        missing = sorted(set(TABLES) - set(self._tables()))
        if missing:
            raise LedgerUnavailable("LEDGER_FOREIGN", f"expected a counterfoil ledger, found no table {missing[0]}",
                                    where=self.shown, next_step="name another schema (?schema=NAME), or another database")

    def revision(self) -> str | None:
        """See `Keeping`."""
        with self._session() as session:
            if session.raw.execute(f"SELECT to_regclass('{migrations.VERSION_TABLE}')").fetchone() == (None,):
                return None
            row = session.raw.execute(f"SELECT version_num FROM {migrations.VERSION_TABLE}").fetchone()
        return str(row[0]) if row else None

    def make(self, *, wait: bool) -> None:
        """See `Keeping`: in one transaction the tables, and then, if nobody was faster, the ledger's first event."""
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

    def upgrade(self, *, wait: bool) -> None:
        """See `Keeping`. Roles and their rights are put right too."""
        self.recognise()
        foreign_schema(self)
        self._migrate()

    def store(self, *, write: bool, wait: bool) -> PostgresStore:
        """See `Keeping`."""
        return PostgresStore(self.url, write=write, wait=wait)

    def shelf(self) -> PostgresShelf:
        """See `Keeping`."""
        return PostgresShelf(self.url, self._make_read_tables)

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
            connection.execute(_AS_WRITER, {"role": f"{self.url.schema}_writer"})
            migrations.enter(connection, schema)
            migrations.upgrade(connection, "read")

    def _migrate(self) -> None:
        with self._transaction() as connection:
            migrations.enter(connection, self.url.schema)
            migrations.upgrade(connection, "log")
            _grant(connection, self.url.schema)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        session = Session(self.url, write=False, search_path=f'"{self.url.schema}"')
        try:
            with session.faults():
                yield session
        finally:
            session.close()

    def _tables(self) -> list[str]:
        with self._session() as session:
            found = session.raw.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename = ANY(%s)",
                                        (self.url.schema, list(TABLES))).fetchall()
        return [name for (name,) in found]

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """One transaction; what the server refuses is said as everywhere, without the URL that SQLAlchemy was given."""
        from psycopg import Error

        self._session_once()
        engine = create_engine(self.url.sqlalchemy(), poolclass=NullPool, hide_parameters=True)
        try:
            with engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            if isinstance(error.orig, Error):
                raise unavailable(error.orig, self.url) from None
            raise

    def _session_once(self) -> None:
        """Say why there is no connection before SQLAlchemy does, in its own words."""
        with self._session():
            return


_AS_WRITER = text("SELECT set_config('role', rolname, true) FROM pg_roles WHERE rolname = :role "
                  "AND pg_has_role(session_user, oid, 'MEMBER')")


def _grant(connection: Connection, schema: str) -> None:
    """The two roles and their rights, as far as whoever upgrades may give them."""
    writer, reader = f"{schema}_writer", f"{schema}_reader"
    may = bool(connection.execute(text("SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user")).scalar())
    for role in (writer, reader):
        known = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).scalar()
        if not known and not may:
            return
        if not known:
            connection.exec_driver_sql(f'CREATE ROLE "{role}" NOLOGIN')
    owns = connection.execute(text("SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = :name"),
                              {"name": schema}).scalar()
    if not owns:
        return
    database = connection.execute(text("SELECT quote_ident(current_database())")).scalar()
    for statement in (
        f'GRANT USAGE ON SCHEMA "{schema}" TO "{writer}", "{reader}"',
        f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO "{writer}", "{reader}"',
        f'GRANT INSERT ON streams, events, payloads TO "{writer}"',
        f'GRANT UPDATE (size, epoch, root, frontier, status) ON streams TO "{writer}"',
        f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA "{schema}" TO "{writer}"',
        f'GRANT CREATE ON DATABASE {database} TO "{writer}"',
    ):
        connection.exec_driver_sql(statement)
