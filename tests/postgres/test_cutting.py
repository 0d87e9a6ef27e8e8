"""The proxy cuts exactly where it is told to, and each place where a session can be cut gives both rows or none."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest

from tests.kit.cutting import Cut, How, Message, Proxy, after, before, cutting, points, within
from tests.kit.postgres import Postgres
from tests.kit.postgres_databases import connected

HANDED_ON: tuple[How, ...] = ("orderly", "client_only")
HEARD: tuple[How, ...] = ("rst", *HANDED_ON)


@pytest.fixture
def url(postgres_url: str) -> str:
    """A database with an empty table."""
    with connected(postgres_url) as connection:
        connection.execute("CREATE TABLE rows (number integer)")
    return postgres_url


def _session(url: str) -> None:
    """Two rows in one transaction."""
    with connected(url) as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO rows VALUES (1)")
        connection.execute("INSERT INTO rows VALUES (2)")
        connection.execute("COMMIT")


def _rows(url: str) -> int:
    """How many there are, when every other session is over; the table is empty again afterwards."""
    with connected(url) as connection:
        connection.execute("SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity "
                           "WHERE datname = current_database() AND pid <> pg_backend_pid()")
        return connection.execute("DELETE FROM rows").rowcount


def _recorded(url: str) -> Proxy:
    with cutting(url) as proxy:
        _session(proxy.url)
        proxy.await_ends()
    assert _rows(url) == 2
    return proxy


def _cut(url: str, cut: Cut) -> int:
    """The rows that are there when the session was cut, which it was told."""
    with cutting(url, cut) as proxy:
        with pytest.raises(psycopg.OperationalError):
            _session(proxy.url)
        assert proxy.made == [cut]
        if cut.how != "client_only":
            proxy.await_ends()
    return _rows(url)


def _spoken(messages: list[Message]) -> list[tuple[str, str]]:
    return [(message.direction, message.type) for message in messages]


def test_a_session_that_is_not_cut_passes_and_is_counted(url: str) -> None:
    """Every message in its direction, whole, numbered from 1; the same session gives the same messages."""
    first, second = _recorded(url).messages, _recorded(url).messages
    assert _spoken(first) == _spoken(second)
    assert [message.length for message in first if message.direction == "client"] == [
        message.length for message in second if message.direction == "client"]
    assert _spoken(first)[0] == ("client", "startup")
    assert _spoken(first)[-1] == ("client", "X")
    for direction in ("client", "server"):
        numbers = [message.number for message in first if message.direction == direction]
        assert numbers == list(range(1, len(numbers) + 1))
    asked = [message.type for message in first if b"COMMIT" in message.head]
    assert asked == ["Q", "C"]


def test_a_large_message_passes_whole(url: str) -> None:
    """Longer than any buffer on the way, in both directions."""
    with cutting(url) as proxy, connected(proxy.url) as connection:
        assert connection.execute("SELECT %s::text", ["x" * 5_000_000]).fetchone() == ("x" * 5_000_000,)


@pytest.mark.parametrize("how", HEARD)
def test_a_cut_before_the_commit_leaves_nothing(url: str, how: How) -> None:
    """The server never heard of it."""
    commit = _recorded(url).found("client", b"COMMIT")
    assert _cut(url, before(commit, how)) == 0
    assert _cut(url, within(commit, commit.length - 1, how)) == 0


@pytest.mark.parametrize("how", HEARD)
def test_a_cut_before_the_answer_to_the_commit_leaves_the_rows_and_an_error(url: str, how: How) -> None:
    """What a client must not take for a failure."""
    answer = _recorded(url).found("server", b"COMMIT")
    assert _cut(url, before(answer, how)) == 2
    assert _cut(url, after(answer, how)) == 2


def test_every_cut_of_a_session_gives_both_rows_or_none(url: str) -> None:
    """Before, within and after each message; and wherever an answer shows how far the server was, exactly which of them."""
    messages = _recorded(url).messages
    answered = messages.index(next(message for message in messages if b"COMMIT" in message.head
                                   and message.direction == "server"))
    for cut in points([message for message in messages if message.type != "X"][:-1]):
        at = next(index for index, message in enumerate(messages)
                  if (message.direction, message.number) == (cut.direction, cut.message))
        found = _cut(url, cut)
        assert found in (0, 2), cut
        if cut.direction == "server" or cut.keep_bytes is not None:
            assert found == (2 if at >= answered else 0), cut


@pytest.mark.parametrize("how", HANDED_ON)
def test_a_commit_that_was_handed_on_takes_place_though_the_client_is_gone(url: str, how: How) -> None:
    """The server reads what it got before it reads the end."""
    commit = after(_recorded(url).found("client", b"COMMIT"), how)
    with cutting(url, commit) as proxy:
        with pytest.raises(psycopg.OperationalError):
            _session(proxy.url)
        assert proxy.made == [commit]
        if how == "client_only":
            proxy.hang_up()
        proxy.await_ends()
    assert _rows(url) == 2


def test_a_server_whose_client_is_gone_goes_on_and_holds_its_locks(url: str) -> None:
    """The client's side alone is cut: another session meets the transaction that nobody will end, until it is hung up."""
    insert = _recorded(url).found("server", b"INSERT")
    with cutting(url, after(insert, "client_only")) as proxy:
        with pytest.raises(psycopg.OperationalError):
            _session(proxy.url)
        with connected(url) as other:
            other.execute("SET lock_timeout = 1")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("TRUNCATE rows")
            proxy.hang_up()
            proxy.await_ends()
            other.execute("SET lock_timeout = 0")
            other.execute("TRUNCATE rows")
    assert _rows(url) == 0


