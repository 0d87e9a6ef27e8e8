"""A server's old end of a connection that was cut off lives on, and works, while the writer looks from a new one.

What it does last is made to wait by a trigger that runs within COMMIT, and the test says when it goes on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from ledger import postgres_session
from ledger.errors import LedgerUnavailable
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from tests.kit.cutting import Cut, Message, Proxy, after, before, cutting
from tests.kit.postgres import Postgres
from tests.kit.postgres_databases import connected
from tests.ledger.appending import part
from tests.postgres import cuts
from tests.postgres.cuts import PATIENT, story

GATE = 4711
"""The lock that a commit waits for while a test holds it."""

SLOW_COMMITS = f"""
    CREATE FUNCTION counterfoil.slow() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON counterfoil.streams DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION counterfoil.slow()"""

UNTIL_ANOTHER_WAITS = """
    DO $$ BEGIN
        WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                          AND pid <> {})
        LOOP PERFORM pg_sleep(0.005), pg_stat_clear_snapshot(); END LOOP;
    END $$"""


@pytest.fixture(params=["may end it", "may not end it"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A log whose writer may, or may not, end the server's end of another connection of its own."""
    found: str = request.getfixturevalue("log_url" if request.param == "may end it" else "unarmed_url")
    yield found


def _commits(url: str) -> list[Message]:
    """The words that end the appends of a story."""
    with cutting(url) as proxy, closing(PostgresStore(parsed(proxy.url), write=True)) as store:
        for parts in story(0, 2):
            store.append(parts)
        return [message for message in proxy.messages if message.direction == "client" and message.head[5:] == b"COMMIT\0"]


def _pid(proxy: Proxy) -> int:
    """Of the server's end of the first connection."""
    told: int = struct.unpack_from("!i", proxy.found("server", b"K\0\0\0").head, 5)[0]
    return told


def _wrong(url: str, case: int, commits: int) -> list[str]:
    with closing(PostgresStore(parsed(url), write=False)) as reading:
        return cuts.faults(reading, story(case, commits), cuts.Told(commits, "", []))


@pytest.mark.parametrize("turn", [1, 2], ids=["a new stream", "one that is there"])
def test_a_commit_that_is_still_going_on_is_waited_for_or_ended(url: str, turn: int) -> None:
    """W6: the client is gone, its COMMIT is not done when it is looked for: it is stored once, whoever stored it."""
    commit = _commits(url)[turn - 1]
    told = story(1, 2)
    with closing(connected(url)) as gate, cutting(url, after(commit, "client_only")) as proxy, \
            closing(PostgresStore(parsed(proxy.url), write=True, patience=PATIENT)) as store, ThreadPoolExecutor(1) as pool:
        for parts in told[: turn - 1]:
            store.append(parts)
        gate.execute(SLOW_COMMITS)
        gate.execute("SELECT pg_advisory_lock(%s)", (GATE,))
        appending = pool.submit(store.append, told[turn - 1])
        proxy.await_cut()
        _until_another_waits(url, _pid(proxy))
        gate.execute("SELECT pg_advisory_unlock(%s)", (GATE,))
        appending.result(60)
        for parts in told[turn:]:
            store.append(parts)
    assert _wrong(url, 1, 2) == []


def test_an_end_that_holds_the_run_and_may_not_be_ended_is_waited_for(unarmed_url: str) -> None:
    """W6: until the server notices that its client is gone: at every message that the client sends for a commit."""
    told = story(0, 2)
    messages = cuts.recorded(unarmed_url, told)
    begins = [index for index, message in enumerate(messages) if message.head[5:10] == b"BEGIN"
              and b"ISOLATION" in message.head]
    asked = [message for message in messages[begins[1]:] if message.direction == "client"]
    for case, message in enumerate(asked, start=1):
        with cutting(unarmed_url, before(message, "client_only")) as proxy:
            def pause(seconds: float, proxy: Proxy = proxy) -> None:
                proxy.hang_up()
                PATIENT.pause(seconds)

            result = cuts.told_over(proxy, story(case, 2), PATIENT._replace(pause=pause))
        assert (result.acknowledged, len(result.made)) == (2, 1), message
        assert _wrong(unarmed_url, case, 2) == [], message


