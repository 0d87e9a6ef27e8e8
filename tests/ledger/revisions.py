"""Ledgers at any revision that was released, on either database, and all that the database holds.

Why plain SQL: what fills a ledger of an earlier revision knows that revision's columns and nothing of today's stores.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

import migrations
from ledger.file_uri import file_uri
from ledger.postgres_url import parsed
from ledger.sqlite_store import prepare_file
from tests.kit.postgres_databases import connected
from tests.museum.logs import Log

COLUMNS = {
    "0001_log": {"streams": "stream run_id size epoch root frontier status", "payloads": "stream n salt bytes permanent",
                 "events": "stream seq type v token row_index at body"},
}
"""What each revision of the log has: table to columns."""

class Place:
    """Where one ledger is kept."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.file = None if url.startswith("postgresql") else Path(url.removeprefix("sqlite:///"))

    @property
    def sqlalchemy(self) -> str:
        """The same for SQLAlchemy."""
        return self.url if self.file else parsed(self.url).sqlalchemy()

    @property
    def shown(self) -> str:
        """How the doors name it: without a password."""
        return self.url if self.file else parsed(self.url).shown

    @property
    def schema(self) -> str | None:
        """Where the log lies on PostgreSQL."""
        return None if self.file else parsed(self.url).schema

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """One transaction in the log's schema."""
        engine = create_engine(self.sqlalchemy, poolclass=NullPool)
        with engine.begin() as connection:
            if self.schema:
                connection.exec_driver_sql(f'SET LOCAL search_path TO "{self.schema}"')
            yield connection

    def make(self, revision: str, log: Log | None = None) -> None:
        """A ledger at this revision, with all of a log in it."""
        if self.file:
            prepare_file(self.file)
        migrations.upgrade(self.sqlalchemy, "log", to=revision, schema=self.schema)
        if log is not None:
            with self.connection() as connection:
                for number, stream in enumerate(log.streams, 1):
                    self._put(connection, revision, "streams", [{"stream": number, **stream.head._asdict(),
                                                                 "run_id": stream.head.run}])
                    self._put(connection, revision, "events", [{"stream": number, **one._asdict()} for one in stream.events])
                    self._put(connection, revision, "payloads", [{"stream": number, **one._asdict(), "permanent":
                                                                  int(one.permanent)} for one in stream.payloads])
                if self.schema:
                    connection.exec_driver_sql("SELECT setval(pg_get_serial_sequence('streams', 'stream'), "
                                               "(SELECT max(stream) FROM streams))")

    def _put(self, connection: Connection, revision: str, table: str, rows: list[dict[str, Any]]) -> None:
        columns = COLUMNS[revision][table].split()
        marks = ", ".join(f":{name}" for name in columns)
        statement = text(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})")
        for row in rows:
            connection.execute(statement, {name: row[name] for name in columns})

    def everything(self) -> Any:
        """All that the database holds, but for the read tables: definitions and rows."""
        if self.file:
            with closing(sqlite3.connect(file_uri(self.file, "ro"), uri=True)) as file:
                return list(file.iterdump())
        with connected(self.url.partition("?")[0]) as session:
            found: dict[str, Any] = {name: session.execute(sql).fetchall() for name, sql in _CATALOG.items()}
            for schema, table, kind in found["relations"]:
                if kind == "r":
                    rows = session.execute(f'SELECT t.* FROM "{schema}"."{table}" t ORDER BY t::text').fetchall()
                    found[f"{schema}.{table}"] = rows
        return found

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the log's tables."""
        with self.connection() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql).fetchall()]

    def execute(self, *statements: str) -> None:
        """What another program could do to the log's tables."""
        with self.connection() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def record(self) -> list[list[tuple[Any, ...]]]:
        """Every event, payload and head to the byte, in the columns that there always were."""
        return [self.query(f"SELECT {columns.replace(' ', ', ')} FROM {table} ORDER BY 1, 2")
                for table, columns in COLUMNS["0001_log"].items()]


_OURS = "WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_CLASSES = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
_CATALOG = {
    "relations": f"SELECT n.nspname, c.relname, c.relkind::text FROM {_CLASSES} {_OURS} ORDER BY 1, 2",
    "columns": "SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, l.collname, "
               f"pg_get_expr(d.adbin, d.adrelid) FROM {_CLASSES} JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN "
               "pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum LEFT JOIN pg_collation l ON l.oid = a.attcollation "
               f"{_OURS} AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v') ORDER BY 1, 2, a.attnum",
    "indexes": "SELECT n.nspname, i.tablename, i.indexname, i.indexdef FROM pg_indexes i JOIN pg_namespace n ON "
               f"n.nspname = i.schemaname {_OURS} ORDER BY 1, 2, 3",
    "constraints": "SELECT n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid) FROM pg_constraint k JOIN pg_class "
                   f"c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace {_OURS} ORDER BY 1, 2, 3",
    "triggers": "SELECT n.nspname, t.tgname, pg_get_triggerdef(t.oid), t.tgenabled::text FROM pg_trigger t JOIN pg_class c "
                f"ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace {_OURS} ORDER BY 1, 2",
    "functions": "SELECT n.nspname, p.proname, p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
                 f"{_OURS} ORDER BY 1, 2",
    "schemas": f"SELECT n.nspname FROM pg_namespace n {_OURS} ORDER BY 1",
}
"""What a database of PostgreSQL is made of."""
