"""Several processes that project runs side by side into the parts of one shadow.

Why processes: projecting is work for a processor, and runs know nothing of each other. Each process opens the log and its
part for itself and is sent one run after the other, the longest first.

Invariants: a process ends with its parent, at the next batch at the latest, and does nothing when it finds it gone; it has
its part to itself before it is given a run; a Ctrl-C is the parent's to hear; one that fails or dies fails the rebuild, by
name, and what it had stored until then stays in its part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask

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
        """Project every run. Raises `LedgerUnavailable`: what a process said, or (REBUILD_STOPPED) that one died."""
        todo = sorted(work, key=lambda one: one[0].size)
        members: list[tuple[SpawnProcess, Connection]] = []
        try:
            for number in range(min(self._count, len(todo))):
                members.append(_started(self._opening, projector, number))
            _share([ours for _, ours in members], todo, advance)
        finally:
            for _, ours in members:
                ours.close()  # the end of its work
            for process, _ in members:
                process.join()
                process.close()


def _started(opening: Opening, projector: Projector, number: int) -> tuple[SpawnProcess, Connection]:
    """A process with our end of its pipe. It hears no Ctrl-C from its first instruction on."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    heard = pthread_sigmask(SIG_BLOCK, {SIGINT})
    try:
        process = context.Process(target=_help, args=(opening, projector, number, theirs), daemon=True)
        process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        pthread_sigmask(SIG_SETMASK, heard)
    return process, ours


def _share(connections: list[Connection], todo: list[tuple[StreamHead, int]], advance: Callable[[int], None]) -> None:
    """Give each that is ready the longest run there is, until there are none and everyone is done."""
    busy = list(connections)
    while busy:
        ready = wait(busy)
        for connection in [one for one in busy if one in ready]:
            said = _heard(connection)
            if isinstance(said, int):
                advance(said)
            elif isinstance(said, tuple):
                raise LedgerUnavailable(said[0], said[1], where=said[2], next_step=said[3])
            elif todo:
                _give(connection, todo.pop())
            else:
                busy.remove(connection)


def _heard(connection: Connection) -> object:
    try:
        return connection.recv()
    except (EOFError, OSError) as error:
        raise _died() from error


def _give(connection: Connection, one: tuple[StreamHead, int]) -> None:
    try:
        connection.send(one)
    except OSError as error:
        raise _died() from error


def _died() -> LedgerUnavailable:
    return LedgerUnavailable("REBUILD_STOPPED", "expected every process of the rebuild to do its runs, found one dead",
                             where="rebuild", next_step="start it again: it goes on from what is done")


def _help(opening: Opening, projector: Projector, number: int, parent: Connection) -> None:
    """What one process does. It says how many events were projected, None when it can take a run, a tuple when it failed.

    That it can is said only once its part is its own: a parent that was killed before is noticed by saying it, and whoever
    rebuilds then waits for those whose part it is.
    """
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has gone, or wants no more
        try:
            store, shelf = opening()
            parent.send(0)
            with closing(store), shelf.part(number) as tables:
                while True:
                    parent.send(None)
                    head, key = parent.recv()
                    into(store, head, Target(tables, projector, Tally(), parent.send, key))
        except CounterfoilError as error:
            parent.send((error.code, error.what, error.where, error.next_step))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            parent.send(("READ_TABLES_NOT_MADE", f"expected a process to project its runs, found {text[:400]}", "rebuild",
                         "run it again with --processes 1, which shows where"))
