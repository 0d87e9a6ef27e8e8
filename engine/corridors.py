"""The corridors between a fork (or a gathered expansion) and its coalesce, and the rules that hold inside them.

Why: between a fork and its coalesce each branch has exactly one live carrier. What could multiply it, swallow it into a
batch, or let an unforked row in, is a build error with the fix named; what can only divert it is a warning (E8).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import networkx as nx

from engine.pipeline_file import PipelineFile
from engine.problems import Problem, nearest
from engine.wiring import Wiring, sections, steps
from ledger.graph import DISCARD, SOURCE, Edge

WARNING = "DIVERT_COALESCE_REQUIRE_ALL"


class Corridor(NamedTuple):
    """The nodes between `opener` and `coalesce`, by branch (one unnamed branch for a gather)."""

    opener: str
    coalesce: str
    branches: Mapping[str, frozenset[str]]

    @property
    def nodes(self) -> frozenset[str]:
        """All nodes of the corridor, the two ends aside."""
        return frozenset().union(*self.branches.values())


class Checked(NamedTuple):
    """What the corridors of a pipeline come to."""

    problems: list[Problem]
    warnings: list[Problem]


def check(file: PipelineFile, wiring: Wiring, expanding: frozenset[str]) -> Checked:
    """Check every coalesce of a pipeline whose edges are all there and have no cycle."""
    return _Checker(file, wiring, expanding).check()


class _Checker:
    def __init__(self, file: PipelineFile, wiring: Wiring, expanding: frozenset[str]) -> None:
        self._file = file
        self._wiring = wiring
        self._expanding = expanding
        self._forward = [edge for edge in wiring.edges if edge.mode != "divert"]
        self._graph = _graph_of(self._forward)
        self._kinds = {name: kind for kind, name, _ in sections(file)}
        self._places = {name: path for _, name, path in sections(file)}
        self._makers = {branch: gate.name for gate in file.settings.gates for branch in gate.fork_to}
        self._joined: dict[str, str] = {}
        self._problems: list[Problem] = []

    def check(self) -> Checked:
        corridors = [corridor for corridor in map(self._corridor, range(len(self._file.settings.coalesce))) if corridor]
        for corridor in corridors:
            self._alone(corridor)
            self._entered_by_its_opener(corridor)
            self._one_carrier(corridor, corridors)
        return Checked(self._problems, [] if self._problems else self._warnings(corridors))

    def _problem(self, code: str, node: str, what: str, next_step: str) -> None:
        self._problems.append(self._file.problem(code, self._places.get(node, ()), what, next_step))

    # --- which corridors there are -------------------------------------------------------------------------------

    def _corridor(self, n: int) -> Corridor | None:
        settings = self._file.settings.coalesce[n]
        if settings.gathers is not None:
            return self._gather(settings.name, settings.gathers)
        unmade = [branch for branch in settings.branches if branch not in self._makers]
        if unmade:
            self._problem("BRANCH_UNMADE", settings.name, f"expected a fork that makes branch {unmade[0]!r} of "
                          f"{settings.name}, found none",
                          nearest(unmade[0], self._makers) or "list the branch in a gate's fork_to")
            return None
        gates = sorted({self._makers[branch] for branch in settings.branches})
        if len(gates) > 1:
            self._problem("BRANCHES_OF_TWO_FORKS", settings.name, f"expected all branches of {settings.name} from one gate, "
                          f"found {gates[0]} and {gates[1]}", "join each fork in a coalesce of its own")
            return None
        for branch in settings.branches:
            if branch in self._joined:
                self._problem("BRANCH_JOINED_TWICE", settings.name, f"expected branch {branch!r} in one coalesce, found it "
                              f"in {self._joined[branch]} and {settings.name}", "remove it from one of them")
                return None
        self._joined.update(dict.fromkeys(settings.branches, settings.name))
        return Corridor(gates[0], settings.name, {
            branch: self._between(gates[0], branch, settings.name) for branch in settings.branches
        })

    def _gather(self, coalesce: str, step: str) -> Corridor | None:
        if step not in self._expanding:
            self._problem("GATHERS_NOTHING", coalesce, f"expected {coalesce} to gather an expanding step, found {step!r}",
                          "name a transform whose plugin returns list[...]")
            return None
        if step in self._joined:
            self._problem("GATHERED_TWICE", coalesce, f"expected {step} to be gathered once, found it in "
                          f"{self._joined[step]} and {coalesce}", "remove one of them")
            return None
        self._joined[step] = coalesce
        return Corridor(step, coalesce, {"": self._between(step, "continue", coalesce)})

    def _between(self, opener: str, label: str, coalesce: str) -> frozenset[str]:
        """The nodes on the ways from an edge to the coalesce."""
        first = next((edge.to_node for edge in self._forward if (edge.from_node, edge.label) == (opener, label)), None)
        if first is None or first == coalesce or coalesce not in self._graph:
            return frozenset()
        after = {first} | nx.descendants(self._graph, first)
        return frozenset(after & nx.ancestors(self._graph, coalesce))

    # --- what must hold in them ----------------------------------------------------------------------------------

    def _alone(self, corridor: Corridor) -> None:
        """Branches do not meet before their coalesce, and each arrives by the connection that says so."""
        seen: dict[str, str] = {}
        for branch, nodes in corridor.branches.items():
            for node in sorted(nodes):
                if node in seen:
                    self._problem("BRANCHES_MEET", node, f"expected branches {seen[node]!r} and {branch!r} to meet at "
                                  f"{corridor.coalesce}, found both at {node}", "give each branch a step of its own")
                seen[node] = branch
        for (coalesce, node, label), branch in self._wiring.carriers.items():
            own = corridor.branches.get(branch)
            direct = (node, label) == (corridor.opener, branch)
            if coalesce == corridor.coalesce and own is not None and not direct and node not in own:
                self._problem("BRANCH_CARRIER", coalesce, f"expected branch {branch!r} of {coalesce} to come from its own "
                              f"steps {sorted(own)}, found it carried by {node}", "name the connection that carries it")

    def _entered_by_its_opener(self, corridor: Corridor) -> None:
        """No row comes to the coalesce that was not forked (or expanded) for it."""
        labels = set(corridor.branches) if "" not in corridor.branches else {"continue"}
        rest = _graph_of([edge for edge in self._forward
                          if not (edge.from_node == corridor.opener and edge.label in labels)])
        if corridor.coalesce in rest and SOURCE in rest and nx.has_path(rest, SOURCE, corridor.coalesce):
            way = nx.shortest_path(rest, SOURCE, corridor.coalesce)
            self._problem("COALESCE_BYPASSED", corridor.coalesce, f"expected every way to {corridor.coalesce} to pass the "
                          f"fork at {corridor.opener}, found {' > '.join(way)}", "send that way past the coalesce")

    def _one_carrier(self, corridor: Corridor, corridors: list[Corridor]) -> None:
        """Inside, nothing multiplies a branch without bringing it together again, and nothing swallows it."""
        inner = {other.opener: other for other in corridors if other.coalesce in corridor.nodes}
        for other in inner.values():
            self._left_early(corridor, other)
        modes = {one.name: one.output_mode for one in self._file.settings.aggregations}
        forks = {gate.name: set(gate.fork_to) for gate in self._file.settings.gates if gate.fork_to}
        between = f"between {corridor.opener} and {corridor.coalesce}"
        for node in sorted(corridor.nodes):
            if modes.get(node) == "transform":
                self._problem("AGGREGATION_IN_CORRIDOR", node, f"expected no transform-mode aggregation {between}, found "
                              f"{node}", "set output_mode: passthrough, or aggregate after the coalesce")
            if node in self._expanding and node not in inner:
                self._problem("EXPAND_IN_CORRIDOR", node, f"expected what {node} expands to be gathered {between}, found "
                              "no coalesce that does", f"add a coalesce with gathers: {node}")
            if node in forks and (node not in inner or set(inner[node].branches) != forks[node]):
                self._problem("FORK_IN_CORRIDOR", node, f"expected the fork at {node} to join whole in one coalesce "
                              f"{between}", f"join {sorted(forks[node])} in one coalesce there")

    def _left_early(self, corridor: Corridor, inner: Corridor) -> None:
        """A row of an inner fork comes to the outer coalesce only through the inner one, for it carries the inner branch."""
        inside = inner.nodes
        for edge in self._forward:
            branch = edge.from_node == inner.opener and edge.label in inner.branches
            leaves = branch or edge.from_node in inside
            ahead = edge.to_node == corridor.coalesce or edge.to_node in corridor.nodes
            if leaves and ahead and edge.to_node not in inside and edge.to_node != inner.coalesce:
                self._problem("COALESCE_SKIPPED", edge.from_node, f"expected every way from {inner.opener} to "
                              f"{corridor.coalesce} to pass {inner.coalesce}, found {edge.from_node} > {edge.to_node} "
                              f"({edge.label})", f"send that way to {inner.coalesce}, or past {corridor.coalesce}")

    def _warnings(self, corridors: list[Corridor]) -> list[Problem]:
        """E8: an error edge in the corridor of a `require_all` fails every group whose row takes it.

        Of corridors in one another the innermost counts: its coalesce is the one that hears of the loss.
        """
        policies = {one.name: one.policy for one in self._file.settings.coalesce}
        routes = {section.name: section.on_error for _, _, section in steps(self._file)}
        outermost_first = sorted(corridors, key=lambda corridor: len(corridor.nodes), reverse=True)
        innermost = {node: corridor for corridor in outermost_first for node in corridor.nodes}
        return [
            Problem(WARNING, f"an error at {node} fails the whole group at {innermost[node].coalesce} (require_all), which "
                    f"{innermost[node].opener} opens", self._file.where(*self._places[node]),
                    "another policy would go on without the branch")
            for node in self._places
            if node in innermost and policies[innermost[node].coalesce] == "require_all"
            and routes.get(node) not in (None, DISCARD)
        ]


def _graph_of(edges: list[Edge]) -> nx.DiGraph[Any]:
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_edges_from((edge.from_node, edge.to_node) for edge in edges)
    return graph
