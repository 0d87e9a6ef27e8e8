"""`line_explode`: one row for each line of a text.

Why only `\\n`, `\\r\\n` and `\\r` end a line: a form feed or a unicode separator is part of what somebody wrote, and a line
number must be the one that an editor shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.plugin_api import RowError
from engine.rows import Row
from engine.schema import shown
from engine.transforms.json_explode import exploded

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


class LineExplode:
    """Each line of the text in `source_field` becomes a row: the others of its fields, and the line in `output_field`.

    With `include_index` each has its place in the text, from 0, in `index_field`. A newline at the end begins no line, so an
    empty text makes no row; a row without a text, or with another field of a new one's name, is a row error.
    """

    def __init__(
        self, *, source_field: str, output_field: str = "line", include_index: bool = True, index_field: str = "line_index"
    ) -> None:
        if include_index and output_field == index_field:
            raise ValueError(f"expected an output_field other than index_field with include_index, found {output_field!r} "
                             "for both")
        self._source_field = source_field
        self._output_field = output_field
        self._index_field = index_field if include_index else None

    def __call__(self, row: Row) -> Iterator[dict[str, object]]:
        """The rows of one row's text, made as they are taken."""
        field = self._source_field
        if field not in row:
            raise RowError(f"expected field {field!r}, found none", "field_missing")
        text = row[field]
        if not isinstance(text, str):
            raise RowError(f"expected a text in field {field!r}, found {shown(text)}", "not_text")
        return exploded(row, field, _lines(text), self._output_field, self._index_field)


def _lines(text: str) -> Iterator[str]:
    return (found.group().rstrip("\r\n") for found in _LINE.finditer(text))
