"""Every test here works in a folder of its own, with no ledger named by the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doors import kept
from tests.kit.postgres_databases import Databases

collect_ignore = ["test_bad_ledgers.py"] if kept.ON_POSTGRES else []


@pytest.fixture(scope="session", autouse=True)
def server(request: pytest.FixtureRequest) -> Iterator[object]:
    """The server that keeps the ledgers, if they are not kept in files."""
    if not kept.ON_POSTGRES:
        yield None
        return
    found = request.getfixturevalue("_postgres")
    with kept.database(found):
        yield found


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: object) -> Iterator[Path]:
    """The working directory of one test."""
    monkeypatch.delenv("COUNTERFOIL_LEDGER", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    if isinstance(server, Databases):
        kept.forget(server)
