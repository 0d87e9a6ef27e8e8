"""Project one run: its events, with the fold's state after each, become rows of read tables.

Why one function: catch-up, rebuild, comparison and *as of* all call it, so they cannot disagree (law P1).

Invariants: effect and place are stored in one transaction; an event that cannot be read, breaks a law, or that the projector
itself fails on stops its own run only: what stands before it is told, `unreadable_from_seq` and a row of `violations` say
where it stopped and why, and nothing after it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ledger import reader
from ledger.codec import TYPE_OF, Undecodable
from ledger.fold import State, apply
from ledger.laws import Finding, LawBroken
from ledger.store import Store, StreamHead
from ledger.tree import Frontier
from projections.output import Rows
from projections.projector import RunProjector
from projections.projectors import Projector
from projections.read_tables import ReadTables
from projections.tally import Tally

EVENTS_PER_BATCH = 10_000

FAILED = "projector"
"""What a violation names in place of a law where the projector is what failed."""


class Target(NamedTuple):
    """The tables that are filled, and how.

    `tally`: nobody reads them before they are whole, so what is open is stored at the end alone; it counts what they get.
    `advance` is told of every batch of events. `run` is the small number that a new run gets, None for the next.
    """

    tables: ReadTables
    projector: Projector
    tally: Tally | None = None
    advance: Callable[[int], None] = lambda events: None
    run: int | None = None


def project(store: Store, head: StreamHead, target: Target, *, after: int = 0, until: int | None = None,
            rooted: bool = True, root: bytes | None = None) -> State:
    """Project one run's events with `after < seq <= until`; the ones before are folded again, and make no rows.

    The run's own row gets the log's root at the end (with `rooted`), and none in the transactions on the way. Where one of
    the events before cannot be read any more, or they do not come to `root`, the log is not what was told: the run is told
    again from zero.
    """
    if target.tally is not None:
        target.tally.clear()
    work = _Projecting(store, head, target, after, root)
    last = head.size if until is None else min(until, head.size)
    finding = work.go(last)
    if finding is not None and finding.seq <= after:
        with target.tables.transaction():
            target.tables.forget(head.run)
        return project(store, head, target, until=until)
    if finding is not None and finding.law == FAILED:  # what it left of this event's rows is dropped with the rest of them
        if target.tally is not None:
            target.tally.clear()
        work = _Projecting(store, head, target, work.stored)
        work.go(finding.seq - 1)
    if finding is not None:
        work.projector.stopped(finding)
    elif rooted:
        work.projector.run[10] = _root(store, head, last)
    work.store(last=True)
    return work.state


class _Projecting:
    """One pass over a run. `stored` is the place of its last transaction."""

    def __init__(self, store: Store, head: StreamHead, target: Target, after: int, root: bytes | None = None) -> None:
        self.state = State(head.run)
        self.projector: RunProjector = target.projector.begin(head.run)
        self.stored = after
        self._store = store
        self._target = target
        self._after = after
        self._root = root if after else None

    def go(self, last: int) -> Finding | None:
        """Project until `last`; gives what stopped it before."""
        state, after, event_of = self.state, self._after, self.projector.event
        told = Frontier() if self._root is not None else None
        try:
            for stored, event in reader.events(self._store, state.run, until=last):
                if told is not None:
                    told.append(stored.body)
                    if stored.seq == after:
                        if told.root() != self._root:
                            return self._other(after)
                        told = None
                try:
                    apply(state, event)
                    event_of(state, event)
                except (LawBroken, MemoryError):
                    raise  # of which the second is nothing that the next one who reads this event would meet
                except Exception as error:
                    return self._failed(event.seq, TYPE_OF[type(event)], error)
                seq = event.seq
                if seq == after or seq % EVENTS_PER_BATCH == 0:
                    if seq > after:
                        self.store()
                    else:
                        self._skip(stored=seq == after)
        except LawBroken as broken:
            return broken.finding
        except Undecodable as unreadable:
            return Finding(law="L5", run=state.run, seq=unreadable.seq, token=None, expected="an event that decodes",
                           found=unreadable.found)
        if state.seq < last:
            return Finding(law="L1", run=state.run, seq=state.seq + 1, token=None, expected="an event", found="none")
        return None

    def _other(self, seq: int) -> Finding:
        return Finding(law="P1", run=self.state.run, seq=seq, token=None, expected="the log that was told",
                       found="another one")

    def _failed(self, seq: int, type_: str, error: Exception) -> Finding:
        projector = self._target.projector
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding(law=FAILED, run=self.state.run, seq=seq, token=None, found=text[:400],
                       expected=f"projector {projector.name} {projector.version} to project a {type_}")

    def _skip(self, *, stored: bool) -> None:
        """Drop the rows of events that were projected before. What was open at the place was stored with it, if read."""
        read = self._target.tally is None
        rows = self.projector.hand_over(self.state, open_too=stored and read)
        self._count(rows)

    def store(self, *, last: bool = False) -> None:
        """Store what there is since the last time, and the place, in one transaction."""
        target, state, projector = self._target, self.state, self.projector
        output = projector.records.output
        numbers = output.numbers()
        output.fill(self._store.payloads(state.run, numbers) if numbers else {})
        rows = projector.hand_over(state, open_too=last or target.tally is None)
        self._count(rows)
        tables = target.tables
        with tables.transaction():
            key = tables.begin_run(state.run, target.run)
            tables.put(key, rows)
            tables.put_run(key, projector.run)
            tables.put_place(key, target.projector.name, target.projector.fingerprint, state.seq)
        target.advance(state.seq - self.stored)
        self.stored = state.seq

    def _count(self, rows: Rows) -> None:
        if self._target.tally is not None:
            self._target.tally.add(rows.new)
            self._target.tally.add(rows.again)


def _root(store: Store, head: StreamHead, size: int) -> bytes:
    """The root of a run's log at `size`: the head's own, or made again from the bytes before."""
    if size == head.size:
        return head.root
    frontier = Frontier()
    for stored in store.read(head.run, until=size):
        frontier.append(stored.body)
    return frontier.root()