def test_a_silent_cut_ends_nothing_until_it_is_hung_up(url: str) -> None:
    """A network that has gone dead: no end is told to anybody."""
    hung_up = threading.Event()
    failed: list[bool] = []

    def work(url: str) -> None:
        try:
            _session(url)
        except psycopg.OperationalError:
            failed.append(hung_up.is_set())

    answer = _recorded(url).found("server", b"COMMIT")
    with cutting(url, before(answer, "silent")) as proxy:
        worker = threading.Thread(target=work, args=(proxy.url,))
        worker.start()
        proxy.await_cut()
        _session(proxy.url)  # whatever the first was told would have reached it before this one is through
        hung_up.set()
        proxy.hang_up()
        worker.join()
    assert failed == [True]
    assert _rows(url) == 4


def test_each_connection_has_its_own_cut_and_others_pass(url: str) -> None:
    """The second and the third are cut, the first and the fourth are not."""
    commit = _recorded(url).found("client", b"COMMIT")
    cuts = [before(commit)._replace(connection=2), before(commit, "orderly")._replace(connection=3)]
    with cutting(url, *cuts) as proxy:
        _session(proxy.url)
        for _ in cuts:
            with pytest.raises(psycopg.OperationalError):
                _session(proxy.url)
        _session(proxy.url)
        assert proxy.made == cuts
        assert {message.connection for message in proxy.messages} == {1, 2, 3, 4}
    assert _rows(url) == 4


def test_a_connection_can_be_given_one_cut_alone(url: str) -> None:
    """The second would never happen."""
    with pytest.raises(ValueError, match="cut once"), cutting(url, Cut("client", 1), Cut("server", 1)):
        pass


def test_a_server_that_is_away_is_a_connection_that_is_reset(postgres_server: Postgres, url: str) -> None:
    """The proxy is reached, and says so by its end."""
    with cutting(url) as proxy:
        postgres_server.stop()
        with pytest.raises(psycopg.OperationalError):
            connected(proxy.url)
        postgres_server.start()
        _session(proxy.url)
    assert _rows(url) == 2


def test_a_server_that_is_killed_ends_the_client_of_the_proxy(postgres_server: Postgres, url: str) -> None:
    """Not the proxy alone is between them: an end that is the server's own is handed on."""
    with cutting(url) as proxy, connected(proxy.url) as connection:
        connection.execute("INSERT INTO rows VALUES (1)")
        postgres_server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("INSERT INTO rows VALUES (2)")
        postgres_server.start()
    assert _rows(url) == 1


@pytest.mark.parametrize("end", [Proxy.hang_up, Proxy.end])
def test_a_proxy_that_is_left_leaves_no_thread(url: str, end: Callable[[Proxy], None]) -> None:
    """With a connection open through it, and with one that it holds open itself."""
    before_it = threading.active_count()
    startup = Cut("client", 1, None, "client_only")
    with cutting(url, startup) as proxy:
        with pytest.raises(psycopg.OperationalError):
            connected(proxy.url)
        if end is Proxy.hang_up:
            proxy.hang_up()
        with connected(proxy.url) as open_still:
            assert open_still.execute("SELECT 1").fetchone() == (1,)
    assert threading.active_count() == before_it
