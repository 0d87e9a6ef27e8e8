"""Whoever follows the log misses nothing: not what was held open while others committed, not a stream numbered out of turn.

The long variant, of 100 000 events: `python -m tests.postgres.campaign writers`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import psycopg
import pytest

from ledger.follower import Follower
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from ledger.store import Part, Stored
from tests.kit.cutting import before, cutting
from tests.kit.postgres_databases import connected
from tests.ledger.appending import event, part
from tests.postgres import following
from tests.postgres.cuts import PATIENT

Seen = dict[str, list[Stored]]


def _look(follower: Follower, seen: Seen) -> Seen:
    """Add what is new to what was seen."""
    for run, stored in follower.news():
        seen.setdefault(run, []).append(stored)
    return seen


def _seqs(seen: Seen) -> dict[str, list[int]]:
    return {run: [stored.seq for stored in events] for run, events in seen.items()}


def _upto(**sizes: int) -> dict[str, list[int]]:
    return {run: list(range(1, size + 1)) for run, size in sizes.items()}


@contextmanager
def _held(url: str, *parts: Part) -> Iterator[psycopg.Connection]:
    """A transaction in which everything of an append was done but its COMMIT."""
    with closing(connected(url)) as connection:
        connection.execute("SET search_path TO counterfoil")
        connection.execute("BEGIN")
        for given in parts:
            _hold(connection, given)
        yield connection


def _hold(connection: psycopg.Connection, given: Part) -> None:
    run, size, epoch, root, frontier, status = given.head
    if given.expected_size is None:
        connection.execute("INSERT INTO streams (run_id, size, epoch, root, frontier, status) VALUES (%s, 0, 0, '', '', '')",
                           (run,))
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO events SELECT stream, %s, %s, %s, %s, %s, %s, %s FROM streams WHERE run_id = %s",
                           [(*stored, run) for stored in given.events])
    connection.execute("UPDATE streams SET size = %s, epoch = %s, root = %s, frontier = %s, status = %s WHERE run_id = %s",
                       (size, epoch, root, frontier, status, run))


def test_an_append_that_is_held_open_while_others_commit_is_not_missed(log_url: str, reading: PostgresStore) -> None:
    """W6, law L1: not the events, and not the stream that got its number before another that is seen before it."""
    follower, seen = Follower(reading), Seen()
    with closing(PostgresStore(parsed(log_url), write=True)) as store:
        store.append([part("old", None, 2)])
        with _held(log_url, part("old", 2, 4), part("held", None, 3)) as held:
            assert _seqs(_look(follower, seen)) == _upto(old=2)
            for size in (None, 1, 2):
                store.append([part("new", size, (size or 0) + 1)])
                assert _seqs(_look(follower, seen)) == _upto(old=2, new=(size or 0) + 1)
            held.execute("COMMIT")
            assert _seqs(_look(follower, seen)) == _upto(old=4, new=3, held=3)
        store.append([part("held", 3, 4), part("new", 3, 4), part("old", 4, 5)])
    assert _seqs(_look(follower, seen)) == _upto(old=5, new=4, held=4)
    assert [head.run for head in reading.heads()] == ["old", "held", "new"], "numbered before it, committed after it"
    assert not list(follower.news())


def test_a_commit_of_the_store_that_is_held_up_on_its_way_is_not_missed(log_url: str, reading: PostgresStore) -> None:
    """W6: its COMMIT comes when the network lets it: here after others, by the next connection."""
    with cutting(log_url) as proxy, closing(PostgresStore(parsed(proxy.url), write=True)) as store:
        store.append([part("like", None, 2), part("it", None, 1)])
        commit = proxy.found("client", b"COMMIT\0")
    follower, seen = Follower(reading), Seen()
    with cutting(log_url, before(commit, "silent")) as proxy, ThreadPoolExecutor(1) as pool, \
            closing(PostgresStore(parsed(log_url), write=True)) as other, \
            closing(PostgresStore(parsed(proxy.url), write=True, patience=PATIENT)) as store:
        appending = pool.submit(store.append, [part("held", None, 2), part("too", None, 1)])
        proxy.await_cut()
        other.append([part("new", None, 3)])
        assert _seqs(_look(follower, seen)) == _upto(like=2, it=1, new=3)
        proxy.hang_up()
        appending.result(60)
    assert _seqs(_look(follower, seen)) == _upto(like=2, it=1, new=3, held=2, too=1)


@pytest.mark.parametrize("seed", range(8))
def test_transactions_that_begin_and_end_in_any_order_are_all_seen(log_url: str, reading: PostgresStore, seed: int) -> None:
    """W6, law L1: five sessions, each begins, commits or gives up when a seed says so, and the follower looks in between."""
    drawn, follower, seen = random.Random(seed), Follower(reading), Seen()
    sizes: dict[str, int] = {}
    with ExitStack() as stack:
        sessions = [stack.enter_context(closing(connected(log_url))) for _ in range(5)]
        for session in sessions:
            session.execute("SET search_path TO counterfoil")
        open_: dict[int, dict[str, int]] = {}
        for _ in range(80):
            number = drawn.randrange(5)
            if number not in open_:
                open_[number] = _begin(drawn, sessions[number], number, sizes)
            elif drawn.random() < 0.3:
                sessions[number].execute("ROLLBACK")
                del open_[number]
            else:
                sessions[number].execute("COMMIT")
                sizes.update(open_.pop(number))
            if drawn.random() < 0.7:
                assert _seqs(_look(follower, seen)) == _upto(**sizes)
    assert _seqs(_look(follower, seen)) == _upto(**sizes) and len(sizes) > 5
    assert all(stored == event(stored.seq) for events in seen.values() for stored in events)


def _begin(drawn: random.Random, session: psycopg.Connection, number: int, sizes: dict[str, int]) -> dict[str, int]:
    """Begin a transaction that appends to a stream of this session's, mostly to a new one; gives what it will make."""
    mine = [run for run in sizes if run.startswith(f"s{number}_")]
    run = drawn.choice(mine) if mine and drawn.random() < 0.4 else f"s{number}_{len(mine)}"
    size = sizes.get(run, 0) + drawn.randint(1, 3)
    session.execute("BEGIN")
    _hold(session, part(run, sizes.get(run), size))
    return {run: size}


