"""Runs at random over one fork and join, decided by the oracle's table: what the log must be, without the code under test.

Each branch of each row has a fate, carriers move in any order, run time passes between them. The walk keeps its own
books: which groups are open, what each heard, which deadline comes next, how every token ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from hypothesis import strategies as st

from ledger import events as e
from ledger.graph import CoalesceRule
from tests.kit import graphs
from tests.kit.log import (
    Log,
    arrived,
    arrived_late,
    diverted,
    facts,
    failed,
    filtered,
    forked,
    group_failed,
    lost,
    merged,
    routed,
    step,
)
from tests.kit.oracle import MERGES, Decision, Table, tables

FATES = (*("arrive",) * 8, "twice", "filter", "error", "away", "gate_fails", "stay", "stay")


class Move(NamedTuple):
    """The carrier of `branch` of `row` meets its fate, `wait` milliseconds after the move before.

    To arrive twice is to be said to arrive once more while it is held; to stay is to come when the source has ended.
    """

    row: int
    branch: str
    fate: str
    wait: int


class Plan(NamedTuple):
    """A walk to be made."""

    table: Table
    timeout_ms: int | None
    rows: int
    moves: tuple[Move, ...]


class Books:
    """What the walk knows of one row's group."""

    def __init__(self, row: int, payload: int) -> None:
        self.row = row
        self.payload = payload
        self.group = f"{row}+join"
        self.opened: int | None = None
        self.order = 0
        self.arrived: list[tuple[str, str, int]] = []
        self.lost: list[tuple[str, str]] = []
        self.closed: str | None = None


