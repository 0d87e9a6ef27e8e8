"""How the tests of `http` ask: a server of their own, plugins that are closed again, attempts with a real clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import msgspec
import pytest

from engine.attempts import Attempt
from engine.transforms.http import Http
from tests.kit.loopback import Loopback, serving

SHORT_SECONDS = 0.3
"""For what must time out."""

LONG_SECONDS = 20.0
"""For what must not, on the slowest machine."""

Make = Callable[..., Http]


def attempting(key: str = "key-1", seconds: float = LONG_SECONDS) -> Attempt:
    """An attempt that begins now."""
    return Attempt(key=key, seconds=seconds, now_ns=time.monotonic_ns)


class Asked(NamedTuple):
    """A call as it is on record: its request and response as the values they are."""

    kind: object
    status: str
    request: Any
    response: Any
    heard: bool


def only_call(attempt: Attempt) -> Asked:
    """The one call that an attempt made."""
    (call,) = attempt.close()
    heard = call.response is not None
    return Asked(call.kind, call.status, msgspec.json.decode(call.request),
                 msgspec.json.decode(call.response) if call.response is not None else None, heard)


@pytest.fixture
def server() -> Iterator[Loopback]:
    """A server that knows no path yet."""
    with serving() as running:
        yield running


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes plugins, and closes them afterwards."""
    with ExitStack() as made:

        def one(url: str, **options: object) -> Http:
            plugin = Http(url=url, **{"timeout": LONG_SECONDS, **options})  # type: ignore[arg-type]
            made.callback(plugin.close)
            return plugin

        yield one
