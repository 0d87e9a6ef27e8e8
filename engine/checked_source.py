"""A source that is not ours: what it yields is checked before the run takes it for a row.

Why: a transform that gives nonsense fails its row; a source that does must not end the process, nor leave in the record
what it did not read.

Invariants: what comes out is a `SourceRow` whose positions rise; a valid one holds a row (see `engine.rows`), an invalid one
any JSON value; what is no row becomes an invalid one, and what cannot be placed ends the source.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.plugin_api import RowFault, Source, SourceIdentity, SourceRow
from engine.rows import check_row

BAD_ROW = "bad_row"
SHOWN_CHARS_MAX = 4000


class CheckedSource:
    """Reads `source`."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def identity(self) -> SourceIdentity:
        """See `engine.plugin_api.Source`. Raises TypeError when there is none."""
        found = self._source.identity()
        if not isinstance(found, SourceIdentity):
            raise TypeError(f"expected a SourceIdentity, found {type(found).__name__}")
        return found

    def rows(self, after: int | None) -> Iterator[SourceRow]:
        """See `engine.plugin_api.Source`. Raises TypeError for what is no `SourceRow` or has no place after the last."""
        last = after
        for given in self._source.rows(after):
            item = _row(given)
            if last is not None and item.position <= last:
                raise TypeError(f"expected a position past {last}, found {item.position}")
            last = item.position
            yield _checked(item)

    def close(self) -> None:
        """See `engine.plugin_api.Source`."""
        self._source.close()


def _row(given: object) -> SourceRow:
    """What a source yielded, if it is a row with a place."""
    if not isinstance(given, SourceRow):
        raise TypeError(f"expected a SourceRow, found {type(given).__name__}")
    position, fault = given.position, given.fault
    if type(position) is not int or (fault is not None and type(fault) is not RowFault):
        raise TypeError(f"expected a position that is an int, and a RowFault or None, found {position!r:.40}, {fault!r:.80}")
    return given


def _checked(item: SourceRow) -> SourceRow:
    position, row, fault = item
    if fault is None:
        wrong = check_row(row)
        return item if wrong is None else SourceRow(position, _text(repr(row)), RowFault(BAD_ROW, wrong))
    shown = row if check_row({"": row}) is None else _text(repr(row))
    return SourceRow(position, shown, RowFault(_text(str(fault.code)), _text(str(fault.text))))


def _text(text: str) -> str:
    """Text that can be recorded."""
    return text[:SHOWN_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
