"""The floor plan: alembic makes every table, of the log and of the read tables, and nothing else does.

Why two branches: the log and the read tables live apart (on SQLite in files of their own), so each is brought to its
own head. A revision of the read branch never moves data: read tables that are behind are rebuilt.

Invariants: a database (on PostgreSQL: a schema) holds one branch; `upgrade` is one transaction, done whole or not at all,
and does nothing at the head; what stands at a revision that is not ours is left alone; alembic is imported only when there
is something to upgrade.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.pool import NullPool

from ledger.errors import LedgerUnavailable

Branch = Literal["log", "read"]

REVISIONS: Mapping[Branch, tuple[str, ...]] = {"log": ("0001_log",), "read": ("0001_read",)}
"""Every released revision of each branch, in order: each can be upgraded from. A test holds it equal to the scripts."""

HEADS: Mapping[Branch, str] = {branch: known[-1] for branch, known in REVISIONS.items()}
"""The revision that each branch ends at."""

SCRIPTS: Mapping[Branch, Sequence[Path]] = {
    branch: (Path(__file__).parent / branch / "versions",) for branch in REVISIONS
}
"""The folders with each branch's scripts."""

VERSION_TABLE = "alembic_version"


def upgrade(where: str | Connection, branch: Branch, *, to: str | None = None, schema: str | None = None) -> None:
    """Bring a database to a revision of `branch`, the head unless `to` says another.

    `where` is a URL, or a connection whose transaction the caller ends. On PostgreSQL the tables lie in `schema`, which is
    made when it is not there; whoever comes second waits for the first. Raises `LedgerUnavailable` (LEDGER_SCHEMA) for what
    stands at a revision that is none of the branch's.
    """
    if isinstance(where, Connection):
        found = current(where)
        if found not in (None, *REVISIONS[branch]):
            raise LedgerUnavailable("LEDGER_SCHEMA", f"expected tables of branch {branch}, found them at revision {found}",
                                    where=VERSION_TABLE, next_step="use a version that knows this schema, or another place")
        if found != (to or HEADS[branch]):
            _run(where, branch, to or HEADS[branch])
        return
    engine = create_engine(where, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.dialect.name == "sqlite" else "BEGIN")
        try:
            if schema is not None:
                enter(connection, schema)
            upgrade(connection, branch, to=to)
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise


def enter(connection: Connection, schema: str) -> None:
    """Stand in a schema of PostgreSQL until the transaction ends, alone; it is made when it is not there.

    Alone in the whole database: rights on it are given too, and two who give some at once fail.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('counterfoil/migrations', 0))"))
    if not connection.execute(text("SELECT to_regnamespace(:name) IS NOT NULL"), {"name": f'"{schema}"'}).scalar():
        connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')
    connection.exec_driver_sql(f'SET LOCAL search_path TO "{schema}"')


def current(where: str | Connection) -> str | None:
    """The revision a database stands at, or None when no migration has ever run in it."""
    if isinstance(where, Connection):
        if not inspect(where).has_table(VERSION_TABLE):
            return None
        return ", ".join(where.execute(text(f"SELECT version_num FROM {VERSION_TABLE} ORDER BY 1")).scalars()) or None
    engine = create_engine(where, poolclass=NullPool)
    with engine.connect() as connection:
        return current(connection)


def _run(connection: Connection, branch: Branch, to: str) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    here = Path(__file__).parent
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(here).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(map(str, SCRIPTS[branch])).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)

    def steps(revision: object, context: object) -> object:
        return script._upgrade_revs(to, revision)  # type: ignore[arg-type]

    with EnvironmentContext(config, script, fn=steps, destination_rev=to):
        script.run_env()


__all__ = ["HEADS", "REVISIONS", "SCRIPTS", "VERSION_TABLE", "Branch", "current", "enter", "upgrade"]
