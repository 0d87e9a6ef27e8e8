"""Tokens that wait for another attempt of their step, in the order in which they are due."""

from __future__ import annotations

import heapq

from ledger.fold.state import Token


class Retries:
    """A queue by run time. What is due and when is the fold's: `Token.due_ms`, then `Token.placed`."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, Token]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, token: Token) -> None:
        """Line up a token whose attempt failed."""
        heapq.heappush(self._waiting, (token.due_ms, token.placed, token))

    def take(self, active_ms: int) -> Token | None:
        """The first token that is due at `active_ms`, if one is."""
        if not self._waiting or self._waiting[0][0] > active_ms:
            return None
        return heapq.heappop(self._waiting)[2]

    def next_ms(self) -> int | None:
        """When (in run time) the next one is due, or None."""
        return self._waiting[0][0] if self._waiting else None
