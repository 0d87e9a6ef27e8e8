"""Read tables in a schema of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, LargeBinary
from sqlalchemy.types import TypeEngine

from ledger.errors import LedgerUnavailable
from ledger.postgres_session import Session, lock_key
from ledger.postgres_url import PostgresUrl
from projections.output import Record, Rows
from projections.read_tables import UNREADABLE
from projections.tables import metadata

if TYPE_CHECKING:
    from psycopg import Connection

FETCH_ROWS = 1000


def reading_key(url: PostgresUrl, schema: str) -> int:
    """The lock that whoever reads a generation shares, so that it is not dropped between two statements."""
    return lock_key(url, f"reads {schema}")


def writing_key(url: PostgresUrl, schema: str) -> int:
    """The lock of whoever writes a generation: a process that was killed may have a commit under way still."""
    return lock_key(url, f"writes {schema}")


class PostgresTables:
    """One generation, over a connection of its own. See `projections.read_tables.ReadTables`.

    Every name is looked up in `schema` alone, so a swap changes nothing of what is read here. Who writes is alone, but for
    those who fill a shadow side by side (`shared`).
    """

    def __init__(self, url: PostgresUrl, schema: str, *, write: bool, owner: str | None = None, shared: bool = False
                 ) -> None:
        self.schema = schema
        self._session = Session(url, write=False, search_path=f'"{schema}"')
        try:
            with self._faults():
                if owner is not None:
                    self._raw.execute(f'SET ROLE "{owner}"')
                self._raw.execute("SET synchronous_commit = off" if write else "SET default_transaction_read_only = on")
                if write:
                    key = writing_key(url, schema)
                    self._raw.execute(f"SELECT pg_advisory_lock{'_shared' if shared else ''}(%s)", (key,))
                else:
                    self._raw.execute("SELECT pg_advisory_lock_shared(%s)", (reading_key(url, schema),))
            self._recognise(url)
        except BaseException:
            self._session.close()
            raise

    def _recognise(self, url: PostgresUrl) -> None:
        """A schema that is not there, or not for us, is passed over by the server without a word."""
        found = self.select("SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = ?", (self.schema,))
        where = f"{url.shown} {self.schema}"
        if not found:
            raise LedgerUnavailable(UNREADABLE, "expected read tables, found them gone: later ones took their "
                                    "place", where=where, next_step="ask again")
        if not found[0][0]:
            raise LedgerUnavailable("LEDGER_DENIED", "expected the right to read the read tables, found none", where=where,
                                    next_step="grant the role of a writer or a reader (docs/postgresql.md)")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """What a session says; but a table that is not there, or takes no more rows (a key is taken), can be made again."""
        try:
            with self._session.faults():
                yield
        except LedgerUnavailable as error:
            state = getattr(error.__cause__, "sqlstate", None) or ""
            if error.code not in ("LEDGER_FOREIGN", "LEDGER_SCHEMA", "LEDGER_MISSING") and not state.startswith("23"):
                raise
            raise LedgerUnavailable(UNREADABLE, error.what, where=error.where,
                                    next_step="run `counterfoil rebuild`") from error

    @property
    def _raw(self) -> Connection:
        return self._session.raw

    @property
    def where(self) -> str:
        """See `ReadTables`: the schema's name."""
        return self.schema

    def select(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """See `ReadTables`."""
        with self._faults():
            return self._raw.execute(_marked(statement, values), values).fetchall()

    def records(self, statement: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        """See `ReadTables`."""
        with self._faults():
            cursor = self._raw.execute(_marked(statement, values), values)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def stream(self, statement: str, values: Sequence[object] = ()) -> Iterator[dict[str, Any]]:
        """See `ReadTables`: by a cursor of the server, for a whole answer may be long."""
        with self._faults(), self._raw.transaction(), self._raw.cursor("answer") as cursor:
            cursor.execute(_marked(statement, values), values)
            names = [column.name for column in cursor.description or ()]
            while rows := cursor.fetchmany(FETCH_ROWS):
                yield from (dict(zip(names, row, strict=True)) for row in rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `ReadTables`."""
        with self._faults(), self._raw.transaction():
            yield

    def begin_run(self, run_id: str, run: int | None = None) -> int:
        """See `ReadTables`."""
        found = self.select("SELECT run FROM p_runs WHERE run_id = ?", (run_id,))
        if found:
            return int(found[0][0])
        self.select("INSERT INTO p_runs (run, run_id) SELECT coalesce(?::bigint, max(run) + 1, 1), ? FROM p_runs "
                    "RETURNING run", (run, run_id))
        return self.begin_run(run_id)

    def put(self, run: int, rows: Rows) -> None:
        """See `ReadTables`: everything by `COPY`; what is written over is deleted by its key first.

        Nothing is written over before there are keys (`projections.rebuild`), so that no table is read through for it.
        """
        for table, records in rows.again.items():
            self._delete(table, run, records)
        for by_table in (rows.again, rows.new):
            for table, records in by_table.items():
                if records:
                    self._copy(table, run, records)

    def _delete(self, table: str, run: int, records: Sequence[Record]) -> None:
        keys = _keys(table)
        columns = ", ".join(name for name, _, _ in keys)
        arrays = ", ".join(f"%s::{kind}[]" for _, _, kind in keys)
        self._raw.execute(f"DELETE FROM {table} WHERE run = %s AND ({columns}) IN (SELECT * FROM unnest({arrays}))",
                          (run, *([record[place] for record in records] for _, place, _ in keys)))

    def _copy(self, table: str, run: int, records: Sequence[Record]) -> None:
        with self._raw.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(_types(table))
            for record in records:
                copy.write_row((run, *record))

    def put_run(self, run: int, record: Record) -> None:
        """See `ReadTables`."""
        self._raw.execute("DELETE FROM p_runs WHERE run = %s", (run,))
        self._raw.execute(f"INSERT INTO p_runs VALUES (%s, {', '.join(['%s'] * len(record))})", (run, *record))

    def put_place(self, run: int, projector: str, fingerprint: str, seq: int) -> None:
        """See `ReadTables`."""
        self._raw.execute("DELETE FROM p_places WHERE run = %s AND projector = %s", (run, projector))
        self._raw.execute("INSERT INTO p_places VALUES (%s, %s, %s, %s)", (run, projector, fingerprint, seq))

    def forget(self, run_id: str) -> None:
        """See `ReadTables`."""
        for (run,) in self.select("SELECT run FROM p_runs WHERE run_id = ?", (run_id,)):
            for table in metadata.tables:
                self._raw.execute(f"DELETE FROM {table} WHERE run = %s", (run,))

    def execute(self, *statements: str) -> None:
        """What only a shelf may say: indexes, copies between schemas."""
        with self._faults():
            for statement in statements:
                self._raw.execute(statement)

    def close(self) -> None:
        """See `ReadTables`."""
        self._session.close()

    def __enter__(self) -> PostgresTables:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _marked(statement: str, values: Sequence[object]) -> str:
    """The statement with the marks of this driver, which takes a `%` for one wherever values are given."""
    return statement.replace("%", "%%").replace("?", "%s") if values else statement


@cache
def _types(table: str) -> list[str]:
    """The types of a table's columns, as `COPY` has to be told them."""
    return [_kind(column.type) for column in metadata.tables[table].c]


@cache
def _keys(table: str) -> list[tuple[str, int, str]]:
    """(name, place in a record, type) of the columns of a table's key after `run`."""
    columns = list(metadata.tables[table].c)
    return [(column.name, columns.index(column) - 1, _kind(column.type))
            for column in metadata.tables[table].primary_key if column.name != "run"]


def _kind(of: TypeEngine[Any]) -> str:
    return "int8" if isinstance(of, BigInteger) else "bytea" if isinstance(of, LargeBinary) else "text"


