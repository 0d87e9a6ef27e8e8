"""A SQLite file as a URI, so that it can be opened in a mode: whatever signs its name holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def file_uri(path: Path, mode: Literal["ro", "rw"]) -> str:
    """`file:…?mode=…` for `sqlite3.connect(uri=True)` and for ATTACH."""
    name = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{name}?mode={mode}"
