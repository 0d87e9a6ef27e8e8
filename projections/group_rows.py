"""The row of a coalesce group: as it stands while it is open, and as its resolution recorded it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from ledger.events import CoalesceFailed, TokensCoalesced
from ledger.fold.groups import facts
from ledger.fold.state import Group
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


def closed(event: TokensCoalesced | CoalesceFailed, opened: Group) -> Record:
    """The row of a group as its resolution states it; facts too long for the event's body are those of the group itself."""
    known = event.facts or facts(opened, event.active_ms)
    merged = event.merged if isinstance(event, TokensCoalesced) else None
    reason = event.reason if isinstance(event, CoalesceFailed) else None
    status = "merged" if merged else "failed"
    return _row(event.group, event.coalesce, status, event.trigger, reason, known.policy, known.merge_strategy,
                known.expected_branches, [(one.branch, one.offset_ms) for one in known.arrival_order],
                {one.branch: one.reason for one in known.branches_lost}, known.branches_missing, merged,
                known.wait_duration_ms, event.collisions, opened.opened_seq, event.seq)


def _row(
    group: str, coalesce: str, status: str, trigger: str | None, reason: str | None, policy: str, merge: str,
    expected: Sequence[str], arrivals: Sequence[tuple[str, int]], lost: dict[str, str], missing: Sequence[str],
    merged: str | None, wait_ms: int | None, collisions: dict[str, tuple[str, ...]], opened_seq: int,
    closed_seq: int | None,
) -> Record:
    root = family(group)
    arrived = tuple(expected)
    if len(arrivals) < len(arrived):
        came = {branch for branch, _ in arrivals}
        arrived = tuple([branch for branch in expected if branch in came])
    return [
        group, coalesce, root if isinstance(root, int) else None, status, trigger, reason, policy, merge,
        _names(tuple(expected)), _names(arrived), as_json(lost) if lost else "{}", _names(tuple(missing)),
        as_json([{"branch": branch, "offset_ms": offset} for branch, offset in arrivals]), merged, wait_ms,
        as_json(collisions) if collisions else "{}", opened_seq, closed_seq,
    ]  # fmt: skip


@lru_cache(maxsize=1024)
def _names(names: tuple[str, ...]) -> str:
    """Branch lists repeat from group to group."""
    return as_json(names)

