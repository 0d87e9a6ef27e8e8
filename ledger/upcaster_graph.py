"""What is wrong with a set of upcasters, seen as a graph: its nodes are (type, version), its edges the upcasters.

Why a module of its own: only a process that reads an earlier event needs networkx for it.

Invariants: pure; an empty answer means that exactly one path leads from every version that was ever written of a type to one
that is written now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import networkx as nx

Kind = tuple[str, int]
Edge = tuple[Kind, Kind]


class Flaw(NamedTuple):
    """One thing that is wrong, at one node.

    `gap`: a version that was written, and nothing leads on. `nowhere`: an upcaster ends at what nobody writes and nothing
    leads on. `branch`: two upcasters from one node. `cycle`: upcasters lead back to where they began. `current`: one from
    a version that is written now, or is not written yet. `jump`: one that does not lead to the next version.
    """

    kind: Literal["gap", "nowhere", "branch", "cycle", "current", "jump"]
    at: Kind

    def __str__(self) -> str:
        return f"a {self.kind} at {_name(self.at)}"


def flaws(edges: Sequence[Edge], versions: Mapping[str, int]) -> list[Flaw]:
    """What is wrong with these upcasters, over the versions that are written now."""
    graph: nx.MultiDiGraph[Kind] = nx.MultiDiGraph()
    graph.add_nodes_from(_written(edges, versions))
    graph.add_edges_from(edges)
    return sorted({*_at_nodes(graph, versions), *_cycles(graph)})


def _written(edges: Sequence[Edge], versions: Mapping[str, int]) -> Iterator[Kind]:
    """Every version of a type up to the last one that was written, from the first."""
    last = dict(versions)
    for (type_, version), _ in edges:
        if type_ not in versions:
            last[type_] = max(version, last.get(type_, 0))
    yield from ((type_, version) for type_, highest in last.items() for version in range(1, highest + 1))


def _at_nodes(graph: nx.MultiDiGraph[Kind], versions: Mapping[str, int]) -> Iterator[Flaw]:
    for node in graph.nodes:
        type_, version = node
        ways = list(graph.successors(node)) if graph.out_degree(node) == 1 else []
        if version >= versions.get(type_, version + 1):
            if graph.out_degree(node):
                yield Flaw("current", node)
            elif version > versions[type_]:
                yield Flaw("nowhere", node)
        elif graph.out_degree(node) == 0:
            yield Flaw("gap" if type_ in versions or not graph.in_degree(node) else "nowhere", node)
        elif graph.out_degree(node) > 1:
            yield Flaw("branch", node)
        if ways and ways[0][0] == type_ and ways[0][1] != version + 1:
            yield Flaw("jump", node)


def _cycles(graph: nx.MultiDiGraph[Kind]) -> Iterator[Flaw]:
    for part in nx.strongly_connected_components(graph):
        if len(part) > 1 or graph.has_edge(*(tuple(part) * 2)):
            yield Flaw("cycle", min(part))


def _name(kind: Kind) -> str:
    return f"{kind[0]} version {kind[1]}"
