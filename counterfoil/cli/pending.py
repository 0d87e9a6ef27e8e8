"""`counterfoil pending`: what is waiting for what, since when."""

from __future__ import annotations

import click

from counterfoil import api
from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, open_ledger
from projections import answers


@click.command("pending")
@click.argument("run")
@ledger_option
@form_option
@debug_option
def command(run: str, url: str | None, form: str) -> int:
    """List open groups, batches, sink writes and tokens of RUN."""
    with open_ledger(url) as ledger:
        run = api.find_run(ledger, run)
        with ledger.catch_up() as tables:
            found = answers.pending(tables, ledger.store, run)
            complete = answers.is_complete(tables, run)
    output.rows("pending", found, form, complete=complete,
                columns=("kind", "what", "node", "waits_for", "has", "since", "since_seq"))
    return 0
