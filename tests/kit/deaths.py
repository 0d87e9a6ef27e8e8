"""Processes that die: at an append, before it is stored or before it is acknowledged, or in the midst of a plugin.

Why a store that is dead: from a death on nothing more is stored, so no last word (`RunInterrupted`) is on record, whatever
the unwinding of this process tries to say.

Invariant: `revive` gives the next process what was stored and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ledger import events as e
from ledger.store import Part
from tests.kit.pipelines import Ran, Trial
from tests.kit.twins import TrialStore


class Killed(KeyboardInterrupt):
    """The process dies here. (What it derives from is the one thing that plugins cannot raise as their own.)"""


class MortalStore(TrialStore):
    """A store whose process dies at append number `dies_at` (from 1): before it is `stored`, or after, unacknowledged."""

    def __init__(self, dies_at: int | None = None, *, stored: bool = False) -> None:
        super().__init__()
        self.dies_at = dies_at
        self.stored = stored
        self.dead = False

    def append(self, parts: Sequence[Part]) -> None:
        """See `ledger.store.Store`."""
        dies = len(self.appends) + 1 == self.dies_at
        if self.dead or (dies and not self.stored):
            self.die()
        super().append(parts)
        if dies:
            self.die()

    def die(self) -> NoReturn:
        """From here on nothing is stored."""
        self.dead = True
        raise Killed

    def revive(self, dies_at: int | None = None, *, stored: bool = False) -> None:
        """What the next process finds; it dies at that append, counted from the first of all."""
        self.dead, self.dies_at, self.stored = False, dies_at, stored


Making = Callable[[MortalStore], Trial]
"""A trial over a store, the same each time."""


@dataclass(frozen=True)
class Cut:
    """One place to die: at this append, stored or not."""

    at: int
    stored: bool


def cuts(last: int, first: int = 2) -> Iterator[Cut]:
    """Every place to die from the append that begins the run on."""
    for at in range(first, last + 1):
        yield Cut(at, False)
        yield Cut(at, True)


def died_at(making: Making, *places: Cut) -> Trial:
    """A trial whose processes died at these places one after the other; the next one lives."""
    store = MortalStore()
    made = making(store)
    for nth, cut in enumerate(places):
        store.revive(cut.at, stored=cut.stored)
        try:
            if store.head(made.run) is None:
                made.start()
            else:
                made.resume()
        except Killed:
            continue
        raise AssertionError(f"death {nth} at {cut} did not come: {len(store.appends)} appends")
    store.revive()
    return made


def carried_on(made: Trial) -> Ran:
    """The run to its end: resumed, or started where nothing of it was stored."""
    return made.again() if made.store.head(made.run) is not None else made.go()


def killed(run: Callable[[], object]) -> None:
    """Run it until its process dies, as it must."""
    try:
        run()
    except Killed:
        return
    raise AssertionError("expected a death, found none")


def facts(ran: Ran) -> dict[str, object]:
    """What has to be the same, however often the run was cut: each token's end, each sink's rows, each decision."""
    return {
        "outcomes": ran.outcomes,
        "rows": {name: ran.rows(name) for name in ran.sinks},
        "decided": [line for line, event in zip(ran.told(), ran.events[2:], strict=True)
                    if isinstance(event, (e.TokensCoalesced, e.CoalesceFailed))],
        "members": [(one.token, one.aggregation, one.batch, one.ordinal) for one in ran.of(e.TokenBuffered)],
        "roots": [event.token for event in ran.of(e.RowRead)],
    }
