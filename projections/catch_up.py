"""Catch the read tables up with the log, or make them again from zero: one definition serves both.

Invariants: whoever writes read tables holds the lock `<ledger>.read.lock`; a stale projector (its fingerprint differs), or
tables that are ahead of the log, are made again whole; an event that cannot be read or breaks a law stops its own run
only, with `unreadable_from_seq` set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ledger import ids, reader
from ledger.codec import Undecodable
from ledger.errors import LedgerUnavailable
from ledger.events import Event
from ledger.file_lock import FileLock
from ledger.fold import State, apply
from ledger.laws import Finding, LawBroken
from ledger.store import Store, StreamHead
from ledger.tree import Frontier
from projections.output import Output
from projections.projector import FINGERPRINT, NAME, RunProjector
from projections.read_tables import ReadTables, generation, remove, swap_in
from projections.views import TOLD, VIEWS

EVENTS_PER_BATCH = 10_000
DIFFERENCES_MAX = 20
READ_ONLY = "LEDGER_READ_ONLY"

MakeTables = Callable[[Path], None]
"""Makes an empty file with the read tables in it: the migrations' part, which the doors hand in."""


class _Stop(NamedTuple):
    """How far tables tell a run: to `seq` (None: to where it cannot be read), with the root there or on the way to more."""

    seq: int | None
    rooted: bool


class Difference(NamedTuple):
    """A row that only the tables (`here`) or only a fresh projection of the log (`there`) has."""

    table: str
    side: str
    row: dict[str, Any]


def catch_up(store: Store, ledger: Path, make: MakeTables) -> Path:
    """Bring the read tables to the end of every run; gives the generation to read.

    Where nothing can be written, tables that are at the end already are read as they are.
    """
    try:
        return _caught_up(store, ledger, make)
    except LedgerUnavailable as error:
        path = generation(ledger)
        if error.code == READ_ONLY and path is not None and _is_current(path, store):
            return path
        raise


def _caught_up(store: Store, ledger: Path, make: MakeTables) -> Path:
    with _locked(ledger):
        path = generation(ledger)
        if path is not None and not _is_stale(path, store):
            with ReadTables(path, write=True) as tables:
                places = tables.places()
                for head in _runs(store):
                    place = places.get(head.run, ("", 0))[1]
                    if place < head.size and not _is_stuck(tables, head.run):
                        project(store, head, tables, after=place)
            return path
        return _fill(store, ledger, make, None)


def rebuild(store: Store, ledger: Path, make: MakeTables, run: str | None = None) -> Path:
    """Make the read tables again from zero (of one run: beside the others as they are) and swap them in whole."""
    with _locked(ledger):
        return _fill(store, ledger, make, run)


def differences(store: Store, ledger: Path, make: MakeTables, run: str | None = None) -> list[Difference]:
    """What the tables say and the log does not, and the other way round, of one run or all; the tables stay as they are.

    Up to `DIFFERENCES_MAX` a side of each table of each run, so that no run's differences hide another's.
    """
    with _locked(ledger):
        path = generation(ledger)
        if path is None:
            return []
        fresh = _temporary(ledger)
        heads = [head for head in _runs(store) if run is None or head.run == run]
        try:
            _project_all(store, fresh, make, heads, _stops(path))
            with ReadTables(path, write=False) as tables:
                told = {run} if run is not None else {head.run for head in heads} | tables.runs()
                found = [Difference(*one) for name in sorted(told)
                         for one in tables.differences(fresh, TOLD, name, DIFFERENCES_MAX)]
                return found + _misplaced(tables, heads, run)
        finally:
            remove(fresh)


def _misplaced(tables: ReadTables, heads: Sequence[StreamHead], run: str | None) -> list[Difference]:
    """Places past the end of their run, or of a run that the log does not have."""
    sizes = {head.run: head.size for head in heads}
    return [Difference("projection_places", "here", {"run_id": stream, "stream": stream, "seq": seq})
            for stream, (_, seq) in tables.places().items()
            if seq > sizes.get(stream, -1) and (run is None or stream == run)]


def project(store: Store, head: StreamHead, tables: ReadTables, *, after: int = 0, until: int | None = None,
            rooted: bool = True) -> None:
    """Project one run's events with `after < seq <= until`; the ones before are folded again, and make no rows.

    The run's own row gets the log's root at the end (with `rooted`), and none in the transactions on the way. Where one of
    the events before cannot be read any more, the log is not what was told: the run is told again from zero.
    """
    projector, state = RunProjector(head.run), State(head.run)
    finding = None
    last = head.size if until is None else min(until, head.size)
    try:
        for event in _events(store, head.run, last):
            apply(state, event)
            projector.event(state, event)
            if event.seq == after or (event.seq < after and event.seq % EVENTS_PER_BATCH == 0):
                projector.records.output = Output()
            elif event.seq % EVENTS_PER_BATCH == 0:
                _store(store, tables, projector, state)
    except LawBroken as broken:
        finding = broken.finding
    except Undecodable as unreadable:
        finding = Finding(law="L5", run=head.run, seq=unreadable.seq, token=None, expected="an event that decodes",
                          found=unreadable.found)
    if finding is not None and state.seq < after:
        with tables.transaction():
            tables.forget(head.run)
        project(store, head, tables, until=until)
        return
    if finding is not None:
        projector.stopped(finding)
    elif rooted:
        projector.run[10] = _root(store, head, last)
    _store(store, tables, projector, state)


