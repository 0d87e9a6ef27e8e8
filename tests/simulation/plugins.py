"""Plugins of the simulated pipelines: each answer follows from the row alone, so that every run of a file is the same."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from counterfoil import Attempt, BatchResult, Derived, Rejected, RetryableError, RowError, aggregation, effect
from engine.plugin_api import Claim, Delivery, Prepared, Written
from engine.rows import Row

Given = Mapping[str, Any]


def drawn(row: Given, salt: str, below: int) -> int:
    """A number from 0 to `below` that follows from the row's `n` and a salt."""
    return int.from_bytes(sha256(f"{row['n']}/{salt}".encode()).digest()[:4]) % below


def marked(row: Given, *, field: str, below: int = 5) -> dict[str, object]:
    """The row with one more field."""
    return {**row, field: drawn(row, field, below)}


def padded(row: Given, *, characters: int = 300) -> dict[str, object]:
    """The row with a long text, so that writes span sectors."""
    return {**row, "padding": f"{row['n']:04d} " * (characters // 5)}


def picky(row: Given, *, salt: str, one_in: int) -> dict[str, object]:
    """Refuses some rows for good."""
    if drawn(row, salt, one_in) == 0:
        raise RowError(f"row {row['n']} is not to the taste of {salt}", "not_to_taste")
    return dict(row)


def dropping(row: Given, *, salt: str, one_in: int) -> dict[str, object] | None:
    """Filters some rows."""
    return None if drawn(row, salt, one_in) == 0 else dict(row)


def parts(row: Given, *, most: int) -> Iterator[dict[str, object]]:
    """So many rows for one, or none."""
    for part in range(drawn(row, "parts", most + 1)):
        yield {"n": row["n"] * 100 + part, "part": part}


def counted(row: Given) -> dict[str, object]:
    """The row with the number of its items in their place."""
    return {**{name: value for name, value in row.items() if name != "items"}, "items": len(row["items"])}


@aggregation
def sums(rows: Sequence[Given]) -> BatchResult:
    """Two rows of a batch, of the even and of the odd; one member in seven is rejected."""
    rejected = [Rejected(place, f"row {row['n']} is a seventh", "seventh")
                for place, row in enumerate(rows) if row["n"] % 7 == 3]
    out = {one.ordinal for one in rejected}
    made = []
    for rest in (0, 1):
        of = tuple(place for place, row in enumerate(rows) if row["n"] % 2 == rest and place not in out)
        if of:
            made.append(Derived({"n": rows[of[0]]["n"], "rest": rest, "sum": sum(rows[place]["n"] for place in of)}, of))
    return BatchResult(made, rejected)


@aggregation
def placed(rows: Sequence[Given]) -> list[dict[str, object]]:
    """Each row with its place in the batch."""
    return [{**row, "place": place, "of": len(rows)} for place, row in enumerate(rows)]


@effect
def telling(row: Given, attempt: Attempt, *, path: str) -> dict[str, object]:
    """Tells a file of each attempt, a line with its key and its row, before it answers; the call is on record."""
    with attempt.calling("file", {"n": row["n"]}) as call:
        descriptor = _opened(path)
        try:
            os.write(descriptor, f"{attempt.key} {row['n']}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        call.answered("told", {"n": row["n"]})
    return {**row, "told": True}


@effect
def stubborn(row: Given, attempt: Attempt, *, salt: str, one_in: int) -> dict[str, object]:
    """Some rows are refused at first, and some of those for ever."""
    place = drawn(row, salt, one_in)
    if place == 0 or (place == 1 and attempt.number == 1):
        raise RetryableError(f"row {row['n']} has to come again")
    return {**row, "asked": salt}


class LooseSink:
    """Lines at the end of a file that it holds no lock on: nothing but the ledger's epoch keeps two writers apart."""

    delivery: Delivery = "at_least_once"

    def __init__(self, *, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def open(self, claim: Claim) -> None:
        """See `engine.plugin_api.Sink`."""
        self._descriptor = _opened(self._path)

    def offset(self) -> int | None:
        """See `engine.plugin_api.Sink`."""
        return None

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """See `engine.plugin_api.Sink`."""
        content = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
        return Prepared(content, sha256(content).hexdigest(), tuple(range(len(rows))), ())

    def write(self, prepared: Prepared, key: str) -> Written:
        """See `engine.plugin_api.Sink`. The key stands before each line, so that repeats can be told.

        What a write that was never confirmed has left of a line is ended first.
        """
        lines = prepared.content.splitlines(keepends=True)
        size = os.fstat(self._descriptor).st_size
        torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
        os.write(self._descriptor, b"\n" * torn + b"".join(key.encode() + b" " + line for line in lines))
        os.fsync(self._descriptor)
        return Written(self._path, os.fstat(self._descriptor).st_size, prepared.content_sha256, ())

    def close(self, finished: bool) -> None:
        """See `engine.plugin_api.Sink`."""
        os.close(self._descriptor)


def _opened(path: str) -> int:
    """A file to append to, its name durable."""
    made = not os.path.exists(path)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    if made:
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        os.close(directory)
    return descriptor
