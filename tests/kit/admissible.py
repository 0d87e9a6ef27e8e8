"""Whether each decision of a log is one that the contract's table allows for the log's own order.

Imports the events and the oracle, and nothing that decides.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger import events as e
from ledger.graph import CoalesceRule, Graph
from tests.kit.oracle import FAILS, MERGES, Decision, Table

COLLIDED = "union_collision"
CLOSING = ("timeout", "end_of_source", "abandoned")
DECIDING = (e.TokensCoalesced, e.CoalesceFailed, e.BranchLost)
"""What may be said while a group is overdue: another overdue one comes first, and what follows from its decision."""


class _Group:
    """One group: what came to it, and what has to be said of it next."""

    def __init__(self, rule: CoalesceRule, branches: tuple[str, ...], at_ms: int) -> None:
        self.rule = rule
        self.table = Table(rule.policy, branches, rule.quorum or 0,
                           rule.select_branch if rule.merge == "select" else None)
        self.arrived: list[str] = []
        self.lost: list[str] = []
        self.due: Decision | None = None
        self.closed = False
        self.deadline_ms = None if rule.timeout_ms is None else at_ms + rule.timeout_ms


def inadmissible(events: Iterable[e.Event], graph: Graph) -> list[str]:
    """What is wrong with the decisions; empty when each is admissible and none is missing."""
    log = _Log(graph)
    for event in events:
        log.event(event)
    return log.wrong + [f"{name} was never resolved" for name, group in log.groups.items() if not group.closed]


class _Log:
    def __init__(self, graph: Graph) -> None:
        self.wrong: list[str] = []
        self.groups: dict[str, _Group] = {}
        self._rules = {node.id: node.coalesce for node in graph.nodes if node.coalesce}
        self._gathers = {rule.gathers: name for name, rule in self._rules.items() if rule.gathers}

    def event(self, event: e.Event) -> None:
        if isinstance(event, e.TokenExpanded) and event.node in self._gathers:
            self._expanded(event)
        elif isinstance(event, (e.BranchArrived, e.BranchLost)):
            self._told(event)
        elif isinstance(event, (e.TokensCoalesced, e.CoalesceFailed)):
            self._resolved(event)
        elif isinstance(event, e.BranchArrivedLate) and not self.groups[event.group].closed:
            self._say(event, f"{event.branch} of {event.group} is late for an open group")
        if not isinstance(event, DECIDING):
            for name, group in self.groups.items():
                if group.deadline_ms is not None and not group.closed and event.active_ms > group.deadline_ms:
                    self._say(event, f"{name} waits past its deadline {group.deadline_ms}")

    def _say(self, event: e.Event, text: str) -> None:
        self.wrong.append(f"seq {event.seq}: {text}")

    def _expanded(self, event: e.TokenExpanded) -> None:
        join = self._gathers[event.node]
        group = _Group(self._rules[join], tuple(map(str, range(event.count))), event.active_ms)
        self.groups[f"{event.token}+{join}"] = group
        if event.count == 0 and group.table.policy in ("require_all", "best_effort"):
            group.due = Decision(MERGES, "all_arrived")
        elif event.count == 0 or (group.table.policy == "quorum" and event.count < group.table.need):
            group.due = group.table.on_loss([], [])

    def _told(self, event: e.BranchArrived | e.BranchLost) -> None:
        group = self.groups.get(event.group)
        if group is None:
            rule = self._rules[event.coalesce]
            group = self.groups[event.group] = _Group(rule, rule.branches, event.active_ms)
        if group.closed or group.due or event.branch in group.arrived or event.branch in group.lost:
            self._say(event, f"{event.group} hears of {event.branch} when it should not")
        if isinstance(event, e.BranchArrived):
            group.arrived.append(event.branch)
            group.due = group.table.on_arrival(group.arrived, group.lost)
        else:
            group.lost.append(event.branch)
            group.due = group.table.on_loss(group.arrived, group.lost)

    def _resolved(self, event: e.TokensCoalesced | e.CoalesceFailed) -> None:
        group = self.groups[event.group]
        right = group.due
        if right is None and event.trigger in CLOSING:
            right = group.table.on_close(event.trigger, group.arrived)
        if event.trigger == "timeout":
            self._in_time(event, group)
        merges = isinstance(event, e.TokensCoalesced)
        found = Decision(MERGES, event.trigger) if merges else Decision(FAILS, event.trigger, event.reason)  # type: ignore[union-attr]
        collided = group.rule.collision == "fail" and found.reason == COLLIDED
        if group.closed or (right != found and not (collided and right == Decision(MERGES, event.trigger))):
            self._say(event, f"{event.group}: expected {right}, found {found}")
        group.closed = True

    def _in_time(self, event: e.TokensCoalesced | e.CoalesceFailed, group: _Group) -> None:
        """A timeout is not early, and of several that are due the earliest deadline is decided first."""
        deadline_ms = group.deadline_ms
        if deadline_ms is None or event.active_ms < deadline_ms:
            self._say(event, f"{event.group} times out before {deadline_ms}")
            return
        for name, other in self.groups.items():
            if not other.closed and other.deadline_ms is not None and other.deadline_ms < deadline_ms:
                self._say(event, f"{event.group} is decided before {name}, which was due earlier")
