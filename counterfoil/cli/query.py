"""`counterfoil query`: SQL over the read tables and the log, read only, bounded in time and rows."""

from __future__ import annotations

import click

from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, open_ledger
from projections.answers import is_complete


@click.command("query")
@click.argument("sql")
@ledger_option
@form_option
@debug_option
def command(sql: str, url: str | None, form: str) -> int:
    """Run one SELECT over the read tables and the log (`log.events`, `log.payloads`, `log.streams`)."""
    with open_ledger(url) as ledger, ledger.catch_up() as tables:
        columns, found, cut = ledger.keeping.ask(sql, tables.where)
        complete = is_complete(tables)
    rows = [dict(zip(columns, map(_shown, row), strict=True)) for row in found]
    output.rows("query", rows, form, complete=complete and not cut, columns=columns,
                why=f"only the first {len(rows)} rows are here" if cut else output.UNREADABLE)
    return 0


def _shown(value: object) -> object:
    """Bytes as text when they are text, else as hex."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
