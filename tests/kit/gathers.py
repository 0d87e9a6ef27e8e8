"""One expanding step and its gather, where every child does what it is told: arrive, be late, or be lost in some way.

`source -> parts (expands) -> way -> work | drop -> gather -> after -> out`. A source row names the fate of each child.

Invariant: what must come of it is said here from the contract alone (`expected`), with the oracle's table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from engine.bound import Transform
from engine.plugin_api import RetryableError, RowError
from ledger.events import Arrival, GroupFacts, Loss
from tests.kit.fates import ARRIVE, AWAY, DISCARD, ENDS_OF_LOST, FAIL, FILTER, ROUTE
from tests.kit.oracle import MERGES, Decision, Table
from tests.kit.pipelines import Sketch

LATE, TOO_LATE, EXHAUST = "late", "too_late", "exhaust"
LOST = (ROUTE, DISCARD, FILTER, AWAY, FAIL)
FATES = (ARRIVE, LATE, TOO_LATE, EXHAUST, *LOST)

DELAY_SECONDS = 1.0
"""A retry comes after half of this to the whole: the second attempt in time, the third past `TIMEOUT_SECONDS`."""
TIMEOUT_SECONDS = 1.0
LONG_SECONDS = 60.0
ATTEMPTS = 3
FAILURES: Mapping[str, int] = {LATE: 1, TOO_LATE: 2, EXHAUST: ATTEMPTS}
"""Retryable failures before the child succeeds, or has failed for good."""

REASONS: Mapping[str, str] = {
    ROUTE: "error_routed:work:told_to", DISCARD: "discarded:drop:told_to", FILTER: "filtered:work",
    AWAY: "routed_away:way:away", FAIL: "failed:way:unknown_label", EXHAUST: "error_routed:work:retries_exhausted",
}  # fmt: skip
ENDS: Mapping[str, str] = {**ENDS_OF_LOST, EXHAUST: "routed"}


class Setting(NamedTuple):
    """One gather to try. `need` is the quorum's count; without a timeout the group waits for all of its children."""

    policy: str
    need: int = 0
    timeout_seconds: float | None = None
    into: str | None = None

    def text(self) -> str:
        """The pipeline file."""
        sketch = Sketch("rows", attempts=ATTEMPTS, delay_seconds=DELAY_SECONDS)
        sketch.step("parts", "rows", "children", "errors", expands=True)
        sketch.gate("way", "children", "row['fate'] if row['fate'] in ['away', 'discard', 'fail'] else 'go'",
                    {"away": "side", "discard": "to_drop", "go": "to_work"})
        sketch.step("work", "to_work", "done", "errors").step("drop", "to_drop", "done", "discard")
        sketch.gather("gather", "parts", "done", self.policy, "gathered", **self._settings())
        return sketch.step("after", "gathered", "out").sink("out", "errors", "side").text()

    def _settings(self) -> dict[str, Any]:
        said = {"quorum_count": self.need or None, "timeout_seconds": self.timeout_seconds, "into": self.into}
        return {name: value for name, value in said.items() if value is not None}

    def steps(self) -> dict[str, Transform]:
        """What its steps do."""
        work = _Work()
        return {"parts": children, "work": work, "drop": work}


def settings() -> Iterator[Setting]:
    """Every policy with every quorum that up to four children can meet, and one that they cannot; with and without time."""
    yield Setting("first")
    yield from (Setting("best_effort", 0, seconds) for seconds in (TIMEOUT_SECONDS, LONG_SECONDS))
    for limit in (None, TIMEOUT_SECONDS):
        yield Setting("require_all", 0, limit)
        yield from (Setting("quorum", need, limit) for need in range(1, 6))


def row_of(number: int, fates: Sequence[str]) -> dict[str, Any]:
    """The source row whose children have these fates."""
    return {"n": number, "fates": list(fates)}


