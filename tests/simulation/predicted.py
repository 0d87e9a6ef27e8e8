"""The oracle: what must become of every token, by the contract and the laws alone.

Why a machine and not a formula: where order decides, the log's own order is the schedule (`predicted_by_log`); where it
does not, any schedule gives the same ends (`predicted_alone`). The rules are the same, so they stand here once.

Each act gives the line that must be said of it, in the words of `tests.kit.stories`. What an act owes (a divert, a loss, a
resolution) waits in `owed`, the next on top.

Invariants: imports nothing of the engine, and nothing of the ledger; a token gets its one end in `_end` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.kit.oracle import FAILS, MERGES, Decision, Table
from tests.simulation.predicted_merges import merged_row, row_key
from tests.simulation.predicted_plan import (
    DIES,
    DISCARD,
    ERROR,
    FORK,
    LATER,
    NONSENSE,
    NOTHING,
    RAISES,
    ROW,
    ROWS,
    SOURCE,
    Answers,
    Batch,
    Gate,
    Join,
    Pipeline,
    Row,
    Step,
    Ways,
)
from tests.simulation.predicted_state import Divert, Frame, Group, Loss, Members, Owed, Resolve, Token

CODES: Mapping[str, str] = {RAISES: "plugin_raised", NONSENSE: "bad_output", LATER: "retryable"}
CONDITION: Mapping[str, str] = {RAISES: "condition_raised", NONSENSE: "condition_type"}
EXHAUSTED, DIED, UNKNOWN, MISCOUNTED = "retries_exhausted", "process_died", "unknown_label", "output_count"
DEATHS_MAX = 3
ENDS_AT_SINK: Mapping[str, str] = {"normal": "completed", "gate": "routed", "error": "routed", "quarantine": "quarantined",
                                   "refused": "diverted"}
COLLIDED = "union_collision"


class Machine:
    """One run. A schedule, the log's or another, calls its acts; `owed` has to be told before the next of them."""

    def __init__(self, pipeline: Pipeline, answers: Answers) -> None:
        self.pipeline = pipeline
        self.answers = answers
        self.ways = Ways(pipeline)
        self.tokens: dict[str, Token] = {}
        self.live: dict[str, Token] = {}
        self.groups: dict[str, Group] = {}
        self.open: dict[str, Group] = {}
        self.batches: dict[str, Members] = {}
        self.numbers: Counter[str] = Counter()
        self.owed: list[Owed] = []
        self.rows = 0
        self.late = 0
        self.exhausted = False

    # --- tokens --------------------------------------------------------------------------------------------------

    def _born(self, id_: str, row: Row, frames: tuple[Frame, ...], node: str) -> Token:
        assert id_ not in self.tokens, f"{id_} is made twice"
        token = self.tokens[id_] = self.live[id_] = Token(id_, dict(row), frames, node)
        return token

    def _end(self, token: Token, outcome: str, reason: str = "") -> None:
        assert token.outcome is None, f"{token.id} ends twice"
        token.outcome, token.reason, token.state = outcome, reason, "ended"
        del self.live[token.id]

    def _move(self, token: Token, to: str, via: str = "normal") -> None:
        token.node, token.via, token.state, token.failures, token.deaths = to, via, "ready", 0, 0

    def read(self, row: Row, code: str | None) -> str:
        """The next source row: one root, whatever it is like (E4, E6)."""
        token = self._born(str(self.rows), row, (), SOURCE)
        self.rows += 1
        if code is None:
            self._move(token, self.ways.node_at(self.pipeline.first))
            return f"RowRead {token.id}"
        token.state = "failed"
        self.owed.append(Divert(token, "quarantine", SOURCE, self.pipeline.invalid, code))
        return f"RowRead {token.id} invalid {code}"

    # --- what is owed --------------------------------------------------------------------------------------------

    def tell(self) -> str:
        """Say what is owed next."""
        owed = self.owed.pop()
        if isinstance(owed, Divert):
            return self._divert(owed)
        if isinstance(owed, Loss):
            return self._lose(owed)
        return self._resolve(owed.group, owed.decision)

    def _divert(self, owed: Divert) -> str:
        token = owed.token
        edge = None
        if owed.to == DISCARD:
            self._end(token, "diverted" if owed.kind == "sink_refused" else "quarantined", owed.code)
            self._owe_loss(token, "discarded", owed.node, owed.code)
        else:
            labels = {"quarantine": "__quarantine__", "sink_refused": "__failsink__"}
            edge = f"{owed.node}:{labels.get(owed.kind, f'__error_{owed.node}__')}"
            vias = {"quarantine": "quarantine", "sink_refused": "refused"}
            self._move(token, owed.to, vias.get(owed.kind, "error"))
            self._owe_loss(token, "error_routed", owed.node, owed.code)
        return f"Diverted {token.id} {owed.kind} {owed.node} > {owed.to} by {edge} {owed.code}"

    def _owe_loss(self, token: Token, cause: str, node: str, code: str | None) -> None:
        """E9: the group ahead hears of it at once; a closed one never does (G2)."""
        frame = token.frames[-1] if token.frames else None
        if frame is None or not frame.join:
            return
        group = self.groups.get(frame.group)
        if group is None or (group.closed is None and frame.branch not in (*group.arrived, *group.lost)):
            self.owed.append(Loss(token, cause, node, code))

    def _lose(self, owed: Loss) -> str:
        token, frame = owed.token, owed.token.frames[-1]
        group = self._group(token, frame)
        why = ":".join(part for part in (owed.cause, owed.node, owed.code) if part)
        group.lost[frame.branch] = why
        self._owe_resolution(group, group.table.on_loss([*group.arrived], [*group.lost]))
        return f"BranchLost {token.id} {group.id} {frame.branch} {why}"

    # --- steps and gates -----------------------------------------------------------------------------------------

    def attempt(self, token: Token) -> str:
        """One attempt at a transform."""
        node = self.ways.nodes[token.node]
        assert isinstance(node, Step) and token.state in ("ready", "started"), f"{token.id} is at {token.node}"
        answer = self.answers.step(node, token.row, token.failures)
        assert answer.kind != DIES, f"{token.id} kills the process at {node.name}"
        said = f"{token.id} {node.name} #{token.failures + token.deaths + 1}"
        if answer.kind == NOTHING:
            self._end(token, "dropped_by_filter")
            self._owe_loss(token, "filtered", node.name, None)
            return f"TokenFiltered {said}"
        if answer.kind in (ROW, ROWS) and node.expands:
            return self._expand(token, node, answer.rows)
        if answer.kind == ROW:
            token.row = dict(answer.rows[0])
            self._move(token, self.ways.node_at(node.to))
            return f"StepCompleted {said}"
        code = answer.code if answer.kind == ERROR else CODES.get(answer.kind, NONSENSE)
        return self.failed(token, code, answer.kind == LATER)

    def failed(self, token: Token, code: str, may_pass: bool) -> str:
        """An attempt failed: another follows where it may pass and is allowed, else the token leaves."""
        said = f"{token.id} {token.node} #{token.failures + token.deaths + 1}"
        token.state = "ready"
        if may_pass and token.failures + 1 < self.pipeline.attempts:
            token.failures += 1
            return f"StepFailed {said} {code} retry"
        code = EXHAUSTED if may_pass else code
        self._leave(token, code)
        return f"StepFailed {said} {code}"

    def _leave(self, token: Token, code: str) -> None:
        node = self.ways.nodes[token.node]
        assert not isinstance(node, Join)
        if node.on_error is None:
            self._end(token, "failed", code)
            self._owe_loss(token, "failed", node.name, code)
        else:
            token.state = "failed"
            self.owed.append(Divert(token, "error", node.name, node.on_error, code))

    def died(self, token: Token) -> str:
        """The process died in an attempt of this token; after three deaths the step has failed."""
        said = f"StepAbandoned {token.id} {token.node} #{token.failures + token.deaths + 1}"
        token.deaths += 1
        token.state = "ready"
        if token.deaths >= DEATHS_MAX:
            self._leave(token, DIED)
        return said

    def _expand(self, token: Token, node: Step, rows: Sequence[Row]) -> str:
        join = self.ways.gathers.get(node.name)
        self._end(token, "expanded" if rows or join else "dropped_by_filter")
        group = None
        if join is not None:
            frame = Frame(token.id, join.name, "")
            group = self._open(frame, token.frames, join, tuple(map(str, range(len(rows)))))
            group.parent = dict(token.row)
        for n, row in enumerate(rows):
            frames = (*token.frames, Frame(token.id, join.name, str(n))) if join is not None else token.frames
            self._born(f"{token.id}:{n}", row, frames, self.ways.node_at(node.to))
        if group is not None:
            self._owe_resolution(group, at_birth(group.table))
        return f"TokenExpanded {token.id} {node.name} {len(rows)}"

    def choose(self, token: Token) -> str:
        """A gate looks at a row (G12: what is no way fails that row)."""
        node = self.ways.nodes[token.node]
        assert isinstance(node, Gate) and token.state in ("ready", "started"), f"{token.id} is at {token.node}"
        choice = self.answers.gate(node, token.row)
        to = node.routes.get(choice.label) if choice.kind == ROW else None
        if to is None:
            return self.failed(token, CONDITION.get(choice.kind, UNKNOWN), may_pass=False)
        if to == FORK:
            self._end(token, "forked")
            for branch in node.fork_to:
                join = self.ways.joins.get(branch)
                frame = Frame(token.id, join.name if join else "", branch)
                at = join.name if join and join.branches[branch] == branch else self.ways.node_at(branch)
                self._born(f"{token.id}.{branch}", token.row, (*token.frames, frame), at)
            return f"TokenForked {token.id} {node.name} {','.join(node.fork_to)}"
        at = self.ways.node_at(to)
        self._move(token, at, "gate" if at in self.ways.sinks else "normal")
        ahead = token.frames[-1].join if token.frames else ""
        if ahead and ahead not in self.ways.reach.get(at, ()):
            self._owe_loss(token, "routed_away", node.name, choice.label)
        return f"Routed {token.id} {node.name}:{choice.label}"

    # --- groups --------------------------------------------------------------------------------------------------

    def _group(self, token: Token, frame: Frame) -> Group:
        node = self.ways.nodes[frame.join]
        assert isinstance(node, Join)
        return self.groups.get(frame.group) or self._open(frame, token.frames[:-1], node, tuple(node.branches))

    def _open(self, frame: Frame, below: tuple[Frame, ...], join: Join, expected: tuple[str, ...]) -> Group:
        table = Table(join.policy, expected, join.need, join.select or None)
        group = self.groups[frame.group] = self.open[frame.group] = Group(frame.group, join, table, below)
        return group

    def _owe_resolution(self, group: Group, decision: Decision | None) -> None:
        if decision is not None:
            self.owed.append(Resolve(group, decision))

    def arrive(self, token: Token) -> str:
        """A carrier comes to its coalesce: held, or late (G5, G9)."""
        frame = token.frames[-1]
        assert token.node == frame.join and token.state == "ready", f"{token.id} is at {token.node}"
        group = self._group(token, frame)
        if group.closed is not None:
            merged = group.closed.kind == MERGES
            self._end(token, "failed", "late_arrival" if merged else group.closed.reason)
            self.late += merged
            return f"BranchArrivedLate {token.id} {group.id} {frame.branch} {'merged' if merged else 'failed'}"
        assert frame.branch not in (*group.arrived, *group.lost), f"{frame.branch} of {group.id} comes twice"
        token.state = "held"
        group.arrived[frame.branch] = token
        self._owe_resolution(group, group.table.on_arrival([*group.arrived], [*group.lost]))
        return f"BranchArrived {token.id} {group.id} {frame.branch}"

    def close(self, group: Group, cause: str) -> str:
        """A timeout, or the end of the source, decides a group that is open."""
        return self._resolve(group, group.table.on_close(cause, [*group.arrived]))

    def _resolve(self, group: Group, decision: Decision) -> str:
        assert group.closed is None, f"{group.id} is decided twice"
        row: dict[str, Any] | None = None
        if decision.kind == MERGES:
            rows = {branch: group.arrived[branch].row for branch in group.table.branches if branch in group.arrived}
            row, group.collisions = merged_row(group.join, rows, group.parent)
            if row is None:
                decision = Decision(FAILS, decision.trigger, COLLIDED)
        group.closed = decision
        del self.open[group.id]
        for token in group.arrived.values():
            self._end(token, "coalesced" if row is not None else "failed", decision.reason)
        if row is not None:
            self._born(group.id, row, group.below, self.ways.node_at(group.join.to))
            return f"TokensCoalesced {group.id} {decision.trigger}"
        parent = Token(group.token, {}, group.below, group.join.name)
        self._owe_loss(parent, "group_failed", group.join.name, decision.reason)
        return f"CoalesceFailed {group.id} {decision.trigger} {decision.reason}"

    # --- batches -------------------------------------------------------------------------------------------------

    def buffer(self, token: Token) -> str:
        """A token becomes a member of its aggregation's batch, the first of a new one where none is open."""
        node = self.ways.nodes[token.node]
        assert isinstance(node, Batch) and token.state == "ready", f"{token.id} is at {token.node}"
        batch = self.batches.get(node.name)
        if batch is None:
            self.numbers[node.name] += 1
            batch = self.batches[node.name] = Members(node, self.numbers[node.name])
        token.state = "buffered"
        batch.members.append(token)
        return f"TokenBuffered {token.id} {batch.id} {len(batch.members) - 1}"

    def begin(self, batch: Members, trigger: str) -> str:
        """An attempt to compute a batch is about to begin."""
        assert not batch.begun, f"{batch.id} has begun"
        batch.trigger, batch.begun = trigger, True
        return f"BatchStarted {batch.attempt} {trigger}"

    def died_in(self, batch: Members) -> str:
        """The process died while it computed the batch; after three deaths its members leave."""
        said = f"BatchAbandoned {batch.attempt}"
        batch.deaths += 1
        batch.begun = False
        if batch.deaths >= DEATHS_MAX:
            del self.batches[batch.node.name]
            self._reject(batch, dict.fromkeys(range(len(batch.members)), DIED))
        return said

    def _reject(self, batch: Members, rejected: Mapping[int, str]) -> None:
        """These members leave by the error route, in their order."""
        node = batch.node
        for n in sorted(rejected, reverse=True):
            batch.members[n].state = "failed"
            self.owed.append(Divert(batch.members[n], "error", node.name, node.on_error, rejected[n]))

    def flush(self, batch: Members, trigger: str) -> str:
        """A batch is computed once."""
        node, members = batch.node, batch.members
        answer = self.answers.batch(node, [token.row for token in members], batch.failures)
        assert answer.kind != DIES, f"{batch.id} kills the process"
        said = f"{batch.attempt} {trigger}"
        batch.trigger, batch.begun = trigger, False
        kind, code = answer.kind, answer.code
        rejected = dict(answer.rejected)
        kept = [n for n in range(len(members)) if n not in rejected]
        if kind == ROWS and node.expected is not None and kept and len(answer.outputs) != node.expected:
            kind, code = ERROR, MISCOUNTED
        if kind == LATER and batch.failures + 1 < self.pipeline.attempts:
            batch.failures += 1
            return f"BatchFailed {said} {CODES[LATER]} retry"
        del self.batches[node.name]
        if kind != ROWS:
            code = EXHAUSTED if kind == LATER else code if kind == ERROR else CODES.get(kind, NONSENSE)
            rejected = dict.fromkeys(range(len(members)), code)
        self._reject(batch, rejected)
        if kind != ROWS:
            return f"BatchFailed {said} {code}"
        made = [_parents(output.parents) for output in (answer.outputs if not node.passes else [])]
        if node.passes:
            made = [str(n) for n in kept]
            for n, output in zip(kept, answer.outputs, strict=True):
                members[n].row = dict(output.row)
                self._move(members[n], self.ways.node_at(node.to))
        else:
            self._consume(batch, kept, [(output.row, output.parents) for output in answer.outputs])
        refused = ",".join(f"{n}:{rejected[n]}" for n in sorted(rejected))
        return f"BatchFlushed {said} {' '.join([*made, *([f'rejected {refused}'] if refused else [])]) or 'nothing'}"

    def _consume(self, batch: Members, kept: list[int], outputs: list[tuple[Row, tuple[int, ...] | None]]) -> None:
        """G11: a rejected member is nobody's parent; a member that no output names was dropped."""
        named = {n for _, parents in outputs for n in (kept if parents is None else parents)}
        for n, (row, _) in enumerate(outputs):
            self._born(f"{batch.id}:{n}", row, (), self.ways.node_at(batch.node.to))
        for n in kept:
            self._end(batch.members[n], "consumed_in_batch" if n in named else "dropped_by_filter")

    # --- sinks ---------------------------------------------------------------------------------------------------

    def confirm(self, sink: str, tokens: Sequence[Token]) -> str:
        """A write was made: what the sink refused goes to its failsink, and what that refuses is discarded."""
        refused = {}
        for n, token in enumerate(tokens):
            assert token.node == sink, f"{token.id} is at {token.node}"
            code = self.answers.refuses(sink, token.row)
            if code is None:
                token.sink = sink
                self._end(token, ENDS_AT_SINK[token.via])
            else:
                refused[n] = code
        for n in sorted(refused, reverse=True):
            tokens[n].state = "failed"
            to = DISCARD if tokens[n].via == "refused" else self.ways.sinks[sink].refused_to
            self.owed.append(Divert(tokens[n], "sink_refused", sink, to, refused[n]))
        told = ",".join(f"{n}:{code}" for n, code in sorted(refused.items()))
        return f"SinkWriteConfirmed {sink} {len(tokens) - len(refused)}{' refused ' + told if told else ''}"


def at_birth(table: Table) -> Decision | None:
    """What an expansion's group decides when it opens: nobody to wait for is everybody; too few can never be enough."""
    count = len(table.branches)
    if count == 0 and table.policy in ("require_all", "best_effort"):
        return Decision(MERGES, "all_arrived")
    return table.on_loss([], []) if count < max(table.need, 1) else None


def key_of(token: Token) -> tuple[str, bytes]:
    """What a plugin can know a token by."""
    return token.node, row_key(token.row)


def _parents(parents: tuple[int, ...] | None) -> str:
    return "all" if parents is None else "+".join(map(str, parents))
