"""Rebuild: the read tables again from zero, beside those that are read, and swapped in when they are whole.

The steps: a shadow without indexes is filled run by run, by several processes when there are several runs; runs that were
written meanwhile are caught up; what every run came to is compared with what the fold and the projector counted; indexes are
built; the shadow gets its name in one step. A rebuild that was killed is gone on with from its last transactions.

Invariants: nothing that is read is touched before the swap; tables that do not come to what was projected, or a run whose
log is not the one that was read, are never swapped in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ledger import ids
from ledger.errors import LedgerUnavailable
from ledger.fold import State
from ledger.store import Store, StreamHead
from projections.project import Target, project
from projections.projectors import Projector
from projections.read_tables import ReadTables, Shadow, Shelf, is_stuck, places
from projections.tally import SUMMED, Tally

ROUNDS_MAX = 3
"""How often runs that were written meanwhile are caught up before the swap; what comes later the next reader catches up."""


class Progress(NamedTuple):
    """How far a rebuild is: events projected by it, of those that it found to be done."""

    done: int
    total: int


Helpers = Callable[[Projector, Sequence[tuple[StreamHead, int]], Callable[[int], None]], None]
"""Projects runs, each under its small number, into parts of the shadow, in other processes; tells of each batch."""


class Rebuild(NamedTuple):
    """How to rebuild: by which projector, telling whom, and by which other processes, if there are several runs."""

    projector: Projector
    progress: Callable[[Progress], None] = lambda progress: None
    helpers: Helpers | None = None


def rebuild(store: Store, shelf: Shelf, how: Rebuild, run: str | None = None) -> str:
    """Make the read tables again from zero (of one run: beside the others as they are) and swap them in whole.

    Gives the name of the new generation. Raises `LedgerUnavailable` (READ_TABLES_NOT_MADE).
    """
    with shelf.locked():
        return fill(store, shelf, how, run)


def fill(store: Store, shelf: Shelf, how: Rebuild, run: str | None = None) -> str:
    """The same for one who holds the shelf's lock."""
    base = shelf.generation() if run is not None else None
    if base is not None and not _can_be_kept(shelf, base, how.projector):
        base = None
    only = run if base is not None else None
    purpose = f"{how.projector.fingerprint} {f'run {only} beside {base}' if only is not None else 'all'}"
    with shelf.shadow(purpose, base) as shadow:
        _fill(store, shadow, how, only)
        shadow.finish()
        return shadow.swap_in()


def _can_be_kept(shelf: Shelf, name: str, projector: Projector) -> bool:
    """Whether the other runs of a generation may stand beside one that is made again."""
    if not shelf.is_of_this_schema(name):
        return False
    with shelf.open(name) as tables:
        return all(fingerprint == projector.fingerprint for fingerprint, _ in places(tables).values())


def _fill(store: Store, shadow: Shadow, how: Rebuild, only: str | None) -> None:
    tables = shadow.tables()
    if only is not None and shadow.is_new:
        with tables.transaction():
            tables.forget(only)
    shadow.gather()  # what the processes of a rebuild that was killed had done
    counted = _Counted(how.progress)
    for turn in range(ROUNDS_MAX):
        known, heads = places(tables), _runs(store)
        todo = [(head, number) for number, head in enumerate(heads, 1)
                if only in (None, head.run) and not _is_done(tables, head)]
        counted.expect(sum(head.size - known.get(head.run, ("", 0))[1] for head, _ in todo))
        new = [one for one in todo if one[0].run not in known] if only is None and turn == 0 else []
        apart = new if how.helpers is not None and len(new) > 1 else []
        if how.helpers is not None and apart:
            how.helpers(how.projector, apart, counted.advance)
            shadow.gather()
        for head, number in todo:
            if (head, number) not in apart:
                into(store, head, Target(tables, how.projector, Tally(), counted.advance, None if only else number))


def into(store: Store, head: StreamHead, target: Target) -> None:
    """Project a run from where its tables stand, in tables that nobody reads yet, and hold what they come to against it.

    A run that was told to its end, and went on, is caught up: what was open then is stored, so it is written over.
    """
    tables = target.tables
    place = places(tables).get(head.run, ("", 0))[1]
    ended = tables.select("SELECT 1 FROM p_runs WHERE run_id = ? AND root IS NOT NULL", (head.run,))
    if place and ended:
        target = target._replace(tally=None)
    state = project(store, head, target, after=place)
    check(tables, head, state, target.tally)


def check(tables: ReadTables, head: StreamHead, state: State, tally: Tally | None) -> None:
    """Counts, sums, outcomes and the log's root: what one run's tables hold is what was made of it, of this very log.

    Raises `LedgerUnavailable` (READ_TABLES_NOT_MADE).
    """
    (key, root, stuck), = tables.select("SELECT run, root, unreadable_from_seq FROM p_runs WHERE run_id = ?", (head.run,))
    fault = tally.differs(_summed(tables, key)) if tally is not None else None
    outcomes = dict(tables.select("SELECT outcome, count(*) FROM p_tokens WHERE run = ? AND outcome IS NOT NULL "
                                  "GROUP BY outcome", (key,)))
    if fault is None and outcomes != {name: count for name, count in state.outcomes.items() if count}:
        fault = f"outcomes {dict(sorted(state.outcomes.items()))}, found {dict(sorted(outcomes.items()))}"
    if fault is None and stuck is None and state.seq == head.size and root != head.root:
        fault = f"root {head.root.hex()}, found {bytes(root or b'').hex()}"
    if fault is not None:
        raise LedgerUnavailable("READ_TABLES_NOT_MADE", f"expected {fault}", where=f"run {head.run} in {tables.where}",
                                next_step="try again; check the disk")


def _summed(tables: ReadTables, key: int) -> dict[str, tuple[int, int]]:
    """Table to its rows of one run, and to what its cited positions add up to."""
    found = {}
    for table, column in SUMMED.items():
        total = f"CAST(coalesce(sum({column}), 0) AS BIGINT)" if column is not None else "0"
        count, added = tables.select(f"SELECT count(*), {total} FROM {table} WHERE run = ?", (key,))[0]
        found[table] = (int(count), int(added))
    return found


class _Counted:
    """Adds up what was projected."""

    def __init__(self, progress: Callable[[Progress], None]) -> None:
        self._progress = progress
        self._done = 0
        self._total = 0

    def expect(self, events: int) -> None:
        self._total = self._done + events
        self._progress(Progress(self._done, self._total))

    def advance(self, events: int) -> None:
        self._done += events
        self._progress(Progress(self._done, max(self._done, self._total)))


def _is_done(tables: ReadTables, head: StreamHead) -> bool:
    ended = tables.select("SELECT 1 FROM p_runs WHERE run_id = ? AND root IS NOT NULL", (head.run,))
    at_end = places(tables).get(head.run, ("", 0))[1] == head.size
    return is_stuck(tables, head.run) or bool(at_end and ended)


def _runs(store: Store) -> list[StreamHead]:
    return [head for head in store.heads() if head.run != ids.LEDGER_STREAM]
