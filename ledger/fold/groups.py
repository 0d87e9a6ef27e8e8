"""Events of coalesce groups: arrivals, losses, merges, failures.

Invariants: a group opens at its first arrival or loss (a gather at its expansion); whenever its policy says something,
the resolution is owed and nothing else may be said before it; a closed group never opens again.
"""

from __future__ import annotations

from ledger import ids
from ledger.coalesce import UNION_COLLISION, Cause, Fail, Merge, Resolution, resolve
from ledger.events import (
    Arrival,
    BranchArrived,
    BranchArrivedLate,
    BranchLost,
    CoalesceFailed,
    CoalesceTrigger,
    Commitment,
    Event,
    GroupFacts,
    Loss,
    TokensCoalesced,
)
from ledger.fold.moves import at_node, born, end, introduce, owe_loss, refuse, was_closed
from ledger.fold.state import Family, Frame, Group, OwedLoss, OwedResolution, Stage, State, Token
from ledger.graph import CoalesceRule

_CAUSES: dict[CoalesceTrigger, Cause] = {
    "timeout": Cause.TIMEOUT,
    "end_of_source": Cause.END_OF_SOURCE,
    "abandoned": Cause.ABANDONED,
}


def rule_of(group: Group) -> CoalesceRule:
    """The rule of the group's coalesce node."""
    rule = group.node.coalesce
    if rule is None:
        raise ValueError(f"node {group.node.id} is no coalesce")
    return rule


def facts(group: Group, active_ms: int) -> GroupFacts:
    """What is known of the group now: the metadata of its resolution (D7, A3)."""
    rule = rule_of(group)
    lost = group.lost
    settled = len(group.arrived) + len(lost)
    return GroupFacts(
        policy=rule.policy,
        merge_strategy=rule.merge,
        expected_branches=group.expected,
        arrival_order=tuple(group.arrivals),
        branches_lost=tuple([Loss(branch, lost[branch]) for branch in group.expected if branch in lost]) if lost else (),
        branches_missing=()
        if settled == len(group.expected)
        else tuple([branch for branch in group.expected if branch not in group.arrived and branch not in lost]),
        wait_duration_ms=active_ms - group.opened_ms,
    )


def open_group(
    state: State,
    event: Event,
    frame: Frame,
    frames: tuple[Frame, ...],
    family: Family,
    expected: tuple[str, ...],
    parent_payload: int | None = None,
) -> Group:
    """Open the group of `frame`'s fork (or expansion); `frames` are those below it, which the merged token keeps."""
    coalesce = frame.join or ""
    node = state.plan.coalesces[coalesce]
    group = Group(ids.merged_token(frame.token, coalesce), node, frame, frames, family, expected)
    group.opened_ms = event.active_ms
    group.opened_seq = event.seq
    group.parent_payload = parent_payload
    timeout_ms = rule_of(group).timeout_ms
    if timeout_ms is not None:
        group.deadline_ms = event.active_ms + timeout_ms
        state.wait_for(group.deadline_ms, event.seq, group)
    state.groups[group.id] = group
    state.open_groups += 1
    if family.groups is None:
        family.groups = []
    family.groups.append(group.id)
    if parent_payload is not None:
        _owe_resolution(state, group, Cause.LOSS)
    return group


def branch_arrived(state: State, event: BranchArrived) -> None:
    """D4, G4: the token is held; the same token again is a no-op with a note, another one on the branch breaks C2."""
    token = state.tokens.get(event.token)
    if token is not None and token.stage == Stage.HELD and _is_again(state, event, token):
        state.notes += 1
        return
    token = at_node(state, event, event.token, event.coalesce, ends_as="", stages=Stage.READY)
    group = _group_ahead(state, event, token)
    if group.status != "open":
        refuse(state, event, "C2", token=token.id, expected=f"no arrival after {group.id} closed as {group.status}",
               found="BranchArrived")
    branch = event.branch
    if branch in group.arrived or branch in group.lost:
        refuse(state, event, "C3", token=token.id, expected=f"one carrier for branch {branch} of {group.id}",
               found="another")
    token.stage = Stage.HELD
    group.arrived[branch] = token
    group.arrivals.append(Arrival(branch, token.id, event.active_ms - group.opened_ms))
    _owe_resolution(state, group, Cause.ARRIVAL)


def _is_again(state: State, event: BranchArrived, token: Token) -> bool:
    group = state.groups.get(event.group)
    return group is not None and group.arrived.get(event.branch) is token


