"""Rows: JSON objects, frozen once they are in the pipeline.

Why frozen: one row is shared by a fork's branches and by the record; a plugin that changed its input would change what
the others see and what the log says they saw. What a plugin is given, and what it gives, is copied, so that even code
which knows no mutators changes only what is its own.

Invariants: a `Row` holds only what JSON can say and 64-bit readers can read back: null, bool, str without lone
surrogates, int of 64 bits, finite float, list, object with str keys; at most `DEPTH_MAX` levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import NoReturn

Row = Mapping[str, object]

DEPTH_MAX = 32
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

_ATOMS = frozenset({bool, type(None)})
_FLAT = frozenset({bool, type(None), str, int, float})


def _refuse(self: object, *_: object, **__: object) -> NoReturn:
    raise TypeError("rows are frozen: return a new one, e.g. {**row, 'field': value}")


class FrozenRow(dict[str, object]):
    """A dict whose mutators raise TypeError; reading, comparing and unpacking are those of dict, at dict's speed."""

    __slots__ = ()
    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __copy__(self) -> dict[str, object]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, object]) -> dict[str, object]:
        return {key: thaw(value) for key, value in self.items()}


class FrozenList(list[object]):
    """A list whose mutators raise TypeError."""

    __slots__ = ()
    __setitem__ = __delitem__ = append = extend = insert = pop = remove = clear = sort = reverse = _refuse
    __iadd__ = __imul__ = _refuse

    def __copy__(self) -> list[object]:
        return list(self)

    def __deepcopy__(self, memo: dict[int, object]) -> list[object]:
        return [thaw(value) for value in self]


def freeze(row: Row) -> FrozenRow:
    """A frozen copy of the row and of every dict and list in it, those that are frozen too.

    Whoever made the row, or is given it, may write into what is theirs: compiled code (`heapq`, `eval` in a row) writes past
    the mutators.
    """
    if _FLAT.issuperset(map(type, row.values())):
        return FrozenRow(row)
    return FrozenRow((key, _frozen(value)) for key, value in row.items())


def _frozen(value: object) -> object:
    if isinstance(value, dict):
        return freeze(value)
    return FrozenList(map(_frozen, value)) if isinstance(value, list) else value


def is_untouched(copy: object, value: object) -> bool:
    """Whether a frozen copy still holds the very values that it was made of, in their order."""
    if isinstance(copy, FrozenRow) and isinstance(value, FrozenRow):
        return list(copy) == list(value) and all(map(is_untouched, copy.values(), value.values()))
    if isinstance(copy, FrozenList) and isinstance(value, FrozenList):
        return len(copy) == len(value) and all(map(is_untouched, copy, value))
    return copy is value


def thaw(value: object) -> object:
    """A deep copy in plain dicts and lists."""
    if isinstance(value, dict):
        return {key: thaw(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [thaw(inner) for inner in value]
    return value


def check_row(row: object) -> str | None:
    """What keeps `row` from being a row, or None."""
    if not isinstance(row, dict):
        return f"expected a row, found {type(row).__name__}"
    for key, value in row.items():
        kind = type(value)
        if kind is str:
            if not value.isascii() and (fault := _text_fault(value)):
                return f"{_named(key)}: {fault}"
        elif kind not in _ATOMS and (fault := _fault(value, 1)):
            return f"{_named(key)}: {fault}"
        if type(key) is not str:
            return f"expected field names that are text, found {type(key).__name__}"
        if not key.isascii() and (fault := _text_fault(key)):
            return f"a field's name: {fault}"
    return None


def value_fault(value: object) -> str | None:
    """What keeps any value from being one that a row may hold, or None."""
    return _fault(value, 0)


def _fault(value: object, depth: int) -> str | None:
    """What keeps a value from being JSON; exact types, so that nothing encodes as something else."""
    kind = type(value)
    if kind is int:
        return None if INT_MIN <= value <= INT_MAX else "expected an int of 64 bits, found a longer one"  # type: ignore[operator]
    if kind is float:
        return None if isfinite(value) else f"expected a finite number, found {value}"  # type: ignore[arg-type]
    if kind is str:
        return _text_fault(value)  # type: ignore[arg-type]
    if kind in _ATOMS:
        return None
    if depth >= DEPTH_MAX:
        return f"expected at most {DEPTH_MAX} levels, found more"
    if isinstance(value, list):
        return next((fault for item in value if (fault := _fault(item, depth + 1))), None)
    if isinstance(value, dict):
        return _object_fault(value, depth)
    return f"expected a JSON value, found {kind.__name__}"


def _object_fault(value: dict[object, object], depth: int) -> str | None:
    for key, inner in value.items():
        if type(key) is not str:
            return f"expected field names that are text, found {type(key).__name__}"
        if fault := _text_fault(key) or _fault(inner, depth + 1):
            return fault
    return None


def _text_fault(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return "expected text, found a lone surrogate"
    return None


def _named(key: object) -> str:
    return f"field {key!r}"[:80]
