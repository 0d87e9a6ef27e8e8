"""`batch_stats`: how many, their sum and their mean, for each group of a batch.

Why exact: what a batch adds up to must not depend on the order in which its rows came. Ints are summed as ints; with a
float among them, the group's sum is the double that is nearest to the true one.

Invariants: an output's parents are exactly the members it counts; a member that is not counted is rejected, with a reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import fsum, isfinite
from typing import NamedTuple, TypeGuard

import msgspec

from engine.plugin_api import BatchResult, Derived, Rejected, RowError, aggregation
from engine.rows import INT_MAX, INT_MIN, Row
from engine.schema import shown

_canonical = msgspec.json.Encoder(order="deterministic").encode
"""Tells JSON values apart: `1`, `1.0`, `true` and `"1"` differ, the order of an object's fields does not matter."""


class _Group(NamedTuple):
    value: object
    ordinals: list[int]
    numbers: list[int | float]


@aggregation
class BatchStats:
    """One row for each value of `group_by`, in the order of their first members; without it, one for the batch.

    `count` and `sum` are those of the group's numbers in `value_field`, `mean` too unless `compute_mean` is false;
    `batch_size` counts all members of the batch, the rejected ones too. A member without a finite number there, or without
    the field `group_by`, is rejected. A sum that no row can hold fails the batch.
    """

    def __init__(self, *, value_field: str, group_by: str | None = None, compute_mean: bool = True) -> None:
        made = ("count", "sum", "batch_size", "mean") if compute_mean else ("count", "sum", "batch_size")
        if group_by in made:
            raise ValueError(f"expected a group_by other than {', '.join(made)}, found {group_by!r}")
        self._value_field = value_field
        self._group_by = group_by
        self._compute_mean = compute_mean

    def __call__(self, rows: Sequence[Row]) -> BatchResult:
        """Count and sum one batch."""
        groups: dict[bytes, _Group] = {}
        rejected: list[Rejected] = []
        for ordinal, row in enumerate(rows):
            number = row.get(self._value_field)
            if not _is_number(number) or (self._group_by is not None and self._group_by not in row):
                rejected.append(self._rejected(ordinal, row))
                continue
            value = None if self._group_by is None else row[self._group_by]
            group = groups.setdefault(_canonical(value), _Group(value, [], []))
            group.ordinals.append(ordinal)
            group.numbers.append(number)
        return BatchResult([self._output(group, len(rows)) for group in groups.values()], rejected)

    def _rejected(self, ordinal: int, row: Row) -> Rejected:
        for field in (self._value_field, self._group_by):
            if field is not None and field not in row:
                return Rejected(ordinal, f"expected field {field!r}, found none", "field_missing")
        found = shown(row[self._value_field])
        return Rejected(ordinal, f"expected a finite number in field {self._value_field!r}, found {found}", "not_number")

    def _output(self, group: _Group, batch_size: int) -> Derived:
        count, total = len(group.numbers), self._sum(group.numbers)
        row: dict[str, object] = {} if self._group_by is None else {self._group_by: group.value}
        row |= {"count": count, "sum": total, "batch_size": batch_size}
        if self._compute_mean:
            row["mean"] = total / count
        return Derived(row, tuple(group.ordinals))

    def _sum(self, numbers: Sequence[int | float]) -> int | float:
        if all(isinstance(number, int) for number in numbers):
            total = sum(numbers)
            if INT_MIN <= total <= INT_MAX:
                return total
            raise RowError(f"expected a sum of field {self._value_field!r} in 64 bits, found a longer one", "sum_too_large")
        try:
            return _float_sum(numbers)
        except OverflowError:
            raise RowError(f"expected a finite sum of field {self._value_field!r}, found a larger one",
                           "sum_too_large") from None


def _is_number(value: object) -> TypeGuard[int | float]:
    return type(value) is int or (type(value) is float and isfinite(value))


def _float_sum(numbers: Sequence[int | float]) -> float:
    """The nearest double. `fsum` gives up when a sum on its way is too large, which depends on the order."""
    try:
        return fsum(_doubles(numbers))
    except OverflowError:
        return float(sum(map(Fraction, numbers)))


def _doubles(numbers: Sequence[int | float]) -> Iterator[float]:
    """The numbers as doubles that add up to the same: an int of 64 bits may take two."""
    for number in numbers:
        yield float(number)
        if isinstance(number, int):
            yield float(number - int(float(number)))
