"""One attempt of an effect, as its plugin sees it: the key to send along, the time left, a recorder for its calls.

Why: what went out and what came back is evidence, also when the attempt then fails, hangs or dies.

Invariants: calls are in the order in which they were begun; a call that was not answered has no response; once the
attempt is closed nothing that the plugin still says is heard (its late answer is rejected).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

UNANSWERED = "unanswered"
_STATUS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}", re.ASCII)


class CallMade(NamedTuple):
    """What is known of a call when its attempt ends. `response` says nothing where none was `heard`."""

    kind: str
    status: str
    request: object
    response: object
    heard: bool
    latency_us: int


class Call:
    """One outside call: `with attempt.calling("http", request) as call: ...; call.answered("200", response)`.

    `request` and `response` are JSON values. Left without an answer it stands as `unanswered`, or under the name of what
    was raised.
    """

    def __init__(self, kind: str, request: object, now_ns: Callable[[], int]) -> None:
        self._kind = kind
        self._request = request
        self._status = UNANSWERED
        self._response: object = None
        self._heard = False
        self._now_ns = now_ns
        self._began_ns = now_ns()
        self._ended_ns: int | None = None

    def answered(self, status: str, response: object = None) -> None:
        """Say what came back: a short status (letters, digits, `_.:-`) and a JSON value. Only the first answer counts."""
        if self._ended_ns is None:
            self._ended_ns = self._now_ns()
            self._status = status_of(status)
            self._response, self._heard = response, True

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._ended_ns is None:
            self._ended_ns = self._now_ns()
            self._status = UNANSWERED if kind is None else status_of(kind.__name__)

    def made(self) -> CallMade:
        """What is known of the call now."""
        ended_ns = self._ended_ns if self._ended_ns is not None else self._now_ns()
        latency_us = max(0, ended_ns - self._began_ns) // 1000
        return CallMade(self._kind, self._status, self._request, self._response, self._heard, latency_us)


class Attempt:
    """What an effect gets besides its row. `key` is the same over all attempts and resumes of this token at this node.

    Made without arguments it does for a plugin's own tests: its clock stands still.
    """

    def __init__(self, key: str = "key", number: int = 1, seconds: float = 60.0, now_ns: Callable[[], int] = lambda: 0
                 ) -> None:
        self.key = key
        self.number = number
        self._now_ns = now_ns
        self._deadline_ns = now_ns() + int(seconds * 1_000_000_000)
        self._calls: list[Call] = []
        self._closed = False

    def seconds_left(self) -> float:
        """Time until the deadline, never below 0."""
        return max(0, self._deadline_ns - self._now_ns()) / 1_000_000_000

    def calling(self, kind: str, request: object) -> Call:
        """Begin an outside call; `kind` is a short word (`http`), `request` a JSON value that says what is sent.

        Raises TimeoutError when the deadline has passed: then nothing more may be sent.
        """
        if self._closed:
            raise TimeoutError("expected a call before the deadline, found one after it")
        call = Call(kind, request, self._now_ns)
        self._calls.append(call)
        return call

    @property
    def deadline_ns(self) -> int:
        """When the attempt has failed, on the clock it was given."""
        return self._deadline_ns

    def close(self) -> list[CallMade]:
        """Hear nothing more of the plugin; gives the calls begun until now."""
        self._closed = True
        return [call.made() for call in list(self._calls)]


def status_of(given: object) -> str:
    """The status as it was given, or `bad_status` for anything that a table cannot hold."""
    text = str(given) if isinstance(given, (str, int)) else ""
    return text if _STATUS.fullmatch(text) else "bad_status"
