"""The one fold: `apply(state, event)` is the only state machine, for live runs, resume, replay and projections.

Why one: what is allowed, what is owed next and what became of a token is said once. An executor asks the state what to
do and proposes events; `apply` refuses what the laws do not allow, naming the law, before anything is stored.

Invariants: pure (no clock, no I/O, no randomness); after an exception the state is spoilt and must be dropped;
`APPLY` has an entry for every event of a run's stream.
"""

from __future__ import annotations

from collections.abc import Callable

from ledger import events as e
from ledger.codec import event_token
from ledger.fold import batches, groups, run, sinks, steps
from ledger.fold.moves import evict, refuse
from ledger.fold.state import Batch, Group, OwedDivert, OwedLoss, State

APPLY: dict[type[e.Event], Callable[..., None]] = {
    e.RunStarted: run.run_started,
    e.RunClaimed: run.run_claimed,
    e.RunInterrupted: run.run_interrupted,
    e.RunSealed: run.run_sealed,
    e.TokensAbandoned: run.tokens_abandoned,
    e.RowRead: run.row_read,
    e.SourceExhausted: run.source_exhausted,
    e.SourceFailed: run.source_failed,
    e.StepStarted: steps.step_started,
    e.StepCompleted: steps.step_completed,
    e.StepFailed: steps.step_failed,
    e.StepAbandoned: steps.step_abandoned,
    e.CallRecorded: steps.call_recorded,
    e.TokenFiltered: steps.token_filtered,
    e.Routed: steps.routed,
    e.TokenForked: steps.token_forked,
    e.TokenExpanded: steps.token_expanded,
    e.Diverted: steps.diverted,
    e.BranchArrived: groups.branch_arrived,
    e.BranchLost: groups.branch_lost,
    e.BranchArrivedLate: groups.branch_arrived_late,
    e.TokensCoalesced: groups.tokens_coalesced,
    e.CoalesceFailed: groups.coalesce_failed,
    e.TokenBuffered: batches.token_buffered,
    e.BatchStarted: batches.batch_started,
    e.BatchFlushed: batches.batch_flushed,
    e.BatchFailed: batches.batch_failed,
    e.BatchAbandoned: batches.batch_abandoned,
    e.SinkWriteIntended: sinks.sink_write_intended,
    e.SinkWriteConfirmed: sinks.sink_write_confirmed,
    e.SinkWriteFailed: sinks.sink_write_failed,
}

_SETTLES: dict[type, tuple[type[e.Event], ...]] = {
    OwedDivert: (e.Diverted,),
    OwedLoss: (e.BranchLost,),
}
_LIFECYCLE = (e.RunClaimed, e.RunInterrupted)
_RESOLVES = (e.TokensCoalesced, e.CoalesceFailed)
_OF_AN_END = frozenset({
    e.RunClaimed, e.RunInterrupted, e.RunSealed, e.TokensAbandoned, e.StepAbandoned, e.BatchAbandoned, e.BatchFailed,
    e.SinkWriteFailed, e.TokensCoalesced, e.CoalesceFailed, e.BranchLost, e.Diverted,
})  # fmt: skip
"""What may still be said of a run that is given up: decisions, and ends."""
_COMPUTES = (e.BatchStarted, e.BatchFlushed, e.BatchFailed)
_TIMED = (*_RESOLVES, *_COMPUTES)


def apply(state: State, event: e.Event) -> None:
    """Fold one event into the state.

    Raises `LawBroken` with the law, the place and the token. `state.born` and `state.ended` then hold what the event
    made and ended.
    """
    if event.seq != state.seq + 1:
        refuse(state, event, "L1", expected=f"seq {state.seq + 1}", found=f"seq {event.seq}")
    if event.at < state.at or event.active_ms < state.active_ms:
        _time_fell(state, event)
    if state.born:
        state.born.clear()
    if state.ended:
        state.ended.clear()
    kind = type(event)
    if state.status != "running" or event.epoch != state.epoch:
        _check_lifecycle(state, event)
    if state.owed and kind not in _LIFECYCLE:
        _check_owed(state, event)
        if state.timers and event.active_ms > state.active_ms and state.claimed_seq != state.seq:
            _check_timers(state, event)
    elif state.timers and event.active_ms >= state.timers[0][0]:
        _check_timers(state, event)
    if state.abandoned and kind not in _OF_AN_END:
        refuse(state, event, "T1", token=event_token(event), expected="only ends in a run that is given up",
               found=kind.__name__)
    handler = APPLY.get(kind)
    if handler is None:
        refuse(state, event, "L4", expected="an event of a run's stream", found=kind.__name__)
    handler(state, event)
    state.seq = event.seq
    state.at = event.at
    state.active_ms = event.active_ms
    if state.closing and not state.owed:
        evict(state)


