"""The rows that many events make: tokens with their births and ends, states that open and close, payload hashes.

Invariants: a token, a state, a batch or a sink write is held here while it can still change, so memory is what is open;
`output` takes it once it cannot. What is open is handed over too where somebody reads the tables meanwhile; `_kept` knows
which of it was, for those rows are written over when they change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ledger import events as e
from ledger.fold.state import Group, State, Token
from projections import group_rows
from projections.output import Output, Record, Rows, Text
from projections.views import CHUNK

FORK, JOIN, EXPAND, BATCH = 1, 2, 3, 4
"""How a token was born (`p_tokens.born_by`)."""

_REASON, _ERROR = 11, 9

_OPEN = ("p_payloads", "p_tokens", "p_states", "p_groups", "p_batches", "p_sink_writes")
"""Tables with rows that may still change."""


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
        self._kept: dict[str, set[Any]] = {table: set() for table in _OPEN}
        self._changed: set[str] = set()

    def hand_over(self, *, open_too: bool) -> Rows:
        """Everything finished since the last time; `open_too` adds what is open, as far as it is new or has changed."""
        output, self.output = self.output, Output()
        rows = Rows(output.by_table(), output.again)
        if open_too:
            for table, key, row in self._open():
                kept = self._kept[table]
                if key not in kept:
                    kept.add(key)
                    rows.new[table].append(row)
                elif key in self._changed:
                    rows.again.setdefault(table, []).append(row)
            self._changed.clear()
        return rows

    def _open(self) -> Iterator[tuple[str, Any, Record]]:
        """(table, key, row) of everything open; a group's row is made only when it is needed."""
        if self._hashes:
            chunk = self._hashed // CHUNK
            self._changed.add(f"chunk {chunk}")
            yield "p_payloads", f"chunk {chunk}", [chunk, bytes(self._hashes)]
        yield from (("p_tokens", name, row) for name, row in self.tokens.items())
        yield from (("p_states", (row[0], row[1]), row) for row in self.states.values())
        kept = self._kept["p_groups"]
        yield from (("p_groups", name, group_rows.still_open(group)) for name, group in self.groups.items()
                    if name not in kept or name in self._changed)
        yield from (("p_batches", name, row) for name, row in self.batches.items())
        yield from (("p_sink_writes", number, row) for number, (row, _) in self.writes.items())

    def finish(self, table: str, key: object, rows: list[Record], row: Record) -> None:
        """A row that will not change any more goes to `rows`, or over the one that was kept of it."""
        kept = self._kept[table]
        if kept and key in kept:
            kept.discard(key)
            self.output.over(table, row)
        else:
            rows.append(row)

    def group(self, name: str, group: Group) -> None:
        """A group that opened, or in which something changed."""
        self.groups[name] = group
        self._changed.add(name)

    def resolved(self, name: str, row: Record) -> None:
        """The row of a group that closed."""
        self._changed.discard(name)
        self.finish("p_groups", name, self.output.groups, row)

    def batch(self, name: str) -> Record:
        """The row of an open batch, in which something changes."""
        self._changed.add(name)
        return self.batches[name]

    def batch_closed(self, name: str) -> Record:
        """The row of a batch that closes, to be completed at once."""
        self._changed.discard(name)
        row = self.batches.pop(name)
        self.finish("p_batches", name, self.output.batches, row)
        return row

    def payload(self, commitment: e.Commitment) -> int:
        """A payload's hash, under its number; each event hands its commitments over in the order of their numbers."""
        n, hashes = commitment.n, self._hashes
        if n != self._hashed + 1:
            raise ValueError(f"expected payload {self._hashed + 1}, found {n}")
        self._hashed = n
        hashes += bytes.fromhex(commitment.sha256)
        if n % CHUNK == 0:
            chunk = n // CHUNK - 1
            self.finish("p_payloads", f"chunk {chunk}", self.output.payloads, [chunk, bytes(hashes)])
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
        self.finish("p_states", (token, row[1]), self.output.states, row)
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
        kept = self._kept["p_tokens"]
        for token in state.ended:
            row = tokens.pop(token.id)
            text = (reasons.pop(token.id, None) if reasons else None) if reason is None else reason
            row[7], row[8], row[9], row[12] = token.outcome, sink, of, seq
            if kept and token.id in kept:
                kept.discard(token.id)
                self.output.over("p_tokens", row)
            else:
                finished.append(row)
            if text is not None:
                row[10], row[11] = text.n, text
                self.output.look_up(row, _REASON)
