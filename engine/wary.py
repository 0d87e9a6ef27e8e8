"""Wariness: after a stop that nobody recorded, steps and batches say that they begin, so that a killer is found.

Why only for a while: it costs a commit a step. A process that dies loses at most the rows of one commit, so the row that
killed it is among those that were open and the next `ROWS_PER_COMMIT` read.

Why not for what is held: a batch may wait for very long, and what makes it due is one of those rows. With the end of the
source every batch falls due, so there its members count; a group then waits for nothing but them and rows that count.
"""

from __future__ import annotations

from ledger.fold.state import Stage, State, Token

ROWS_PER_COMMIT = 200
"""So many rows are read at most before what became of them is committed."""


class Wary:
    """`on` from an unclean stop until every row that was open, and the next ones, have ended or are held.

    Clean stops meanwhile change nothing.
    """

    def __init__(self, state: State) -> None:
        self.on = state.unclean_rows is not None
        self._until_row = (state.unclean_rows or 0) + ROWS_PER_COMMIT
        self.look(state)

    def look(self, state: State) -> None:
        """Be at ease once no row is left that could have been the one."""
        if self.on and (state.exhausted or state.rows_read >= self._until_row):
            self.on = any(self._is_of_first(token) and _goes_on(state, token) for token in state.tokens.values())

    def _is_of_first(self, token: Token) -> bool:
        """Whether the token is of the first rows, or of a batch."""
        row = token.family.key
        return isinstance(row, str) or row < self._until_row


def _goes_on(state: State, token: Token) -> bool:
    """Whether a plugin may be called on the token, or on its batch, without anything else that has to come first."""
    match token.stage:
        case Stage.READY | Stage.STARTED:
            return token.node not in state.plan.sinks
        case Stage.BUFFERED:
            return state.exhausted or state.batches[token.node].status == "due"
        case _:
            return False