def _time_fell(state: State, event: e.Event) -> None:
    refuse(state, event, "L7", expected=f"at >= {state.at}, active_ms >= {state.active_ms}",
           found=f"at {event.at}, active_ms {event.active_ms}")


def _check_lifecycle(state: State, event: e.Event) -> None:
    """L2, L3: what may be said before the start, after an interruption, after the seal; and under which epoch."""
    if isinstance(event, e.RunClaimed) and state.status in ("running", "interrupted"):
        return
    if state.status == "new":
        if not isinstance(event, e.RunStarted):
            refuse(state, event, "L2", expected="RunStarted first", found=type(event).__name__)
        state.epoch = event.epoch
        return
    if state.status != "running":
        refuse(state, event, "L2", expected="a claim" if state.status == "interrupted" else "nothing after RunSealed",
               found=f"{type(event).__name__} on a run that is {state.status}")
    refuse(state, event, "L3", expected=f"epoch {state.epoch}", found=f"epoch {event.epoch}")


def _check_owed(state: State, event: e.Event) -> None:
    """What the last event owes is said next: a divert (R1), a loss (C3), a resolution (C4)."""
    owed = state.owed[0]
    if isinstance(event, _SETTLES.get(type(owed), _RESOLVES)):
        return
    law = "R1" if isinstance(owed, OwedDivert) else "C3" if isinstance(owed, OwedLoss) else "C4"
    token = owed.token.id if isinstance(owed, OwedDivert) else owed.token if isinstance(owed, OwedLoss) else None
    refuse(state, event, law, token=token or event_token(event), expected=_owed_text(owed), found=type(event).__name__)


def _owed_text(owed: object) -> str:
    if isinstance(owed, OwedDivert):
        return f"Diverted {owed.token.id} from {owed.node} to {owed.to}"
    if isinstance(owed, OwedLoss):
        return f"BranchLost {owed.frames[-1].branch} of the fork of {owed.frames[-1].token}"
    group: Group = owed.group  # type: ignore[attr-defined]
    return f"the resolution of {group.id}: {owed.resolution}"  # type: ignore[attr-defined]


def _check_timers(state: State, event: e.Event) -> None:
    """C4: a due timer is decided before anything that happened after its deadline."""
    thing = state.due(event.active_ms)
    if thing is None or _ends_what_began(state, event):
        return
    if isinstance(event, _TIMED) and event.trigger == "timeout" and _is_about(event, thing):
        return
    if isinstance(event, _LIFECYCLE):
        return
    name = thing.id if isinstance(thing, Group) else f"{thing.node.id}@{thing.number}"
    refuse(state, event, "C4", token=event_token(event),
           expected=f"{name} decided at its deadline of {thing.deadline_ms} ms",
           found=f"{type(event).__name__} at {event.active_ms} ms")


def _ends_what_began(state: State, event: e.Event) -> bool:
    """Whether a batch that began at its deadline is computed: at that stamp it is one decision, though others are due."""
    if not isinstance(event, (e.BatchFlushed, e.BatchFailed)) or event.active_ms > state.active_ms:
        return False
    batch = state.batches.get(event.aggregation)
    return batch is not None and batch.began == state.epoch


def _is_about(event: e.Event, thing: Group | Batch) -> bool:
    if isinstance(thing, Group):
        return isinstance(event, _RESOLVES) and event.group == thing.id
    return isinstance(event, _COMPUTES) and event.aggregation == thing.node.id


__all__ = ["APPLY", "State", "apply"]
