"""A server that may forget, that is read-only, that refuses: each has its code, one line, a next step and no password."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import psycopg
import pytest
from sqlalchemy.engine import make_url

from ledger.errors import CounterfoilError, LedgerUnavailable, UsageError
from ledger.postgres_session import Patience, Session
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from tests.kit.postgres import Postgres
from tests.kit.postgres_databases import connected
from tests.ledger.appending import part

SECRET = "Xs3cret-pä$$wörd"


def _opened(url: str) -> None:
    PostgresStore(parsed(url), write=True).close()


def _refused(act: Callable[[], object], secret: str = SECRET) -> CounterfoilError:
    """What is said; in one line, with a next step, and the password in nothing that can be printed of it."""
    with pytest.raises(CounterfoilError) as told:
        act()
    error = told.value
    assert "\n" not in str(error) and error.next_step and error.where
    assert secret not in "".join(traceback.format_exception(error))
    chain: BaseException | None = error
    while chain is not None:
        assert secret not in f"{chain} {chain!r} {chain.args} {chain.__dict__}"
        chain = chain.__cause__ or chain.__context__
    return error


@contextmanager
def _changed(server: Postgres, change: str, back: str) -> Iterator[None]:
    """What the administrator has set, until the block ends."""
    with connected(server.url()) as administrator:
        administrator.execute(change.encode())
        try:
            yield
        finally:
            administrator.execute(back.encode())


def _name(url: str) -> str:
    return make_url(url).database or ""


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_a_server_that_may_forget_is_not_written_to(postgres_server: Postgres, log_url: str, name: str) -> None:
    """W6: what it acknowledges may be gone or torn after a power cut; it can be read."""
    postgres_server.restart(**{name: "off"})
    error = _refused(lambda: _opened(log_url))
    assert error.code == "LEDGER_UNSAFE" and error.exit_code == 6
    assert f"expected {name} to be on, found off" in str(error) and f"set {name} = on on the server" in error.next_step
    with closing(PostgresStore(parsed(log_url), write=False)) as reading:
        assert reading.heads() == []


def test_a_server_that_turned_unsafe_while_it_was_away_is_not_written_to(postgres_server: Postgres, log_url: str) -> None:
    """W6: it is asked again on each connection."""
    with closing(PostgresStore(parsed(log_url), write=True)) as store:
        store.append([part("r", None, 2)])
        postgres_server.restart(fsync="off")
        assert _refused(lambda: store.append([part("r", 2, 3)])).code == "LEDGER_UNSAFE"
        postgres_server.restart()
        store.append([part("r", 2, 3)])
        assert [stored.seq for stored in store.read("r")] == [1, 2, 3]


@pytest.mark.parametrize("change", ["ALTER DATABASE {} SET synchronous_commit = off",
                                    "ALTER ROLE counterfoil IN DATABASE {} SET synchronous_commit = local"])
def test_a_session_that_writes_waits_for_the_disk_whatever_the_database_says(
    postgres_server: Postgres, log_url: str, change: str
) -> None:
    """W6: set for the database, or for the role in it: the session sets it on itself, and reads it back."""
    with connected(postgres_server.url()) as administrator:
        administrator.execute(change.format(_name(log_url)).encode())
    with connected(log_url) as plain:
        assert plain.execute("SHOW synchronous_commit").fetchone() in [("off",), ("local",)]
    with closing(Session(parsed(log_url), write=True, search_path="counterfoil")) as session:
        for _ in range(2):
            assert session.raw.execute("SHOW synchronous_commit").fetchone() == ("on",)
            session.reopen()


def test_a_session_is_the_same_whatever_is_set_for_people(postgres_server: Postgres, log_url: str) -> None:
    """W6: how dates are written, and how long one may be away, is for those who type; a cut is found out all the same."""
    with connected(postgres_server.url()) as administrator:
        for setting in ("datestyle = 'German'", "idle_session_timeout = '1s'", "idle_in_transaction_session_timeout = '1s'"):
            administrator.execute(f"ALTER DATABASE {_name(log_url)} SET {setting}".encode())
    with closing(Session(parsed(log_url), write=True, search_path="counterfoil")) as session:
        session.lock(1, LedgerUnavailable("RUN_HELD", "held", where="here", next_step="wait"))
        for _ in range(2):
            assert session.raw.execute("SHOW datestyle").fetchone() == ("German, DMY",)
            assert session.raw.execute("SHOW idle_session_timeout").fetchone() == ("0",)
            assert session.raw.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("0",)
            session.reopen()


def test_a_database_that_is_read_only_is_said_to_be(postgres_server: Postgres, log_url: str) -> None:
    """W6: at the start, not at the first append; and when it became so later, then."""
    setting = f"ALTER DATABASE {_name(log_url)} SET default_transaction_read_only ="
    with closing(PostgresStore(parsed(log_url), write=True)) as store, connected(log_url) as other, \
            _changed(postgres_server, f"{setting} on", f"{setting} off"):
        assert _refused(lambda: _opened(log_url)).code == "LEDGER_READ_ONLY"
        other.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() "
                      "AND application_name LIKE 'counterfoil %'")
        assert _refused(lambda: store.append([part("r", None, 1)])).code == "LEDGER_READ_ONLY"


def test_guards_that_are_switched_off_for_a_role_are_noticed(postgres_server: Postgres, log_url: str) -> None:
    """W6: as a replica the server runs no trigger."""
    with connected(postgres_server.url()) as administrator:
        administrator.execute(
            f"ALTER ROLE counterfoil IN DATABASE {_name(log_url)} SET session_replication_role = replica".encode())
    error = _refused(lambda: _opened(log_url))
    assert error.code == "LEDGER_UNSAFE" and "session_replication_role to be origin, found replica" in str(error)


def test_a_database_of_another_encoding_is_not_written_to(postgres_server: Postgres) -> None:
    """W6: it could not hold every text."""
    name = "counterfoil_test_ascii"
    with _changed(postgres_server, f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 STRATEGY wal_log",
                  f"DROP DATABASE {name}"):
        error = _refused(lambda: _opened(postgres_server.url(name)))
    assert error.code == "LEDGER_UNSAFE" and "expected server_encoding to be UTF8, found SQL_ASCII" in str(error)


def test_who_may_not_connect_is_told_why(postgres_server: Postgres, log_url: str) -> None:
    """W6: wrong password, none, unknown role, no such database, a role that may not log in, one that may not connect."""
    url, name = make_url(log_url), _name(log_url)

    def code(user: str | None = None, password: str | None = SECRET, database: str = name) -> str:
        asked = url.set(database=database)
        if user is not None or password != SECRET:
            asked = asked.set(username=user or url.username, password=password)
        return _refused(lambda: _opened(asked.render_as_string(hide_password=False)), password or SECRET).code

    assert code(user="counterfoil") == "LEDGER_DENIED"
    assert code(user="nobody_of_that_name") == "LEDGER_DENIED"
    assert _refused(lambda: _opened(url.set(password=None).render_as_string())).code == "LEDGER_DENIED"
    assert code(database="counterfoil_test_none") == "LEDGER_MISSING"
    with _changed(postgres_server, f"CREATE ROLE shut NOLOGIN PASSWORD '{SECRET}'", "DROP ROLE shut"):
        assert code(user="shut") == "LEDGER_DENIED"
    with _changed(postgres_server, f"CREATE ROLE far LOGIN PASSWORD '{SECRET}'", "DROP ROLE far"), \
            _changed(postgres_server, f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
                     f"GRANT CONNECT, TEMPORARY ON DATABASE {name} TO PUBLIC"):
        assert code(user="far") == "LEDGER_DENIED"


def test_a_role_that_lacks_rights_is_told_so(postgres_server: Postgres, log_url: str) -> None:
    """W6: a reader reads and writes nothing; one without any right does not find a log."""
    asked = make_url(log_url).set(username="looks", password=SECRET).render_as_string(hide_password=False)
    with _changed(postgres_server, f"CREATE ROLE looks LOGIN PASSWORD '{SECRET}'", "DROP ROLE looks"), \
            connected(log_url) as owner:
        with closing(PostgresStore(parsed(asked), write=False)) as store:
            assert _refused(store.heads).code == "LEDGER_FOREIGN"
            owner.execute("GRANT USAGE ON SCHEMA counterfoil TO looks")
            assert _refused(store.heads).code == "LEDGER_DENIED"
            owner.execute("GRANT SELECT ON ALL TABLES IN SCHEMA counterfoil TO looks")
            assert store.heads() == [] and store.guards() == []
            assert _refused(lambda: store.append([part("r", None, 1)])).code == "LEDGER_DENIED"
            assert store.heads() == []
        owner.execute("REVOKE ALL ON ALL TABLES IN SCHEMA counterfoil FROM looks")
        owner.execute("REVOKE ALL ON SCHEMA counterfoil FROM looks")


def test_a_database_without_a_log_is_said_to_be_none(postgres_url: str) -> None:
    """W6: no schema, or another's tables."""
    with closing(PostgresStore(parsed(postgres_url), write=True)) as store:
        assert _refused(store.heads).code == "LEDGER_FOREIGN"
        assert _refused(store.guards).code == "LEDGER_MISSING"
        with connected(postgres_url) as owner:
            owner.execute("CREATE SCHEMA counterfoil CREATE TABLE streams (number integer)")
        assert _refused(store.heads).code == "LEDGER_SCHEMA"


