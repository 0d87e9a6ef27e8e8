"""From stored events to decoded ones: the one read path of replay, verify, resume and projections.

Why one: decoding, the check of the index columns (law L6) and the resolving of lists happen in one place and stop at the
first event that does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import msgspec

from ledger import ids
from ledger.codec import decode, event_token
from ledger.events import Commitment, Event, RunStarted
from ledger.graph import Graph
from ledger.laws import Finding, LawBroken
from ledger.store import Payload, Store, Stored


def events(store: Store, run: str, after: int = 0, until: int | None = None) -> Iterator[tuple[Stored, Event]]:
    """The events of a run with `after < seq <= until`, as stored and decoded.

    Raises `Undecodable` at a body that cannot be read and `LawBroken` (L4, L6) where columns or lists do not hold.
    """
    for stored in store.read(run, after, until):
        event = decode(stored.body, stored.type, stored.v, run=run, seq=stored.seq)
        if (stored.seq, stored.v, stored.token, stored.at) != (event.seq, event.v, event_token(event), event.at):
            _columns_differ(run, stored, event)
        if event.run != run or not _is_row_of(stored.row_index, stored.token):
            _columns_differ(run, stored, event)
        if type(event) is RunStarted and event.graph is None:
            event = resolve_graph(store, event)
        yield stored, event


def _is_row_of(row: int | None, token: str | None) -> bool:
    """Whether `row` is the index column of `token`: the check of every event, made without taking the token apart."""
    if row is None or token is None:
        return row_index_of(token) == row
    text = str(row)
    return token == text or (token.startswith(text) and token[len(text)] in ".:+/")


def row_index_of(token: str | None) -> int | None:
    """The index column `row_index`: the source row a token descends from, None for a batch output or no token."""
    if token is None:
        return None
    if token.isdecimal():
        return int(token)
    family = ids.family(token)
    return family if isinstance(family, int) else None


def _columns_differ(run: str, stored: Stored, event: Event) -> None:
    expected = f"seq {event.seq}, v {event.v}, token {event_token(event)}, at {event.at}, run {event.run}"
    found = f"seq {stored.seq}, v {stored.v}, token {stored.token}, at {stored.at}, row {stored.row_index}"
    raise LawBroken(Finding(law="L6", run=run, seq=stored.seq, token=stored.token, expected=expected, found=found))


def resolve_graph(store: Store, event: RunStarted) -> RunStarted:
    """The event with the graph that its list payload holds."""
    commitment = event.graph_list
    payload = store.payloads(event.run, [commitment.n]).get(commitment.n) if commitment else None
    if commitment is None or payload is None or not holds(payload, commitment):
        raise LawBroken(
            Finding(law="L4", run=event.run, seq=event.seq, token=None, expected="the graph's list payload",
                    found="none, or one that its commitment does not match")
        )
    return msgspec.structs.replace(event, graph=msgspec.json.decode(payload.bytes or b"", type=Graph))


def commit(salt: bytes, data: bytes) -> str:
    """The commitment to a payload: `sha256(salt || bytes)`, lower-case hex."""
    return sha256(salt + data).hexdigest()


def holds(payload: Payload, commitment: Commitment) -> bool:
    """Whether a payload that is there is the one committed to."""
    if payload.salt is None or payload.bytes is None:
        return False
    return commit(payload.salt, payload.bytes) == commitment.sha256


