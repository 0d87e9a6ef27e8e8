"""The server of the tests: durable as PostgreSQL is, killed for good, gone with its parent; its databases are empty."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.house.tree import ROOT
from tests.kit import postgres
from tests.kit.postgres import Elsewhere, Postgres, Server, given
from tests.kit.postgres_databases import connected

PARENT = """
import sys
from tests.kit.postgres import Server
server = Server()
server.start()
print(server.pid, server.port, server.folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(postgres_server: Postgres) -> Server:
    """The server, if it is one of ours."""
    if not isinstance(postgres_server, Server):
        pytest.skip(f"{postgres.ELSEWHERE} names a server that is not ours")
    return postgres_server


def _shown(url: str, *names: str) -> dict[str, str]:
    with connected(url) as connection:
        return {name: _one(connection, f"SELECT current_setting('{name}')") for name in names}


def _one(connection: psycopg.Connection, query: str) -> str:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return str(row[0])


def _tables(url: str) -> int:
    with connected(url) as connection:
        return int(_one(connection, "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', "
                                    "'information_schema')"))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _segments(pid: int) -> list[str]:
    """The segments of shared memory that the process made and that are there still."""
    lines = Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()[1:]
    return [line for line in lines if line.split()[4] == str(pid)]


def test_the_server_is_as_durable_as_it_is_by_default(server: Server) -> None:
    """What survives here survives where nobody tuned the server for tests."""
    names = ("fsync", "full_page_writes", "synchronous_commit", "data_checksums")
    assert _shown(server.url(), *names) == dict.fromkeys(names, "on")


def test_a_test_may_set_the_server_up_anew_and_leaves_no_trace_of_it(server: Server) -> None:
    """Settings are asked for at a start, hold until the next one, and the URL stays."""
    before = server.url()
    server.restart(synchronous_commit="off", max_connections="20")
    assert _shown(before, "synchronous_commit", "max_connections") == {"synchronous_commit": "off", "max_connections": "20"}
    server.settle()
    assert server.url() == before
    assert _shown(before, "synchronous_commit", "max_connections") == {"synchronous_commit": "on", "max_connections": "60"}


def test_a_setting_that_the_server_refuses_is_told_in_its_own_words(server: Server) -> None:
    """A server that does not start is waited for no longer than it lives."""
    server.stop()
    with pytest.raises(RuntimeError, match='unrecognized configuration parameter "nonsense"'):
        server.start(nonsense="1")


def test_a_killed_server_keeps_what_was_committed_and_nothing_else(server: Server, postgres_url: str) -> None:
    """The ground on which every test of a crash stands."""
    with closing(connected(postgres_url)) as one, closing(connected(postgres_url)) as other:
        one.execute("CREATE TABLE kept (number integer)")
        one.execute("INSERT INTO kept VALUES (1)")
        other.execute("BEGIN")
        other.execute("INSERT INTO kept VALUES (2)")
        server.kill()
        with pytest.raises(psycopg.OperationalError, match="closed the connection unexpectedly"):
            one.execute("SELECT 1")
    server.start()
    with connected(postgres_url) as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(1,)]
    assert "was not properly shut down" in server.log.read_text(encoding="utf-8")


def test_a_killed_server_leaves_no_process_and_no_memory_behind(server: Server, postgres_url: str) -> None:
    """A session of a server that is gone could still write; a thousand killed servers would use up what a system has."""
    with connected(postgres_url) as connection:
        pids = [server.pid, *_children(server.pid)]
        assert connection.info.backend_pid in pids
        assert _segments(pids[0])
        server.kill()
        assert [pid for pid in pids if _lives(pid)] == []
        assert _segments(pids[0]) == []


def test_a_server_dies_with_the_process_that_started_it() -> None:
    """A test run that is killed leaves no server, no port and no folder."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid, port, folder = parent.stdout.readline().split()
        server = os.pidfd_open(int(pid))
        parent.kill()
        assert select.select([server], [], [], postgres.SECONDS_MAX)[0], "the server lives on"
        os.close(server)
        parent.communicate(timeout=postgres.SECONDS_MAX)  # its stderr is open for as long as the guard lives
    assert not Path(folder).exists()
    assert _segments(int(pid)) == []
    with socket.socket() as tried:
        assert tried.connect_ex(("127.0.0.1", int(port))) != 0


def test_a_database_is_empty_and_of_one_test_alone(postgres_server: Postgres) -> None:
    """Two at a time are two; one that comes back is empty, whatever was done to it and whoever is still there."""
    first, second = postgres_server.fresh_database(), postgres_server.fresh_database()
    with connected(first) as left_behind:
        left_behind.execute("CREATE SCHEMA other CREATE TABLE table_there (number serial PRIMARY KEY)")
        left_behind.execute("CREATE TABLE table_here (number serial PRIMARY KEY)")
        left_behind.execute("CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
        left_behind.execute("BEGIN")
        left_behind.execute("LOCK TABLE table_here")
        assert (_tables(first), _tables(second)) == (2, 0)
        postgres_server.give_back(first)
        with pytest.raises(psycopg.OperationalError):
            left_behind.execute("SELECT 1")
    assert postgres_server.fresh_database() == first
    assert _tables(first) == 0
    for url in (first, second):
        postgres_server.drop(url)


@pytest.mark.parametrize("change", [
    "SELECT lo_create(0)",
    "CREATE PUBLICATION told",
    "ALTER DATABASE {} SET work_mem = '1MB'",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
])
def test_a_database_that_does_not_get_empty_is_not_used_again(postgres_server: Postgres, change: str) -> None:
    """What belongs to no schema goes with the database."""
    url = postgres_server.fresh_database()
    with connected(url) as connection:
        connection.execute(change.format(connection.info.dbname).encode())
    postgres_server.give_back(url)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        connected(url)


def test_the_owner_of_a_database_is_no_administrator(server: Server, postgres_url: str) -> None:
    """The program is not to need more rights than it will have."""
    with connected(postgres_url) as connection:
        assert _one(connection, "SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles "
                                "WHERE rolname = current_user") == "False"


def test_the_server_asks_for_the_password(server: Server) -> None:
    """So that a test can be refused."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connected(server.url(user="counterfoil", password="wrong"))


def test_a_server_of_somebody_else_is_used_and_left_as_it_was(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases are made and removed; it is not killed, and the test says why it did not go on."""
    monkeypatch.setenv(postgres.ELSEWHERE, server.url())
    with given() as elsewhere:
        assert isinstance(elsewhere, Elsewhere)
        url = elsewhere.fresh_database()
        assert _tables(url) == 0
        for refused in (elsewhere.kill, elsewhere.stop, elsewhere.restart, elsewhere.start):
            with pytest.raises(pytest.skip.Exception, match="names a server that is not ours: it cannot be"):
                refused()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        connected(url)
