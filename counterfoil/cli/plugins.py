"""`counterfoil plugins`: what can be named in a pipeline file here."""

from __future__ import annotations

import click

from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option
from engine.plugins import Catalog


@click.command("plugins")
@form_option
@debug_option
def command(form: str) -> int:
    """List the plugins with their versions and options."""
    found, broken = Catalog().installed()
    output.rows("plugins", [{
        "kind": plugin.kind,
        "name": plugin.name,
        "origin": plugin.origin,
        "version": plugin.version,
        "expands": plugin.expands,
        "effect": plugin.effect,
        "options": ", ".join(f"{field.alias}{'' if field.is_required() else '?'}"
                             for field in plugin.options.model_fields.values()),
    } for plugin in found], form, columns=("kind", "name", "options", "origin", "version"))
    for why in broken:
        output.note(f"PLUGIN_BROKEN: {why}; the entry point is left out; mend or remove the package")
    return 0
