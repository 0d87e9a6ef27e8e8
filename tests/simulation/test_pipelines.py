"""The pipelines that faults are tried on: all of them can be built, and between them they have everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import binding
from engine.ports import system
from ledger.graph import Graph
from tests.simulation.pipelines import ALL

KINDS = {"source", "transform", "gate", "aggregation", "coalesce", "sink"}


@pytest.fixture
def graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """The graph of each."""
    made = []
    for name, pipeline in ALL.items():
        folder = tmp_path / name
        file = pipeline.put(folder)
        monkeypatch.chdir(folder)
        made.append(binding.prepare(file.name, system()).pipeline.graph)
    return made


def test_between_them_they_have_every_kind_of_node_policy_and_merge(graphs: list[Graph]) -> None:
    """A campaign over twenty alike would show little."""
    nodes = [node for graph in graphs for node in graph.nodes]
    rules = [node.coalesce for node in nodes if node.coalesce]
    assert len(graphs) >= 20
    assert {node.kind for node in nodes} == KINDS
    assert {rule.policy for rule in rules} == {"require_all", "quorum", "best_effort", "first"}
    assert {rule.merge for rule in rules} == {"union", "nested", "select", "list"}
    assert {node.batch.output_mode for node in nodes if node.batch} == {"transform", "passthrough"}
    assert any(node.effect for node in nodes)
    assert any(rule.gathers for rule in rules)
