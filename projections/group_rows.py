"""The row of a coalesce group: as it stands while it is open, and as its resolution recorded it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ledger.events import CoalesceFailed, TokensCoalesced
from ledger.fold.groups import facts
from ledger.fold.state import Group, State
from ledger.ids import family
from projections.output import Record


def as_json(value: object) -> str:
    """JSON text with its keys in their own order."""
    return msgspec.json.encode(value).decode()


def still_open(group: Group) -> Record:
    """The row of a group that waits: what has arrived and what was lost so far."""
    known = facts(group, group.opened_ms)
    return _row(group.id, group.node.id, "open", None, None, known.policy, known.merge_strategy, known.expected_branches,
                [(one.branch, one.offset_ms) for one in known.arrival_order],
                {one.branch: one.reason for one in known.branches_lost}, known.branches_missing, None, None, {},
                group.opened_seq, None)


def closed(event: TokensCoalesced | CoalesceFailed, opened: Group | None, state: State) -> Record:
    """The row of a group as its resolution states it. `opened` is the group as it was followed (a gather's was not)."""
    node = state.plan.coalesces[event.coalesce]
    known = event.facts
    opened_seq = opened.opened_seq if opened is not None else event.seq
    merged = event.merged if isinstance(event, TokensCoalesced) else None
    reason = event.reason if isinstance(event, CoalesceFailed) else None
    status = "merged" if merged else "failed"
    if known is None:
        rule = node.coalesce
        return _row(event.group, event.coalesce, status, event.trigger, reason, rule.policy if rule else "",
                    rule.merge if rule else "", (), [], {}, (), merged, None, event.collisions, opened_seq, event.seq)
    return _row(event.group, event.coalesce, status, event.trigger, reason, known.policy, known.merge_strategy,
                known.expected_branches, [(one.branch, one.offset_ms) for one in known.arrival_order],
                {one.branch: one.reason for one in known.branches_lost}, known.branches_missing, merged,
                known.wait_duration_ms, event.collisions, opened_seq, event.seq)


def _row(
    group: str, coalesce: str, status: str, trigger: str | None, reason: str | None, policy: str, merge: str,
    expected: Sequence[str], arrivals: Sequence[tuple[str, int]], lost: dict[str, str], missing: Sequence[str],
    merged: str | None, wait_ms: int | None, collisions: dict[str, tuple[str, ...]], opened_seq: int,
    closed_seq: int | None,
) -> Record:
    root = family(group)
    came = {branch for branch, _ in arrivals}
    return [
        group, coalesce, root if isinstance(root, int) else None, status, trigger, reason, policy, merge,
        as_json(expected), as_json([branch for branch in expected if branch in came]), as_json(lost), as_json(missing),
        as_json([{"branch": branch, "offset_ms": offset} for branch, offset in arrivals]), merged, wait_ms,
        as_json(collisions), opened_seq, closed_seq,
    ]  # fmt: skip

