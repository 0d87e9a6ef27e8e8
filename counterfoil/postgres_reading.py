"""The read tables of a ledger on PostgreSQL as the doors know them: of which revision they are, and how one who may not
write compares them with the log.

Why: an auditor's login reads and makes nothing, and a standby takes nothing; `verify` has to be able to say there too
whether the read tables are what the log says. What they should hold is projected into a file that is thrown away.

Invariant: where a schema may be made, the server compares, and nothing travels.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import migrations
from counterfoil.sqlite_ledger import make_read_tables
from ledger.errors import LedgerUnavailable
from ledger.file_uri import file_uri
from projections.catch_up import NOT_TO_WRITE
from projections.postgres_shelf import PostgresShelf
from projections.postgres_tables import PostgresTables
from projections.read_tables import ReadTables
from projections.sqlite_tables import SqliteTables


class ReadShelf(PostgresShelf):
    """See `projections.read_tables.Shelf`."""

    def is_of_this_schema(self, name: str) -> bool:
        """See `Shelf`: read tables are this version's when their schema's revision is."""
        with self.open(name) as tables:
            found = tables.select("SELECT to_regclass(?) IS NOT NULL", (f'"{name}".{migrations.VERSION_TABLE}',))
            if found != [(True,)]:
                return False
            revision = tables.select(f"SELECT version_num FROM {migrations.VERSION_TABLE}")
        return revision == [(migrations.HEADS["read"],)] and super().is_of_this_schema(name)

    @contextmanager
    def scratch(self) -> Iterator[Any]:
        """See `Shelf`: in a file, for one who may make no schema."""
        with ExitStack() as stack:
            try:
                tables: ReadTables = stack.enter_context(super().scratch())
            except LedgerUnavailable as error:
                if error.code not in NOT_TO_WRITE:
                    raise
                path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="counterfoil-"))) / "compared.db"
                make_read_tables(path)
                tables = stack.enter_context(SqliteTables(path, write=True))
            yield tables

    def differences(self, name: str, other: ReadTables, views: Sequence[str], run: str, limit: int
                    ) -> list[tuple[str, str, dict[str, Any]]]:
        """See `Shelf`."""
        if isinstance(other, PostgresTables):
            return super().differences(name, other, views, run, limit)
        with self.open(name) as tables, closing(sqlite3.connect("", isolation_level=None, uri=True)) as desk:
            desk.execute("ATTACH ? AS fresh", (file_uri(Path(other.where), "ro"),))
            found = [one for view in views for one in _different(desk, tables, view, run, limit)]
        return [*found, *self.misled(name, run)]


def _different(desk: sqlite3.Connection, tables: PostgresTables, view: str, run: str, limit: int
               ) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The rows of a view that only one side has: the server's are laid beside the others, in a database without a name."""
    names = [row[0] for row in desk.execute("SELECT name FROM pragma_table_info(?, 'fresh')", (view,))]
    columns = ", ".join(f'"{name}"' for name in names)
    desk.execute(f"CREATE TEMP TABLE found ({columns})")
    rows = tables.stream(f"SELECT {columns} FROM {view} WHERE run_id = ?", (run,))
    desk.execute("BEGIN")
    desk.executemany(f"INSERT INTO found VALUES ({', '.join('?' * len(names))})", (tuple(row.values()) for row in rows))
    desk.execute("COMMIT")
    fresh = f"SELECT {columns} FROM fresh.{view} WHERE run_id = ?"
    twice = f"GROUP BY {columns} HAVING count(*) > 1"
    for side, sql in (("here", f"SELECT * FROM found EXCEPT {fresh}"), ("there", f"{fresh} EXCEPT SELECT * FROM found"),
                      ("here", f"SELECT * FROM found {twice} EXCEPT {fresh} {twice}")):
        for row in desk.execute(f"{sql} LIMIT {limit}", (run,)).fetchall():
            yield view, side, dict(zip(names, row, strict=True))
    desk.execute("DROP TABLE found")
