"""One process writes a run: by a lock that ends with its connection, is taken again after a cut, and by the epoch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from psycopg import Connection, OperationalError

from ledger import postgres_session
from ledger.errors import LedgerUnavailable
from ledger.postgres_session import Patience, Session
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from tests.house.tree import ROOT
from tests.kit.cutting import before, cutting
from tests.kit.postgres_databases import connected
from tests.ledger.appending import event, everything, part
from tests.postgres.cuts import PATIENT

HOLDER = """
import sys
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
store = PostgresStore(parsed(sys.stdin.readline().strip()), write=True)
store.hold("r")
print("held", flush=True)
sys.stdin.read()
"""

END_OTHERS = """
    SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'counterfoil %'"""

UNTIL_SOMEBODY_WAITS = """
    SET statement_timeout = '60s';
    DO $$ BEGIN
        WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)
        LOOP PERFORM pg_sleep(0.005); END LOOP;
    END $$"""


def _writer(url: str, *, wait: bool = False, patience: Patience = PATIENT) -> PostgresStore:
    return PostgresStore(parsed(url), write=True, wait=wait, patience=patience)


def _code(act: Callable[[], object]) -> str:
    with pytest.raises(LedgerUnavailable) as told:
        act()
    assert told.value.exit_code == 6 and told.value.next_step
    return told.value.code


def test_a_run_that_is_held_is_refused_until_it_is_let_go(log_url: str) -> None:
    """W5: another run of the same log is not; nor is the same run in another schema of the same database."""
    with closing(_writer(log_url)) as first, closing(_writer(log_url)) as second, \
            closing(_writer(f"{log_url}?schema=other")) as elsewhere:
        first.hold("r")
        first.hold("r")
        assert _code(lambda: second.hold("r")) == "RUN_HELD"
        second.hold("s")
        elsewhere.hold("r")
        assert _code(lambda: first.hold("s")) == "RUN_HELD"
        first.close()
        second.hold("r")


def test_a_run_is_let_go_before_it_is_said_that_it_was(log_url: str) -> None:
    """W5: whoever is told that a store was closed gets the run, though the server has not heard of the end yet."""
    with cutting(log_url) as proxy:
        with closing(_writer(proxy.url)) as store:
            store.hold("like it")
        proxy.await_ends()
        farewell = proxy.messages[-1]
    assert farewell.type == "X"
    with cutting(log_url, before(farewell, "client_only")) as proxy:
        with closing(_writer(proxy.url)) as store:
            store.hold("r")
        proxy.await_cut()
        with closing(_writer(log_url)) as other:
            other.hold("r")


def test_who_waits_gets_the_run_when_it_is_let_go(log_url: str) -> None:
    """W5: with --wait."""
    with closing(_writer(log_url)) as first, closing(_writer(log_url, wait=True)) as second, ThreadPoolExecutor(1) as pool:
        first.hold("r")
        waiting = pool.submit(second.hold, "r")
        with connected(log_url) as watch:
            watch.execute(UNTIL_SOMEBODY_WAITS)
        assert not waiting.done()
        first.close()
        waiting.result(60)
        with closing(_writer(log_url)) as third:
            assert _code(lambda: third.hold("r")) == "RUN_HELD"


def test_who_waits_and_is_cut_off_waits_again(log_url: str) -> None:
    """W5, W6: the server ends the session that waits: it is no end of waiting."""
    with closing(_writer(log_url)) as first, closing(_writer(log_url, wait=True)) as second, ThreadPoolExecutor(1) as pool:
        first.hold("r")
        waiting = pool.submit(second.hold, "r")
        with connected(log_url) as watch:
            watch.execute(UNTIL_SOMEBODY_WAITS)
            watch.execute("SELECT pg_terminate_backend(pid, 60000) FROM pg_locks "
                          "WHERE locktype = 'advisory' AND NOT granted")
            watch.execute(UNTIL_SOMEBODY_WAITS)
        first.close()
        waiting.result(60)


def test_a_run_is_waited_for_without_end_and_a_row_is_not(log_url: str) -> None:
    """W5: a run may take hours; what an append waits for may not, also after one has waited for a run."""
    refusal = LedgerUnavailable("RUN_HELD", "")
    with closing(Session(parsed(log_url), write=True, search_path="counterfoil")) as session:
        for wait in (False, True):
            session.lock(int(wait), refusal, wait=wait)
            assert session.raw.execute("SHOW lock_timeout").fetchone() == ("1min",)
        session.unlock(0)
        session.reopen()
        with closing(Session(parsed(log_url), write=True, search_path="counterfoil")) as other:
            other.lock(0, refusal)
            with pytest.raises(LedgerUnavailable):
                other.lock(1, refusal)


def test_a_lock_that_a_cut_took_is_let_go_without_complaint(log_url: str) -> None:
    """W6: it is free, which is what was asked for; and it is not taken again afterwards."""
    refusal = LedgerUnavailable("RUN_HELD", "")
    with closing(Session(parsed(log_url), write=False, search_path="counterfoil", patience=PATIENT)) as session, \
            closing(Session(parsed(log_url), write=False, search_path="counterfoil")) as other, \
            connected(log_url) as administrator:
        session.lock(1, refusal)
        administrator.execute("SELECT pg_terminate_backend(%s, 60000)", (session.raw.info.backend_pid,))
        session.unlock(1)
        session.reopen()
        other.lock(1, refusal)


def test_a_holder_that_is_killed_lets_go(log_url: str) -> None:
    """W5: the system closes its connection, the server sees it, and who waits gets the run."""
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          cwd=ROOT) as holder, closing(_writer(log_url, wait=True)) as store:
        assert holder.stdin is not None and holder.stdout is not None
        holder.stdin.write(f"{log_url}\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "held\n"
        with closing(_writer(log_url)) as other:
            assert _code(lambda: other.hold("r")) == "RUN_HELD"
        holder.kill()
        store.hold("r")


def test_a_run_is_held_again_after_a_cut(log_url: str) -> None:
    """W5, W6: before anything is asked on the new connection; the old one's lock is gone with it."""
    def refused() -> str:
        with closing(_writer(log_url)) as second:
            return _code(lambda: second.hold("r"))

    with closing(_writer(log_url)) as first, connected(log_url) as other:
        first.hold("r")
        first.append([part("r", None, 1)])
        other.execute(END_OTHERS)
        first.append([part("r", 1, 2)])
        assert refused() == "RUN_HELD"
        other.execute(END_OTHERS)
        assert first.head("r") == part("r", 1, 2).head, "a look is enough"
        assert refused() == "RUN_HELD"


