"""`counterfoil query`: SQL over the read tables and the log, read only, bounded in time and rows."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import click

from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, open_ledger
from ledger.errors import UsageError
from ledger.file_uri import as_text, file_uri
from projections.answers import is_complete

SECONDS_MAX = 30.0
ROWS_MAX = 100_000
STEPS_BETWEEN_LOOKS = 10_000

_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"})


@click.command("query")
@click.argument("sql")
@ledger_option
@form_option
@debug_option
def command(sql: str, url: str | None, form: str) -> int:
    """Run one SELECT over the read tables and the log (`log.events`, `log.payloads`, `log.streams`)."""
    with open_ledger(url) as ledger, ledger.catch_up() as tables:
        columns, found, cut = ask(sql, tables.path, ledger.path)
        complete = is_complete(tables)
    rows = [dict(zip(columns, map(_shown, row), strict=True)) for row in found]
    output.rows("query", rows, form, complete=complete and not cut, columns=columns,
                why=f"only the first {ROWS_MAX} rows are here" if cut else output.UNREADABLE)
    return 0


def ask(sql: str, read_tables: Path, log: Path, seconds: float = SECONDS_MAX) -> tuple[list[str], list[Any], bool]:
    """Column names, rows, and whether rows beyond the limit were left out. Raises `UsageError` (QUERY_REFUSED)."""
    connection = sqlite3.connect(file_uri(read_tables, "ro"), uri=True, isolation_level=None)
    try:
        connection.text_factory = as_text
        connection.execute("ATTACH ? AS log", (file_uri(log, "ro"),))
        connection.execute("PRAGMA query_only = 1")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2**24)
        connection.set_authorizer(_authorize)
        until = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > until, STEPS_BETWEEN_LOOKS)
        cursor = connection.execute(sql)
        if cursor.description is None:
            raise sqlite3.ProgrammingError("no statement")
        names = _distinct([column[0] for column in cursor.description])
        found = cursor.fetchmany(ROWS_MAX + 1)
    except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError) as error:
        raise UsageError("QUERY_REFUSED", f"expected one SELECT that ends within {seconds:.0f} s, found: {error}",
                         where="counterfoil query", next_step="see docs/read-tables.md for tables and columns") from None
    finally:
        connection.close()
    return names, found[:ROWS_MAX], len(found) > ROWS_MAX


def _authorize(action: int, one: str | None, two: str | None, database: str | None, trigger: str | None) -> int:
    """Reading is allowed, and functions that stay inside; nothing else is."""
    if action in _ALLOWED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and two not in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


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


def _shown(value: object) -> object:
    """Bytes as text when they are text, else as hex."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
