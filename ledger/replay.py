"""Replay: fold a run's log and give a verdict, naming the first event that the laws do not allow.

Why: the proof that every token has exactly one terminal state is made from the log alone, by the fold that also ran it.

Invariant: reads, never writes; stops at the first offence, and what stands before it is still told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
from msgspec import Struct

from ledger import reader
from ledger.coalesce import UNION_COLLISION
from ledger.codec import Undecodable
from ledger.events import CoalesceFailed, Commitment, Event, TokensCoalesced
from ledger.fold import State, apply
from ledger.fold.groups import rule_of
from ledger.fold.state import Group
from ledger.graph import CoalesceRule
from ledger.laws import Finding, LawBroken
from ledger.mass import Mass
from ledger.merge import merge, same
from ledger.store import Payload, Store, Stored

GROUPS_PER_FETCH = 400


class Verdict(Struct, kw_only=True):
    """What a replay says. `lawful` holds for the events read; `sealed` tells whether the run is closed.

    `outcomes` counts terminal outcomes; `open_tokens` have none yet. `findings` is empty when lawful; its first entry
    is the first offence. `unverifiable` counts data checks whose payloads were erased.
    """

    run: str
    lawful: bool
    sealed: bool
    status: str
    events: int
    rows: int
    tokens: int
    open_tokens: int
    open_groups: int
    late_arrivals: int
    outcomes: dict[str, int]
    findings: list[Finding]
    unverifiable: int = 0


class Replayed(NamedTuple):
    """The verdict, and the state after the last lawful event."""

    verdict: Verdict
    state: State


def replay(
    store: Store, run: str, *, until_seq: int | None = None, until_at: int | None = None, deep: bool = False
) -> Replayed:
    """Fold `run` up to a seq or a time (microseconds since the epoch). `deep` adds mass (T7) and merged data (C6)."""
    state = State(run)
    findings: list[Finding] = []
    mass, data = (Mass(run), MergedData(store, run)) if deep else (None, None)
    try:
        for _, event in _until(reader.events(store, run, until=until_seq), until_at):
            resolves = data is not None and isinstance(event, (TokensCoalesced, CoalesceFailed))
            group = state.groups.get(event.group) if resolves else None  # type: ignore[attr-defined]
            apply(state, event)
            if data is not None and group is not None:
                data.expect(group, event)  # type: ignore[arg-type]
            if mass is not None:
                mass.event(event)
    except LawBroken as broken:
        findings.append(broken.finding)
    except Undecodable as unreadable:
        findings.append(Finding(law="L5", run=run, seq=unreadable.seq, token=None,
                                expected="an event that decodes at its version", found=unreadable.found))
    if mass is not None and data is not None:
        data.check()
        findings = sorted([*findings, *mass.findings, *data.findings], key=lambda finding: finding.seq)
    return Replayed(_verdict(state, findings, data.erased if data else 0), state)


def _until(read: Iterator[tuple[Stored, Event]], at: int | None) -> Iterator[tuple[Stored, Event]]:
    for stored, event in read:
        if at is not None and event.at > at:
            return
        yield stored, event


def _verdict(state: State, findings: list[Finding], unverifiable: int) -> Verdict:
    return Verdict(
        run=state.run,
        lawful=not findings,
        sealed=state.status in ("completed", "failed"),
        status=state.status,
        events=state.seq,
        rows=state.rows_read,
        tokens=state.tokens_made,
        open_tokens=state.live,
        open_groups=state.open_groups,
        late_arrivals=state.late_arrivals,
        outcomes=dict(sorted(state.outcomes.items())),
        findings=findings,
        unverifiable=unverifiable,
    )


class _Expected(NamedTuple):
    event: TokensCoalesced | CoalesceFailed
    rule: CoalesceRule
    arrived: dict[str, int]
    parent: int | None
    output: int | None


class MergedData:
    """Law C6: merged data, and what collided, is the strategy applied to what arrived.

    Payloads are fetched for many groups at a time. What is not readable any more is counted in `erased`.
    """

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._run = run
        self._waiting: list[_Expected] = []
        self.findings: list[Finding] = []
        self.erased = 0

    def expect(self, group: Group, event: TokensCoalesced | CoalesceFailed) -> None:
        """Note a group's resolution, if it came of a merge."""
        output: int | None = None
        if isinstance(event, TokensCoalesced):
            output = event.output.n if isinstance(event.output, Commitment) else event.output
        elif event.reason != UNION_COLLISION:
            return
        arrived = {branch: token.payload for branch, token in group.arrived.items()}
        self._waiting.append(_Expected(event, rule_of(group), arrived, group.parent_payload, output))
        if len(self._waiting) >= GROUPS_PER_FETCH:
            self.check()

    def check(self) -> None:
        """Recompute the merges noted so far."""
        numbers = {n for one in self._waiting for n in (*one.arrived.values(), one.output, one.parent) if n is not None}
        payloads = self._store.payloads(self._run, sorted(numbers))
        for one in self._waiting:
            try:
                self._check(one, payloads)
            except (msgspec.DecodeError, TypeError, UnicodeDecodeError, RecursionError):
                self._find(one, "a payload that is no row")
        self._waiting.clear()

    def _check(self, one: _Expected, payloads: Mapping[int, Payload]) -> None:
        needed = [n for n in (*one.arrived.values(), one.output, one.parent) if n is not None]
        if any(n not in payloads or payloads[n].bytes is None for n in needed):
            self.erased += 1
            return
        rows = {n: msgspec.json.decode(payloads[n].bytes or b"", type=dict[str, object]) for n in needed}
        parent = rows[one.parent] if one.parent is not None else None
        merged = merge(one.rule, {branch: rows[n] for branch, n in one.arrived.items()}, parent)
        if one.output is None:
            if merged.row is not None:
                self._find(one, "a union collision where no field collides")
        elif merged.row is None or not same(merged.row, rows[one.output]):
            self._find(one, "another row")
        if merged.collisions != one.event.collisions:
            self._find(one, f"collisions of {sorted(one.event.collisions)[:5]}")

    def _find(self, one: _Expected, found: str) -> None:
        self.findings.append(Finding(law="C6", run=self._run, seq=one.event.seq, token=one.event.group,
                                     expected="the strategy applied to the arrived rows", found=found))
