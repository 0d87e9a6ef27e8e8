"""Events of sink writes: intended, confirmed, failed. A confirmation is where most tokens end."""

from __future__ import annotations

from ledger.events import SinkWriteConfirmed, SinkWriteFailed, SinkWriteIntended
from ledger.fold.moves import at_node, end, introduce, refuse
from ledger.fold.state import OUTCOME_AT_SINK, OwedDivert, Stage, State, Token, Write
from ledger.graph import DISCARD

TOKENS_PER_WRITE_MAX = 1000


def sink_write_intended(state: State, event: SinkWriteIntended) -> None:
    """R3: each token stands at this sink and is in no other open write."""
    sink = event.sink
    if sink not in state.plan.sinks:
        refuse(state, event, "L4", expected="a sink of the graph", found=sink)
    if event.write != state.writes_made + 1 or not 0 < len(event.tokens) <= TOKENS_PER_WRITE_MAX:
        refuse(state, event, "R3", expected=f"write {state.writes_made + 1} of 1 to {TOKENS_PER_WRITE_MAX} tokens",
               found=f"write {event.write} of {len(event.tokens)}")
    if not event.key:
        refuse(state, event, "R3", expected="a key", found="none")
    if state.writes_failed:
        _check_again(state, event)
    tokens = [at_node(state, event, token, sink, ends_as="completed", stages=Stage.READY) for token in event.tokens]
    for token in tokens:
        if token.stage != Stage.READY:
            refuse(state, event, "R3", token=token.id, expected="each token once in a write", found="twice")
        token.stage = Stage.WRITING
    state.writes_made = event.write
    state.writes[event.write] = Write(sink, tuple(tokens), event.key, event.offset, event.content_hash)
    state.sink_ends.setdefault(sink, event.offset)
    if state.writes_failed:
        state.writes_failed = {number: write for number, write in state.writes_failed.items() if write.key != event.key}


def _check_again(state: State, event: SinkWriteIntended) -> None:
    """What a failed write held is written again as it was: these tokens, in their order, under its key."""
    named = frozenset(event.tokens)
    for write in state.writes_failed.values():
        again = tuple([token.id for token in write.tokens])
        if (write.key == event.key or not named.isdisjoint(again)) and (event.sink, event.key, event.tokens) != (
            write.sink, write.key, again
        ):
            refuse(state, event, "R3", expected=f"{len(again)} tokens of a failed write again, under key {write.key}",
                   found=f"{len(named)} under key {event.key}")


def sink_write_confirmed(state: State, event: SinkWriteConfirmed) -> None:
    """R3: accepted and refused are the tokens of the write; each accepted one has its outcome by the way it came."""
    write = _take(state, event)
    if write.offset is not None:
        if event.size_bytes < write.offset:
            refuse(state, event, "R3", expected=f"an artifact that ends at {write.offset} bytes or later",
                   found=f"{event.size_bytes}")
        state.sink_ends[write.sink] = event.size_bytes
    refused = {refusal.ordinal: refusal for refusal in event.refused}
    twice = len(refused) < len(event.refused)
    if twice or event.accepted + len(refused) != len(write.tokens) or any(not 0 <= n < len(write.tokens) for n in refused):
        refuse(state, event, "R3", expected=f"{len(write.tokens)} tokens accepted or refused, each once",
               found=f"{event.accepted} and {[refusal.ordinal for refusal in event.refused]}")
    for ordinal, token in enumerate(write.tokens):
        refusal = refused.get(ordinal)
        if refusal is None:
            end(state, token, OUTCOME_AT_SINK[token.via])
            continue
        reason = introduce(state, event, refusal.reason) if refusal.reason is not None else None
        state.owed.append(_refused(state, token, refusal.code, reason))


def _refused(state: State, token: Token, code: str, reason: int | None) -> OwedDivert:
    """A refusal goes to the failsink; a failsink's own refusal is discarded."""
    node = state.plan.sinks[token.node]
    to = DISCARD if token.via == "refused" else node.on_error or DISCARD
    edge = None if to == DISCARD else state.plan.divert_edge(node.id)
    token.stage = Stage.FAILED
    return OwedDivert(token, "sink_refused", node.id, to, edge.id if edge else None, code, reason)


def sink_write_failed(state: State, event: SinkWriteFailed) -> None:
    """The tokens wait at the sink for another write under the same key."""
    introduce(state, event, event.error)
    write = state.writes_failed[event.write] = _take(state, event)
    for token in write.tokens:
        token.stage = Stage.READY


def _take(state: State, event: SinkWriteConfirmed | SinkWriteFailed) -> Write:
    write = state.writes.get(event.write)
    if write is None or write.sink != event.sink:
        refuse(state, event, "R3", expected="an intended write, once", found=f"write {event.write} of {event.sink}")
    return state.writes.pop(event.write)
