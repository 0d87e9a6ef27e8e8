"""`counterfoil run`: the main job."""

from __future__ import annotations

import click

from counterfoil import api
from counterfoil.cli import running
from counterfoil.cli.options import debug_option, form_option, ledger_option, ledger_url
from counterfoil.collector import quiet_collector
from engine import binding, pipeline_file
from engine.ports import system


@click.command("run")
@click.argument("file")
@click.option("--run-id", metavar="ID", help="Name the run.")
@click.option("--strict", is_flag=True, help="Take warnings for errors.")
@click.option("--wait", is_flag=True, help="Wait for another process that writes the ledger.")
@click.option("--fail-on", "fail_on", multiple=True, type=click.Choice(running.FAILING), help="Exit 4 when such rows exist.")
@ledger_option
@form_option
@debug_option
def command(file: str, run_id: str | None, strict: bool, wait: bool, fail_on: tuple[str, ...], url: str | None, form: str
            ) -> int:
    """Run a pipeline FILE, catch the read tables up, print what became of every row, and the receipt."""
    ports = system()
    prepared = binding.prepare(file, ports, strict=strict)
    running.tell_notices(prepared)
    url = ledger_url(url, pipeline_file.ledger_url(prepared.file.settings))
    name = run_id if run_id is not None else binding.default_run_id(prepared.file.name, ports)
    quiet_collector()
    return running.driven(lambda hooks: api.run_prepared(prepared, run_id=name, ledger=url, wait=wait, hooks=hooks,
                                                         ports=ports), url, name, fail_on, form)
