"""Events of steps and ways: attempts, filters, gates, forks, expansions, diverts."""

from __future__ import annotations

from typing import NoReturn

from ledger import ids
from ledger.events import (
    CallRecorded,
    Commitment,
    Diverted,
    Event,
    LossCause,
    Routed,
    StepAbandoned,
    StepCompleted,
    StepFailed,
    StepStarted,
    TokenExpanded,
    TokenFiltered,
    TokenForked,
)
from ledger.fold.groups import open_group
from ledger.fold.moves import at_node, born, check_input, end, introduce, move, output_of, owe_loss, refuse
from ledger.fold.state import PLACES, Frame, OwedDivert, Stage, State, Token
from ledger.graph import DISCARD, Node

DEATHS_MAX = 3
PROCESS_DIED = "process_died"


def step_started(state: State, event: StepStarted) -> None:
    """T10: the attempt's number is the next one, and no other attempt is open."""
    token = at_node(state, event, event.token, event.node, stages=Stage.READY)
    node = _node_of(state, event, token)
    _check_attempt(state, event, token, event.attempt)
    _check_due(state, event, token)
    check_input(state, event, token, event.input)
    if node.effect and (not event.key or event.key != (token.key or event.key)):
        refuse(state, event, "T10", token=token.id, expected=f"one key for all attempts, {token.key or 'whichever it is'}",
               found=str(event.key))
    token.key = event.key
    token.stage = Stage.STARTED
    token.began = state.epoch
    token.calls = 0


def step_completed(state: State, event: StepCompleted) -> None:
    """The token goes on with the output."""
    token = at_node(state, event, event.token, event.node)
    node = state.plan.steps.get(event.node)
    if node is None or node.expands:
        refuse(state, event, "T9", token=token.id, expected="a transform that maps one row to one", found=event.node)
    _check_end_of_attempt(state, event, token, node)
    token.payload = output_of(state, event, token, event.output)
    move(state, token, state.plan.next_of[event.node])


def step_failed(state: State, event: StepFailed) -> None:
    """T10, E1: another attempt follows, or a divert is owed, or (a gate without a route) the token is `failed`."""
    token = at_node(state, event, event.token, event.node, ends_as="" if event.retry else "failed")
    node = _node_of(state, event, token)
    _check_end_of_attempt(state, event, token, node)
    reason = introduce(state, event, event.error) if event.error is not None else None
    token.failures += 1
    token.stage = Stage.READY
    if event.retry:
        if token.failures >= node.attempts_max:
            refuse(state, event, "T10", token=token.id, expected=f"at most {node.attempts_max} attempts",
                   found=f"a retry after attempt {event.attempt}")
        token.due_ms = event.active_ms + event.delay_ms
        token.placed = event.seq * PLACES
        return
    _leave_by_error(state, token, node, event.code, reason)


def step_abandoned(state: State, event: StepAbandoned) -> None:
    """T10: the process died in this attempt; after three deaths the step has failed."""
    token = at_node(state, event, event.token, event.node)
    if token.stage != Stage.STARTED or token.began == state.epoch:
        refuse(state, event, "T10", token=token.id, expected="an attempt that a process before this one began", found="none")
    _check_attempt(state, event, token, event.attempt)
    node = _node_of(state, event, token)
    token.deaths += 1
    token.stage = Stage.READY
    if token.deaths >= DEATHS_MAX:
        _leave_by_error(state, token, node, PROCESS_DIED, None)


def call_recorded(state: State, event: CallRecorded) -> None:
    """A call belongs to a started attempt of an effect and is numbered within it."""
    token = at_node(state, event, event.token, event.node)
    if not _node_of(state, event, token).effect:
        refuse(state, event, "T10", token=token.id, expected="calls of an effect only", found=f"one of {event.node}")
    if token.stage == Stage.STARTED and token.began != state.epoch:
        _of_a_dead_process(state, event, token)
    if token.stage != Stage.STARTED or event.attempt != token.attempt or event.call != token.calls:
        refuse(state, event, "T10", token=token.id, expected=f"call {token.calls} of attempt {token.attempt}, started",
               found=f"call {event.call} of attempt {event.attempt}")
    token.calls += 1
    introduce(state, event, event.request)
    if event.response is not None:
        introduce(state, event, event.response)


