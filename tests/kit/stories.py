"""What a log tells, read from its events alone: one line an event, and the end of every token.

Why its own bookkeeping: a count of ends that shares code with the fold would miss what the fold misses. Imports nothing
of the engine and no rule of the ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ledger import events as e
from ledger.graph import Graph

OPEN_ENDS = {"normal": "completed", "gate": "routed", "error": "routed", "quarantine": "quarantined",
             "sink_refused": "diverted"}  # fmt: skip


def said(event: e.Event) -> str:
    """The event in one line: its type, whom it is about, and what a reader would ask first."""
    kind = type(event).__name__
    match event:
        case e.RowRead():
            text = event.token if event.valid else f"{event.token} invalid {event.code}"
        case e.StepStarted() | e.StepCompleted() | e.TokenFiltered():
            text = f"{event.token} {event.node} #{event.attempt}"
        case e.StepFailed():
            text = f"{event.token} {event.node} #{event.attempt} {event.code}{' retry' if event.retry else ''}"
        case e.Routed():
            text = f"{event.token} {event.edge}"
        case e.TokenForked():
            text = f"{event.token} {event.node} {','.join(event.branches)}"
        case e.TokenExpanded():
            text = f"{event.token} {event.node} {event.count}"
        case e.Diverted():
            text = f"{event.token} {event.kind} {event.node} > {event.to} by {event.edge} {event.code}"
        case e.BranchArrived():
            text = f"{event.token} {event.group} {event.branch}"
        case e.BranchLost():
            text = f"{event.token} {event.group} {event.branch} {loss(event)}"
        case e.BranchArrivedLate():
            text = f"{event.token} {event.group} {event.branch} {event.closed_as}"
        case e.TokensCoalesced():
            text = f"{event.group} {event.trigger}"
        case e.CoalesceFailed():
            text = f"{event.group} {event.trigger} {event.reason}"
        case e.CallRecorded():
            text = f"{event.token} {event.node} #{event.attempt} call {event.call} {event.kind} {event.status}"
        case e.TokenBuffered():
            text = f"{event.token} {event.aggregation}@{event.batch} {event.ordinal}"
        case e.BatchStarted():
            text = f"{event.aggregation}@{event.batch} #{event.attempt} {event.trigger}"
        case e.BatchAbandoned():
            text = f"{event.aggregation}@{event.batch} #{event.attempt}"
        case e.BatchFlushed():
            text = f"{event.aggregation}@{event.batch} #{event.attempt} {event.trigger} {_made(event)}"
        case e.BatchFailed():
            batch = f"{event.aggregation}@{event.batch} #{event.attempt}"
            text = f"{batch} {event.trigger} {event.code}{' retry' if event.retry else ''}"
        case e.SinkWriteIntended():
            text = f"{event.sink} {','.join(event.tokens)}"
        case e.SinkWriteConfirmed():
            refused = ",".join(f"{one.ordinal}:{one.code}" for one in event.refused)
            text = f"{event.sink} {event.accepted}{' refused ' + refused if refused else ''}"
        case e.SinkWriteFailed():
            text = f"{event.sink} {event.code}"
        case e.SourceExhausted():
            text = str(event.rows)
        case e.SourceFailed():
            text = f"{event.position} {event.code}"
        case e.RunInterrupted():
            text = f"{event.code} {event.detail}".rstrip()
        case e.RunSealed():
            text = event.status
        case _:
            text = ""
    return f"{kind} {text}".rstrip()


def _made(event: e.BatchFlushed) -> str:
    """The outputs by their parents, and who was rejected: `all 0+2 rejected 1:negative`."""
    made = ["+".join(map(str, one.parents)) if one.parents != "all" else "all" for one in event.outputs or ()]
    refused = ",".join(f"{one.ordinal}:{one.code}" for one in event.rejected)
    return " ".join([*made, *([f"rejected {refused}"] if refused else [])]) or "nothing"


def loss(event: e.BranchLost) -> str:
    """`cause:node[:code]`."""
    return ":".join(part for part in (event.cause, event.node, event.code) if part)


def ends(events: Iterable[e.Event], graph: Graph) -> dict[str, list[str]]:
    """Each token that was made, with every outcome it got (one, at a seal)."""
    book = _Book(graph)
    for event in events:
        book.event(event)
    return book.ends


def check_sealed(events: Sequence[e.Event], found: Mapping[str, Sequence[str]]) -> None:
    """B1, T1 by another way: each token has exactly one end, and the seal counts the same."""
    wrong = {token: outcomes for token, outcomes in found.items() if len(outcomes) != 1}
    assert wrong == {}
    sealed = events[-1]
    assert isinstance(sealed, e.RunSealed)
    assert sealed.outcomes == Counter(outcomes[0] for outcomes in found.values())
    assert sealed.tokens == len(found)


class _Book:
    """Births and ends."""

    def __init__(self, graph: Graph) -> None:
        self.ends: dict[str, list[str]] = {}
        self._held: dict[str, list[str]] = {}
        self._way: dict[str, str] = {}
        self._writes: dict[int, tuple[str, ...]] = {}
        self._members: dict[str, list[str]] = {}
        self._passing = {node.id for node in graph.nodes if node.batch and node.batch.output_mode == "passthrough"}
        self._sinks = {node.id for node in graph.nodes if node.kind == "sink"}
        self._routeless = {node.id for node in graph.nodes if node.on_error is None}
        self._gathered = {node.coalesce.gathers for node in graph.nodes if node.coalesce}
        self._to = {edge.id: edge.to_node for edge in graph.edges}

    def event(self, event: e.Event) -> None:
        match event:
            case e.RowRead():
                self._born(event.token)
            case e.TokenForked():
                self._end(event.token, "forked")
                for branch in event.branches:
                    self._born(f"{event.token}.{branch}")
            case e.TokenExpanded():
                whole = event.count or event.node in self._gathered
                self._end(event.token, "expanded" if whole else "dropped_by_filter")
                for ordinal in range(event.count):
                    self._born(f"{event.token}:{ordinal}")
            case e.TokenFiltered():
                self._end(event.token, "dropped_by_filter")
            case e.StepFailed():
                if not event.retry and event.node in self._routeless:
                    self._end(event.token, "failed")
            case e.Routed():
                self._way[event.token] = "gate" if self._to[event.edge] in self._sinks else "normal"
            case e.Diverted():
                self._diverted(event)
            case e.BranchArrived() | e.BranchArrivedLate() | e.TokensCoalesced() | e.CoalesceFailed():
                self._group(event)
            case e.TokenBuffered():
                self._members.setdefault(f"{event.aggregation}@{event.batch}", []).append(event.token)
            case e.BatchFlushed():
                self._flushed(event)
            case e.BatchFailed():
                if not event.retry:
                    del self._members[f"{event.aggregation}@{event.batch}"]
            case e.SinkWriteIntended():
                self._writes[event.write] = event.tokens
            case e.SinkWriteFailed():
                del self._writes[event.write]
            case e.SinkWriteConfirmed():
                refused = {one.ordinal for one in event.refused}
                for ordinal, token in enumerate(self._writes.pop(event.write)):
                    if ordinal not in refused:
                        self._end(token, OPEN_ENDS[self._way.get(token, "normal")])
            case e.TokensAbandoned():
                for token in event.tokens:
                    self._end(token, "failed")

    def _diverted(self, event: e.Diverted) -> None:
        if event.edge is None:
            self._end(event.token, "diverted" if event.kind == "sink_refused" else "quarantined")
        else:
            self._way[event.token] = event.kind

    def _flushed(self, event: e.BatchFlushed) -> None:
        """G11: rejected members are nobody's parents and leave by their own divert."""
        batch = f"{event.aggregation}@{event.batch}"
        members = self._members.pop(batch)
        if event.aggregation in self._passing:
            return
        rejected = {one.ordinal for one in event.rejected}
        named: set[int] = set()
        for ordinal, output in enumerate(event.outputs or ()):
            self._born(f"{batch}:{ordinal}")
            named |= set(range(len(members))) - rejected if output.parents == "all" else set(output.parents)
        assert not named & rejected, f"{batch}: a rejected member is a parent"
        for ordinal, token in enumerate(members):
            if ordinal not in rejected:
                self._end(token, "consumed_in_batch" if ordinal in named else "dropped_by_filter")

    def _group(self, event: e.BranchArrived | e.BranchArrivedLate | e.TokensCoalesced | e.CoalesceFailed) -> None:
        if isinstance(event, e.BranchArrived):
            self._held.setdefault(event.group, []).append(event.token)
            return
        if isinstance(event, e.BranchArrivedLate):
            self._end(event.token, "failed")
            return
        merged = isinstance(event, e.TokensCoalesced)
        for token in self._held.pop(event.group, []):
            self._end(token, "coalesced" if merged else "failed")
        if merged:
            self._born(event.group)

    def _born(self, token: str) -> None:
        assert token not in self.ends, f"{token} was made twice"
        self.ends[token] = []

    def _end(self, token: str, outcome: str) -> None:
        self.ends[token].append(outcome)
