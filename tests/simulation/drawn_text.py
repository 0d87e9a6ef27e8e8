"""A drawn pipeline as anyone's pipeline file."""

from __future__ import annotations

from typing import Any

from tests.kit.effects import expanding_by_effect
from tests.kit.pipelines import Sketch
from tests.simulation.predicted_plan import Batch, Gate, Join, Pipeline, Step


def text_of(pipeline: Pipeline, workers: int = 1) -> str:
    """The file that says the pipeline."""
    sketch = Sketch(pipeline.first, attempts=pipeline.attempts, delay_seconds=pipeline.delay_ms / 1000,
                    invalid=pipeline.invalid, workers=workers)
    for node in pipeline.nodes:
        if isinstance(node, Step):
            _step(sketch, node)
        elif isinstance(node, Gate):
            sketch.gate(node.name, node.input, "True", node.routes, fork_to=node.fork_to, on_error=node.on_error)
        elif isinstance(node, Batch):
            _batch(sketch, node)
        else:
            _join(sketch, node)
    for sink in pipeline.sinks:
        sketch.sink(sink.name, on_write_failure=sink.refused_to)
    expanding = [node.name for node in pipeline.nodes if isinstance(node, Step) and node.effect and node.expands]
    return expanding_by_effect(sketch.text(), *expanding) if expanding else sketch.text()


def _step(sketch: Sketch, node: Step) -> None:
    if node.effect:
        sketch.effect(node.name, node.input, node.to, node.on_error)
    else:
        sketch.step(node.name, node.input, node.to, node.on_error, expands=node.expands)


def _batch(sketch: Sketch, node: Batch) -> None:
    trigger: dict[str, Any] = {}
    if node.full_at is not None:
        trigger["count"] = node.full_at
    if node.at_least is not None:
        trigger["condition"] = f"batch_count >= {node.at_least}"
    if node.age_ms is not None:
        trigger["condition"] = f"batch_age_seconds >= {node.age_ms / 1000}"
    if node.timeout_ms is not None:
        trigger["timeout_seconds"] = node.timeout_ms / 1000
    more = {} if node.expected is None else {"expected_output_count": node.expected}
    sketch.batch(node.name, node.input, node.to, node.on_error, trigger=trigger,
                 output_mode="passthrough" if node.passes else "transform", **more)


def _join(sketch: Sketch, node: Join) -> None:
    rule: dict[str, Any] = {}
    if node.need:
        rule["quorum_count"] = node.need
    if node.timeout_ms is not None:
        rule["timeout_seconds"] = node.timeout_ms / 1000
    if node.gathers:
        sketch.gather(node.name, node.gathers, node.input, node.policy, node.to, into=node.into, **rule)
        return
    rule["merge"] = node.merge
    if node.merge == "select":
        rule["select_branch"] = node.select
    if node.merge == "union":
        rule["union_collision_policy"] = node.collision
    sketch.join(node.name, node.branches, node.policy, node.to, **rule)
