"""`truncate`: cut texts to a length."""

from __future__ import annotations

from engine.plugin_api import RowError
from engine.rows import Row


class Truncate:
    """`fields` goes from a field to its most characters, `suffix` included, which ends a text that was cut.

    `strict` fails a row whose field is missing or no text; otherwise such a field stays as it is.
    """

    def __init__(self, *, fields: dict[str, int], suffix: str = "", strict: bool = False) -> None:
        for field, limit in fields.items():
            if limit < len(suffix) or limit < 0:
                raise ValueError(f"expected at least {len(suffix)} characters for {field!r}, found {limit}")
        self._fields = fields
        self._suffix = suffix
        self._strict = strict

    def __call__(self, row: Row) -> Row:
        """Cut one row's texts."""
        cut: dict[str, object] = {}
        for field, limit in self._fields.items():
            value = row.get(field)
            if isinstance(value, str):
                if len(value) > limit:
                    cut[field] = value[: limit - len(self._suffix)] + self._suffix
            elif self._strict:
                raise RowError(f"expected a text in field {field!r}, found {type(value).__name__}", "not_text")
        return {**row, **cut} if cut else row
