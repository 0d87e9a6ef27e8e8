"""Masking: values that the pipeline file took from the environment do not show in messages, error texts and recorded calls.

Rows are not masked: what a plugin puts into a row is data, and goes on as it is. Invariant: values shorter than
`SECRET_CHARS_MIN` are left alone, for they cannot be told from other text.
"""

from __future__ import annotations

from collections.abc import Iterable

SECRET_CHARS_MIN = 4
MASK = "***"


class Masking:
    """Masks `secrets` in texts, and in whatever JSON value holds texts."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._values = sorted({value for value in secrets if len(value) >= SECRET_CHARS_MIN}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without them."""
        for value in self._values:
            text = text.replace(value, MASK)
        return text

    def value(self, value: object) -> object:
        """The value without them, in its keys too; the same object when there is nothing to mask."""
        if not self._values:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(key): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner) for inner in value]
        return value
