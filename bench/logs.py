"""Hand-made logs for the benches: lawful event lists of the two standard pipelines, built through the real fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from ledger import events as e
from ledger.codec import TYPE_OF, VERSION_OF, encode, event_token
from ledger.fold import State, apply
from ledger.fold.groups import facts
from ledger.graph import CoalesceRule, Edge, Graph, Node
from ledger.reader import row_index_of
from ledger.store import Part, Stored, StreamHead
from ledger.tree import Frontier

HASH = "a" * 64
ROWS_PER_WRITE = 200


def _edge(from_node: str, label: str, to_node: str) -> Edge:
    return Edge(from_node=from_node, to_node=to_node, label=label, mode="copy" if label in "ab" else "move")


LINEAR = Graph(
    nodes=(
        Node(id="source", kind="source", plugin="csv", step=0, on_error="discard"),
        Node(id="first", kind="transform", plugin="value_transform", step=1, on_error="discard"),
        Node(id="second", kind="transform", plugin="value_transform", step=2, on_error="discard"),
        Node(id="out", kind="sink", plugin="csv", step=3),
    ),
    edges=(_edge("source", "continue", "first"), _edge("first", "continue", "second"),
           _edge("second", "continue", "out")),
)
FORK = Graph(
    nodes=(
        Node(id="source", kind="source", plugin="csv", step=0, on_error="discard"),
        Node(id="fork_gate", kind="gate", plugin="gate", step=1, fork_to=("a", "b")),
        Node(id="merge", kind="coalesce", plugin="coalesce", step=2,
             coalesce=CoalesceRule(branches=("a", "b"), gate="fork_gate", policy="require_all", merge="union")),
        Node(id="out", kind="sink", plugin="csv", step=3),
    ),
    edges=(_edge("source", "continue", "fork_gate"), _edge("fork_gate", "a", "merge"), _edge("fork_gate", "b", "merge"),
           _edge("merge", "continue", "out")),
)


class Log:
    """Collects stamped, applied events."""

    def __init__(self, graph: Graph) -> None:
        self.state = State("bench")
        self.events: list[e.Event] = []
        self._waiting: list[str] = []
        self.say(e.RunStarted(program="bench", pipeline="bench", settings=self.pay(), settings_path="",
                              settings_hash="", secrets={}, directory="", source=e.SourceIdentity(kind="csv"),
                              jitter_seed=1, graph=graph))
        self.say(e.RunClaimed(process="bench"))

    def pay(self) -> e.Commitment:
        """The next payload's commitment."""
        return e.Commitment(self.state.payloads + 1, HASH)

    def say(self, event: e.Event) -> None:
        """Stamp, apply, keep."""
        seq = self.state.seq + 1
        stamped = replace(event, run="bench", seq=seq, epoch=1, v=VERSION_OF[type(event)],
                          at=1_763_633_700_000_000 + seq, active_ms=seq // 100)
        apply(self.state, stamped)
        self.events.append(stamped)

    def deliver(self, token: str, *, last: bool) -> None:
        """Line the token up at the sink; write when the line is long enough."""
        self._waiting.append(token)
        if len(self._waiting) < ROWS_PER_WRITE and not last:
            return
        write = self.state.writes_made + 1
        self.say(e.SinkWriteIntended(sink="out", write=write, tokens=tuple(self._waiting), content_hash=HASH,
                                     key=f"bench/out/{write}", offset=0))
        self.say(e.SinkWriteConfirmed(sink="out", write=write, uri="out.csv", size_bytes=1, content_hash=HASH,
                                      accepted=len(self._waiting), duration_us=1))
        self._waiting = []

    def taken(self) -> list[e.Event]:
        """What was said since the last time, which is then no longer kept."""
        events, self.events = self.events, []
        return events

    def seal(self) -> list[e.Event]:
        """End of source and seal; gives all events that are kept."""
        state = self.state
        self.say(e.SourceExhausted(rows=state.rows_read))
        self.say(e.RunSealed(status="completed", outcomes=dict(state.outcomes), rows=state.rows_read,
                             tokens=state.tokens_made, late_arrivals=0, size=state.seq, root=HASH))
        return self.events


def linear(rows: int) -> list[e.Event]:
    """csv, two transforms, csv."""
    return [event for some in linear_by_rows(rows, rows) for event in some]


def linear_batches(count: int, size: int) -> list[list[Stored]]:
    """The first `count` events of such a run as they are stored, in batches of `size`."""
    stored = []
    for event in linear(count // 3)[:count]:
        token = event_token(event)
        stored.append(Stored(event.seq, TYPE_OF[type(event)], event.v, token, row_index_of(token), event.at, encode(event)))
    return [stored[start : start + size] for start in range(0, len(stored), size)]


def parts(batches: Iterable[list[Stored]]) -> Iterator[Part]:
    """The batches as they are appended one after the other: each is hashed when it is taken, as a writer does."""
    frontier = Frontier()
    size: int | None = None
    for batch in batches:
        for stored in batch:
            frontier.append(stored.body)
        yield Part(size, 1, StreamHead("bench", frontier.size, 1, frontier.root(), frontier.pack(), "running"), batch)
        size = frontier.size


def linear_by_rows(rows: int, at_once: int) -> Iterator[list[e.Event]]:
    """The same in pieces of that many rows, of which only one is held."""
    log = Log(LINEAR)
    for row in range(rows):
        token = str(row)
        log.say(e.RowRead(token=token, row=row, valid=True, position=row + 1, data=log.pay()))
        for node in ("first", "second"):
            log.say(e.StepCompleted(token=token, node=node, attempt=1, input=log.state.payloads, output=log.pay(),
                                    duration_us=3))
        log.deliver(token, last=row == rows - 1)
        if row % at_once == at_once - 1:
            yield log.taken()
    yield log.seal()


def fork(rows: int) -> list[e.Event]:
    """csv, a fork of two, their coalesce, csv."""
    log = Log(FORK)
    for row in range(rows):
        token = str(row)
        log.say(e.RowRead(token=token, row=row, valid=True, position=row + 1, data=log.pay()))
        log.say(e.TokenForked(token=token, node="fork_gate", label="true", branches=("a", "b")))
        for branch in "ab":
            log.say(e.BranchArrived(token=f"{token}.{branch}", coalesce="merge", group=f"{token}+merge", branch=branch))
        group = log.state.groups[f"{token}+merge"]
        active_ms = (log.state.seq + 1) // 100
        log.say(e.TokensCoalesced(coalesce="merge", group=group.id, merged=group.id, trigger="all_arrived",
                                  facts=facts(group, active_ms), output=log.state.payloads))
        log.deliver(group.id, last=row == rows - 1)
    return log.seal()