def token_filtered(state: State, event: TokenFiltered) -> None:
    """The token ended by rule; its group, if any, is told."""
    token = at_node(state, event, event.token, event.node, ends_as="dropped_by_filter")
    if event.node not in state.plan.steps:
        refuse(state, event, "T9", token=token.id, expected="a transform", found=event.node)
    _check_end_of_attempt(state, event, token, state.plan.steps[event.node])
    check_input(state, event, token, event.input)
    end(state, token, "dropped_by_filter")
    owe_loss(state, token.id, token.family, token.frames, "filtered", token.node, None)


def routed(state: State, event: Routed) -> None:
    """R2: the label is an edge of this gate; a way that cannot reach the coalesce ahead loses the branch."""
    token = at_node(state, event, event.token, event.node)
    edge = state.plan.edges.get((event.node, event.label))
    if event.node not in state.plan.gates or edge is None or edge.id != event.edge or edge.mode != "move":
        refuse(state, event, "R2", token=token.id, expected=f"a route of gate {event.node}",
               found=f"{event.label} by {event.edge}")
    move(state, token, edge.to_node, "gate" if edge.to_node in state.plan.sinks else "normal")
    _leave_corridor(state, token, "routed_away", event.node, event.label)


def token_forked(state: State, event: TokenForked) -> None:
    """T8, B3: the parent ends in the event that makes exactly the configured branches."""
    token = at_node(state, event, event.token, event.node, ends_as="forked")
    plan = state.plan
    gate = plan.gates.get(event.node)
    if gate is None or event.branches != gate.fork_to:
        refuse(state, event, "T8", token=token.id, expected=f"branches {gate.fork_to if gate else ()}",
               found=f"branches {event.branches}")
    for branch in event.branches:
        frame = Frame(token.id, event.node, branch, plan.joins.get((event.node, branch)))
        born(state, token.family, ids.fork_child(token.id, branch), (*token.frames, frame), token.payload,
             plan.edges[event.node, branch].to_node)
    end(state, token, "forked")


def token_expanded(state: State, event: TokenExpanded) -> None:
    """The parent ends in the event that makes its children; a gathered expansion opens its group at once."""
    token = at_node(state, event, event.token, event.node, ends_as="expanded")
    node = _node_of(state, event, token)
    _check_end_of_attempt(state, event, token, node)
    check_input(state, event, token, event.input)
    if not node.expands or (event.outputs is not None and len(event.outputs) != event.count):
        refuse(state, event, "T8", token=token.id, expected=f"{event.count} outputs of an expanding step",
               found=f"{len(event.outputs or ())} of {node.id}")
    payloads = _outputs(state, event, token)
    join = state.plan.gathers.get(node.id)
    for ordinal, payload in enumerate(payloads):
        frames = token.frames
        if join is not None:
            frames = (*frames, Frame(token.id, node.id, str(ordinal), join))
        born(state, token.family, ids.expand_child(token.id, ordinal), frames, payload, state.plan.next_of[node.id])
    if join is not None:
        frame = Frame(token.id, node.id, "", join)
        open_group(state, event, frame, token.frames, token.family, tuple(map(str, range(event.count))), token.payload)
    end(state, token, "expanded" if event.count or join is not None else "dropped_by_filter")


def _outputs(state: State, event: TokenExpanded, token: Token) -> list[int]:
    if event.outputs is None:
        refuse(state, event, "L4", token=token.id, expected="outputs, in the body or resolved from their list", found="none")
    payloads = [introduce(state, event, output) if isinstance(output, Commitment)
                else output_of(state, event, token, output) for output in event.outputs]
    if event.outputs_list is not None:
        introduce(state, event, event.outputs_list)
    return payloads


