"""A connection to PostgreSQL that is opened again when it was cut off: for a while, and then no more.

Why: a server that restarts, and a network that drops a connection, are no end of a run. What a cut leaves unknown (whether
a commit arrived) is for the caller to find out; this file only says that there was a cut.

Invariants: a session that writes has `synchronous_commit` on and a server with `fsync` and `full_page_writes`, or it is not
opened; after a cut the server's old end of the connection is ended before anything is asked on the new one, where the role
may do so; the locks that were held are taken again; waiting has an end.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from ledger.errors import CounterfoilError, LedgerUnavailable, UsageError
from ledger.postgres_url import PostgresUrl

if TYPE_CHECKING:
    from psycopg import Connection, Error

SERVER_VERSION_MIN = 140_000
LOCK_SECONDS_MAX = 60


class Patience(NamedTuple):
    """How long a server is waited for that cannot be reached: `seconds` in all, `pause_seconds` between two attempts."""

    seconds: float = 30.0
    pause_seconds: float = 0.2
    now: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


PATIENCE = Patience()

MEMBER = "CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END"
"""The privilege on a role by which one may take it. Since PostgreSQL 16 a member may lack it."""


class Session:
    """One connection, opened at once. `write` insists on a server that keeps what it acknowledges."""

    def __init__(self, url: PostgresUrl, *, write: bool, search_path: str, patience: Patience = PATIENCE) -> None:
        self.url = url
        self.write = write
        self.patience = patience
        self.schema_path = search_path
        self._locks: dict[int, LedgerUnavailable] = {}
        self._backend: tuple[int, object] | None = None
        self._closed = False
        self._in_vain = False
        self._connection = self._open()

    @property
    def raw(self) -> Connection:
        """The connection as it is: perhaps cut off."""
        return self._connection

    def reopen(self) -> None:
        """A new connection in place of one that was cut off. Raises `LedgerUnavailable` (LEDGER_UNREACHABLE) in the end.

        Who has waited in vain waits no second time: until the server is back, it is looked for once.
        """
        if self._closed:
            raise RuntimeError("the session was closed")
        until = self.patience.now() + (0.0 if self._in_vain else self.patience.seconds)
        while True:
            self._connection.close()  # also one that was opened here and cut off while the locks were taken
            try:
                self._connection = self._open()
                self._retake()
                self._in_vain = False
                return
            except LedgerUnavailable as error:
                if error.code not in _PASSING:
                    raise
                if self.patience.now() >= until:
                    self._in_vain = True
                    raise
                self.patience.pause(self.patience.pause_seconds)

    def lock(self, key: int, refusal: LedgerUnavailable, *, wait: bool = False) -> None:
        """Hold an advisory lock until `unlock` or `close`, beyond cuts. Where another has it, wait or raise `refusal`.

        One that is held already is held once.
        """
        if key in self._locks:
            return
        from psycopg import Error

        try:
            if wait:
                self._connection.execute("SET lock_timeout = 0")
                self._connection.execute("SELECT pg_advisory_lock(%s)", (key,))
                self._connection.execute(f"SET lock_timeout = '{LOCK_SECONDS_MAX}s'")
            elif not _scalar(self._connection, "SELECT pg_try_advisory_lock(%s)", (key,)):
                raise refusal
        except Error as error:
            if not wait and self.is_cut(error):
                self._locks[key] = refusal  # the end that was cut off may have it: `reopen` takes it, and waits for that one
            raise
        self._locks[key] = refusal

    def unlock(self, key: int) -> None:
        """Let go of a lock; where the connection was cut off, it is free already."""
        from psycopg import Error

        if self._locks.pop(key, None) is None or self._connection.closed:
            return
        try:
            self._connection.execute("SELECT pg_advisory_unlock(%s)", (key,))
        except Error as error:
            if not self.is_cut(error):
                raise

    def close(self) -> None:
        """Let go of the locks, whoever took them on it, and the connection: who is told afterwards finds the locks free."""
        from psycopg import Error
        from psycopg.pq import TransactionStatus

        self._closed = True
        if self._connection.info.transaction_status == TransactionStatus.IDLE:
            with suppress(Error):  # what is cut off already holds none
                self._connection.execute("SELECT pg_advisory_unlock_all()")
        self._locks.clear()
        self._connection.close()

    def is_cut(self, error: Error) -> bool:
        """Whether an error says that the connection is gone, so that nobody knows what became of the last statement."""
        from psycopg import OperationalError

        if error.sqlstate is None:  # the driver's own word: of a socket that is gone it does not always say so itself
            return isinstance(error, OperationalError) or bool(self._connection.closed)
        ended = error.diag.severity_nonlocalized in ("FATAL", "PANIC")  # which the server says before it hangs up
        return ended or error.sqlstate.startswith("08")

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Whatever the server or its driver says is a `LedgerUnavailable`."""
        from psycopg import Error

        try:
            yield
        except Error as error:
            raise unavailable(error, self.url) from error

    def _open(self) -> Connection:
        connection = connect(self.url)
        try:
            self._end_old(connection)
            connection.execute(_UNHURRIED)
            connection.execute(f"SET search_path TO {self.schema_path}")
            connection.execute(f"SET lock_timeout = '{LOCK_SECONDS_MAX}s'")
            if self.write:
                _insist(connection, self.url)
            self._backend = _backend(connection)
        except CounterfoilError:
            connection.close()
            raise
        except Exception as error:
            connection.close()
            from psycopg import Error

            if isinstance(error, Error):
                raise unavailable(error, self.url) from error
            raise
        return connection

    def _end_old(self, connection: Connection) -> None:
        """End the server's end of a connection that was cut off: then its transaction is decided and its locks are free."""
        from psycopg.errors import InsufficientPrivilege

        if self._backend is not None:
            with suppress(InsufficientPrivilege):
                connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid = %s AND "
                                   "extract(epoch FROM backend_start) = %s", self._backend)

    def _retake(self) -> None:
        with self.faults():
            for key, refusal in self._locks.items():
                if not _scalar(self._connection, "SELECT pg_try_advisory_lock(%s)", (key,)):
                    self._connection.close()
                    raise refusal


