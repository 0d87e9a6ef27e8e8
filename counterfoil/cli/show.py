"""`counterfoil show`: one run as it stands."""

from __future__ import annotations

import click

from counterfoil import api
from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, ledger_url, open_ledger, resuming
from counterfoil.ledgers import Ledger
from ledger import reader
from ledger.errors import CounterfoilError
from ledger.events import RunInterrupted
from projections import answers


@click.command("show")
@click.argument("run")
@ledger_option
@form_option
@debug_option
def command(run: str, url: str | None, form: str) -> int:
    """Show RUN: its state, what became of its tokens, its joins, its sinks."""
    with open_ledger(url) as ledger:
        run = api.find_run(ledger, run)
        with ledger.catch_up() as tables:
            found = {**answers.show(tables, run), "stopped": _stopped(ledger, run)}
    if form != output.TABLE:
        output.answer("show", found, form)
        return 0
    output.say(f"run {run} of {found['pipeline']}: {found['status']}, {found['rows_read']} rows, {found['tokens']} tokens, "
               f"{found['open_tokens']} open, {found['events']} events")
    output.say(f"started {found['started_at']}, sealed {found['sealed_at'] or '-'}, settings {found['settings_hash']}")
    output.say(f"receipt {found['events']}:{found['root'] or '-'}")
    if found["status"] in ("interrupted", "running"):
        why = found["stopped"] or {"code": "its process is at work, or died without a word", "detail": ""}
        output.say(f"stopped: {why['code']} {why['detail']}".rstrip() + f"; {resuming(ledger_url(url), run)}")
    for title in ("outcomes", "coalesces", "batches", "sinks", "violations"):
        if found[title]:
            output.say("")
            output.say(title)
            output.table(found[title])
    if not found["complete"]:
        output.say(f"incomplete: nothing can be told from seq {found['unreadable_from_seq']} on")
    return 0


def _stopped(ledger: Ledger, run: str) -> dict[str, str] | None:
    """What the run said when it stopped with work open; None when it said nothing, or is closed."""
    head = ledger.store.head(run)
    try:
        found = [event for _, event in reader.events(ledger.store, run, after=head.size - 1 if head else 0)]
    except CounterfoilError:
        return None
    last = found[-1] if found else None
    return {"code": last.code, "detail": last.detail} if isinstance(last, RunInterrupted) else None
