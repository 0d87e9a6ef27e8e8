"""Databases by URL: which can be named, how one is reached, and what is said when it cannot be.

Why one place: source and sink reach the same databases; what a URL hides is hidden here, or nowhere.

Invariants:
- Nothing that is shown, raised or recorded from here holds a user, a password or a URL's options.
- A reader cannot write: SQLite files are opened read-only, PostgreSQL's transactions are read-only.
- A writer's transaction has the right to write from its beginning on SQLite; elsewhere rows are locked as they are read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from ledger.file_uri import file_uri

Access = Literal["read", "write", "make"]
"""`make` is `write` that makes a SQLite file where there is none."""

BUSY_SECONDS = 5.0
"""How long a writer waits for another one of a SQLite file before it gives up."""
CONNECT_SECONDS = 10
TEXT_CHARS_MAX = 2000

_EXPECTED = "expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
_SECRET_OPTIONS = frozenset({"password", "sslpassword"})


class Database:
    """One database. `shown` names it to people, `file` is a SQLite database's, `place` is the same for all its URLs."""

    def __init__(self, url: str) -> None:
        """Touches nothing outside. Raises ValueError for a URL that cannot be one, or whose driver is not installed."""
        self._url = _parsed(url)
        self.backend = self._url.get_backend_name()
        self.file = Path(url.partition(":///")[2]) if self.backend == "sqlite" else None
        port = self._url.port or 5432
        self.place = (self.backend, (self._url.host or "").lower(), str(port), self._url.database or "")
        self.shown = self._shown()

    def engine(self, access: Access) -> Engine:
        """A way to its connections; nothing is opened yet. The caller disposes of it."""
        if self.file is not None:
            return _sqlite_engine(self.file.absolute(), access)
        level = "REPEATABLE READ" if access == "read" else "READ COMMITTED"
        options = {} if "connect_timeout" in self._url.query else {"connect_timeout": CONNECT_SECONDS}
        return create_engine(self._url, pool_size=1, max_overflow=0, pool_pre_ping=True, hide_parameters=True,
                             isolation_level=level, connect_args=options).execution_options(
                                 postgresql_readonly=access == "read")

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Whatever the database or its driver says is an OSError that names the database, and no secret."""
        try:
            yield
        except SQLAlchemyError as error:
            raise OSError(f"{self.shown}: {self.text(error)}") from None

    def text(self, error: BaseException) -> str:
        """What an error says, on one line, bounded, without the password."""
        found = getattr(error, "orig", None) or error
        text = "; ".join(str(found).split("\n")).strip() or type(found).__name__
        password = self._url.password
        for secret in {password, quote(password, safe=""), quote(password, safe=" +")} if password else ():
            text = text.replace(secret, "***")
        return text[:TEXT_CHARS_MAX].encode("utf-8", "backslashreplace").decode()

    def _shown(self) -> str:
        if self.file is not None:
            return f"sqlite:///{self.file}"
        port = f":{self._url.port}" if self._url.port else ""
        host = self._url.host or ""
        return f"{self._url.drivername}://{f'[{host}]' if ':' in host else host}{port}/{self._url.database or ''}"


def blocks_writers(connection: Connection) -> bool:
    """Whether nobody can commit while something is being read here: so it is on SQLite without a write-ahead log."""
    if connection.dialect.name != "sqlite":
        return False
    return bool(connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal")


def _parsed(text: str) -> URL:
    """The URL, once it is known that it can be used. What is raised does not repeat it."""
    try:
        url = make_url(text)
        dialect = url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise ValueError(f"{_EXPECTED}, found a url of neither") from None
    except ImportError as error:
        raise ValueError(f"expected the driver {error.name} to be installed, found none") from None
    if dialect.name not in ("sqlite", "postgresql") or dialect.is_async:
        raise ValueError(f"{_EXPECTED}, found one of {dialect.name} by {dialect.driver}")
    try:
        dialect.import_dbapi()
    except ImportError as error:
        hint = ": install counterfoil[postgres]" if error.name == "psycopg" else ""
        raise ValueError(f"expected the driver {error.name} to be installed, found none{hint}") from None
    if dialect.name == "sqlite":
        _check_file(text, url)
    elif "@" in f"{url.host}{url.database}":
        raise ValueError("expected an @ or a / in user, password or name as %40 or %2F, found it as it is")
    elif _SECRET_OPTIONS & set(url.query):
        raise ValueError("expected a password before the host, found one among the options of the url")
    return url


def _check_file(text: str, url: URL) -> None:
    """A SQLite database has to be a file that is there after the run."""
    path = text.partition(":///")[2]
    if not path or path == ":memory:" or url.host or "\0" in path:
        raise ValueError("expected sqlite:///FILE, found no file")
    if "?" in text:
        raise ValueError("expected sqlite:///FILE, found options after it")


def _sqlite_engine(path: Path, access: Access) -> Engine:
    """Each connection is opened when it is needed and closed after it, so no lock outlives its transaction."""
    begin = "BEGIN" if access == "read" else "BEGIN IMMEDIATE"
    engine = create_engine("sqlite://", creator=_opener(path, access), poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def begin_at_once(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _opener(path: Path, access: Access) -> Callable[[], sqlite3.Connection]:
    """Opens the file. A reading may be ended by another thread than its own, though never in the middle of a call."""
    target = str(path) if access == "make" else file_uri(path, "ro" if access == "read" else "rw")

    def connect() -> sqlite3.Connection:
        raw = sqlite3.connect(target, uri=access != "make", isolation_level=None, timeout=BUSY_SECONDS,
                              check_same_thread=access != "read")
        try:
            if access == "read":
                raw.text_factory = _as_text
                raw.execute("PRAGMA query_only = ON")
            else:
                raw.execute("PRAGMA foreign_keys = ON")
                raw.execute("PRAGMA synchronous = EXTRA")  # FULL: power can bring back the journal of what was committed
        except sqlite3.Error:
            raw.close()
            raise
        return raw

    return connect


def _as_text(data: bytes) -> str:
    """A byte that is no text becomes a lone surrogate, so that it spoils one row and not the reading."""
    return data.decode("utf-8", "surrogateescape")
