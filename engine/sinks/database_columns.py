"""The columns of a database sink's table, and what each of them takes.

Why values are checked before they are sent: databases coerce without a word (SQLite keeps text in a column of ints,
PostgreSQL rounds a fraction into one), and a value that is changed on its way is not what the record says was written.

Invariants: the columns are those of the table that is there, else the schema's, and the first taken row's others; so they
do not depend on how rows were put together into writes. A column made here takes, once it is found again, what it took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from engine.rows import Row
from engine.schema import RowSchema, shown

Kind = Literal["int", "float", "bool", "text", "number", "other"]
"""`text` takes what is no text as its JSON; `number` is exact; `other` is left to the target to judge."""
Columns = Mapping[str, Kind]

COLUMNS_MAX = 1000
"""Of a table made here; below what any of the databases takes."""

_TYPES: Mapping[Kind, type[sa.types.TypeEngine[Any]]] = {
    "int": sa.BigInteger, "float": sa.Double, "bool": sa.Boolean, "text": sa.Text,
}  # fmt: skip
_OF_VALUES: Mapping[type, Kind] = {int: "int", float: "float", bool: "bool"}
_OF_SCHEMA: Mapping[str, Kind] = {"int": "int", "float": "float", "bool": "bool", "str": "text", "any": "text"}
_EXACTLY: Mapping[Kind, tuple[type, ...]] = {"int": (int,), "float": (float,), "bool": (bool,), "number": (int, float)}
_EXPECTED: Mapping[Kind, str] = {
    "int": "an int", "float": "a number that a double holds", "bool": "true or false", "number": "a number",
}  # fmt: skip


def declared(schema: RowSchema | None) -> dict[str, Kind]:
    """The columns that a schema names."""
    return {one.name: _OF_SCHEMA[one.type] for one in schema.fields} if schema else {}


def of_first_row(row: Row, columns: Columns) -> dict[str, Kind]:
    """The declared columns and the row's others; where a value says nothing of its type, text."""
    return {**columns, **{name: _OF_VALUES.get(type(value), "text") for name, value in row.items() if name not in columns}}


def naming_fault(names: Sequence[str], bytes_max: int) -> str | None:
    """What keeps a table of these columns from being made anywhere, or None."""
    if len(names) > COLUMNS_MAX:
        return f"expected at most {COLUMNS_MAX} fields for a new table, found {len(names)}"
    seen: dict[str, str] = {}
    for name in names:
        if not name or "\0" in name or len(name.encode()) > bytes_max:
            return f"field {shown(name)}: expected a name of 1 to {bytes_max} bytes without NUL, found another"
        other = seen.setdefault(name.lower(), name)
        if other != name:
            return f"field {shown(name)}: expected names that differ by more than case, found {shown(other)} too"
    return None


def value_fault(row: Row, columns: Columns) -> str | None:
    """Which of the row's values its column does not take, or None. Every field has a column."""
    for name, value in row.items():
        kind = columns[name]
        if value is None or kind in ("text", "other") or type(value) in _EXACTLY[kind]:
            continue
        if kind != "float" or type(value) is not int or float(value) != value:
            return f"field {shown(name)}: expected {_EXPECTED[kind]} for its column, found {shown(value)}"
    return None


def bound(value: object, kind: Kind) -> object:
    """The value as it is sent. Exact numbers go as text, which no driver rounds."""
    if value is None or (kind == "text" and type(value) is str):
        return value
    if kind == "float":
        return float(value)  # type: ignore[arg-type]
    if kind in ("text", "number") or isinstance(value, (list, dict)):
        return msgspec.json.encode(value).decode()
    return value


def find(connection: sa.Connection, table: str, schema: str | None) -> dict[str, Kind] | None:
    """The columns of a table that can be written, or None where there is no such table."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(table, schema):
        return None
    found = inspector.get_columns(table, schema)
    return {one["name"]: _kind_of(one["type"], connection.dialect.name) for one in found
            if "computed" not in one and not one.get("identity", {}).get("always")}


def is_view(connection: sa.Connection, table: str, schema: str | None) -> bool:
    """Whether the name is that of a view, which does not say how many rows it took."""
    return table.lower() in [name.lower() for name in sa.inspect(connection).get_view_names(schema)]


def is_unique(connection: sa.Connection, table: str, schema: str | None, names: Sequence[str]) -> bool:
    """Whether the table holds each combination of these columns' values once."""
    inspector = sa.inspect(connection)
    keys = [inspector.get_pk_constraint(table, schema)["constrained_columns"]]
    keys += [one["column_names"] for one in inspector.get_unique_constraints(table, schema)]
    for index in inspector.get_indexes(table, schema):
        partial = any(name.endswith("_where") for name in index.get("dialect_options", {}))
        if index["unique"] and not partial:
            keys.append([name for name in index["column_names"] if name is not None])
    return set(names) in [set(key) for key in keys]


def create(connection: sa.Connection, table: str, schema: str | None, columns: Columns, required: frozenset[str],
           primary_key: Sequence[str]) -> None:
    """Make the table; `required` columns refuse to be empty."""
    made = [sa.Column(name, _TYPES[kind], primary_key=name in primary_key, autoincrement=False,
                      nullable=name not in required and name not in primary_key) for name, kind in columns.items()]
    connection.execute(sa.schema.CreateTable(sa.Table(table, sa.MetaData(), *made, schema=schema)))


def drop(connection: sa.Connection, table: str, schema: str | None) -> None:
    """Remove the table with what it holds."""
    connection.execute(sa.schema.DropTable(sa.Table(table, sa.MetaData(), schema=schema)))


def _kind_of(found: object, dialect: str) -> Kind:
    """SQLite says `numeric` of whatever type it does not know, so there it is left to judge."""
    if isinstance(found, sa.Boolean):
        return "bool"
    if isinstance(found, sa.Integer):
        return "int"
    if isinstance(found, sa.Float):
        return "float"
    if isinstance(found, sa.Numeric):
        return "other" if dialect == "sqlite" else "number"
    return "text" if isinstance(found, sa.String) and not isinstance(found, sa.Enum) else "other"
