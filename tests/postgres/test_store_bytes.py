"""What is packed by hand for `COPY` is read back as it was given, whatever it was; and what a URL says is what is meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import count

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from ledger.errors import UsageError
from ledger.postgres_copy import BLOCK_BYTES
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import PostgresUrl, is_postgres, parsed
from ledger.store import Part, Payload, Stored, StreamHead
from tests.kit.cutting import after, cutting
from tests.postgres.cuts import PATIENT

BIG = st.integers(-(2**63), 2**63 - 1)
INT = st.integers(-(2**31), 2**31 - 1)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
BODY = st.binary() | st.builds(lambda byte, size: byte * size, st.binary(min_size=1, max_size=1),
                               st.sampled_from([1_000_000, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 1]))
EVENT = st.builds(Stored, st.just(0), TEXT, INT, st.none() | TEXT, st.none() | BIG, BIG, BODY)
PAYLOAD = st.builds(Payload, st.just(0), st.none() | st.binary(), st.none() | BODY, st.booleans())
NOUGHT = Stored(0, "", 0, "", 0, 0, b"")
BEFORE_1970 = Stored(0, "", -1, "", -(2**63), -(2**63), b"")

RUNS = count()


@pytest.fixture(scope="module")
def log(request: pytest.FixtureRequest) -> Iterator[PostgresStore]:
    """A log of its own for all examples: each has a stream of its own."""
    from tests.kit.postgres import Postgres
    from tests.ledger.files import postgres_store

    server: Postgres = request.getfixturevalue("_postgres")
    server.settle()
    url = server.fresh_database()
    with closing(postgres_store(url)) as store:
        yield store
    server.settle()
    server.give_back(url)


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENT, max_size=4), st.lists(PAYLOAD, max_size=4))
@example([NOUGHT, BEFORE_1970], [Payload(0, None, None, True), Payload(0, b"", b"", False)])
@example([BEFORE_1970._replace(body=bytes(range(256)) * 4000, at=2**63 - 1, row_index=None, token=None)], [])
def test_whatever_is_appended_is_read_back_as_it_was(
    log: PostgresStore, events: list[Stored], payloads: list[Payload]
) -> None:
    """law L5: NULL and nothing are two things, numbers have their sign, bytes all their values, blocks end anywhere."""
    run = f"run {next(RUNS)} \U0001f4dc"
    numbered = [event._replace(seq=seq) for seq, event in enumerate(events, start=1)]
    kept = [payload._replace(n=n) for n, payload in enumerate(payloads, start=1)]
    head = StreamHead(run, len(events), 2**62, b"\0\xff", b"", "running")
    log.append([Part(None, 0, head, numbered, kept)])
    assert log.head(run) == head and list(log.read(run)) == numbered
    assert list(log.payloads_between(run, 1, 9)) == kept
    assert log.payloads(run, range(9)) == {payload.n: payload for payload in kept}


@settings(max_examples=15, deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=3), st.lists(PAYLOAD, max_size=3))
def test_whatever_was_appended_is_recognised_after_a_cut(
    log_url_of_module: str, events: list[Stored], payloads: list[Payload]
) -> None:
    """W6: what is compared after a cut is what was given: it is found, and not sent again."""
    run = f"run {next(RUNS)}"
    numbered = [event._replace(seq=seq) for seq, event in enumerate(events, start=1)]
    kept = [payload._replace(n=n) for n, payload in enumerate(payloads, start=1)]
    part = Part(None, 0, StreamHead(run, len(events), 1, b"", b"", "running"), numbered, kept)
    with cutting(log_url_of_module) as proxy, \
            closing(PostgresStore(parsed(proxy.url), write=True)) as store:
        store.append([part._replace(head=part.head._replace(run=f"{run}?"))])
        commit = proxy.found("client", b"COMMIT\0")
    with cutting(log_url_of_module, after(commit, "orderly")) as proxy, \
            closing(PostgresStore(parsed(proxy.url), write=True, patience=PATIENT)) as store:
        store.append([part])
        assert len(proxy.made) == 1 and list(store.read(run)) == numbered and list(store.payloads_between(run, 1, 9)) == kept


@pytest.fixture(scope="module")
def log_url_of_module(log: PostgresStore) -> str:
    """Its URL, password included."""
    return log._url.sqlalchemy()


WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(deadline=None)
@given(user=WORD, password=WORD, host=st.sampled_from(["localhost", "10.0.0.1", "::1", "db.example"]),
       port=st.none() | st.integers(1, 65535), name=WORD, service=st.none() | WORD)
def test_a_url_means_what_it_says_and_shows_no_password(
    user: str, password: str, host: str, port: int | None, name: str, service: str | None
) -> None:
    """W6: whatever stands in it, percent-encoded; the same again for those who ask by SQLAlchemy."""
    url = make_url("postgresql+psycopg://").set(username=user, password=password, host=host, port=port, database=name)
    found = parsed((url if service is None else url.set(query={"service": service})).render_as_string(hide_password=False))
    assert found.parameters["password"] == password and found.parameters["user"] == user
    assert found.parameters["dbname"] == name and found.parameters["host"] == host
    assert found.parameters.get("port") == (None if port is None else str(port))
    assert found.parameters.get("service") == service
    assert parsed(found.sqlalchemy()).parameters == found.parameters
    assert found.shown.isprintable() and found.schema == "counterfoil"
    secret = f"{password}!"
    hidden = PostgresUrl({**found.parameters, "password": secret}, found.schema, found.shown)
    assert secret not in repr(hidden) and secret not in str(hidden) and secret not in f"{[hidden]}"


@pytest.mark.parametrize("url", [
    "postgresql://", "postgresql://host", "postgresql://host/", "postgresql://host:port/db", "postgresql://host:99999999/",
    "postgresql://host/db?schema=A", "postgresql://host/db?schema=a-b",
    "postgresql://host/db?schema=1a", f"postgresql://host/db?schema={'a' * 41}", "postgresql://host/db?schema=a\"b",
    "postgresql://host/db?password=secret", "postgresql://host/db?conninfo=secret", "no url at all",
    "postgresql://host/db?dbname=secret", "postgresql://host/db%00", "postgresql://host/db?sslmode=a%00secret"])
def test_a_url_that_means_nothing_is_refused_without_repeating_it(url: str) -> None:
    """W6: one line, and no password in it."""
    with pytest.raises(UsageError) as told:
        parsed(url)
    assert told.value.code == "LEDGER_URL_INVALID" and "secret" not in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(("url", "expected"), [
    ("postgresql://h/d", True), ("postgres://h/d", True), ("PostgreSQL+psycopg://h/d", True),
    ("sqlite:///postgres.db", False), ("postgresql", False), ("postgresql+asyncpg://h/d", False), ("", False)])
def test_a_url_says_what_kind_it_is(url: str, expected: bool) -> None:
    """W6: by its scheme alone."""
    assert is_postgres(url) is expected


def test_a_host_with_something_unprintable_is_not_shown_as_it_is() -> None:
    """W6: what is shown of a URL is one line, whatever was written into it."""
    for url in ("postgresql://ho\x1b[31mst/db", "postgresql:///db?host=%0A%1B[31m", "postgresql://h/d%0Ab"):
        assert parsed(url).shown.isprintable()
