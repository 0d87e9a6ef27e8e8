"""Rows from a CSV file: a header, then one row per record.

Why so strict about quotes: a reader that is lenient about a stray quote swallows the lines after it, without a word.
Here the line on which such a record began is an invalid row of its own, and the lines after it are read again.

Invariants: a record's position is its number, the header and blank lines not counted; every record is a row, valid or
not, and no line of the file is without one; what is held is one record of bounded length.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import TextIO

from engine.plugin_api import RowFault, SourceIdentity, SourceRow
from engine.schema import RowSchema
from engine.sources import files

EXTRA = "__extra__"
"""Where the cells of an invalid row stand that have no column."""


class CsvSource:
    """Reads `path`; the first line after `skip_rows` lines names the fields. Without a schema every field is text."""

    def __init__(
        self, *, path: str, schema: RowSchema | None = None, delimiter: str = ",", encoding: str = "utf-8",
        skip_rows: int = 0,
    ) -> None:
        if len(delimiter) != 1 or delimiter in '"\r\n\0 ':
            raise ValueError(f"expected one character (no quote, blank or line end) as delimiter, found {delimiter!r}")
        if skip_rows < 0:
            raise ValueError(f"expected skip_rows of 0 or more, found {skip_rows}")
        self._path = path
        self._schema = schema
        self._delimiter = delimiter
        self._encoding = encoding
        self._reads_as = files.check_encoding(encoding)
        self._skip_rows = skip_rows
        self._reading: Generator[SourceRow, None, None] | None = None

    def identity(self) -> SourceIdentity:
        """See `engine.plugin_api.Source`."""
        return files.identify("csv", self._path)

    def rows(self, after: int | None) -> Iterator[SourceRow]:
        """See `engine.plugin_api.Source`. Raises ValueError, before any row, for a header that names no fields."""
        self._reading = self._read(after or 0)
        return self._reading

    def close(self) -> None:
        """See `engine.plugin_api.Source`."""
        files.end_reading(self._reading)

    def _read(self, after: int) -> Generator[SourceRow, None, None]:
        with files.open_text(self._path, self._reads_as, newline="") as stream:
            lines = _Lines(stream)
            for _ in range(self._skip_rows):
                with suppress(files.LineTooLong):
                    next(lines, "")
            held = lines.held
            held.clear()
            reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
            names = self._header(reader)
            held.clear()
            position = 0
            more = names is not None
            while more and names is not None:
                try:
                    for cells in reader:
                        if cells:
                            position += 1
                            if position > after:
                                yield self._row(position, names, cells, held)
                        held.clear()
                    more = False
                except (csv.Error, files.LineTooLong) as error:
                    position += 1
                    if position > after:
                        yield _unreadable(position, error, held)
                    lines.read_again()

    def _header(self, reader: Iterator[list[str]]) -> list[str] | None:
        """The fields' names; None of a file without a line."""
        try:
            names = next((cells for cells in reader if cells), None)
        except (csv.Error, files.LineTooLong) as error:
            raise ValueError(f"{self._path}: expected a header, found one that cannot be read: {error}") from None
        seen: set[str] = set()
        for number, name in enumerate(names or (), start=1):
            found = files.shown_bytes(name)[:80]
            if not name.strip():
                raise ValueError(f"{self._path}: expected a name for column {number}, found an empty one")
            if name in seen:
                raise ValueError(f"{self._path}: expected each column once, found {found!r} twice")
            if "\0" in name or files.has_wrong_bytes(name) or len(name) > files.FIELD_CHARS_MAX:
                raise ValueError(f"{self._path}: expected names in {self._encoding}, found {found!r}")
            seen.add(name)
        return names

    def _row(self, position: int, names: list[str], cells: list[str], held: list[str]) -> SourceRow:
        """A record as a row. Cells are text without lone surrogates, so without a schema there is no more to check."""
        line = held[0]
        row: dict[str, object]
        if len(held) > 1 or not line.isascii() or "\0" in line or len(line) > files.FIELD_CHARS_MAX:
            fault = self._text_fault(cells, held)
            if fault is not None:
                return SourceRow(position, _as_far_as_read(names, cells), fault)
        if len(cells) != len(names):
            text = f"expected {len(names)} cells, found {len(cells)}"
            return SourceRow(position, _as_far_as_read(names, cells), RowFault("ragged", text))
        row = dict(zip(names, cells, strict=False))
        if self._schema is None:
            return SourceRow(position, row, None)
        row, wrong = self._schema.coerce(row)
        return SourceRow(position, row, None if wrong is None else RowFault("schema", wrong))

    def _text_fault(self, cells: list[str], held: list[str]) -> RowFault | None:
        if any(len(cell) > files.FIELD_CHARS_MAX for cell in cells):
            return _FIELD_TOO_LONG
        if any(map(files.has_wrong_bytes, held)):
            return files.wrong_bytes(self._encoding)
        return files.NUL if any("\0" in line for line in held) else None


class _Lines:
    """The lines of a file for `csv.reader`; `held` are those of the record it is reading, for the one who clears it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._chars = 0
        self._again: deque[str] = deque()
        self.held: list[str] = []

    def read_again(self) -> None:
        """Give out once more the lines held after the first, which belong to a record that came to nothing."""
        self._again.extendleft(reversed(self.held[1:]))
        self.held.clear()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else files.read_line(self._stream)
        if not line:
            raise StopIteration
        held = self.held
        self._chars = self._chars + len(line) if held else len(line)
        held.append(line)
        if self._chars > files.RECORD_CHARS_MAX:
            raise files.LineTooLong("".join(held)[: files.RAW_CHARS_MAX])
        return line


_FIELD_TOO_LONG = RowFault("field_too_long",
                           f"expected fields of at most {files.FIELD_CHARS_MAX} characters, found a longer one")


_UNCLOSED = RowFault("unclosed_quote", f"expected a closing quote within {files.FIELD_CHARS_MAX} characters, found none")


def _as_far_as_read(names: list[str], cells: list[str]) -> dict[str, object]:
    """An invalid record as an object: cells under their columns, what is more under `EXTRA`."""
    seen = [files.shown_bytes(cell) for cell in cells]
    row: dict[str, object] = dict(zip(names, seen, strict=False))
    if len(seen) > len(names):
        row[EXTRA] = seen[len(names):]
    return row


def _unreadable(position: int, error: csv.Error | files.LineTooLong, held: list[str]) -> SourceRow:
    """The row of the line on which a record began that could not be taken apart."""
    if len(held) > 1:
        fault = _fault_of(error) if isinstance(error, csv.Error) else _UNCLOSED
        return SourceRow(position, {"raw": files.raw(held[0])}, _UNCLOSED if fault is _FIELD_TOO_LONG else fault)
    if isinstance(error, files.LineTooLong):
        return files.too_long(position, error.beginning)
    return SourceRow(position, {"raw": files.raw("".join(held))}, _fault_of(error))


def _fault_of(error: csv.Error) -> RowFault:
    text = str(error)
    if "unexpected end of data" in text:
        return _UNCLOSED
    if "field limit" in text:
        return _FIELD_TOO_LONG
    if "expected after" in text:
        return RowFault("bad_quote", "expected a delimiter after a closing quote, found more text")
    return RowFault("bad_quote", f"expected a record of cells, found: {text}")
