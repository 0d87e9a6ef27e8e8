"""The coalesce executor: holds carriers, and says what a group's resolution is. The rules are `ledger.coalesce`'s."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from engine.executors.keeper import Keeper
from engine.recorder import encode_row
from engine.rows import FrozenRow, freeze
from ledger import ids
from ledger.coalesce import UNION_COLLISION, Fail, Merge, Resolution
from ledger.errors import UsageError
from ledger.events import BranchArrived, BranchArrivedLate, CoalesceFailed, Event, Output, TokensCoalesced
from ledger.fold import State
from ledger.fold.groups import facts, rule_of
from ledger.fold.state import Frame, Group, Stage, Token
from ledger.merge import Merged, merge


class Resolved(NamedTuple):
    """The event that closes a group, and the merged row when it merged."""

    event: Event
    row: FrozenRow | None


def arrive(state: State, token: Token, coalesce: str) -> Event | None:
    """A carrier came to its coalesce: held, or late; None when this very token is held already (a no-op, G4).

    Raises `UsageError` (D3) naming what was expected: an unknown coalesce, a token without a branch, a branch that this
    coalesce does not expect.
    """
    frame = _frame(state, token, coalesce)
    group_id = ids.merged_token(frame.token, coalesce)
    group = state.groups.get(group_id)
    if group is not None and group.arrived.get(frame.branch) is token and token.stage is Stage.HELD:
        return None
    if group is not None and group.status != "open":
        return BranchArrivedLate(token=token.id, coalesce=coalesce, group=group_id, branch=frame.branch,
                                 closed_as=group.status, reason=group.failure)
    return BranchArrived(token=token.id, coalesce=coalesce, group=group_id, branch=frame.branch)


def _frame(state: State, token: Token, coalesce: str) -> Frame:
    node = state.plan.coalesces.get(coalesce)
    if node is None or node.coalesce is None:
        known = ", ".join(sorted(state.plan.coalesces)) or "none"
        raise UsageError("COALESCE_UNKNOWN", f"expected one of the coalesces {known}, found {coalesce}",
                         where=f"token {token.id}", next_step="name a coalesce of the graph")
    expected = ", ".join(node.coalesce.branches) or f"children of {node.coalesce.gathers}"
    frame = token.frames[-1] if token.frames else None
    if frame is None:
        raise UsageError("BRANCH_NONE", f"expected a token on one of the branches {expected}, found one on no branch",
                         where=f"token {token.id} at {coalesce}", next_step="fork the token before it is joined")
    if frame.join != coalesce:
        raise UsageError("BRANCH_UNEXPECTED", f"expected one of the branches {expected}, found {frame.branch}",
                         where=f"token {token.id} at {coalesce}", next_step="list the branch in the coalesce")
    return frame


def close(
    group: Group, resolution: Resolution, rows: Mapping[str, FrozenRow], parent: FrozenRow | None, active_ms: int,
    keeper: Keeper,
) -> Resolved:
    """The resolution as an event. `rows` maps each arrived token to its row; a union that may not collide can fail here."""
    known = facts(group, active_ms)
    if isinstance(resolution, Fail):
        return Resolved(CoalesceFailed(coalesce=group.node.id, group=group.id, trigger=resolution.trigger,
                                       reason=resolution.reason, facts=known), None)
    rule = rule_of(group)
    shared = _shared_payload(group)
    if shared is not None and rule.merge in ("union", "select"):
        row = rows[next(iter(group.arrived.values())).id]
        return Resolved(_merged(group, resolution, known, shared, None, keeper), row)
    merged = merge(rule, {branch: rows[token.id] for branch, token in group.arrived.items()}, parent)
    if merged.row is None:
        event = CoalesceFailed(coalesce=group.node.id, group=group.id, trigger=resolution.trigger,
                               reason=UNION_COLLISION, facts=known, collisions=merged.collisions,
                               collided=keeper.keep(encode_row(merged.values)))
        return Resolved(event, None)
    output = keeper.keep(encode_row(merged.row))
    return Resolved(_merged(group, resolution, known, output, merged, keeper), freeze(merged.row))


def _shared_payload(group: Group) -> int | None:
    """The one payload that every arrived token carries, when none of them was changed."""
    payloads = {token.payload for token in group.arrived.values()}
    return payloads.pop() if len(payloads) == 1 else None


def _merged(
    group: Group, resolution: Merge, known: object, output: Output, merged: Merged | None, keeper: Keeper
) -> TokensCoalesced:
    collided = merged is not None and bool(merged.collisions)
    return TokensCoalesced(
        coalesce=group.node.id,
        group=group.id,
        merged=group.id,
        trigger=resolution.trigger,
        facts=known,  # type: ignore[arg-type]
        output=output,
        collisions=merged.collisions if merged is not None else {},
        collided=keeper.keep(encode_row(merged.values)) if merged is not None and collided else None,
    )