class Walk:
    """Makes the log of a plan, and `ends`: the outcome that each token must have."""

    def __init__(self, plan: Plan) -> None:
        table = plan.table
        self.plan = plan
        self.ends: dict[str, str] = {}
        self.late = 0
        self.waiting: dict[str, list[str]] = {"out": [], "side": [], "errors": []}
        rule = CoalesceRule(branches=table.branches, gate="fork", policy=table.policy, quorum=table.need or None,  # type: ignore[arg-type]
                            timeout_ms=plan.timeout_ms, merge=self.merge, select_branch=table.select)  # type: ignore[arg-type]
        self.log = Log(graphs.forked(rule))
        self.books = [Books(row, self.log.row({"id": row})) for row in range(plan.rows)]
        for row in range(plan.rows):
            self.log.say(forked(str(row), "fork", table.branches))
            self.ends[str(row)] = "forked"
        self._walk()

    @property
    def merge(self) -> str:
        """The strategy: that of the table's row."""
        return "select" if self.plan.table.select else "union"

    def _walk(self) -> None:
        moves = self.plan.moves
        for move in moves:
            self.log.wait(move.wait)
            self._time_out()
            if move.fate != "stay":
                self._move(move)
        self.log.exhaust()
        self._flush()
        for move in moves:
            if move.fate == "stay":
                self._move(move._replace(fate="arrive"))
        self._flush()
        for sink, tokens in self.waiting.items():
            if tokens:
                self.log.write(sink, *tokens)
                self.ends |= dict.fromkeys(tokens, "completed" if sink == "out" else "routed")
        self.log.say(e.RunSealed(status="completed", outcomes=dict(Counter(self.ends.values())), rows=self.plan.rows,
                                 tokens=len(self.ends), late_arrivals=self.late, size=0, root=""))

    def _time_out(self) -> None:
        timeout = self.plan.timeout_ms
        if timeout is None:
            return
        due = [one for one in self.books if one.opened is not None and one.opened + timeout <= self.log.ms]
        for one in sorted(due, key=lambda one: (one.opened, one.order)):
            if one.closed is None:
                self._close(one, "timeout")

    def _flush(self) -> None:
        for one in self.books:
            if one.opened is not None and one.closed is None:
                self._close(one, "end_of_source")

    def _close(self, one: Books, cause: str) -> None:
        self._resolve(one, self.plan.table.on_close(cause, [branch for branch, *_ in one.arrived]))

    def _move(self, move: Move) -> None:
        one, token, node = self.books[move.row], f"{move.row}.{move.branch}", f"step_{move.branch}"
        gate = f"gate_{move.branch}"
        if move.fate == "gate_fails":
            self.log.say(failed(token, gate, one.payload, None))
            self.ends[token] = "failed"
            self._lose(one, move.branch, "failed", gate, "bad")
        elif move.fate == "away":
            self.log.say(routed(token, gate, "away"))
            self.waiting["side"].append(token)
            self._lose(one, move.branch, "routed_away", gate, "away")
        else:
            self.log.say(routed(token, gate, "go"))
            self._at_the_step(one, move, token, node)

    def _at_the_step(self, one: Books, move: Move, token: str, node: str) -> None:
        if move.fate == "filter":
            self.log.say(filtered(token, node, one.payload))
            self.ends[token] = "dropped_by_filter"
            self._lose(one, move.branch, "filtered", node, None)
        elif move.fate == "error":
            self.log.say(failed(token, node, one.payload, None))
            self.log.say(diverted(token, node, "errors", edge=f"{node}:__error_{node}__"))
            self.waiting["errors"].append(token)
            self._lose(one, move.branch, "error_routed", node, "bad")
        else:
            self.log.say(step(token, node, one.payload, one.payload))
            self._arrive(one, move.branch, token)
            if move.fate == "twice" and one.closed is None:
                self.log.say(arrived(token, one.group))

    def _arrive(self, one: Books, branch: str, token: str) -> None:
        if one.closed is not None:
            self.log.say(arrived_late(token, one.group, one.closed))
            self.ends[token] = "failed"
            self.late += one.closed == "merged"
            return
        self._open(one)
        one.arrived.append((branch, token, self.log.ms - (one.opened or 0)))
        self.log.say(arrived(token, one.group))
        table = self.plan.table
        self._resolve(one, table.on_arrival([each for each, *_ in one.arrived], [each for each, _ in one.lost]))

    def _lose(self, one: Books, branch: str, cause: e.LossCause, node: str, code: str | None) -> None:
        if one.closed is not None:
            return
        self._open(one)
        one.lost.append((branch, ":".join(part for part in (cause, node, code) if part)))
        self.log.say(lost(f"{one.row}.{branch}", one.group, cause, node, code))
        table = self.plan.table
        self._resolve(one, table.on_loss([each for each, *_ in one.arrived], [each for each, _ in one.lost]))

    def _open(self, one: Books) -> None:
        if one.opened is None:
            one.opened = self.log.ms
            one.order = len(self.log.said)

    def _resolve(self, one: Books, decision: Decision | None) -> None:
        if decision is None:
            return
        table, held = self.plan.table, [token for _, token, _ in one.arrived]
        in_order = sorted(one.lost, key=lambda loss: table.branches.index(loss[0]))
        known = facts(one.group, table.policy, table.branches, one.arrived, in_order,
                      wait=self.log.ms - (one.opened or 0), merge=self.merge)
        trigger: e.CoalesceTrigger = decision.trigger  # type: ignore[assignment]
        if decision.kind == MERGES:
            self.log.say(merged(one.group, trigger, known, one.payload))
            self.ends |= dict.fromkeys(held, "coalesced")
            self.waiting["out"].append(one.group)
            one.closed = "merged"
        else:
            self.log.say(group_failed(one.group, trigger, decision.reason, known))
            self.ends |= dict.fromkeys(held, "failed")
            one.closed = decision.reason


@st.composite
def plans(draw: st.DrawFn, policy: str = "", rows_max: int = 3) -> Plan:
    """This policy (or any) over two to four branches, any fates, any order, any waits."""
    count = draw(st.integers(2, 4))
    table = draw(st.sampled_from([table for table in tables("abcd"[:count]) if policy in ("", table.policy)]))
    timeout = draw(st.sampled_from((None, 10, 25))) if table.policy != "first" else None
    rows = draw(st.integers(1, rows_max))
    carriers = draw(st.permutations([(row, branch) for row in range(rows) for branch in table.branches]))
    return Plan(table, timeout, rows, tuple(_fated(draw, carriers)))


def _fated(draw: st.DrawFn, carriers: Iterable[tuple[int, str]]) -> Iterable[Move]:
    for row, branch in carriers:
        yield Move(row, branch, draw(st.sampled_from(FATES)), draw(st.sampled_from((0, 0, 1, 9, 30))))
