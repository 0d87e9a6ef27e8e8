"""A run's graph as text: Mermaid, Graphviz's dot, JSON. Divert edges are dashed (E7)."""

from __future__ import annotations

import re
from typing import Any

from ledger.graph import Graph, Node

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SAFE = re.compile(r"[A-Za-z0-9_ ]+")
_MERMAID_WORDS = frozenset({"end", "graph", "flowchart", "subgraph", "style", "class", "classdef", "click", "default",
                            "direction", "linkstyle", "call", "href"})  # fmt: skip
_MERMAID_SHAPES = {"source": "([{}])", "gate": "{{{}}}", "coalesce": "[[{}]]", "aggregation": "[/{}/]", "sink": "[({})]"}
_DOT_SHAPES = {"source": "oval", "gate": "diamond", "coalesce": "hexagon", "aggregation": "trapezium", "sink": "cylinder"}


def mermaid(graph: Graph) -> str:
    """A Mermaid flowchart."""
    names = {node.id: _mermaid_id(node.id, n) for n, node in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    lines += [f"    {names[node.id]}{_MERMAID_SHAPES.get(node.kind, '[{}]').format(_quoted(_title(node)))}"
              for node in graph.nodes]
    for edge in graph.edges:
        arrow = {"divert": "-.->", "copy": "==>"}.get(edge.mode, "-->")
        label = "" if edge.label == "continue" else f"|{_label(edge.label)}|"
        lines.append(f"    {names[edge.from_node]} {arrow}{label} {names[edge.to_node]}")
    return "\n".join(lines)


def dot(graph: Graph) -> str:
    """A Graphviz digraph."""
    lines = ["digraph pipeline {", "    rankdir=LR;"]
    lines += [f"    {_quoted(node.id)} [label={_quoted(_title(node))}, shape={_DOT_SHAPES.get(node.kind, 'box')}];"
              for node in graph.nodes]
    for edge in graph.edges:
        style = ', style=dashed' if edge.mode == "divert" else ', style=bold' if edge.mode == "copy" else ""
        label = "" if edge.label == "continue" else edge.label
        lines.append(f"    {_quoted(edge.from_node)} -> {_quoted(edge.to_node)} [label={_quoted(label)}{style}];")
    return "\n".join([*lines, "}"])


def as_data(graph: Graph) -> dict[str, Any]:
    """Nodes and edges as plain data; each edge with `mode` and `flow_type`."""
    return {
        "nodes": [{"node_id": node.id, "name": node.id, "kind": node.kind, "plugin": node.plugin,
                   "plugin_version": node.plugin_version, "step": node.step} for node in graph.nodes],
        "edges": [{"edge_id": edge.id, "from_node": edge.from_node, "to_node": edge.to_node, "label": edge.label,
                   "mode": edge.mode, "flow_type": edge.flow_type} for edge in graph.edges],
    }


def _label(text: str) -> str:
    return text if _SAFE.fullmatch(text) and text.lower() not in _MERMAID_WORDS else _quoted(text)


def _title(node: Node) -> str:
    return node.id if node.plugin == node.kind else f"{node.id}: {node.plugin}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', "'").replace("\n", " ") + '"'


def _mermaid_id(name: str, n: int) -> str:
    plain = _PLAIN.fullmatch(name) is not None and name.lower() not in _MERMAID_WORDS
    return name if plain else f"_{n}_{re.sub('[^A-Za-z0-9]', '_', name)}"  # no name begins so
