"""Small graphs, built by hand: what `engine.graph` would make of a pipeline file, without the engine.

Invariant: each keeps what `ledger.graph` promises (one source, rising steps, one `continue` edge a node, unique labels).
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.graph import (
    CONTINUE,
    DISCARD,
    FAILSINK,
    QUARANTINE,
    SOURCE,
    BatchRule,
    CoalesceRule,
    CollisionPolicy,
    Edge,
    EdgeMode,
    Graph,
    MergeName,
    Node,
    NodeKind,
    PolicyName,
    error_label,
)

LETTERS = "abcdef"


class Draft:
    """A graph in the making: nodes come in topological order, so a node's step is its place."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []

    def node(self, id_: str, kind: NodeKind, *, on_error: str | None = None, attempts_max: int = 1,
             effect: bool = False, expands: bool = False, fork_to: Sequence[str] = (),
             coalesce: CoalesceRule | None = None, batch: BatchRule | None = None) -> Draft:
        """Add a node, and its divert edge when `on_error` is a sink."""
        self.nodes.append(Node(id=id_, kind=kind, plugin=kind, step=len(self.nodes), on_error=on_error,
                               attempts_max=attempts_max, effect=effect, expands=expands, fork_to=tuple(fork_to),
                               coalesce=coalesce, batch=batch))
        if on_error not in (None, DISCARD):
            label = {"source": QUARANTINE, "sink": FAILSINK}.get(kind, error_label(id_))
            self.edge(id_, str(on_error), label, "divert")
        return self

    def edge(self, from_node: str, to_node: str, label: str = CONTINUE, mode: EdgeMode = "move") -> Draft:
        """Add an edge."""
        self.edges.append(Edge(from_node=from_node, to_node=to_node, label=label, mode=mode))
        return self

    def graph(self) -> Graph:
        """The graph so far."""
        return Graph(nodes=tuple(self.nodes), edges=tuple(self.edges))


def linear(*, on_error: str | None = "errors", quarantine: str = "errors", failsink: str = "errors",
           attempts_max: int = 2, effect: bool = False, expands: bool = False) -> Graph:
    """`source -> step -> out`; errors, invalid rows and refusals go where the arguments say."""
    draft = Draft().node(SOURCE, "source", on_error=quarantine)
    draft.node("step", "transform", on_error=on_error, attempts_max=attempts_max, effect=effect, expands=expands)
    draft.node("out", "sink", on_error=failsink).node("errors", "sink", on_error=DISCARD)
    return draft.edge(SOURCE, "step").edge("step", "out").graph()


def rule(count: int = 2, policy: PolicyName = "require_all", *, quorum: int | None = None, timeout_ms: int | None = None,
         merge: MergeName = "union", select_branch: str | None = None, collision: CollisionPolicy = "last_wins",
         gate: str = "fork") -> CoalesceRule:
    """The rule of a coalesce of the branches `a, b, …`."""
    return CoalesceRule(branches=tuple(LETTERS[:count]), gate=gate, policy=policy, quorum=quorum, timeout_ms=timeout_ms,
                        merge=merge, select_branch=select_branch, collision=collision)


def forked(join: CoalesceRule, on_error: str = "errors") -> Graph:
    """`source -> fork -> (gate_b -> step_b) per branch -> join -> out`.

    Every way to lose a branch is there: `gate_b` can send a row `away` to the sink `side`, fails it when it raises (no
    route); `step_b` filters, and its errors go to `on_error`.
    """
    draft = Draft().node(SOURCE, "source", on_error=DISCARD).node("fork", "gate", fork_to=join.branches)
    for branch in join.branches:
        draft.node(f"gate_{branch}", "gate").node(f"step_{branch}", "transform", on_error=on_error)
    draft.node("join", "coalesce", coalesce=join)
    draft.node("out", "sink", on_error=DISCARD).node("side", "sink", on_error=DISCARD)
    draft.node("errors", "sink", on_error=DISCARD)
    draft.edge(SOURCE, "fork").edge("join", "out")
    for branch in join.branches:
        draft.edge("fork", f"gate_{branch}", branch, "copy").edge(f"gate_{branch}", f"step_{branch}", "go")
        draft.edge(f"gate_{branch}", "side", "away").edge(f"step_{branch}", "join")
    return draft.graph()


def nested(outer: CoalesceRule, inner: CoalesceRule) -> Graph:
    """`source -> outer_fork -> (x: inner_fork -> a, b -> inner; y: step_y) -> outer -> out`."""
    draft = Draft().node(SOURCE, "source", on_error=DISCARD).node("outer_fork", "gate", fork_to=("x", "y"))
    draft.node("inner_fork", "gate", fork_to=("a", "b"))
    for name in "aby":
        draft.node(f"step_{name}", "transform", on_error=DISCARD)
    draft.node("inner", "coalesce", coalesce=inner).node("outer", "coalesce", coalesce=outer)
    draft.node("out", "sink", on_error=DISCARD)
    draft.edge(SOURCE, "outer_fork").edge("outer_fork", "inner_fork", "x", "copy")
    draft.edge("outer_fork", "step_y", "y", "copy").edge("inner_fork", "step_a", "a", "copy")
    draft.edge("inner_fork", "step_b", "b", "copy").edge("step_a", "inner").edge("step_b", "inner")
    return draft.edge("inner", "outer").edge("step_y", "outer").edge("outer", "out").graph()


def gathered(policy: PolicyName = "require_all", *, quorum: int | None = None, timeout_ms: int | None = None) -> Graph:
    """`source -> split (expands) -> work -> gather -> out`."""
    join = CoalesceRule(gathers="split", policy=policy, quorum=quorum, timeout_ms=timeout_ms, merge="list")
    draft = Draft().node(SOURCE, "source", on_error=DISCARD)
    draft.node("split", "transform", on_error=DISCARD, expands=True).node("work", "transform", on_error=DISCARD)
    draft.node("gather", "coalesce", coalesce=join).node("out", "sink", on_error=DISCARD)
    return draft.edge(SOURCE, "split").edge("split", "work").edge("work", "gather").edge("gather", "out").graph()


def batched(batch: BatchRule, on_error: str = "errors", attempts_max: int = 2) -> Graph:
    """`source -> totals (an aggregation) -> out`."""
    draft = Draft().node(SOURCE, "source", on_error=DISCARD)
    draft.node("totals", "aggregation", on_error=on_error, attempts_max=attempts_max, batch=batch)
    draft.node("out", "sink", on_error=DISCARD).node("errors", "sink", on_error=DISCARD)
    return draft.edge(SOURCE, "totals").edge("totals", "out").graph()


def forked_parts(join: CoalesceRule) -> Graph:
    """`source -> split (expands, nothing gathers) -> fork -> step_b per branch -> join -> out`: several groups a row."""
    draft = Draft().node(SOURCE, "source", on_error=DISCARD)
    draft.node("split", "transform", on_error=DISCARD, expands=True).node("fork", "gate", fork_to=join.branches)
    for branch in join.branches:
        draft.node(f"step_{branch}", "transform", on_error=DISCARD)
    draft.node("join", "coalesce", coalesce=join).node("out", "sink", on_error=DISCARD)
    draft.edge(SOURCE, "split").edge("split", "fork").edge("join", "out")
    for branch in join.branches:
        draft.edge("fork", f"step_{branch}", branch, "copy").edge(f"step_{branch}", "join")
    return draft.graph()
