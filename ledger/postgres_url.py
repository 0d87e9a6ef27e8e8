"""Which PostgreSQL database a ledger is kept in, and under which schema.

`postgresql+psycopg://USER:PASSWORD@HOST:PORT/NAME?schema=SCHEMA`; also `postgresql://` and `postgres://`. What other options
stand after the `?` are libpq's own (`sslmode`, `connect_timeout`, …).

Invariants: the log lies in `schema` (default `counterfoil`), each generation of read tables in a schema of its own whose
name begins with it; a password is never shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ledger.errors import UsageError

SCHEMES = ("postgresql+psycopg", "postgresql", "postgres")
SCHEMA = "counterfoil"
SCHEMA_CHARS_MAX = 40
"""A schema's name, so that what is derived from it stays within PostgreSQL's 63 bytes."""

_NAME = re.compile(rf"(?!pg_)[a-z_][a-z0-9_]{{0,{SCHEMA_CHARS_MAX - 1}}}")
_OF_READ_TABLES = re.compile(r".*_read(_new|_compared|_[0-9]+)?")
"""What `projections.postgres_shelf` calls the schemas of a ledger's read tables, which it makes and drops."""
_EMPTY = re.compile(r"[?&]schema=(&|$)")
_EXPECTED = "postgresql+psycopg://USER:PASSWORD@HOST/NAME"


class PostgresUrl(NamedTuple):
    """A database and a schema in it. `parameters` are libpq's."""

    parameters: Mapping[str, str]
    schema: str
    shown: str

    def __repr__(self) -> str:
        return f"PostgresUrl({self.shown!r})"

    def sqlalchemy(self) -> str:
        """The same for SQLAlchemy, password included: never to be shown."""
        given = dict(self.parameters)
        user, password = quote(given.pop("user", ""), safe=""), quote(given.pop("password", ""), safe="")
        host, port = given.pop("host", ""), given.pop("port", "")
        name = quote(given.pop("dbname", ""), safe="")
        options = "&".join(f"{key}={quote(value, safe='')}" for key, value in given.items())
        where = f"[{host}]" if ":" in host else host
        access = f"{user}:{password}@" if password else f"{user}@" if user else ""
        return f"postgresql+psycopg://{access}{where}{f':{port}' if port else ''}/{name}{f'?{options}' if options else ''}"


def is_postgres(url: str) -> bool:
    """Whether a URL is meant to name a PostgreSQL database."""
    return url.partition("://")[0].lower() in SCHEMES and "://" in url


def parsed(url: str) -> PostgresUrl:
    """The parts of a URL. Raises `UsageError` (LEDGER_URL_INVALID) without repeating it."""
    try:
        found = make_url(url)
        port = found.port
    except (ArgumentError, ValueError):
        raise _invalid("something else") from None
    if not found.database:
        raise _invalid("no database")
    if "\0" in unquote(url):
        raise _invalid("a NUL character, at which libpq stops reading")
    options = {key: value if isinstance(value, str) else value[-1] for key, value in found.query.items()}
    schema = "" if _EMPTY.search(url) else options.pop("schema", SCHEMA)
    if not _NAME.fullmatch(schema):
        raise _invalid("a schema that is no plain lower-case name of ours (pg_… is the server's)")
    if _OF_READ_TABLES.fullmatch(schema):
        raise _invalid("a schema that is named like those of read tables (…_read, …_read_1, …_read_new)",
                       "choose another name; a schema that has this one can be renamed: ALTER SCHEMA … RENAME TO …")
    if "dbname" in options:
        raise _invalid("a second database among the options")
    if "password" in options:
        raise _invalid("a password among the options")
    if "conninfo" in options:
        raise _invalid("an option that is none of libpq's")
    parameters = {"dbname": found.database, **options}
    named = {"host": found.host, "port": str(port) if port else None, "user": found.username,
             "password": str(found.password) if found.password else None}
    parameters.update({key: value for key, value in named.items() if value})
    host = found.host or options.get("host", "")
    shown = "".join(letter if letter.isprintable() else "?" for letter in host)
    where = f"{f'[{shown}]' if ':' in shown else shown}{f':{port}' if port else ''}"
    return PostgresUrl(parameters, schema, f"postgresql://{where}/{quote(found.database)}?schema={schema}")


_STEP = "write an @ or a / in user, password or name as %40 or %2F; ?schema=NAME names the schema"


def _invalid(found: str, next_step: str = _STEP) -> UsageError:
    return UsageError("LEDGER_URL_INVALID", f"expected {_EXPECTED}, found {found}", where="--ledger", next_step=next_step)