@pytest.mark.parametrize("where", ["127.0.0.1:1", "[::1]:1", "no-such-host.invalid:5432"])
def test_no_server_is_said_to_be_none(where: str) -> None:
    """W6: nobody listens there, or nobody knows the name."""
    error = _refused(lambda: _opened(f"postgresql://counterfoil:{SECRET}@{where}/db"))
    assert error.code == "LEDGER_UNREACHABLE" and error.exit_code == 6


def test_a_server_that_is_full_says_so(postgres_server: Postgres, log_url: str) -> None:
    """W6: all its connections, those for everyone, a database's, a role's."""
    for limited in (f"ALTER DATABASE {_name(log_url)} CONNECTION LIMIT", "ALTER ROLE counterfoil CONNECTION LIMIT"):
        with _changed(postgres_server, f"{limited} 0", f"{limited} -1"):
            assert _refused(lambda: _opened(log_url)).code == "LEDGER_BUSY"
    for reserved in ("0", "2"):
        postgres_server.restart(max_connections="4", superuser_reserved_connections=reserved)
        with ExitStack() as stack:
            for _ in range(4 - int(reserved)):
                stack.enter_context(closing(connected(log_url)))
            assert _refused(lambda: _opened(log_url)).code == "LEDGER_BUSY"


def test_a_server_that_is_full_for_a_while_is_waited_for(postgres_server: Postgres, log_url: str) -> None:
    """W6: a server that has just restarted is asked by everyone at once."""
    limit = f"ALTER DATABASE {_name(log_url)} CONNECTION LIMIT "
    pauses: list[float] = []
    with connected(postgres_server.url()) as administrator:
        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                administrator.execute((limit + "-1").encode())

        patience = Patience(now=lambda: 0.0, pause=pause)
        with closing(PostgresStore(parsed(log_url), write=True, patience=patience)) as store:
            store.append([part("r", None, 1)])
            administrator.execute((limit + "0").encode())
            administrator.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                                  (_name(log_url),))
            store.append([part("r", 1, 2)])
            assert len(pauses) == 3 and [stored.seq for stored in store.read("r")] == [1, 2]


