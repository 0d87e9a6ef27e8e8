"""Simulated ports: time goes on only when the test, or a plugin of the test, says so; randomness is a counter."""

from __future__ import annotations

from hashlib import sha256

from engine.ports import Ports

EPOCH_US = 1_790_000_000_000_000


class SimulatedTime:
    """A clock that stands still until it is told to advance."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._draws = 0

    def advance_ms(self, milliseconds: float) -> None:
        """Let time pass."""
        self.now_ns += int(milliseconds * 1_000_000)

    def ports(self) -> Ports:
        """Ports that read this clock."""
        return Ports(
            wall_us=lambda: EPOCH_US + self.now_ns // 1000,
            monotonic_ns=lambda: self.now_ns,
            random_bytes=self._random,
            process="simulated:1",
            directory=".",
        )

    def _random(self, count: int) -> bytes:
        self._draws += 1
        return sha256(str(self._draws).encode()).digest()[:count]
