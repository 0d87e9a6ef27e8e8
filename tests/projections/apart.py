"""Real ledgers on either database, for rebuilds by several processes; and projectors that a process can be made to end in.

Why here: what a process is sent has to be found again by its name in a module.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from counterfoil.ledgers import keeping_of, opened_apart
from ledger import events as e
from ledger.errors import LedgerUnavailable
from ledger.fold import State
from ledger.store import Store
from projections.processes import Processes
from projections.projector import RunProjector
from projections.projectors import Projector, run_projector
from projections.read_tables import Shelf
from tests.kit.log import Log
from tests.ledger.files import new_file, postgres_store


def real(folder: Path, database_url: str | None, logs: Sequence[Log]) -> str:
    """The URL of a ledger that holds these runs, and has no read tables."""
    url = database_url or f"sqlite:///{new_file(folder)}"
    store = postgres_store(url) if database_url is not None else keeping_of(url).store(write=True, wait=False)
    for log in logs:
        log.store(store)
    store.close()
    return url


def opened(url: str) -> tuple[Store, Shelf]:
    """The log, to read, and the shelf."""
    keeping = keeping_of(url)
    return keeping.store(write=False, wait=False), keeping.shelf()


def processes(url: str, count: int) -> Processes:
    """So many, as the doors start them."""
    return Processes(count, partial(opened_apart, url))


class Ending(RunProjector):
    """Ends at the first row that is read, in the way `how`: only in a process of its own, or it would end the test."""

    def __init__(self, run: str, how: str, of: str, parent: int) -> None:
        super().__init__(run)
        self._how = how if run == of and os.getpid() != parent else ""

    def event(self, state: State, event: e.Event) -> None:
        """As it should be, until the row."""
        super().event(state, event)
        if isinstance(event, e.RowRead) and self._how:
            self._end()

    def _end(self) -> NoReturn:
        if self._how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._how == "exits":
            os._exit(7)
        if self._how == "leaves":
            raise SystemExit(3)
        raise MemoryError("no more of it")


def ending(how: str, of: str) -> Projector:
    """The run projector that ends a process which helps, in the run `of`."""
    begin = partial(Ending, how=how, of=of, parent=os.getpid())
    return run_projector()._replace(begin=begin, fingerprint=f"ends {how} in {of}")


def broken_opening() -> tuple[Store, Shelf]:
    """A log that cannot be opened from where a process stands."""
    raise LedgerUnavailable("LEDGER_MISSING", "expected a ledger, found none", where="there", next_step="look again")
