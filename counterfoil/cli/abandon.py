"""`counterfoil abandon`: close a run that will not be carried on."""

from __future__ import annotations

import click

from counterfoil import api, carrying_on
from counterfoil.cli import output, running
from counterfoil.cli.options import debug_option, form_option, ledger_option, ledger_url
from counterfoil.collector import quiet_collector
from counterfoil.ledgers import Ledger
from engine import run as engine_run


@click.command("abandon")
@click.argument("run")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is recorded.")
@click.option("--wait", is_flag=True, help="Wait for another process that writes the ledger.")
@ledger_option
@form_option
@debug_option
def command(run: str, reason: str, wait: bool, url: str | None, form: str) -> int:
    """Close RUN for good: open groups are decided as at the end of the source, other open tokens end `failed: abandoned`.

    Reads no source, calls no plugin, writes to no sink.
    """
    url = ledger_url(url)
    quiet_collector()
    with Ledger(url) as ledger:
        name = api.find_run(ledger, run)
        closed = engine_run.sealed(ledger.store, name)
    if closed is not None:
        output.note(f"RUN_SEALED: run {name} is {closed.status} already: nothing was recorded")
    receipt = closed or carrying_on.abandon(name, reason, ledger=url, wait=wait)
    running.told(url, receipt, (), form)
    return 0
