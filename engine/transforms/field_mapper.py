"""`field_mapper`: rename fields, and keep only the named ones when asked to."""

from __future__ import annotations

from engine.plugin_api import RowError
from engine.rows import Row


class FieldMapper:
    """`mapping` goes from a field to its new name. `select_only` drops every other field; `strict` fails a row that lacks
    one. A new name that another field of the row has fails the row: no value is ever overwritten silently.
    """

    def __init__(self, *, mapping: dict[str, str], select_only: bool = False, strict: bool = False) -> None:
        if len(set(mapping.values())) != len(mapping):
            raise ValueError("expected each new name once in mapping")
        self._mapping = mapping
        self._select_only = select_only
        self._strict = strict

    def __call__(self, row: Row) -> dict[str, object]:
        """Map one row."""
        mapping = self._mapping
        if self._strict:
            missing = [field for field in mapping if field not in row]
            if missing:
                raise RowError(f"expected field {missing[0]!r}, found none", "field_missing")
        if self._select_only:
            return {to: row[field] for field, to in mapping.items() if field in row}
        mapped: dict[str, object] = {}
        for field, value in row.items():
            to = mapping.get(field, field)
            if to in mapped:
                raise RowError(f"expected one field {to!r} after the mapping, found two", "field_collision")
            mapped[to] = value
        return mapped
