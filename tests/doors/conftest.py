"""Every test here works in a folder of its own, with no ledger named by the environment."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of one test."""
    monkeypatch.delenv("COUNTERFOIL_LEDGER", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
