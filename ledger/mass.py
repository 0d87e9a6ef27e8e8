"""Law T7: mass is conserved. Checked from the events alone, with a bookkeeping that shares nothing with the fold.

Roots weigh 1; a fork and an expansion split evenly; a coalesce and a batch add up; an empty gathered expansion passes its
weight on to its group; whatever ended in a leaf outcome keeps its weight. At the seal the leaves weigh the rows, exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fractions import Fraction

from ledger import events as e
from ledger import ids
from ledger.graph import Graph
from ledger.laws import Finding

DEATHS_MAX = 3
"""A step that has seen so many processes die has failed."""


class Mass:
    """Follow a run's events with `event`, then read `findings`."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.findings: list[Finding] = []
        self.leaves = Fraction(0)
        self.rows = 0
        self._seq = 0
        self._weight: dict[str, Fraction] = {}
        self._arrived: dict[str, list[str]] = {}
        self._passed_on: dict[str, Fraction] = {}
        self._members: dict[tuple[str, int], list[str]] = {}
        self._writes: dict[int, tuple[str, ...]] = {}
        self._deaths: Counter[tuple[str, str]] = Counter()
        self._routeless: frozenset[str] = frozenset()
        self._gathers: dict[str, str] = {}
        self._passthrough: frozenset[str] = frozenset()
        self._on: dict[type[e.Event], Callable[..., None]] = {
            e.RunStarted: self._started,
            e.RowRead: self._row,
            e.TokenForked: self._forked,
            e.TokenExpanded: self._expanded,
            e.BranchArrived: self._branch_arrived,
            e.TokensCoalesced: self._coalesced,
            e.CoalesceFailed: self._group_failed,
            e.BranchArrivedLate: self._leaf_event,
            e.TokenFiltered: self._leaf_event,
            e.StepFailed: self._step_failed,
            e.StepAbandoned: self._step_abandoned,
            e.Diverted: self._diverted,
            e.TokenBuffered: self._buffered,
            e.BatchFlushed: self._flushed,
            e.SinkWriteIntended: self._intended,
            e.SinkWriteConfirmed: self._confirmed,
            e.SinkWriteFailed: self._write_failed,
            e.TokensAbandoned: self._abandoned,
            e.RunSealed: self._sealed,
        }

    def event(self, event: e.Event) -> None:
        """Follow one event; what does not add up becomes a finding."""
        self._seq = event.seq
        handler = self._on.get(type(event))
        if handler is not None:
            handler(event)

    def _find(self, token: str | None, expected: str, found: str) -> None:
        self.findings.append(
            Finding(law="T7", run=self.run, seq=self._seq, token=token, expected=expected, found=found)
        )

    def _take(self, token: str) -> Fraction:
        weight = self._weight.pop(token, None)
        if weight is None:
            self._find(token, "a token that carries weight", "none")
            return Fraction(0)
        return weight

    def _give(self, token: str, weight: Fraction) -> None:
        if token in self._weight:
            self._find(token, "a new token", "one that carries weight already")
        self._weight[token] = weight

    def _leaf(self, token: str) -> None:
        self.leaves += self._take(token)

    def _started(self, event: e.RunStarted) -> None:
        graph = event.graph or Graph(nodes=(), edges=())
        self._routeless = frozenset(node.id for node in graph.nodes if node.on_error is None)
        self._gathers = {
            node.coalesce.gathers: node.id for node in graph.nodes if node.coalesce and node.coalesce.gathers
        }
        self._passthrough = frozenset(
            node.id for node in graph.nodes if node.batch and node.batch.output_mode == "passthrough"
        )

    def _row(self, event: e.RowRead) -> None:
        self.rows += 1
        self._give(event.token, Fraction(1))

    def _forked(self, event: e.TokenForked) -> None:
        share = self._take(event.token) / max(1, len(event.branches))
        for branch in event.branches:
            self._give(ids.fork_child(event.token, branch), share)

    def _expanded(self, event: e.TokenExpanded) -> None:
        weight = self._take(event.token)
        for ordinal in range(event.count):
            self._give(ids.expand_child(event.token, ordinal), weight / event.count)
        if event.count == 0:
            join = self._gathers.get(event.node)
            if join is None:
                self.leaves += weight
            else:
                self._passed_on[ids.merged_token(event.token, join)] = weight

    def _branch_arrived(self, event: e.BranchArrived) -> None:
        arrived = self._arrived.setdefault(event.group, [])
        if event.token not in arrived:
            arrived.append(event.token)

    def _coalesced(self, event: e.TokensCoalesced) -> None:
        arrived = self._arrived.pop(event.group, [])
        weight = sum((self._take(token) for token in arrived), self._passed_on.pop(event.group, Fraction(0)))
        if not weight:
            self._find(event.merged, "a merged token that weighs something", "nothing arrived")
        self._give(event.merged, weight)

    def _group_failed(self, event: e.CoalesceFailed) -> None:
        for token in self._arrived.pop(event.group, []):
            self._leaf(token)
        self.leaves += self._passed_on.pop(event.group, Fraction(0))

    def _leaf_event(self, event: e.TokenFiltered | e.BranchArrivedLate) -> None:
        self._leaf(event.token)

    def _step_failed(self, event: e.StepFailed) -> None:
        if not event.retry and event.node in self._routeless:
            self._leaf(event.token)

    def _step_abandoned(self, event: e.StepAbandoned) -> None:
        self._deaths[event.token, event.node] += 1
        if self._deaths[event.token, event.node] == DEATHS_MAX and event.node in self._routeless:
            self._leaf(event.token)

    def _diverted(self, event: e.Diverted) -> None:
        if event.edge is None:
            self._leaf(event.token)

    def _buffered(self, event: e.TokenBuffered) -> None:
        self._members.setdefault((event.aggregation, event.batch), []).append(event.token)

    def _flushed(self, event: e.BatchFlushed) -> None:
        members = self._members.pop((event.aggregation, event.batch), [])
        if event.aggregation in self._passthrough:
            return
        rejected = {reject.ordinal for reject in event.rejected}
        accepted = [n for n in range(len(members)) if n not in rejected]
        outputs = event.outputs or ()
        of_all = sum(output.parents == "all" for output in outputs)
        named = Counter(n for output in outputs if output.parents != "all" for n in output.parents)
        shares = {n: of_all + named[n] for n in accepted}
        portions = {n: self._take(members[n]) / max(1, shares[n]) for n in accepted}
        whole = sum(portions.values(), Fraction(0))
        for ordinal, output in enumerate(outputs):
            weight = whole if output.parents == "all" else sum(
                (portions.get(n, Fraction(0)) for n in output.parents), Fraction(0))
            self._give(ids.batch_output(event.aggregation, event.batch, ordinal), weight)
        self.leaves += sum((portions[n] for n in accepted if not shares[n]), Fraction(0))

    def _intended(self, event: e.SinkWriteIntended) -> None:
        self._writes[event.write] = event.tokens

    def _confirmed(self, event: e.SinkWriteConfirmed) -> None:
        refused = {refusal.ordinal for refusal in event.refused}
        for ordinal, token in enumerate(self._writes.pop(event.write, ())):
            if ordinal not in refused:
                self._leaf(token)

    def _write_failed(self, event: e.SinkWriteFailed) -> None:
        self._writes.pop(event.write, None)

    def _abandoned(self, event: e.TokensAbandoned) -> None:
        for token in event.tokens:
            self._leaf(token)

    def _sealed(self, event: e.RunSealed) -> None:
        if self._weight or self.leaves != self.rows:
            some = next(iter(self._weight), None)
            self._find(some, f"leaves that weigh {self.rows}", f"{self.leaves}, and {len(self._weight)} tokens open")
