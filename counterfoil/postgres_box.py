"""The query box on PostgreSQL: one SELECT over the read tables and the log, read only, bounded in time, rows and size.

Why three walls: the SQL is anybody's. The server runs it in a read-only transaction, as the role that may only read where
we may be it, as one statement inside another that can be no other kind. Before that its words are looked through: functions
that change something or reach out, and whatever lies in another schema or in the catalog, are refused by name, for without
roles the server would let whoever asks do what his login may. What a function does the catalog itself is asked.

Invariants: nothing is changed, no lock of another's is taken, and nothing outside the ledger's log and read tables is read;
every answer ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from counterfoil import boxes
from counterfoil.boxes import Asked
from counterfoil.postgres_roles import reader
from counterfoil.postgres_words import Word, words
from ledger.postgres_session import MEMBER, Session
from ledger.postgres_url import PostgresUrl

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

SQL_CHARS_MAX = 1_000_000
LOG_TABLES = ("streams", "events", "payloads")

_BEGINNINGS = ("select", "with", "values", "table")
_HARMLESS = ("random", "random_normal", "clock_timestamp", "timeofday", "gen_random_uuid", "uuidv4", "uuidv7", "bernoulli",
             "system", "array_sample", "array_shuffle")
"""Functions that give another answer each time, and do nothing else."""
_PG_FUNCTIONS = ("pg_typeof", "pg_column_size")
_STEPS_OUT = (r"_to_xml(schema|_and_xmlschema)?$|"
              "^(current_setting|txid_.*|dblink.*|lo_.*|has_.*_privilege|.*_description|to_reg.*)$")
"""Functions that the catalog calls stable and that read what lies outside, or run texts as SQL."""

_FUNCTIONS = (
    "SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.proname = ANY(%s) AND "
    "(n.nspname = ANY(%s) OR n.nspname = 'pg_catalog' AND (p.provolatile = 'v' AND NOT p.proname = ANY(%s) "
    "OR p.proname ~ %s)) LIMIT 1"
)
_OUTSIDE = (
    "SELECT q.schema || '.' || q.name FROM unnest(%s::text[], %s::text[]) AS q(schema, name) "
    "JOIN pg_namespace n ON n.nspname = q.schema WHERE NOT q.schema = ANY(%s) AND ("
    "EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid AND relname = q.name) OR "
    "EXISTS (SELECT FROM pg_proc WHERE pronamespace = n.oid AND proname = q.name) OR "
    "EXISTS (SELECT FROM pg_type WHERE typnamespace = n.oid AND typname = q.name) OR "
    "EXISTS (SELECT FROM pg_collation WHERE collnamespace = n.oid AND collname = q.name)) LIMIT 1"
)
"""What two names with a point between them mean in another schema: a column of an alias may be called as a schema is."""

_SETTINGS = ("statement_timeout = {milliseconds}", "work_mem = '16MB'", "max_parallel_workers_per_gather = 0", "jit = off",
             "standard_conforming_strings = on", "TimeZone = 'UTC'", "DateStyle = 'ISO, YMD'", "IntervalStyle = 'iso_8601'")
_TEXTS = ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "json", "jsonb")
"""Types whose values are given as the server writes them; the driver would refuse some, and SQLite knows none."""

_WHOLE = (
    "SELECT asked.* FROM (SELECT * FROM (\n{inner}\n) AS asked LIMIT {rows}) AS asked WHERE CASE WHEN "
    "pg_column_size(asked.*) <= {size} THEN true ELSE ('a row of ' || pg_column_size(asked.*) || ' bytes')::bool END"
)


_CATALOG_TYPE = re.compile("reg(class|collation|config|dictionary|namespace|oper|operator|proc|procedure|role|type)")
"""Types whose values are numbers in the catalog and read as the names there."""

_TOO_LONG = re.compile(r"a row of \d+ bytes")


class _Place(NamedTuple):
    """The two schemas that may be read."""

    read_tables: str
    log: str


def ask_postgres(sql: str, read_tables: str, url: PostgresUrl, seconds: float = boxes.SECONDS_MAX) -> Asked:
    """The answer from read tables in a schema; the log is `log.events` and so on, or `events` alone.

    Raises `UsageError` (QUERY_REFUSED).
    """
    from psycopg import Error

    place = _Place(read_tables, url.schema)
    session = Session(url, write=False, search_path="pg_catalog")
    try:
        found = _looked_through(sql)
        raw = session.raw
        raw.execute("BEGIN READ ONLY")
        for setting in _SETTINGS:
            raw.execute(f"SET LOCAL {setting.format(milliseconds=max(1, int(seconds * 1000)))}")
        _check_names(raw, found, place)
        raw.execute(f'SET LOCAL search_path TO "{place.read_tables}", "{place.log}"')
        role = raw.execute(f"SELECT rolname FROM pg_roles WHERE rolname = %s AND pg_has_role(session_user, oid, {MEMBER})",
                           (reader(url.schema),)).fetchone()
        if role is not None:
            raw.execute(f'SET LOCAL ROLE "{role[0]}"')
        with raw.cursor() as cursor:
            return _answer(cursor, _WHOLE.format(inner=_respelled(sql, found, place), rows=boxes.ROWS_MAX + 1,
                                                 size=boxes.TEXT_CHARS_MAX))
    except (Error, UnicodeEncodeError, ValueError) as error:
        too_long = _TOO_LONG.search(str(error))
        raise boxes.refused(ValueError(too_long[0]) if too_long else error, seconds) from None
    finally:
        session.close()


def _answer(cursor: Cursor, statement: str) -> Asked:
    """Row by row, so that an answer that is too long is never held."""
    for name in _TEXTS:
        cursor.adapters.register_loader(name, _text_loader())
    rows, cut = boxes.gathered(tuple(map(_plain, row)) for row in cursor.stream(statement.encode()))
    return Asked(boxes.distinct([column.name for column in cursor.description or ()]), rows, cut)


def _text_loader() -> Any:
    from psycopg.types.string import TextLoader

    return TextLoader


def _looked_through(sql: str) -> list[Word]:
    """The words of one statement that begins as a reading one and closes no parenthesis but its own."""
    if len(sql) > SQL_CHARS_MAX:
        raise ValueError(f"{len(sql)} characters")
    found = words(sql)
    while found and found[-1].value == ";":
        found.pop()
    if not found:
        raise ValueError("no statement")
    first = next((word for word in found if word.value != "("), found[0])
    if first.value not in _BEGINNINGS or first.kind != "name":
        raise ValueError(f"{sql.strip()[:100]!r}")
    depth = 0
    for word in found:
        depth += {"(": 1, ")": -1}.get(word.value, 0) if word.kind == "sign" else 0
        if depth < 0 or (word.kind == "sign" and word.value == ";"):
            raise ValueError(f"more than one statement: {sql[word.start:word.start + 40]!r}")
    return found


def _check_names(raw: Connection, found: Sequence[Word], place: _Place) -> None:
    """Refuse what is called or named and lies outside. `value.name` calls a function too, as `name(value)` does."""
    edge, logs = Word("sign", "", 0, 0), _logs(found)
    called = {word.value for before, word, after in zip([edge, *found], found, [*found[1:], edge], strict=False)
              if word.names and (_is_sign(after, "(") or _is_sign(before, "."))}
    qualified = [(word.value, name.value) for word, name in _qualified(found) if word.start not in logs]
    for word in found:
        if word.names and _CATALOG_TYPE.fullmatch(word.value):
            raise ValueError(f"{word.value}, which names what is outside the ledger")
        if word.names and word.value.startswith("pg_") and word.value != "pg_catalog" \
                and word.value not in (*_PG_FUNCTIONS, place.log):
            raise ValueError(f"{word.value}, which is outside the ledger")
    if "operator" in called:
        raise ValueError("OPERATOR(…), which may name one of another schema")
    for row in raw.execute(_FUNCTIONS, (list(called), list(place), list(_HARMLESS), _STEPS_OUT)):
        raise ValueError(f"{row[0]}(…), which may step out of the box")
    schemas, inside = [schema for schema, _ in qualified], [name for _, name in qualified]
    for row in raw.execute(_OUTSIDE, (schemas, inside, [*place, "pg_catalog"])):
        raise ValueError(f"{row[0]}, which is outside the ledger")


def _is_sign(word: Word, sign: str) -> bool:
    return word.kind == "sign" and word.value == sign


def _qualified(found: Sequence[Word]) -> list[tuple[Word, Word]]:
    """Each two names with a point between them."""
    return [(word, name) for word, dot, name in zip(found, found[1:], found[2:], strict=False)
            if word.names and _is_sign(dot, ".") and name.names]


def _logs(found: Sequence[Word]) -> set[int]:
    """Where the log is named as it is named on SQLite, `log.events` and so on, which no schema of that name is meant by."""
    inner = {name.start for _, name in _qualified(found)}
    return {word.start for word, table in _qualified(found)
            if word.value == "log" and table.value in LOG_TABLES and word.start not in inner}


def _respelled(sql: str, found: Sequence[Word], place: _Place) -> str:
    """The statement alone, with the log named as it is named there."""
    parts, at, logs = [], 0, _logs(found)
    for word in found:
        if word.start in logs:
            parts += [sql[at:word.start], f'"{place.log}"']
            at = word.end
    return "".join([*parts, sql[at:found[-1].end]])


def _plain(value: Any) -> Any:
    """A value as SQLite would have given it: numbers as numbers, what SQLite does not know as text."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return bytes(value) if isinstance(value, memoryview) else str(value)
