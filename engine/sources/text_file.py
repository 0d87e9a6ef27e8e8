"""Rows from a text file: each line is one field of a row.

Invariant: a position is the number of the line in the file, blank ones counted, also where they are skipped.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from engine.plugin_api import SourceIdentity, SourceRow
from engine.sources import files


class TextSource:
    """Reads `path`, which is UTF-8; the line stands in the field `column`."""

    def __init__(
        self, *, path: str, column: str, strip_whitespace: bool = True, skip_blank_lines: bool = True
    ) -> None:
        if not column:
            raise ValueError("expected column to be the name of a field, found an empty text")
        self._path = path
        self._column = column
        self._strip = strip_whitespace
        self._skip_blank = skip_blank_lines
        self._reading: Generator[SourceRow, None, None] | None = None

    def identity(self) -> SourceIdentity:
        """See `engine.plugin_api.Source`."""
        return files.identify("text", self._path)

    def rows(self, after: int | None) -> Iterator[SourceRow]:
        """See `engine.plugin_api.Source`."""
        self._reading = self._read(after or 0)
        return self._reading

    def close(self) -> None:
        """See `engine.plugin_api.Source`."""
        files.end_reading(self._reading)

    def _read(self, after: int) -> Generator[SourceRow, None, None]:
        with files.open_text(self._path, "utf-8-sig", newline=None) as stream:
            position = 0
            while True:
                position += 1
                try:
                    line = files.read_line(stream)
                except files.LineTooLong as error:
                    if position > after:
                        yield files.too_long(position, error.beginning)
                    continue
                if not line:
                    return
                if position > after and not (self._skip_blank and line.isspace()):
                    yield self._row(position, line.removesuffix("\n"))

    def _row(self, position: int, line: str) -> SourceRow:
        if files.has_wrong_bytes(line):
            return SourceRow(position, {"raw": files.raw(line)}, files.wrong_bytes("utf-8"))
        if "\0" in line:
            return SourceRow(position, {"raw": files.raw(line)}, files.NUL)
        return SourceRow(position, {self._column: line.strip() if self._strip else line}, None)
