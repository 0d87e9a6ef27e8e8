"""A source whose named fields are hidden before the pipeline or the record sees them.

Invariant: no value of a redacted field passes, also not inside an invalid row or in the text that says what is wrong
with it; where an invalid row could not be taken apart, all of it is hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.plugin_api import RowFault, Source, SourceIdentity, SourceRow

REDACTED = "redacted"
TAKEN_APART = "schema"
"""The one fault of a row whose fields are all where they belong."""


class RedactedSource:
    """Reads `source` and replaces the values of `fields`."""

    def __init__(self, source: Source, fields: Sequence[str]) -> None:
        self._source = source
        self._fields = frozenset(fields)

    def identity(self) -> SourceIdentity:
        """See `engine.plugin_api.Source`."""
        return self._source.identity()

    def rows(self, after: int | None) -> Iterator[SourceRow]:
        """See `engine.plugin_api.Source`."""
        for position, row, fault in self._source.rows(after):
            if fault is None:
                yield SourceRow(position, self._hidden(row), None)
            else:
                taken_apart = fault.code == TAKEN_APART
                yield SourceRow(position, self._hidden(row) if taken_apart else REDACTED,
                                RowFault(fault.code, f"{fault.code} (its text is redacted)"))

    def close(self) -> None:
        """See `engine.plugin_api.Source`."""
        self._source.close()

    def _hidden(self, row: object) -> object:
        if not isinstance(row, dict):
            return REDACTED
        return {name: REDACTED if name in self._fields else value for name, value in row.items()}
