"""`http` against a server that fails: every way to fail is one that is tried again, or one that the row is told."""

from __future__ import annotations

import gzip
import threading
import tracemalloc
import zlib
from itertools import count

import pytest

from engine.attempts import Attempt
from engine.plugin_api import RowError
from engine.transforms.http_answer import Answer as Answered
from tests.engine.asking import SHORT_SECONDS, Make, attempting, make, only_call, server
from tests.kit.loopback import Answer, Held, Loopback, Raw, Reply, Trickle, deaf, nobody

__all__ = ["make", "server"]

OK = b"HTTP/1.1 200 OK\r\n"
TEXT = b"so it is " * 100
PACKED = gzip.compress(TEXT)


def packed(body: bytes, coding: str = "gzip") -> Answer:
    """An answer that says how it is packed."""
    return Answer(body, headers={"Content-Encoding": coding})


def test_a_refused_connection_is_tried_again(make: Make) -> None:
    """The error names the cause, and no object by its address."""
    attempt = attempting()
    with nobody() as url, pytest.raises(ConnectionError, match="refused") as raised:
        make(url)({}, attempt)
    assert " at 0x" not in str(raised.value)
    assert (only_call(attempt).status, only_call(attempt).heard) == ("ConnectionError", False)


BROKEN: dict[str, Reply] = {
    "hangs up": Raw(),
    "resets": Raw(reset=True),
    "hangs up in the status line": Raw(b"HTTP/1.1 20"),
    "resets in the headers": Raw(OK + b"Content-Le", reset=True),
    "hangs up in the body": Raw(OK + b"Content-Length: 100\r\n\r\n{}"),
    "resets in the body": Raw(OK + b"Content-Length: 100\r\n\r\n{}", reset=True),
    "hangs up in a chunk": Raw(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"),
    "hangs up between chunks": Raw(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
    "says no length of a chunk": Raw(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n"),
    "speaks no http": Raw(b"220 mail.example ESMTP\r\n"),
    "has no status": Raw(b"HTTP/1.1 fine\r\n\r\n"),
    "has a long header": Raw(OK + b"X: " + b"x" * 70_000 + b"\r\n\r\n"),
    "has many headers": Raw(OK + b"X: x\r\n" * 200 + b"\r\n"),
    "has two lengths": Raw(OK + b"Content-Length: 2, 3\r\n\r\n{}"),
    "has two lengths in two lines": Raw(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "has a length below nothing": Raw(OK + b"Content-Length: -2\r\n\r\n{}"),
    "has a length that is none": Raw(OK + b"Content-Length: two\r\n\r\n{}"),
    "packs nothing": packed(b"not packed"),
    "packs with an error": packed(PACKED[:20] + b"\x00\x00\x00\x00" + PACKED[24:]),
    "packs a part": packed(PACKED[:-9]),
    "packs part of an end": packed(PACKED[:-1]),
    "packs more than one thing": packed(PACKED + b"rest"),
    "packs many things": packed(gzip.compress(b"") * 1000),
    "fails and packs nothing": Answer(b"no", 500, {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN)
def test_a_broken_answer_is_tried_again_and_the_next_one_is_heard(server: Loopback, make: Make, reply: Reply) -> None:
    """The server is at fault, not the row. The call stands in the record, unanswered."""
    server.on("/", reply, Answer(b'"well"'))
    plugin = make(server.url(), method="PUT", body=["once"])
    attempt = attempting()
    with pytest.raises(ConnectionError):
        plugin({}, attempt)
    assert len(server.seen) == 1
    assert (only_call(attempt).status, only_call(attempt).heard) == ("ConnectionError", False)
    assert plugin({}, attempting()) == {"response": "well"}


SLOW: dict[str, Reply] = {
    "never answers": Held(threading.Event()),
    "trickles a status line": Trickle(b"HTTP/1.1 200 O"),
    "trickles a header": Trickle(OK + b"X: "),
    "trickles headers": Trickle(OK, b"X: x\r\n"),
    "asks for patience": Trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "trickles a body": Trickle(OK + b"Content-Length: 100000\r\n\r\n"),
    "trickles a body without a length": Trickle(OK + b"\r\n"),
    "trickles a chunk's length": Trickle(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "trickles chunks": Trickle(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "trickles a chunk": Trickle(OK + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n"),
    "trickles a trailer": Trickle(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: x\r\n"),
    "trickles a failure": Trickle(b"HTTP/1.1 404 No\r\n\r\n"),
    "stops in a body": Trickle(OK + b"Content-Length: 100000\r\n\r\n{", b""),
}


@pytest.mark.parametrize("reply", SLOW.values(), ids=SLOW)
def test_an_answer_that_is_not_whole_in_time_is_a_timeout(server: Loopback, make: Make, reply: Reply) -> None:
    """However much of it came, and however steadily."""
    server.on("/", reply)
    attempt = attempting()
    with pytest.raises(TimeoutError, match="within"):
        make(server.url(), timeout=SHORT_SECONDS)({}, attempt)
    assert (only_call(attempt).status, only_call(attempt).heard) == ("TimeoutError", False)


def test_an_attempt_with_less_time_than_the_timeout_ends_with_its_time(server: Loopback, make: Make) -> None:
    """The time that is left counts, not the time that there was."""
    server.on("/", Trickle(OK + b"\r\n"))
    with pytest.raises(TimeoutError):
        make(server.url())({}, attempting(seconds=SHORT_SECONDS))


def test_a_server_that_does_not_read_is_a_timeout(make: Make) -> None:
    """Sending has no more time than the answer."""
    with deaf() as url, pytest.raises(TimeoutError):
        make(url, method="POST", body="{long}", timeout=SHORT_SECONDS)({"long": "x" * 20_000_000}, attempting())


def test_a_server_without_tls_is_asked_for_nothing_over_https(server: Loopback, make: Make) -> None:
    """And it may have it later."""
    with pytest.raises(ConnectionError):
        make(server.url().replace("http://", "https://"))({}, attempting())
    assert server.seen == []


@pytest.mark.parametrize(
    "body",
    [packed(PACKED), packed(PACKED, " X-GZIP"), packed(zlib.compress(TEXT), "deflate"), packed(TEXT, "identity"),
     packed(PACKED + gzip.compress(b"") + gzip.compress(b"!"))],
)  # fmt: skip
def test_a_packed_body_is_unpacked(server: Loopback, make: Make, body: Answer) -> None:
    """Also one that was packed in parts, and by a server that was not asked to."""
    server.on("/", body)
    assert str(make(server.url())({}, attempting())["response"]).rstrip("!") == TEXT.decode()


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "zstd"])
def test_a_body_packed_in_an_unknown_way_is_a_bad_response(server: Loopback, make: Make, coding: str) -> None:
    """It would be the same the next time. Its status is on record."""
    server.on("/", packed(PACKED, coding))
    attempt = attempting()
    with pytest.raises(RowError) as raised:
        make(server.url())({}, attempt)
    assert (raised.value.code, only_call(attempt).status) == ("bad_response", "200")


@pytest.mark.parametrize("size", [1000, 1001])
def test_a_packed_body_counts_by_what_is_in_it(server: Loopback, make: Make, size: int) -> None:
    """Not by how small it was packed."""
    server.on("/", packed(gzip.compress(b"x" * size)))
    plugin = make(server.url(), response_bytes_max=1000)
    if size <= 1000:
        assert plugin({}, attempting()) == {"response": "x" * size}
    else:
        with pytest.raises(RowError) as raised:
            plugin({}, attempting())
        assert raised.value.code == "response_too_long"


def test_an_answer_that_unpacks_to_fifty_megabytes_is_never_unpacked_that_far() -> None:
    """A hundred kilobytes are read, and not much more is held."""
    content = gzip.compress(b"x" * 50_000_000)
    tracemalloc.start()
    try:
        answer = Answered.heard(200, {"content-encoding": "gzip"}, content, True, 100_000)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.fault is not None and answer.fault[0] == "response_too_long"
    assert most < 5_000_000


def test_a_status_counts_more_than_a_body_that_is_too_long(server: Loopback, make: Make) -> None:
    """An error page may be as long as it likes."""
    server.on("/", Answer(b"x" * 100, 404))
    with pytest.raises(RowError) as raised:
        make(server.url(), response_bytes_max=10)({}, attempting())
    assert raised.value.code == "http_404"


MORE_MAY_COME: dict[str, Reply] = {
    "an early hint": Answer(b"", 103),
    "no content, in chunks": Answer(b"", 204, {"Transfer-Encoding": "chunked"}),
    "a long body that stops": Trickle(OK + b"Content-Length: 1000\r\n\r\n" + b"x" * 50, b""),
}


@pytest.mark.parametrize("first", MORE_MAY_COME.values(), ids=MORE_MAY_COME)
def test_what_may_still_come_of_one_answer_is_never_taken_for_the_next(server: Loopback, make: Make, first: Reply) -> None:
    """A connection on which something may be left is not used again."""
    server.on("/", first, Answer(b'"own"'))
    plugin = make(server.url(), response_bytes_max=20)
    try:
        plugin({}, attempting())
    except RowError as error:
        assert error.code in ("http_103", "response_too_long")
    assert plugin({}, attempting()) == {"response": "own"}
    assert server.seen[0].connection != server.seen[1].connection


def test_a_body_longer_than_was_said_ends_where_it_was_said(server: Loopback, make: Make) -> None:
    """The rest is nobody's answer."""
    server.on("/", Answer(b'"one"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2', 200, {"Content-Length": "5"}), Answer(b"3"))
    plugin = make(server.url())
    assert [plugin({}, attempting())["response"] for _ in range(2)] == ["one", 3]


def test_the_time_of_the_attempt_is_looked_at_between_chunks(server: Loopback, make: Make) -> None:
    """By its own clock, which here moves a second with every look."""
    server.on("/", Answer(b"x" * 1_000_000))
    seconds = count()
    attempt = Attempt(seconds=8, now_ns=lambda: next(seconds) * 1_000_000_000)
    with pytest.raises(TimeoutError):
        make(server.url())({}, attempt)
    assert len(server.seen) == 1
