"""From names to edges: who produces a connection, who consumes it, and every name that leads nowhere.

Why apart: this is the only place that knows how a pipeline file names its connections; what comes out are nodes and edges.

Invariants: each connection has exactly one consumer (fan-out is a fork's) and at least one producer; a sink is named
directly; a branch is a connection, consumed by a step, a sink, or its coalesce.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from engine.pipeline_file import Path, PipelineFile
from engine.problems import Problem, nearest
from engine.settings import AggregationSettings, CoalesceSettings, GateSettings, TransformSettings
from ledger.graph import CONTINUE, DISCARD, FAILSINK, QUARANTINE, SOURCE, Edge, EdgeMode, error_label

FORK = "fork"


class Produced(NamedTuple):
    """One way out of a node: to the connection or sink `to`."""

    node: str
    to: str
    label: str
    mode: EdgeMode
    path: Path


class Wiring(NamedTuple):
    """The edges, and what is wrong. `carriers` maps (coalesce, producing node, label) to the branch it carries."""

    edges: list[Edge]
    carriers: dict[tuple[str, str, str], str]
    problems: list[Problem]


def wire(file: PipelineFile, on_validation_failure: str) -> Wiring:
    """Resolve every name in the file."""
    return _Wirer(file, on_validation_failure).wire()


def sections(file: PipelineFile) -> Iterator[tuple[str, str, Path]]:
    """(kind, name, path) of every node that the file names."""
    settings = file.settings
    for key, n, section in steps(file):
        yield key.removesuffix("s"), section.name, (key, n)
    for n, coalesce in enumerate(settings.coalesce):
        yield "coalesce", coalesce.name, ("coalesce", n)
    for name in settings.sinks:
        yield "sink", name, ("sinks", name)


Step = TransformSettings | GateSettings | AggregationSettings


def steps(file: PipelineFile) -> Iterator[tuple[str, int, Step]]:
    """(key, place, section) of the nodes that have an input and an `on_error`."""
    settings = file.settings
    kinds: tuple[tuple[str, Sequence[Step]], ...] = (
        ("transforms", settings.transforms), ("gates", settings.gates), ("aggregations", settings.aggregations),
    )  # fmt: skip
    for key, found in kinds:
        for n, section in enumerate(found):
            yield key, n, section


class _Wirer:
    def __init__(self, file: PipelineFile, on_validation_failure: str) -> None:
        self._file = file
        self._settings = file.settings
        self._quarantine = on_validation_failure
        self._edges: list[Edge] = []
        self._carriers: dict[tuple[str, str, str], str] = {}
        self._problems: list[Problem] = []
        self._consumers: dict[str, tuple[str, str | None]] = {}
        self._wrong: set[str] = set()

    def wire(self) -> Wiring:
        self._names()
        for connection, node, branch, path in self._consumed():
            self._consume(connection, node, branch, path)
        produced = list(self._produced())
        for one in produced:
            self._produce(one, produced)
        self._unfed(produced)
        self._diverts()
        return Wiring(self._edges, self._carriers, self._problems)

    def _problem(self, code: str, path: Path, what: str, next_step: str = "") -> None:
        self._problems.append(self._file.problem(code, path, what, next_step))

    def _names(self) -> None:
        seen: dict[str, str] = {SOURCE: "source"}
        for kind, name, path in sections(self._file):
            if name in seen:
                key = path if kind == "sink" else (*path, "name")
                self._problem("NAME_TWICE", key, f"expected one node named {name!r}, found a {seen[name]} and a {kind}",
                              "rename one of them")
            seen[name] = kind
        branches: dict[str, str] = {}
        for n, gate in enumerate(self._settings.gates):
            for branch in gate.fork_to:
                if branch in branches:
                    self._problem("BRANCH_TWICE", ("gates", n, "fork_to"), f"expected branch {branch!r} from one gate, "
                                  f"found it in {branches[branch]} and {gate.name}", "rename one of them")
                branches[branch] = gate.name

    # --- consumers -----------------------------------------------------------------------------------------------

    def _consumed(self) -> Iterator[tuple[str, str, str | None, Path]]:
        """(connection, node, branch that it carries, path)."""
        for key, n, section in steps(self._file):
            yield section.input, section.name, None, (key, n, "input")
        for n, coalesce in enumerate(self._settings.coalesce):
            if coalesce.input is not None:
                yield coalesce.input, coalesce.name, None, ("coalesce", n, "input")
            for branch, connection in coalesce.branches.items():
                yield connection, coalesce.name, branch, ("coalesce", n, "branches", branch)

    def _consume(self, connection: str, node: str, branch: str | None, path: Path) -> None:
        taken = self._consumers.get(connection)
        if taken is not None:
            self._problem("CONNECTION_SHARED", path, f"expected one consumer of {connection!r}, found {taken[0]} and {node}",
                          "fork at a gate to send a row to both; a coalesce takes {branch: connection} for a branch that "
                          "a step consumes")
        elif connection in self._settings.sinks:
            self._problem("CONNECTION_IS_SINK", path, f"expected a connection as input of {node}, found the sink "
                          f"{connection!r}", "rename the connection or the sink")
        else:
            self._consumers[connection] = (node, branch)

    # --- producers -----------------------------------------------------------------------------------------------

    def _produced(self) -> Iterator[Produced]:
        settings = self._settings
        yield Produced(SOURCE, settings.source.on_success, CONTINUE, "move", ("source", "on_success"))
        for key, n, section in steps(self._file):
            if not isinstance(section, GateSettings):
                yield Produced(section.name, section.on_success, CONTINUE, "move", (key, n, "on_success"))
        for n, gate in enumerate(settings.gates):
            for label, to in gate.routes.items():
                if to != FORK:
                    yield Produced(gate.name, to, label, "move", ("gates", n, "routes", label))
            for branch in gate.fork_to:
                yield Produced(gate.name, branch, branch, "copy", ("gates", n, "fork_to"))
        for n, coalesce in enumerate(settings.coalesce):
            yield Produced(coalesce.name, output_of(coalesce), CONTINUE, "move",
                           ("coalesce", n, "on_success" if coalesce.on_success else "name"))

    def _produce(self, one: Produced, produced: list[Produced]) -> None:
        if one.to in self._settings.sinks:
            self._edge(one.node, one.to, one.label, one.mode)
            return
        consumer = self._consumers.get(one.to)
        if consumer is not None:
            node, branch = consumer
            if branch is not None:
                self._carriers[node, one.node, one.label] = branch
            self._edge(one.node, node, one.label, one.mode)
            return
        self._wrong.add(one.to)
        unfed = [name for name in self._consumers if name not in {other.to for other in produced}]
        self._problem("CONNECTION_UNUSED", one.path, f"expected a consumer or a sink for {one.to!r}, which {one.node} "
                      "produces, found none", nearest(one.to, [*self._settings.sinks, *unfed]))

    def _unfed(self, produced: list[Produced]) -> None:
        made = {one.to for one in produced}
        for connection, node, branch, path in self._consumed():
            if connection not in made and connection not in self._settings.sinks:
                what = f"branch {branch!r} of {node}" if branch else node
                self._problem("CONNECTION_UNKNOWN", path, f"expected a producer of {connection!r}, which {what} consumes, "
                              "found none", nearest(connection, made - set(self._settings.sinks)))

    # --- off the normal path -------------------------------------------------------------------------------------

    def _diverts(self) -> None:
        """E3: every error edge leads to a sink that exists."""
        self._divert(SOURCE, self._quarantine, QUARANTINE, ("source", "options", "on_validation_failure"))
        for key, n, section in steps(self._file):
            if section.on_error is not None:
                self._divert(section.name, section.on_error, error_label(section.name), (key, n, "on_error"))
        for name, sink in self._settings.sinks.items():
            path: Path = ("sinks", name, "on_write_failure")
            if sink.on_write_failure == name:
                self._problem("FAILSINK_OWN", path, f"expected another sink for what {name} refuses, found itself",
                              "name another sink, or discard")
            else:
                self._divert(name, sink.on_write_failure, FAILSINK, path)

    def _divert(self, node: str, to: str, label: str, path: Path) -> None:
        if to == DISCARD:
            return
        if to in self._settings.sinks:
            self._edge(node, to, label, "divert")
        else:
            self._problem("ERROR_EDGE_MISSING", path, f"expected a sink or discard for what fails at {node}, found {to!r}",
                          nearest(to, [*self._settings.sinks, DISCARD]))

    def _edge(self, from_node: str, to_node: str, label: str, mode: EdgeMode) -> None:
        self._edges.append(Edge(from_node=from_node, to_node=to_node, label=label, mode=mode))


def output_of(coalesce: CoalesceSettings) -> str:
    """The connection or sink that a coalesce produces: its own name unless it says another."""
    return coalesce.on_success or coalesce.name
