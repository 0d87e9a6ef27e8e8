"""A set of whole numbers kept as intervals: what is closed costs memory per gap, not per number."""

from __future__ import annotations

from collections.abc import Iterator


class Intervals:
    """Numbers are added once each; adjacent ones are one half-open interval."""

    __slots__ = ("_end_of", "_start_of")

    def __init__(self) -> None:
        self._end_of: dict[int, int] = {}
        self._start_of: dict[int, int] = {}

    def add(self, number: int) -> None:
        """Add a number that is not in the set yet."""
        start = self._start_of.pop(number, number)
        end = self._end_of.pop(number + 1, number + 1)
        self._end_of[start] = end
        self._start_of[end] = start

    def __contains__(self, number: int) -> bool:
        return any(start <= number < end for start, end in self._end_of.items())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(sorted(self._end_of.items()))

    def __len__(self) -> int:
        """How many intervals, not how many numbers."""
        return len(self._end_of)