def _group_ahead(state: State, event: BranchArrived | BranchArrivedLate, token: Token) -> Group:
    """D3: the group that the token's own lineage names, opened when it is the first to come."""
    frame = token.frames[-1] if token.frames else None
    node = state.plan.coalesces.get(event.coalesce)
    if node is None or frame is None or frame.join != event.coalesce:
        refuse(state, event, "C3", token=token.id,
               expected=f"a carrier of {frame.join if frame else 'no coalesce'}", found=f"arrival at {event.coalesce}")
    group_id = ids.merged_token(frame.token, event.coalesce)
    if event.branch != frame.branch or event.group != group_id:
        refuse(state, event, "C3", token=token.id, expected=f"branch {frame.branch} of {group_id}",
               found=f"branch {event.branch} of {event.group}")
    group = state.groups.get(group_id)
    if group is None:
        branches = node.coalesce.branches if node.coalesce else ()
        group = open_group(state, event, frame, token.frames[:-1], token.family, branches)
    return group


def branch_lost(state: State, event: BranchLost) -> None:
    """E9, G2, G9: exactly the loss that is owed; the group is decided again now."""
    owed = state.owed[0] if state.owed else None
    if not isinstance(owed, OwedLoss):
        refuse(state, event, "C3", token=event.token, expected="a loss only when a carrier ended or left",
               found=f"BranchLost {event.branch} of {event.group}")
    frame = owed.frames[-1]
    join = frame.join or ""
    expected = (owed.token, join, ids.merged_token(frame.token, join), frame.branch, owed.cause, owed.node, owed.code)
    if (event.token, event.coalesce, event.group, event.branch, event.cause, event.node, event.code) != expected:
        refuse(state, event, "C3", token=event.token, expected=f"BranchLost {expected}",
               found=f"BranchLost {event.branch} of {event.group} ({event.cause} at {event.node})")
    state.owed.popleft()
    state.losses_owed -= 1
    group = state.groups.get(event.group)
    if group is None:
        rule = state.plan.coalesces[join].coalesce
        group = open_group(state, event, frame, owed.frames[:-1], owed.family, rule.branches if rule else ())
    group.lost[event.branch] = loss_reason(event)
    _owe_resolution(state, group, Cause.LOSS)


def loss_reason(event: BranchLost) -> str:
    """`cause[:node[:code]]`, as the group's metadata and the read tables have it."""
    return ":".join(part for part in (event.cause, event.node, event.code) if part)


def branch_arrived_late(state: State, event: BranchArrivedLate) -> None:
    """G5, G9: the group closed before; after a merge the token is late, after a failure it fails for the group's reason."""
    token = at_node(state, event, event.token, event.coalesce, ends_as="failed", stages=Stage.READY)
    group = state.groups.get(event.group)
    if group is None or group.status == "open":
        refuse(state, event, "C2", token=token.id, expected="a group that is closed", found=f"{event.group} is not")
    _group_ahead(state, event, token)
    if (event.closed_as, event.reason) != (group.status, group.failure):
        refuse(state, event, "C2", token=token.id, expected=f"{group.status} {group.failure or ''}".rstrip(),
               found=f"{event.closed_as} {event.reason or ''}".rstrip())
    if group.failure is None:
        state.late_arrivals += 1
    end(state, token, "failed")


def _owe_resolution(state: State, group: Group, cause: Cause) -> None:
    resolution = resolve(rule_of(group), group.expected, group.arrived, group.lost, cause)
    if resolution is None:
        return
    state.owed.appendleft(OwedResolution(group, resolution))


def _forget_losses(state: State, group: Group) -> None:
    """G2: losses that the closing group has not been told yet are never told; a branch of theirs stays missing."""
    if not state.losses_owed:
        return
    kept = [owed for owed in state.owed if not (isinstance(owed, OwedLoss) and _group_of(owed) == group.id)]
    if len(kept) < len(state.owed):
        state.losses_owed -= len(state.owed) - len(kept)
        state.owed.clear()
        state.owed.extend(kept)


def _group_of(owed: OwedLoss) -> str:
    frame = owed.frames[-1]
    return ids.merged_token(frame.token, frame.join or "")


def tokens_coalesced(state: State, event: TokensCoalesced) -> None:
    """C1, B1: each arrived token is `coalesced`; the merged token goes on with the frames below the fork."""
    group = _close(state, event, "TokensCoalesced")
    if event.merged != group.id:
        refuse(state, event, "C1", token=event.merged, expected=group.id, found=event.merged)
    payload = _merged_payload(state, event, group)
    _introduce_lists(state, event)
    group.status = "merged"
    born(state, group.family, group.id, group.frames, payload, state.plan.next_of[event.coalesce])
    for token in group.arrived.values():
        end(state, token, "coalesced")


