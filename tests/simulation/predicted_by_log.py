"""The oracle on the log's own order: whether each thing that was said could be said there, and nothing is missing.

The log is the schedule. Its acts (a row is read, a step tried, a batch computed, a write confirmed) are done by the
oracle's machine, and what follows from each has to be said next, in the machine's words. Time decides with it: no timer
before its deadline, nothing else after one that is due.

Invariants: reads events as data; imports nothing of the engine and no rule of the ledger. After the first fault nothing
more is followed (`wrong` then holds it): what comes after it would mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ledger import events as e
from tests.kit.stories import said
from tests.simulation.predicted import DEATHS_MAX, Machine, key_of
from tests.simulation.predicted_plan import Answers, Pipeline, Row, Step
from tests.simulation.predicted_state import Group, Members, Token

CLOSING = ("timeout", "end_of_source")
TIMED = (e.TokensCoalesced, e.CoalesceFailed, e.BatchStarted, e.BatchFlushed, e.BatchFailed)
LIFECYCLE = (e.RunStarted, e.RunClaimed, e.RunInterrupted)
LOST_CODES = ("deadline_passed", "worker_lost")


class Fault(Exception):
    """What the log says is not what it could say."""


class Follower:
    """Follows one run's log, event by event, over as many epochs as it has.

    `rows` are the source's, each with the code of its fault; `troubled`: an attempt of an effect may miss its deadline.
    `timers_fired` counts whatever time decided: timeouts, further attempts, conditions on a batch's age;
    `deadlines_ms` are those of what timed out. `given_up`: a step has failed because three processes died in it.
    """

    def __init__(self, pipeline: Pipeline, answers: Answers, rows: Sequence[tuple[Row, str | None]], *,
                 troubled: bool = False) -> None:
        self.machine = Machine(pipeline, answers)
        self.wrong: str | None = None
        self.written: dict[str, list[Row]] = {sink.name: [] for sink in pipeline.sinks}
        self.writes: dict[int, tuple[str, list[Token]]] = {}
        self.in_doubt: set[int] = set()
        self.finished: set[tuple[str, bytes]] = set()
        self.timers_fired = 0
        self.deadlines_ms: list[tuple[str, int]] = []
        self.given_up = False
        self.sealed = False
        self._rows = rows
        self._troubled = troubled
        self._acts: Mapping[type[e.Event], Callable[..., str]] = {
            e.RowRead: self._read, e.SourceExhausted: self._exhausted, e.StepStarted: self._started,
            e.StepCompleted: self._attempted, e.StepFailed: self._failed, e.TokenFiltered: self._attempted,
            e.TokenExpanded: self._attempted, e.StepAbandoned: self._died, e.Routed: self._chose, e.TokenForked: self._chose,
            e.BranchArrived: self._arrived, e.BranchArrivedLate: self._arrived, e.TokensCoalesced: self._closed,
            e.CoalesceFailed: self._closed, e.TokenBuffered: self._buffered, e.BatchFlushed: self._flushed,
            e.BatchFailed: self._flushed, e.BatchStarted: self._begun, e.BatchAbandoned: self._given_up_batch,
            e.SinkWriteIntended: self._intended, e.SinkWriteConfirmed: self._confirmed,
            e.SinkWriteFailed: self._unwritten, e.RunSealed: self._seal,
        }  # fmt: skip

    def follow(self, events: Sequence[e.Event]) -> None:
        """Follow what was stored next."""
        for event in events:
            if self.wrong is not None:
                return
            try:
                self._event(event)
            except (Fault, AssertionError, LookupError) as fault:
                self.wrong = f"seq {event.seq} {said(event)}: {type(fault).__name__} {fault}"

    def _event(self, event: e.Event) -> None:
        machine = self.machine
        if self.sealed:
            raise Fault("nothing follows the seal")
        if isinstance(event, LIFECYCLE):
            if isinstance(event, e.RunClaimed):
                self._claimed()
            return
        if machine.owed:
            expected = machine.tell()
            self._note_times(event)
        elif isinstance(event, e.CallRecorded | e.SourceFailed):
            return
        else:
            self._look_at_timers(event)
            act = self._acts.get(type(event))
            if act is None:
                raise Fault("nothing owes this")
            expected = act(event)
            self._note_times(event)
        if expected != _said(event):
            raise Fault(f"expected {expected}")
        if isinstance(event, e.TokensCoalesced | e.CoalesceFailed):
            self._check_facts(event)

    def waiting(self) -> list[Group | Members]:
        """The groups and batches that are open."""
        return [*self.machine.open.values(), *self.machine.batches.values()]

    # --- time ----------------------------------------------------------------------------------------------------

    def _note_times(self, event: e.Event) -> None:
        """When groups and batches opened, by the log's run time."""
        group = self.machine.groups.get(getattr(event, "group", ""))
        if isinstance(event, e.BranchArrived | e.BranchLost) and group is not None:
            if len(group.arrived) + len(group.lost) == 1 and not group.join.gathers:
                group.opened_ms = event.active_ms
            if isinstance(event, e.BranchArrived):
                group.offsets.append(event.active_ms - group.opened_ms)
        elif isinstance(event, e.TokenExpanded):
            join = self.machine.ways.gathers.get(event.node)
            if join is not None:
                self.machine.groups[f"{event.token}+{join.name}"].opened_ms = event.active_ms

    def _look_at_timers(self, event: e.Event) -> None:
        """A timer that is due is decided before anything that happened after its deadline."""
        if isinstance(event, TIMED) and event.trigger == "timeout":
            self.timers_fired += 1
            return
        for thing in self.waiting():
            deadline_ms = deadline_of(thing)
            if deadline_ms is not None and event.active_ms > deadline_ms:
                raise Fault(f"{thing.id} waits past its deadline {deadline_ms}")

    def _in_time(self, event: e.Event, thing: Group | Members) -> None:
        deadline_ms = deadline_of(thing)
        if deadline_ms is None or event.active_ms < deadline_ms:
            raise Fault(f"{thing.id} times out before {deadline_ms}")
        self.deadlines_ms.append((thing.id, deadline_ms))
        for other in self.waiting():
            other_ms = deadline_of(other)
            if other_ms is not None and other_ms < deadline_ms:
                raise Fault(f"{thing.id} is decided before {other.id}, which was due earlier")

    def _at_the_end(self, name: str) -> None:
        """D6: the source has ended, and nothing is on its way to this node any more."""
        if not self.machine.exhausted:
            raise Fault("the source has not ended")
        for token in self.machine.live.values():
            here = token.node == name and token.state not in ("held", "buffered")
            if here or (token.node != name and name in self.machine.ways.reach.get(token.node, ())):
                raise Fault(f"{token.id} at {token.node} is still on its way to {name}")

    # --- acts ----------------------------------------------------------------------------------------------------

    def _token(self, event: e.Event) -> Token:
        token = self.machine.tokens[event.token]  # type: ignore[attr-defined]
        node = getattr(event, "node", None) or getattr(event, "coalesce", None) or getattr(event, "aggregation", None)
        if token.outcome is not None or token.node != node:
            raise Fault(f"{token.id} is {token.state} at {token.node} ({token.outcome})")
        return token

    def _read(self, event: e.RowRead) -> str:
        if self.machine.exhausted:
            raise Fault("the source has ended")
        row, code = self._rows[event.row]
        return self.machine.read(row, code)

    def _exhausted(self, event: e.SourceExhausted) -> str:
        if self.machine.exhausted or self.machine.rows != len(self._rows):
            raise Fault(f"the source has {len(self._rows)} rows, and one end")
        self.machine.exhausted = True
        return f"SourceExhausted {self.machine.rows}"

    def _started(self, event: e.StepStarted) -> str:
        token = self._token(event)
        if token.state != "ready" or event.active_ms < token.due_ms:
            raise Fault(f"{token.id} is {token.state}, due at {token.due_ms}")
        token.state = "started"
        return f"StepStarted {token.id} {token.node} #{token.failures + token.deaths + 1}"

    def _attempted(self, event: e.StepCompleted | e.StepFailed | e.TokenFiltered | e.TokenExpanded) -> str:
        token = self._token(event)
        self._may_end(event, token)
        key = key_of(token)
        line = self.machine.attempt(token)
        self._put_off(event, token)
        if not token.due_ms:
            self.finished.add(key)
        return line

    def _put_off(self, event: e.Event, token: Token) -> None:
        """Another attempt comes after half of the delay to the whole."""
        token.due_ms = 0
        if isinstance(event, e.StepFailed) and event.retry:
            self.timers_fired += 1
            self._check_delay(event.delay_ms)
            token.due_ms = event.active_ms + event.delay_ms

    def _may_end(self, event: e.Event, token: Token) -> None:
        node = self.machine.ways.nodes[token.node]
        if isinstance(node, Step) and node.effect and token.state != "started":
            raise Fault("an effect ends that was not begun")
        if token.failures and event.active_ms < token.due_ms and token.state != "started":
            raise Fault(f"another attempt before {token.due_ms}")

    def _failed(self, event: e.StepFailed) -> str:
        token = self._token(event)
        node = self.machine.ways.nodes[token.node]
        if not isinstance(node, Step):
            return self.machine.choose(token)
        if self._troubled and node.effect and (event.code in LOST_CODES or event.code == "retries_exhausted"):
            self._may_end(event, token)
            line = self.machine.failed(token, event.code, may_pass=True)
            self._put_off(event, token)
            return line
        return self._attempted(event)

    def _check_delay(self, delay_ms: int) -> None:
        full = self.machine.pipeline.delay_ms
        if not full // 2 <= delay_ms <= full:
            raise Fault(f"another attempt {delay_ms} ms later")

    def _died(self, event: e.StepAbandoned) -> str:
        token = self._token(event)
        if token.state != "started":
            raise Fault("no attempt was begun")
        line = self.machine.died(token)
        self.given_up |= token.deaths >= DEATHS_MAX or token.outcome is not None
        return line

    def _chose(self, event: e.Routed | e.TokenForked) -> str:
        token = self._token(event)
        self.finished.add(key_of(token))
        return self.machine.choose(token)

    def _arrived(self, event: e.BranchArrived | e.BranchArrivedLate) -> str:
        return self.machine.arrive(self._token(event))

    def _closed(self, event: e.TokensCoalesced | e.CoalesceFailed) -> str:
        group = self.machine.open[event.group]
        if event.trigger == "timeout":
            self._in_time(event, group)
        elif event.trigger == "end_of_source":
            self._at_the_end(group.join.name)
        else:
            raise Fault("nothing owes this")
        return self.machine.close(group, event.trigger)

    def _buffered(self, event: e.TokenBuffered) -> str:
        token = self._token(event)
        batch = self.machine.batches.get(event.aggregation)
        if batch is not None and batch.trigger is not None:
            raise Fault(f"{batch.id} is due")
        line = self.machine.buffer(token)
        batch = self.machine.batches[event.aggregation]
        if len(batch.members) == 1:
            batch.opened_ms = event.active_ms
        batch.trigger = due_by_members(batch, event.active_ms)
        return line

    def _begun(self, event: e.BatchStarted) -> str:
        batch = self.machine.batches[event.aggregation]
        self._check_due(event, batch)
        return self.machine.begin(batch, event.trigger)

    def _given_up_batch(self, event: e.BatchAbandoned) -> str:
        batch = self.machine.batches[event.aggregation]
        if not batch.begun:
            raise Fault("no attempt was begun")
        line = self.machine.died_in(batch)
        self.given_up |= batch.deaths >= DEATHS_MAX
        return line

    def _check_due(self, event: e.BatchStarted | e.BatchFlushed | e.BatchFailed, batch: Members) -> None:
        """C7: what it is computed for is true of it, and stays what it was."""
        if batch.trigger is None and event.trigger == "timeout":
            self._in_time(event, batch)
        elif batch.trigger is None and event.trigger == "end_of_source":
            self._at_the_end(event.aggregation)
        elif batch.trigger is None and not (event.trigger == "condition" and condition_holds(batch, event.active_ms)):
            raise Fault(f"{event.trigger} is not true of {batch.id}")
        elif event.active_ms < batch.due_ms or (batch.trigger or event.trigger) != event.trigger:
            raise Fault(f"{batch.id} is due at {batch.due_ms} by {batch.trigger}")

    def _flushed(self, event: e.BatchFlushed | e.BatchFailed) -> str:
        batch = self.machine.batches[event.aggregation]
        self._check_due(event, batch)
        self.timers_fired += batch.node.age_ms is not None
        line = self.machine.flush(batch, event.trigger)
        if isinstance(event, e.BatchFailed) and event.retry:
            self.timers_fired += 1
            self._check_delay(event.delay_ms)
            batch.due_ms = event.active_ms + event.delay_ms
        return line

    # --- sinks, claims, the seal ---------------------------------------------------------------------------------

    def _intended(self, event: e.SinkWriteIntended) -> str:
        tokens = [self.machine.live[token] for token in event.tokens]
        if any(token.node != event.sink or token.state != "ready" for token in tokens):
            raise Fault("tokens that do not wait at this sink")
        for token in tokens:
            token.state = "writing"
        self.writes[event.write] = (event.sink, tokens)
        return said(event)

    def _confirmed(self, event: e.SinkWriteConfirmed) -> str:
        sink, tokens = self.writes.pop(event.write)
        self.in_doubt.discard(event.write)
        line = self.machine.confirm(sink, tokens)
        self.written[sink] += [token.row for token in tokens if token.outcome is not None]
        return line

    def _unwritten(self, event: e.SinkWriteFailed) -> str:
        for token in self.writes.pop(event.write)[1]:
            token.state = "ready"
        self.in_doubt.discard(event.write)
        return said(event)

    def _claimed(self) -> None:
        self.in_doubt |= self.writes.keys()

    def _seal(self, event: e.RunSealed) -> str:
        machine = self.machine
        left = [*machine.live, *machine.open, *machine.batches, *self.writes]
        if left or not machine.exhausted:
            raise Fault(f"left open: {left}")
        self.sealed = True
        if (event.rows, event.tokens, event.late_arrivals) != (machine.rows, len(machine.tokens), machine.late):
            raise Fault(f"expected {machine.rows} rows, {len(machine.tokens)} tokens, {machine.late} late")
        counted = dict(sorted(event.outcomes.items()))
        outcomes = [token.outcome or "" for token in machine.tokens.values()]
        found = {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
        if counted != found:
            raise Fault(f"expected {found}")
        return said(event)

    def _check_facts(self, event: e.TokensCoalesced | e.CoalesceFailed) -> None:
        """D7, A3, E10: what the record says was known of the group."""
        group, facts = self.machine.groups[event.group], event.facts
        if facts is None:
            raise Fault("no facts")
        expected = group.table.branches
        arrived = [(branch, token.id, ms) for (branch, token), ms in zip(group.arrived.items(), group.offsets, strict=True)]
        missing = [branch for branch in expected if branch not in group.arrived and branch not in group.lost]
        right = (group.join.policy, "list" if group.join.gathers else group.join.merge, expected, arrived,
                 {branch: group.lost[branch] for branch in expected if branch in group.lost}, missing,
                 event.active_ms - group.opened_ms, group.collisions)
        found = (facts.policy, facts.merge_strategy, facts.expected_branches,
                 [(one.branch, one.token, one.offset_ms) for one in facts.arrival_order],
                 {one.branch: one.reason for one in facts.branches_lost}, list(facts.branches_missing),
                 facts.wait_duration_ms, dict(event.collisions))
        if right != found:
            raise Fault(f"expected facts {right}, found {found}")


def _said(event: e.Event) -> str:
    if isinstance(event, e.StepAbandoned):
        return f"StepAbandoned {event.token} {event.node} #{event.attempt}"
    return said(event)


def deadline_of(thing: Group | Members) -> int | None:
    """When a group or a batch times out; None where it does not, or is due already."""
    timeout_ms = thing.join.timeout_ms if isinstance(thing, Group) else thing.node.timeout_ms
    due = isinstance(thing, Members) and thing.trigger is not None
    return None if timeout_ms is None or due else thing.opened_ms + timeout_ms


def due_by_members(batch: Members, now_ms: int) -> str | None:
    """What a member that came makes a batch due by."""
    if batch.node.full_at is not None and len(batch.members) >= batch.node.full_at:
        return "count"
    return "condition" if condition_holds(batch, now_ms) else None


def condition_holds(batch: Members, now_ms: int) -> bool:
    """Whether the aggregation's condition is true of the batch."""
    node = batch.node
    if node.at_least is not None:
        return len(batch.members) >= node.at_least
    return node.age_ms is not None and now_ms - batch.opened_ms >= node.age_ms