def test_an_end_that_never_ends_is_not_waited_for_without_end(
    unarmed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W6: one that is in the middle of its transaction and may not be ended: named, and the run goes on when it is gone."""
    monkeypatch.setattr(postgres_session, "LOCK_SECONDS_MAX", 0.05)
    told = story(1, 2)
    commit = _commits(unarmed_url)[0]
    with cutting(unarmed_url, before(commit, "client_only")) as proxy, \
            closing(PostgresStore(parsed(proxy.url), write=True, patience=PATIENT)) as store:
        with pytest.raises(LedgerUnavailable, match=r"LEDGER_BUSY: .*; another session holds a lock: wait") as told_of:
            store.append(told[0])
        assert told_of.value.exit_code == 6
        proxy.hang_up()
        proxy.await_cut()
        monkeypatch.setattr(postgres_session, "LOCK_SECONDS_MAX", 60)
    with closing(PostgresStore(parsed(unarmed_url), write=True)) as store:
        for parts in told:
            store.append(parts)
    assert _wrong(unarmed_url, 1, 2) == []


def test_a_run_whose_old_holder_never_ends_is_said_to_be_held(unarmed_url: str) -> None:
    """W6, W5: the old end of one's own connection may be anybody's: patience ends, and the run goes on when it is gone."""
    commit = _commits(unarmed_url)[0]
    clock = iter(range(10_000))
    paused: list[float] = []
    patience = PATIENT._replace(seconds=7, now=lambda: float(next(clock)), pause=paused.append)
    held = Cut("client", commit.number + 5, 0, "client_only")  # as many messages later as it takes to hold a run
    told = story(1, 2)
    with cutting(unarmed_url, held) as proxy:
        assert cuts.told_over(proxy, told, patience)[:2] == (0, "RUN_HELD")
        assert len(paused) == 6 and proxy.made == [held]
    assert cuts.told_through(unarmed_url, told, [])[:2] == (2, "")
    assert _wrong(unarmed_url, 1, 2) == []


def test_a_commit_that_was_ended_while_it_waited_for_a_standby_is_there(
    postgres_server: Postgres, log_url: str
) -> None:
    """W6: the server says that it ended the session, yet what it had committed stays committed: it is not sent again."""
    told = story(1, 1)
    commit = _commits(log_url)[0]
    postgres_server.restart(synchronous_standby_names="nobody")
    with cutting(log_url, after(commit, "client_only")) as proxy, \
            closing(PostgresStore(parsed(proxy.url), write=True, patience=PATIENT)) as store:
        store.append(told[0])
        assert len(proxy.made) == 1
    assert _wrong(log_url, 1, 1) == []


def test_two_claims_of_one_epoch_are_one(log_url: str) -> None:
    """W5, law L3: appends without an event meet no key: the row's lock alone tells the second that the first was there."""
    with closing(PostgresStore(parsed(log_url), write=True)) as store, closing(connected(log_url)) as first, \
            ThreadPoolExecutor(1) as pool:
        store.append([part("r", None, 2)])
        first.execute("BEGIN")
        first.execute("UPDATE counterfoil.streams SET epoch = 2")
        appending = pool.submit(store.append, [part("r", 2, 2, to_epoch=2)])
        _until_another_waits(log_url, 0)
        first.execute("COMMIT")
        with pytest.raises(LedgerUnavailable, match="FENCED"):
            appending.result(60)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_stream_that_somebody_else_is_making_is_waited_for(log_url: str, reading: PostgresStore, end: str) -> None:
    """W5, W6: it is a conflict when it is there; when the other one gave it up, it never was."""
    with closing(PostgresStore(parsed(log_url), write=True)) as store, closing(connected(log_url)) as first, \
            ThreadPoolExecutor(1) as pool:
        first.execute("BEGIN")
        first.execute("INSERT INTO counterfoil.streams (run_id, size, epoch, root, frontier, status) "
                      "VALUES ('r', 0, 1, '', '', 'running')")
        appending = pool.submit(store.append, [part("r", None, 2)])
        _until_another_waits(log_url, 0)
        first.execute(end.encode())
        if end == "COMMIT":
            with pytest.raises(LedgerUnavailable, match=r"FENCED: .*made meanwhile"):
                appending.result(60)
        else:
            appending.result(60)
    assert [stored.seq for stored in reading.read("r")] == ([] if end == "COMMIT" else [1, 2])


def _until_another_waits(url: str, pid: int) -> None:
    """Until a session, other than that of this process of the server, waits for a lock."""
    with connected(url) as watch:
        watch.execute("SET statement_timeout = '60s'")
        watch.execute(UNTIL_ANOTHER_WAITS.format(pid).encode())
