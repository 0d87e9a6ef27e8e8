"""The projector of one run: each event, with the fold's state after it, becomes rows of the read tables.

Why one: catch-up, rebuild and *as of seq n* use this same definition, so they cannot disagree (law P1).

Invariants: pure (no clock, no I/O); reads what the fold says became of a token (`born`, `ended`) and never decides it;
what is open is held here and written again as it changes. `FINGERPRINT` changes with every change of what is made.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from ledger import events as e
from ledger import ids
from ledger.fold.state import Group, State, Token
from ledger.laws import Finding
from projections import group_rows
from projections.output import Key, Output, Record, Text
from projections.views import statements

NAME = "run"
VERSION = 1
FINGERPRINT = sha256("\n".join([str(VERSION), *statements()]).encode()).hexdigest()[:16]

# Places of columns in a record of p_states.
_STATUS, _OUTPUT, _DURATION, _ERROR, _CLOSED = 4, 6, 8, 9, 11


class RunProjector:
    """Turns one run's events into rows; `output` collects them until they are handed over."""

    def __init__(self, run: str) -> None:
        self.run: Record = [run, None, "running", None, None, None, 0, 0, 0, 0, None, None]
        self.output = Output()
        self._open: dict[str, Record] = {}
        self._groups: dict[str, Group] = {}
        self._batches: dict[str, Record] = {}
        self._members: dict[str, list[str]] = {}
        self._writes: dict[int, tuple[Record, e.SinkWriteIntended]] = {}
        self._diverts: dict[str, Text] = {}
        self._handlers: dict[type[e.Event], Callable[[State, Any], None]] = {
            e.RunStarted: self._started,
            e.RunClaimed: self._claimed,
            e.RunInterrupted: self._interrupted,
            e.RunSealed: self._sealed,
            e.TokensAbandoned: self._abandoned,
            e.RowRead: self._row,
            e.SourceExhausted: _nothing,
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
            e.BatchFlushed: self._flushed,
            e.BatchFailed: self._batch_failed,
            e.SinkWriteIntended: self._intended,
            e.SinkWriteConfirmed: self._confirmed,
            e.SinkWriteFailed: self._write_failed,
        }

    def event(self, state: State, event: e.Event) -> None:
        """Project one event; `state` has just applied it."""
        self._handlers[type(event)](state, event)

    def hand_over(self, state: State) -> dict[str, list[Record]]:
        """The rows since the last time, those that are still open as they stand; `p_runs` last.

        Texts must have been filled in before (`output.numbers`, `output.fill`).
        """
        run = self.run
        run[6], run[7], run[8], run[9] = state.rows_read, state.tokens_made, state.late_arrivals, state.seq
        rows = self.output.rows
        for table, still in (("p_states", list(self._open.values())), ("p_batches", list(self._batches.values())),
                             ("p_groups", [group_rows.still_open(group) for group in self._groups.values()]),
                             ("p_sink_writes", [record for record, _ in self._writes.values()])):
            if still:
                rows.setdefault(table, []).extend(still)
        self.output.clear()
        return rows

    def forget(self) -> None:
        """Drop what has been made so far: it was handed over by an earlier catch-up."""
        self.output.clear()

    def stopped(self, finding: Finding) -> None:
        """The run cannot be told from `finding.seq` on."""
        self.run[11] = finding.seq
        self.output.add("p_violations", [finding.seq, finding.law, finding.token, finding.expected, finding.found])

    # --- the run -------------------------------------------------------------------------------------------------

    def _started(self, state: State, event: e.RunStarted) -> None:
        run = self.run
        run[1], run[3], run[5] = event.pipeline, event.at, event.settings_hash
        self._payload(event.settings)
        if event.graph_list is not None:
            self._payload(event.graph_list)
        for node in state.plan.graph.nodes:
            self.output.add("p_nodes", [node.id, node.kind, node.plugin, node.plugin_version, node.settings_hash, node.step])
        for edge in state.plan.graph.edges:
            self.output.add("p_edges", [edge.id, edge.from_node, edge.to_node, edge.label, edge.mode])

    def _claimed(self, state: State, event: e.RunClaimed) -> None:
        self.run[2] = "running"

    def _interrupted(self, state: State, event: e.RunInterrupted) -> None:
        self.run[2] = "interrupted"

    def _sealed(self, state: State, event: e.RunSealed) -> None:
        self.run[2], self.run[4] = event.status, event.at

    def _abandoned(self, state: State, event: e.TokensAbandoned) -> None:
        n = self._payload(event.reason) if event.reason is not None else None
        for token in state.ended:
            record = self._open.get(token.id)
            if record is not None:
                self._close(token.id, event, "abandoned", event.at - record[7], Text(event.code, n))
        self._ended(state, event, reason=Text(event.code, n))

    def _source_failed(self, state: State, event: e.SourceFailed) -> None:
        self._payload(event.error)

    # --- rows and steps ------------------------------------------------------------------------------------------

    def _row(self, state: State, event: e.RowRead) -> None:
        n = self._payload(event.data)
        output = self.output
        row = output.add("p_rows", [event.row, int(event.valid), event.position, None, n, event.seq])
        if event.key is not None:
            row[3] = Key(self._payload(event.key))
            output.look_up(row, 3)
        output.add("p_tokens", [event.token, event.row, None, None, None, None, None, n, event.seq])
        error = Text(event.code, self._payload(event.error)) if event.error is not None else None
        status = "completed" if event.valid else "failed"
        self._state(event, event.token, "source", 1, status, None, n, 0, error)

    def _step_started(self, state: State, event: e.StepStarted) -> None:
        self._open[event.token] = [event.token, event.seq, event.node, event.attempt, "open", event.input, None, event.at,
                                   None, None, None, None]

    def _step_completed(self, state: State, event: e.StepCompleted) -> None:
        output = event.output if type(event.output) is int else self._payload(event.output)  # type: ignore[arg-type]
        if event.token in self._open:
            self._close(event.token, event, "completed", event.duration_us, None, output)
        else:
            self._state(event, event.token, event.node, event.attempt, "completed", event.input, output,
                        event.duration_us, None)

    def _step_failed(self, state: State, event: e.StepFailed) -> None:
        error = Text(event.code, self._payload(event.error) if event.error is not None else None)
        self._attempt_ended(event, "failed", error)
        if not event.retry:
            self._diverts[event.token] = error
        self._ended(state, event, reason=error)

    def _step_abandoned(self, state: State, event: e.StepAbandoned) -> None:
        record = self._open.get(event.token)
        error = Text(event.code, None)
        if record is not None:
            self._close(event.token, event, "abandoned", event.at - record[7], error)
        self._diverts[event.token] = error
        self._ended(state, event, reason=error)

    def _attempt_ended(self, event: e.StepFailed | e.TokenFiltered | e.TokenExpanded, status: str, error: Text | None
                       ) -> None:
        if event.token in self._open:
            self._close(event.token, event, status, event.duration_us, error)
        else:
            self._state(event, event.token, event.node, event.attempt, status, event.input, None, event.duration_us, error)

    def _call(self, state: State, event: e.CallRecorded) -> None:
        request = self._payload(event.request)
        response = self._payload(event.response) if event.response is not None else None
        self.output.add("p_calls", [event.seq, event.token, event.node, event.attempt, event.call, event.kind, event.status,
                                    request, response, event.latency_us])

    def _filtered(self, state: State, event: e.TokenFiltered) -> None:
        self._attempt_ended(event, "completed", None)
        self._ended(state, event)

    # --- ways ----------------------------------------------------------------------------------------------------

    def _routed(self, state: State, event: e.Routed) -> None:
        token = state.tokens[event.token]
        self._state(event, event.token, event.node, token.attempt, "completed", token.payload, token.payload,
                    event.duration_us, None)
        self.output.add("p_routing", [event.seq, 0, event.token, event.node, event.edge, "move", None, None, None])

    def _forked(self, state: State, event: e.TokenForked) -> None:
        token = state.ended[0]
        self._state(event, event.token, event.node, token.attempt, "completed", token.payload, token.payload,
                    event.duration_us, None)
        group = ids.frame_group(event.token, event.node)
        for ordinal, child in enumerate(state.born):
            branch = event.branches[ordinal]
            self.output.add("p_routing", [event.seq, ordinal, event.token, event.node, f"{event.node}:{branch}", "copy",
                                          group, None, None])
            self._born(event, child, branch=branch, fork=group, parents=[event.token])
        self._ended(state, event, fork=group)

    def _expanded(self, state: State, event: e.TokenExpanded) -> None:
        if event.outputs_list is not None:
            self._payload(event.outputs_list)
        for output in event.outputs or ():
            if isinstance(output, e.Commitment):
                self._payload(output)
        self._attempt_ended(event, "completed", None)
        group = ids.frame_group(event.token, event.node)
        for child in state.born:
            self._born(event, child, expand=group, parents=[event.token])
        self._ended(state, event, expand=group)

    def _diverted(self, state: State, event: e.Diverted) -> None:
        text = Text(event.code, event.reason)
        self._diverts[event.token] = text
        if event.edge is not None:
            row = self.output.add("p_routing", [event.seq, 0, event.token, event.node, event.edge, "divert", None, text,
                                                event.reason])
            self.output.look_up(row, 7)
        self._ended(state, event, reason=text)

    # --- coalesces -----------------------------------------------------------------------------------------------

    def _arrived(self, state: State, event: e.BranchArrived) -> None:
        token = state.tokens[event.token]
        if event.token not in self._open:
            self._open[event.token] = [event.token, event.seq, event.coalesce, token.attempt, "open", token.payload, None,
                                       event.at, None, None, event.group, None]
        self._groups[event.group] = state.groups[event.group]

    def _lost(self, state: State, event: e.BranchLost) -> None:
        group = state.groups.get(event.group)
        if group is not None and group.status == "open":
            self._groups[event.group] = group

    def _late(self, state: State, event: e.BranchArrivedLate) -> None:
        token = state.ended[0]
        record = self._state(event, event.token, event.coalesce, token.attempt, "failed", token.payload, None, 0,
                             Text("late_arrival", None))
        record[10] = event.group
        self._ended(state, event, reason=Text("late_arrival", None))

    def _coalesced(self, state: State, event: e.TokensCoalesced) -> None:
        output = event.output if isinstance(event.output, int) else self._payload(event.output)
        if event.collided is not None:
            self._payload(event.collided)
        self._resolved(state, event, "completed", None, output)
        merged = state.born[0]
        self._born(event, merged, join=event.group, parents=[token.id for token in state.ended])
        self._ended(state, event, join=event.group)

    def _coalesce_failed(self, state: State, event: e.CoalesceFailed) -> None:
        if event.collided is not None:
            self._payload(event.collided)
        error = Text(event.reason, None)
        self._resolved(state, event, "failed", error, None)
        self._ended(state, event, reason=error)

    def _resolved(self, state: State, event: e.TokensCoalesced | e.CoalesceFailed, status: str, error: Text | None,
                  output: int | None) -> None:
        opened = self._groups.pop(event.group, None)
        self.output.add("p_groups", group_rows.closed(event, opened, state))
        for token in state.ended:
            record = self._open[token.id]
            self._close(token.id, event, status, event.at - record[7], error, output)

    # --- batches -------------------------------------------------------------------------------------------------

    def _buffered(self, state: State, event: e.TokenBuffered) -> None:
        token = state.tokens[event.token]
        key = ids.batch_id(event.aggregation, event.batch)
        record = self._batches.setdefault(key, [key, event.aggregation, event.batch, "open", None, 0, event.seq, None])
        record[5] = event.ordinal + 1
        self._members.setdefault(key, []).append(event.token)
        self.output.add("p_batch_members", [key, event.ordinal, event.token])
        self._open[event.token] = [event.token, event.seq, event.aggregation, token.attempt, "open", token.payload, None,
                                   event.at, None, None, None, None]

    def _flushed(self, state: State, event: e.BatchFlushed) -> None:
        members = self._batch_closed(event, "flushed")
        rejected = {one.ordinal: Text(one.code, self._payload(one.reason) if one.reason is not None else None)
                    for one in event.rejected}
        for one in event.outputs or ():
            if isinstance(one.output, e.Commitment):
                self._payload(one.output)
        for ordinal, token in enumerate(members):
            error = rejected.get(ordinal)
            record = self._open[token]
            self._close(token, event, "failed" if error else "completed", event.at - record[7], error)
        accepted = [token for ordinal, token in enumerate(members) if ordinal not in rejected]
        batch = ids.batch_id(event.aggregation, event.batch)
        for child, one in zip(state.born, event.outputs or (), strict=False):
            parents = accepted if one.parents == "all" else [members[n] for n in one.parents]
            self._born(event, child, batch=batch, parents=parents)
        self._ended(state, event, batch=batch)

    def _batch_failed(self, state: State, event: e.BatchFailed) -> None:
        error = Text(event.code, self._payload(event.error) if event.error is not None else None)
        if not event.retry:
            for token in self._batch_closed(event, "failed"):
                self._close(token, event, "failed", event.at - self._open[token][7], error)

    def _batch_closed(self, event: e.BatchFlushed | e.BatchFailed, status: str) -> list[str]:
        key = ids.batch_id(event.aggregation, event.batch)
        record = self._batches.pop(key)
        record[3], record[4], record[7] = status, event.trigger, event.seq
        self.output.add("p_batches", record)
        return self._members.pop(key)

    # --- sinks ---------------------------------------------------------------------------------------------------

    def _intended(self, state: State, event: e.SinkWriteIntended) -> None:
        record: Record = [event.write, event.sink, group_rows.as_json(event.tokens), "intended", None, None,
                          event.content_hash, event.key, event.seq]
        self._writes[event.write] = (record, event)
        open_, seq, sink, at, tokens = self._open, event.seq, event.sink, event.at, state.tokens
        for token in event.tokens:
            open_[token] = [token, seq, sink, 1, "open", tokens[token].payload, None, at, None, None, None, None]

    def _confirmed(self, state: State, event: e.SinkWriteConfirmed) -> None:
        record, intended = self._writes.pop(event.write)
        record[3:9] = ["confirmed", event.uri, event.size_bytes, event.content_hash, record[7], event.seq]
        self.output.add("p_sink_writes", record)
        refused = {one.ordinal: Text(one.code, self._payload(one.reason) if one.reason is not None else None)
                   for one in event.refused}
        open_, seq, closed = self._open, event.seq, self.output.rows.setdefault("p_states", [])
        for ordinal, token in enumerate(intended.tokens):
            if ordinal in refused:
                self._close(token, event, "failed", event.at - open_[token][7], refused[ordinal])
                continue
            row = open_.pop(token)
            row[_STATUS], row[_DURATION], row[_CLOSED] = "completed", event.at - row[7], seq
            closed.append(row)
        self._ended(state, event, sink=event.sink)

    def _write_failed(self, state: State, event: e.SinkWriteFailed) -> None:
        record, intended = self._writes.pop(event.write)
        record[3], record[8] = "failed", event.seq
        self.output.add("p_sink_writes", record)
        error = Text(event.code, self._payload(event.error))
        for token in intended.tokens:
            self._close(token, event, "failed", event.at - self._open[token][7], error)

    # --- rows that several events make ---------------------------------------------------------------------------

    def _payload(self, commitment: e.Commitment) -> int:
        self.output.add("p_payloads", [commitment.n, bytes.fromhex(commitment.sha256)])
        return commitment.n

    def _state(self, event: e.Event, token: str, node: str, attempt: int, status: str, input_: int | None,
               output: int | None, duration_us: int, error: Text | None) -> Record:
        """A state that one event opens and closes."""
        seq = event.seq
        row = [token, seq, node, attempt, status, input_, output, event.at - duration_us, duration_us, error, None, seq]
        self.output.add("p_states", row)
        if error is not None:
            self.output.look_up(row, _ERROR)
        return row

    def _close(self, token: str, event: e.Event, status: str, duration_us: int, error: Text | None,
               output: int | None = None) -> None:
        """Close the state that the token has open."""
        row = self._open.pop(token)
        row[_STATUS], row[_OUTPUT], row[_DURATION], row[_ERROR], row[_CLOSED] = (
            status, output, duration_us, error, event.seq)  # fmt: skip
        self.output.add("p_states", row)
        if error is not None:
            self.output.look_up(row, _ERROR)

    def _born(self, event: e.Event, token: Token, *, parents: list[str], branch: str | None = None, fork: str | None = None,
              join: str | None = None, expand: str | None = None, batch: str | None = None) -> None:
        key = token.family.key
        if branch is None and token.frames and not token.frames[-1].branch.isdecimal():
            branch = token.frames[-1].branch
        self.output.add("p_tokens", [token.id, key if isinstance(key, int) else None, branch, fork, join, expand, batch,
                                     token.payload, event.seq])
        for ordinal, parent in enumerate(parents):
            self.output.add("p_token_parents", [token.id, ordinal, parent])

    def _ended(self, state: State, event: e.Event, *, reason: Text | None = None, sink: str | None = None,
               fork: str | None = None, join: str | None = None, expand: str | None = None, batch: str | None = None
               ) -> None:
        """One outcome for each token that this event ended; a divert on the way is its reason."""
        output, diverts, seq = self.output, self._diverts, event.seq
        for token in state.ended:
            text = diverts.pop(token.id, reason) if diverts else reason
            row = output.add("p_outcomes", [token.id, token.outcome, sink, fork, join, expand, batch,
                                            text.n if text else None, text, seq])
            if text is not None:
                output.look_up(row, 8)


def _nothing(state: State, event: e.Event) -> None:
    """An event that only the run's own row shows, and that the state tells."""

