"""Follow a log while it grows: what was committed since, stream by stream, nothing missed and nothing twice.

Why a cursor that is a vector: `(stream, seq)` is the only order there is. A stream's events are read after the seq that was
read last, so an append that is held open while others commit is seen when it commits, whatever else was seen meanwhile; a
stream is found because heads are looked at again, which needs no order between streams.

Invariants: `places` is what was handed out; a hint that something is new (`Store.wait`) only saves time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ledger.store import Store, Stored

HINT_SECONDS = 1.0
"""How long news is waited for before the heads are looked at anyway."""


class Follower:
    """Reads a log from `places` (run to the seq read last; none: from the beginning) on."""

    def __init__(self, store: Store, places: Mapping[str, int] | None = None) -> None:
        self.places = dict(places or {})
        self._store = store

    def news(self) -> Iterator[tuple[str, Stored]]:
        """(run, event) for everything committed until now and not handed out yet, each stream in order."""
        for head in self._store.heads():
            after = self.places.get(head.run, 0)
            if after < head.size:
                for stored in self._store.read(head.run, after, head.size):
                    self.places[head.run] = stored.seq
                    yield head.run, stored

    def follow(self, stopping: Callable[[], bool]) -> Iterator[tuple[str, Stored]]:
        """The same without end: waits for news, and asks `stopping` whenever it has none.

        Everything is handed out that was committed before `stopping` said yes.
        """
        while True:
            before = dict(self.places)
            yield from self.news()
            if self.places == before:
                if stopping():
                    yield from self.news()
                    return
                self._store.wait(HINT_SECONDS)