@pytest.mark.parametrize("heard", [True, False], ids=["cut after the server had it", "cut before"])
def test_a_hold_that_is_cut_is_held_once_it_returns(log_url: str, heard: bool) -> None:
    """W5, W6: the question that takes the lock, and its answer."""
    with cutting(log_url) as proxy, closing(_writer(proxy.url)) as store:
        store.hold("like it")
        asked = proxy.found("client", b"pg_try_advisory_lock")
        answered = [message for message in proxy.messages if message.direction == "server"][-1]
    for how in ("rst", "orderly", "client_only"):
        with cutting(log_url, before(answered, how) if heard else before(asked, how)) as proxy, \
                closing(_writer(proxy.url)) as store, closing(_writer(log_url)) as other:
            store.hold("r")
            assert len(proxy.made) == 1
            assert _code(lambda: other.hold("r")) == "RUN_HELD"


def test_a_hold_that_is_cut_waits_for_its_own_old_end(unarmed_url: str) -> None:
    """W5, W6: which has the lock, and which it may not end; another's is waited for as long and then refused."""
    with cutting(unarmed_url) as proxy, closing(_writer(proxy.url)) as store:
        store.hold("like it")
        answered = [message for message in proxy.messages if message.direction == "server"][-1]
    with cutting(unarmed_url, before(answered, "client_only")) as proxy:
        def pause(seconds: float) -> None:
            proxy.hang_up()
            PATIENT.pause(seconds)

        with closing(_writer(proxy.url, patience=PATIENT._replace(pause=pause))) as store:
            store.hold("r")
            with closing(_writer(unarmed_url)) as other:
                assert _code(lambda: other.hold("r")) == "RUN_HELD"
    clock = iter(range(1000))
    with closing(_writer(unarmed_url)) as other, cutting(unarmed_url, before(answered)) as proxy, \
            closing(_writer(proxy.url, patience=Patience(3, 1, lambda: float(next(clock)), lambda _: None))) as store:
        other.hold("r")
        assert _code(lambda: store.hold("r")) == "RUN_HELD"
        store.hold("s")


