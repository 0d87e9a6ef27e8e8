"""Events of aggregations: members (law C7), attempts, flushes, failures and deaths (T10)."""

from __future__ import annotations

from typing import NoReturn

from ledger import ids
from ledger.batch import due
from ledger.events import (
    BatchAbandoned,
    BatchFailed,
    BatchFlushed,
    BatchOutput,
    BatchStarted,
    BatchTrigger,
    Commitment,
    TokenBuffered,
)
from ledger.fold.moves import at_node, born, end, introduce, move, owe_loss, refuse
from ledger.fold.state import Batch, Family, OwedDivert, Stage, State, Token
from ledger.fold.steps import DEATHS_MAX, PROCESS_DIED
from ledger.graph import DISCARD, BatchRule


def token_buffered(state: State, event: TokenBuffered) -> None:
    """The token becomes the next member of the aggregation's open batch, which it opens when there is none."""
    token = at_node(state, event, event.token, event.aggregation, stages=Stage.READY)
    batch = state.batches.get(event.aggregation)
    if batch is None:
        batch = _open(state, event, token)
    rule = rule_of(batch)
    full = batch.trigger is not None
    if full or event.batch != batch.number or event.ordinal != len(batch.members):
        refuse(state, event, "C7", token=token.id, expected=f"member {len(batch.members)} of batch {batch.number}",
               found=f"member {event.ordinal} of batch {event.batch}" + (", which is due" if full else ""))
    token.stage = Stage.BUFFERED
    batch.members.append(token)
    condition = state.plan.conditions.get(event.aggregation)
    trigger = due(rule, condition, len(batch.members), event.active_ms - batch.opened_ms)
    if trigger is not None:
        _is_due(batch, trigger)


def _is_due(batch: Batch, trigger: BatchTrigger) -> None:
    batch.trigger, batch.status = trigger, "due"


def _open(state: State, event: TokenBuffered, token: Token) -> Batch:
    node = state.plan.aggregations.get(event.aggregation)
    if node is None:
        refuse(state, event, "T9", token=token.id, expected="an aggregation", found=event.aggregation)
    number = state.batch_numbers.get(event.aggregation, 0) + 1
    state.batch_numbers[event.aggregation] = number
    batch = state.batches[event.aggregation] = Batch(node, number, event.active_ms, event.seq)
    if batch.deadline_ms is not None:
        state.wait_for(batch.deadline_ms, event.seq, batch)
    return batch


def rule_of(batch: Batch) -> BatchRule:
    """The rule of the batch's aggregation."""
    return batch.node.batch or BatchRule()


def batch_started(state: State, event: BatchStarted) -> None:
    """C7, T10: the next attempt, and no other is open. Its trigger stands from here on, so no member joins any more."""
    batch = _named(state, event)
    if batch.began:
        refuse(state, event, "T10", expected=f"the end of attempt {batch.attempt}, which has begun",
               found="another beginning")
    _check(state, event, batch)
    _is_due(batch, event.trigger)
    batch.began = state.epoch


def batch_abandoned(state: State, event: BatchAbandoned) -> None:
    """T10: the process died in this attempt; after three deaths each member leaves by the error route."""
    batch = _named(state, event)
    if not batch.began or batch.began == state.epoch:
        refuse(state, event, "T10", expected="an attempt that a process before this one began", found="none")
    if (event.batch, event.attempt) != (batch.number, batch.attempt):
        refuse(state, event, "T10", expected=f"attempt {batch.attempt} of batch {batch.number}",
               found=f"attempt {event.attempt} of batch {event.batch}")
    batch.deaths += 1
    batch.began = 0
    if batch.deaths >= DEATHS_MAX:
        _closed(state, batch)
        for token in batch.members:
            _owe_divert(state, token, PROCESS_DIED, None)


def batch_flushed(state: State, event: BatchFlushed) -> None:
    """Rejected members leave by the error route; accepted ones are consumed, or go on in passthrough mode."""
    batch = _close(state, event)
    rejected = {reject.ordinal: reject for reject in event.rejected}
    if len(rejected) < len(event.rejected) or any(not 0 <= ordinal < len(batch.members) for ordinal in rejected):
        refuse(state, event, "C7", expected="rejected members of the batch, each once",
               found=str([reject.ordinal for reject in event.rejected]))
    for ordinal, reject in rejected.items():
        reason = introduce(state, event, reject.reason) if reject.reason is not None else None
        _owe_divert(state, batch.members[ordinal], reject.code, reason)
    outputs = event.outputs
    if outputs is None:
        refuse(state, event, "L4", expected="outputs, in the body or resolved from their list", found="none")
    accepted = [n for n in range(len(batch.members)) if n not in rejected]
    if rule_of(batch).output_mode == "passthrough":
        _pass_through(state, event, batch, accepted, outputs)
    else:
        _transform(state, event, batch, accepted, outputs)
    for commitment in (event.outputs_list, event.rejected_list):
        if commitment is not None:
            introduce(state, event, commitment)


def _pass_through(
    state: State, event: BatchFlushed, batch: Batch, accepted: list[int], outputs: tuple[BatchOutput, ...]
) -> None:
    if [output.parents for output in outputs] != [(ordinal,) for ordinal in accepted]:
        _bad_parents(state, event, "one output for each accepted member, in order")
    for nth, (ordinal, output) in enumerate(zip(accepted, outputs, strict=True)):
        token = batch.members[ordinal]
        token.payload = _payload(state, event, output, {token.payload})
        move(state, token, state.plan.next_of[batch.node.id], nth=nth)


