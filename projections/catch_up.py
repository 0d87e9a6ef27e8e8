"""Catch the read tables up with the log, and say where they disagree with it.

Invariants: whoever writes read tables holds the shelf's lock, and nobody waits for a rebuild who can read meanwhile; tables
that are stale (made by another projector or over another schema), or ahead of the log, are said to be so and made again
whole. Where nothing may be written they are read as they are, if they were made by this projector; that they are behind is
said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ledger import ids
from ledger.errors import LedgerUnavailable
from ledger.store import Store, StreamHead
from projections.project import Target, project
from projections.projectors import Projector, run_projector
from projections.read_tables import UNREADABLE, Place, ReadTables, Shelf, orphans, places, told_runs, unplaced
from projections.rebuild import Rebuild, fill
from projections.views import TOLD

DIFFERENCES_MAX = 20
DONE = ("current", "incomplete")
"""The states of tables that there is nothing to do about."""

SWAPS_MAX = 10
"""How many generations may be swapped in while one reader looks for the newest."""

NOT_TOLD = Place(0, "", 0, None, None)
NOT_TO_WRITE = frozenset({"LEDGER_READ_ONLY", "LEDGER_DENIED"})

Tell = Callable[[str], None]
"""Takes a line that says what is the matter with the read tables."""


class Standing(NamedTuple):
    """How read tables stand to the log: `state` is none, current, behind, stale, ahead or incomplete; and why."""

    state: str
    why: str


class Difference(NamedTuple):
    """A row that only the tables (`here`) or only a fresh projection of the log (`there`) has."""

    table: str
    side: str
    row: dict[str, Any]


def caught_up(store: Store, shelf: Shelf, tell: Tell = lambda line: None, how: Rebuild | None = None) -> ReadTables:
    """The read tables at the end of every run, open to read; others, where these were dropped for them meanwhile."""
    for _ in range(SWAPS_MAX):
        name = catch_up(store, shelf, tell, how)
        try:
            return shelf.open(name)
        except LedgerUnavailable as error:
            if error.code != UNREADABLE or shelf.generation() == name:
                raise
    return shelf.open(catch_up(store, shelf, tell, how))


def catch_up(store: Store, shelf: Shelf, tell: Tell = lambda line: None, how: Rebuild | None = None) -> str:
    """Bring the read tables to the end of every run; gives the name of the generation to read.

    Where there is nothing to do, nobody is waited for.
    """
    how = how or Rebuild(run_projector())
    try:
        name = _current(store, shelf, how.projector)
        if name is not None:
            return name
        with shelf.locked():
            name = _carried_on(store, shelf, how.projector)
        if name is None:
            with shelf.rebuilding():
                with shelf.locked():  # another may have made them meanwhile
                    name = _carried_on(store, shelf, how.projector, tell)
                name = name or fill(store, shelf, how)
        return name
    except LedgerUnavailable as error:
        name = shelf.generation() if error.code in NOT_TO_WRITE else None
        if name is None:
            raise
        found = standing(store, shelf, how.projector, name)
        if found.state not in (*DONE, "behind"):
            raise
        if found.state == "behind":
            tell(f"READ_TABLES_BEHIND: {found.why}; they cannot be written from here ({error.code})")
        return name


def _current(store: Store, shelf: Shelf, projector: Projector) -> str | None:
    """The generation, if there is nothing to do about it; looked at without a lock, so it may be dropped meanwhile."""
    name = shelf.generation()
    try:
        return name if standing(store, shelf, projector, name).state in DONE else None
    except LedgerUnavailable as error:
        if error.code != UNREADABLE:
            raise
        return None


def _carried_on(store: Store, shelf: Shelf, projector: Projector, tell: Tell = lambda line: None) -> str | None:
    """The generation, caught up; None if there is none, or none that can be caught up."""
    name = shelf.generation()
    if name is None:
        return None
    found = standing(store, shelf, projector, name)
    if found.state in ("stale", "ahead"):
        tell(f"READ_TABLES_{found.state.upper()}: {found.why}; they are made again")
        return None
    if found.state in DONE:
        return name
    with shelf.open(name, write=True) as tables:
        known = places(tables)
        if not known:
            return None  # nobody can say who made tables that tell of nothing
        for head in runs(store):
            place = known.get(head.run, NOT_TOLD)
            if not place.is_all(head):
                try:
                    project(store, head, Target(tables, projector), after=place.seq, root=place.root)
                except LedgerUnavailable as error:
                    if error.code != UNREADABLE:
                        raise
                    tell(f"READ_TABLES_STALE: nothing can be added to run {head.run} ({error.what}); they are made again")
                    return None
    return name


def standing(store: Store, shelf: Shelf, projector: Projector, name: str | None) -> Standing:
    """How a generation stands to the log."""
    if name is None:
        return Standing("none", "no read tables yet")
    if not shelf.is_of_this_schema(name):
        return Standing("stale", "they are of another schema")
    with shelf.open(name) as tables:
        known, wrong = places(tables), unplaced(tables)
    heads = {head.run: head for head in runs(store)}  # looked at last: what is told is in the log
    other = sorted({place.fingerprint for place in known.values()} - {projector.fingerprint})
    if other:
        return Standing("stale", f"they were made by projector {other[0]}, this one is {projector.fingerprint}")
    if wrong:
        return Standing("stale", f"{wrong[0][0]} has a run {wrong[0][1]} that other tables do not have")
    for run, place in sorted(known.items()):
        head = heads.get(run)
        if head is None or max(place.seq, place.stuck or 0) > head.size:
            return Standing("ahead", f"they tell of event {place.seq} of run {run}, which the log does not have")
        if not place.is_of(head):
            return Standing("ahead", f"they tell of run {run} to event {place.seq} by another log than this one")
    for head in heads.values():
        place = known.get(head.run, NOT_TOLD)
        if not place.is_all(head):
            return Standing("behind", f"run {head.run} is told to event {place.seq} of {head.size}")
    stuck = sorted(run for run, place in known.items() if place.stuck is not None)
    if stuck:
        return Standing("incomplete", f"run {stuck[0]} cannot be told to its end; `counterfoil show {stuck[0]}` says why")
    return Standing("current", "told to the end of every run")


def differences(store: Store, shelf: Shelf, run: str | None = None, projector: Projector | None = None) -> list[Difference]:
    """What the tables say and the log does not, and the other way round, of one run or all; the tables stay as they are.

    They are compared where they stand: what the log has since is no difference. Up to `DIFFERENCES_MAX` a side of each table
    of each run, so that no run's differences hide another's.
    """
    projector = projector or run_projector()
    with shelf.locked():
        name = shelf.generation()
        if name is None:
            return []
        every = runs(store)
        heads = [head for head in every if run in (None, head.run)]
        with shelf.open(name) as tables:
            known = places(tables)
            told = {run} if run is not None else {head.run for head in heads} | told_runs(tables)
            untold = [head.run for head in every if head.run not in known]
            misplaced = [*_misplaced(known, heads, run), *_unnamed(tables, untold, run)]
        with shelf.scratch() as fresh:
            for head in heads:
                place = known.get(head.run)
                if place is not None:
                    project(store, head, Target(fresh, projector), until=None if place.stuck is not None else place.seq,
                            rooted=place.root is not None or place.seq == head.size)
            found = [Difference(*one) for one_run in sorted(told)
                     for one in shelf.differences(name, fresh, TOLD, one_run, DIFFERENCES_MAX)]
        return found + misplaced


def _misplaced(known: Mapping[str, Place], heads: Sequence[StreamHead], run: str | None) -> list[Difference]:
    """Places past the end of their run, or of a run that the log does not have."""
    sizes = {head.run: head.size for head in heads}
    return [Difference("projection_places", "here", {"run_id": stream, "stream": stream, "seq": place.seq})
            for stream, place in known.items()
            if place.seq > sizes.get(stream, -1) and (run is None or stream == run)]


def _unnamed(tables: ReadTables, untold: Sequence[str], run: str | None) -> list[Difference]:
    """Rows of no run, as the `runs` row of one of those was that the tables do not tell; and runs without a place."""
    if run is not None and run not in untold:
        return []
    found = [*orphans(tables), *(one for one in unplaced(tables) if one[0] == "p_runs")]
    return [Difference(table, "here", {"run_id": run or (untold[0] if untold else None), "run": number,
                                       "found": "rows of a run that runs and projection_places do not both name"})
            for table, number in found]


def runs(store: Store) -> list[StreamHead]:
    """Every run of a log."""
    return [head for head in store.heads() if head.run != ids.LEDGER_STREAM]
