"""Reading while others write, and over a connection that is cut: one moment, or an error; nothing is missed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, suppress

import psycopg
import pytest

from ledger.errors import LedgerUnavailable
from ledger.follower import HINT_SECONDS, Follower
from ledger.postgres_session import Patience
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from ledger.rows import FETCH_ROWS
from tests.kit.cutting import Message, before, cutting
from tests.kit.postgres import Postgres
from tests.kit.postgres_databases import connected
from tests.ledger.appending import event, everything, part, payload
from tests.postgres.cuts import PATIENT

END_OTHERS = """
    SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'counterfoil %'"""
LONG = 60.0
"""Seconds: who waits as long as this was not told."""


def _writer(url: str) -> PostgresStore:
    return PostgresStore(parsed(url), write=True, patience=PATIENT)


def _told(store: PostgresStore) -> None:
    """Wait, and not in vain: nothing else tells a word from the end of the time."""
    began = time.monotonic()
    store.wait(LONG)
    assert time.monotonic() - began < LONG


def test_a_snapshot_is_of_one_moment(log_url: str, reading: PostgresStore) -> None:
    """F6: whatever is asked within, heads, events, payloads, guards, by whatever way; afterwards all is seen."""
    with closing(_writer(log_url)) as store:
        store.append([part("r", None, 2, payloads=[payload(1)])])
        with reading.snapshot():
            then = everything(reading)
            store.append([part("r", 2, 4, payloads=[payload(2)]), part("new", None, 1)])
            with reading.snapshot():
                assert everything(reading) == then
            assert reading.head("new") is None and list(reading.read("new")) == [] and reading.payloads("r", [2]) == {}
            assert reading.head("r") == part("r", None, 2).head and reading.kinds() == [("Routed", 1, 2)]
            assert reading.guards() == [] and everything(reading) == then
        assert everything(reading) == everything(store) != then


def test_a_snapshot_lets_writers_be(log_url: str, reading: PostgresStore) -> None:
    """F6: reading never blocks writing, nor the other way round."""
    with closing(_writer(log_url)) as store, reading.snapshot():
        for size in (None, 1, 2):
            store.append([part("r", size, (size or 0) + 1)])
            reading.heads()


def test_a_cut_within_a_snapshot_is_told_and_the_next_one_is_new(log_url: str, reading: PostgresStore) -> None:
    """W6, F6: two moments are never taken for one."""
    with closing(_writer(log_url)) as store, connected(log_url) as other:
        store.append([part("r", None, 2)])
        with pytest.raises(LedgerUnavailable, match="LEDGER_UNREACHABLE"), reading.snapshot():
            assert len(reading.heads()) == 1
            other.execute(END_OTHERS)
            store.append([part("s", None, 1)])
            reading.heads()
        with reading.snapshot():
            assert len(reading.heads()) == 2


def test_a_cut_after_the_last_thing_read_in_a_snapshot_is_none(log_url: str, reading: PostgresStore) -> None:
    """W6: all that was to be read was read; and what was raised within stays what is raised."""
    with connected(log_url) as other:
        with reading.snapshot():
            assert reading.heads() == []
            other.execute(END_OTHERS)
        assert reading.heads() == []
        with pytest.raises(KeyError, match="this"), reading.snapshot():
            other.execute(END_OTHERS)
            raise KeyError("this")
        with suppress(KeyError), reading.snapshot():
            raise KeyError
        with closing(_writer(log_url)) as store:
            store.append([part("r", None, 1)])
        assert len(reading.heads()) == 1, "no transaction is left open"


def test_a_connection_that_was_cut_while_idle_is_opened_again(log_url: str, reading: PostgresStore) -> None:
    """W6: each thing that can be asked, the first thing after a cut."""
    with closing(_writer(log_url)) as store, connected(log_url) as other:
        store.append([part("r", None, 2, payloads=[payload(1)])])
        asked: list[Callable[[], object]] = [
            reading.heads, lambda: reading.head("r"), lambda: list(reading.read("r")), reading.kinds, reading.guards,
            lambda: reading.payloads("r", [1]), lambda: list(reading.payloads_between("r", 1, 2))]
        for ask in asked:
            expected = ask()
            other.execute(END_OTHERS)
            assert ask() == expected
        other.execute(END_OTHERS)
        with reading.snapshot():
            assert len(reading.heads()) == 1


def test_a_long_stream_is_read_whole_over_any_cut(log_url: str) -> None:
    """W6, law L1: at every message of a reading that takes two batches, and some rows: no event twice, none missing."""
    size = FETCH_ROWS + 1
    with closing(_writer(log_url)) as store:
        store.append([part("r", None, size)])

    def read(url: str) -> list[int]:
        with closing(PostgresStore(parsed(url), write=False, patience=PATIENT)) as store:
            return [stored.seq for stored in store.read("r")]

    with cutting(log_url) as proxy:
        read(proxy.url)
        messages = [message for message in proxy.messages if not _is_farewell_or_row(message)]
    opened = next(index for index, message in enumerate(messages) if b"SELECT stream" in message.head)
    assert len(messages) - opened > 25
    for message in messages[opened:]:
        with cutting(log_url, before(message)) as proxy:
            assert read(proxy.url) == list(range(1, size + 1)), message
            assert len(proxy.made) == 1


def _is_farewell_or_row(message: Message) -> bool:
    return message.type == "X" or (message.type == "D" and message.direction == "server" and message.number % 700 > 0)


def test_a_stream_that_nobody_can_have_made_is_not_there(reading: PostgresStore) -> None:
    """W6: a name that no text can hold is no fault of the server."""
    assert reading.head("\0") is None and list(reading.read("\0")) == [] and reading.payloads("\0", [1]) == {}


def test_who_waits_is_told_of_an_append_of_another_session(log_url: str, reading: PostgresStore) -> None:
    """W6: long before its time is over; the first time it only begins to listen, and returns at once."""
    with closing(_writer(log_url)) as store:
        _told(reading)
        store.append([part("r", None, 1)])
        _told(reading)
        assert len(reading.heads()) == 1
        store.append([part("r", 1, 2)])
        reading.heads()  # the word comes while something else is asked
        _told(reading)


def test_who_waits_for_nothing_waits_until_the_time_is_over(log_url: str, reading: PostgresStore) -> None:
    """W6: and no notice of another log in the same database ends it."""
    _told(reading)
    with connected(log_url) as other:
        other.execute("NOTIFY somebody_else")
        for seconds in (0.0, 0.01):
            began = time.monotonic()
            reading.wait(seconds)
            assert time.monotonic() - began >= seconds


def test_nothing_is_missed_when_the_commit_falls_between_a_look_and_listening(
    log_url: str, reading: PostgresStore
) -> None:
    """W6, law L1: a follower that looked, and is told by nobody: it looks again before it waits at all."""
    follower = Follower(reading)
    with closing(_writer(log_url)) as store:
        for size in (None, 1, 2):
            assert not list(follower.news())
            store.append([part("r", size, (size or 0) + 1)])
            _told(reading)
            assert [stored.seq for _, stored in follower.news()] == [(size or 0) + 1]


def test_who_listens_is_told_again_after_a_cut(log_url: str, reading: PostgresStore) -> None:
    """W6, law L1: the server forgets who listened; what came meanwhile is looked for before anything is waited for."""
    follower = Follower(reading)
    with closing(_writer(log_url)) as store, connected(log_url) as other:
        _told(reading)
        for size in (None, 1, 2):
            other.execute(END_OTHERS)
            store.append([part("r", size, (size or 0) + 1)])
            _told(reading)
            assert [stored.seq for _, stored in follower.news()] == [(size or 0) + 1]
            _told(reading)  # it listens again
            store.append([part(f"s{size}", None, 1)])
            _told(reading)
            assert [run for run, _ in follower.news()] == [f"s{size}"]
            reading.wait(0)


def test_a_follower_looks_again_though_nobody_told_it(log_url: str, reading: PostgresStore) -> None:
    """W6, law L1: the notice may be lost, the places are the truth: here it comes without any."""
    with closing(_writer(log_url)) as store:
        store.append([part("r", None, 1)])
    stops = iter([False, False, True])
    seen = [stored.seq for _, stored in Follower(reading).follow(lambda: next(stops))]
    assert seen == [1] and HINT_SECONDS <= 1


def test_an_append_whose_notice_fails_is_an_append(postgres_server: Postgres, log_url: str) -> None:
    """W6: what was stored is stored: the server takes not one notice more, and the next append is none the worse."""
    postgres_server.restart(max_notify_queue_pages="64")
    with closing(_writer(log_url)) as store, connected(log_url) as deaf, connected(log_url) as other:
        for statement in ("LISTEN anything", "BEGIN", "SELECT 1"):
            deaf.execute(statement.encode())
        with pytest.raises(psycopg.Error, match="too many notifications"):
            for number in range(1000):
                other.execute("SELECT pg_notify('anything', %s)", (f"{number} {'x' * 7900}",))
        for size in (None, 1, 2):
            store.append([part("r", size, (size or 0) + 1)])
        assert list(store.read("r")) == [event(1), event(2), event(3)]


def test_a_patience_of_nothing_asks_once_more(log_url: str) -> None:
    """W6: a cut while idle is no end, even for who does not wait."""
    with closing(PostgresStore(parsed(log_url), write=False, patience=Patience(seconds=0))) as store, \
            connected(log_url) as other:
        other.execute(END_OTHERS)
        assert store.heads() == []