def _merged_payload(state: State, event: TokensCoalesced, group: Group) -> int:
    output = event.output
    if isinstance(output, Commitment):
        return introduce(state, event, output)
    if output not in {token.payload for token in group.arrived.values()} and output != group.parent_payload:
        refuse(state, event, "L4", token=event.merged, expected="a payload of the group", found=str(output))
    return output


def coalesce_failed(state: State, event: CoalesceFailed) -> None:
    """C5, A1: each held token is `failed`; the branch ahead, if any, is lost with the group."""
    group = _close(state, event, "CoalesceFailed")
    _introduce_lists(state, event)
    group.status, group.failure = "failed", event.reason
    for token in group.arrived.values():
        end(state, token, "failed")
    owe_loss(state, group.frame.token, group.family, group.frames, "group_failed", event.coalesce, event.reason)


def _close(state: State, event: TokensCoalesced | CoalesceFailed, name: str) -> Group:
    group = state.groups.get(event.group)
    if group is None or group.status != "open" or group.node.id != event.coalesce:
        law = "C2" if group is not None or was_closed(state, event.group) else "L4"
        refuse(state, event, law, token=event.group, expected="an open group", found=name)
    _check_facts(state, event, group)
    resolution = _due_resolution(state, event, group)
    if not _says(event, resolution, rule_of(group)):
        refuse(state, event, "C4", token=event.group, expected=str(resolution), found=f"{name} {event.trigger} "
               f"{event.reason if isinstance(event, CoalesceFailed) else ''}".rstrip())
    if state.owed:
        state.owed.popleft()
        _forget_losses(state, group)
    state.open_groups -= 1
    return group


def _introduce_lists(state: State, event: TokensCoalesced | CoalesceFailed) -> None:
    """C6, L4: fields that collided are named with their values, and only by a union; lists come last."""
    rule = state.plan.coalesces[event.coalesce].coalesce
    merges = isinstance(event, TokensCoalesced) or event.reason == UNION_COLLISION
    if bool(event.collisions) != (event.collided is not None) or (
        event.collisions and not (merges and rule is not None and rule.merge == "union")
    ):
        refuse(state, event, "C6", token=event.group, expected="collisions, with their values, of a union only",
               found=f"{sorted(event.collisions)[:5]} {'with' if event.collided else 'without'} values")
    for commitment in (event.collided, event.facts_list, event.collisions_list):
        if commitment is not None:
            introduce(state, event, commitment)


def _check_facts(state: State, event: TokensCoalesced | CoalesceFailed, group: Group) -> None:
    """C1, C3, C5: the recorded facts are the group's."""
    if event.facts is None:
        refuse(state, event, "C3", token=group.id, expected="facts, in the body or resolved from their list", found="none")
    expected = facts(group, event.active_ms)
    if event.facts == expected:
        return
    law = "C3"
    if event.facts.arrival_order != expected.arrival_order:
        law = "C5" if isinstance(event, CoalesceFailed) else "C1"
    elif isinstance(event, CoalesceFailed):
        law = "C5"
    refuse(state, event, law, token=group.id, expected=str(expected), found=str(event.facts))


def _due_resolution(state: State, event: TokensCoalesced | CoalesceFailed, group: Group) -> Resolution | None:
    """C4: what the policy says here, for the owed decision, a timer that is due, the end of the source or an abandon."""
    owed = state.owed[0] if state.owed else None
    if isinstance(owed, OwedResolution):
        return owed.resolution if owed.group is group else None
    cause = _CAUSES.get(event.trigger)
    if cause is None:
        return None
    if cause is Cause.TIMEOUT and (group.deadline_ms is None or event.active_ms < group.deadline_ms):
        refuse(state, event, "C4", token=group.id, expected=f"a timeout at {group.deadline_ms} ms of run time",
               found=f"{event.active_ms} ms")
    if cause is Cause.END_OF_SOURCE and not state.exhausted:
        refuse(state, event, "C4", token=group.id, expected="SourceExhausted before it", found="none")
    if cause is Cause.ABANDONED:
        state.abandoned = True
    return resolve(rule_of(group), group.expected, group.arrived, group.lost, cause)


def _says(event: TokensCoalesced | CoalesceFailed, resolution: Resolution | None, rule: CoalesceRule) -> bool:
    if isinstance(event, TokensCoalesced):
        return isinstance(resolution, Merge) and resolution.trigger == event.trigger
    if isinstance(resolution, Fail):
        return resolution == (event.trigger, event.reason)
    may_collide = rule.merge == "union" and rule.collision == "fail" and event.reason == UNION_COLLISION
    return isinstance(resolution, Merge) and may_collide and resolution.trigger == event.trigger

