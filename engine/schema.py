"""Row schemas: the fields that a source promises or a sink demands, and their types.

Why here: a source coerces (its material is often text), a sink only checks, nothing in between does either.

Invariants: what `coerce` gives without a fault is a valid row (see `engine.rows`), its declared fields first and in
declared order; what `check` lets pass is exactly of the declared types; neither changes the row that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal, NamedTuple, cast, get_args

from engine.rows import INT_MAX, INT_MIN, Row, check_row

Mode = Literal["fixed", "flexible", "observed"]
TypeName = Literal["int", "float", "str", "bool", "any"]
Converter = Callable[[object], object]

SHOWN_CHARS_MAX = 40

_INT_CHARS_MAX = 20
_INT_CHARS_SAFE = 18
_INT = re.compile(r"[+-]?[0-9]+")
_BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_ABSENT = object()


class Field(NamedTuple):
    """One declared field; an optional one may be missing, empty text or null, and is None then."""

    name: str
    type: TypeName
    optional: bool


@dataclass(frozen=True)
class RowSchema:
    """`fixed` refuses extra fields, `flexible` allows them; `observed` takes what comes and types what is declared."""

    mode: Mode
    fields: tuple[Field, ...]
    _converters: tuple[tuple[str, Converter], ...] = field(init=False, repr=False, compare=False)
    _types: tuple[tuple[str, type | None, bool], ...] = field(init=False, repr=False, compare=False)
    _names: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_converters", tuple((one.name, _converter(one)) for one in self.fields))
        object.__setattr__(self, "_types", tuple((one.name, _EXACT[one.type], one.optional) for one in self.fields))
        object.__setattr__(self, "_names", frozenset(one.name for one in self.fields))

    @staticmethod
    def parse(mode: str, fields: Sequence[str]) -> RowSchema:
        """Read a declaration such as `fixed`, `['id: int', 'note: str?']`. Raises ValueError with what was expected."""
        if mode not in get_args(Mode):
            raise ValueError(f"expected mode fixed, flexible or observed, found {shown(mode)}")
        declared = tuple([_parse_field(text) for text in fields])
        if mode != "observed" and not declared:
            raise ValueError(f"expected at least one field for mode {mode}, found none")
        seen: set[str] = set()
        for name, *_ in declared:
            if name in seen:
                raise ValueError(f"expected each field once, found {shown(name)} twice")
            seen.add(name)
        return RowSchema(cast(Mode, mode), declared)

    def coerce(self, row: dict[str, object]) -> tuple[dict[str, object], str | None]:
        """For sources: the row in declared types, and None; or the row as it came, and what is wrong with it."""
        made: dict[str, object] = {}
        try:
            for name, convert in self._converters:
                made[name] = convert(row[name])
        except (KeyError, ValueError):
            return self._coerce_slowly(row)
        if len(made) == len(row):
            return made, None
        return self._with_extras(row, made)

    def check(self, row: Row) -> str | None:
        """For sinks: what keeps the row from being of this schema, or None. Exact types: an int is no float."""
        present = 0
        for name, expected, optional in self._types:
            value = row.get(name, _ABSENT)
            if value is _ABSENT:
                if not optional and self.mode != "observed":
                    return self._fault(name, _ABSENT)
                continue
            present += 1
            if expected is not None and type(value) is not expected and not (value is None and optional):
                return self._fault(name, value)
        if present < len(row) and self.mode == "fixed":
            return self._extra_fault(row)
        return None

    def _coerce_slowly(self, row: dict[str, object]) -> tuple[dict[str, object], str | None]:
        """Coerce a row in which a field is missing or at fault."""
        made: dict[str, object] = {}
        for (name, _, optional), (_, convert) in zip(self.fields, self._converters, strict=True):
            value = row.get(name, _ABSENT)
            if value is _ABSENT:
                if self.mode == "observed":
                    continue
                if not optional:
                    return row, self._fault(name, _ABSENT)
                made[name] = None
                continue
            try:
                made[name] = convert(value)
            except ValueError:
                return row, self._fault(name, value)
        return self._with_extras(row, made)

    def _with_extras(self, row: dict[str, object], made: dict[str, object]) -> tuple[dict[str, object], str | None]:
        extras = {name: value for name, value in row.items() if name not in self._names}
        if not extras:
            return made, None
        if self.mode == "fixed":
            return row, self._extra_fault(row)
        fault = check_row(extras)
        return (row, fault) if fault else ({**made, **extras}, None)

    def _fault(self, name: str, value: object) -> str:
        declared = next(one for one in self.fields if one.name == name)
        expected = _EXPECTED[declared.type] + (" or nothing" if declared.optional else "")
        return f"field {shown(name)}: expected {expected}, found {'nothing' if value is _ABSENT else shown(value)}"

    def _extra_fault(self, row: Row) -> str:
        extra = next(name for name in row if name not in self._names)
        return f"field {shown(extra)}: expected only the declared fields, found one more"


def shown(value: object) -> str:
    """A value in a text for people: bounded, and escaped so that it stays data."""
    if isinstance(value, str):
        return repr(value) if len(value) <= SHOWN_CHARS_MAX else f"{value[:SHOWN_CHARS_MAX]!r}…"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
        return "an int beyond 64 bits"
    return f"{'null' if value is None else repr(value)[:SHOWN_CHARS_MAX]}"


def _parse_field(text: str) -> Field:
    if not isinstance(text, str):
        raise ValueError(f"expected a field as 'name: type', found {shown(text)}")
    name, colon, kind = (part.strip() for part in text.rpartition(":"))
    if not colon or not name:
        raise ValueError(f"expected a field as 'name: type', found {shown(text)}")
    bare = kind.removesuffix("?")
    if bare not in get_args(TypeName):
        raise ValueError(f"expected type int, float, str, bool or any for field {shown(name)}, found {shown(kind)}")
    return Field(name, cast(TypeName, bare), kind.endswith("?"))


def _converter(declared: Field) -> Converter:
    convert = _CONVERTERS[declared.type]
    if not declared.optional:
        return convert

    def convert_optional(value: object) -> object:
        return None if value is None or value == "" else convert(value)

    return convert_optional


def _to_int(value: object) -> object:
    if type(value) is str:
        if len(value) <= _INT_CHARS_SAFE and value.isdigit() and value.isascii():
            return int(value)
        if len(value) > _INT_CHARS_MAX or not _INT.fullmatch(value):
            raise ValueError(value)
        value = int(value)
    if type(value) is int and INT_MIN <= value <= INT_MAX:
        return value
    raise ValueError(value)


def _to_float(value: object) -> object:
    """Of what `float` reads only plain ASCII (no underscores, no blanks around it), and only finite numbers."""
    if type(value) is str:
        number = float(value)
        if value.isascii() and "_" not in value and value[0] > " " and value[-1] > " " and isfinite(number):
            return number
    elif type(value) is float:
        if isfinite(value):
            return value
    elif type(value) is int and INT_MIN <= value <= INT_MAX:
        return float(value)
    raise ValueError(value)


def _to_str(value: object) -> object:
    if type(value) is str:
        if not value.isascii():
            value.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
        return value
    raise ValueError(value)


def _to_bool(value: object) -> object:
    if type(value) is bool:
        return value
    if type(value) is str and (truth := _BOOLS.get(value.lower())) is not None:
        return truth
    raise ValueError(value)


def _to_any(value: object) -> object:
    if (type(value) is str and value.isascii()) or check_row({"": value}) is None:
        return value
    raise ValueError(value)


_CONVERTERS: dict[str, Converter] = {
    "int": _to_int, "float": _to_float, "str": _to_str, "bool": _to_bool, "any": _to_any,
}  # fmt: skip
_EXACT: dict[str, type | None] = {"int": int, "float": float, "str": str, "bool": bool, "any": None}
_EXPECTED = {
    "int": "an int of 64 bits",
    "float": "a finite number",
    "str": "text",
    "bool": "true or false",
    "any": "a JSON value",
}
