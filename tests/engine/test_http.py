"""`http` against a server that answers: what is sent, what is recorded, what the row gets."""

from __future__ import annotations

import json
import math
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.attempts import Attempt
from engine.plugin_api import RetryableError, RowError
from engine.plugins import Catalog, OptionsInvalid, bind
from engine.rows import freeze
from engine.transforms.http import Http
from tests.engine.asking import LONG_SECONDS, Make, attempting, make, only_call, server
from tests.kit.loopback import Answer, Held, Loopback, Seen, chunked, failing

__all__ = ["make", "server"]


def test_a_row_gets_the_decoded_answer_and_keeps_its_fields(server: Loopback, make: Make) -> None:
    """The field is a JSON value; the url is filled in, percent-encoded."""
    server.on("/rates/a%2Fb%20%C3%A9", Answer(b'{"rate": 1.5, "of": [1, null]}'))
    row = freeze({"code": "a/b é", "day": 3})
    made = make(server.url("/rates/{code}?day={day}&x=%26"))(row, attempting())
    assert made == {"code": "a/b é", "day": 3, "response": {"rate": 1.5, "of": [1, None]}}
    assert [(seen.method, seen.target, seen.body) for seen in server.seen] == [
        ("GET", "/rates/a%2Fb%20%C3%A9?day=3&x=%26", b"")
    ]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"7", 7),
        (b' "text" \n', "text"),
        (b"null", None),
        (b"\xef\xbb\xbf[1]", [1]),
        (b"plain \xc3\xa9", "plain é"),
        (b'{"a": 1} and more', '{"a": 1} and more'),
        (b'{"a": ', '{"a": '),
        (b"", ""),
    ],
)
def test_what_is_no_json_is_a_text(server: Loopback, make: Make, body: bytes, value: object) -> None:
    """The content decides, whatever type it is said to have."""
    server.on("/", Answer(body, headers={"Content-Type": "text/html"}))
    assert make(server.url())({}, attempting()) == {"response": value}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
def test_every_method_is_sent_as_it_is_named(server: Loopback, make: Make, method: str) -> None:
    """The answer to HEAD has no body, also where one is announced."""
    server.on("/", Answer(b"[1]"))
    made = make(server.url(), method=method)({}, attempting())
    assert made == {"response": "" if method == "HEAD" else [1]}
    assert [seen.method for seen in server.seen] == [method]


def test_the_body_is_filled_in_with_types_and_sent_as_json(server: Loopback, make: Make) -> None:
    """A text that is nothing but a field has the field's type; keys are no templates."""
    server.on("/", Answer(b"{}"))
    body = {"{id}": "{id}", "all": ["{tags}", "{gone}", {"note": "no {id}: {name} {{x}}"}], "n": 1.5, "yes": True, "z": None}
    row = freeze({"id": 7, "tags": ["a", {"b": 1}], "gone": None, "name": "é"})
    make(server.url(), method="POST", body=body)(row, attempting())
    (seen,) = server.seen
    assert json.loads(seen.body) == {
        "{id}": 7, "all": [["a", {"b": 1}], None, {"note": "no 7: é {x}"}], "n": 1.5, "yes": True, "z": None
    }
    assert seen.headers["content-type"] == "application/json"


def test_a_call_is_recorded_with_what_went_out_and_what_came_back(server: Loopback, make: Make) -> None:
    """Of the request's headers the names alone; of the answer's those that say what it is and when to come back."""
    answered = {"Content-Type": "application/json", "Retry-After": "3", "Set-Cookie": "secret"}
    server.on("/x", Answer(b'{"ok": true}', 201, answered))
    plugin = make(server.url("/x?q={q}"), method="PUT", body=["{q}"], headers={"X-Token": "secret"})
    attempt = attempting()
    plugin({"q": "a b"}, attempt)
    call = only_call(attempt)
    assert (call.kind, call.status, call.heard) == ("http", "201", True)
    assert call.request == {
        "method": "PUT", "url": server.url("/x?q=a%20b"), "body": ["a b"],
        "headers": ["Content-Type", "Idempotency-Key", "X-Token"],
    }
    assert call.response == {
        "status": 201, "headers": {"content-type": "application/json", "retry-after": "3"}, "body": {"ok": True}
    }
    assert server.seen[0].headers["x-token"] == "secret"


