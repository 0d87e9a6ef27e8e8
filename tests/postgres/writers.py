"""Writers that append at once, each to a run of its own and, at its begin and end, to the ledger's stream that all share.

Why by `ledger.writer`: giving way on the shared stream is the product's to do.

Invariant: what stands at a seq of a run follows from the seed, so whoever reads it knows the bytes that were written.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256

from ledger import registry
from ledger.codec import encode
from ledger.events import Commitment, Event, RowRead, RunClosed, RunOpened
from ledger.postgres_session import PATIENCE, Patience
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from ledger.store import Store
from ledger.tree import Frontier
from ledger.writer import Writer

DELAY_SECONDS_MAX = 0.004
EVENTS_MAX = 60
"""How many one commit has at most."""


def event_at(run: str, seq: int, seed: int) -> RowRead:
    """What stands there."""
    said = sha256(f"{seed} {run} {seq}".encode()).hexdigest()
    return RowRead(run=run, seq=seq, epoch=1, v=1, at=seq, active_ms=seq, token=str(seq - 1), row=seq - 1, valid=True,
                   position=seq - 1, data=Commitment(seq, said))


def write_all(url: str, runs: Sequence[str], events: int, seed: int) -> None:
    """A writer for each run, at once, in this process."""
    with ThreadPoolExecutor(len(runs)) as pool:
        for writing in [pool.submit(write, url, run, events, seed) for run in runs]:
            writing.result()


def write(url: str, run: str, events: int, seed: int) -> None:
    """So many events, in commits of a size and after a delay that the seed draws."""
    drawn = random.Random(f"{seed} {run}")
    with closing(PostgresStore(parsed(url), write=True)) as store:
        store.hold(run)
        writer = Writer(store, run)
        _add(writer, seed, 1)
        writer.commit("running", lambda: [registry.entries(store, [_opened(run)], 1)])
        while writer.size < events:
            _delay(drawn)
            _add(writer, seed, min(drawn.randint(1, EVENTS_MAX), events - writer.size))
            writer.commit("running")
        writer.commit("completed", lambda: [registry.entries(store, [_closed(run, writer)], 2)])


def write_until(url: str, run: str, seed: int, patience: Patience, stopping: Callable[[int], bool]) -> int:
    """Commit until `stopping`, which is told what was acknowledged, says so; gives the stream's size."""
    drawn = random.Random(f"{seed} {run}")
    with closing(PostgresStore(parsed(url), write=True, patience=patience)) as store:
        store.hold(run)
        writer = Writer(store, run)
        while True:
            _add(writer, seed, drawn.randint(1, 20))
            writer.commit("running")
            if stopping(writer.size):
                return writer.size


def faults(store: Store, run: str, events: int, seed: int) -> list[str]:
    """What is wrong with a run that so many events were written to, its tree included."""
    frontier, seq = Frontier(), 0
    for seq, stored in enumerate(store.read(run), start=1):
        if stored.seq != seq or stored.body != encode(event_at(run, seq, seed)):
            return [f"{run}: {stored.seq} stands where {seq} was written"]
        frontier.append(stored.body)
    head = store.head(run)
    if head is None or (head.size, seq, head.root) != (events, events, frontier.root()):
        return [f"{run}: {events} were written, {seq} are there, its head is {head}"]
    return []


def _add(writer: Writer, seed: int, events: int) -> None:
    for _ in range(events):
        writer.add(event_at(writer.run, writer.size + 1, seed))


def _delay(drawn: random.Random) -> None:
    """So that the commits of many writers fall in another order each time."""
    PATIENCE.pause(drawn.random() * DELAY_SECONDS_MAX)


def _opened(run: str) -> Event:
    return RunOpened(opened=run, pipeline="p")


def _closed(run: str, writer: Writer) -> Event:
    return RunClosed(closed=run, status="completed", size=writer.size, root=writer.root())