def diverted(state: State, event: Diverted) -> None:
    """R1: only what is owed, by the edge the graph has; a discard ends the token and has no edge."""
    owed = state.owed[0] if state.owed else None
    if not isinstance(owed, OwedDivert):
        at_node(state, event, event.token, event.node, ends_as="quarantined")
        refuse(state, event, "R1", token=event.token, expected="a divert only after a failure or refusal",
               found=f"Diverted to {event.to}")
    token = owed.token
    if (event.token, event.kind, event.node, event.to, event.edge, event.code, event.reason) != (
        token.id, owed.kind, owed.node, owed.to, owed.edge, owed.code, owed.reason
    ):
        refuse(state, event, "R1", token=event.token,
               expected=f"{owed.kind} of {token.id} from {owed.node} to {owed.to} by {owed.edge} ({owed.code})",
               found=f"{event.kind} of {event.token} from {event.node} to {event.to} by {event.edge} ({event.code})")
    state.owed.popleft()
    if event.edge is None:
        end(state, token, "diverted" if event.kind == "sink_refused" else "quarantined")
        owe_loss(state, token.id, token.family, token.frames, "discarded", event.node, event.code)
        return
    via = {"error": "error", "quarantine": "quarantine", "sink_refused": "refused"}[event.kind]
    move(state, token, event.to, via)  # type: ignore[arg-type]
    _leave_corridor(state, token, "error_routed", event.node, event.code)


def _leave_corridor(state: State, token: Token, cause: LossCause, node: str, code: str | None) -> None:
    """E9: a carrier that entered a node from which its coalesce cannot be reached is a loss."""
    if token.frames and token.frames[-1].join is not None and token.frames[-1].join not in state.plan.reach[token.node]:
        owe_loss(state, token.id, token.family, token.frames, cause, node, code)


def _leave_by_error(state: State, token: Token, node: Node, code: str, reason: int | None) -> None:
    """After the last failure: a divert is owed where the node has a route, else the token is `failed`."""
    if node.on_error is None:
        end(state, token, "failed")
        owe_loss(state, token.id, token.family, token.frames, "failed", node.id, code)
        return
    token.stage = Stage.FAILED
    edge = None if node.on_error == DISCARD else state.plan.divert_edge(node.id)
    state.owed.append(OwedDivert(token, "error", node.id, node.on_error, edge.id if edge else None, code, reason))


def _node_of(state: State, event: object, token: Token) -> Node:
    node = state.plan.steps.get(token.node) or state.plan.gates.get(token.node)
    if node is None:
        refuse(state, event, "T9", token=token.id, expected="a transform or a gate", found=token.node)  # type: ignore[arg-type]
    return node


def _of_a_dead_process(state: State, event: Event, token: Token) -> NoReturn:
    """T10: what an attempt came to whose process died is not known, so it can only be abandoned."""
    refuse(state, event, "T10", token=token.id, expected=f"StepAbandoned of attempt {token.attempt}, begun in epoch "
           f"{token.began}", found=type(event).__name__)


def _check_attempt(state: State, event: StepStarted | StepAbandoned | StepCompleted | StepFailed | TokenFiltered
                   | TokenExpanded, token: Token, attempt: int) -> None:
    if attempt != token.attempt:
        refuse(state, event, "T10", token=token.id, expected=f"attempt {token.attempt}", found=f"attempt {attempt}")


def _check_due(state: State, event: StepStarted | StepCompleted | StepFailed | TokenFiltered | TokenExpanded, token: Token
               ) -> None:
    """T10: another attempt comes no earlier than the one before it said."""
    if token.failures and event.active_ms < token.due_ms:
        refuse(state, event, "T10", token=token.id, expected=f"attempt {token.attempt} from {token.due_ms} ms on",
               found=f"{event.active_ms} ms")


def _check_end_of_attempt(
    state: State, event: StepCompleted | StepFailed | TokenFiltered | TokenExpanded, token: Token, node: Node
) -> None:
    """T10, L4: this attempt, begun where that has to be on record, on what the token carries."""
    if event.attempt != token.failures + token.deaths + 1:
        _check_attempt(state, event, token, event.attempt)
    if token.stage == Stage.STARTED:
        if token.began != state.epoch:
            _of_a_dead_process(state, event, token)
    elif node.effect:
        refuse(state, event, "T10", token=token.id, expected="a StepStarted before an effect", found="none")
    elif token.failures:
        _check_due(state, event, token)
    if event.input != token.payload:
        check_input(state, event, token, event.input)