def test_a_request_without_a_body_says_nothing_of_one(server: Loopback, make: Make) -> None:
    """Neither in the record nor to the server."""
    server.on("/", Answer())
    attempt = attempting()
    make(server.url())({}, attempt)
    assert only_call(attempt).request == {"method": "GET", "url": server.url(), "headers": ["Idempotency-Key"]}
    assert "content-type" not in server.seen[0].headers


def test_every_attempt_sends_the_same_key_and_the_same_bytes(server: Loopback, make: Make) -> None:
    """A server that knows the key can tell a retry from a new request."""
    server.on("/", *failing(2), Answer(b'"done"'))
    plugin = make(server.url(), method="POST", body={"n": "{n}"})
    for _ in range(2):
        with pytest.raises(RetryableError):
            plugin({"n": 1}, attempting("the-key"))
    assert plugin({"n": 1}, attempting("the-key")) == {"n": 1, "response": "done"}
    assert {(seen.key, seen.body) for seen in server.seen} == {("the-key", b'{"n":1}')}
    assert len(server.seen) == 3


MAY_PASS = (408, 425, 429, 500, 502, 503, 504)


OTHERS = (103, 300, 301, 302, 303, 304, 307, 308, 400, 401, 404, 409, 410, 422, 501, 505, 599, 999)


@pytest.mark.parametrize("status", OTHERS)
def test_any_other_status_is_the_row_s_fault(server: Loopback, make: Make, status: int) -> None:
    """No redirect is followed, nothing is sent twice, and the answer is on record."""
    server.on("/", Answer(b"" if status < 200 else b'"why"', status, {"Location": "/elsewhere"}))
    attempt = attempting()
    with pytest.raises(RowError) as raised:
        make(server.url())({}, attempt)
    assert raised.value.code == f"http_{status}"
    assert [seen.target for seen in server.seen] == ["/"]
    assert only_call(attempt).status == str(status)


@pytest.mark.parametrize("status", MAY_PASS)
def test_a_status_that_may_pass_is_tried_again(server: Loopback, make: Make, status: int) -> None:
    """By the engine: the plugin itself asks once."""
    server.on("/", Answer(b'{"why": "busy"}', status))
    attempt = attempting()
    with pytest.raises(RetryableError, match=str(status)):
        make(server.url())({}, attempt)
    assert len(server.seen) == 1
    assert only_call(attempt).response == {"status": status, "headers": {}, "body": {"why": "busy"}}


def test_a_field_that_is_there_already_is_a_collision_and_nothing_is_sent(server: Loopback, make: Make) -> None:
    """Whatever its value: the outside world is left alone."""
    attempt = attempting()
    with pytest.raises(RowError) as raised:
        make(server.url(), output_field="out")({"out": None}, attempt)
    assert (raised.value.code, server.seen, attempt.close()) == ("field_collision", [], [])


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"a": NaN}', "NaN"),
        (b"[1, -Infinity]", "Infinity"),
        (b"[1e999]", "inf"),
        (b"9223372036854775808", "64 bits"),
        (b"1" * 5000, "64 bits"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"[" * 40 + b"]" * 40, "levels"),
        (b"[" * 100_000 + b"]" * 100_000, "levels"),
        (b"caf\xe9", "UTF-8"),
    ],
)
def test_an_answer_that_no_row_can_hold_is_a_bad_response(server: Loopback, make: Make, body: bytes, found: str) -> None:
    """It is on record as text all the same."""
    server.on("/", Answer(body))
    attempt = attempting()
    with pytest.raises(RowError, match=re.escape(found)) as raised:
        make(server.url())({}, attempt)
    assert raised.value.code == "bad_response"
    response = only_call(attempt).response
    assert isinstance(response, dict) and response["body"] == body.decode(errors="replace")


@pytest.mark.parametrize("size", [9, 10, 11, 200_000])
@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_body_longer_than_is_held_fails_the_row(server: Loopback, make: Make, size: int, in_chunks: bool) -> None:
    """The longest that is held is `response_bytes_max` bytes, however it is sent; the next answer is its own."""
    body = b"x" * size
    server.on("/", chunked(body[:4], body[4:]) if in_chunks else Answer(body), Answer(b"next"))
    plugin = make(server.url(), response_bytes_max=10)
    attempt = attempting()
    if size <= 10:
        assert plugin({}, attempt) == {"response": "x" * size}
    else:
        with pytest.raises(RowError) as raised:
            plugin({}, attempt)
        assert raised.value.code == "response_too_long"
        assert only_call(attempt).response == {"status": 200, "headers": {}, "body": None}
    assert plugin({}, attempting()) == {"response": "next"}