def _events(store: Store, run: str, last: int) -> Iterator[Event]:
    return (event for _, event in reader.events(store, run, until=last))


def _root(store: Store, head: StreamHead, size: int) -> bytes:
    """The root of a run's log at `size`: the head's own, or made again from the bytes before."""
    if size == head.size:
        return head.root
    frontier = Frontier()
    for stored in store.read(head.run, until=size):
        frontier.append(stored.body)
    return frontier.root()


def _store(store: Store, tables: ReadTables, projector: RunProjector, state: State) -> None:
    output = projector.records.output
    numbers = output.numbers()
    output.fill(store.payloads(state.run, numbers) if numbers else {})
    rows = projector.hand_over(state)
    with tables.transaction():
        key = tables.key_of(state.run)
        tables.put(key, rows)
        tables.put_run(key, projector.run)
        tables.put_place(key, NAME, FINGERPRINT, state.seq)


def _fill(store: Store, ledger: Path, make: MakeTables, run: str | None) -> Path:
    fresh = _temporary(ledger)
    heads = _runs(store)
    try:
        current = generation(ledger) if run is not None else None
        if current is not None and run is not None and not _is_stale(current, store):
            with ReadTables(current, write=False) as tables:
                tables.copy_to(fresh)
            with ReadTables(fresh, write=True) as tables, tables.transaction():
                tables.forget(run)
            heads = [head for head in heads if head.run == run]
            _project_all(store, fresh, None, heads)
        else:
            _project_all(store, fresh, make, heads)
        _check_whole(fresh, heads)
        return swap_in(fresh, ledger)
    finally:
        remove(fresh)


def _check_whole(path: Path, heads: Sequence[StreamHead]) -> None:
    """A generation is swapped in only when its pages hold and it has read its runs as far as they went and can be read.

    A writer may have gone on meanwhile: what it adds is caught up later.
    """
    with ReadTables(path, write=False) as tables:
        fault = tables.damage()
        places = tables.places()
        behind = [head.run for head in heads
                  if places.get(head.run, ("", 0))[1] < head.size and not _is_stuck(tables, head.run)]
    if fault or behind:
        raise LedgerUnavailable("READ_TABLES_NOT_MADE", f"expected whole read tables, found {fault or behind[0]}",
                                where=str(path), next_step="try again; check the disk")


def _project_all(store: Store, path: Path, make: MakeTables | None, heads: Sequence[StreamHead],
                 stops: Mapping[str, _Stop] | None = None) -> None:
    if make is not None:
        make(path)
    with ReadTables(path, write=True) as tables:
        tables.hurry()
        for head in heads:
            stop = _Stop(None, True) if stops is None else stops.get(head.run)
            if stop is not None:
                project(store, head, tables, until=stop.seq, rooted=stop.rooted or stop.seq == head.size)
        tables.settle()


def _runs(store: Store) -> list[StreamHead]:
    return [head for head in store.heads() if head.run != ids.LEDGER_STREAM]


def _stops(path: Path) -> dict[str, _Stop]:
    with ReadTables(path, write=False) as tables:
        rooted = {run for (run,) in tables.select("SELECT run_id FROM p_runs WHERE root IS NOT NULL")}
        return {run: _Stop(None if _is_stuck(tables, run) else seq, run in rooted)
                for run, (_, seq) in tables.places().items()}


def _is_current(path: Path, store: Store) -> bool:
    """Whether the tables stand at the end of every run, made by this projector."""
    if _is_stale(path, store):
        return False
    with ReadTables(path, write=False) as tables:
        places = tables.places()
        return all(places.get(head.run, ("", 0))[1] == head.size or _is_stuck(tables, head.run) for head in _runs(store))


def _is_stale(path: Path, store: Store) -> bool:
    """Made by another projector, or ahead of the log (which was rolled back): not to be carried on."""
    sizes = {head.run: head.size for head in _runs(store)}
    with ReadTables(path, write=False) as tables:
        if not tables.has_views(tuple(VIEWS)):
            return True
        return any(fingerprint != FINGERPRINT or seq > sizes.get(run, -1)
                   for run, (fingerprint, seq) in tables.places().items())


def _is_stuck(tables: ReadTables, run: str) -> bool:
    found = tables.select("SELECT unreadable_from_seq FROM p_runs WHERE run_id = ?", (run,))
    return bool(found and found[0][0] is not None)


def _temporary(ledger: Path) -> Path:
    """The name under which tables are filled: one, for the lock's holder; a killed rebuild's is removed by the next."""
    path = ledger.with_name(f"{ledger.name}.read.new")
    remove(path)
    return path


@contextmanager
def _locked(ledger: Path) -> Iterator[None]:
    lock = FileLock(ledger.with_name(f"{ledger.name}.read.lock"), wait=True)
    try:
        yield
    finally:
        lock.release()

