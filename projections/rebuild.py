"""Rebuild: the read tables again from zero, beside those that are read, and swapped in when they are whole.

The steps: a shadow without indexes is filled run by run, by several processes when there are several runs; what every run
came to is compared with what the fold and the projector counted; indexes are built; runs that were written meanwhile are
caught up, the last time while nobody else may write read tables; the shadow gets its name in one step. A rebuild that was
killed is gone on with from its last transactions.

Why caught up after the indexes: what was open is written over then, and it is found by its key.

Invariants: nothing that is read is touched before the swap, and whoever reads it meanwhile may catch it up; tables that do
not come to what was projected are never swapped in; a run whose log is not the one that was read is begun again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ledger import ids
from ledger.errors import LedgerUnavailable
from ledger.fold import State
from ledger.store import Store, StreamHead
from projections.project import Target, project
from projections.projectors import Projector
from projections.read_tables import UNREADABLE, Place, ReadTables, Shadow, Shelf, places, unplaced
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
    with shelf.rebuilding():
        return fill(store, shelf, how, run)


def fill(store: Store, shelf: Shelf, how: Rebuild, run: str | None = None) -> str:
    """The same for one who is `rebuilding` already."""
    base = shelf.generation() if run is not None else None
    if base is not None and not _can_be_kept(shelf, base, how.projector):
        base = None
    only = run if base is not None else None
    beside = (base or "").rpartition("/")[2]  # however the way to the ledger was written
    purpose = f"{how.projector.fingerprint} {f'run {only} beside {beside}' if only is not None else 'all'}"
    with shelf.shadow(purpose, base, only) as shadow:
        filling = _Filling(store, shadow, how)
        filling.fill(only)
        shadow.finish()
        for _ in range(ROUNDS_MAX):
            if not filling.catch_up():
                break
        with shelf.locked():
            filling.catch_up()
            return shadow.swap_in()


def _can_be_kept(shelf: Shelf, name: str, projector: Projector) -> bool:
    """Whether the other runs of a generation may stand beside one that is made again."""
    if not shelf.is_of_this_schema(name):
        return False
    try:
        with shelf.open(name) as tables:
            made_by = {place.fingerprint for place in places(tables).values()}
            return not unplaced(tables) and made_by <= {projector.fingerprint}
    except LedgerUnavailable as error:
        if error.code != UNREADABLE:
            raise
        return False


class _Filling:
    """Brings a shadow to the end of the log."""

    def __init__(self, store: Store, shadow: Shadow, how: Rebuild) -> None:
        self._store = store
        self._shadow = shadow
        self._how = how
        self._counted = _Counted(how.progress)

    def fill(self, only: str | None) -> None:
        """Every run (or one) that was never told to an end, before there are indexes; each is counted."""
        shadow, how = self._shadow, self._how
        if shadow.is_finished:
            return
        shadow.gather()  # what the processes of a rebuild that was killed had done
        told, work = self._work(only)
        work = [(head, key) for head, key in work if head.run not in told or told[head.run].root is None]
        self._expect(work, told)
        new = [one for one in work if one[0].run not in told] if how.helpers is not None else []
        apart = {head.run for head, _ in new} if len(new) > 1 else set()
        if how.helpers is not None and apart:
            how.helpers(how.projector, new, self._counted.advance)
            shadow.gather()
        for head, key in work:
            if head.run not in apart:
                into(self._store, head, Target(shadow.tables(), how.projector, Tally(), self._counted.advance, key))

    def catch_up(self) -> bool:
        """Whatever the log has since, of every run, where there are indexes; gives whether there was anything."""
        told, work = self._work(None)
        self._expect(work, told)
        for head, key in work:
            into(self._store, head, Target(self._shadow.tables(), self._how.projector, None, self._counted.advance, key))
        return bool(work)

    def _work(self, only: str | None) -> tuple[Mapping[str, Place], list[tuple[StreamHead, int]]]:
        """What the shadow tells, and what there is to do: each run with its small number, which is its place in the log.

        A run that the log does not have so (any more) is forgotten.
        """
        tables, heads = self._shadow.tables(), _runs(self._store)
        told = places(tables)
        by_run = {head.run: head for head in heads}
        wrong = [run for run, one in told.items()
                 if only in (None, run) and (run not in by_run or not one.is_of(by_run[run]))]
        for run in wrong:
            with tables.transaction():
                tables.forget(run)
            del told[run]
        work, taken = [], {one.run for one in told.values()}
        for number, head in enumerate(heads, 1):
            known = told.get(head.run)
            key = known.run if known is not None else number if number not in taken else max(taken) + 1
            taken.add(key)
            if only in (None, head.run) and (known is None or not known.is_all(head)):
                work.append((head, key))
        return told, work

    def _expect(self, work: Sequence[tuple[StreamHead, int]], told: Mapping[str, Place]) -> None:
        self._counted.expect(sum(head.size - (told[head.run].seq if head.run in told else 0) for head, _ in work))


def into(store: Store, head: StreamHead, target: Target) -> None:
    """Project a run from where its tables stand, in tables that nobody reads yet, and hold what they come to against it."""
    found = target.tables.select("SELECT p.seq, r.root FROM p_runs r JOIN p_places p ON p.run = r.run WHERE r.run_id = ?",
                                 (head.run,))
    seq, root = found[0] if found else (0, None)
    state = project(store, head, target, after=seq, root=root)
    check(target.tables, head, state, target.tally)


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


def _runs(store: Store) -> list[StreamHead]:
    return [head for head in store.heads() if head.run != ids.LEDGER_STREAM]
