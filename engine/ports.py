"""The ports: time, randomness, the environment and the process, through one door.

Why: everything a run cannot compute comes in here, so that a simulator can replace it and a run can be repeated.

Units: `wall_us` is microseconds since the epoch (UTC); `monotonic_ns` nanoseconds from any fixed point, never falling.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_POOL_BYTES = 4096


@dataclass(frozen=True)
class Ports:
    """What a run takes from outside; `system` gives the real ones."""

    wall_us: Callable[[], int]
    monotonic_ns: Callable[[], int]
    random_bytes: Callable[[int], bytes]
    environment: Mapping[str, str] = field(default_factory=dict)
    process: str = ""
    directory: str = "."


def system() -> Ports:
    """The ports of this process."""
    return Ports(
        wall_us=lambda: time.time_ns() // 1000,
        monotonic_ns=time.monotonic_ns,
        random_bytes=_Pool().take,
        environment=os.environ,
        process=f"{socket.gethostname()}:{os.getpid()}",
        directory=str(Path.cwd()),
    )


class _Pool:
    """Random bytes in small pieces without a system call for each."""

    def __init__(self) -> None:
        self._bytes = b""
        self._place = 0

    def take(self, count: int) -> bytes:
        place = self._place
        if place + count > len(self._bytes):
            self._bytes, place = os.urandom(max(count, _POOL_BYTES)), 0
        self._place = place + count
        return self._bytes[place : place + count]
