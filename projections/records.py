"""The rows that many events make: tokens with their births and ends, states that open and close, payload hashes.

Invariants: a token, a state, a batch or a sink write is held here while it can still change, so memory is what is open;
`output` takes it once it cannot.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger import events as e
from ledger.fold.state import Group, State, Token
from projections import group_rows
from projections.output import Output, Record, Text
from projections.views import CHUNK

FORK, JOIN, EXPAND, BATCH = 1, 2, 3, 4
"""How a token was born (`p_tokens.born_by`)."""

_REASON, _ERROR = 11, 9


class Records:
    """What one projector holds open, and `output`, what is finished."""

    def __init__(self) -> None:
        self.output = Output()
        self.tokens: dict[str, Record] = {}
        self.states: dict[str, Record] = {}
        self.groups: dict[str, Group] = {}
        self.batches: dict[str, Record] = {}
        self.members: dict[str, list[str]] = {}
        self.batch_errors: dict[str, Text] = {}
        self.writes: dict[int, tuple[Record, e.SinkWriteIntended]] = {}
        self.reasons: dict[str, Text] = {}
        self._hashed = 0
        self._hashes = bytearray()

    def hand_over(self) -> dict[str, list[Record]]:
        """Everything finished since the last time, and what is open as it stands."""
        rows = self.output.by_table()
        self.output = Output()
        if self._hashes:
            rows["p_payloads"].append([self._hashed // CHUNK, bytes(self._hashes)])
        rows["p_tokens"].extend(self.tokens.values())
        rows["p_states"].extend(self.states.values())
        rows["p_groups"].extend(map(group_rows.still_open, self.groups.values()))
        rows["p_batches"].extend(self.batches.values())
        rows["p_sink_writes"].extend([record for record, _ in self.writes.values()])
        return rows

    def payload(self, commitment: e.Commitment) -> int:
        """A payload's hash, under its number; each event hands its commitments over in the order of their numbers."""
        n, hashes = commitment.n, self._hashes
        if n != self._hashed + 1:
            raise ValueError(f"expected payload {self._hashed + 1}, found {n}")
        self._hashed = n
        hashes += bytes.fromhex(commitment.sha256)
        if n % CHUNK == 0:
            self.output.payloads.append([n // CHUNK - 1, bytes(hashes)])
            hashes.clear()
        return n

    def error(self, code: str, reason: e.Commitment | None) -> Text:
        """A code with the text that the event introduces."""
        return Text(code, self.payload(reason) if reason is not None else None)

    # --- states --------------------------------------------------------------------------------------------------

    def state(self, event: e.Event, token: str, node: str, attempt: int, status: str, input_: int | None,
              output: int | None, duration_us: int, error: Text | None = None, group: str | None = None) -> None:
        """A state that one event opens and closes."""
        seq = event.seq
        row = [token, seq, node, attempt, status, input_, output, event.at - duration_us, duration_us, error, group, seq]
        self.output.states.append(row)
        if error is not None:
            self.output.look_up(row, _ERROR)

    def open(self, event: e.Event, token: str, node: str, attempt: int, input_: int, group: str | None = None) -> None:
        """A state that a later event closes."""
        self.states[token] = [token, event.seq, node, attempt, "open", input_, None, event.at, None, None, group, None]

    def close(self, event: e.Event, token: str, status: str, *, output: int | None = None, error: Text | None = None,
              duration_us: int | None = None) -> None:
        """Close the state that the token has open; without a duration it lasted until now."""
        row = self.states.pop(token)
        row[4], row[6], row[9], row[11] = status, output, error, event.seq
        row[8] = event.at - row[7] if duration_us is None else duration_us
        self.output.states.append(row)
        if error is not None:
            self.output.look_up(row, _ERROR)

    # --- tokens --------------------------------------------------------------------------------------------------

    def born(self, event: e.Event, token: Token, by: int, of: str, parents: Sequence[str], branch: str | None = None
             ) -> None:
        """A token that the event made of its parents."""
        key, name = token.family.key, token.id
        if branch is None and token.frames and not token.frames[-1].branch.isdecimal():
            branch = token.frames[-1].branch
        self.tokens[name] = [name, key if type(key) is int else None, branch, by, of, token.payload, event.seq,
                             None, None, None, None, None, None]
        add = self.output.parents.append
        for ordinal, parent in enumerate(parents):
            add([name, ordinal, parent])

    def ended(self, state: State, event: e.Event, *, of: str | None = None, sink: str | None = None,
              reason: Text | None = None) -> None:
        """The outcome of each token that the event ended. Without a reason of the event's own, what made the token leave the
        normal path before is its reason.
        """
        reasons, tokens, finished, seq = self.reasons, self.tokens, self.output.tokens, event.seq
        for token in state.ended:
            row = tokens.pop(token.id)
            text = (reasons.pop(token.id, None) if reasons else None) if reason is None else reason
            row[7], row[8], row[9], row[12] = token.outcome, sink, of, seq
            finished.append(row)
            if text is not None:
                row[10], row[11] = text.n, text
                self.output.look_up(row, _REASON)
