"""What the ledger would know of a played run at any moment: which writes were intended, and which of them confirmed.

Why: what a sink is told when it is opened comes from there, and only what was committed there outlives a process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from engine.plugin_api import Claim, Piece, Prepared, Written
from engine.rows import FrozenRow
from ledger import ids

_LEDGER, _SINK = "conformance", "sink"


class Write(NamedTuple):
    """Rows that go into one write, and the places of those that the sink is said to refuse."""

    number: int
    rows: tuple[FrozenRow, ...]
    refused: frozenset[int] = frozenset()


Flushes = Sequence[Sequence[Write]]
"""A run's writes in order; the intents of one flush are on record before the first of its writes is made."""


class Intent(NamedTuple):
    """A write whose intent is on record."""

    write: Write
    key: str
    offset: int | None
    content_sha256: str


class Planned(NamedTuple):
    """An intent, and what will be handed to the sink."""

    intent: Intent
    prepared: Prepared


class Log:
    """The record of one run at one sink. `made` and `refusals` are not on record: they are what the kit has seen."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.epoch = 0
        self.intents: dict[int, Intent] = {}
        self.confirmed: dict[int, Written] = {}
        self.made: Counter[int] = Counter()
        self.refusals: dict[int, frozenset[int]] = {}

    def key(self, number: int) -> str:
        """The idempotency key of a write, as the engine makes it."""
        return ids.write_key(_LEDGER, self.run, _SINK, number)

    def claim(self) -> Claim:
        """Under what a process of the newest epoch opens the sink."""
        claim = Claim(_LEDGER, self.run, _SINK, self.epoch)
        if not self.intents:
            return claim
        return claim._replace(begun=True, offset=self._end(), pieces=self._pieces(), in_doubt=bool(self.unconfirmed()),
                              keys=(self.key(number) for number in list(self.confirmed)))

    def unconfirmed(self) -> list[Intent]:
        """The writes of which it is not known whether the target took them."""
        return [intent for number, intent in self.intents.items() if number not in self.confirmed]

    def _end(self) -> int | None:
        begin = next(intent.offset for intent in self.intents.values())
        sizes = [written.size_bytes for written in self.confirmed.values()]
        return sizes[-1] if sizes and begin is not None else begin

    def _pieces(self) -> Iterator[Piece]:
        """Made as they are asked for, and once only, as the engine's are."""
        for number, written in self.confirmed.items():
            offset = self.intents[number].offset
            if offset is not None:
                yield Piece(offset, written.size_bytes - offset, written.content_sha256)