def connect(url: PostgresUrl) -> Connection:
    """A connection that commits each statement by itself. Raises `LedgerUnavailable`, `UsageError` without the driver."""
    try:
        import psycopg
        from psycopg import conninfo
    except ImportError:
        raise UsageError("LEDGER_UNSUPPORTED", "expected the driver psycopg for a ledger on PostgreSQL, found none",
                         where="--ledger", next_step="install counterfoil[postgres], or name a file") from None
    given = {**_CONNECTION, "application_name": f"counterfoil {socket.gethostname()}:{os.getpid()}", **url.parameters,
             "client_encoding": "utf-8"}
    try:
        connection = psycopg.connect(conninfo.make_conninfo("", **given), autocommit=True)
    except psycopg.Error as error:
        if isinstance(error, psycopg.ProgrammingError) or _INVALID.search(str(error)):
            raise UsageError("LEDGER_URL_INVALID", f"expected options of libpq, found: {_words(error, url)}",
                             where="--ledger", next_step="correct what stands after the `?`") from None
        raise unavailable(error, url) from None
    except (UnicodeError, ValueError) as error:
        raise LedgerUnavailable("LEDGER_UNREACHABLE", f"expected a server to connect to, found {type(error).__name__}",
                                where=url.shown, next_step="check the URL") from None
    try:
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    except psycopg.Error as error:  # it was cut off again at once
        connection.close()
        raise unavailable(error, url) from None
    return connection


def lock_key(url: PostgresUrl, what: str) -> int:
    """The number of an advisory lock: the same for everybody who means the same thing of the same ledger."""
    return int.from_bytes(sha256(f"counterfoil/{url.schema}/{what}".encode()).digest()[:8], signed=True)


def _insist(connection: Connection, url: PostgresUrl) -> None:
    """A server that may forget what it acknowledged, or cannot be written, is not written to."""
    connection.execute("SET synchronous_commit = on")
    asked = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
    for name, found in connection.execute(asked, (list(_SAFE),)).fetchall():
        safe = _SAFE[name]
        if found not in safe:
            raise LedgerUnavailable("LEDGER_UNSAFE", f"expected {name} to be {safe[0]}, found {found}",
                                    where=url.shown, next_step=f"set {name} = {safe[0]} on the server")
    if connection.info.server_version < SERVER_VERSION_MIN:
        raise LedgerUnavailable("LEDGER_UNSAFE", f"expected PostgreSQL {SERVER_VERSION_MIN // 10_000} or later, found "
                                f"{connection.info.server_version // 10_000}", where=url.shown,
                                next_step="upgrade the server")
    if _scalar(connection, "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool", ()):
        raise LedgerUnavailable("LEDGER_READ_ONLY", "expected a server that can be written, found one that is read-only",
                                where=url.shown, next_step="connect to the primary")


def _backend(connection: Connection) -> tuple[int, object]:
    """The server's process, and when it started: a number, for a date is written as the role's settings say."""
    found = connection.execute("SELECT pid, extract(epoch FROM backend_start) FROM pg_stat_activity "
                               "WHERE pid = pg_backend_pid()").fetchone()
    return (int(found[0]), found[1]) if found else (0, None)


def _scalar(connection: Connection, statement: str, values: tuple[object, ...]) -> object:
    row = connection.execute(statement, values).fetchone()
    return row[0] if row else None


