"""What tests of every folder may ask for: a real PostgreSQL, and an empty database on it.

Invariant: nothing of it is imported, made or started before the first test asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kit.postgres import Postgres


@pytest.fixture(scope="session")
def _postgres() -> Iterator[Postgres]:
    from tests.kit.postgres import given

    with given() as server:
        yield server


@pytest.fixture
def postgres_server(_postgres: Postgres) -> Iterator[Postgres]:
    """The server that all tests share. It runs; a test may stop or kill it, or start it with other settings."""
    _postgres.settle()
    yield _postgres
    _postgres.settle()


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """The URL of an empty database for one test, as its owner, who is no administrator."""
    url = postgres_server.fresh_database()
    yield url
    postgres_server.settle()
    postgres_server.give_back(url)
