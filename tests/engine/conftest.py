"""What several tests of the engine are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.reading import Put


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes bytes to a file and gives its path."""

    def put_bytes(content: bytes, name: str = "in.csv") -> str:
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return put_bytes
