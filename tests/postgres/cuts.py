"""A writer's session that is cut off at one place of its talk with the server, and what must be in the log afterwards.

Invariants: what was acknowledged is stored, what is stored was attempted, once, in order, and whole commits only; each case
writes streams of its own, whose names are of one length, so that the same messages come at the same places.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from ledger.errors import LedgerUnavailable
from ledger.memory_store import MemoryStore
from ledger.postgres_session import Patience
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from ledger.store import Part, Payload, Store, Stored, StreamHead
from tests.kit.cutting import Cut, Message, Proxy, cutting
from tests.ledger.appending import part, payload

PATIENT = Patience(seconds=60, pause_seconds=0.005)
"""The product waits, by a real clock: for a server's end of a connection that may live on for a moment."""


Kept = tuple[StreamHead | None, list[Stored], list[Payload]]
"""What is stored of a stream."""


class Told(NamedTuple):
    """How a session ended: how many commits were acknowledged, the code of what was raised, the cuts that took place."""

    acknowledged: int
    code: str
    made: list[Cut]


def story(case: int, commits: int) -> list[list[Part]]:
    """So many appends to a run and a stream beside it: of one part and of two, with payloads, with an epoch and no event."""
    run, beside = f"{case:06}-run", f"{case:06}-beside"
    told: list[list[Part]] = [[part(run, None, 2, payloads=[payload(1, True)]), part(beside, None, 1, status="ledger")]]
    size, epoch, numbers, others = 2, 1, 1, 1
    for turn in range(1, commits):
        if turn % 4 == 2:
            told.append([part(run, size, size, epoch=epoch, to_epoch=epoch + 1)])
            epoch += 1
            continue
        grown = size + 1 + turn % 3
        kept_there = [payload(numbers + 1), payload(numbers + 2)] if turn % 4 == 1 else []
        told.append([part(run, size, grown, epoch=epoch, payloads=kept_there)])
        size, numbers = grown, numbers + len(kept_there)
        if turn % 4 == 3:
            told[-1].append(part(beside, others, others + 1, status="ledger"))
            others += 1
    return told


def tell(store: Store, told: Sequence[Sequence[Part]]) -> Told:
    """Hold the run and append one after the other until something is raised."""
    acknowledged = 0
    try:
        store.hold(told[0][0].head.run)
        for parts in told:
            store.append(parts)
            acknowledged += 1
    except LedgerUnavailable as error:
        return Told(acknowledged, error.code, [])
    return Told(acknowledged, "", [])


def recorded(url: str, told: Sequence[Sequence[Part]]) -> list[Message]:
    """The messages of a session that is not cut, without those that close the store: nobody hears what becomes of them."""
    with cutting(url) as proxy, closing(PostgresStore(parsed(proxy.url), write=True)) as store:
        assert tell(store, told).code == ""
        return proxy.messages


def opening(url: str) -> int:
    """How many messages it takes to open a store."""
    with cutting(url) as proxy, closing(PostgresStore(parsed(proxy.url), write=True)):
        return len(proxy.messages)


def told_through(url: str, told: Sequence[Sequence[Part]], cuts: Sequence[Cut], patience: Patience = PATIENT) -> Told:
    """A session through a proxy that makes these cuts."""
    with cutting(url, *cuts) as proxy:
        result = told_over(proxy, told, patience)
    return result._replace(made=proxy.made)


def told_over(proxy: Proxy, told: Sequence[Sequence[Part]], patience: Patience = PATIENT) -> Told:
    """A session through this proxy."""
    try:
        store = PostgresStore(parsed(proxy.url), write=True, patience=patience)
    except LedgerUnavailable as error:
        return Told(0, error.code, proxy.made)
    with closing(store):
        return tell(store, told)._replace(made=proxy.made)


def expected(told: Sequence[Sequence[Part]], commits: int) -> list[Kept]:
    """What a log holds of these streams after so many of the commits."""
    store = MemoryStore()
    for parts in told[:commits]:
        store.append(parts)
    return kept(store, _runs(told))


def faults(reading: Store, told: Sequence[Sequence[Part]], result: Told) -> list[str]:
    """What is wrong with the log after a session: neither all that was acknowledged nor all and one more commit."""
    found = kept(reading, _runs(told))
    possible = [count for count in range(result.acknowledged, len(told) + 1) if expected(told, count) == found]
    if not possible:
        return [f"{result}: acknowledged is not stored, or what is stored was not attempted"]
    if possible[0] > result.acknowledged + 1:
        return [f"{result}: {possible[0]} are stored"]
    return []


def kept(store: Store, runs: Sequence[str]) -> list[Kept]:
    """What a store holds of these streams."""
    return [(store.head(run), list(store.read(run)), list(store.payloads_between(run, 1, 10_000))) for run in runs]


def _runs(told: Sequence[Sequence[Part]]) -> list[str]:
    return [part.head.run for part in told[0]]
