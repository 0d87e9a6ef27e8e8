"""A pipeline as the oracle knows it: what its nodes are, how they are wired, and what their plugins answer.

Why its own words: an oracle that read the engine's graph would believe what the engine's build made of the file.

Invariant: plain data; imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

Row = Mapping[str, Any]

DISCARD = "discard"
FORK = "fork"
SOURCE = "source"


class Step(NamedTuple):
    """A transform; `marks`: every row it makes carries its name."""

    name: str
    input: str
    to: str
    on_error: str
    expands: bool = False
    effect: bool = False
    marks: bool = False


class Gate(NamedTuple):
    """A choice; a route to `fork` makes one child for each branch of `fork_to`."""

    name: str
    input: str
    routes: Mapping[str, str]
    fork_to: tuple[str, ...] = ()
    on_error: str | None = None


class Batch(NamedTuple):
    """An aggregation: due when it is `full_at` so many members, by a condition (`at_least` so many, or an age), by its
    timeout, or at the end. `passes`: the members themselves go on.
    """

    name: str
    input: str
    to: str
    on_error: str
    full_at: int | None = None
    at_least: int | None = None
    age_ms: int | None = None
    timeout_ms: int | None = None
    passes: bool = False
    expected: int | None = None


class Join(NamedTuple):
    """A coalesce of {branch: connection that carries it}, or of what the step `gathers` expanded."""

    name: str
    policy: str
    to: str
    branches: Mapping[str, str] = {}
    gathers: str = ""
    input: str = ""
    need: int = 0
    timeout_ms: int | None = None
    merge: str = "union"
    select: str = ""
    collision: str = "last_wins"
    into: str = "items"


class Sink(NamedTuple):
    """Where rows go, and where those go that it refuses."""

    name: str
    refused_to: str = DISCARD


Node = Step | Gate | Batch | Join


class Pipeline(NamedTuple):
    """The whole: `first` is where valid rows go, `invalid` where the others do."""

    first: str
    invalid: str
    attempts: int
    delay_ms: int
    nodes: tuple[Node, ...]
    sinks: tuple[Sink, ...]


# --- what plugins answer ---------------------------------------------------------------------------------------------

ROW, ROWS, NOTHING = "row", "rows", "nothing"
ERROR, LATER, RAISES, NONSENSE, DIES = "error", "later", "raises", "nonsense", "dies"


class Answer(NamedTuple):
    """One attempt's: a row, rows (an expanding step), nothing (filtered), or one of the ways to fail."""

    kind: str
    rows: tuple[Row, ...] = ()
    code: str = ""
    takes_ms: int = 0


class Choice(NamedTuple):
    """A gate's: a label (which may be none of its own), or it raises, or answers nonsense."""

    kind: str
    label: str = ""
    takes_ms: int = 0


class Output(NamedTuple):
    """A row that a batch made, and the places of its parents (None: all that were not rejected)."""

    row: Row
    parents: tuple[int, ...] | None


class Summed(NamedTuple):
    """A batch's answer: outputs, and rejected members by their places with their codes; or a way to fail."""

    kind: str
    outputs: tuple[Output, ...] = ()
    rejected: tuple[tuple[int, str], ...] = ()
    code: str = ""
    takes_ms: int = 0


class Answers(Protocol):
    """What plugins say: a pure function of the node, of the row or rows, and of the failed attempts behind them."""

    def step(self, node: Step, row: Row, failures: int) -> Answer:
        """Of a transform."""
        ...

    def gate(self, node: Gate, row: Row) -> Choice:
        """Of a gate's condition."""
        ...

    def batch(self, node: Batch, rows: Sequence[Row], failures: int) -> Summed:
        """Of an aggregation."""
        ...

    def refuses(self, sink: str, row: Row) -> str | None:
        """The code with which a sink refuses the row; None when it takes it."""
        ...


# --- how it is wired -------------------------------------------------------------------------------------------------


class Ways:
    """Look-ups over one pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.nodes = {node.name: node for node in pipeline.nodes}
        self.sinks = {sink.name: sink for sink in pipeline.sinks}
        self.joins = {branch: node for node in pipeline.nodes if isinstance(node, Join) for branch in node.branches}
        self.gathers = {node.gathers: node for node in pipeline.nodes if isinstance(node, Join) and node.gathers}
        self._consumers = {connection: node.name for node in pipeline.nodes for connection in inputs(node)}
        self.reach = {name: self._reached(name) for name in self.nodes}

    def node_at(self, to: str) -> str:
        """The node, or the sink, to which a connection leads."""
        return to if to in self.sinks else self._consumers[to]

    def _reached(self, name: str) -> frozenset[str]:
        """The nodes downstream of one, that one included."""
        found, todo = {name}, [name]
        while todo:
            new = {self.node_at(to) for to in outputs(self.nodes[todo.pop()])} - found - self.sinks.keys()
            found |= new
            todo += sorted(new)
        return frozenset(found)


def inputs(node: Node) -> list[str]:
    """The connections that a node consumes."""
    if isinstance(node, Join):
        return [*node.branches.values(), *([node.input] if node.gathers else [])]
    return [node.input]


def outputs(node: Node) -> list[str]:
    """The connections and sinks to which a node leads by its normal ways."""
    if isinstance(node, Gate):
        return [*(to for to in node.routes.values() if to != FORK), *node.fork_to]
    return [node.to]
