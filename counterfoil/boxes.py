"""The query box: one SELECT over the read tables and the log, read only, bounded in time, rows and size.

Why boxed in: the SQL is anybody's. On SQLite an authorizer lets reading through and nothing else; on PostgreSQL the
transaction is read-only, of the role that may only read where there is one, and the statement stands inside another, so it can
be no other kind. What could step out of that by a function's name is refused by name.

Invariant: whatever is asked, nothing is changed, and nothing outside the ledger is read.
"""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path
from typing import Any, NamedTuple

from ledger.errors import UsageError
from ledger.file_uri import as_text, file_uri
from ledger.postgres_session import Session
from ledger.postgres_url import PostgresUrl

SECONDS_MAX = 30.0
ROWS_MAX = 100_000
STEPS_BETWEEN_LOOKS = 10_000
TEXT_CHARS_MAX = 2**24

_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"})

_STEPS_OUT = re.compile(
    r"\b(set_config|(query|table|schema|database|cursor)_to_xml\w*|dblink\w*|lo_\w+|pg_(read|ls|stat_file|write|sleep|notify|"
    r"advisory|try_advisory|terminate|cancel|reload|rotate|switch|create|drop|logical|replication|backup|export|promote)\w*|"
    r"copy|currval|nextval|setval|pg_shadow|pg_authid|pg_user_mapping\w*|pg_hba_file_rules|pg_file_settings)\b|u&",
    re.IGNORECASE)
"""What runs texts as SQL, reaches files or other sessions, or writes an identifier in a way that hides it."""


class Asked(NamedTuple):
    """Column names, rows, and whether rows beyond the limit were left out."""

    columns: list[str]
    rows: list[Any]
    cut: bool


def ask_sqlite(sql: str, read_tables: Path, log: Path, seconds: float = SECONDS_MAX) -> Asked:
    """The answer from read tables in a file; the log is `log.events` and so on. Raises `UsageError` (QUERY_REFUSED)."""
    connection = sqlite3.connect(file_uri(read_tables, "ro"), uri=True, isolation_level=None)
    try:
        connection.text_factory = as_text
        connection.execute("ATTACH ? AS log", (file_uri(log, "ro"),))
        connection.execute("PRAGMA query_only = 1")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, TEXT_CHARS_MAX)
        connection.set_authorizer(_authorize)
        until = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > until, STEPS_BETWEEN_LOOKS)
        cursor = connection.execute(sql)
        if cursor.description is None:
            raise sqlite3.ProgrammingError("no statement")
        names = _distinct([column[0] for column in cursor.description])
        found = cursor.fetchmany(ROWS_MAX + 1)
    except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError) as error:
        raise _refused(error, seconds) from None
    finally:
        connection.close()
    return Asked(names, found[:ROWS_MAX], len(found) > ROWS_MAX)


def _authorize(action: int, one: str | None, two: str | None, database: str | None, trigger: str | None) -> int:
    """Reading is allowed, and functions that stay inside; nothing else is."""
    if action in _ALLOWED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and two not in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def ask_postgres(sql: str, read_tables: str, url: PostgresUrl, seconds: float = SECONDS_MAX) -> Asked:
    """The answer from read tables in a schema; the log is there as `{schema}.events` and so on. Raises as the other does."""
    from psycopg import Error

    inner = sql.strip().rstrip(";").rstrip()
    if (step_out := _STEPS_OUT.search(inner)) is not None:
        raise _refused(ValueError(f"{step_out[0]!r}, which may step out of the box"), seconds)
    if not re.match(r"(select|with|values|table)\b|\(", inner, re.IGNORECASE):
        raise _refused(ValueError(f"{inner[:100]!r}" if inner else "no statement"), seconds)
    session = Session(url, write=False, search_path="pg_catalog")
    try:
        raw = session.raw
        raw.execute("BEGIN READ ONLY")
        raw.execute(f"SET LOCAL search_path TO \"{read_tables}\", \"{url.schema}\"")
        raw.execute(f"SET LOCAL statement_timeout = {int(seconds * 1000)}")
        raw.execute("SET LOCAL work_mem = '16MB'")
        role = raw.execute("SELECT rolname FROM pg_roles WHERE rolname = %s AND pg_has_role(session_user, oid, 'MEMBER')",
                           (f"{url.schema}_reader",)).fetchone()
        if role is not None:
            raw.execute(f'SET LOCAL ROLE "{role[0]}"')
        cursor = raw.execute(f"SELECT * FROM (\n{inner}\n) AS asked LIMIT {ROWS_MAX + 1}".encode(), binary=True)
        names = _distinct([column.name for column in cursor.description or ()])
        rows = cursor.fetchall()
    except (Error, UnicodeEncodeError) as error:
        raise _refused(error, seconds) from None
    finally:
        session.close()
    return Asked(names, rows[:ROWS_MAX], len(rows) > ROWS_MAX)


def _refused(error: Exception, seconds: float) -> UsageError:
    text = " ".join(str(error).split())
    return UsageError("QUERY_REFUSED", f"expected one SELECT that ends within {seconds:.0f} s, found: {text}",
                      where="counterfoil query", next_step="see docs/read-tables.md for tables and columns")


def _distinct(names: list[str]) -> list[str]:
    """Two columns of one name get numbers."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    counts: dict[str, int] = {}
    distinct = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        distinct.append(f"{name}_{counts[name]}" if seen[name] > 1 else name)
    return distinct
