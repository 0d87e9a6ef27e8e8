"""`counterfoil tokens`: a run's tokens and what became of them."""

from __future__ import annotations

from typing import get_args

import click

from counterfoil import api
from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, open_ledger
from engine.problems import nearest
from ledger.errors import UsageError
from ledger.events import OutcomeName
from projections import answers
from projections.read_tables import ReadTables


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
            if node is not None:
                _check_node(tables, run, node)
            complete = not tables.select("SELECT 1 FROM runs WHERE run_id = ? AND unreadable_from_seq IS NOT NULL", (run,))
            output.rows("tokens", answers.tokens(tables, run, outcome, node), form, complete=complete,
                        columns=("token_id", "branch_name", "outcome", "sink_name", "reason", "born_seq", "ended_seq"))
    return 0


def _check_node(tables: ReadTables, run: str, node: str) -> None:
    known = [row[0] for row in tables.select("SELECT node_id FROM nodes WHERE run_id = ?", (run,))]
    if node not in known:
        raise UsageError("NODE_UNKNOWN", f"expected a node of run {run}, found none named {node!r:.80}", where="--node",
                         next_step=nearest(node, known))