def _transform(
    state: State, event: BatchFlushed, batch: Batch, accepted: list[int], outputs: tuple[BatchOutput, ...]
) -> None:
    known = frozenset(accepted)
    named: set[int] = set()
    for output in outputs:
        if output.parents == "all":
            parents = known
        else:
            parents = frozenset(output.parents)
            if len(parents) < len(output.parents) or not parents <= known:
                _bad_parents(state, event, "parents among the accepted, each named once")
        if not parents:
            _bad_parents(state, event, "a parent of each output")
        if len(named) < len(known):
            named |= parents
    if outputs:
        key = ids.batch_id(batch.node.id, batch.number)
        family = state.families[key] = Family(key)
        carried = {batch.members[ordinal].payload for ordinal in accepted}
        for ordinal, output in enumerate(outputs):
            payload = _payload(state, event, output, carried)
            born(state, family, ids.batch_output(batch.node.id, batch.number, ordinal), (), payload,
                 state.plan.next_of[batch.node.id])
    for ordinal in accepted:
        token = batch.members[ordinal]
        end(state, token, "consumed_in_batch" if ordinal in named else "dropped_by_filter")
        owe_loss(state, token.id, token.family, token.frames, "batch_empty", batch.node.id, None, in_turn=True)


def _payload(state: State, event: BatchFlushed, output: BatchOutput, carried: set[int]) -> int:
    if isinstance(output.output, Commitment):
        return introduce(state, event, output.output)
    if output.output not in carried:
        refuse(state, event, "L4", expected="a payload of a member", found=str(output.output))
    return output.output


def _bad_parents(state: State, event: BatchFlushed, expected: str) -> NoReturn:
    found = str([output.parents for output in event.outputs or ()])
    refuse(state, event, "C7", expected=expected, found=found)


def batch_failed(state: State, event: BatchFailed) -> None:
    """Another attempt follows, or each member leaves by the error route."""
    batch = state.batches.get(event.aggregation)
    if event.retry and batch is not None:
        _check(state, event, batch)
        if event.error is not None:
            introduce(state, event, event.error)
        batch.failures += 1
        batch.began = 0
        if batch.failures >= batch.node.attempts_max:
            refuse(state, event, "T10", expected=f"at most {batch.node.attempts_max} attempts", found="a retry")
        batch.due_ms = event.active_ms + event.delay_ms
        _is_due(batch, event.trigger)
        return
    batch = _close(state, event)
    reason = introduce(state, event, event.error) if event.error is not None else None
    for token in batch.members:
        _owe_divert(state, token, event.code, reason)


def _owe_divert(state: State, token: Token, code: str, reason: int | None) -> None:
    node = state.plan.nodes[token.node]
    token.stage = Stage.FAILED
    to = node.on_error or DISCARD
    edge = None if to == DISCARD else state.plan.divert_edge(node.id)
    state.owed.append(OwedDivert(token, "error", node.id, to, edge.id if edge else None, code, reason))


def _close(state: State, event: BatchFlushed | BatchFailed) -> Batch:
    batch = _named(state, event)
    _check(state, event, batch)
    _closed(state, batch)
    return batch


def _named(state: State, event: BatchStarted | BatchFlushed | BatchFailed | BatchAbandoned) -> Batch:
    batch = state.batches.get(event.aggregation)
    if batch is None:
        refuse(state, event, "C7", expected="an open batch", found=ids.batch_id(event.aggregation, event.batch))
    return batch


def _closed(state: State, batch: Batch) -> None:
    del state.batches[batch.node.id]
    batch.status = "closed"


def _check(state: State, event: BatchStarted | BatchFlushed | BatchFailed, batch: Batch) -> None:
    """The batch, its members, its attempt and its trigger are what the log says; what a dead process began has no result."""
    if batch.began and batch.began != state.epoch:
        refuse(state, event, "T10", expected=f"BatchAbandoned of attempt {batch.attempt}, begun in epoch {batch.began}",
               found=type(event).__name__)
    expected = (batch.number, len(batch.members), batch.attempt)
    if (event.batch, event.members, event.attempt) != expected or not _trigger_is_true(state, event, batch):
        refuse(state, event, "C7", expected=f"batch, members, attempt {expected} and a true trigger",
               found=f"{(event.batch, event.members, event.attempt)} {event.trigger}")
    if event.active_ms < batch.due_ms and event.trigger != "abandoned":
        refuse(state, event, "T10", expected=f"attempt {batch.attempt} from {batch.due_ms} ms of run time on",
               found=f"{event.active_ms} ms")


def _trigger_is_true(state: State, event: BatchStarted | BatchFlushed | BatchFailed, batch: Batch) -> bool:
    if batch.trigger is not None and event.trigger != "abandoned":
        return event.trigger == batch.trigger
    match event.trigger:
        case "count":
            return False
        case "timeout":
            return batch.deadline_ms is not None and event.active_ms >= batch.deadline_ms
        case "condition":
            condition = state.plan.conditions.get(event.aggregation)
            return condition is not None and condition(len(batch.members), event.active_ms - batch.opened_ms)
        case "end_of_source":
            return state.exhausted and not _on_its_way(state, batch)
        case "abandoned":
            state.abandoned = isinstance(event, BatchFailed) and not event.retry
            return state.abandoned


def _on_its_way(state: State, batch: Batch) -> bool:
    """Whether a token could still come to the batch's aggregation."""
    node = batch.node.id
    before = state.plan.upstream(node)
    return any(token.outcome is None and (token.node in before or (token.node == node and token.stage is not Stage.BUFFERED))
               for token in state.tokens.values())
