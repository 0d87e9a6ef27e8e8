"""Runs that were left: resumed, or given up.

Why a run's own directory matters: the paths in its pipeline file are relative to the one it began in, so a resume from
elsewhere would read another input and write other files; it is refused like any other change.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from counterfoil.api import apart, driven, find_run
from counterfoil.ledgers import DEFAULT_URL, Ledger, keeping_of, url_of
from engine import binding, pipeline_file
from engine import run as running
from engine.loop import Hooks
from engine.ports import Ports, system
from engine.run import Receipt
from ledger import reader
from ledger.errors import LedgerUnavailable, UsageError
from ledger.events import RunClaimed, RunStarted
from ledger.ids import is_text


def resume(
    run: str,
    *,
    ledger: str | None = None,
    file: str | None = None,
    accept_changes: bool = False,
    wait: bool = False,
    stopping: Callable[[], str | None] = lambda: None,
    progress: Callable[[int], None] = lambda rows: None,
    ports: Ports | None = None,
) -> Receipt:
    """Carry on a run that was interrupted or killed, to its end; a run that is closed is left as it is.

    The pipeline file is the recorded one, or `file`, which may also say where the ledger is. Raises as `run` does, and
    `engine.changes.RunChanged` when settings, plugins or source are not what they were and `accept_changes` is not given.
    """
    ports = ports or system()
    if ledger is None and file is not None:
        settings = pipeline_file.load(file, ports.environment).settings
        ledger = url_of(None, ports.environment, pipeline_file.ledger_url(settings))
    ledger = url_of(ledger, ports.environment)
    with Ledger(ledger) as opened:
        name = find_run(opened, run)
        closed = running.sealed(opened.store, name)
        if closed is not None:
            return closed
        file = file if file is not None else began(opened, name).settings_path
    return resume_prepared(binding.prepare(file, ports), name, ledger=ledger, accept_changes=accept_changes, wait=wait,
                           hooks=Hooks(stopping, progress), ports=ports)


def resume_prepared(prepared: binding.Prepared, run: str, *, ledger: str, accept_changes: bool, wait: bool, hooks: Hooks,
                    ports: Ports) -> Receipt:
    """The same for a run that is open, and a pipeline file that has been prepared."""
    apart(prepared, keeping_of(ledger))
    pipeline = binding.bound(prepared)
    opening = binding.opening(prepared, pipeline, ports, run, resumed=True)
    with to_write(ledger, run, wait=wait) as opened:
        return driven(opened, hooks, lambda: running.resume(opened.store, opening, pipeline, ports, hooks,
                                                            accept_changes=accept_changes))


def abandon(run: str, reason: str, *, ledger: str = DEFAULT_URL, wait: bool = False, ports: Ports | None = None) -> Receipt:
    """Close a run for good: what is open is decided as at the end of its source, the rest ends `failed: abandoned`.

    Raises `UsageError` for a reason that says nothing, or that is no text.
    """
    if not reason or not reason.strip() or not is_text(reason):
        raise UsageError("USAGE", "expected a reason in words, found none", where="reason", next_step="say why")
    with Ledger(ledger) as opened:
        name = find_run(opened, run)
    with to_write(ledger, name, wait=wait) as opened:
        receipt = running.abandon(opened.store, name, reason, ports or system())
        opened.catch_up().close()
        return receipt


def began(opened: Ledger, run: str) -> RunStarted:
    """What a run said at its start."""
    for _, event in reader.events(opened.store, run, until=1):
        if isinstance(event, RunStarted):
            return event
    raise LedgerUnavailable("LEDGER_FOREIGN", "expected a run that says how it began, found none", where=f"run {run}",
                            next_step="`counterfoil verify` says what does not hold")


def to_write(url: str, run: str, *, wait: bool) -> Ledger:
    """The ledger, to write. Raises `LedgerUnavailable`: RUN_HELD while another process writes this very run."""
    try:
        return Ledger(url, write=True, wait=wait)
    except LedgerUnavailable as error:
        holder = re.search(r"found process (\d+)", error.what)
        if error.code != "LEDGER_BUSY" or holder is None or not _is_held(url, run, holder[1]):
            raise
        raise LedgerUnavailable("RUN_HELD", f"expected a run that nobody writes, found process {holder[1]}",
                                where=f"run {run}", next_step="let it end, or stop it; or use --wait") from error


def _is_held(url: str, run: str, process: str) -> bool:
    """Whether the process that holds the ledger is the one that claimed this run last."""
    last = ""
    with Ledger(url) as opened:
        head = opened.store.head(run)
        if head is None or head.status != "running":
            return False
        for _, event in reader.events(opened.store, run):
            if isinstance(event, RunClaimed):
                last = event.process
    return last.rpartition(":")[2] == process

