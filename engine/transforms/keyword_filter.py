"""`keyword_filter`: a row whose text matches a blocked pattern is a row error.

Why RE2: patterns are other people's, rows are anyone's, and RE2 matches in time linear in the text, whatever the pattern.
"""

from __future__ import annotations

import re2  # type: ignore[import-untyped]

from engine.plugin_api import RowError
from engine.rows import Row


class KeywordFilter:
    """`fields` are searched (all texts of the row when it is `all`) for each of `blocked_patterns` (RE2 syntax)."""

    def __init__(self, *, fields: list[str] | str, blocked_patterns: list[str]) -> None:
        self._fields = [fields] if isinstance(fields, str) else fields
        self._all = self._fields == ["all"]
        options = re2.Options()
        options.log_errors = False
        self._patterns = []
        for pattern in blocked_patterns:
            try:
                self._patterns.append(re2.compile(pattern, options))
            except re2.error as error:
                text = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
                raise ValueError(f"expected a pattern of RE2 syntax, found {pattern!r}: {text}") from None

    def __call__(self, row: Row) -> Row:
        """Let a row pass or raise."""
        for field in row if self._all else self._fields:
            value = row.get(field)
            if isinstance(value, str):
                for number, pattern in enumerate(self._patterns, 1):
                    if pattern.search(value):
                        raise RowError(f"field {field!r} matches blocked pattern {number}", "blocked")
        return row
