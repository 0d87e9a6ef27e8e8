"""The graph of one run, as `RunStarted` records it: nodes, edges and the rules the fold holds a run to.

Why here: the fold checks every move of a token against the graph, so the graph is part of the record and not of the
engine. The engine *builds* it (settings to graph); the ledger only reads it.

Invariants (made by `engine.graph`, trusted by the fold):
- one source, named `source`; node ids are unique; `step` rises along every edge (source = 0);
- a node that is not a gate or a sink has exactly one `continue` edge; (from_node, label) names one edge;
- all branches of a coalesce come from one gate; every joined branch belongs to one coalesce.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

NodeKind = Literal["source", "transform", "gate", "aggregation", "coalesce", "sink"]
EdgeMode = Literal["move", "copy", "divert"]
PolicyName = Literal["require_all", "quorum", "best_effort", "first"]
MergeName = Literal["union", "nested", "select", "list"]
CollisionPolicy = Literal["last_wins", "first_wins", "fail"]

SOURCE = "source"
DISCARD = "discard"
CONTINUE = "continue"
QUARANTINE = "__quarantine__"
FAILSINK = "__failsink__"


def error_label(transform: str) -> str:
    """Label of a step's error edge."""
    return f"__error_{transform}__"


class CoalesceRule(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """How one coalesce decides: the table in `ledger.coalesce`.

    `branches` in declared order with `gate` the fork that makes them, or `gathers` the expanding step whose children
    it collects. `timeout_ms` counts run time from the group's first arrival or loss.
    """

    branches: tuple[str, ...] = ()
    gate: str | None = None
    gathers: str | None = None
    into: str = "items"
    policy: PolicyName
    quorum: int | None = None
    timeout_ms: int | None = None
    merge: MergeName
    select_branch: str | None = None
    collision: CollisionPolicy = "last_wins"


class BatchRule(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """When an aggregation flushes, and what becomes of its members."""

    count: int | None = None
    timeout_ms: int | None = None
    condition: str | None = None
    output_mode: Literal["transform", "passthrough"] = "transform"
    expected_output_count: int | None = None


class Node(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One node. `on_error` is a sink's name, `discard`, or None (a gate without a route: the row is `failed`).

    `step` is the node's index on every path (source 0, rising along each edge). `settings_hash` covers the node's own
    settings, `code_hash` the plugin's module. `attempts_max` is 1 where nothing is retried.
    """

    id: str
    kind: NodeKind
    plugin: str
    plugin_version: str = ""
    code_hash: str = ""
    settings_hash: str = ""
    step: int
    on_error: str | None = None
    attempts_max: int = 1
    effect: bool = False
    expands: bool = False
    fork_to: tuple[str, ...] = ()
    coalesce: CoalesceRule | None = None
    batch: BatchRule | None = None


class Edge(Struct, frozen=True, kw_only=True, gc=False):
    """One edge. `label`: `continue`, a route's, a branch, `__quarantine__`, `__error_<node>__` or `__failsink__`."""

    from_node: str
    to_node: str
    label: str
    mode: EdgeMode

    @property
    def id(self) -> str:
        """`from_node:label`, unique in a graph."""
        return f"{self.from_node}:{self.label}"

    @property
    def flow_type(self) -> Literal["normal", "divert"]:
        """`divert` for a way off the normal path."""
        return "divert" if self.mode == "divert" else "normal"


class Graph(Struct, frozen=True, kw_only=True, gc=False):
    """Nodes in topological order, and the edges between them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