@pytest.mark.parametrize("doing", ["SELECT 1", "BEGIN"])
def test_a_session_that_the_server_ends_for_being_idle_was_cut(log_url: str, doing: str) -> None:
    """W6: an administrator's limits are no end of a run: what the server says before it hangs up is no answer."""
    with closing(Session(parsed(log_url), write=True, search_path="counterfoil")) as session, connected(log_url) as other:
        other.execute("SET statement_timeout = '60s'")
        session.raw.execute(doing.encode())
        session.raw.execute("SET idle_session_timeout = 1; SET idle_in_transaction_session_timeout = 1")
        other.execute(UNTIL_ALONE)
        with pytest.raises(psycopg.Error) as told:
            session.raw.execute("SELECT 1")
        assert session.is_cut(told.value)
        session.reopen()
        session.raw.execute("SELECT 1")


def test_what_the_driver_says_by_itself_of_a_connection_is_a_cut(log_url: str) -> None:
    """W6: of a socket that was closed it may say so and not know it afterwards; what it says of a value is none."""
    with closing(Session(parsed(log_url), write=True, search_path="counterfoil")) as session:
        assert session.is_cut(psycopg.OperationalError("connection socket closed")) and not session.raw.closed
        with pytest.raises(psycopg.DataError) as told:
            session.raw.execute("SELECT %s", ("\0",))
        assert not session.is_cut(told.value)
        with pytest.raises(psycopg.errors.DivisionByZero) as answered:
            session.raw.execute("SELECT 1 / 0")
        assert not session.is_cut(answered.value)
        session.raw.close()
        assert session.is_cut(told.value), "whatever was said, nobody answers any more"


