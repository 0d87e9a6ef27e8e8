"""A graph as text: divert edges dashed, odd names made safe, every edge with its mode and its flow type."""

from __future__ import annotations

import re

import pytest

from ledger.graph import DISCARD, SOURCE, Edge, Graph, Node
from projections import graph_text
from tests.kit import graphs

WORDS = ("end", "graph", "subgraph", "style", "class", "click", "default")
ODD = ("a-b", "a_b", "A-b", "END", "End", "o-", "n1_a_b", "n2_a_b", *WORDS)
"""Names that pipelines may have and Mermaid has a meaning for, or that look alike once they are made safe."""


def odd(names: tuple[str, ...] = ODD) -> Graph:
    """A graph whose nodes have these names, each with an error edge."""
    draft = graphs.Draft().node(SOURCE, "source", on_error=DISCARD)
    last = SOURCE
    for name in names:
        draft.node(name, "transform", on_error="errors").edge(last, name)
        last = name
    draft.node("errors", "sink", on_error=DISCARD).node("out", "sink", on_error=DISCARD)
    return draft.edge(last, "out").graph()


def arrows(text: str) -> list[tuple[str, str, str, str]]:
    """(from, arrow, label, to) of a Mermaid flowchart's edges."""
    return re.findall(r"^    (\S+) (-->|==>|-\.->)(\|[^|]*\|)? (\S+)$", text, re.MULTILINE)


def test_mermaid_dashes_divert_edges_and_no_others() -> None:
    """E7: with their label; a fork's copies are bold, a plain way has no label."""
    text = graph_text.mermaid(graphs.linear())
    assert ("step", "-.->", "|__error_step__|", "errors") in [
        (one, arrow, label.replace('"', ""), to) for one, arrow, label, to in arrows(text)]
    assert ("step", "-->", "", "out") in arrows(text)
    assert ("fork", "==>", "|a|", "gate_a") in arrows(graph_text.mermaid(graphs.forked(graphs.rule(2))))


@pytest.mark.parametrize("graph", [graphs.linear(), graphs.forked(graphs.rule(3)), graphs.gathered(), odd()])
def test_each_edge_is_drawn_once_and_dashed_if_it_diverts(graph: Graph) -> None:
    """E7: in Mermaid as in dot."""
    drawn = arrows(graph_text.mermaid(graph))
    assert [arrow == "-.->" for _, arrow, _, _ in drawn] == [edge.mode == "divert" for edge in graph.edges]
    lines = [line for line in graph_text.dot(graph).splitlines() if "->" in line]
    assert ["style=dashed" in line for line in lines] == [edge.mode == "divert" for edge in graph.edges]


def test_odd_names_get_ids_of_their_own_and_keep_their_titles() -> None:
    """E7: no two nodes share an id, none is a word of Mermaid, and what is read is the name."""
    graph = odd()
    lines = graph_text.mermaid(graph).splitlines()[1 : 1 + len(graph.nodes)]
    names = [re.split(r"[\[({]", line.strip(), maxsplit=1)[0] for line in lines]
    assert len(set(names)) == len(graph.nodes)
    for name, line, node in zip(names, lines, graph.nodes, strict=True):
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and name.lower() not in WORDS
        assert f'"{node.id}' in line


def test_edges_join_the_nodes_that_the_graph_joins_whatever_their_names() -> None:
    """E7: ids stand for the same node wherever they are used."""
    graph = odd()
    text = graph_text.mermaid(graph)
    lines = text.splitlines()[1 : 1 + len(graph.nodes)]
    name_of = {re.split(r"[\[({]", line.strip(), maxsplit=1)[0]: node.id
               for line, node in zip(lines, graph.nodes, strict=True)}
    assert [(name_of[one], name_of[to]) for one, _, _, to in arrows(text)] == [
        (edge.from_node, edge.to_node) for edge in graph.edges]


@pytest.mark.parametrize("label", [*WORDS, "two words", 'say "so"', "a|b", "a]b", "-", "x--y", "<b>", "ü", "1"])
def test_labels_are_text_and_nothing_else(label: str) -> None:
    """E7: a word of Mermaid, a bar or a quotation mark in a label does not end it."""
    nodes = (Node(id=SOURCE, kind="source", plugin="source", step=0), Node(id="gate", kind="gate", plugin="gate", step=1),
             Node(id="out", kind="sink", plugin="sink", step=2))
    graph = Graph(nodes=nodes, edges=(Edge(from_node="gate", to_node="out", label=label, mode="move"),))
    ((_, _, shown, _),) = re.findall(r"^    (\S+) (-->)(\|.*\|) (\S+)$", graph_text.mermaid(graph), re.MULTILINE)
    inside = shown[1:-1]
    if not re.fullmatch(r'"[^"]*"', inside):
        assert inside == label and re.fullmatch(r"[A-Za-z0-9_ ]+", inside) and inside.lower() not in WORDS
    assert graph_text.as_data(graph)["edges"][0]["label"] == label
    assert re.search(r'label="(?:[^"\\]|\\.)*"\];$', graph_text.dot(graph).splitlines()[-2])


def test_data_has_mode_and_flow_type_on_every_edge() -> None:
    """E7: `divert` off the normal path, `normal` on it."""
    data = graph_text.as_data(graphs.forked(graphs.rule(2)))
    assert {(edge["mode"], edge["flow_type"]) for edge in data["edges"]} == {
        ("move", "normal"), ("copy", "normal"), ("divert", "divert")}
    assert all(set(edge) == {"edge_id", "from_node", "to_node", "label", "mode", "flow_type"} for edge in data["edges"])
    assert [node["node_id"] for node in data["nodes"]][:2] == ["source", "fork"]
