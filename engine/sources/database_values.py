"""What a database holds, as values that a row may hold.

Invariants: nothing is rounded and nothing is guessed: what JSON has no form for is text in its usual form, or it is left as
it is, and makes the row invalid.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

from engine.rows import value_fault
from engine.sources import files


def with_bools(row: Sequence[object], places: list[int]) -> list[object]:
    """The values with 0 and 1 at these places as truth values."""
    values = list(row)
    for place in places:
        if type(values[place]) is int and values[place] in (0, 1):
            values[place] = bool(values[place])
    return values


def json_value(value: object) -> object:
    """The value as JSON has it; what JSON has nothing for is left, and makes the row invalid."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID, timedelta)):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (list, tuple)):
        return [json_value(one) for one in value]
    if isinstance(value, dict):
        return {name: json_value(one) for name, one in value.items()}
    return value


def recordable(row: dict[str, object]) -> dict[str, object]:
    """An invalid row in a form that can be recorded."""
    return {files.shown_bytes(name): value if value_fault(value) is None else files.raw(str(value))
            for name, value in row.items()}
