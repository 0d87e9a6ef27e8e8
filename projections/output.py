"""What a projector has made and not yet handed over: rows by table, and the texts that have to be looked up.

Why: effect and place are stored together, many events at a time; a text that derives from row values lies in a payload
and is fetched once for a whole batch.

Invariants: a row is a list in the column order of `projections.tables` after `run`; rows that may still change are held in
`Records`, and handed over as they stand at the end of a batch; a text holds no NUL, which PostgreSQL keeps in none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from ledger.store import Payload

ERASED = "erased"
UNREADABLE = "unreadable"
"""What a text reads whose bytes are not those that were recorded; `verify` names the payload."""

NUL_SHOWN = "\N{SYMBOL FOR NULL}"

Record = list[Any]


class Text(NamedTuple):
    """Stands in a row for `code: text`, where the text is payload `n` (None: the code alone)."""

    code: str | None
    n: int | None


class Key(NamedTuple):
    """Stands in a row for the value of payload `n` as text."""

    n: int


class Rows(NamedTuple):
    """Row operations of a projector, by table: rows that are new, and rows that take the place of those with their key."""

    new: dict[str, list[Record]]
    again: dict[str, list[Record]]


class Output:
    """Finished rows, one list a table; `again` has those whose beginnings were stored before they were finished."""

    def __init__(self) -> None:
        self.nodes: list[Record] = []
        self.edges: list[Record] = []
        self.payloads: list[Record] = []
        self.rows: list[Record] = []
        self.tokens: list[Record] = []
        self.parents: list[Record] = []
        self.states: list[Record] = []
        self.routing: list[Record] = []
        self.groups: list[Record] = []
        self.batches: list[Record] = []
        self.members: list[Record] = []
        self.calls: list[Record] = []
        self.sink_writes: list[Record] = []
        self.violations: list[Record] = []
        self.again: dict[str, list[Record]] = {}
        self._lookups: list[tuple[Record, int]] = []

    def by_table(self) -> dict[str, list[Record]]:
        """The rows under the names of their tables."""
        return {
            "p_nodes": self.nodes,
            "p_edges": self.edges,
            "p_payloads": self.payloads,
            "p_rows": self.rows,
            "p_tokens": self.tokens,
            "p_token_parents": self.parents,
            "p_states": self.states,
            "p_routing": self.routing,
            "p_groups": self.groups,
            "p_batches": self.batches,
            "p_batch_members": self.members,
            "p_calls": self.calls,
            "p_sink_writes": self.sink_writes,
            "p_violations": self.violations,
        }

    def over(self, table: str, row: Record) -> None:
        """A finished row that takes the place of one stored before."""
        self.again.setdefault(table, []).append(row)

    def look_up(self, row: Record, column: int) -> None:
        """Note that a column holds a `Text` or a `Key`."""
        self._lookups.append((row, column))

    def numbers(self) -> list[int]:
        """The payloads that have to be fetched."""
        found = {row[column].n for row, column in self._lookups if isinstance(row[column], (Text, Key))}
        return sorted(n for n in found if n is not None)

    def fill(self, payloads: Mapping[int, Payload]) -> None:
        """Put the texts in; what was erased reads `erased`."""
        for row, column in self._lookups:
            value = row[column]
            if isinstance(value, Text):
                row[column] = _said(value, payloads)
            elif isinstance(value, Key):
                row[column] = _text(payloads.get(value.n))
        self._lookups = []


def _said(text: Text, payloads: Mapping[int, Payload]) -> str | None:
    if text.n is None:
        return text.code
    said = _text(payloads.get(text.n))
    return f"{text.code}: {said}" if text.code else said


def _text(payload: Payload | None) -> str:
    if payload is None or payload.bytes is None:
        return ERASED
    try:
        value = msgspec.json.decode(payload.bytes)
        text = value if isinstance(value, str) else payload.bytes.decode()
        return text.replace("\0", NUL_SHOWN)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, RecursionError):
        return UNREADABLE
