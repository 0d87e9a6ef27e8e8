"""`counterfoil resume`: carry on a run that was interrupted or killed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from counterfoil import api, carrying_on
from counterfoil.cli import output, running
from counterfoil.cli.options import debug_option, form_option, ledger_option, ledger_url
from counterfoil.collector import quiet_collector
from counterfoil.ledgers import Ledger, keeping_of
from engine import binding, pipeline_file
from engine import run as engine_run
from engine.changes import RunChanged
from engine.ports import system
from ledger.errors import UsageError


@click.command("resume")
@click.argument("run")
@click.option("--file", "file", metavar="FILE", help="The pipeline file; else the one that the run recorded.")
@click.option("--accept-changes", is_flag=True, help="Go on although settings, plugins or source changed; it is recorded.")
@click.option("--wait", is_flag=True, help="Wait for another process that writes the ledger.")
@click.option("--fail-on", "fail_on", multiple=True, type=click.Choice(running.FAILING), help="Exit 4 when such rows exist.")
@ledger_option
@form_option
@debug_option
def command(run: str, file: str | None, accept_changes: bool, wait: bool, fail_on: tuple[str, ...], url: str | None,
            form: str) -> int:
    """Carry RUN on from where its log ends, in the directory it began in; rows that are finished are not touched again."""
    ports = system()
    if url is None and file is not None:
        url = ledger_url(None, pipeline_file.ledger_url(pipeline_file.load(file, ports.environment).settings))
    url = keeping_of(ledger_url(url)).absolute()
    with Ledger(url) as ledger:
        name = api.find_run(ledger, run)
        closed = engine_run.sealed(ledger.store, name)
        started = carrying_on.began(ledger, name)
    if closed is not None:
        output.note(f"RUN_SEALED: run {name} is {closed.status}: there is nothing to resume, and nothing was recorded")
        code = running.told(url, closed, fail_on, form)
        return code if closed.status == "completed" else running.NOT_COMPLETED
    file = str(Path(file).absolute()) if file is not None else started.settings_path
    _go_to(started.directory, name)
    ports = system()  # now in another directory
    prepared = binding.prepare(file, ports)
    running.tell_notices(prepared)
    quiet_collector()
    try:
        return running.driven(
            lambda hooks: carrying_on.resume_prepared(prepared, name, ledger=url, accept_changes=accept_changes, wait=wait,
                                                      hooks=hooks, ports=ports), url, name, fail_on, form)
    except RunChanged as changed:
        for change in changed.changes:
            output.note(f"  {change.field}: was {change.was}, is {change.now}")
        raise


def _go_to(directory: str, run: str) -> None:
    """Paths, and plugins beside the pipeline file, are found from where the run began."""
    try:
        os.chdir(directory)
    except OSError as error:
        raise UsageError("DIRECTORY_GONE", f"expected the directory that the run began in, found {error.strerror}: "
                         f"{directory}", where=f"run {run}", next_step="put it back; or from Python call counterfoil.resume "
                         "in another, with accept_changes") from None
    sys.path.insert(0, directory)
