"""Rows into JSON: one object per line (`jsonl`), or the elements of one array.

Why lines are the better choice: a file of lines is whole after every write; an array is JSON only once it is closed.

Invariants: `[` begins the first write that holds a row, `]` is written when the run is finished and cut off again on
resume; rows are written in the order of their fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from engine.plugin_api import Claim, Delivery, Prepared, Refusal, Written
from engine.rows import Row
from engine.schema import RowSchema
from engine.sinks import files

_LINE_ENDINGS = (".jsonl", ".ndjson")
_INDENT_MAX = 16


class JsonSink:
    """Writes to `path`; `indent` spaces per level where it is an array."""

    delivery: Delivery = "truncatable"

    def __init__(
        self, *, path: str, schema: RowSchema | None = None, format: Literal["json", "jsonl"] | None = None,
        indent: int | None = None, encoding: str = "utf-8", mode: Literal["write", "append"] = "write",
    ) -> None:
        self._lines = format == "jsonl" or (format is None and path.lower().endswith(_LINE_ENDINGS))
        if self._lines and indent is not None:
            raise ValueError("expected no indent for jsonl, where a row is a line")
        if indent is not None and not 0 <= indent <= _INDENT_MAX:
            raise ValueError(f"expected indent from 0 to {_INDENT_MAX}, found {indent}")
        if not self._lines and mode == "append":
            raise ValueError("expected format jsonl for mode append: a closed array cannot grow")
        self._schema = schema
        self._indent = indent
        self._script = files.Script(encoding)
        self._file = files.ArtifactFile(path, mode)
        self._encode = msgspec.json.Encoder().encode
        self._begun = False
        self._needs_line_end = False

    def open(self, claim: Claim) -> None:
        """See `engine.plugin_api.Sink`."""
        self._file.open(claim)
        self._begun = self._file.size > 0
        self._needs_line_end = self._lines and files.lacks_line_end(self._file, self._script.newline)

    def offset(self) -> int:
        """See `engine.plugin_api.Sink`."""
        return self._file.size

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """See `engine.plugin_api.Sink`."""
        refused: list[Refusal] = []
        taken: list[str] = []
        for ordinal, row in enumerate(rows):
            text = self._text(row)
            refusal = self._refusal(ordinal, row, text)
            if refusal is None:
                taken.append(text)
            else:
                refused.append(refusal)
        return files.prepared(self._content(taken), len(rows), refused)

    def write(self, prepared: Prepared, key: str) -> Written:
        """See `engine.plugin_api.Sink`."""
        return self._file.write(prepared)

    def close(self, finished: bool) -> None:
        """See `engine.plugin_api.Sink`."""
        try:
            if finished:
                self._file.finish()
            if finished and not self._lines:
                end = "\n]\n" if self._begun else "[]\n"
                self._file.append(self._script.encode(end, begins=not self._begun))
        finally:
            self._file.close()

    def _refusal(self, ordinal: int, row: Row, text: str) -> Refusal | None:
        wrong = None if self._schema is None else self._schema.check(row)
        if wrong is not None:
            return Refusal(ordinal, "schema", wrong)
        return self._script.refusal(ordinal, text)

    def _text(self, row: Row) -> str:
        data = self._encode(row)
        if self._indent is None:
            return data.decode()
        pad = " " * self._indent
        return pad + msgspec.json.format(data, indent=self._indent).decode().replace("\n", f"\n{pad}")

    def _content(self, taken: list[str]) -> bytes:
        """The bytes of the next write, in the order in which writes are prepared."""
        if not taken:
            return b""
        begins, self._begun = not self._begun, True
        if not self._lines:
            return self._script.encode(("[\n" if begins else ",\n") + ",\n".join(taken), begins=begins)
        lead = "\n" if self._needs_line_end else ""
        self._needs_line_end = False
        return self._script.encode(lead + "\n".join(taken) + "\n", begins=begins)
