"""Logs on PostgreSQL for the tests of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy.engine import make_url

from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from tests.kit.postgres import Postgres
from tests.kit.postgres_databases import connected
from tests.ledger.files import postgres_store


@pytest.fixture
def log_url(postgres_url: str) -> str:
    """The URL of a log without a stream."""
    postgres_store(postgres_url).close()
    return postgres_url


@pytest.fixture
def reading(log_url: str) -> Iterator[PostgresStore]:
    """The log as somebody else reads it, by a connection that nobody cuts."""
    with closing(PostgresStore(parsed(log_url), write=False)) as store:
        yield store


@pytest.fixture
def unarmed_url(postgres_server: Postgres) -> Iterator[str]:
    """The same where nobody but the administrator may end another's session."""
    url = postgres_server.fresh_database()
    with connected(postgres_server.url(make_url(url).database or "")) as administrator:
        administrator.execute("REVOKE EXECUTE ON FUNCTION pg_terminate_backend(integer, bigint) FROM PUBLIC")
    postgres_store(url).close()
    yield url
    postgres_server.settle()
    postgres_server.drop(url)