def test_threads_may_ask_at_once_and_each_gets_its_own_answer(server: Loopback, make: Make) -> None:
    """Eight requests are in flight together: none is answered before all have come."""
    together = threading.Barrier(8)

    def echo(seen: Seen) -> Answer:
        together.wait(LONG_SECONDS)
        return Answer(json.dumps([seen.target, seen.key]).encode())

    server.on("/of", echo)
    plugin = make(server.url("/of?n={n}"))

    def ask(n: int) -> object:
        return plugin({"n": n}, attempting(f"key-{n}"))["response"]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(32))) == [[f"/of?n={n}", f"key-{n}"] for n in range(32)]


def test_rows_one_after_the_other_share_a_connection(server: Loopback, make: Make) -> None:
    """Until the plugin is closed."""
    server.on("/", Answer(b"1"))
    plugin = make(server.url())
    for _ in range(3):
        plugin({}, attempting())
    plugin.close()
    plugin({}, attempting())
    connections = [seen.connection for seen in server.seen]
    assert len(set(connections[:3])) == 1
    assert connections[3] != connections[0]


def test_proxies_of_the_environment_are_not_asked(
    server: Loopback, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rows go is said in the pipeline file alone."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, server.url("/proxy"))
    with pytest.raises(RowError):
        make(server.url("/asked"))({}, attempting())
    assert [seen.target for seen in server.seen] == ["/asked"]


def test_an_attempt_without_time_sends_nothing(server: Loopback, make: Make) -> None:
    """And has made no call."""
    attempt = Attempt(seconds=0)
    with pytest.raises(TimeoutError):
        make(server.url())({}, attempt)
    assert (server.seen, attempt.close()) == ([], [])


def test_a_closed_attempt_sends_nothing(server: Loopback, make: Make) -> None:
    """The engine no longer hears it."""
    attempt = attempting()
    attempt.close()
    with pytest.raises(TimeoutError):
        make(server.url())({}, attempt)
    assert server.seen == []


def test_a_slow_answer_that_comes_in_time_is_heard(server: Loopback, make: Make) -> None:
    """Waiting is no fault."""
    gate = threading.Event()
    server.on("/", Held(gate, Answer(b'"late"')))
    plugin = make(server.url())
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(plugin, {}, attempting())
        gate.set()
        assert asked.result(LONG_SECONDS) == {"response": "late"}


def test_the_plugin_is_an_effect_that_takes_its_attempt_and_has_a_deadline_behind_its_timeout() -> None:
    """So that an attempt that is late can say so before the engine gives it up."""
    plugin = Catalog().find("transform", "http")
    assert (plugin.effect, plugin.takes_attempt, plugin.expands) == (True, True, False)
    bound = bind(plugin, {"url": "http://h/", "timeout": 5, "headers": {"X": "y"}})
    assert isinstance(bound, Http)
    assert 5 < bound.deadline_seconds < 10
    bound.close()


@pytest.mark.parametrize(
    "options",
    [
        {"method": "TRACE"}, {"timeout": 0}, {"timeout": -1}, {"timeout": math.inf}, {"timeout": math.nan},
        {"response_bytes_max": 0}, {"verify": False}, {"body": {"a": math.nan}}, {"body": {"a": "{"}},
        {"headers": {"X": "a\r\nY: b"}}, {"headers": {"X": "€"}}, {"headers": {"X Y": "a"}}, {"headers": {"": "a"}},
        {"headers": {"Idempotency-key": "mine"}}, {"headers": {"content-length": "1"}}, {"headers": {"A": "1", "a": "2"}},
        {"headers": {"Transfer-Encoding": "chunked"}}, {"headers": {"X": 1}},
    ],
)  # fmt: skip
def test_options_that_cannot_work_are_refused(options: dict[str, object]) -> None:
    """When the pipeline is built, not when the first row comes."""
    with pytest.raises(OptionsInvalid):
        bind(Catalog().find("transform", "http"), {"url": "http://h/", **options})
