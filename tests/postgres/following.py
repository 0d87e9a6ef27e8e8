"""Many writers in several processes, and one who follows all that they write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from typing import NamedTuple

from ledger import ids, registry
from ledger.codec import decode, encode
from ledger.events import LedgerCreated, RunClosed, RunOpened
from ledger.follower import Follower
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from ledger.store import Stored
from tests.postgres import writers


class Tally(NamedTuple):
    """How many runs and events were followed, in how many pieces of one stream at a time, and what was wrong."""

    runs: int
    events: int
    pieces: int
    faults: list[str]


class Witness:
    """Holds what it is shown against what was written."""

    def __init__(self, seed: int) -> None:
        self.sizes: Counter[str] = Counter()
        self.said: list[object] = []
        self.faults: list[str] = []
        self.pieces = 0
        self._last = ""
        self._seed = seed

    def see(self, run: str, stored: Stored) -> None:
        """The next event of a stream."""
        self.sizes[run] += 1
        self.pieces += run != self._last
        self._last = run
        if stored.seq != self.sizes[run]:
            self.faults.append(f"{run}: expected seq {self.sizes[run]}, found {stored.seq}")
        if run == ids.LEDGER_STREAM:
            self.said.append(decode(stored.body, stored.type, stored.v, run=run, seq=stored.seq))
        elif stored.body != encode(writers.event_at(run, stored.seq, self._seed)):
            self.faults.append(f"{run}: other bytes at {stored.seq}")

    def entries(self) -> list[str]:
        """What is wrong with the ledger's own stream: of each run it opens one and closes one, at its size."""
        runs = sorted(self.sizes.keys() - {ids.LEDGER_STREAM})
        opened = [said.opened for said in self.said if isinstance(said, RunOpened)]
        closed = [(said.closed, said.size) for said in self.said if isinstance(said, RunClosed)]
        right = sorted(opened) == runs and sorted(closed) == [(run, self.sizes[run]) for run in runs]
        return [] if right and len(self.said) == 1 + 2 * len(runs) else [f"the ledger's stream: {opened} {closed}"]


def followed(url: str, *, runs: int, events: int, seed: int, processes: int) -> Tally:
    """So many events in all, by a writer for each run; followed while they are written."""
    names = [f"run-{number:02}" for number in range(runs)]
    witness = Witness(seed)
    with closing(PostgresStore(parsed(url), write=True)) as store:
        store.append([registry.entries(store, [LedgerCreated(ledger="l")], 1)])
    with closing(PostgresStore(parsed(url), write=False)) as store, \
            ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        works = [pool.submit(writers.write_all, url, names[part::processes], events // runs, seed)
                 for part in range(processes)]
        for run, stored in Follower(store).follow(lambda: all(work.done() for work in works)):
            witness.see(run, stored)
        for work in works:
            work.result()
        faults = [*witness.faults, *witness.entries(), *_of_log(store, names, events // runs, seed)]
    return Tally(len(names), sum(witness.sizes[name] for name in names), witness.pieces, faults)


def _of_log(store: PostgresStore, names: list[str], events: int, seed: int) -> Iterator[str]:
    for name in names:
        yield from writers.faults(store, name, events, seed)
