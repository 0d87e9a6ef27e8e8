"""Databases on a PostgreSQL server, whoever runs it: an empty one for a test, and gone after it.

Why a pool: making and dropping a database takes tens of milliseconds and more, emptying one takes a few. A database that is
given back is emptied, then *looked at*, and dropped unless it is as empty as a new one.

Invariants: no two tests hold the same database at once; a session that a test left behind is ended before the next test
gets the database; with `close` every database that was made here is gone.
"""

from __future__ import annotations

import uuid
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import URL, make_url

_SESSIONS_END_MS = 20_000
_PATIENCE: LiteralString = f"SET lock_timeout = {_SESSIONS_END_MS}"  # rather a failure than a test that hangs
_END_SESSIONS: LiteralString = f"""
    SELECT pg_terminate_backend(pid, {_SESSIONS_END_MS}) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
_EMPTY: LiteralString = """
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
            EXECUTE format('DROP SCHEMA %I CASCADE', name);
        END LOOP;
    END $$;
    CREATE SCHEMA public AUTHORIZATION pg_database_owner;
    GRANT USAGE ON SCHEMA public TO PUBLIC;"""
_CATALOGS = ("am", "cast", "class", "default_acl", "event_trigger", "extension", "foreign_data_wrapper", "foreign_server",
             "language", "largeobject_metadata", "namespace", "proc", "publication", "type")
"""What may hold things that belong to no schema, and what would still show that something of a schema is left."""
_FIRST_OID = 16384  # below it is what a server was made with
_LEFT: LiteralString = " UNION ALL ".join(
    [f"SELECT 'pg_{name}', count(*) FROM pg_{name} WHERE oid >= {_FIRST_OID}" for name in _CATALOGS]
    + ["SELECT 'settings', count(*) FROM pg_db_role_setting JOIN pg_database ON setdatabase = pg_database.oid "
       "WHERE datname = current_database()"])
_ONLY_PUBLIC = {"pg_namespace": 1}


class Databases:
    """Empty databases for tests. `admin` may make databases; `owner` (name, password) owns them, by default `admin`."""

    def __init__(self, admin: str, owner: tuple[str, str] | None = None) -> None:
        self._admin = make_url(admin)
        self._owner = owner
        self._idle: list[str] = []
        self._made: set[str] = set()

    @property
    def host(self) -> str:
        """Where the server listens."""
        return self._admin.host or "127.0.0.1"

    @property
    def port(self) -> int:
        """The TCP port on which it does."""
        return self._admin.port or 5432

    def url(self, database: str = "postgres", *, user: str | None = None, password: str | None = None) -> str:
        """SQLAlchemy's URL of a database, by default as the administrator."""
        asked = self._admin.set(database=database)
        if user is not None:
            asked = asked.set(username=user, password=password)
        return asked.render_as_string(hide_password=False)

    def fresh_database(self) -> str:
        """The URL of an empty database that nobody else uses, as its owner; see `give_back`."""
        name = self._idle.pop() if self._idle else self._make()
        owner, password = self._owner or (None, None)
        return self.url(name, user=owner, password=password)

    def give_back(self, url: str) -> None:
        """A test needs it no longer: whoever is still connected is thrown out, whatever is in it is removed."""
        name = _database(url)
        if name not in self._made:
            return  # the test dropped it itself
        with connected(self.url(name)) as connection:
            connection.execute(_PATIENCE)
            connection.execute(_END_SESSIONS)
            connection.execute(_EMPTY)
            left = {what: count for what, count in connection.execute(_LEFT) if count}
        if left == _ONLY_PUBLIC:
            self._idle.append(name)
        else:
            self.drop(url)

    def drop(self, url: str) -> None:
        """Remove the database itself, and throw out whoever is connected to it."""
        name = _database(url)
        with connected(self.url()) as connection:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
        self._made.discard(name)

    def drop_all(self) -> None:
        """Remove every database that was made here."""
        self._idle.clear()
        for name in sorted(self._made):
            self.drop(self.url(name))

    def _make(self) -> str:
        name = f"counterfoil_test_{uuid.uuid4().hex}"
        owner = self._owner[0] if self._owner else self._admin.username or ""
        with connected(self.url()) as connection:
            connection.execute(SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 STRATEGY wal_log").format(
                Identifier(name), Identifier(owner)))
        self._made.add(name)
        return name


def connected(url: str) -> psycopg.Connection:
    """A session with the database at SQLAlchemy's URL, in which every statement is a transaction of its own."""
    return psycopg.connect(conninfo(url), autocommit=True)


def conninfo(url: str) -> str:
    """The same place in the words of the driver."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _database(url: str) -> str:
    parsed: URL = make_url(url)
    return parsed.database or ""
