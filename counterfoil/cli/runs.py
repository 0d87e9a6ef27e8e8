"""`counterfoil runs`: every run in a ledger."""

from __future__ import annotations

import click

from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, open_ledger
from projections import answers


@click.command("runs")
@ledger_option
@form_option
@debug_option
def command(url: str | None, form: str) -> int:
    """List the runs."""
    with open_ledger(url) as ledger, ledger.catch_up() as tables:
        found = answers.runs(tables)
    complete = all(run["unreadable_from_seq"] is None for run in found)
    output.rows("runs", found, form, complete=complete, columns=("run_id", "pipeline", "status", "started_at", "rows_read",
                                                                 "tokens", "events"))
    return 0