UNTIL_ALONE = """
    DO $$ BEGIN
        WHILE (SELECT count(*) > 1 FROM pg_stat_activity WHERE datname = current_database())
        LOOP PERFORM pg_sleep(0.005), pg_stat_clear_snapshot(); END LOOP;
    END $$"""


@pytest.mark.parametrize("option", ["foo=bar", "client_encoding=latin1", "conninfo=x", "sslmode=nonsense",
                                    "connect_timeout=abc", "channel_binding=nonsense"])
def test_options_that_nobody_knows_are_no_fault_of_the_network(log_url: str, option: str) -> None:
    """W6: what stands after the `?` is libpq's, and what it does not take is said at once; texts are UTF-8 in any case."""
    if option.startswith("client_encoding"):
        with closing(Session(parsed(f"{log_url}?{option}"), write=True, search_path="counterfoil")) as session:
            assert session.raw.execute("SHOW client_encoding").fetchone() == ("UTF8",)
        return
    error = _refused(lambda: _opened(f"{log_url}?{option}"), make_url(log_url).password or SECRET)
    assert isinstance(error, UsageError) and error.code == "LEDGER_URL_INVALID"


def test_a_statement_that_the_server_gives_up_is_said_to_be_that(postgres_server: Postgres, log_url: str) -> None:
    """W6: a limit on statements is not the log's fault, and nothing of the append is there."""
    with connected(postgres_server.url()) as administrator:
        administrator.execute(f"ALTER DATABASE {_name(log_url)} SET statement_timeout = '100ms'".encode())
    with closing(PostgresStore(parsed(log_url), write=True)) as store, closing(connected(log_url)) as other:
        store.append([part("r", None, 1)])
        other.execute("BEGIN")
        other.execute("SELECT FROM counterfoil.streams FOR UPDATE")
        error = _refused(lambda: store.append([part("r", 1, 2)]))
        assert error.code == "LEDGER_BUSY" and "raise statement_timeout" in error.next_step
        other.execute("ROLLBACK")
        store.append([part("r", 1, 2)])
        assert isinstance(error, LedgerUnavailable) and [stored.seq for stored in store.read("r")] == [1, 2]


@pytest.mark.parametrize("schema", ["", "pg_own", "Upper", "a-b", "a" * 41, "information_schema;", "a_read", "a_read_1",
                                    "a_read_new", "a_read_compared", "_read"])
def test_a_schema_that_cannot_be_ours_is_refused_by_its_url(schema: str) -> None:
    """W6: nothing is taken for the default that was given; the server's own names are not for us, nor those of schemas that
    are dropped as somebody's old read tables."""
    with pytest.raises(UsageError, match="LEDGER_URL_INVALID"):
        parsed(f"postgresql://host/db?schema={schema}")
