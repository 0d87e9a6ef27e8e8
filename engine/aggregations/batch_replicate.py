"""`batch_replicate`: each member as often as it says.

Invariants: each copy's one parent is its member; a member that is rejected has no copy.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.plugin_api import BatchResult, Derived, Rejected, aggregation
from engine.rows import Row
from engine.schema import shown

COPY_INDEX = "copy_index"


@aggregation
class BatchReplicate:
    """`copies_field` says how often a row is copied, from 1 to `max_copies`; a row without it, `default_copies` times.

    With `include_copy_index` each copy has its number, from 0, as `copy_index`. A row that says anything else, or that has
    a `copy_index` already, is rejected.
    """

    def __init__(
        self, *, copies_field: str = "copies", default_copies: int = 1, max_copies: int = 1000,
        include_copy_index: bool = True,
    ) -> None:
        if max_copies < 1:
            raise ValueError(f"expected max_copies of 1 or more, found {max_copies}")
        if not 1 <= default_copies <= max_copies:
            raise ValueError(f"expected default_copies from 1 to {max_copies} (max_copies), found {default_copies}")
        if include_copy_index and copies_field == COPY_INDEX:
            raise ValueError(f"expected a copies_field other than {COPY_INDEX!r} with include_copy_index, found the same")
        self._copies_field = copies_field
        self._default_copies = default_copies
        self._max_copies = max_copies
        self._include_copy_index = include_copy_index

    def __call__(self, rows: Sequence[Row]) -> BatchResult:
        """Copy one batch's rows: the copies of a member stand together, in the members' order."""
        copies = [self._copies(ordinal, row) for ordinal, row in enumerate(rows)]
        made = (self._copy(row, ordinal, number)
                for ordinal, (row, times) in enumerate(zip(rows, copies, strict=True)) if isinstance(times, int)
                for number in range(times))
        return BatchResult(made, [one for one in copies if isinstance(one, Rejected)])

    def _copy(self, row: Row, ordinal: int, number: int) -> Derived:
        return Derived({**row, COPY_INDEX: number} if self._include_copy_index else row, (ordinal,))

    def _copies(self, ordinal: int, row: Row) -> int | Rejected:
        field = self._copies_field
        copies = row.get(field, self._default_copies)
        if not isinstance(copies, int) or isinstance(copies, bool):
            return Rejected(ordinal, f"expected an int in field {field!r}, found {shown(copies)}", "not_int")
        if not 1 <= copies <= self._max_copies:
            return Rejected(ordinal, f"expected 1 to {self._max_copies} copies in field {field!r}, found {copies}",
                            "copies_out_of_range")
        if self._include_copy_index and COPY_INDEX in row:
            return Rejected(ordinal, f"expected no field {COPY_INDEX!r} before the copies, found one", "field_collision")
        return copies
