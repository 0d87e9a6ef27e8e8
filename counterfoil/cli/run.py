"""`counterfoil run`: the main job."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from types import FrameType
from typing import Any

import click

from counterfoil import api
from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, ledger_url
from counterfoil.collector import quiet_collector
from counterfoil.ledgers import Ledger
from engine import binding, pipeline_file
from engine.loop import Hooks
from engine.ports import system
from engine.run import Receipt
from ledger.errors import LedgerUnavailable, RunIncomplete
from projections.answers import fates

STOPPED = 130
LINE_EVERY_SECONDS = 10.0
FAILING = ("failed", "quarantined", "diverted")


@click.command("run")
@click.argument("file")
@click.option("--run-id", metavar="ID", help="Name the run.")
@click.option("--strict", is_flag=True, help="Take warnings for errors.")
@click.option("--wait", is_flag=True, help="Wait for another process that writes the ledger.")
@click.option("--fail-on", "fail_on", multiple=True, type=click.Choice(FAILING), help="Exit 4 when such rows exist.")
@ledger_option
@form_option
@debug_option
def command(file: str, run_id: str | None, strict: bool, wait: bool, fail_on: tuple[str, ...], url: str | None, form: str
            ) -> int:
    """Run a pipeline FILE, catch the read tables up, print what became of every row, and the receipt."""
    ports = system()
    prepared = binding.prepare(file, ports, strict=strict)
    for notice in prepared.notices:
        output.note(f"notice: {notice}")
    for warning in prepared.pipeline.warnings:
        output.note(f"warning: {warning.code}: {warning.what}; {warning.where}")
    url = ledger_url(url, pipeline_file.ledger_url(prepared.file.settings))
    run_id = run_id if run_id is not None else binding.default_run_id(prepared.file.name, ports)
    quiet_collector()
    with _signals() as stopping, _progress() as progress:
        try:
            receipt = api.run_prepared(prepared, run_id=run_id, ledger=url, wait=wait, hooks=Hooks(stopping, progress),
                                       ports=ports)
        except RunIncomplete:
            progress(-1)
            with suppress(LedgerUnavailable):  # the fault is what has to be told
                _answer_interrupted(url, run_id, form)
            raise
    found = _answer(url, receipt, form)
    if receipt.status == "interrupted":
        output.note(f"STOPPED: run {receipt.run} is interrupted with work open; what is done is kept; it can be resumed")
        return STOPPED
    unwanted = next((outcome for outcome in fail_on if found.get(outcome, 0)), None)
    if unwanted is None:
        return 0
    output.note(f"ROWS_{unwanted.upper()}: expected no row that ends {unwanted}, found {found[unwanted]}; run {receipt.run}"
                f"; `counterfoil tokens {receipt.run} --outcome {unwanted}` lists them")
    return 4


def _answer(url: str, receipt: Receipt, form: str) -> dict[str, int]:
    """Print the summary; gives outcome counts, late arrivals left out of `failed`."""
    with Ledger(url) as ledger, ledger.catch_up() as tables:
        found = fates(tables, receipt.run)
    if form == output.TABLE:
        output.say(f"run {receipt.run} {receipt.status}: {receipt.rows} rows, {receipt.tokens} tokens, "
                   f"{sum(receipt.outcomes.values())} with exactly one end")
        if receipt.late_arrivals:
            output.say(f"{receipt.late_arrivals} of the failed are late arrivals")
        output.table(found)
        output.say(f"receipt {receipt.size}:{receipt.root}")
    else:
        output.answer("run", {**asdict(receipt), "fates": found}, form)
    counts = dict(receipt.outcomes)
    counts["failed"] = counts.get("failed", 0) - receipt.late_arrivals
    return counts


def _answer_interrupted(url: str, run_id: str, form: str) -> None:
    """What is known of a run that a fault stopped, when it had begun."""
    with Ledger(url) as ledger, ledger.catch_up() as tables:
        found = tables.records("SELECT run_id AS run, pipeline, status, rows_read AS rows, tokens, late_arrivals, events AS "
                               "size, root FROM runs WHERE run_id = ?", (run_id,))
        if not found:
            return
        told: dict[str, Any] = {**found[0], "fates": fates(tables, run_id)}
    if form == output.TABLE:
        output.say(f"run {run_id} {told['status']}: {told['rows']} rows, {told['tokens']} tokens so far")
        output.table(told["fates"])
        output.say(f"receipt {told['size']}:{told['root']}")
    else:
        output.answer("run", told, form)


@contextmanager
def _signals() -> Iterator[Callable[[], str | None]]:
    """The first SIGINT or SIGTERM asks the run to stop and finish what is in hand, a second one ends the process.

    Before the run has asked for the first time there is nothing in hand, perhaps a wait for the ledger: then it just ends.
    """
    reasons: list[str] = []
    begun = False

    def stop(number: int, frame: FrameType | None) -> None:
        if not begun:
            raise KeyboardInterrupt
        if reasons:
            os._exit(STOPPED)
        reasons.append(signal.Signals(number).name)
        with suppress(OSError):
            os.write(2, b"stopping: finishing what is in hand (again: exit at once)\n")

    def stopping() -> str | None:
        nonlocal begun
        begun = True
        return reasons[0] if reasons else None

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Rows so far: a bar on a terminal, else a line now and then, both on stderr. -1 ends it early."""
    if sys.stderr.isatty():
        with _bar() as advance:
            yield advance
        return
    began = last = time.monotonic()
    total = 0

    def line(rows: int) -> None:
        nonlocal last, total
        total += max(rows, 0)
        now = time.monotonic()
        if now - last >= LINE_EVERY_SECONDS:
            last = now
            output.note(f"{total} rows, {total / (now - began):.0f} a second")

    yield line


@contextmanager
def _bar() -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rows", total=None)

        def advance(rows: int) -> None:
            if rows < 0:
                progress.stop()
            else:
                progress.advance(task, rows)

        yield advance
