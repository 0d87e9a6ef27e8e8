"""Several processes that project runs side by side into the parts of one shadow.

Why processes: projecting is work for a processor, and runs know nothing of each other. Each process opens the log and its
part for itself and is sent one run after the other, the longest first.

Invariants: a process ends with its parent, at the next batch at the latest; one that fails or dies fails the rebuild, by
name; what it had stored until then stays in its part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from ledger.errors import CounterfoilError, LedgerUnavailable
from ledger.store import Store, StreamHead
from projections.project import Target
from projections.projectors import Projector
from projections.read_tables import Shelf
from projections.rebuild import into
from projections.tally import Tally

Opening = Callable[[], tuple[Store, Shelf]]
"""Opens a log and its read tables in a process of their own; it has to be picklable."""

Work = Sequence[tuple[StreamHead, int]]


class Processes:
    """See `projections.rebuild.Helpers`: `count` of them at most."""

    def __init__(self, count: int, opening: Opening) -> None:
        self._count = count
        self._opening = opening

    def __call__(self, projector: Projector, work: Work, advance: Callable[[int], None]) -> None:
        """Project every run. Raises `LedgerUnavailable` when a process fails."""
        context = get_context("spawn")
        todo = sorted(work, key=lambda one: one[0].size)
        members = []
        try:
            for number in range(min(self._count, len(todo))):
                ours, theirs = context.Pipe()
                process = context.Process(target=_help, args=(self._opening, projector, number, theirs), daemon=True)
                process.start()
                theirs.close()
                members.append((process, ours))
            _share([ours for _, ours in members], todo, advance)
        finally:
            for _, ours in members:
                ours.close()  # the end of its work
            for process, _ in members:
                process.join()


def _share(connections: list[Connection], todo: list[tuple[StreamHead, int]], advance: Callable[[int], None]) -> None:
    """Hand out runs until there are none and everyone is done."""
    busy = connections[: len(todo)]
    for connection in busy:
        connection.send(todo.pop())
    while busy:
        ready = wait(busy)
        for connection in [one for one in busy if one in ready]:
            said = _heard(connection)
            if isinstance(said, int):
                advance(said)
            elif isinstance(said, tuple):
                raise LedgerUnavailable(said[0], said[1], where=said[2], next_step="try again; check the disk")
            elif todo:
                connection.send(todo.pop())
            else:
                busy.remove(connection)


def _heard(connection: Connection) -> object:
    with suppress(EOFError, OSError):
        return connection.recv()
    raise LedgerUnavailable("READ_TABLES_NOT_MADE", "expected every process of the rebuild to do its runs, found one dead",
                            where="rebuild", next_step="start it again: it goes on from what is done")


def _help(opening: Opening, projector: Projector, number: int, parent: Connection) -> None:
    """What one process does. It says how many events were projected, None when a run is done, a tuple when it failed."""
    with suppress(EOFError, OSError):  # the parent has gone, or wants no more
        try:
            store, shelf = opening()
            with shelf.part(number) as tables:
                while True:
                    head, key = parent.recv()
                    into(store, head, Target(tables, projector, Tally(), parent.send, key))
                    parent.send(None)
        except CounterfoilError as error:
            parent.send((error.code, error.what, error.where))
