"""One fork and one coalesce whose every branch does what the row tells it to: arrive, be late, or be lost in some way.

`source -> split -> (gate_x -> step_x | drop_x) per branch -> join -> out`. A row names each branch's fate.

Invariant: what must come of it is said here from the contract alone (`story`, `ends`), with the oracle's table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.bound import Transform
from engine.plugin_api import RetryableError, RowError
from tests.kit.oracle import MERGES, Decision, Table
from tests.kit.pipelines import Sketch

ARRIVE, LATE = "arrive", "late"
ROUTE, DISCARD, FILTER, AWAY, FAIL = "route", "discard", "filter", "away", "fail"
LOSSES = (ROUTE, DISCARD, FILTER, AWAY, FAIL)
FATES = (ARRIVE, LATE, *LOSSES)
DELAY_SECONDS = 1.0
"""A late branch comes after half of this to the whole."""

REASONS: Mapping[str, str] = {
    ROUTE: "error_routed:step_{}:told_to",
    DISCARD: "discarded:drop_{}:told_to",
    FILTER: "filtered:step_{}",
    AWAY: "routed_away:gate_{}:away",
    FAIL: "failed:gate_{}:unknown_label",
}
ENDS_OF_LOST: Mapping[str, str] = {
    ROUTE: "routed", DISCARD: "quarantined", FILTER: "dropped_by_filter", AWAY: "routed", FAIL: "failed",
}  # fmt: skip


class Setting(NamedTuple):
    """One coalesce to try: the table's row, the order of the fork, and its timeout (None: it has none)."""

    table: Table
    order: tuple[str, ...]
    timeout_seconds: float | None

    def text(self) -> str:
        """The pipeline file."""
        sketch = Sketch("rows", attempts=2, delay_seconds=DELAY_SECONDS).fork("split", "rows", *self.order)
        for name in self.order:
            fate = f"row['{name}']"
            sketch.gate(f"gate_{name}", name, f"{fate} if {fate} in ['away', 'discard', 'fail'] else 'go'",
                        {"away": "side", "discard": f"to_drop_{name}", "go": f"to_step_{name}"})
            sketch.step(f"step_{name}", f"to_step_{name}", f"done_{name}", "errors")
            sketch.step(f"drop_{name}", f"to_drop_{name}", f"done_{name}", "discard")
        sketch.join("join", {name: f"done_{name}" for name in self.table.branches}, self.table.policy, "merged",
                    **self._settings())
        return sketch.step("after", "merged", "out").sink("out", "errors", "side").text()

    def _settings(self) -> dict[str, object]:
        settings: dict[str, object] = {}
        if self.timeout_seconds is not None:
            settings["timeout_seconds"] = self.timeout_seconds
        if self.table.need:
            settings["quorum_count"] = self.table.need
        if self.table.select:
            settings |= {"merge": "select", "select_branch": self.table.select}
        return settings

    def steps(self) -> dict[str, Transform]:
        """What its steps do."""
        late: set[tuple[object, str]] = set()
        return {f"{kind}_{name}": _obeying(name, late) for kind in ("step", "drop") for name in self.order}


def _obeying(name: str, late: set[tuple[object, str]]) -> Transform:
    def step(row: Mapping[str, object]) -> object:
        fate = row[name]
        if fate in (ROUTE, DISCARD):
            raise RowError("it was told to", "told_to")
        if fate == FILTER:
            return None
        if fate == LATE and (row["n"], name) not in late:
            late.add((row["n"], name))
            raise RetryableError("not yet")
        return {**row, f"by_{name}": row["n"]}

    return step


def row_of(number: int, branches: Sequence[str], fates: Sequence[str]) -> dict[str, object]:
    """The row that gives each branch its fate."""
    return {"n": number, **dict(zip(branches, fates, strict=True))}


class Told(NamedTuple):
    """What must be said of one group, and the end of each carrier."""

    story: list[str]
    ends: dict[str, str]


def expected(setting: Setting, row: int, fates: Mapping[str, str], read_ms: int, late: Sequence[tuple[str, int]]) -> Told:
    """Walk the branches as they come, by the table.

    What is not late comes when the row was read; `late` says when, in run time, each late branch succeeded.
    """
    return _Walk(setting, row).walk(fates, read_ms, late)


class _Walk:
    def __init__(self, setting: Setting, row: int) -> None:
        self._setting = setting
        self._table = setting.table
        self._row = row
        self._group = f"{row}+join"
        self._arrived: list[str] = []
        self._lost: list[str] = []
        self._closed: Decision | None = None
        self._deadline_ms: float | None = None
        self._told = Told([], {str(row): "forked"})

    def walk(self, fates: Mapping[str, str], read_ms: int, late: Sequence[tuple[str, int]]) -> Told:
        for branch in self._setting.order:
            if fates[branch] != LATE:
                self._comes(branch, fates[branch], read_ms)
        for branch, ms in late:
            if self._deadline_ms is not None and self._deadline_ms <= ms:
                self._close("timeout")
            self._comes(branch, ARRIVE, ms)
        self._close("end_of_source" if self._deadline_ms is None else "timeout")
        return self._told

    def _comes(self, branch: str, fate: str, ms: int) -> None:
        token = f"{self._row}.{branch}"
        timeout_seconds = self._setting.timeout_seconds
        if self._deadline_ms is None and timeout_seconds is not None:
            self._deadline_ms = ms + timeout_seconds * 1000
        if fate == ARRIVE and self._closed is not None:
            closed_as = "merged" if self._closed.kind == MERGES else "failed"
            self._say(f"BranchArrivedLate {token} {self._group} {branch} {closed_as}")
            self._told.ends[token] = "failed"
        elif fate == ARRIVE:
            self._arrived.append(branch)
            self._say(f"BranchArrived {token} {self._group} {branch}")
            self._decide(self._table.on_arrival(self._arrived, self._lost))
        else:
            self._told.ends[token] = ENDS_OF_LOST[fate]
            if self._closed is None:
                self._lost.append(branch)
                self._say(f"BranchLost {token} {self._group} {branch} {REASONS[fate].format(branch)}")
                self._decide(self._table.on_loss(self._arrived, self._lost))

    def _close(self, cause: str) -> None:
        if self._closed is None:
            self._decide(self._table.on_close(cause, self._arrived))

    def _decide(self, decision: Decision | None) -> None:
        if decision is None:
            return
        self._closed = decision
        merges = decision.kind == MERGES
        kind = "TokensCoalesced" if merges else "CoalesceFailed"
        self._say(f"{kind} {self._group} {decision.trigger} {decision.reason}".rstrip())
        for branch in self._arrived:
            self._told.ends[f"{self._row}.{branch}"] = "coalesced" if merges else "failed"
        if merges:
            self._told.ends[self._group] = "completed"

    def _say(self, line: str) -> None:
        self._told.story.append(line)
