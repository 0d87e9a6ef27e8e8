"""Reading sources in tests: rows as they come, what is wrong with them, and text to write into files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from hypothesis import strategies as st

from engine.plugin_api import Source, SourceRow

Put = Callable[..., str]
"""Writes bytes to a file and gives its path."""
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
"""Any text without lone surrogates."""
TEXTS_WITHOUT_NUL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def read(source: Source, after: int | None = None) -> list[SourceRow]:
    """All rows; positions rise, and whatever comes can be recorded."""
    rows = list(source.rows(after))
    positions = [row.position for row in rows]
    assert positions == sorted(set(positions))
    for row in rows:
        msgspec.json.encode(row.row)
        assert isinstance(row.row, dict) or row.fault is not None
    return rows


def good(source: Source) -> list[object]:
    """The rows of a source that has no bad ones."""
    rows = read(source)
    assert [row.fault for row in rows if row.fault] == []
    return [row.row for row in rows]


def codes(rows: Sequence[SourceRow]) -> list[str | None]:
    """What is wrong with each row."""
    return [row.fault.code if row.fault else None for row in rows]
