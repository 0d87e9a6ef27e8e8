"""The graph of a run, compiled once for the questions the fold asks of it at every event."""

from __future__ import annotations

from collections.abc import Iterable

from ledger.batch import condition_of
from ledger.graph import CONTINUE, Edge, Graph, Node


class Plan:
    """Look-ups over one graph. `reach[node]` are the coalesces at or downstream of a node by any edge.

    Raises `ledger.expressions.ExpressionInvalid` for a batch condition that is none.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = {node.id: node for node in graph.nodes}
        self.steps = {node.id: node for node in graph.nodes if node.kind == "transform"}
        self.gates = {node.id: node for node in graph.nodes if node.kind == "gate"}
        self.sinks = {node.id: node for node in graph.nodes if node.kind == "sink"}
        self.coalesces = {node.id: node for node in graph.nodes if node.kind == "coalesce"}
        self.aggregations = {node.id: node for node in graph.nodes if node.kind == "aggregation"}
        self.conditions = {node.id: condition_of(node.batch.condition) for node in graph.nodes
                           if node.batch and node.batch.condition is not None}
        self.edges = {(edge.from_node, edge.label): edge for edge in graph.edges}
        self.next_of = {edge.from_node: edge.to_node for edge in graph.edges if edge.label == CONTINUE}
        self.joins = _joins(graph.nodes)
        self.gathers = {
            node.coalesce.gathers: node.id for node in graph.nodes if node.coalesce and node.coalesce.gathers
        }
        self.reach = _reach(graph.nodes, graph.edges)

    def upstream(self, node: str) -> frozenset[str]:
        """The nodes from which `node` can be reached."""
        found: set[str] = set()
        todo = [node]
        while todo:
            to = todo.pop()
            new = {edge.from_node for edge in self.graph.edges if edge.to_node == to} - found
            found |= new
            todo += new
        return frozenset(found)

    def divert_edge(self, node: str) -> Edge | None:
        """The one divert edge that leaves `node`, or None (a discard, or no route at all)."""
        for edge in self.graph.edges:
            if edge.from_node == node and edge.mode == "divert":
                return edge
        return None


def _joins(nodes: Iterable[Node]) -> dict[tuple[str, str], str]:
    """(gate, branch) to the coalesce that joins the branch."""
    joins: dict[tuple[str, str], str] = {}
    for node in nodes:
        rule = node.coalesce
        if rule is not None and rule.gate is not None:
            joins.update({(rule.gate, branch): node.id for branch in rule.branches})
    return joins


def _reach(nodes: tuple[Node, ...], edges: tuple[Edge, ...]) -> dict[str, frozenset[str]]:
    targets: dict[str, list[str]] = {node.id: [] for node in nodes}
    for edge in edges:
        targets[edge.from_node].append(edge.to_node)
    reach: dict[str, frozenset[str]] = {}
    for node in sorted(nodes, key=lambda node: -node.step):
        own = frozenset({node.id}) if node.kind == "coalesce" else frozenset[str]()
        reach[node.id] = own.union(*(reach[target] for target in targets[node.id]))
    return reach