def unavailable(error: Error, url: PostgresUrl) -> LedgerUnavailable:
    """The server's own words as a typed error with a next step, without the password."""
    text = _words(error, url)
    signs = _STATES if error.sqlstate else _TEXTS
    state = error.sqlstate or text
    for sign, code, step in signs:
        if (state.startswith(sign) if error.sqlstate else sign in state):
            return LedgerUnavailable(code, f"expected PostgreSQL to answer, found: {text[:400]}", where=url.shown,
                                     next_step=step)
    return LedgerUnavailable("LEDGER_FAULT", f"expected PostgreSQL to do as asked, found: {text[:400]}", where=url.shown,
                             next_step="see the server's log")


def _words(error: Error, url: PostgresUrl) -> str:
    """What an error says, on one line, without the password; of a short one, which words may hold, where it stands alone."""
    text = " ".join(str(error).split()) or type(error).__name__
    password = url.parameters.get("password")
    if not password:
        return text
    whole = re.escape(password)
    return re.sub(whole if len(password) >= SECRET_CHARS_MIN else rf"(?<!\w){whole}(?!\w)", "***", text)


_UNHURRIED = """
    SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN (
    'idle_session_timeout', 'idle_in_transaction_session_timeout')"""
"""What an administrator set for people who go away is not for a session that holds a run, or a rebuild's lock, for hours."""

SECRET_CHARS_MIN = 8

_CONNECTION = {"connect_timeout": "10", "keepalives_idle": "15", "keepalives_interval": "5", "keepalives_count": "4",
               "tcp_user_timeout": "45000"}
"""A network that has gone is noticed within a minute, unless the URL says otherwise (seconds; milliseconds for the last)."""

_INVALID = re.compile(r"connection is bad: (invalid \w+ value|could not parse network address)")
"""What libpq says of an option that it knows and cannot use."""

_SAFE = {"fsync": ("on",), "full_page_writes": ("on",), "synchronous_commit": ("on", "remote_apply"),
         "session_replication_role": ("origin",), "server_encoding": ("UTF8",)}
"""What a server has to be set to before it is written to; `synchronous_commit` as this session reads it back."""

_PASSING = frozenset({"LEDGER_UNREACHABLE", "LEDGER_BUSY", "RUN_HELD"})
"""What may pass while a server restarts, or while it has not noticed yet that a connection is gone."""

_UNREACHABLE = ("LEDGER_UNREACHABLE", "start the server or mend the network, then resume the run")

_TEXTS = (
    ("too many c", "LEDGER_BUSY", "the server has no connection left: wait, or raise its limit"),
    ("remaining connection slots", "LEDGER_BUSY", "the server has no connection left: wait, or raise its limit"),
    ("password authentication failed", "LEDGER_DENIED", "check user and password"),
    ("no password supplied", "LEDGER_DENIED", "write the password into the URL, or into ~/.pgpass"),
    ("no pg_hba.conf entry", "LEDGER_DENIED", "let this host connect (pg_hba.conf)"),
    ("permission denied", "LEDGER_DENIED", "grant the right to connect"),
    ("database \"", "LEDGER_MISSING", "make the database, or name another one"),
    ("role \"", "LEDGER_DENIED", "check the user"),
    ("", *_UNREACHABLE),
)
"""What a connection that failed says, for then there is no SQLSTATE."""

_STATES = (
    ("28", "LEDGER_DENIED", "check user and password"),
    ("3D", "LEDGER_MISSING", "make the database, or name another one"),
    ("3F", "LEDGER_MISSING", "`counterfoil db upgrade` makes a ledger"),
    ("42501", "LEDGER_DENIED", "grant the role of a writer or a reader (docs/postgresql.md)"),
    ("42P01", "LEDGER_FOREIGN", "name another database or schema; `counterfoil db upgrade` makes a ledger"),
    ("42703", "LEDGER_SCHEMA", "run `counterfoil db check`"),
    ("25006", "LEDGER_READ_ONLY", "connect to a server that can be written"),
    ("53100", "LEDGER_FULL", "free some space on the server, then resume the run"),
    ("53300", "LEDGER_BUSY", "the server has no connection left: wait, or raise its limit"),
    ("40", "LEDGER_BUSY", "another session was in the way: do it again"),
    ("55P03", "LEDGER_BUSY", "another session holds a lock: wait for it"),
    ("57014", "LEDGER_BUSY", "the server gave the statement up: raise statement_timeout for this role, then resume the run"),
    ("57P", *_UNREACHABLE),
    ("08", *_UNREACHABLE),
    ("58", "LEDGER_IO", "mend the server's disk, then resume the run"),
    ("XX", "LEDGER_DAMAGED", "see the server's log; `counterfoil verify` says what holds"),
)
"""SQLSTATE classes and codes (PostgreSQL manual, appendix A)."""
