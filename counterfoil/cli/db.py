"""`counterfoil db`: the schema of a ledger, brought up, named, checked; and whether what it holds can be read."""

from __future__ import annotations

from typing import Any

import click

import migrations
from counterfoil.cli import output, standing
from counterfoil.cli.options import debug_option, form_option, ledger_option, ledger_url, open_ledger
from counterfoil.collector import quiet_collector
from counterfoil.keeping import Keeping
from counterfoil.ledgers import Ledger, keeping_of
from ledger import reader, upcasters
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

    The whole log is read for that, event by event. Exit 6 when not; so for a server that may lose what it acknowledged. Read
    tables that are not current are named, and no fault: whoever reads them next brings them up to date or makes them again.
    """
    url = ledger_url(url)
    keeping = keeping_of(url)
    schema = _standing(keeping, url)
    quiet_collector()
    with open_ledger(url) as ledger:
        if read_only := keeping.safety():
            output.note(read_only)
        guards, unreadable, tables = ledger.store.guards(), _unreadable(ledger), ledger.standing()
    standing.say(tables)
    answer = {**schema, "guards": guards, "unreadable_events": unreadable, "read_tables": tables.state}
    counted = {name: len(value) if isinstance(value, list) else value for name, value in answer.items()}
    _answer(counted if form == output.TABLE else answer, form)
    _refuse(keeping.shown, guards, unreadable)
    return 0


def _refuse(where: str, guards: list[str], unreadable: list[dict[str, Any]]) -> None:
    """What was found, a line each; the worst is the command's error."""
    kinds = [_text(one) for one in unreadable]
    for fault in guards[1:]:
        output.note(f"LEDGER_SCHEMA: {fault}")
    for kind in kinds if guards else kinds[1:]:
        output.note(f"LEDGER_EVENTS: {kind}")
    if guards:
        raise LedgerUnavailable("LEDGER_SCHEMA", f"expected every guard of the log and nothing else, found: {guards[0]}",
                                where=where, next_step="`counterfoil verify` says whether the record still holds")
    if kinds:
        raise LedgerUnavailable("LEDGER_EVENTS", f"expected events that this version reads, found {kinds[0]}", where=where,
                                next_step="`counterfoil verify` says what does not hold" if unreadable[0]["known"]
                                else "use a version that knows them")


def _text(one: dict[str, Any]) -> str:
    where = "{count} of {type} version {version}, the first in run {run} seq {seq}".format(**one)
    return f"{where}: {one['found']}" if one["known"] else where


def _unreadable(ledger: Ledger) -> list[dict[str, Any]]:
    """Each kind of event that cannot be read, how many of them, where the first is and what stands there.

    Before those of kinds that are `known`, so that it is their bytes, columns or lists that do not hold, those that are
    neither known nor led to a known kind by upcasters; they are counted in the whole table, also where they are of no run.
    """
    unknown = {(type_, version): _kind(type_, version, count)
               for type_, version, count in upcasters.UPCASTERS.uncovered(ledger.store.kinds())}
    broken: dict[tuple[str, int], dict[str, Any]] = {}
    for head in ledger.heads():
        for stored, found in reader.unreadable(ledger.store, head.run):
            kind = (stored.type, stored.v)
            one = unknown.get(kind) or broken.setdefault(kind, _kind(*kind, 0, known=True))
            if one["known"]:
                one["count"] += 1
            if one["found"] is None:
                one.update(run=head.run, seq=stored.seq, found=found)
    return [*unknown.values(), *broken.values()]


def _kind(type_: str, version: int, count: int, *, known: bool = False) -> dict[str, Any]:
    return {"type": type_, "version": version, "known": known, "count": count, "run": "?", "seq": 0, "found": None}


def _standing(keeping: Keeping, url: str) -> dict[str, Any]:
    if not keeping.exists():
        raise LedgerUnavailable("LEDGER_MISSING", "expected a ledger, found none", where=keeping.shown,
                                next_step="`counterfoil db upgrade` makes one")
    keeping.recognise()
    found, head = keeping.revision(), migrations.HEADS["log"]
    shown = url if url.startswith("sqlite:") else keeping.shown
    return {"ledger": shown, "revision": found, "head": head, "current": found == head}


def _answer(standing: dict[str, Any], form: str) -> None:
    if form == output.TABLE:
        output.table([standing])
    else:
        output.answer("db", standing, form)
