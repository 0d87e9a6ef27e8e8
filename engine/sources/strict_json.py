"""JSON by the book, and nothing that a lenient parser lets in: NaN, a key twice, an int of thousands of digits.

Why notes: a value that is wrong inside is still read to its end, so that the next one can be found after it.

Invariant: a value without a fault may still be no row (depth, 64 bits, lone surrogates): `engine.rows` and the schema
look at that.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from engine.plugin_api import RowFault
from engine.rows import DEPTH_MAX

_INT_CHARS_MAX = 20
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_TOO_DEEP = RowFault("bad_value", f"expected at most {DEPTH_MAX} levels, found more")
_BLANK = re.compile(r"[ \t\n\r]*")


class Value(NamedTuple):
    """One value, where its text ends, and what is wrong with it."""

    value: object
    end: int
    fault: RowFault | None


class StrictJson:
    """Reads values out of a text."""

    def __init__(self) -> None:
        self._notes: list[RowFault] = []
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_int=self._int,
                                         parse_constant=self._constant)

    def read(self, text: str, start: int = 0) -> Value:
        """The value that begins at `start`. Raises `json.JSONDecodeError` when there is none."""
        try:
            value, end = self._decoder.raw_decode(text, start)
        except RecursionError:
            self._notes.clear()
            return Value(None, _end_of_nested(text, start), _TOO_DEEP)
        if not self._notes:
            return Value(value, end, None)
        fault = self._notes[0]
        self._notes.clear()
        return Value(None, end, fault)

    def read_all(self, text: str) -> Value:
        """The one value of a text. What is no JSON is a fault."""
        try:
            found = self.read(text, skip_blank(text, 0))
        except json.JSONDecodeError as error:
            self._notes.clear()
            fault = RowFault("not_json", f"expected JSON, found at column {error.colno}: {error.msg}")
            return Value(None, len(text), fault)
        end = skip_blank(text, found.end)
        if end < len(text):
            return Value(None, len(text), RowFault("not_json", f"expected one value, found more at column {end + 1}"))
        return found

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) < len(pairs):
            self._notes.append(RowFault("bad_value", "expected each key once, found one twice"))
        return made

    def _int(self, digits: str) -> int:
        if len(digits) > _INT_CHARS_MAX:
            self._notes.append(RowFault("bad_value", f"expected an int of 64 bits, found one of {len(digits)} digits"))
            return 0
        return int(digits)

    def _constant(self, name: str) -> None:
        self._notes.append(RowFault("not_json", f"expected a finite number, found {name}"))


def skip_blank(text: str, start: int) -> int:
    """Where the next value or mark begins."""
    match = _BLANK.match(text, start)
    return match.end() if match else start


def _end_of_nested(text: str, start: int) -> int:
    """Where the list or object that begins at `start` ends, however deep it is. Raises `json.JSONDecodeError`."""
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text, start):
        mark = match.group()
        if mark in ("[", "{"):
            depth += 1
        elif mark in ("]", "}"):
            depth -= 1
        if depth == 0:
            return match.end()
    raise json.JSONDecodeError("an end of what is nested", text, len(text))
