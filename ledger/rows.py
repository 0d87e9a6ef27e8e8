"""What every SQL store says in the same words: fetching page by page, a payload as a row, entries that do not count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ledger.store import Payload

FETCH_ROWS = 2000

EARLY = ("SELECT run_id FROM streams WHERE EXISTS (SELECT 1 FROM {table} WHERE {table}.stream = streams.stream "
         "AND {place} < 1) ORDER BY run_id")
"""The runs with an entry whose number comes before the first one's: nobody who reads from the beginning would meet it."""

Row = Sequence[Any]


def pages(after: int, page: Callable[[int], Sequence[Row]]) -> Iterator[Sequence[Row]]:
    """Every row past a place, in order, page by page: `page` gives up to `FETCH_ROWS`. Each row begins with its place."""
    while True:
        rows = page(after)
        yield rows
        if len(rows) < FETCH_ROWS:
            return
        after = rows[-1][0]


def payload_of(row: Row) -> Payload:
    """Of its number, its salt, its bytes, and whether it is permanent."""
    return Payload(row[0], row[1], row[2], bool(row[3]))