def test_sixteen_writers_of_sixteen_runs_are_followed_without_a_gap(log_url: str) -> None:
    """W6, law L1: in four processes, with delays drawn by a seed, and a stream that all append to: not a byte is missed."""
    tally = following.followed(log_url, runs=16, events=8_000, seed=1, processes=4)
    assert tally.faults == [] and (tally.runs, tally.events) == (16, 8_000)
    assert tally.pieces > 2 * 16, "it was followed, not read at the end"


@pytest.mark.parametrize("stops", [0, 1, 2])
def test_what_was_committed_before_it_is_time_to_stop_is_seen(log_url: str, reading: PostgresStore, stops: int) -> None:
    """W6, law L1: also when it was committed after a look that found nothing, and the end came before the next."""
    turns = iter(range(9))

    def stopping() -> bool:
        turn = next(turns)
        store.append([part("r", turn + 1, turn + 2)])
        return turn == stops

    with closing(PostgresStore(parsed(log_url), write=True)) as store:
        store.append([part("r", None, 1)])
        seen = [stored.seq for _, stored in Follower(reading).follow(stopping)]
    assert seen == list(range(1, stops + 3))


def test_a_follower_goes_on_from_where_another_was(log_url: str, reading: PostgresStore) -> None:
    """F1: its places are all that it needs, also in the middle of a look."""
    with closing(PostgresStore(parsed(log_url), write=True)) as store:
        store.append([part("a", None, 3), part("b", None, 2)])
        first = Follower(reading)
        news = first.news()
        seen = [next(news) for _ in range(2)]
        store.append([part("a", 3, 4)])
        seen += Follower(reading, first.places).news()
    assert [(run, stored.seq) for run, stored in seen] == [("a", 1), ("a", 2), ("a", 3), ("a", 4), ("b", 1), ("b", 2)]
