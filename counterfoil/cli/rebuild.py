"""`counterfoil rebuild`: the read tables again from zero, or only what they say differently from the log."""

from __future__ import annotations

import click

from counterfoil import api
from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, open_ledger
from counterfoil.collector import quiet_collector


@click.command("rebuild")
@click.option("--run", "run", metavar="RUN", help="Only this run.")
@click.option("--verify", is_flag=True, help="Compare with the log and change nothing.")
@ledger_option
@form_option
@debug_option
def command(run: str | None, verify: bool, url: str | None, form: str) -> int:
    """Make the read tables again from the log, and swap them in whole."""
    quiet_collector()
    with open_ledger(url) as ledger:
        name = api.find_run(ledger, run) if run is not None else None
        if not verify:
            path = ledger.rebuild(name)
            if form == output.TABLE:
                output.say(f"read tables made again: {path}")
            else:
                output.answer("rebuild", {"read_tables": str(path), "run": name}, form)
            return 0
        found = ledger.differences() if name is None else ledger.differences_of(name)
    rows = [one._asdict() for one in found]
    output.rows("rebuild", rows, form)
    if found:
        output.note(f"PROJECTION_DIFFERS: expected the read tables to say what the log says, found {len(found)} rows that "
                    f"differ, the first in {found[0].table}; run `counterfoil rebuild`")
        return 5
    return 0
