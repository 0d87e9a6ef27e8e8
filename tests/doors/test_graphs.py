"""The graph of a file and of a run, in three forms: ways off the normal path are dashed and marked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.doors import story
from tests.doors.story import Story
from tests.doors.told import done, tell, write

DIVERTS = {
    ("source", "rejects", "__quarantine__"),
    ("no_bad", "rejects", "__error_no_bad__"),
    ("strict", "rejects", "__failsink__"),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """One story for the whole file."""
    return story.told(tmp_path_factory.mktemp("story"))


def files(told: Story) -> str:
    """The pipeline file of the story, whose source is not needed."""
    write({"pipeline.yaml": story.PIPELINE})
    return "pipeline.yaml"


def test_a_run_and_its_file_have_one_graph(told: Story) -> None:
    """E7: the graph is the recorded one; the file gives the same in all three forms."""
    file = files(told)
    for form in ("json", "mermaid", "dot"):
        assert told.done("graph", "story", "--format", form).out == done("graph", file, "--format", form).out


def test_edges_carry_mode_and_flow_type(told: Story) -> None:
    """E7: `divert` for the three ways off the normal path; a discard is no edge."""
    answer = _json(told)
    diverts = {(edge["from_node"], edge["to_node"], edge["label"]) for edge in answer["edges"] if edge["mode"] == "divert"}
    assert diverts == DIVERTS
    assert all((edge["flow_type"] == "divert") == (edge["mode"] == "divert") for edge in answer["edges"])
    assert {edge["mode"] for edge in answer["edges"]} == {"move", "copy", "divert"}
    assert {edge["label"] for edge in answer["edges"] if edge["mode"] == "copy"} == {"a", "b"}
    edges = told.ask("query", "SELECT edge_id, flow_type FROM edges WHERE run_id = 'story'")["rows"]
    assert {(edge["edge_id"], edge["flow_type"]) for edge in edges} == {
        (edge["edge_id"], edge["flow_type"]) for edge in answer["edges"]}


def _json(told: Story) -> dict[str, list[dict[str, str]]]:
    answer: dict[str, list[dict[str, str]]] = told.tell("graph", "story", "--format", "json").answer
    return answer


def test_mermaid_dashes_diverts_and_nothing_else(told: Story) -> None:
    """E7: `-.->` for each divert edge; every edge stands there once, between nodes that are declared."""
    lines = told.done("graph", "story").out.splitlines()
    assert lines[0].startswith("flowchart ")
    dashed = {tuple(re.split(r" -\.->\|([^|]*)\| ", line.strip())) for line in lines if "-.->" in line}
    assert {(source, sink, label) for source, label, sink in dashed} == DIVERTS
    edges = [line for line in lines[1:] if re.search(r"(-->|==>|-\.->)", line)]
    assert len(edges) == len(_json(told)["edges"])
    declared = {re.split(r"[\[({]", line.strip())[0] for line in lines[1:] if line not in edges}
    assert {end for line in edges for end in re.split(r" (?:-->|==>|-\.->)(?:\|[^|]*\|)? ", line.strip())} == declared


def test_dot_dashes_diverts_and_nothing_else(told: Story) -> None:
    """E7: the same for Graphviz."""
    lines = told.done("graph", "story", "--format", "dot").out.splitlines()
    edges = [line for line in lines if " -> " in line]
    dashed = [line for line in edges if "style=dashed" in line]
    assert len(edges) == len(_json(told)["edges"])
    assert len(dashed) == len(DIVERTS)
    assert all(any(f'"{label}"' in line for line in dashed) for _, _, label in DIVERTS)
    assert (lines[0], lines[-1]) == ("digraph pipeline {", "}")


def test_labels_and_names_that_mermaid_would_misread_are_quoted() -> None:
    """A node named `end`, a label with quotes, bars, HTML or an escape: drawn as they are, and never raw."""
    text = story.PIPELINE.replace("strict: strict", '\'a|b "<b>"\': strict, "\\e[31m": strict')
    text = text.replace("no_drop", "end").replace("rejects", "class")
    write({"pipeline.yaml": text})
    for form in ("mermaid", "dot"):
        out = done("graph", "pipeline.yaml", "--format", form).out
        assert "\x1b" not in out
        assert '"<b>"' not in out
    mermaid = done("graph", "pipeline.yaml").out
    assert not re.search(r"^ +(end|class)\b", mermaid, re.MULTILINE)


def test_a_graph_of_nothing_is_said(told: Story, folder: Path) -> None:
    """A bad file is refused as `validate` would; a run that is not there as everywhere."""
    write({"bad.yaml": story.PIPELINE.replace("on_error: rejects", "on_error: reject")})
    refused = tell("graph", "bad.yaml")
    assert (refused.code, refused.error.split(":")[0]) == (3, "ERROR_EDGE_MISSING")
    assert told.tell("graph", "nope").code == 2
    assert sorted(path.name for path in folder.iterdir()) == ["bad.yaml"]
