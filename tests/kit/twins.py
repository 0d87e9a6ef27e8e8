"""In-memory twins of what a run touches: a feed, a source, a sink. They keep the protocols' promises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Literal

import msgspec

from engine.feed import Broken, Exhausted
from engine.plugin_api import Prepared, Refusal, RowFault, SourceIdentity, SourceRow, Written
from kit.ports import SimulatedTime

REFUSED = "refused_by_twin"


class ListSource:
    """Rows from a list; `(row, fault)` pairs are invalid rows, an exception in the list is raised."""

    def __init__(self, rows: Sequence[object]) -> None:
        self._rows = rows

    def identity(self) -> SourceIdentity:
        """See `engine.plugin_api.Source`."""
        return SourceIdentity("list", "", None, None)

    def rows(self, after: int | None) -> Iterator[SourceRow]:
        """See `engine.plugin_api.Source`."""
        for position, item in enumerate(self._rows, 1):
            if after is not None and position <= after:
                continue
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, tuple):
                yield SourceRow(position, item[0], RowFault(*item[1]))
            else:
                yield SourceRow(position, item, None)

    def close(self) -> None:
        """See `engine.plugin_api.Source`."""


class StepFeed:
    """A feed without a thread: takes rows at once, and lets simulated time pass when there is none."""

    def __init__(self, rows: Iterable[SourceRow], time: SimulatedTime) -> None:
        self._rows = iter(rows)
        self._time = time
        self._ended = False

    def take(self, timeout_seconds: float | None) -> SourceRow | Exhausted | Broken | None:
        """See `engine.feed.Feed`."""
        if self._ended:
            self._time.advance_ms(max(1.0, (timeout_seconds or 0.0) * 1000))
            return None
        try:
            return next(self._rows)
        except StopIteration:
            self._ended = True
            return Exhausted()
        except Exception as error:
            self._ended = True
            return Broken(error)

    def pause(self, timeout_seconds: float) -> None:
        """See `engine.feed.Feed`."""
        self._time.advance_ms(max(1.0, timeout_seconds * 1000))

    def wake(self) -> None:
        """See `engine.feed.Feed`."""

    def close(self) -> None:
        """See `engine.feed.Feed`."""


class ListSink:
    """Keeps rows in memory; refuses those that have the field `refuse`, and fails while `broken` is set."""

    delivery: Literal["truncatable"] = "truncatable"

    def __init__(self) -> None:
        self.rows: list[Mapping[str, object]] = []
        self.keys: list[str] = []
        self.broken: OSError | None = None

    def open(self, offset: int | None) -> None:
        """See `engine.plugin_api.Sink`."""

    def offset(self) -> int | None:
        """See `engine.plugin_api.Sink`."""
        return len(self.rows)

    def prepare(self, rows: Sequence[Mapping[str, object]]) -> Prepared:
        """See `engine.plugin_api.Sink`."""
        accepted = [n for n, row in enumerate(rows) if "refuse" not in row]
        refused = tuple(Refusal(n, REFUSED, "it said so") for n, row in enumerate(rows) if "refuse" in row)
        content = msgspec.json.encode([rows[n] for n in accepted])
        return Prepared(content, sha256(content).hexdigest(), tuple(accepted), refused)

    def write(self, prepared: Prepared, key: str) -> Written:
        """See `engine.plugin_api.Sink`."""
        if self.broken is not None:
            raise self.broken
        self.rows.extend(msgspec.json.decode(prepared.content))
        self.keys.append(key)
        return Written("memory:", len(self.rows), sha256(b"").hexdigest(), ())

    def close(self, finished: bool) -> None:
        """See `engine.plugin_api.Sink`."""
