"""Wariness: after a stop that nobody recorded, steps say that they begin, so that a row that kills the process is found.

Why only for a while: it costs a commit a step. A process that dies loses at most the rows of one commit, so the row that
killed it is among those that were open and the next `ROWS_PER_COMMIT` read.
"""

from __future__ import annotations

from ledger.fold.state import Stage, State, Token

ROWS_PER_COMMIT = 200
"""So many rows are read at most before what became of them is committed."""


class Wary:
    """`on` from an unclean stop until every row that was open, and the next ones, have ended or are held."""

    def __init__(self, state: State) -> None:
        self.on = state.unclean
        self._until_row = state.rows_read + ROWS_PER_COMMIT

    def look(self, state: State) -> None:
        """Be at ease once no row is left that could have been the one."""
        if self.on and (state.exhausted or state.rows_read >= self._until_row):
            sinks = state.plan.sinks
            self.on = any(token.node not in sinks and self._is_suspect(token) for token in state.tokens.values())

    def _is_suspect(self, token: Token) -> bool:
        """Whether a step could still be called on the token, and it is of the first rows, or of a batch."""
        row = token.family.key
        return token.stage in (Stage.READY, Stage.STARTED) and (isinstance(row, str) or row < self._until_row)
