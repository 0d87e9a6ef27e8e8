"""`counterfoil validate`: everything that is wrong with a pipeline file, or a word that nothing is."""

from __future__ import annotations

import click

from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option
from engine import binding
from engine.ports import system
from engine.problems import PipelineRefused, Problem
from ledger.errors import SettingsInvalid


@click.command("validate")
@click.argument("file")
@click.option("--strict", is_flag=True, help="Take warnings for errors.")
@form_option
@debug_option
def command(file: str, strict: bool, form: str) -> int:
    """Check a pipeline FILE: its settings, its graph, its plugins and their options; nothing is run or written."""
    try:
        prepared = binding.prepare(file, system(), strict=strict)
    except SettingsInvalid as error:
        _refused(error, form)
        raise
    warnings = [warning._asdict() for warning in prepared.pipeline.warnings]
    graph = prepared.pipeline.graph
    if form == output.TABLE:
        for notice in prepared.notices:
            output.note(f"notice: {notice}")
        output.say(f"{prepared.file.name} is valid: {len(graph.nodes)} nodes, {len(graph.edges)} edges, "
                   f"{len(warnings)} warnings")
        for warning in prepared.pipeline.warnings:
            output.say(f"warning {warning.code}: {warning.what}; {warning.where}; {warning.next_step}")
    else:
        output.answer("validate", {"ok": True, "pipeline": prepared.file.name, "errors": [], "warnings": warnings,
                                   "notices": list(prepared.notices)}, form)
    return 0


def _refused(error: SettingsInvalid, form: str) -> None:
    """All problems on stdout; the first is the error on stderr."""
    one = Problem(error.code, error.what, error.where, error.next_step)
    problems = error.problems if isinstance(error, PipelineRefused) else (one,)
    if form != output.TABLE:
        output.answer("validate", {"ok": False, "pipeline": None, "errors": [found._asdict() for found in problems],
                                   "warnings": [], "notices": []}, form)
    elif len(problems) > 1:
        for found in problems:
            output.say(f"{found.code}: " + "; ".join(part for part in found[1:] if part))
