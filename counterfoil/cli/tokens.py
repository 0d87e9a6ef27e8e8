"""`counterfoil tokens`: a run's tokens and what became of them."""

from __future__ import annotations

from typing import get_args

import click

from counterfoil import api
from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, open_ledger
from ledger.events import OutcomeName
from projections import answers


@click.command("tokens")
@click.argument("run")
@click.option("--outcome", type=click.Choice([*get_args(OutcomeName), "open"]), help="Only those that ended so.")
@click.option("--node", metavar="NAME", help="Only those that were at this node.")
@ledger_option
@form_option
@debug_option
def command(run: str, outcome: str | None, node: str | None, url: str | None, form: str) -> int:
    """List the tokens of RUN in the order of their birth."""
    with open_ledger(url) as ledger:
        run = api.find_run(ledger, run)
        with ledger.catch_up() as tables:
            complete = not tables.select("SELECT 1 FROM runs WHERE run_id = ? AND unreadable_from_seq IS NOT NULL", (run,))
            output.rows("tokens", answers.tokens(tables, run, outcome, node), form, complete=complete,
                        columns=("token_id", "branch_name", "outcome", "sink_name", "reason", "born_seq", "ended_seq"))
    return 0