def children(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the expanding step makes of a row: as many as it names fates."""
    return [{"n": row["n"], "part": part, "fate": fate} for part, fate in enumerate(row["fates"])]


class _Work:
    def __init__(self) -> None:
        self._asked: Counter[tuple[int, int]] = Counter()

    def __call__(self, row: Mapping[str, Any]) -> object:
        fate, child = row["fate"], (row["n"], row["part"])
        if fate in (ROUTE, DISCARD):
            raise RowError("it was told to", "told_to")
        if fate == FILTER:
            return None
        self._asked[child] += 1
        if self._asked[child] <= FAILURES.get(fate, 0):
            raise RetryableError("not yet")
        return {**row, "done": True}


class Told(NamedTuple):
    """What must be said of one group, what is known at its resolution, the merged row if there is one, and every end."""

    story: list[str]
    facts: GroupFacts
    row: dict[str, Any] | None
    ends: dict[str, str]


def expected(setting: Setting, row: Mapping[str, Any], at_ms: int, late: Sequence[tuple[int, int]]) -> Told:
    """Walk the children as they come, by the table.

    `at_ms` is when the row was expanded, `late` the (child, run time) of each that was tried again, in the log's order.
    """
    return _Walk(setting, row, at_ms).walk(late)


class _Walk:
    def __init__(self, setting: Setting, row: Mapping[str, Any], at_ms: int) -> None:
        self._setting = setting
        self._row = row
        self._at_ms = at_ms
        self._group = f"{row['n']}+gather"
        self._names = tuple(map(str, range(len(row["fates"]))))
        self._table = Table(setting.policy, self._names, setting.need)
        timeout_seconds = setting.timeout_seconds
        self._deadline_ms = None if timeout_seconds is None else at_ms + int(timeout_seconds * 1000)
        self._arrived: list[Arrival] = []
        self._lost: dict[str, str] = {}
        self._closed: Decision | None = None
        self._facts: GroupFacts | None = None
        self._merged: dict[str, Any] | None = None
        self._story: list[str] = []
        self._ends = {str(row["n"]): "expanded"}

    def walk(self, late: Sequence[tuple[int, int]]) -> Told:
        self._decide(self._at_birth(), self._at_ms)
        for part, fate in enumerate(self._row["fates"]):
            if fate not in FAILURES:
                self._comes(part, self._at_ms)
        for part, ms in late:
            if self._deadline_ms is not None and self._deadline_ms <= ms and self._closed is None:
                self._decide(self._table.on_close("timeout", self._come()), self._deadline_ms)
            self._comes(part, ms)
        if self._facts is None:
            raise AssertionError(f"{self._group} was never decided")
        return Told(self._story, self._facts, self._merged, self._ends)

    def _at_birth(self) -> Decision | None:
        """Nobody to wait for is everybody; a quorum of more than there are can never be met."""
        if not self._names and self._setting.policy in ("require_all", "best_effort"):
            return Decision(MERGES, "all_arrived")
        if len(self._names) < self._setting.need or not self._names:
            return self._table.on_loss([], [])
        return None

    def _come(self) -> list[str]:
        return [arrival.branch for arrival in self._arrived]

    def _comes(self, part: int, ms: int) -> None:
        fate, token = self._row["fates"][part], f"{self._row['n']}:{part}"
        if fate in (ARRIVE, LATE, TOO_LATE) and self._closed is not None:
            closed_as = "merged" if self._closed.kind == MERGES else "failed"
            self._story.append(f"BranchArrivedLate {token} {self._group} {part} {closed_as}")
            self._ends[token] = "failed"
        elif fate in (ARRIVE, LATE, TOO_LATE):
            self._arrived.append(Arrival(str(part), token, ms - self._at_ms))
            self._story.append(f"BranchArrived {token} {self._group} {part}")
            self._decide(self._table.on_arrival(self._come(), list(self._lost)), ms)
        else:
            self._ends[token] = ENDS[fate]
            if self._closed is None:
                self._lost[str(part)] = REASONS[fate]
                self._story.append(f"BranchLost {token} {self._group} {part} {REASONS[fate]}")
                self._decide(self._table.on_loss(self._come(), list(self._lost)), ms)

    def _decide(self, decision: Decision | None, ms: int) -> None:
        if decision is None:
            return
        self._closed = decision
        merges = decision.kind == MERGES
        kind = "TokensCoalesced" if merges else "CoalesceFailed"
        self._story.append(f"{kind} {self._group} {decision.trigger} {decision.reason}".rstrip())
        come = self._come()
        self._facts = GroupFacts(
            policy=self._setting.policy, merge_strategy="list", expected_branches=self._names,
            arrival_order=tuple(self._arrived),
            branches_lost=tuple(Loss(name, self._lost[name]) for name in self._names if name in self._lost),
            branches_missing=tuple(name for name in self._names if name not in come and name not in self._lost),
            wait_duration_ms=ms - self._at_ms,
        )  # fmt: skip
        for arrival in self._arrived:
            self._ends[arrival.token] = "coalesced" if merges else "failed"
        if merges:
            self._ends[self._group] = "completed"
            made = [{**child, "done": True} for child in children(self._row) if str(child["part"]) in come]
            self._merged = {**self._row, self._setting.into or "items": made}
