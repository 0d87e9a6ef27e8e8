"""Rows into a table, within the caller's transaction: all at once, or one at a time where the target rejects some.

Why two ways: nearly every write is taken whole, and is one statement prepared once; only a write of which something is
rejected pays for a savepoint a row.

Invariants: rows go in in their order; a rejected row leaves nothing behind; a row that is neither rejected nor in the table
does not happen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from engine.databases import Database
from engine.plugin_api import Refusal
from engine.rows import Row
from engine.sinks.database_columns import Columns, bound

CONSTRAINT, VALUE, IGNORED = "constraint", "value", "ignored"
REJECTIONS = (IntegrityError, DataError)
"""What says that rows are at fault, and not the target."""


class Target(NamedTuple):
    """A table: its columns, and those by which a row that is there is updated."""

    database: Database
    table: str
    schema: str | None
    columns: Columns
    primary_key: tuple[str, ...]


class Undone(Exception):
    """Rejecting a row, the target undid the whole transaction: it has to be begun again without that row."""


class Ignored(Exception):
    """The target took fewer rows than it was given, and said nothing."""


def insert(connection: sa.Connection, target: Target, rows: Sequence[Row]) -> None:
    """All rows. Raises one of `REJECTIONS`, or `Ignored`, where the target does not take each of them."""
    for names, some in groupby(rows, key=tuple):
        values = [_values(target, row) for row in some]
        taken = connection.execute(_statement(connection, target, names), values).rowcount
        if connection.dialect.name == "sqlite" and taken != len(values):
            raise Ignored


def insert_singly(connection: sa.Connection, target: Target, rows: Sequence[Row], refused: dict[int, Refusal], *,
                  deferred: bool) -> None:
    """Each row that is not among the `refused`, to which those that the target rejects are added. Raises `Undone`.

    With `deferred` also those that it would reject at the end of the transaction only.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
    for place, row in enumerate(rows):
        if place not in refused and (refusal := _insert_one(connection, target, place, row, deferred=deferred)):
            refused[place] = refusal
            if not _goes_on(connection):
                raise Undone


def _insert_one(connection: sa.Connection, target: Target, place: int, row: Row, *, deferred: bool) -> Refusal | None:
    broken = _broken(connection, target) if deferred else 0
    savepoint = connection.begin_nested()
    refusal = None
    try:
        insert(connection, target, [row])
        if deferred and _broken(connection, target) > broken:
            refusal = Refusal(place, CONSTRAINT, "expected a row that others can refer to, found that a foreign key fails")
    except Ignored:
        refusal = Refusal(place, IGNORED, "expected a target that takes the row, found that it ignores it")
    except REJECTIONS as error:
        code = CONSTRAINT if isinstance(error, IntegrityError) else VALUE
        refusal = Refusal(place, code, target.database.text(error))
    if refusal is None:
        savepoint.commit()
        return None
    try:
        savepoint.rollback()
    except DBAPIError:
        if _goes_on(connection):
            raise
    return refusal


def _goes_on(connection: sa.Connection) -> bool:
    """Whether the transaction still is one: SQLite ends it where a constraint or a trigger says ROLLBACK."""
    if connection.dialect.name != "sqlite":
        return True
    raw = connection.connection.dbapi_connection
    return bool(getattr(raw, "in_transaction", False))


def _broken(connection: sa.Connection, target: Target) -> int:
    """How many foreign keys of the table lead nowhere now; SQLite alone tells no other way before it commits."""
    if connection.dialect.name != "sqlite":
        return 0
    name = connection.dialect.identifier_preparer.quote_identifier(target.table)
    return len(connection.exec_driver_sql(f"PRAGMA foreign_key_check({name})").fetchall())


def _statement(connection: sa.Connection, target: Target, names: tuple[str, ...]) -> sa.Insert:
    columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in names]
    table = sa.table(target.table, *columns, schema=target.schema)
    values: dict[sa.ColumnClause[Any], object] = {column: sa.bindparam(f"v{place}") for place, column in enumerate(columns)}
    if not target.primary_key:
        return sa.insert(table).values(values)
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = make(table).values(values)
    others = {name: statement.excluded[name] for name in names if name not in target.primary_key}
    if not others:
        first = target.primary_key[0]
        others = {first: statement.excluded[first]}
    return statement.on_conflict_do_update(index_elements=list(target.primary_key), set_=others)


def _values(target: Target, row: Row) -> Mapping[str, object]:
    return {f"v{place}": bound(value, target.columns[name]) for place, (name, value) in enumerate(row.items())}
