"""Where the ledgers of these tests are kept: in files, or, when the environment says so, all of them on PostgreSQL.

    COUNTERFOIL_TEST_LEDGER=postgres python -m pytest tests/doors tests/examples

Why one switch and not two sets of tests: what a command promises does not depend on what keeps its ledger, so the very same
tests are to hold for both. What a test says of SQLite's files it says `on_files`, and is then left out.

Invariants: one database for the whole session; each test begins without a ledger; what a module keeps for its tests is
another schema.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import make_url

from tests.kit.postgres_databases import Databases, connected

VARIABLE = "COUNTERFOIL_TEST_LEDGER"
ON_POSTGRES = os.environ.get(VARIABLE) == "postgres"
LEDGER = "ledger.db"
DATABASE = f"counterfoil_doors_{os.getpid()}"
SCHEMA = "ledger"
URL = f"postgresql:///{DATABASE}?schema={SCHEMA}" if ON_POSTGRES else f"sqlite:///{LEDGER}"

on_files = pytest.mark.skipif(ON_POSTGRES, reason="it is about SQLite: its files, its locks or its SQL")


def url_in(folder: Path, name: str) -> str:
    """The URL of a ledger that a module keeps for its tests."""
    if not ON_POSTGRES:
        return f"sqlite:///{folder}/{name}.db"
    return f"postgresql:///{DATABASE}?schema={name}_{sha256(str(folder).encode()).hexdigest()[:12]}"


def url_from_anywhere(folder: Path) -> str:
    """The URL of the ledger of a test whose working directory is `folder`, for one who stands elsewhere."""
    return URL if ON_POSTGRES else f"sqlite:///{folder / LEDGER}"


@contextmanager
def database(server: Databases) -> Iterator[None]:
    """The database of this session, where the driver finds it by the environment, as its owner."""
    owner = make_url(server.fresh_database())  # for its name and password
    with connected(server.url()) as administrator:
        administrator.execute(SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(
            Identifier(DATABASE), Identifier(owner.username or "")))
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (("HOST", server.host), ("PORT", str(server.port)), ("USER", owner.username),
                                ("PASSWORD", str(owner.password))):
                patch.setenv(f"PG{name}", value or "")
            yield
    finally:
        with connected(server.url()) as administrator:
            administrator.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(DATABASE)))


def forget(server: Databases) -> None:
    """Remove the ledger of a test, its read tables with it, whoever still reads them."""
    with connected(server.url(DATABASE)) as administrator:
        found = administrator.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ %s", (f"^{SCHEMA}(_read.*)?$",))
        names = [name for (name,) in found]
        if not names:
            return
        administrator.execute("SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE datname = "
                              "current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'")
        for name in names:
            administrator.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(name)))
