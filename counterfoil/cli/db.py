"""`counterfoil db`: the schema of a ledger, brought up, named, checked; and whether what it holds can be read."""

from __future__ import annotations

import click

import migrations
from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, ledger_url, open_ledger
from counterfoil.keeping import Keeping
from counterfoil.ledgers import Ledger, keeping_of
from ledger import upcasters
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
    """Bring the ledger to this version's schema; make it when there is none. No event is ever rewritten.

    Read tables are not moved but made again from the log, by the next command that needs them or by `rebuild`.
    """
    url = ledger_url(url)
    keeping = keeping_of(url)
    if not keeping.exists():
        Ledger.create(url, wait=wait).close()
    keeping.upgrade(wait=wait)
    _answer(_standing(keeping, url), form)
    return 0


@command.command("current")
@ledger_option
@form_option
@debug_option
def current(url: str | None, form: str) -> int:
    """Name the schema revision that the ledger stands at."""
    url = ledger_url(url)
    _answer(_standing(keeping_of(url), url), form)
    return 0


@command.command("check")
@ledger_option
@form_option
@debug_option
def check(url: str | None, form: str) -> int:
    """Say whether the ledger stands at this version's schema, with its guards, and every event in it can be read.

    Exit 6 when not. Read tables that are stale are named; they are made again by whoever reads them next.
    """
    url = ledger_url(url)
    standing = _standing(keeping_of(url), url)
    if not standing["current"]:
        found = standing["revision"] or "none"
        raise LedgerUnavailable("LEDGER_SCHEMA", f"expected schema {standing['head']}, found {found}",
                                where=str(standing["ledger"]), next_step="run `counterfoil db upgrade`")
    with open_ledger(url) as ledger:
        faults = ledger.store.guards()
        if faults:
            raise LedgerUnavailable("LEDGER_SCHEMA", f"expected every guard of the log, found: {faults[0]}",
                                    where=ledger.shown, next_step="`counterfoil verify` says whether the record still holds")
        _check_events(ledger)
        tables = ledger.standing()
    if tables.state not in ("current", "none"):
        output.note(f"READ_TABLES_{tables.state.upper()}: {tables.why}; `counterfoil rebuild` makes them again")
    _answer({**standing, "read_tables": tables.state}, form)
    return 0


def _check_events(ledger: Ledger) -> None:
    """Every kind of event that is really in the log has to be one that is known, or that upcasters lead to one."""
    found = upcasters.UPCASTERS.uncovered(ledger.store.kinds())
    if not found:
        return
    for type_, version, count in found:
        output.note(f"EVENT_UNREADABLE: {count} events {type_} version {version}: no upcaster leads from there to a known one")
    type_, version, count = found[0]
    raise LedgerUnavailable("LEDGER_EVENTS", f"expected events that this version reads, found {count} of {type_} version "
                            f"{version}", where=ledger.shown, next_step="use a version that knows them")


def _standing(keeping: Keeping, url: str) -> dict[str, object]:
    if not keeping.exists():
        raise LedgerUnavailable("LEDGER_MISSING", "expected a ledger, found none", where=keeping.shown,
                                next_step="`counterfoil db upgrade` makes one")
    keeping.recognise()
    found, head = keeping.revision(), migrations.HEADS["log"]
    shown = url if url.startswith("sqlite:") else keeping.shown
    return {"ledger": shown, "revision": found, "head": head, "current": found == head}


def _answer(standing: dict[str, object], form: str) -> None:
    if form == output.TABLE:
        output.table([standing])
    else:
        output.answer("db", standing, form)
