"""`counterfoil rebuild`: the read tables again from zero, or only what they say differently from the log."""

from __future__ import annotations

import time

import click

from counterfoil import api
from counterfoil.cli import output, standing
from counterfoil.cli.options import debug_option, form_option, ledger_option, open_ledger
from counterfoil.cli.rebuilding import rebuilding
from counterfoil.collector import quiet_collector


@click.command("rebuild")
@click.option("--run", "run", metavar="RUN", help="Only this run.")
@click.option("--verify", is_flag=True, help="Compare with the log and change nothing.")
@click.option("--processes", type=click.IntRange(1, 64), metavar="N",
              help="How many processes work on several runs; else one for each processor, if there is enough to do.")
@ledger_option
@form_option
@debug_option
def command(run: str | None, verify: bool, processes: int | None, url: str | None, form: str) -> int:
    """Make the read tables again from the log, and swap them in whole."""
    quiet_collector()
    with open_ledger(url) as ledger:
        name = api.find_run(ledger, run) if run is not None else None
        if not verify:
            began = time.monotonic()
            with rebuilding() as progress:
                made = ledger.rebuild(name, processes=processes, progress=progress)
            events = sum(head.size for head in ledger.heads() if name in (None, head.run))
            stopped = standing.stopped(ledger, name)
            standing.say_stopped(stopped)
            if form == output.TABLE:
                output.say(f"read tables made again: {made} ({events} events, "
                           f"{events / max(time.monotonic() - began, 1e-3):,.0f} a second)")
            else:
                output.answer("rebuild", {"read_tables": made, "run": name, "events": events, "complete": not stopped}, form)
            return 0
        standing.announce(ledger)
        found, stopped = ledger.differences(name), standing.stopped(ledger, name)
    output.rows("rebuild", [one._asdict() for one in found], form, complete=not stopped, why=None)
    if found:
        output.note(f"PROJECTION_DIFFERS: expected the read tables to say what the log says, found {len(found)} rows that "
                    f"differ, the first in {found[0].table}; run `counterfoil rebuild`")
        return 5
    return 0
