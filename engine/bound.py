"""What the executors need of each node, bound once before the run: callables, conditions, routes, retry delays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from engine.masking import Masking
from engine.plugin_api import DEADLINE_SECONDS, Sink, Source
from ledger.graph import Node

Transform = Callable[..., object]


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
    """A transform: `call` maps a row to a row, a list of rows (an expanding step) or None (filtered).

    An effect has `deadline_seconds` for each attempt, and may take the attempt as `attempt`.
    """

    node: Node
    call: Transform
    retry: RetryPolicy
    takes_attempt: bool = False
    deadline_seconds: float = DEADLINE_SECONDS


@dataclass(frozen=True)
class BoundAggregation:
    """An aggregation: `call` maps a list of rows to a list of rows or a `BatchResult`."""

    node: Node
    call: Callable[[Sequence[Mapping[str, object]]], object]
    retry: RetryPolicy

    @property
    def passes_through(self) -> bool:
        """Whether the members themselves go on."""
        return self.node.batch is not None and self.node.batch.output_mode == "passthrough"

    @property
    def outputs_expected(self) -> int | None:
        """How many rows each batch has to make; None where any number will do."""
        return self.node.batch.expected_output_count if self.node.batch is not None else None


@dataclass(frozen=True)
class BoundGate:
    """A gate: `condition` gives a bool or a label; `routes` maps labels to a connection, a sink or `fork`."""

    node: Node
    condition: Callable[[Mapping[str, object]], object]
    routes: Mapping[str, str]


@dataclass(frozen=True)
class BoundPipeline:
    """Everything open for one run. `key_field` is the source field by which people name a row.

    `row_bytes_max` bounds a row's JSON, `children_max` what one row may expand to, `batch_rows_max` what a batch may hold
    or make; `workers_max` attempts of effects run side by side; `masking` hides what came from the environment; `closers`
    let go of what the steps hold open.
    """

    source: Source
    key_field: str | None
    steps: Mapping[str, BoundStep]
    gates: Mapping[str, BoundGate]
    sinks: Mapping[str, Sink]
    aggregations: Mapping[str, BoundAggregation] = field(default_factory=dict)
    open_groups_max: int = 100_000
    row_bytes_max: int = 4 * 2**20
    children_max: int = 10_000
    batch_rows_max: int = 10_000
    workers_max: int = 1
    masking: Masking = field(default_factory=Masking)
    closers: tuple[Callable[[], None], ...] = ()
