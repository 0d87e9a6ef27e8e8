"""A run in the foreground: signals, progress, what it came to. Shared by the commands that drive one."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from types import FrameType
from typing import Any

from counterfoil.cli import output
from counterfoil.cli.options import resuming
from counterfoil.ledgers import Ledger
from engine.binding import Prepared
from engine.loop import Hooks
from engine.run import Receipt
from ledger.errors import CounterfoilError, LedgerUnavailable, RunIncomplete
from projections.answers import fates

STOPPED = 130
NOT_COMPLETED = 4
LINE_EVERY_SECONDS = 10.0
FAILING = ("failed", "quarantined", "diverted")


def driven(drive: Callable[[Hooks], Receipt], url: str, run: str, fail_on: tuple[str, ...], form: str) -> int:
    """Drive a run, print what became of every row and the receipt; gives the exit code."""
    with said_once():
        with signals() as stopping, progress() as advance:
            try:
                receipt = drive(Hooks(stopping, advance))
            except RunIncomplete:
                advance(-1)
                with suppress(CounterfoilError):  # the fault is what has to be told
                    answer_interrupted(url, run, form)
                raise
        return told(url, receipt, fail_on, form)


@contextmanager
def said_once() -> Iterator[None]:
    """The read tables are brought up to date when the run has ended, and again for its summary where that did not go well:
    what is the matter with them is said the first time only.
    """
    log, said = logging.getLogger("counterfoil"), set[str]()

    def is_new(record: logging.LogRecord) -> bool:
        before = len(said)
        said.add(record.getMessage())
        return len(said) > before

    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)


def tell_notices(prepared: Prepared) -> None:
    """What the pipeline file says that has no effect, and what it is warned of."""
    for notice in prepared.notices:
        output.note(f"notice: {notice}")
    for warning in prepared.pipeline.warnings:
        output.note(f"warning: {warning.code}: {warning.what}; {warning.where}")


def told(url: str, receipt: Receipt, fail_on: tuple[str, ...], form: str) -> int:
    """Print what a run came to; gives the exit code."""
    found = answer(url, receipt, form)
    if receipt.status == "interrupted":
        output.note(f"STOPPED: run {receipt.run} is interrupted with work open; what is done is kept; "
                    f"{resuming(url, receipt.run)}")
        return STOPPED
    unwanted = next((outcome for outcome in fail_on if found.get(outcome, 0)), None)
    if unwanted is None:
        return 0
    output.note(f"ROWS_{unwanted.upper()}: expected no row that ends {unwanted}, found {found[unwanted]}; run {receipt.run}"
                f"; `counterfoil tokens {receipt.run} --outcome {unwanted}` lists them")
    return NOT_COMPLETED


def answer(url: str, receipt: Receipt, form: str) -> dict[str, int]:
    """Print the summary; gives outcome counts, late arrivals left out of `failed`.

    The receipt is printed also where the read tables, from which the fates are, cannot be had: then it raises afterwards.
    """
    found, fault = None, None
    try:
        with Ledger(url) as ledger, ledger.catch_up() as tables:
            found = fates(tables, receipt.run)
    except LedgerUnavailable as error:
        fault = LedgerUnavailable("READ_TABLES_FAULT", f"expected read tables to tell its fates, found {error.code}: "
                                  f"{error.what}", where=f"run {receipt.run}, which is {receipt.status}", next_step="the "
                                  f"receipt holds; mend that, then `counterfoil show {receipt.run}`")
    if form == output.TABLE:
        output.say(f"run {receipt.run} {receipt.status}: {receipt.rows} rows, {receipt.tokens} tokens, "
                   f"{sum(receipt.outcomes.values())} with exactly one end")
        if receipt.late_arrivals:
            output.say(f"{receipt.late_arrivals} of the failed are late arrivals")
        if found is not None:
            output.table(found)
        output.say(f"receipt {receipt.size}:{receipt.root}")
    else:
        output.answer("run", {**asdict(receipt), "fates": found}, form)
    if fault is not None:
        raise fault
    counts = dict(receipt.outcomes)
    counts["failed"] = counts.get("failed", 0) - receipt.late_arrivals
    return counts


def answer_interrupted(url: str, run_id: str, form: str) -> None:
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
def signals() -> Iterator[Callable[[], str | None]]:
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
def progress() -> Iterator[Callable[[int], None]]:
    """Rows so far: a bar on a terminal, else a line now and then, both on stderr. -1 ends it early."""
    if sys.stderr is not None and sys.stderr.isatty():
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
