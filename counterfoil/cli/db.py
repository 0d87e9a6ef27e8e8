"""`counterfoil db`: the schema of a ledger, brought up, named, checked."""

from __future__ import annotations

import click

import migrations
from counterfoil import ledgers
from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, ledger_url
from counterfoil.ledgers import Ledger
from ledger.errors import LedgerUnavailable


@click.group("db")
@debug_option
def command() -> None:
    """The ledger's schema."""


@command.command("upgrade")
@click.option("--wait", is_flag=True, help="Wait for another process that writes the ledger.")
@ledger_option
@form_option
@debug_option
def upgrade(wait: bool, url: str | None, form: str) -> int:
    """Bring the ledger to this version's schema; make it when there is none."""
    url = ledger_url(url)
    path = ledgers.path_of(url)
    if not path.exists():
        Ledger.create(url, wait=wait).close()
    found = ledgers.upgrade(path, wait=wait)
    _answer({"ledger": url, "revision": found, "head": migrations.HEADS["log"], "current": True}, form)
    return 0


@command.command("current")
@ledger_option
@form_option
@debug_option
def current(url: str | None, form: str) -> int:
    """Name the schema revision that the ledger stands at."""
    url = ledger_url(url)
    _answer(_standing(url), form)
    return 0


@command.command("check")
@ledger_option
@form_option
@debug_option
def check(url: str | None, form: str) -> int:
    """Say whether the ledger stands at this version's schema, with its guards; exit 6 when not."""
    url = ledger_url(url)
    standing = _standing(url)
    if not standing["current"]:
        found = standing["revision"] or "none"
        raise LedgerUnavailable("LEDGER_SCHEMA", f"expected schema {standing['head']}, found {found}", where=url,
                                next_step="run `counterfoil db upgrade`")
    with Ledger(url) as ledger:
        faults = ledger.store.guards()
    if faults:
        raise LedgerUnavailable("LEDGER_SCHEMA", f"expected every guard of the log, found: {faults[0]}", where=url,
                                next_step="`counterfoil verify` says whether the record still holds")
    _answer(standing, form)
    return 0


def _standing(url: str) -> dict[str, object]:
    path = ledgers.path_of(url)
    if not path.exists():
        raise LedgerUnavailable("LEDGER_MISSING", "expected a ledger, found no file", where=str(path),
                                next_step="`counterfoil db upgrade` makes one")
    ledgers.recognise(path)
    found, head = ledgers.revision(path), migrations.HEADS["log"]
    return {"ledger": url, "revision": found, "head": head, "current": found == head}


def _answer(standing: dict[str, object], form: str) -> None:
    if form == output.TABLE:
        output.table([standing])
    else:
        output.answer("db", standing, form)
