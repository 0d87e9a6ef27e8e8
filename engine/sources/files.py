"""Text files as sources read them: identified, decoded so that a wrong byte spoils one row, cut into bounded lines.

Why surrogateescape: a byte that is no text in the named encoding becomes a lone surrogate, which no decoded text holds
otherwise; the row it is in can be told from its neighbours, and the byte can be shown.

Invariants: at most `RECORD_CHARS_MAX` characters of a line are held; nothing here is read twice.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import suppress
from hashlib import file_digest
from typing import TextIO

from engine.plugin_api import PIPE, RowFault, SourceIdentity, SourceRow

FIELD_CHARS_MAX = 128 * 1024
RECORD_CHARS_MAX = 4 * 1024 * 1024
RAW_CHARS_MAX = 4000

NUL = RowFault("nul", "expected text, found a NUL byte")


def identify(kind: str, path: str) -> SourceIdentity:
    """The file's size and hash, read once through; those of a pipe are unknown. Raises OSError."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return SourceIdentity(kind + PIPE, path, None, None)
    with open(path, "rb") as content:
        digest = file_digest(content, "sha256").hexdigest()
        return SourceIdentity(kind, path, os.fstat(content.fileno()).st_size, digest)


def check_encoding(encoding: str) -> str:
    """The encoding to read with: UTF-8 may begin with a byte order mark. Raises ValueError when it is unknown."""
    try:
        "".encode(encoding)
    except LookupError:
        raise ValueError(f"expected the name of a text encoding, found {encoding!r}") from None
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def open_text(path: str, encoding: str, newline: str | None) -> TextIO:
    """The file as text; `newline` as for `open`. Raises OSError."""
    return open(path, encoding=encoding, errors="surrogateescape", newline=newline)


class LineTooLong(Exception):
    """A line of more than `RECORD_CHARS_MAX` characters: `beginning` is what is kept of it; the rest was skipped."""

    def __init__(self, beginning: str) -> None:
        super().__init__("a line that is too long")
        self.beginning = beginning


def read_line(stream: TextIO) -> str:
    """The next line with its ending, or "" at the end. Raises `LineTooLong`, after which the next line can be read."""
    line = stream.readline(RECORD_CHARS_MAX)
    if len(line) < RECORD_CHARS_MAX or line.endswith(("\n", "\r")):
        return line
    rest = stream.readline(RECORD_CHARS_MAX)
    while rest and not rest.endswith(("\n", "\r")):
        rest = stream.readline(RECORD_CHARS_MAX)
    raise LineTooLong(line[:RAW_CHARS_MAX])


def too_long(position: int, beginning: str) -> SourceRow:
    """The row of a record that is longer than a source holds."""
    text = f"expected a record of at most {RECORD_CHARS_MAX} characters, found a longer one"
    return SourceRow(position, {"raw": raw(beginning)}, RowFault("field_too_long", text))


def raw(text: str) -> str:
    """The beginning of what an invalid row was read from, in a form that can be recorded."""
    return shown_bytes(text[:RAW_CHARS_MAX])[:RAW_CHARS_MAX]


def has_wrong_bytes(text: str) -> bool:
    """Whether the decoder met bytes that are no text."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def shown_bytes(text: str) -> str:
    """The text with each byte that is no text as `\\xNN`."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def wrong_bytes(encoding: str) -> RowFault:
    """The fault of a row that is not in the file's encoding."""
    return RowFault("encoding", f"expected text in {encoding}, found bytes that are none")


def end_reading(reading: Generator[SourceRow, None, None] | None) -> None:
    """Close the file behind a reading; one that another thread is in the middle of ends with that thread's reading."""
    if reading is not None:
        with suppress(ValueError):
            reading.close()
