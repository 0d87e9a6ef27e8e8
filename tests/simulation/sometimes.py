"""Interesting cases by name, each seen in a run's log or in what its processes found and left.

Why counted: a simulator that stops making a case goes on being green. The tests hold every name of `NAMES` to be seen over
their seeds; a campaign prints how often each was.

Invariant: looks, decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from ledger import events as e
from tests.simulation.predicted_plan import Join, Step, Ways
from tests.simulation.simulated_world import World

OVER_A_RESUME = ("branches held", "a batch open", "a batch waiting to be tried again", "a token waiting to be tried again",
                 "something owed", "a write in doubt", "an effect in doubt", "a timer running", "the source at its end")


def seen(world: World) -> Counter[str]:
    """How often each case was seen in a world whose run is over."""
    looker = Looker(world)
    for event in world.events:
        looker.look(event)
    looker.processes()
    return looker.counts


class Looker:
    """Goes through one run's log."""

    def __init__(self, world: World) -> None:
        self.counts: Counter[str] = Counter()
        self.ways = Ways(world.case.pipeline)
        self._world = world
        self._groups: set[str] = set()
        self._timed_out: dict[str, int] = {}
        self._arrived_ms: dict[str, int] = {}
        self._refused: set[str] = set()
        self._writes: dict[int, int] = {}
        self._batch_waited = ""

    def look(self, event: e.Event) -> None:
        """Note what this event shows."""
        look = LOOKS.get(type(event))
        name = look(self, event) if look is not None else None
        if name is not None:
            self.counts[name] += 1
        waited, self._batch_waited = self._batch_waited, ""
        if isinstance(event, e.BatchFlushed | e.BatchFailed) and event.attempt > 1:
            self._batch_waited = event.aggregation
        elif isinstance(event, e.TokenBuffered) and event.aggregation == waited:
            self.counts["tokens waited in line for a batch tried again"] += 1

    def processes(self) -> None:
        """Note what the processes found, how they ended, and what they left at the sinks."""
        lives = self._world.lives
        for life in lives[1:]:
            self.counts.update(f"{thing} over a resume" for thing in life.found)
        for life in lives:
            if life.struck:
                self.counts[f"struck: {life.fault.kind}"] += 1
        deaths = "".join("d" if life.ended == "died" else "-" for life in lives)
        self.counts["three processes died in a row"] += "ddd" in deaths
        for artifact in self._world.artifacts.values():
            self.counts["a file was cut back"] += artifact.cut
            self.counts[f"a write was made again: {artifact.delivery}"] += artifact.remade
            self.counts["rows are there twice under one key"] += len(artifact.taken) > len(artifact.rows())

    # --- groups --------------------------------------------------------------------------------------------------

    def _join(self, name: str) -> Join:
        node = self.ways.nodes[name]
        assert isinstance(node, Join)
        return node

    def _late(self, event: e.BranchArrivedLate) -> str:
        if self._timed_out.get(event.group) == event.active_ms:
            self.counts["a timeout raced an arrival in the same tick"] += 1
        return f"late arrival after a {'merge' if event.closed_as == 'merged' else 'failure'}"

    def _held(self, event: e.BranchArrived) -> str | None:
        self._groups.add(event.group)
        self._arrived_ms[event.group] = event.active_ms
        return "a merged token was held by an outer coalesce" if "+" in event.token.rpartition(".")[2] else None

    def _lost(self, event: e.BranchLost) -> str:
        if event.group not in self._groups and not self._join(event.coalesce).gathers:
            self.counts["loss before the first arrival"] += 1
        self._groups.add(event.group)
        return f"a branch was lost: {event.cause}"

    def _merged(self, event: e.TokensCoalesced) -> str:
        facts = event.facts
        if facts is not None and not facts.expected_branches:
            self.counts["an empty gather merged"] += 1
        if event.collisions:
            self.counts["colliding fields were merged"] += 1
        self._times_out(event)
        return f"merged: {self._join(event.coalesce).policy} by {event.trigger}"

    def _failed(self, event: e.CoalesceFailed) -> str:
        facts, join = event.facts, self._join(event.coalesce)
        if facts is not None and not facts.expected_branches:
            self.counts["an empty gather failed"] += 1
        if join.select and event.reason == f"branch_lost:{join.select}" and join.policy != "require_all":
            self.counts["a selected branch was lost"] += 1
        self._times_out(event)
        return f"group failed: {event.reason.partition(':')[0]}"

    def _times_out(self, event: e.TokensCoalesced | e.CoalesceFailed) -> None:
        if event.trigger != "timeout":
            return
        self._timed_out[event.group] = event.active_ms
        if self._arrived_ms.get(event.group) == event.active_ms:
            self.counts["a timeout raced an arrival in the same tick"] += 1

    # --- steps, batches, sinks -----------------------------------------------------------------------------------

    def _step_failed(self, event: e.StepFailed) -> str:
        return f"attempt failed: {event.code}{', tried again' if event.retry else ''}"

    def _abandoned(self, event: e.StepAbandoned) -> str:
        node = self.ways.nodes[event.node]
        effect = isinstance(node, Step) and node.effect
        return "an effect in doubt was abandoned" if effect else "a pure step was abandoned"

    def _started(self, event: e.StepStarted) -> str | None:
        node = self.ways.nodes[event.node]
        return None if isinstance(node, Step) and node.effect else "a wary step said that it begins"

    def _diverted(self, event: e.Diverted) -> str:
        if event.kind == "sink_refused":
            if event.token in self._refused:
                self.counts["refused at a failsink"] += 1
            self._refused.add(event.token)
        if event.code == "process_died":
            self.counts["a step failed with process_died"] += 1
        return f"diverted: {event.kind} {'discarded' if event.edge is None else 'to a sink'}"

    def _flushed(self, event: e.BatchFlushed) -> str:
        if event.rejected:
            many = "all members" if len(event.rejected) == event.members else "a member"
            self.counts[f"a batch rejected {many}"] += 1
        if event.attempt > 1:
            self.counts["a batch was tried again"] += 1
        if not event.outputs:
            self.counts["a batch made nothing"] += 1
        return f"batch flushed by {event.trigger}"

    def _batch_failed(self, event: e.BatchFailed) -> str:
        return f"batch failed: {event.code}{', tried again' if event.retry else ''}"

    def _batch_begun(self, event: e.BatchStarted) -> str:
        return "a wary batch said that it begins"

    def _batch_abandoned(self, event: e.BatchAbandoned) -> str:
        return "a batch in doubt was abandoned"

    def _intended(self, event: e.SinkWriteIntended) -> None:
        self._writes[event.write] = event.epoch

    def _confirmed(self, event: e.SinkWriteConfirmed) -> str | None:
        return "a write in doubt was made again" if self._writes[event.write] < event.epoch else None

    def _expanded(self, event: e.TokenExpanded) -> str:
        gathered = "gathered" if event.node in self.ways.gathers else "spread"
        return f"expanded to {('none', 'one')[event.count] if event.count < 2 else 'many'}, {gathered}"

    def _interrupted(self, event: e.RunInterrupted) -> str:
        return f"interrupted: {event.code}"


