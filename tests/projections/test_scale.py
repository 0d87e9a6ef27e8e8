"""Asking about one token reads what belongs to it, however long the log is: shown by the plans, not by a clock."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from projections import answers
from projections.explain import explain, explain_row
from tests.ledger.lawful_many import LAWFUL
from tests.projections.reading import Told, told

LONG = ("p_batch_members", "p_batches", "p_calls", "p_groups", "p_payloads", "p_routing", "p_rows", "p_sink_writes",
        "p_states", "p_token_parents", "p_tokens")  # fmt: skip
"""Tables that grow with the log."""

TOKENS = {"effect_retried": "0", "nested_failure": "0.x", "nested_joins": "0.x+inner", "gathered_all": "0:1",
          "batch_rejected": "1", "refused_by_failsink_too": "0", "branch_lost": "0.c", "error_discarded": "0"}


class Read(NamedTuple):
    """How a statement comes to rows of a table (or an index): by so many columns of its key, 0 for all rows there are."""

    source: str
    keys: int
    statement: str


def reads(found: Told, ask: Callable[[], object]) -> list[Read]:
    """How every SELECT of a question reads, from the programs that SQLite makes of them."""
    connection: sqlite3.Connection = found.tables._connection
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    try:
        ask()
    finally:
        connection.set_trace_callback(None)
    assert statements
    names = dict(connection.execute("SELECT rootpage, name FROM sqlite_master WHERE rootpage > 0").fetchall())
    return [one for statement in statements for one in _reads(connection, names, statement)]


def _reads(connection: sqlite3.Connection, names: dict[int, str], statement: str) -> Iterator[Read]:
    program = connection.execute(f"EXPLAIN {statement}").fetchall()
    cursors = {row[2]: names[row[3]] for row in program if row[1] == "OpenRead"}
    for _, code, cursor, _, _, keys, *_ in program:
        if cursor in cursors and code in ("Rewind", "Last"):
            yield Read(cursors[cursor], 0, statement)
        elif cursor in cursors and code.startswith("Seek") and keys is not None:
            yield Read(cursors[cursor], int(keys), statement)


def grows(source: str) -> bool:
    """Whether a table, or an index on it, grows with the log (an index of what is open does not)."""
    return source in LONG or (source.startswith(LONG) and not source.endswith("_open"))


def assert_short(found: list[Read]) -> None:
    """Nothing that grows is read by the run alone, or by nothing."""
    for one in found:
        assert not grows(one.source) or one.keys > 1, f"{one.source} by {one.keys} columns: {one.statement}"


@pytest.mark.parametrize("name", TOKENS)
def test_explaining_a_token_never_reads_a_whole_table(name: str) -> None:
    """A4, E11: each table that grows with the log is searched by the token, the group, or the like."""
    with told(LAWFUL[name]()) as found:
        read = reads(found, lambda: explain(found.tables, found.store, found.run, TOKENS[name]))
        assert {"p_tokens", "p_states"} <= {one.source for one in read}
        assert_short(read)


def test_explaining_a_row_never_reads_a_whole_table() -> None:
    """A4: by its number."""
    with told(LAWFUL["nested_failure"]()) as found:
        assert_short(reads(found, lambda: explain_row(found.tables, found.store, found.run, 0)))


@pytest.mark.parametrize("name", ["held", "left_open"])
def test_what_is_pending_is_found_by_what_is_open(name: str) -> None:
    """D8: tokens and groups by an index of the open ones alone; no finished state is read."""
    with told(LAWFUL[name]()) as found:
        read = reads(found, lambda: answers.pending(found.tables, found.store, found.run))
        assert {"p_tokens_open", "p_groups_open"} <= {one.source for one in read}
        assert_short([one for one in read if one.source.startswith(("p_tokens", "p_groups", "p_states", "p_routing"))])


def test_a_whole_table_that_is_read_would_be_seen() -> None:
    """A4: the measure itself: a question by something that no index knows."""
    with told(LAWFUL["nested_failure"]()) as found:
        read = reads(found, lambda: found.rows("node_states", where="status = 'failed'"))
        assert any(grows(one.source) and one.keys <= 1 for one in read)
