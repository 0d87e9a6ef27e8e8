"""Databases in tests: SQLite files made, asked and written to, and claims under which a sink is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from engine.plugin_api import Claim, Prepared, Refusal, Written
from engine.plugins import Catalog, bind
from engine.rows import freeze
from engine.sinks.database import DatabaseSink
from tests.engine.writing import Rows

RECEIPTS, EPOCHS = "counterfoil_receipts", "counterfoil_epochs"


def url(path: Path | str) -> str:
    """The URL of a file."""
    return f"sqlite:///{path}"


def sink(path: Path | str, **options: object) -> DatabaseSink:
    """A sink for table `t`, its options checked as those of a pipeline file are."""
    made = bind(Catalog().find("sink", "database"), {"url": url(path), "table": "t", **options})
    assert isinstance(made, DatabaseSink)
    return made


def do(path: Path | str, *statements: str) -> None:
    """Run statements, and keep what they did."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def ask(path: Path | str, statement: str) -> list[tuple[object, ...]]:
    """What a statement selects."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def table(path: Path | str, name: str = "t") -> list[tuple[object, ...]]:
    """The rows of a table in the order in which they were put there."""
    return ask(path, f'SELECT * FROM "{name}" ORDER BY rowid')


def claim(epoch: int = 1, *, begun: bool = False, run: str = "run", sink: str = "out") -> Claim:
    """A claim of that epoch."""
    return Claim("ledger", run, sink, epoch, begun)


def prepare(made: DatabaseSink, rows: Rows) -> Prepared:
    """Rows as the engine hands them over."""
    return made.prepare([freeze(row) for row in rows])


def write(made: DatabaseSink, rows: Rows, key: str = "key") -> Written:
    """One write."""
    return made.write(prepare(made, rows), key)


def whole(made: DatabaseSink, *writes: Rows, by: Claim | None = None) -> list[list[Refusal]]:
    """A run from its beginning to its end; gives what each write's rows were refused for, in the places of the rows."""
    made.open(by or claim())
    found = []
    for number, rows in enumerate(writes):
        prepared = prepare(made, rows)
        found.append(refused(prepared, made.write(prepared, f"{by}{number}")))
    made.close(True)
    return found


def refused(prepared: Prepared, written: Written) -> list[Refusal]:
    """All refusals of a write, in the places of its rows."""
    late = [Refusal(prepared.ordinals[one.ordinal], one.code, one.text) for one in written.refused]
    return sorted([*prepared.refused, *late])


def codes(found: Sequence[Refusal]) -> list[tuple[int, str]]:
    """Places and codes."""
    return [(one.ordinal, one.code) for one in found]
