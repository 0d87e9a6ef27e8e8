"""Rows from JSON: one object per line (`jsonl`), or the objects of one array.

Why two forms: lines are read one by one, however many there are; an array is held whole, and therefore bounded.

Invariants: a line that is wrong is one invalid row; so is an element that is wrong inside; an array whose own text is
broken ends the source there, after the elements before it. A position is the number of an element, or of a line among
those that are not blank.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Generator, Iterator
from typing import Literal, TextIO

from engine.plugin_api import RowFault, SourceIdentity, SourceRow
from engine.rows import check_row
from engine.schema import RowSchema, shown
from engine.sources import files
from engine.sources.strict_json import StrictJson, Value, skip_blank

ARRAY_CHARS_MAX = 256 * 1024 * 1024

_LINE_ENDINGS = (".jsonl", ".ndjson")


class JsonSource:
    """Reads `path`; `data_key` names the array inside a top-level object, `field_mapping` gives fields other names."""

    def __init__(
        self, *, path: str, schema: RowSchema | None = None, format: Literal["json", "jsonl"] | None = None,
        data_key: str | None = None, encoding: str = "utf-8", field_mapping: dict[str, str] | None = None,
    ) -> None:
        self._lines = format == "jsonl" or (format is None and path.lower().endswith(_LINE_ENDINGS))
        if self._lines and data_key is not None:
            raise ValueError("expected no data_key for jsonl, whose lines are the rows")
        self._mapping = dict(field_mapping or {})
        if len(set(self._mapping.values())) < len(self._mapping):
            raise ValueError("expected field_mapping to give each field a name of its own")
        self._path = path
        self._schema = schema
        self._data_key = data_key
        self._encoding = encoding
        self._reads_as = files.check_encoding(encoding)
        self._strict = StrictJson()
        self._reading: Generator[SourceRow, None, None] | None = None

    def identity(self) -> SourceIdentity:
        """See `engine.plugin_api.Source`."""
        return files.identify("json", self._path)

    def rows(self, after: int | None) -> Iterator[SourceRow]:
        """See `engine.plugin_api.Source`. Raises ValueError where an array's text is broken."""
        self._reading = self._read_lines(after or 0) if self._lines else self._read_array(after or 0)
        return self._reading

    def close(self) -> None:
        """See `engine.plugin_api.Source`."""
        files.end_reading(self._reading)

    def _read_lines(self, after: int) -> Generator[SourceRow, None, None]:
        with files.open_text(self._path, self._reads_as, newline="\n") as stream:
            position = 0
            while True:
                try:
                    line = files.read_line(stream)
                except files.LineTooLong as error:
                    position += 1
                    if position > after:
                        yield files.too_long(position, error.beginning)
                    continue
                if not line:
                    return
                if skip_blank(line, 0) == len(line):
                    continue
                position += 1
                if position > after:
                    yield self._line(position, line.rstrip("\r\n"))

    def _line(self, position: int, line: str) -> SourceRow:
        if files.has_wrong_bytes(line):
            return SourceRow(position, files.raw(line), files.wrong_bytes(self._encoding))
        return self._row(position, self._strict.read_all(line), line)

    def _read_array(self, after: int) -> Generator[SourceRow, None, None]:
        with files.open_text(self._path, self._reads_as, newline="") as stream:
            text = self._whole(stream)
        try:
            for position, (start, found) in enumerate(self._elements(text), start=1):
                if position > after:
                    element = text[start : found.end]
                    if files.has_wrong_bytes(element):
                        yield SourceRow(position, files.raw(element), files.wrong_bytes(self._encoding))
                    else:
                        yield self._row(position, found, element)
        except json.JSONDecodeError as error:
            raise ValueError(f"{self._path}: expected a JSON array, found {error}") from None

    def _whole(self, stream: TextIO) -> str:
        text = stream.read(ARRAY_CHARS_MAX + 1)
        if len(text) > ARRAY_CHARS_MAX:
            expected = f"expected a json array of at most {ARRAY_CHARS_MAX} characters, or jsonl"
            raise OSError(errno.EFBIG, f"{expected}, found a longer array", self._path)
        return text

    def _elements(self, text: str) -> Iterator[tuple[int, Value]]:
        """Each element with where it begins. Raises `json.JSONDecodeError`."""
        at = skip_blank(text, 0)
        if at == len(text):
            return
        if self._data_key is None:
            at = yield from self._items(text, at)
        else:
            at = yield from self._items_of_key(text, at, self._data_key)
        if skip_blank(text, at) < len(text):
            raise json.JSONDecodeError("more after the end", text, skip_blank(text, at))

    def _items(self, text: str, at: int) -> Generator[tuple[int, Value], None, int]:
        """The elements of the array at `at`; gives where it ends."""
        if text[at : at + 1] != "[":
            raise json.JSONDecodeError("no array (a data_key names one inside an object)", text, at)
        at = skip_blank(text, at + 1)
        if text[at : at + 1] == "]":
            return at + 1
        while True:
            found = self._strict.read(text, at)
            yield at, found
            at = skip_blank(text, found.end)
            mark = text[at : at + 1]
            if mark == "]":
                return at + 1
            if mark != ",":
                raise json.JSONDecodeError("no ',' or ']'", text, at)
            at = skip_blank(text, at + 1)

    def _items_of_key(self, text: str, at: int, key: str) -> Generator[tuple[int, Value], None, int]:
        """The elements of the array under `key` of the object at `at`; gives where the object ends."""
        if text[at : at + 1] != "{":
            raise json.JSONDecodeError(f"no object with the key {shown(key)}", text, at)
        seen = False
        mark = ","
        while mark == ",":
            at = skip_blank(text, at + 1)
            if not seen and text[at : at + 1] == "}":
                break
            name = self._strict.read(text, at)
            at = skip_blank(text, name.end)
            if not isinstance(name.value, str) or text[at : at + 1] != ":":
                raise json.JSONDecodeError("no key and ':'", text, at)
            at = skip_blank(text, at + 1)
            if name.value == key:
                if seen:
                    raise json.JSONDecodeError(f"the key {shown(key)} twice", text, at)
                seen = True
                at = yield from self._items(text, at)
            else:
                at = self._strict.read(text, at).end
            at = skip_blank(text, at)
            mark = text[at : at + 1]
        if text[at : at + 1] != "}":
            raise json.JSONDecodeError("no ',' or '}'", text, at)
        if not seen:
            raise json.JSONDecodeError(f"no key {shown(key)}", text, at)
        return at + 1

    def _row(self, position: int, found: Value, text: str) -> SourceRow:
        value, _, fault = found
        if fault is not None:
            return SourceRow(position, files.raw(text), fault)
        if not isinstance(value, dict):
            fault = RowFault("not_an_object", f"expected an object, found {shown(value)}")
            return SourceRow(position, files.raw(text), fault)
        row: dict[str, object] = value
        if self._mapping:
            row = {self._mapping.get(name, name): inner for name, inner in row.items()}
            if len(row) < len(value):
                fault = RowFault("bad_value", "expected each field once after field_mapping, found one twice")
                return SourceRow(position, files.raw(text), fault)
        if self._schema is None:
            wrong = check_row(row)
            if wrong is None:
                return SourceRow(position, row, None)
            return SourceRow(position, files.raw(text), RowFault("bad_value", wrong))
        row, wrong = self._schema.coerce(row)
        if wrong is None:
            return SourceRow(position, row, None)
        return SourceRow(position, row if check_row(row) is None else files.raw(text), RowFault("schema", wrong))
