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
    for left in keeping.upgrade(wait=wait):
        output.note(f"LEDGER_ROLES: {left}")
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

    Exit 6 when not; so for a server that may lose what it acknowledged. Read tables that are not current are named, and no
    fault: whoever reads them next brings them up to date or makes them again.
    """
    url = ledger_url(url)
    keeping = keeping_of(url)
    standing = _standing(keeping, url)
    with open_ledger(url) as ledger:
        if read_only := keeping.safety():
            output.note(read_only)
        guards, unreadable, tables = ledger.store.guards(), _unreadable(ledger), ledger.standing()
    if tables.state != "current":
        output.note(f"READ_TABLES_{tables.state.upper()}: {tables.why}; {_NEXT[tables.state]}")
    answer = {**standing, "guards": guards, "unreadable_events": unreadable, "read_tables": tables.state}
    counted = {name: len(value) if isinstance(value, list) else value for name, value in answer.items()}
    _answer(counted if form == output.TABLE else answer, form)
    _refuse(keeping.shown, guards, unreadable)
    return 0


_NEXT = {
    "none": "the next command that reads them makes them",
    "behind": "the next command that reads them brings them up to date",
    "stale": "the next command that reads them, or `counterfoil rebuild`, makes them again",
    "ahead": "`counterfoil verify` says whether the log was cut; the next command that reads them makes them again",
    "incomplete": "they tell what stands before it",
}


def _refuse(where: str, guards: list[str], unreadable: list[dict[str, object]]) -> None:
    """What was found, a line each; the worst is the command's error."""
    kinds = ["{count} of {type} version {version}, the first in run {run} seq {seq}".format(**one) for one in unreadable]
    for fault in guards[1:]:
        output.note(f"LEDGER_SCHEMA: {fault}")
    for kind in kinds if guards else kinds[1:]:
        output.note(f"LEDGER_EVENTS: {kind}")
    if guards:
        raise LedgerUnavailable("LEDGER_SCHEMA", f"expected every guard of the log and nothing else, found: {guards[0]}",
                                where=where, next_step="`counterfoil verify` says whether the record still holds")
    if kinds:
        raise LedgerUnavailable("LEDGER_EVENTS", f"expected events that this version reads, found {kinds[0]}", where=where,
                                next_step="use a version that knows them")


def _unreadable(ledger: Ledger) -> list[dict[str, object]]:
    """Each kind of event that is really in the log, and is neither known nor led to a known one by upcasters."""
    kinds = {(type_, version): count for type_, version, count in upcasters.UPCASTERS.uncovered(ledger.store.kinds())}
    first: dict[tuple[str, int], tuple[str, int]] = {}
    for head in ledger.heads() if kinds else []:
        for event in ledger.store.read(head.run):
            if (event.type, event.v) in kinds:
                first.setdefault((event.type, event.v), (head.run, event.seq))
    return [{"type": type_, "version": version, "count": count, "run": run, "seq": seq}
            for (type_, version), count in kinds.items() for run, seq in (first.get((type_, version), ("?", 0)),)]


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
