"""A count of the rows that a projector handed over, and of the positions they cite: what tables have to come to.

Why: a table that was filled in many transactions, perhaps by several processes, perhaps in two goes, is compared with this
before anybody reads it. A row that is lost, doubled or of another event changes a count or a sum.

What it does not see: another value in a column that is not summed. Sums of every number would cost 4 % of a rebuild and the
lengths of texts 9 % more, and be no digest either; one would mean reading every row again. Outcomes are held against the
fold's, pages against their own form (SQLite), and `rebuild --verify` compares row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from projections.output import Record
from projections.tables import metadata

CITED = ("closed_seq", "ended_seq", "seq", "opened_seq", "ordinal", "chunk", "step")
"""The column of each table that is summed: the first of these that it has."""

SUMMED: Mapping[str, str | None] = {
    name: next((column for column in CITED if column in table.c), None)
    for name, table in metadata.tables.items() if name not in ("p_runs", "p_places")
}
"""Table to its summed column, or None for one that is only counted."""

_PLACE = {name: metadata.tables[name].c.keys().index(column) - 1 for name, column in SUMMED.items() if column is not None}
"""Where that column stands in a record, which begins after `run`."""


class Tally:
    """Rows and sums by table."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = dict.fromkeys(SUMMED, 0)
        self.sums: dict[str, int] = dict.fromkeys(SUMMED, 0)

    def add(self, rows: Mapping[str, Sequence[Record]]) -> None:
        """Count rows that were handed over."""
        for table, records in rows.items():
            self.counts[table] += len(records)
            place = _PLACE.get(table)
            if place is not None and records:
                self.sums[table] += sum([record[place] or 0 for record in records])

    def clear(self) -> None:
        """Begin again."""
        for table in SUMMED:
            self.counts[table] = self.sums[table] = 0

    def differs(self, found: Mapping[str, tuple[int, int]]) -> str | None:
        """The first table that holds something else, told; `found` is table to (rows, sum)."""
        for table, count in self.counts.items():
            wanted = (count, self.sums[table])
            if found[table] != wanted:
                rows, added = found[table]
                return f"{count} rows of {table} that add up to {self.sums[table]}, found {rows} and {added}"
        return None
