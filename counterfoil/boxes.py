"""The query box: one SELECT over the read tables and the log, read only, bounded in time, rows and size.

Why boxed in: the SQL is anybody's. On SQLite an authorizer lets reading through and nothing else; `postgres_box` does it on
PostgreSQL, and keeps the bounds that stand here.

Invariant: whatever is asked, nothing is changed, and nothing outside the ledger is read.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ledger.errors import UsageError
from ledger.file_uri import as_text, file_uri

SECONDS_MAX = 30.0
ROWS_MAX = 100_000
ANSWER_BYTES_MAX = 2**28
STEPS_BETWEEN_LOOKS = 10_000
TEXT_CHARS_MAX = 2**24

_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"})


class Asked(NamedTuple):
    """Column names, rows, and whether rows beyond the limits were left out."""

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
        names = distinct([column[0] for column in cursor.description])
        found, cut = gathered(cursor)
    except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError) as error:
        raise refused(error, seconds) from None
    finally:
        connection.close()
    return Asked(names, found, cut)


def gathered(rows: Iterable[tuple[Any, ...]]) -> tuple[list[Any], bool]:
    """As many of the rows as may be held, and whether there are more."""
    found: list[Any] = []
    size = 0
    for row in rows:
        size += sum(map(sys.getsizeof, row))
        if len(found) == ROWS_MAX or (size > ANSWER_BYTES_MAX and found):
            return found, True
        found.append(row)
    return found, False


def _authorize(action: int, one: str | None, two: str | None, database: str | None, trigger: str | None) -> int:
    """Reading is allowed, and functions that stay inside; nothing else is."""
    if action in _ALLOWED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and two not in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def refused(error: Exception, seconds: float) -> UsageError:
    """What the box says of a statement that it does not let through, or that did not end."""
    text = " ".join(str(error).split())
    return UsageError("QUERY_REFUSED", f"expected one SELECT that ends within {seconds:.0f} s, found: {text}",
                      where="counterfoil query", next_step="see docs/read-tables.md for tables and columns")


def distinct(names: list[str]) -> list[str]:
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
