"""`http`: one request for each row; what came back becomes a field.

Why every answer is read before it is judged: what a server said is evidence, above all when the row then fails.

Invariants: the same row makes the same bytes under the same idempotency key, however often it is tried; nothing is sent
for a row that could not take the answer; nothing is sent twice by one attempt, and no redirect is followed; an attempt
ends by its deadline, however slowly the server speaks; at most `response_bytes_max` bytes of a body are held.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from urllib3 import BaseHTTPResponse, Timeout
from urllib3 import exceptions as failures

from engine.attempts import Attempt
from engine.plugin_api import RowError, effect
from engine.rows import Row
from engine.transforms.http_answer import Answer
from engine.transforms.http_connections import connections
from engine.transforms.http_template import BodyTemplate, UrlTemplate

TIMEOUT_SECONDS_MAX = 86_400.0
RESPONSE_BYTES_MAX = 1024 * 1024
IDEMPOTENCY_KEY = "Idempotency-Key"

_GRACE_SECONDS = 1.0
"""The engine's deadline lies this much behind ours, so that an attempt that is late can still say so itself."""

_CHUNK_BYTES = 64 * 1024
_BODILESS = frozenset({204, 304})
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS = frozenset({"connection", "content-length", "idempotency-key", "transfer-encoding"})


class _Request(NamedTuple):
    url: str
    body: object
    content: bytes | None


@effect
class Http:
    """Send `method` to `url` and put the answer into `output_field`: decoded when it is JSON, else as text.

    `{field}` in `url` and in the texts of `body` stands for the row's value, `{{` and `}}` for plain braces; a text of
    `body` that is nothing but `{field}` becomes that value with its type. `timeout` is in seconds, for all of an attempt.
    Statuses that may pass, and connections that fail, are tried again; any other status but 2xx fails the row.
    """

    def __init__(
        self, *, url: str, method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "GET", body: object = None,
        headers: dict[str, str] | None = None, timeout: float = 30.0, output_field: str = "response",
        response_bytes_max: int = RESPONSE_BYTES_MAX,
    ) -> None:
        if not 0 < timeout <= TIMEOUT_SECONDS_MAX:
            raise ValueError(f"expected timeout above 0 and at most {TIMEOUT_SECONDS_MAX:.0f} seconds, found {timeout}")
        if response_bytes_max < 1:
            raise ValueError(f"expected response_bytes_max of 1 or more, found {response_bytes_max}")
        self._url = UrlTemplate(url)
        self._method = method
        self._body = None if body is None else BodyTemplate(body)
        self._headers = _checked(headers or {}, body is not None)
        self._timeout = timeout
        self._output_field = output_field
        self._bytes_max = response_bytes_max
        self._connections = connections()
        self.deadline_seconds = timeout + _GRACE_SECONDS

    def __call__(self, row: Row, attempt: Attempt) -> dict[str, object]:
        """Ask for one row. Raises RowError, RetryableError, ConnectionError, TimeoutError."""
        if self._output_field in row:
            raise RowError(f"expected no field {self._output_field!r} before the answer, found one", "field_collision")
        request = self._filled(row)
        left = self._time_left(attempt)
        self._still(left)
        with attempt.calling("http", self._as_recorded(request)) as call:
            answer = self._exchange(request, attempt.key, left)
            call.answered(str(answer.status), answer.as_recorded())
        return {**row, self._output_field: answer.value()}

    def close(self) -> None:
        """Let go of the connections."""
        self._connections.clear()

    def _filled(self, row: Row) -> _Request:
        url = self._url.fill(row)
        if self._body is None:
            return _Request(url, None, None)
        body = self._body.fill(row)
        return _Request(url, body, json.dumps(body, allow_nan=False, separators=(",", ":")).encode())

    def _as_recorded(self, request: _Request) -> dict[str, object]:
        """What is sent, without the values of its headers: those may be credentials."""
        recorded: dict[str, object] = {"method": self._method, "url": request.url}
        if request.content is not None:
            recorded["body"] = request.body
        recorded["headers"] = sorted([*self._headers, IDEMPOTENCY_KEY])
        return recorded

    def _time_left(self, attempt: Attempt) -> Callable[[], float]:
        """The seconds left of `timeout`, or of the attempt when that has fewer."""
        beyond = max(0.0, attempt.seconds_left() - self._timeout)
        return lambda: attempt.seconds_left() - beyond

    def _exchange(self, request: _Request, key: str, left: Callable[[], float]) -> Answer:
        """Send the request and hear the answer out. Raises ConnectionError or TimeoutError."""
        try:
            response = self._send(request, key, self._still(left))
            try:
                content, whole = self._read(response, left)
            finally:
                # A connection with something unread on it is closed; one that is at its end was given back already.
                response.close()
        except failures.LocationValueError as error:
            raise RowError(f"expected a url that can be asked, found: {error}", "bad_url") from error
        except failures.NewConnectionError as error:
            raise ConnectionError(f"expected a connection, found {_shown(_cause(error))}") from error
        except failures.HTTPError as error:
            cause = _cause(error)
            if isinstance(cause, (failures.TimeoutError, TimeoutError)):
                raise self._too_late() from error
            raise ConnectionError(f"expected an answer, found {_shown(cause)}") from error
        return Answer.heard(response.status, response.headers, content, whole, self._bytes_max)

    def _send(self, request: _Request, key: str, seconds: float) -> BaseHTTPResponse:
        return self._connections.urlopen(
            self._method, request.url, body=request.content, headers={**self._headers, IDEMPOTENCY_KEY: key},
            timeout=Timeout(total=seconds, connect=seconds, read=seconds),
            retries=False, redirect=False, preload_content=False, decode_content=False,
        )

    def _read(self, response: BaseHTTPResponse, left: Callable[[], float]) -> tuple[bytes, bool]:
        """The body, or as much of it as may be held, and whether that is all."""
        if response.status < 200 or (response.status in _BODILESS and response.chunked):
            return b"", True  # left unread, so the connection is closed: what follows would be taken for the next answer
        content = bytearray()
        for chunk in response.stream(min(_CHUNK_BYTES, self._bytes_max + 1), decode_content=False):
            content += chunk
            if len(content) > self._bytes_max:
                return bytes(content[: self._bytes_max]), False
            self._still(left)
        return bytes(content), True

    def _still(self, left: Callable[[], float]) -> float:
        """The seconds that are left. Raises TimeoutError when there are none."""
        seconds = left()
        if seconds <= 0:
            raise self._too_late()
        return seconds

    def _too_late(self) -> TimeoutError:
        return TimeoutError(f"expected a whole answer within {self._timeout:g} s, found none")


def _checked(headers: Mapping[str, str], has_body: bool) -> dict[str, str]:
    """The headers to send, with the one that says what the body is."""
    seen: set[str] = set()
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"expected a header's name and one line of latin-1, found others at {name!r}")
        if name.lower() in _OURS or name.lower() in seen:
            raise ValueError(f"expected headers once each, and none that is set here, found {name!r}")
        seen.add(name.lower())
    return {**headers, "Content-Type": "application/json"} if has_body and "content-type" not in seen else dict(headers)


def _cause(error: BaseException) -> BaseException:
    """What lies under an error of the library, whose own text may name objects by their addresses."""
    inner = error.__cause__ or next((one for one in reversed(error.args) if isinstance(one, BaseException)), None)
    return error if inner is None else _cause(inner)


def _shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
