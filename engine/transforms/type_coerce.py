"""`type_coerce`: turn fields into another type, or fail the row."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite
from typing import Literal

from pydantic import BaseModel, ConfigDict

from engine.plugin_api import RowError
from engine.rows import INT_MAX, INT_MIN, Row

_INT = re.compile(r"[+-]?[0-9]{1,19}")
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


class Conversion(BaseModel):
    """One field and the type it is turned into."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str
    to: Literal["int", "float", "str", "bool"]


class TypeCoerce:
    """`conversions` are made in order; a field that is missing or cannot be converted fails the row, null stays null."""

    def __init__(self, *, conversions: list[Conversion]) -> None:
        self._conversions = [(one.field, one.to, _CONVERT[one.to]) for one in conversions]

    def __call__(self, row: Row) -> dict[str, object]:
        """Convert one row."""
        made = dict(row)
        for field, to, convert in self._conversions:
            if field not in made:
                raise RowError(f"expected field {field!r}, found none", "field_missing")
            value = made[field]
            if value is not None:
                try:
                    made[field] = convert(value)
                except (ValueError, OverflowError):
                    raise RowError(f"field {field!r}: expected {to}, found {value!r:.60}", "not_convertible") from None
        return made


def _to_int(value: object) -> int:
    if isinstance(value, str) and _INT.fullmatch(value.strip()):
        return _bounded(int(value))
    if isinstance(value, float) and value.is_integer():
        return _bounded(int(value))
    if isinstance(value, int):
        return int(value)
    raise ValueError


def _bounded(value: int) -> int:
    if not INT_MIN <= value <= INT_MAX:
        raise ValueError
    return value


def _to_float(value: object) -> float:
    if not isinstance(value, (str, int, float)) or (isinstance(value, str) and "_" in value):
        raise ValueError
    number = float(value)
    if not isfinite(number):
        raise ValueError
    return number


def _to_str(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)):
        raise ValueError
    return str(value)


def _to_bool(value: object) -> bool:
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ValueError
    return text in _TRUE


_CONVERT: dict[str, Callable[[object], object]] = {
    "int": _to_int, "float": _to_float, "str": _to_str, "bool": _to_bool,
}  # fmt: skip