def test_a_zombie_whose_run_another_took_appends_nothing(log_url: str, reading: PostgresStore) -> None:
    """W5: it was cut off, another took the run and claimed it; it wakes while the other lives, and when it is done."""
    clock = iter(range(1000))
    zombie = _writer(log_url, patience=Patience(3, 1, lambda: float(next(clock)), lambda _: None))
    zombie.hold("r")
    zombie.append([part("r", None, 2)])
    with connected(log_url) as administrator:
        administrator.execute(END_OTHERS)
    with closing(_writer(log_url)) as other:
        other.hold("r")
        other.append([part("r", 2, 3, to_epoch=2)])
        before_it = everything(reading)
        for _ in range(2):
            assert _code(lambda: zombie.append([part("r", 2, 4)])) == "RUN_HELD"
        assert everything(reading) == before_it
    for _ in range(2):
        assert _code(lambda: zombie.append([part("r", 2, 4)])) == "FENCED"
    assert everything(reading) == before_it
    zombie.close()


def test_a_zombie_that_did_not_hold_is_fenced_by_the_epoch(log_url: str, reading: PostgresStore) -> None:
    """W5, law L3: also when its append was on its way as the other claimed the run, and the answer never came."""
    theirs = part("r", 2, 3, to_epoch=2)._replace(events=[event(3, b"theirs")])
    with cutting(log_url) as proxy, closing(_writer(proxy.url)) as store:
        store.append([part("like it", None, 2)])
        store.append([part("like it", 2, 3)])
        commit = proxy.found("client", b"COMMIT\0", 3)
    with closing(_writer(log_url)) as other:
        def now() -> float:
            if (head := other.head("r")) is not None and head.epoch == 1:
                other.append([theirs])
            return 0.0

        with cutting(log_url, before(commit)) as proxy, \
                closing(_writer(proxy.url, patience=PATIENT._replace(now=now))) as it:
            it.append([part("r", None, 2)])
            assert _code(lambda: it.append([part("r", 2, 3)])) == "FENCED"
            assert len(proxy.made) == 1
    assert [stored.body for stored in reading.read("r")] == [event(1).body, event(2).body, b"theirs"]


def test_what_was_stored_stays_ours_when_another_goes_on_from_there(log_url: str, reading: PostgresStore) -> None:
    """W5, W6: the commit was made, its answer did not come, and meanwhile somebody else has taken the stream further."""
    with cutting(log_url) as proxy, closing(_writer(proxy.url)) as store:
        store.append([part("like it", None, 2)])
        answer = proxy.found("server", b"COMMIT\0")
    with closing(_writer(log_url)) as other:
        def now() -> float:
            if other.head("r") == part("r", None, 2).head:
                other.append([part("r", 2, 4)])
            return 0.0

        with cutting(log_url, before(answer)) as proxy, \
                closing(_writer(proxy.url, patience=PATIENT._replace(now=now))) as store:
            store.append([part("r", None, 2)])
            assert len(proxy.made) == 1 and reading.head("r") == part("r", 2, 4).head
            assert _code(lambda: store.append([part("r", 2, 3)])) == "FENCED"
    assert [stored.seq for stored in reading.read("r")] == [1, 2, 3, 4]


def test_a_connection_that_fails_while_locks_are_taken_again_is_closed(
        log_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """W6: the driver may tell of a cut before it counts the connection as closed; none is left to the collector."""
    asked: list[Connection] = []

    def tells_of_a_cut_once(connection: Connection, statement: str, values: tuple[object, ...]) -> object:
        asked.append(connection)
        if len(asked) == 1:
            raise OperationalError("the connection is lost")
        return scalar(connection, statement, values)

    with closing(Session(parsed(log_url), write=False, search_path="public", patience=PATIENT)) as session:
        session.lock(1, LedgerUnavailable("RUN_HELD", "held", where="here", next_step="wait"))
        scalar = postgres_session._scalar
        monkeypatch.setattr(postgres_session, "_scalar", tells_of_a_cut_once)
        session.reopen()
        assert [connection.closed for connection in asked] == [True, False]
