"""`json_explode`: one row for each element of a list.

Why a collision is a row error: which fields a row has is known only when it comes, and an element that took the place of
another field would be a loss that nobody sees. It is looked for before the elements are, so that whether a row is at fault
does not depend on how long its list is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.plugin_api import RowError
from engine.rows import Row
from engine.schema import shown

ITEM_INDEX = "item_index"


class JsonExplode:
    """Each element of the list in `array_field` becomes a row: the others of its fields, and the element in `output_field`.

    With `include_index` each has its place in the list, from 0, as `item_index`. An empty list makes no row; a row without
    such a list, or with another field of a new one's name, is a row error.
    """

    def __init__(self, *, array_field: str, output_field: str = "item", include_index: bool = True) -> None:
        if include_index and output_field == ITEM_INDEX:
            raise ValueError(f"expected an output_field other than {ITEM_INDEX!r} with include_index, found the same")
        self._array_field = array_field
        self._output_field = output_field
        self._index_field = ITEM_INDEX if include_index else None

    def __call__(self, row: Row) -> Iterator[dict[str, object]]:
        """The rows of one row's list, made as they are taken."""
        field = self._array_field
        if field not in row:
            raise RowError(f"expected field {field!r}, found none", "field_missing")
        elements = row[field]
        if not isinstance(elements, list):
            raise RowError(f"expected a list in field {field!r}, found {shown(elements)}", "not_list")
        return exploded(row, field, elements, self._output_field, self._index_field)


def exploded(
    row: Row, field: str, elements: Iterable[object], output_field: str, index_field: str | None
) -> Iterator[dict[str, object]]:
    """The row once for each element, which takes the place of `field`, with its number when there is a field for it.

    Raises RowError when another field of the row has a new one's name.
    """
    others = {name: value for name, value in row.items() if name != field}
    for new in (output_field, index_field):
        if new in others:
            raise RowError(f"expected no other field {new!r}, found one", "field_collision")
    if index_field is None:
        return ({**others, output_field: element} for element in elements)
    return ({**others, output_field: element, index_field: place} for place, element in enumerate(elements))
