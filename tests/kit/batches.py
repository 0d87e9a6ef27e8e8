"""One aggregation to try, plugins for it, and what a log says of batches, read from its events alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from engine.plugin_api import BatchResult, Rejected
from ledger import events as e
from tests.kit.pipelines import Ran, Sketch

Rows = Sequence[Mapping[str, Any]]


def batched(*, attempts: int = 1, delay_seconds: float = 1.0, limits: Mapping[str, int] | None = None,
            on_error: str = "errors", **settings: Any) -> str:
    """`source -> totals -> out`, errors to `errors`."""
    sketch = Sketch("rows", attempts=attempts, delay_seconds=delay_seconds, limits=limits)
    return sketch.batch("totals", "rows", "out", on_error, **settings).sink("out", "errors").text()


def numbered(count: int) -> list[object]:
    """So many rows."""
    return [{"n": n} for n in range(count)]


def total(rows: Rows) -> list[dict[str, Any]]:
    """One row that says of which ones it is."""
    return [{"of": [row["n"] for row in rows]}]


def rejecting(*ordinals: int) -> Callable[[Rows], BatchResult]:
    """A plugin that does not take these, and makes one row of the rest, if there is any."""

    def plugin(rows: Rows) -> BatchResult:
        left = [row["n"] for n, row in enumerate(rows) if n not in ordinals]
        return BatchResult([{"of": left}] if left else [], [Rejected(n, f"member {n}", "odd") for n in ordinals])

    return plugin


class Times:
    """A plugin whose first calls raise, one error a call; then it is `plugin`."""

    def __init__(self, errors: Iterable[BaseException], plugin: Callable[[Rows], object] = total) -> None:
        self._errors = list(errors)
        self._plugin = plugin

    def __call__(self, rows: Rows) -> object:
        """Raise, or answer."""
        if self._errors:
            raise self._errors.pop(0)
        return self._plugin(rows)


class Batch(NamedTuple):
    """One batch as the log tells it: its number, its members in their order, when it was opened, how each attempt ended.

    `died` are the attempts of which only the death is known.
    """

    aggregation: str
    number: int
    members: list[str]
    opened_ms: int
    ends: list[e.BatchFlushed | e.BatchFailed]
    died: list[e.BatchAbandoned]

    @property
    def trigger(self) -> str | None:
        """What its last attempt was made for; None while there was none."""
        return self.ends[-1].trigger if self.ends else None


def batches(events: Iterable[e.Event]) -> dict[str, Batch]:
    """Every batch by its id, in the order in which they were opened."""
    found: dict[str, Batch] = {}
    for event in events:
        if isinstance(event, e.TokenBuffered):
            key = f"{event.aggregation}@{event.batch}"
            batch = found.setdefault(key, Batch(event.aggregation, event.batch, [], event.active_ms, [], []))
            assert event.ordinal == len(batch.members) and not batch.ends, f"{key} takes a member when it should not"
            batch.members.append(event.token)
        elif isinstance(event, (e.BatchFlushed, e.BatchFailed)):
            batch = found[f"{event.aggregation}@{event.batch}"]
            assert event.members == len(batch.members) and event.attempt == len(batch.ends) + len(batch.died) + 1
            batch.ends.append(event)
        elif isinstance(event, e.BatchAbandoned):
            found[f"{event.aggregation}@{event.batch}"].died.append(event)
    return found


def told(ran: Ran) -> list[tuple[str, str | None, list[str]]]:
    """(batch, trigger, members) of each."""
    return [(name, batch.trigger, batch.members) for name, batch in batches(ran.events).items()]
