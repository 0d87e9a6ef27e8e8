"""Taking up: tokens that stand in a state are put back where they stood, with their rows.

Why: a fresh run and a resumed one are driven by the same loop; what differs is only what stands in the state when it begins.

Invariants: what stood in a queue stands there again in the same order, which the fold keeps in `Token.placed`; an attempt
that a dead process had begun is abandoned before anything else is done with its token, or its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.desk import Desk
from engine.rows import FrozenRow
from ledger.events import BatchAbandoned, StepAbandoned
from ledger.fold.state import PLACES, Batch, Stage, State, Token
from ledger.fold.steps import PROCESS_DIED

Put = Callable[[Token, FrozenRow], None]


def stand(desk: Desk, rows: Mapping[int, FrozenRow], put: Put) -> None:
    """Give the desk the rows of all that is open, by payload number, and `put` each token that stands before a node."""
    state = desk.state
    for group in state.groups.values():
        if group.status == "open" and group.parent_payload is not None:
            desk.rows[group.id] = rows[group.parent_payload]
    for token in state.tokens.values():
        if token.outcome is None:
            desk.rows[token.id] = rows[token.payload]
    for token in _in_order(state):
        put(token, desk.rows.pop(token.id))


def _in_order(state: State) -> list[Token]:
    """What stands before nodes, in the order in which it goes into the queues. What a failed write holds is not in line.

    Lines are in the order of the log. The work queue takes last first, so into that one goes what one event put down from
    the last to the first.
    """
    held = {token.id for write in state.writes_failed.values() for token in write.tokens}
    ready = [token for token in state.tokens.values() if token.stage is Stage.READY and token.id not in held]
    return sorted(ready, key=lambda token: _turn(state, token))


def _turn(state: State, token: Token) -> tuple[int, int]:
    event, nth = divmod(token.placed, PLACES)
    return event, nth if token.node in state.plan.sinks else -nth


def abandon_attempts(desk: Desk, put: Put) -> None:
    """Say of each attempt that a dead process had begun that nobody knows what came of it; its token goes on by the law."""
    state = desk.state
    begun = [token for token in state.tokens.values() if token.stage is Stage.STARTED and token.began < state.epoch]
    for token in sorted(begun, key=lambda token: token.placed):
        desk.record(StepAbandoned(token=token.id, node=token.node, attempt=token.attempt, code=PROCESS_DIED))
        if token.stage is Stage.READY:
            put(token, desk.rows.pop(token.id))
        desk.settle()


def abandon_batches(desk: Desk, again: Callable[[Batch], None]) -> None:
    """The same of attempts to compute a batch: it is computed `again`, or its members leave by the law."""
    state = desk.state
    begun = [batch for batch in state.batches.values() if 0 < batch.began < state.epoch]
    for batch in sorted(begun, key=lambda batch: batch.opened_seq):
        desk.record(BatchAbandoned(aggregation=batch.node.id, batch=batch.number, attempt=batch.attempt, code=PROCESS_DIED))
        if batch.status == "due":
            again(batch)
        desk.settle()