LOOKS: Mapping[type[e.Event], Callable[..., str | None]] = {
    e.BranchArrivedLate: Looker._late,
    e.BranchArrived: Looker._held,
    e.BranchLost: Looker._lost,
    e.TokensCoalesced: Looker._merged,
    e.CoalesceFailed: Looker._failed,
    e.StepFailed: Looker._step_failed,
    e.StepAbandoned: Looker._abandoned,
    e.StepStarted: Looker._started,
    e.Diverted: Looker._diverted,
    e.BatchFlushed: Looker._flushed,
    e.BatchFailed: Looker._batch_failed,
    e.BatchStarted: Looker._batch_begun,
    e.BatchAbandoned: Looker._batch_abandoned,
    e.SinkWriteIntended: Looker._intended,
    e.SinkWriteConfirmed: Looker._confirmed,
    e.TokenExpanded: Looker._expanded,
    e.RunInterrupted: Looker._interrupted,
}

NAMES: tuple[str, ...] = (
    "late arrival after a merge", "late arrival after a failure", "loss before the first arrival",
    "a timeout raced an arrival in the same tick", "a merged token was held by an outer coalesce",
    *(f"a branch was lost: {cause}" for cause in ("error_routed", "discarded", "failed", "filtered", "routed_away",
                                                  "group_failed")),
    "an empty gather merged", "an empty gather failed", "colliding fields were merged", "a selected branch was lost",
    *(f"merged: {how}" for how in ("require_all by all_arrived", "quorum by quorum_met", "first by first_arrival",
                                   "best_effort by all_arrived", "best_effort by branch_lost", "best_effort by timeout")),
    *(f"group failed: {reason}" for reason in ("branch_lost", "all_branches_lost", "quorum_impossible",
                                               "incomplete_branches", "quorum_not_met_at_timeout",
                                               "best_effort_timeout_no_arrivals", "select_branch_not_arrived",
                                               "union_collision")),
    *(f"attempt failed: {code}" for code in ("told_to", "plugin_raised", "bad_output", "retryable, tried again",
                                             "retries_exhausted", "condition_raised", "condition_type", "unknown_label",
                                             "deadline_passed, tried again", "worker_lost, tried again")),
    *(f"diverted: {kind} {where}" for kind in ("error", "quarantine", "sink_refused")
      for where in ("discarded", "to a sink")),
    "refused at a failsink",
    *(f"expanded to {count}, {how}" for count in ("none", "one", "many") for how in ("gathered", "spread")),
    *(f"batch flushed by {trigger}" for trigger in ("count", "condition", "timeout", "end_of_source")),
    *(f"batch failed: {code}" for code in ("told_to", "retryable, tried again", "retries_exhausted", "bad_output",
                                           "output_count", "plugin_raised")),
    "a batch rejected a member", "a batch rejected all members", "a batch was tried again", "a batch made nothing",
    "tokens waited in line for a batch tried again",
    *(f"{thing} over a resume" for thing in OVER_A_RESUME),
    "an effect in doubt was abandoned", "a pure step was abandoned", "a wary step said that it begins",
    "a batch in doubt was abandoned", "a wary batch said that it begins",
    "a step failed with process_died", "three processes died in a row",
    "a write in doubt was made again", "a file was cut back", "rows are there twice under one key",
    *(f"a write was made again: {delivery}" for delivery in ("transactional", "idempotent", "at_least_once")),
    *(f"interrupted: {code}" for code in ("stopped", "source_failed", "sink_failed", "unexpected")),
    *(f"struck: {kind}" for kind in ("append_lost", "append_unheard", "append_refused", "append_doubtful", "write_lost",
                                     "write_half", "write_unheard", "write_open", "write_close", "sink_lost", "sink_half",
                                     "sink_unheard", "sink_open", "sink_close", "call", "stop", "key", "tick")),
    "predicted without the log", "cut at every commit", "compared exactly", "compared without order",
)  # fmt: skip
"""Every case that must be seen."""
