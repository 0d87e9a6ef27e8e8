"""A run read back from its log: the state that it was left in, and the rows of what is open.

Why the tree is checked: what a resume appends is hashed over what stands before it, so a log that was changed would go on
as if it had always been so.

Invariants: reads, never writes; memory is what is open; a row is handed on only if it is the one that its event commits to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from engine.rows import FrozenRow, freeze
from ledger import reader
from ledger.errors import LedgerBroken, RunIncomplete, UsageError
from ledger.events import (
    BatchFlushed,
    Commitment,
    Event,
    Output,
    RowRead,
    RunStarted,
    StepCompleted,
    TokenExpanded,
    TokensCoalesced,
)
from ledger.fold import State, apply
from ledger.store import Payload, Store, StreamHead
from ledger.tree import Frontier

ROWS_PER_FETCH = 500
KNOWN_MIN = 10_000


@dataclass(frozen=True)
class Unfinished:
    """A run's state, its stream's head, what it said at its start, and the commitments to what is open."""

    state: State
    head: StreamHead
    started: RunStarted
    known: dict[int, str]


def read_back(store: Store, run: str) -> Unfinished:
    """Fold a run's log. Raises `LedgerBroken` where it does not hold, `UsageError` (RUN_UNKNOWN) where there is none."""
    head = store.head(run)
    if head is None:
        raise UsageError("RUN_UNKNOWN", "expected a run, found none of that name", where=f"run {run}",
                         next_step="`counterfoil runs` lists them")
    state, frontier, known = State(run), Frontier(), _Known()
    started: RunStarted | None = None
    for stored, event in reader.events(store, run):
        apply(state, event)
        frontier.append(stored.body)
        if isinstance(event, RunStarted):
            started = event
        known.note(event, state)
    found = (frontier.size, frontier.root(), frontier.pack(), state.epoch)
    if started is None or found != (head.size, head.root, head.frontier, head.epoch):
        raise LedgerBroken("LOG_CHANGED", f"expected {head.size} events as they were recorded, found that they were changed "
                           "since", where=f"run {run}", next_step="`counterfoil verify` says what does not hold")
    return Unfinished(state, head, started, known.of)


def settings_of(store: Store, left: Unfinished) -> str:
    """The pipeline file as the run recorded it. Raises `LedgerBroken` when it was changed since."""
    commitment = left.started.settings
    payload = store.payloads(left.state.run, [commitment.n]).get(commitment.n)
    if payload is None or payload.bytes is None or not reader.holds(payload, commitment):
        where = f"run {left.state.run} payload {commitment.n}"
        raise LedgerBroken("PAYLOAD_CHANGED", "expected the recorded pipeline file, found another", where=where,
                           next_step="`counterfoil verify` says what does not hold")
    return payload.bytes.decode()


class _Known:
    """The commitments to the payloads that tokens carry; forgotten, some time later, with the tokens."""

    def __init__(self) -> None:
        self.of: dict[int, str] = {}
        self._most = KNOWN_MIN

    def note(self, event: Event, state: State) -> None:
        for output in _outputs(event):
            if isinstance(output, Commitment):
                self.of[output.n] = output.sha256
        if len(self.of) > self._most:
            self.of = {n: self.of[n] for n in carried(state) if n in self.of}
            self._most = max(KNOWN_MIN, 2 * len(self.of))


def _outputs(event: Event) -> Iterable[Output]:
    """The payloads that tokens carry on after the event."""
    if isinstance(event, StepCompleted):
        return (event.output,)
    if isinstance(event, RowRead):
        return (event.data,)
    if isinstance(event, TokenExpanded):
        return event.outputs or ()
    if isinstance(event, TokensCoalesced):
        return (event.output,)
    if isinstance(event, BatchFlushed):
        return [one.output for one in event.outputs or ()]
    return ()


def carried(state: State) -> set[int]:
    """The numbers of the payloads that anything open needs: of live tokens, and of parents whose lists are gathered."""
    numbers = {token.payload for token in state.tokens.values() if token.outcome is None}
    parents = {group.parent_payload for group in state.groups.values() if group.status == "open"}
    return numbers | {number for number in parents if number is not None}


def open_rows(store: Store, left: Unfinished, erased: FrozenRow | None = None) -> dict[int, FrozenRow]:
    """The rows of what is open, by payload number; `erased` in place of one that is not there any more.

    Raises `RunIncomplete` (PAYLOAD_GONE) where there is nothing in its place, `LedgerBroken` for a row that was changed.
    """
    return dict(_rows(store, left, sorted(carried(left.state)), erased))


def _rows(store: Store, left: Unfinished, numbers: list[int], erased: FrozenRow | None) -> Iterator[tuple[int, FrozenRow]]:
    run = left.state.run
    for start in range(0, len(numbers), ROWS_PER_FETCH):
        some = numbers[start : start + ROWS_PER_FETCH]
        payloads = store.payloads(run, some)
        for number in some:
            yield number, _row(run, number, payloads.get(number), left.known[number], erased)


def _row(run: str, number: int, payload: Payload | None, commitment: str, erased: FrozenRow | None) -> FrozenRow:
    where = f"run {run} payload {number}"
    if payload is None or payload.bytes is None:
        if erased is not None:
            return erased
        raise RunIncomplete("PAYLOAD_GONE", "expected the row of an open token, found that it was erased", where=where,
                            next_step="`counterfoil abandon` closes the run")
    if not reader.holds(payload, Commitment(number, commitment)):
        raise LedgerBroken("PAYLOAD_CHANGED", "expected the row that its event commits to, found another", where=where,
                           next_step="`counterfoil verify` says what does not hold")
    value = msgspec.json.decode(payload.bytes)
    return freeze(value if isinstance(value, dict) else {"value": value})
