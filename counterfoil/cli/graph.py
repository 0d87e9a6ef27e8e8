"""`counterfoil graph`: the DAG of a pipeline file, or of a run as it was recorded."""

from __future__ import annotations

import os

import click
import msgspec

from counterfoil import api
from counterfoil.cli import output
from counterfoil.cli.options import debug_option, ledger_option, open_ledger
from engine import binding
from engine.ports import system
from ledger import reader
from ledger.events import RunStarted
from ledger.graph import Graph
from projections import graph_text


@click.command("graph")
@click.argument("what", metavar="FILE|RUN")
@click.option("--format", "format_", type=click.Choice(["mermaid", "dot", "json"]), default="mermaid", show_default=True)
@ledger_option
@debug_option
def command(what: str, format_: str, url: str | None) -> int:
    """Draw FILE or RUN; ways off the normal path are dashed."""
    graph = _of_file(what) if os.path.exists(what) or what.endswith((".yaml", ".yml")) else _of_run(what, url)
    if format_ == "json":
        output.answer("graph", graph_text.as_data(graph), output.JSON)
    else:
        for line in (graph_text.mermaid if format_ == "mermaid" else graph_text.dot)(graph).split("\n"):
            output.say(line)
    return 0


def _of_file(path: str) -> Graph:
    return binding.prepare(path, system()).pipeline.graph


def _of_run(run: str, url: str | None) -> Graph:
    with open_ledger(url) as ledger:
        run = api.find_run(ledger, run)
        _, event = next(reader.events(ledger.store, run, until=1))
    if not isinstance(event, RunStarted) or event.graph is None:
        raise msgspec.ValidationError("a run that does not begin with its graph")
    return event.graph
