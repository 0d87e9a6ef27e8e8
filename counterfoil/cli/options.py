"""Options that many commands share, and what they resolve to."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from typing import Any, TypeVar

import click
from sqlalchemy.engine import make_url

from counterfoil.cli import output
from counterfoil.cli.rebuilding import lines
from counterfoil.ledgers import DEFAULT_URL, VARIABLE, Ledger, url_of
from ledger.postgres_url import is_postgres

Command = TypeVar("Command", bound=Callable[..., Any])


def ledger_option(function: Command) -> Command:
    """`--ledger URL`."""
    text = f"The ledger; else ${VARIABLE}, else {DEFAULT_URL}."
    return click.option("--ledger", "url", metavar="URL", help=text)(function)


def form_option(function: Command) -> Command:
    """`-o table|json|jsonl`."""
    return click.option("-o", "--output", "form", type=click.Choice(["table", "json", "jsonl"]), default="table",
                        show_default=True, help="How to answer.")(function)


def debug_option(function: Command) -> Command:
    """`--debug`, also after the command's name."""
    return click.option("--debug", is_flag=True, hidden=True, expose_value=False)(function)


def ledger_url(url: str | None, of_file: str | None = None) -> str:
    """The ledger that `--ledger` names, else the environment, else the pipeline file; an empty `--ledger` names none."""
    return url_of(url, os.environ, of_file)


def resuming(url: str, run: str) -> str:
    """What to type to carry a run on; a password is not repeated."""
    shown = make_url(url).render_as_string(hide_password=True) if is_postgres(url) else url
    named = "" if url == ledger_url(None) else f" --ledger {shlex.quote(shown)}"
    return f"`counterfoil resume {run}{named}` carries it on"


def open_ledger(url: str | None) -> Ledger:
    """The ledger to read; what is the matter with its read tables is said on stderr."""
    return Ledger(ledger_url(url), tell=output.note, progress=lines())
