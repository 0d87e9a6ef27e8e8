"""The rules that decide a coalesce group: pure, read aloud, used alike by live runs, resume and replay.

Why: a group must never be stuck, never resolve twice and never resolve without saying why.

With `n` expected, `a` arrived and `l` lost branches (arrived ones are among the possible `n - l`, never added again):

| policy        | merges          | fails at once                    | at timeout        | at end of source / abandon |
|---------------|-----------------|----------------------------------|-------------------|----------------------------|
| `require_all` | a = n           | l >= 1: `branch_lost:<names>`    | fails (1)         | fails (1)                  |
| `quorum` k    | a = k           | n - l < k: `quorum_impossible:…` | fails (2)         | fails (3)                  |
| `best_effort` | a + l = n, a>=1 | l = n: `all_branches_lost`       | a >= 1, else (4)  | a >= 1, else (1)           |
| `first`       | a = 1           | l = n: `all_branches_lost`       | (no timeout)      | fails (1)                  |

(1) `incomplete_branches`, (2) `quorum_not_met_at_timeout`, (3) `quorum_not_met`, (4) `best_effort_timeout_no_arrivals`.

`merge: select` adds: merge only once the selected branch has arrived; fail at once when it is lost
(`branch_lost:<name>`), and with `select_branch_not_arrived` where the policy alone would have merged at a timeout or at
the end. Under `first` the one that arrived is the selected one. An empty gather (n = 0) merges under `require_all` and
`best_effort` and fails otherwise.

Invariant: for a closing cause (timeout, end of source, abandon) the answer is never None.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum
from typing import NamedTuple, assert_never

from ledger.events import CoalesceTrigger
from ledger.graph import CoalesceRule


class Cause(Enum):
    """What made a group be looked at."""

    ARRIVAL = "arrival"
    LOSS = "loss"
    TIMEOUT = "timeout"
    END_OF_SOURCE = "end_of_source"
    ABANDONED = "abandoned"


class Merge(NamedTuple):
    """The group merges what has arrived."""

    trigger: CoalesceTrigger


class Fail(NamedTuple):
    """The group fails, and every held token with it."""

    trigger: CoalesceTrigger
    reason: str


Resolution = Merge | Fail

UNION_COLLISION = "union_collision"
LATE_ARRIVAL = "late_arrival"

_CLOSING: dict[Cause, CoalesceTrigger] = {
    Cause.TIMEOUT: "timeout",
    Cause.END_OF_SOURCE: "end_of_source",
    Cause.ABANDONED: "abandoned",
}


def resolve(
    rule: CoalesceRule, expected: Sequence[str], arrived: Collection[str], lost: Collection[str], cause: Cause
) -> Resolution | None:
    """What the policy says now, or None to go on waiting (never None for a closing cause)."""
    match rule.policy:
        case "require_all":
            return _require_all(expected, arrived, lost, cause)
        case "quorum":
            return _quorum(rule, expected, arrived, lost, cause)
        case "best_effort":
            return _best_effort(rule, expected, arrived, lost, cause)
        case "first":
            return _first(expected, arrived, lost, cause)
        case _:
            assert_never(rule.policy)


def _require_all(
    expected: Sequence[str], arrived: Collection[str], lost: Collection[str], cause: Cause
) -> Resolution | None:
    if lost:
        return Fail("branch_lost", _branch_lost(expected, lost))
    if len(arrived) == len(expected):
        return Merge("all_arrived")
    if cause in _CLOSING:
        return Fail(_CLOSING[cause], "incomplete_branches")
    return None


def _quorum(
    rule: CoalesceRule, expected: Sequence[str], arrived: Collection[str], lost: Collection[str], cause: Cause
) -> Resolution | None:
    need, possible = rule.quorum or 0, len(expected) - len(lost)
    if possible < need:
        return Fail("branch_lost", f"quorum_impossible:need={need},max_possible={possible}")
    if _select_is(rule, lost):
        return Fail("branch_lost", _branch_lost(expected, [rule.select_branch or ""]))
    met = len(arrived) >= need
    if met and _select_allows(rule, arrived):
        return Merge("quorum_met")
    if cause not in _CLOSING:
        return None
    if met:
        return Fail(_CLOSING[cause], "select_branch_not_arrived")
    return Fail(_CLOSING[cause], "quorum_not_met_at_timeout" if cause is Cause.TIMEOUT else "quorum_not_met")


def _best_effort(
    rule: CoalesceRule, expected: Sequence[str], arrived: Collection[str], lost: Collection[str], cause: Cause
) -> Resolution | None:
    if not expected:
        return Merge("all_arrived")
    if len(lost) == len(expected):
        return Fail("branch_lost", "all_branches_lost")
    if _select_is(rule, lost):
        return Fail("branch_lost", _branch_lost(expected, [rule.select_branch or ""]))
    if len(arrived) + len(lost) == len(expected):
        return Merge("branch_lost" if cause is Cause.LOSS else "all_arrived")
    if cause not in _CLOSING:
        return None
    if arrived and _select_allows(rule, arrived):
        return Merge(_CLOSING[cause])
    if arrived:
        return Fail(_CLOSING[cause], "select_branch_not_arrived")
    none = "best_effort_timeout_no_arrivals" if cause is Cause.TIMEOUT else "incomplete_branches"
    return Fail(_CLOSING[cause], none)


def _first(expected: Sequence[str], arrived: Collection[str], lost: Collection[str], cause: Cause) -> Resolution | None:
    if arrived:
        return Merge("first_arrival")
    if len(lost) == len(expected):
        return Fail("branch_lost", "all_branches_lost")
    if cause in _CLOSING:
        return Fail(_CLOSING[cause], "incomplete_branches")
    return None


def _branch_lost(expected: Sequence[str], lost: Collection[str]) -> str:
    return "branch_lost:" + ",".join(branch for branch in expected if branch in lost)


def _select_is(rule: CoalesceRule, branches: Collection[str]) -> bool:
    return rule.merge == "select" and rule.select_branch in branches


def _select_allows(rule: CoalesceRule, arrived: Collection[str]) -> bool:
    return rule.merge != "select" or rule.select_branch in arrived
