"""The projector of one run: each event, with the fold's state after it, becomes rows of the read tables.

Why one: catch-up, rebuild and *as of seq n* use this same definition, so they cannot disagree (law P1).

Invariants: pure (no clock, no I/O); reads what the fold says became of a token (`born`, `ended`) and never decides it.
`projections.projectors` knows it by a fingerprint that changes with what it makes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger import events as e
from ledger import ids
from ledger.coalesce import LATE_ARRIVAL
from ledger.fold.state import Group, State, Token
from ledger.laws import Finding
from projections import group_rows
from projections.output import Key, Record, Rows, Text
from projections.records import BATCH, EXPAND, FORK, JOIN, Records

LATE = Text(LATE_ARRIVAL, None)


class RunProjector:
    """Turns one run's events into rows of `records`, and the run's own row."""

    def __init__(self, run: str) -> None:
        self.run: Record = [run, None, "running", None, None, None, 0, 0, 0, 0, None, None]
        self.records = Records()
        self._handlers: dict[type[e.Event], Callable[[State, Any], None]] = {
            e.RunStarted: self._started,
            e.RunClaimed: self._claimed,
            e.RunInterrupted: self._interrupted,
            e.RunSealed: self._sealed,
            e.TokensAbandoned: self._abandoned,
            e.RowRead: self._row,
            e.SourceExhausted: self._exhausted,
            e.SourceFailed: self._source_failed,
            e.StepStarted: self._step_started,
            e.StepCompleted: self._step_completed,
            e.StepFailed: self._step_failed,
            e.StepAbandoned: self._step_abandoned,
            e.CallRecorded: self._call,
            e.TokenFiltered: self._filtered,
            e.Routed: self._routed,
            e.TokenForked: self._forked,
            e.TokenExpanded: self._expanded,
            e.Diverted: self._diverted,
            e.BranchArrived: self._arrived,
            e.BranchLost: self._lost,
            e.BranchArrivedLate: self._late,
            e.TokensCoalesced: self._coalesced,
            e.CoalesceFailed: self._coalesce_failed,
            e.TokenBuffered: self._buffered,
            e.BatchStarted: self._batch_started,
            e.BatchFlushed: self._flushed,
            e.BatchFailed: self._batch_failed,
            e.BatchAbandoned: self._batch_abandoned,
            e.SinkWriteIntended: self._intended,
            e.SinkWriteConfirmed: self._confirmed,
            e.SinkWriteFailed: self._write_failed,
        }

    def event(self, state: State, event: e.Event) -> None:
        """Project one event; `state` has just applied it."""
        self._handlers[type(event)](state, event)

    def hand_over(self, state: State, *, open_too: bool = True) -> Rows:
        """The rows since the last time; texts must have been filled in before (`records.output.fill`).

        Without `open_too` only what will not change any more: for tables that nobody reads before they are whole.
        """
        run = self.run
        run[6], run[7], run[8], run[9] = state.rows_read, state.tokens_made, state.late_arrivals, state.seq
        return self.records.hand_over(open_too=open_too)

    def stopped(self, finding: Finding) -> None:
        """The run cannot be told from `finding.seq` on."""
        self.run[11] = finding.seq
        self.records.output.over("p_violations", [finding.seq, finding.law, finding.token, finding.expected, finding.found])

    # --- the run -------------------------------------------------------------------------------------------------

    def _started(self, state: State, event: e.RunStarted) -> None:
        run, output = self.run, self.records.output
        run[1], run[3], run[5] = event.pipeline, event.at, event.settings_hash
        self.records.payload(event.settings)
        if event.graph_list is not None:
            self.records.payload(event.graph_list)
        for node in state.plan.graph.nodes:
            output.nodes.append([node.id, node.kind, node.plugin, node.plugin_version, node.settings_hash, node.step])
        for edge in state.plan.graph.edges:
            output.edges.append([edge.id, edge.from_node, edge.to_node, edge.label, edge.mode])

    def _claimed(self, state: State, event: e.RunClaimed) -> None:
        self.run[2] = "running"

    def _interrupted(self, state: State, event: e.RunInterrupted) -> None:
        self.run[2] = "interrupted"

    def _sealed(self, state: State, event: e.RunSealed) -> None:
        self.run[2], self.run[4] = event.status, event.at

    def _abandoned(self, state: State, event: e.TokensAbandoned) -> None:
        reason = self.records.error(event.code, event.reason)
        for token in state.ended:
            if token.id in self.records.states:
                self.records.close(event, token.id, "abandoned", error=reason)
        self.records.ended(state, event, reason=reason)

    def _exhausted(self, state: State, event: e.SourceExhausted) -> None:
        """Only the run's own row shows it, by the rows that the fold counts."""

    def _source_failed(self, state: State, event: e.SourceFailed) -> None:
        self.records.payload(event.error)

    # --- rows and steps ------------------------------------------------------------------------------------------

    def _row(self, state: State, event: e.RowRead) -> None:
        records, token, seq = self.records, event.token, event.seq
        n = records.payload(event.data)
        row: Record = [event.row, int(event.valid), event.position, None, n, seq]
        records.output.rows.append(row)
        if event.key is not None:
            row[3] = Key(records.payload(event.key))
            records.output.look_up(row, 3)
        records.tokens[token] = [token, event.row, None, None, None, n, seq, None, None, None, None, None, None]
        if event.valid:
            records.state(event, token, "source", 1, "completed", None, n, 0)
        else:
            error = records.error(event.code or "", event.error)
            records.state(event, token, "source", 1, "failed", None, n, 0, error)

    def _step_started(self, state: State, event: e.StepStarted) -> None:
        self.records.open(event, event.token, event.node, event.attempt, event.input)

    def _step_completed(self, state: State, event: e.StepCompleted) -> None:
        output = event.output
        self._attempt(event, "completed", None, output if type(output) is int else self.records.payload(output))  # type: ignore[arg-type]

    def _step_failed(self, state: State, event: e.StepFailed) -> None:
        error = self.records.error(event.code, event.error)
        self._attempt(event, "failed", error)
        if not event.retry:
            self.records.reasons[event.token] = error
            self.records.ended(state, event)

    def _step_abandoned(self, state: State, event: e.StepAbandoned) -> None:
        error = Text(event.code, None)
        self.records.close(event, event.token, "abandoned", error=error)
        self.records.ended(state, event, reason=error)

    def _attempt(self, event: e.StepCompleted | e.StepFailed | e.TokenFiltered | e.TokenExpanded, status: str,
                 error: Text | None = None, output: int | None = None) -> None:
        """The end of an attempt: of a state that was opened before, or one that this event opens and closes."""
        records = self.records
        if event.token in records.states:
            records.close(event, event.token, status, output=output, error=error, duration_us=event.duration_us)
        else:
            records.state(event, event.token, event.node, event.attempt, status, event.input, output, event.duration_us,
                          error)

    def _call(self, state: State, event: e.CallRecorded) -> None:
        request = self.records.payload(event.request)
        response = self.records.payload(event.response) if event.response is not None else None
        self.records.output.calls.append([event.seq, event.token, event.node, event.attempt, event.call, event.kind,
                                          event.status, request, response, event.latency_us])

    def _filtered(self, state: State, event: e.TokenFiltered) -> None:
        self._attempt(event, "completed")
        self.records.ended(state, event)

    # --- ways ----------------------------------------------------------------------------------------------------

    def _routed(self, state: State, event: e.Routed) -> None:
        token = state.tokens[event.token]
        self._chosen(event, token)
        self.records.output.routing.append([event.seq, 0, token.id, event.node, event.edge, "move", None, None, None])

    def _forked(self, state: State, event: e.TokenForked) -> None:
        records, parent, seq, node = self.records, state.ended[0], event.seq, event.node
        self._chosen(event, parent)
        group = ids.frame_group(parent.id, node)
        parents = (parent.id,)
        for ordinal, child in enumerate(state.born):
            branch = event.branches[ordinal]
            records.output.routing.append(
                [seq, ordinal, parent.id, node, f"{node}:{branch}", "copy", group, None, None])
            records.born(event, child, FORK, group, parents, branch)
        records.ended(state, event, of=group)

    def _chosen(self, event: e.Routed | e.TokenForked, token: Token) -> None:
        """A gate's state passes its input on. It is open already where the attempt had to be on record (wary resume)."""
        records, n = self.records, token.payload
        if token.id in records.states:
            records.close(event, token.id, "completed", output=n, duration_us=event.duration_us)
        else:
            records.state(event, token.id, event.node, 1, "completed", n, n, event.duration_us)

    def _expanded(self, state: State, event: e.TokenExpanded) -> None:
        records = self.records
        for output in event.outputs or ():
            if isinstance(output, e.Commitment):
                records.payload(output)
        if event.outputs_list is not None:
            records.payload(event.outputs_list)
        self._attempt(event, "completed")
        group = ids.frame_group(event.token, event.node)
        for child in state.born:
            records.born(event, child, EXPAND, group, (event.token,))
        join = state.plan.gathers.get(event.node)
        if join is not None:
            gather = ids.merged_token(event.token, join)
            records.group(gather, state.groups[gather])
        records.ended(state, event, of=group)

    def _diverted(self, state: State, event: e.Diverted) -> None:
        records = self.records
        records.reasons[event.token] = text = Text(event.code, event.reason)
        if event.edge is not None:
            row = [event.seq, 0, event.token, event.node, event.edge, "divert", None, text, event.reason]
            records.output.routing.append(row)
            records.output.look_up(row, 7)
        records.ended(state, event)

    # --- coalesces -----------------------------------------------------------------------------------------------

    def _arrived(self, state: State, event: e.BranchArrived) -> None:
        token, records = state.tokens[event.token], self.records
        if event.token not in records.states:
            records.open(event, token.id, event.coalesce, token.attempt, token.payload, event.group)
        records.group(event.group, state.groups[event.group])

    def _lost(self, state: State, event: e.BranchLost) -> None:
        group = state.groups.get(event.group)
        if group is not None and group.status == "open":
            self.records.group(event.group, group)

    def _late(self, state: State, event: e.BranchArrivedLate) -> None:
        token = state.ended[0]
        reason = LATE if event.reason is None else Text(event.reason, None)
        self.records.state(event, token.id, event.coalesce, token.attempt, "failed", token.payload, None, 0, reason,
                           event.group)
        self.records.ended(state, event, reason=reason)

    def _coalesced(self, state: State, event: e.TokensCoalesced) -> None:
        records, output = self.records, event.output
        n = output if isinstance(output, int) else records.payload(output)
        opened = self._resolved(state, event, "completed", None, n)
        parents = [token.id for token in state.ended] or [opened.frame.token]
        records.born(event, state.born[0], JOIN, event.group, parents)
        records.ended(state, event, of=event.group)

    def _coalesce_failed(self, state: State, event: e.CoalesceFailed) -> None:
        reason = Text(event.reason, None)
        self._resolved(state, event, "failed", reason, None)
        self.records.ended(state, event, reason=reason)

    def _resolved(self, state: State, event: e.TokensCoalesced | e.CoalesceFailed, status: str, error: Text | None,
                  output: int | None) -> Group:
        """Close the group and the states of those it held; gives the group as it was."""
        records = self.records
        for commitment in (event.collided, event.facts_list, event.collisions_list):
            if commitment is not None:
                records.payload(commitment)
        opened = records.groups.pop(event.group)
        records.resolved(event.group, group_rows.closed(event, opened))
        for token in state.ended:
            records.close(event, token.id, status, output=output, error=error)
        return opened

    # --- batches -------------------------------------------------------------------------------------------------

    def _buffered(self, state: State, event: e.TokenBuffered) -> None:
        token, records = state.tokens[event.token], self.records
        key = ids.batch_id(event.aggregation, event.batch)
        records.batches.setdefault(
            key, [key, event.aggregation, event.batch, "open", None, 0, event.seq, None, 0, None, None, None])
        records.batch(key)[5] = event.ordinal + 1
        records.members.setdefault(key, []).append(event.token)
        records.output.members.append([key, event.ordinal, event.token])
        records.open(event, token.id, event.aggregation, token.attempt, token.payload)

    def _flushed(self, state: State, event: e.BatchFlushed) -> None:
        records, batch = self.records, ids.batch_id(event.aggregation, event.batch)
        records.batch(batch)[4] = event.trigger
        members = self._batch_closed(event, "flushed", len(event.rejected), len(event.outputs or ()))
        rejected = {one.ordinal: records.error(one.code, one.reason) for one in event.rejected}
        for one in event.outputs or ():
            if isinstance(one.output, e.Commitment):
                records.payload(one.output)
        for commitment in (event.outputs_list, event.rejected_list):
            if commitment is not None:
                records.payload(commitment)
        rule = state.plan.aggregations[event.aggregation].batch
        go_on = rule is not None and rule.output_mode == "passthrough"
        for ordinal, token in enumerate(members):
            if ordinal in rejected:
                records.close(event, token, "failed", error=rejected[ordinal])
            else:
                records.close(event, token, "completed", output=state.tokens[token].payload if go_on else None)
        accepted = [token for ordinal, token in enumerate(members) if ordinal not in rejected]
        for child, one in zip(state.born, event.outputs or (), strict=False):
            parents = accepted if one.parents == "all" else [members[n] for n in one.parents]
            records.born(event, child, BATCH, batch, parents)
        records.ended(state, event, of=batch)

    def _batch_started(self, state: State, event: e.BatchStarted) -> None:
        self.records.batch(ids.batch_id(event.aggregation, event.batch))[4] = event.trigger

    def _batch_failed(self, state: State, event: e.BatchFailed) -> None:
        self.records.batch(ids.batch_id(event.aggregation, event.batch))[4] = event.trigger
        self._batch_attempted(event, self.records.error(event.code, event.error), "failed", closes=not event.retry)

    def _batch_abandoned(self, state: State, event: e.BatchAbandoned) -> None:
        """The batch is open still, or it has seen too many deaths: then its members have to leave."""
        self._batch_attempted(event, Text(event.code, None), "abandoned", closes=event.aggregation not in state.batches)

    def _batch_attempted(self, event: e.BatchFailed | e.BatchAbandoned, error: Text, status: str, *, closes: bool) -> None:
        """The end of an attempt that gave nothing; where no other follows, the states of the members end with it."""
        key = ids.batch_id(event.aggregation, event.batch)
        self.records.batch(key)[8] = event.attempt
        self.records.batch_errors[key] = error
        if closes:
            for token in self._batch_closed(event, "failed", 0, 0):
                self.records.close(event, token, status, error=error)

    def _batch_closed(self, event: e.BatchFlushed | e.BatchFailed | e.BatchAbandoned, status: str, rejected: int,
                      outputs: int) -> list[str]:
        key = ids.batch_id(event.aggregation, event.batch)
        record = self.records.batch_closed(key)
        record[3] = status
        record[7:] = event.seq, event.attempt, rejected, outputs, self.records.batch_errors.pop(key, None)
        self.records.output.look_up(record, 11)
        return self.records.members.pop(key)

    # --- sinks ---------------------------------------------------------------------------------------------------

    def _intended(self, state: State, event: e.SinkWriteIntended) -> None:
        record: Record = [event.write, event.sink, group_rows.as_json(event.tokens), "intended", None, None,
                          event.content_hash, event.key, event.seq]
        self.records.writes[event.write] = (record, event)
        states, seq, sink, at, tokens = self.records.states, event.seq, event.sink, event.at, state.tokens
        for token in event.tokens:
            states[token] = [token, seq, sink, 1, "open", tokens[token].payload, None, at, None, None, None, None]

    def _confirmed(self, state: State, event: e.SinkWriteConfirmed) -> None:
        records = self.records
        record, intended = records.writes.pop(event.write)
        record[3:7], record[8] = ["confirmed", event.uri, event.size_bytes, event.content_hash], event.seq
        records.finish("p_sink_writes", event.write, records.output.sink_writes, record)
        refused = {one.ordinal: records.error(one.code, one.reason) for one in event.refused}
        for ordinal, token in enumerate(intended.tokens):
            records.close(event, token, "failed" if ordinal in refused else "completed", error=refused.get(ordinal))
        records.ended(state, event, sink=event.sink)

    def _write_failed(self, state: State, event: e.SinkWriteFailed) -> None:
        record, intended = self.records.writes.pop(event.write)
        record[3], record[8] = "failed", event.seq
        self.records.finish("p_sink_writes", event.write, self.records.output.sink_writes, record)
        error = self.records.error(event.code, event.error)
        for token in intended.tokens:
            self.records.close(event, token, "failed", error=error)
