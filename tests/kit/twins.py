"""In-memory twins of what a run touches: a feed, a source, a sink. They keep the protocols' promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from engine.executors.calls import Called
from engine.feed import Broken, Exhausted
from engine.plugin_api import Claim, Delivery, Prepared, Refusal, RowFault, SourceIdentity, SourceRow, Written
from engine.workers import Finished
from ledger.memory_store import MemoryStore
from ledger.store import Part
from tests.kit.ports import SimulatedTime

REFUSED = "refused_by_twin"
REFUSED_LATE = "refused_by_target"


@dataclass(frozen=True)
class Pause:
    """In a list of rows: the source has nothing for this long."""

    ms: int


class ListSource:
    """Rows from a list; `(row, fault)` pairs are invalid rows, an exception in the list is raised, a `Pause` waited for."""

    def __init__(self, rows: Iterable[object]) -> None:
        self._rows = rows

    def identity(self) -> SourceIdentity:
        """See `engine.plugin_api.Source`."""
        return SourceIdentity("list", "", None, None)

    def rows(self, after: int | None) -> Iterator[SourceRow]:
        """See `engine.plugin_api.Source`."""
        return (item for item in self.items(after) if isinstance(item, SourceRow))

    def items(self, after: int | None) -> Iterator[SourceRow | Pause]:
        """The same, with the pauses between the rows; they have no position."""
        position = 0
        for item in self._rows:
            if isinstance(item, Pause):
                yield item
                continue
            position += 1
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


class TrialStore(MemoryStore):
    """The in-memory store that counts its appends, and raises `error` instead of append number `fail_at` (from 1)."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        super().__init__()
        self.fail_at = fail_at
        self.error = error or OSError(28, "No space left on device")
        self.appends: list[int] = []

    def append(self, parts: Sequence[Part]) -> None:
        """See `ledger.store.Store`."""
        if len(self.appends) + 1 == self.fail_at:
            raise self.error
        super().append(parts)
        self.appends.append(sum(len(part.events) for part in parts))


class StepFeed:
    """A feed without a thread: takes rows at once, and lets simulated time pass when there is none."""

    def __init__(self, rows: Iterable[SourceRow | Pause], time: SimulatedTime) -> None:
        self._rows = iter(rows)
        self._time = time
        self._ended = False
        self._idle_ms = 0.0

    def take(self, timeout_seconds: float | None) -> SourceRow | Exhausted | Broken | None:
        """See `engine.feed.Feed`."""
        item = None if self._idle_ms > 0 else self._next()
        if isinstance(item, Pause):
            self._idle_ms, item = item.ms, None
        if item is None:
            patience_ms = self._idle_ms if timeout_seconds is None else timeout_seconds * 1000
            waited_ms = max(1.0, patience_ms if self._ended else min(patience_ms, self._idle_ms))
            self._idle_ms -= waited_ms
            self._time.advance_ms(waited_ms)
        return item

    def _next(self) -> SourceRow | Pause | Exhausted | Broken | None:
        if self._ended:
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


class InlineWorkers:
    """Workers without threads: a job is done when it is started."""

    def __init__(self) -> None:
        self._done: list[Finished[Called]] = []

    def ready(self, count: int) -> None:
        """See `engine.workers.Workers`."""

    def start(self, ticket: int, job: Callable[[], Called]) -> None:
        """See `engine.workers.Workers`."""
        self._done.append(Finished(ticket, job()))

    def finished(self) -> list[Finished[Called]]:
        """See `engine.workers.Workers`."""
        done, self._done = self._done, []
        return done

    def give_up(self, ticket: int) -> None:
        """See `engine.workers.Workers`."""

    @property
    def hung(self) -> int:
        """See `engine.workers.Workers`."""
        return 0

    def close(self) -> None:
        """See `engine.workers.Workers`."""


class ListSink:
    """Keeps rows in memory, and fails while `broken` is set.

    A row with the field `refuse` is refused by every sink, or by the sinks it names; one with `refuse_late` only when it
    is written, as a target's constraint would do it.
    """

    delivery: Delivery = "truncatable"

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.rows: list[Mapping[str, object]] = []
        self.keys: list[str] = []
        self.claims: list[Claim] = []
        self._ends = [(0, 0)]
        self.broken: OSError | None = None
        self.unopenable: OSError | None = None
        self.while_writing: Callable[[], object] = lambda: None
        self.closed: bool | None = None

    def open(self, claim: Claim) -> None:
        """See `engine.plugin_api.Sink`."""
        if self.unopenable is not None:
            raise self.unopenable
        self.claims.append(claim)
        while self._ends[-1][0] > ((claim.offset or 0) if claim.begun else 0):
            self._ends.pop()
        del self.rows[self._ends[-1][1] :]
        self.closed = None

    def offset(self) -> int | None:
        """See `engine.plugin_api.Sink`: in bytes of what was prepared."""
        return self._ends[-1][0]

    def prepare(self, rows: Sequence[Mapping[str, object]]) -> Prepared:
        """See `engine.plugin_api.Sink`."""
        accepted = tuple(n for n, row in enumerate(rows) if not self._refuses(row))
        refused = tuple(Refusal(n, REFUSED, "it said so") for n, row in enumerate(rows) if self._refuses(row))
        content = msgspec.json.encode([rows[n] for n in accepted])
        return Prepared(content, sha256(content).hexdigest(), accepted, refused)

    def _refuses(self, row: Mapping[str, object]) -> bool:
        names = row.get("refuse", ())
        return self.name in names if isinstance(names, (list, tuple)) else True

    def write(self, prepared: Prepared, key: str) -> Written:
        """See `engine.plugin_api.Sink`."""
        self.while_writing()
        if self.broken is not None:
            raise self.broken
        rows = msgspec.json.decode(prepared.content)
        late = tuple(Refusal(n, REFUSED_LATE, "the target said so") for n, row in enumerate(rows) if "refuse_late" in row)
        self.rows.extend(row for row in rows if "refuse_late" not in row)
        self.keys.append(key)
        self._ends.append((self._ends[-1][0] + len(prepared.content), len(self.rows)))
        return Written("memory:", self._ends[-1][0], sha256(b"").hexdigest(), late)

    def close(self, finished: bool) -> None:
        """See `engine.plugin_api.Sink`."""
        self.closed = finished
