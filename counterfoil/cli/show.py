"""`counterfoil show`: one run as it stands."""

from __future__ import annotations

from typing import Any

import click

from counterfoil import api
from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, ledger_url, open_ledger, resuming
from counterfoil.ledgers import Ledger
from ledger import reader
from ledger.errors import CounterfoilError
from ledger.events import RunInterrupted
from ledger.store import StreamHead
from projections import answers
from projections.project import FAILED


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
            found = answers.show(tables, run)
        head = ledger.store.head(run)
        found["stopped"] = _stopped(ledger, run, head) if found["complete"] else None
    if form == output.TABLE:
        _tell(found, url, head)
    else:
        output.answer("show", found, form)
    return 0


def _tell(found: dict[str, Any], url: str | None, head: StreamHead | None) -> None:
    run, complete = found["run"], found["complete"]
    status = found["status"] if complete or head is None else f"{head.status}, but told to event {found['events']} only"
    output.say(f"run {run} of {found['pipeline'] or '-'}: {status}, {found['rows_read']} rows, {found['tokens']} tokens, "
               f"{found['open_tokens']} open, {found['events'] if complete or head is None else head.size} events")
    if not complete:
        output.say(f"incomplete: nothing can be told from seq {found['unreadable_from_seq']} on: {_why(found)}")
    output.say(f"started {found['started_at']}, sealed {found['sealed_at'] or '-'}, settings {found['settings_hash']}")
    if complete:
        output.say(f"receipt {found['events']}:{found['root'] or '-'}")
    if complete and found["status"] in ("interrupted", "running"):
        why = found["stopped"] or {"code": "its process is at work, or died without a word", "detail": ""}
        output.say(f"stopped: {why['code']} {why['detail']}".rstrip() + f"; {resuming(ledger_url(url), run)}")
    for title in ("outcomes", "coalesces", "batches", "sinks", "violations"):
        if found[title]:
            output.say("")
            output.say(title)
            output.table(found[title])


def _why(found: dict[str, Any]) -> str:
    """What stopped the telling, and what to do about it."""
    one = next((one for one in found["violations"] if one["seq"] == found["unreadable_from_seq"]), None)
    again = f"`counterfoil verify {found['run']}` says what does not hold"
    if one is None:
        return again
    if one["law"] == FAILED:
        again = "this is a defect of the projector: once it is mended, the next command that reads the tables tells the rest"
    return f"{one['law']}: expected {one['expected']}; found {one['found']}; {again}"


def _stopped(ledger: Ledger, run: str, head: StreamHead | None) -> dict[str, str] | None:
    """What the run said when it stopped with work open; None when it said nothing, or is closed."""
    try:
        found = [event for _, event in reader.events(ledger.store, run, after=head.size - 1 if head else 0)]
    except CounterfoilError:
        return None
    last = found[-1] if found else None
    return {"code": last.code, "detail": last.detail} if isinstance(last, RunInterrupted) else None
