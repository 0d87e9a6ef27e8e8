"""From a pipeline file to the graph that the run records: nodes in topological order, edges, rules.

Invariants: whatever can be refused is refused here, all problems at once, before the run has an event; the graph keeps
what `ledger.graph` promises; plugins are found and their options checked, and nothing outside is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import networkx as nx

from engine import corridors, places, wiring
from engine.pipeline_file import Path, PipelineFile, dotted, problems
from engine.plugins import (
    BUILT_IN_ORIGIN,
    Catalog,
    Kind,
    OptionsInvalid,
    Plugin,
    PluginBroken,
    PluginUnknown,
    bind,
    check_options,
    schema_of,
)
from engine.problems import PipelineRefused, Problem, hushed, nearest
from engine.schema import shown
from engine.settings import AggregationSettings, CoalesceSettings, TriggerSettings
from ledger import batch
from ledger.expressions import ExpressionInvalid, compile_expression
from ledger.graph import DISCARD, SOURCE, BatchRule, CoalesceRule, Edge, Graph, Node

NULL = "null"


@dataclass(frozen=True)
class Pipeline:
    """A graph with what its nodes are made of: plugins and their options by node id; warnings and notices of the build."""

    graph: Graph
    plugins: Mapping[str, Plugin]
    options: Mapping[str, Mapping[str, object]]
    warnings: tuple[Problem, ...]
    notices: tuple[str, ...] = ()


def build(file: PipelineFile, catalog: Catalog, *, strict: bool = False) -> Pipeline:
    """Build the graph. Raises `PipelineRefused` with every problem; with `strict` warnings are problems."""
    builder = _Builder(file, catalog)
    return builder.build(strict=strict)


class _Builder:
    def __init__(self, file: PipelineFile, catalog: Catalog) -> None:
        self._file = file
        self._catalog = catalog
        self._settings = file.settings
        self._plugins: dict[str, Plugin] = {}
        self._options: dict[str, Mapping[str, object]] = {}
        self._problems: list[Problem] = []
        self._notices: list[str] = []
        self._quarantine = self._divert_of_source()

    def build(self, *, strict: bool) -> Pipeline:
        for node, kind, name, options, path in self._with_plugins():
            self._plug(node, kind, name, options, path)
        self._conditions()
        self._problems += places.clashes(self._file)
        wires = wiring.wire(self._file, self._quarantine)
        self._problems += wires.problems
        if not wires.problems:
            self._shape(wires.edges)
        self._stop_at_problems()
        expanding = frozenset(node for node, plugin in self._plugins.items() if plugin.expands)
        checked = corridors.check(self._file, wires, expanding)
        self._problems += checked.problems + (checked.warnings if strict else [])
        self._stop_at_problems()
        return Pipeline(self._graph(wires.edges), self._plugins, self._options, tuple(checked.warnings),
                        tuple(self._notices))

    def _stop_at_problems(self) -> None:
        if self._problems:
            raise PipelineRefused(hushed(self._problems, self._file.secrets.values()))

    def _problem(self, code: str, path: Path, what: str, next_step: str = "") -> None:
        self._problems.append(self._file.problem(code, path, what, next_step))

    def _divert_of_source(self) -> str:
        """Where invalid rows go: a name, which the wiring will look up."""
        found = self._settings.source.options.get("on_validation_failure", DISCARD)
        if isinstance(found, str):
            return found
        self._problem("VALUE_INVALID", ("source", "options", "on_validation_failure"),
                      f"expected a sink or discard, found {shown(found)}", "name a sink, or discard")
        return DISCARD

    # --- plugins and expressions ---------------------------------------------------------------------------------

    def _with_plugins(self) -> Iterator[tuple[str, Kind, str, dict[str, object], Path]]:
        settings = self._settings
        source = {name: value for name, value in settings.source.options.items() if name != "on_validation_failure"}
        yield SOURCE, "source", settings.source.plugin, source, ("source",)
        for n, transform in enumerate(settings.transforms):
            yield transform.name, "transform", transform.plugin, transform.options, ("transforms", n)
        for n, aggregation in enumerate(settings.aggregations):
            yield aggregation.name, "aggregation", aggregation.plugin, aggregation.options, ("aggregations", n)
        for name, sink in settings.sinks.items():
            yield name, "sink", sink.plugin, sink.options, ("sinks", name)

    def _plug(self, node: str, kind: Kind, name: str, options: dict[str, object], path: Path) -> None:
        """Find the plugin and check its options; a built-in one is made, to hear what its own checks say."""
        try:
            plugin = self._catalog.find(kind, name)
        except PluginUnknown as unknown:
            self._problem("PLUGIN_UNKNOWN", (*path, "plugin"), str(unknown), nearest(name, unknown.known))
            return
        except PluginBroken as broken:
            self._problem("PLUGIN_BROKEN", (*path, "plugin"), str(broken), "mend the module, or name another plugin")
            return
        self._plugins[node] = plugin
        options = self._with_schema(plugin, options, path)
        self._options[node] = options
        try:
            if plugin.origin == BUILT_IN_ORIGIN:
                bind(plugin, options)
            else:
                check_options(plugin, options)
        except OptionsInvalid as invalid:
            where = self._file.where
            self._problems += problems(invalid.errors, lambda key: where(*key), invalid.model, (*path, "options"))

    def _with_schema(self, plugin: Plugin, options: dict[str, object], path: Path) -> dict[str, object]:
        """A schema is checked where rows come in and go out; the predecessor's files give one to each step as well."""
        if "schema" not in options:
            return options
        if plugin.kind in ("transform", "aggregation") and plugin.origin == BUILT_IN_ORIGIN:
            key: Path = (*path, "options", "schema")
            self._notices.append(f"{self._file.where(*key)}: {dotted(key)} is accepted and has no effect: the source's "
                                 "schema is checked, and a sink's")
            return {name: value for name, value in options.items() if name != "schema"}
        try:
            return {**options, "schema": schema_of(options["schema"])}
        except ValueError as error:
            self._problem("SCHEMA_INVALID", (*path, "options", "schema"), str(error), "see the row schema in the docs")
            return {name: value for name, value in options.items() if name != "schema"}

    def _conditions(self) -> None:
        for n, gate in enumerate(self._settings.gates):
            self._expression(gate.condition, ("row",), ("gates", n, "condition"))
        for n, aggregation in enumerate(self._settings.aggregations):
            self._trigger(aggregation.trigger, ("aggregations", n, "trigger"))

    def _trigger(self, trigger: TriggerSettings, path: Path) -> None:
        """A condition answers True or False; a count can be reached."""
        rows_max = self._settings.limits.batch_rows
        if trigger.count is not None and trigger.count > rows_max:
            self._problem("VALUE_INVALID", (*path, "count"), f"expected at most limits.batch_rows ({rows_max}), found "
                          f"{trigger.count}", "lower it, or raise the limit")
        if trigger.condition is None:
            return
        where = (*path, "condition")
        condition = self._expression(trigger.condition, batch.NAMES, where)
        with suppress(ArithmeticError, LookupError, TypeError, ValueError):
            if condition is not None and type(answer := condition(1, 0.0)) is not bool:
                self._problem("EXPRESSION_INVALID", where, f"expected a condition that is true or false, found one that is "
                              f"{shown(answer)}", "compare it with something")

    def _expression(self, text: str, names: tuple[str, ...], path: Path) -> Callable[..., object] | None:
        try:
            return compile_expression(text, names)
        except ExpressionInvalid as invalid:
            self._problem("EXPRESSION_INVALID", path, str(invalid), "see expressions in the docs")
            return None

    # --- the graph -----------------------------------------------------------------------------------------------

    def _shape(self, edges: list[Edge]) -> None:
        """No cycle; everything can be reached."""
        graph = _digraph(edges)
        names = {name: path for _, name, path in wiring.sections(self._file)}
        try:
            cycle = nx.find_cycle(graph)
        except nx.NetworkXNoCycle:
            cycle = []
        if cycle:
            way = " > ".join([edge[0] for edge in cycle] + [cycle[0][0]])
            self._problem("CYCLE", names.get(cycle[0][0], ()), f"expected no cycle, found {way}", "break it at one of these")
            return
        reached = {SOURCE} | (nx.descendants(graph, SOURCE) if SOURCE in graph else set())
        for name, path in names.items():
            if name not in reached:
                self._problem("NODE_UNREACHABLE", path, f"expected a way from the source to {name}, found none",
                              "wire it to a producer or a route, or remove it")

    def _graph(self, edges: list[Edge]) -> Graph:
        graph = _digraph(edges)
        steps: dict[str, int] = {}
        for node in nx.lexicographical_topological_sort(graph):
            steps[node] = max((steps[before] + 1 for before in graph.predecessors(node)), default=0)
        nodes = sorted(self._nodes(steps), key=lambda node: (node.step, node.id))
        return Graph(nodes=tuple(nodes), edges=tuple(edges))

    def _nodes(self, steps: Mapping[str, int]) -> Iterator[Node]:
        settings, file = self._settings, self._file
        attempts = settings.retry.max_attempts
        yield self._plugged(SOURCE, step=0, on_error=self._quarantine, settings_hash=file.hash_of("source"))
        for n, transform in enumerate(settings.transforms):
            yield self._plugged(transform.name, step=steps[transform.name], on_error=transform.on_error,
                                settings_hash=file.hash_of("transforms", n), attempts_max=attempts)
        for n, gate in enumerate(settings.gates):
            yield Node(id=gate.name, kind="gate", plugin="gate", step=steps[gate.name], on_error=gate.on_error,
                       settings_hash=file.hash_of("gates", n), fork_to=gate.fork_to)
        for n, aggregation in enumerate(settings.aggregations):
            yield self._plugged(aggregation.name, step=steps[aggregation.name], on_error=aggregation.on_error,
                                settings_hash=file.hash_of("aggregations", n), attempts_max=attempts,
                                batch=_batch_rule(aggregation))
        makers = {branch: gate.name for gate in settings.gates for branch in gate.fork_to}
        for n, coalesce in enumerate(settings.coalesce):
            yield Node(id=coalesce.name, kind="coalesce", plugin="coalesce", step=steps[coalesce.name],
                       settings_hash=file.hash_of("coalesce", n), coalesce=_coalesce_rule(coalesce, makers))
        for name, sink in settings.sinks.items():
            yield self._plugged(name, step=steps[name], on_error=sink.on_write_failure,
                                settings_hash=file.hash_of("sinks", name))

    def _plugged(self, node: str, *, step: int, on_error: str, settings_hash: str, attempts_max: int = 1,
                 batch: BatchRule | None = None) -> Node:
        plugin = self._plugins[node]
        return Node(id=node, kind=plugin.kind, plugin=plugin.name, plugin_version=_version(plugin),
                    code_hash=plugin.code_hash,
                    settings_hash=settings_hash, step=step, on_error=on_error, attempts_max=attempts_max,
                    effect=plugin.effect, expands=plugin.expands, batch=batch)


def _version(plugin: Plugin) -> str:
    """The distribution's version, plus the beginning of the hash of the module's source."""
    return f"{plugin.version}+{plugin.code_hash[:12]}" if plugin.code_hash else plugin.version


def _digraph(edges: list[Edge]) -> nx.DiGraph[Any]:
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_edges_from((edge.from_node, edge.to_node) for edge in edges)
    return graph


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else max(1, round(seconds * 1000))


def _coalesce_rule(settings: CoalesceSettings, makers: Mapping[str, str]) -> CoalesceRule:
    branches = tuple(settings.branches)
    return CoalesceRule(branches=branches, gate=makers[branches[0]] if branches else None, gathers=settings.gathers,
                        into=settings.into, policy=settings.policy, quorum=settings.quorum_count,
                        timeout_ms=_ms(settings.timeout_seconds), merge="list" if settings.gathers else settings.merge,
                        select_branch=settings.select_branch, collision=settings.union_collision_policy)


def _batch_rule(settings: AggregationSettings) -> BatchRule:
    trigger = settings.trigger
    return BatchRule(count=trigger.count, timeout_ms=_ms(trigger.timeout_seconds), condition=trigger.condition,
                     output_mode=settings.output_mode, expected_output_count=settings.expected_output_count)

