"""What a coalesce group must do, written from the contract's table alone; imports nothing that decides.

`n` expected, `a` arrived, `l` lost; possible = n - l. A closing cause is a timeout, the end of the source, or an abandon
(which decides as the end of the source does).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MERGES = "merge"
FAILS = "fail"


class Decision(NamedTuple):
    """What the table says: `merge` or `fail`, what triggered it, and the exact reason of a failure."""

    kind: str
    trigger: str
    reason: str = ""


class Table(NamedTuple):
    """One row of the table, with its numbers."""

    policy: str
    branches: tuple[str, ...]
    need: int = 0
    select: str | None = None

    def on_arrival(self, arrived: Sequence[str], lost: Sequence[str]) -> Decision | None:
        """What an arrival decides at once."""
        count = len(self.branches)
        if self.policy == "first":
            return Decision(MERGES, "first_arrival")
        chosen = self.select is None or self.select in arrived
        if self.policy == "require_all":
            return Decision(MERGES, "all_arrived") if len(arrived) == count else None
        if self.policy == "quorum":
            return Decision(MERGES, "quorum_met") if len(arrived) >= self.need and chosen else None
        whole = len(arrived) + len(lost) == count
        return Decision(MERGES, "all_arrived") if whole and chosen else None

    def on_loss(self, arrived: Sequence[str], lost: Sequence[str]) -> Decision | None:
        """What a loss decides at once."""
        count, names = len(self.branches), [branch for branch in self.branches if branch in lost]
        possible = count - len(lost)
        if self.policy == "require_all":
            return Decision(FAILS, "branch_lost", "branch_lost:" + ",".join(names))
        if self.policy == "quorum" and possible < self.need:
            reason = f"quorum_impossible:need={self.need},max_possible={possible}"
            return Decision(FAILS, "branch_lost", reason)
        if self.policy in ("best_effort", "first") and len(lost) == count:
            return Decision(FAILS, "branch_lost", "all_branches_lost")
        if self.select in lost and self.policy != "first":
            return Decision(FAILS, "branch_lost", f"branch_lost:{self.select}")
        if self.policy == "best_effort" and arrived and len(arrived) + len(lost) == count:
            return Decision(MERGES, "branch_lost")
        return None

    def on_close(self, cause: str, arrived: Sequence[str]) -> Decision:
        """What a closing cause decides of a group that is still open."""
        chosen = self.select is None or self.select in arrived
        if self.policy == "quorum":
            if len(arrived) >= self.need and not chosen:
                return Decision(FAILS, cause, "select_branch_not_arrived")
            return Decision(FAILS, cause, "quorum_not_met_at_timeout" if cause == "timeout" else "quorum_not_met")
        if self.policy == "best_effort" and arrived:
            return Decision(MERGES, cause) if chosen else Decision(FAILS, cause, "select_branch_not_arrived")
        if self.policy == "best_effort" and cause == "timeout":
            return Decision(FAILS, cause, "best_effort_timeout_no_arrivals")
        return Decision(FAILS, cause, "incomplete_branches")


def tables(branches: Sequence[str]) -> list[Table]:
    """Every policy over these branches, with every quorum and every branch to select (or none)."""
    names = tuple(branches)
    plain = [("require_all", 0), ("best_effort", 0), ("first", 0), *(("quorum", k + 1) for k in range(len(names)))]
    return [Table(policy, names, need, select) for policy, need in plain for select in (None, *names)]
