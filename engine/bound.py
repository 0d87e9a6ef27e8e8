"""What the executors need of each node, bound once before the run: callables, conditions, routes, retry delays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from engine.plugin_api import Sink, Source
from ledger.graph import Node

Transform = Callable[[Mapping[str, object]], object]


@dataclass(frozen=True)
class RetryPolicy:
    """Delays between attempts: exponential, capped, with jitter that depends on the run's seed and the attempt alone."""

    initial_delay_ms: int
    max_delay_ms: int
    exponential_base: float

    def delay_ms(self, seed: int, token: str, node: str, attempt: int) -> int:
        """Run time to wait after the failed `attempt`: between half of the full delay and the full delay."""
        try:
            full = min(self.max_delay_ms, self.initial_delay_ms * self.exponential_base ** (attempt - 1))
        except OverflowError:
            full = self.max_delay_ms
        draw = int.from_bytes(sha256(f"{seed}/{token}/{node}/{attempt}".encode()).digest()[:4]) / 2**32
        return int(full * (0.5 + draw / 2))


@dataclass(frozen=True)
class BoundStep:
    """A transform: `call` maps a row to a row, a list of rows (an expanding step) or None (filtered)."""

    node: Node
    call: Transform
    retry: RetryPolicy


@dataclass(frozen=True)
class BoundGate:
    """A gate: `condition` gives a bool or a label; `routes` maps labels to a connection, a sink or `fork`."""

    node: Node
    condition: Callable[[Mapping[str, object]], object]
    routes: Mapping[str, str]


@dataclass(frozen=True)
class BoundPipeline:
    """Everything open for one run. `key_field` is the source field by which people name a row.

    `row_bytes_max` bounds a row's JSON, `children_max` what one row may expand to; `closers` let go of what the
    transforms hold open.
    """

    source: Source
    key_field: str | None
    steps: Mapping[str, BoundStep]
    gates: Mapping[str, BoundGate]
    sinks: Mapping[str, Sink]
    open_groups_max: int = 100_000
    row_bytes_max: int = 4 * 2**20
    children_max: int = 10_000
    closers: tuple[Callable[[], None], ...] = ()
