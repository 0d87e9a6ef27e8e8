"""A SQLite file as a URI, so that it can be opened in a mode; and text in it that somebody made no text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def file_uri(path: Path, mode: Literal["ro", "rw"]) -> str:
    """`file:…?mode=…` for `sqlite3.connect(uri=True)` and for ATTACH."""
    name = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{name}?mode={mode}"


UNDECODABLE = "Could not decode to UTF-8"
"""How `sqlite3` says that a text column holds no text."""


def as_text(data: bytes) -> str:
    """Text as it is stored; bytes that are no UTF-8 are shown escaped, so that they can be told of anywhere."""
    return data.decode("utf-8", "backslashreplace")
