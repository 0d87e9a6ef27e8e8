"""Rows into CSV: a header, then one record per row.

Why rows with other fields are refused: a table has one set of columns, and a value that has no column would be lost.

Invariants: the columns are those of the file that is there, else the schema's, else the first taken row's; the header
begins the first write that holds a row; a record ends with a line feed, and whatever could be mistaken is quoted.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Literal

import msgspec

from engine.plugin_api import Claim, Delivery, Prepared, Refusal, Written
from engine.rows import Row
from engine.schema import RowSchema, shown
from engine.sinks import files

_HEADER_BYTES_MAX = 4 * 1024 * 1024
"""A header has to be read again when the run goes on."""
_BYTES_A_CHARACTER = 4
_NAME_CHARS_MAX = 128 * 1024
_WRITTEN_AS_IT_IS = frozenset({str, int, float, type(None)})


class CsvSink:
    """Writes to `path`. None is an empty cell, a bool `true` or `false`, a list or an object its JSON."""

    delivery: Delivery = "truncatable"

    def __init__(
        self, *, path: str, schema: RowSchema | None = None, delimiter: str = ",", encoding: str = "utf-8",
        mode: Literal["write", "append"] = "write",
    ) -> None:
        if len(delimiter) != 1 or delimiter in '"\r\n\0 ':
            raise ValueError(f"expected one character (no quote, blank or line end) as delimiter, found {delimiter!r}")
        self._path = path
        self._schema = schema
        self._delimiter = delimiter
        self._script = files.Script(encoding)
        self._file = files.ArtifactFile(path, mode)
        self._optional = frozenset(one.name for one in schema.fields if one.optional) if schema else frozenset()
        self._columns: tuple[str, ...] | None = None
        self._begun = False
        self._needs_line_end = False
        self._records = _Records()
        self._writer = csv.writer(self._records, delimiter=delimiter)
        declared = self._line(self._declared())
        if (refusal := self._script.refusal(0, declared)) is not None:
            raise ValueError(f"expected field names in {encoding}: {refusal.text}")

    def open(self, claim: Claim) -> None:
        """See `engine.plugin_api.Sink`. A file that is not empty names the columns in its first record."""
        self._file.open(claim)
        self._begun = self._file.size > 0
        self._columns = None
        try:
            self._needs_line_end = files.lacks_line_end(self._file, self._script.newline)
            if self._begun:
                self._columns = self._columns_of_file()
            elif self._schema is not None and self._schema.mode == "fixed":
                self._columns = self._declared()
        except BaseException:
            self._file.close()
            raise

    def offset(self) -> int:
        """See `engine.plugin_api.Sink`."""
        return self._file.size

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """See `engine.plugin_api.Sink`."""
        refused: list[Refusal] = []
        taken: list[str] = []
        for ordinal, row in enumerate(rows):
            line = self._taken(ordinal, row)
            if isinstance(line, Refusal):
                refused.append(line)
            else:
                taken.append(line)
        return files.prepared(self._content(taken), len(rows), refused)

    def write(self, prepared: Prepared, key: str) -> Written:
        """See `engine.plugin_api.Sink`."""
        return self._file.write(prepared)

    def close(self, finished: bool) -> None:
        """See `engine.plugin_api.Sink`. Without any row the header of a schema is the artifact."""
        try:
            if finished:
                self._file.finish()
            if finished and not self._begun and (columns := self._declared()):
                self._file.append(self._script.encode(self._line(columns), begins=True))
        finally:
            self._file.close()

    def _taken(self, ordinal: int, row: Row) -> str | Refusal:
        """The row's record, or why it is refused."""
        if self._schema is not None and (wrong := self._schema.check(row)) is not None:
            return Refusal(ordinal, "schema", wrong)
        columns = self._columns
        first = columns is None
        if columns is None:
            declared = self._declared()
            columns = (*declared, *(name for name in row if name not in declared))
        if columns and tuple(row) == columns:
            cells = list(row.values())
        elif (wrong := self._columns_fault(row, columns)) is not None:
            return Refusal(ordinal, "columns", wrong)
        else:
            cells = [row.get(name) for name in columns]
        line = self._line([cell if type(cell) in _WRITTEN_AS_IT_IS else _cell(cell) for cell in cells])
        header = self._line(columns) if first else ""
        if len(header) * _BYTES_A_CHARACTER > _HEADER_BYTES_MAX or (first and max(map(len, columns)) > _NAME_CHARS_MAX):
            return Refusal(ordinal, "columns", f"expected a header of at most {_HEADER_BYTES_MAX} bytes, found a longer one")
        refusal = self._script.refusal(ordinal, header + line)
        if refusal is None and first:
            self._columns = columns
        return line if refusal is None else refusal

    def _columns_fault(self, row: Row, columns: tuple[str, ...]) -> str | None:
        if not columns:
            return "expected at least one field, found none"
        for name in row:
            if name not in columns:
                return f"field {shown(name)}: expected only the columns of the file, found one more"
        for name in columns:
            if name not in row and name not in self._optional:
                return f"field {shown(name)}: expected one for each column of the file, found nothing"
        return None

    def _content(self, taken: list[str]) -> bytes:
        """The bytes of the next write, in the order in which writes are prepared."""
        if not taken:
            return b""
        begins, self._begun = not self._begun, True
        lead = "\n" if self._needs_line_end else ""
        self._needs_line_end = False
        if begins and self._columns is not None:
            lead = self._line(self._columns)
        return self._script.encode(lead + "".join(taken), begins=begins)

    def _declared(self) -> tuple[str, ...]:
        return tuple(one.name for one in self._schema.fields) if self._schema else ()

    def _line(self, cells: Sequence[object]) -> str:
        self._writer.writerow(cells)
        return self._records.line

    def _columns_of_file(self) -> tuple[str, ...]:
        """The first record of the file. Raises OSError when it cannot be read as one."""
        head = self._file.read(0, min(self._file.size, _HEADER_BYTES_MAX)).decode(self._script.encoding, "replace")
        lines = [f"{line}\n" for line in head.removeprefix("\N{BYTE ORDER MARK}").split("\n")]
        try:
            columns = next(csv.reader(lines, delimiter=self._delimiter, strict=True), [])
        except csv.Error as error:
            raise OSError(f"{self._path}: expected a file that begins with a header, found {error}") from None
        if not columns or len(set(columns)) < len(columns):
            raise OSError(f"{self._path}: expected a file that begins with a header, found none")
        return tuple(columns)


class _Records:
    """What `csv.writer` writes to; it ends records with CR LF so that both are quoted, and here the CR goes."""

    line = ""

    def write(self, text: str) -> None:
        self.line = f"{text[:-2]}\n"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return msgspec.json.encode(value).decode()
