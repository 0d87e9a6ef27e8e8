"""One attempt of an effect, as its plugin sees it: the key to send along, the time left, a recorder for its calls.

Why: what went out and what came back is evidence, also when the attempt then fails, hangs or dies.

Invariants: calls are in the order in which they were begun, each as it was said when it was said; a call that was not
answered has no response; after the deadline, and once the attempt is closed, nothing that the plugin still says is heard.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

import msgspec

from engine.codes import text_of
from engine.plugin_api import DEADLINE_SECONDS, RowError

UNANSWERED = "unanswered"
BAD_STATUS = "bad_status"
CALLS_MAX = 1000
CALL_BYTES_MAX = 2**26
"""What the requests and responses of one attempt may come to together."""
_STATUS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}", re.ASCII)

Encode = Callable[[object], bytes]


class CallMade(NamedTuple):
    """What is known of a call: request and response as JSON; None for a response that was not heard."""

    kind: object
    status: str
    request: bytes
    response: bytes | None
    latency_us: int


class Call:
    """One outside call: `with attempt.calling("http", request) as call: ...; call.answered("200", response)`.

    Left without an answer it stands as `unanswered`, or under the name of what was raised.
    """

    def __init__(self, attempt: Attempt, kind: object, request: bytes) -> None:
        self._attempt = attempt
        self._kind = kind
        self._request = request
        self._status = UNANSWERED
        self._response: bytes | None = None
        self._began_ns = attempt.now_ns()
        self._ended_ns: int | None = None

    def answered(self, status: str, response: object = None) -> None:
        """Say what came back: a short status (letters, digits, `_.:-`) and a JSON value; only the first answer counts."""
        self._end(status_of(status), self._attempt.encode(response))

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end(UNANSWERED if kind is None else status_of(kind.__name__), None)

    def _end(self, status: str, response: bytes | None) -> None:
        now_ns = self._attempt.now_ns()
        if self._ended_ns is None and now_ns < self._attempt.deadline_ns:
            self._ended_ns = now_ns
            self._status, self._response = status, response

    @property
    def size(self) -> int:
        """Bytes of request and response."""
        return len(self._request) + len(self._response or b"")

    def made(self) -> CallMade:
        """What is known of the call now."""
        ended_ns = self._ended_ns if self._ended_ns is not None else self._attempt.now_ns()
        latency_us = max(0, ended_ns - self._began_ns) // 1000
        return CallMade(self._kind, self._status, self._request, self._response, latency_us)


class Attempt:
    """What an effect gets besides its row. `key` is the same over all attempts and resumes of this token at this node.

    Made without arguments it does for a plugin's own tests: its clock stands still.
    """

    def __init__(self, key: str = "key", number: int = 1, seconds: float = DEADLINE_SECONDS,
                 now_ns: Callable[[], int] = lambda: 0, encode: Encode = msgspec.json.encode) -> None:
        self.key = key
        self.number = number
        self.now_ns = now_ns
        self.encode = encode
        self.deadline_ns = now_ns() + int(seconds * 1_000_000_000)
        self._calls: list[Call] = []
        self._closed = False

    def seconds_left(self) -> float:
        """Time until the deadline, never below 0."""
        return max(0, self.deadline_ns - self.now_ns()) / 1_000_000_000

    def calling(self, kind: str, request: object) -> Call:
        """Begin an outside call; `kind` is a short word (`http`), `request` a JSON value that says what is sent.

        Raises TimeoutError when the deadline has passed, RowError after `CALLS_MAX` calls: then nothing more may be sent.
        """
        encoded = self.encode(request)
        if self._closed or self.now_ns() >= self.deadline_ns:
            raise TimeoutError("expected a call before the deadline, found one after it")
        if len(self._calls) >= CALLS_MAX or sum(call.size for call in self._calls) > CALL_BYTES_MAX:
            raise RowError(f"expected at most {CALLS_MAX} calls and {CALL_BYTES_MAX} bytes of them in one attempt, found "
                           "more", "limit_exceeded")
        call = Call(self, kind, encoded)
        self._calls.append(call)
        return call

    def close(self) -> list[CallMade]:
        """Hear nothing more of the plugin; gives the calls begun until now."""
        self._closed = True
        return [call.made() for call in list(self._calls)]


def status_of(given: object) -> str:
    """The status as it was given, or `bad_status` for anything that a table cannot hold."""
    text = text_of(given) if isinstance(given, (str, int)) else ""
    return text if _STATUS.fullmatch(text) else BAD_STATUS
