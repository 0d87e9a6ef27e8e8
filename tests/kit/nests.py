"""Forks and gathered expansions inside one another, as text, as rows, and as what must come of them.

A `Shape` is drawn or written once a pipeline, a plan once a row: how many children each expansion has, and what becomes of
every leaf. The model walks the plan depth first, with the oracle's table and the ids of the contract; it shares nothing
with the engine and decides nothing from the log.

Invariant: it says the whole truth where nobody is tried again, and also otherwise as long as every group waits for all of
its own (`require_all`, `best_effort`): then the order in which they come decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

from hypothesis import strategies as st

from engine.bound import Transform
from engine.plugin_api import RetryableError, RowError
from ledger import events as e
from tests.kit.oracle import MERGES, Decision, Table
from tests.kit.pipelines import Ran, Sketch

ARRIVE, LATE, FILTER, ROUTE, LATE_FILTER = "arrive", "late", "filter", "route", "late_filter"
LATER = (LATE, LATE_FILTER)
ANY_POLICY = ("require_all", "best_effort", "first", "quorum")
PATIENT = ("require_all", "best_effort")
"""Policies whose decision does not depend on who comes first, as long as their timeout does not pass."""
PATIENCE_SECONDS = 10_000.0
CHILDREN_MAX, DEPTH_MAX = 3, 3

Plan = Any
"""A fate for a leaf, {branch: plan} for a fork, [plan] for an expansion; a fate in place of these two is their own."""
Place = tuple[int, ...]
"""The way from the outermost shape inwards; every name of a pipeline ends in it."""


class Shape(NamedTuple):
    """What stands between two connections: a `leaf` (one step), a `fork` with its join, an `expand` with its gather, or
    `spread`: an expansion that nothing gathers."""

    kind: str
    inner: tuple[Shape, ...] = ()
    policy: str = ""
    need: int = 0


LEAF = Shape("leaf")


class Ahead(NamedTuple):
    """What hears of a token's coming, with its row, and of its never coming."""

    arrives: Callable[[str, dict[str, Any]], None]
    is_lost: Callable[[], None]


def named(place: Place) -> str:
    """How the names of a place end."""
    return "".join(map(str, place))


# --- as a pipeline file ----------------------------------------------------------------------------------------------


class Nest:
    """The pipeline of a shape, and what its steps do."""

    def __init__(self, shape: Shape) -> None:
        self.steps: dict[str, Transform] = {}
        self._sketch = Sketch("rows", attempts=2, delay_seconds=1.0)
        self._later: set[tuple[str, str]] = set()
        self._chain(shape, (), "rows", "out")
        self.text = self._sketch.sink("out", "errors").text()

    def _chain(self, shape: Shape, place: Place, input_: str, to: str) -> None:
        suffix = named(place)
        if shape.kind == "leaf":
            self._step(f"leaf{suffix}", input_, to, self._leaf)
        elif shape.kind == "fork":
            branches = {f"b{n}": f"joining{suffix}{n}" for n in range(len(shape.inner))}
            self._step(f"plan{suffix}", input_, f"planned{suffix}", self._leaf)
            self._sketch.fork(f"split{suffix}", f"planned{suffix}", *(f"f{suffix}{name}" for name in branches))
            for n, (branch, there) in enumerate(branches.items()):
                self._step(f"pick{suffix}{n}", f"f{suffix}{branch}", f"picked{suffix}{n}", picking(branch))
                self._chain(shape.inner[n], (*place, n), f"picked{suffix}{n}", there)
            self._sketch.join(f"join{suffix}", {f"f{suffix}{name}": there for name, there in branches.items()}, shape.policy,
                              to, merge="nested", **_settings(shape))
        else:
            self._step(f"parts{suffix}", input_, f"children{suffix}", self._children, expands=True)
            gathered = to if shape.kind == "spread" else f"gathering{suffix}"
            self._chain(shape.inner[0], (*place, 0), f"children{suffix}", gathered)
            if shape.kind == "expand":
                self._sketch.gather(f"gather{suffix}", f"parts{suffix}", gathered, shape.policy, to, **_settings(shape))

    def _step(self, name: str, input_: str, to: str, call: Transform, *, expands: bool = False) -> None:
        self._sketch.step(name, input_, to, "errors", expands=expands)
        self.steps[name] = call

    def _leaf(self, row: Mapping[str, Any]) -> object:
        """Obey a fate; a row may be told to come later once."""
        fate, me = row["plan"], (str(row["plan"]), str(row["path"]))
        if fate == ROUTE:
            raise RowError("it was told to", "told_to")
        if fate in LATER and me not in self._later:
            self._later.add(me)
            raise RetryableError("not yet")
        return None if fate in (FILTER, LATE_FILTER) else row

    def _children(self, row: Mapping[str, Any]) -> object:
        if isinstance(row["plan"], str):
            return self._leaf(row)
        return [{"path": f"{row['path']}:{n}", "plan": plan} for n, plan in enumerate(row["plan"])]


def picking(branch: str) -> Transform:
    """A step that takes its branch's part of the plan."""
    def pick(row: Mapping[str, Any]) -> object:
        return {"path": f"{row['path']}.{branch}", "plan": row["plan"][branch]}

    return pick


def _settings(shape: Shape) -> dict[str, Any]:
    settings: dict[str, Any] = {"quorum_count": shape.need} if shape.policy == "quorum" else {}
    return settings | ({"timeout_seconds": PATIENCE_SECONDS} if shape.policy == "best_effort" else {})


# --- as what must come of it -----------------------------------------------------------------------------------------


class Model:
    """What becomes of rows: the end of every token by its id, the rows that come out, each group's decision, who is late."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.ends: dict[str, str] = {}
        self.out: list[dict[str, Any]] = []
        self.decided: dict[str, Decision] = {}
        self.late: list[str] = []

    def row(self, number: int, row: dict[str, Any]) -> None:
        """Take one source row through the whole."""
        self._through(self._shape, (), str(number), row, Ahead(self._out, lambda: None))

    def _out(self, token: str, row: dict[str, Any]) -> None:
        self.ends[token] = "completed"
        self.out.append(row)

    def _through(self, shape: Shape, place: Place, token: str, row: dict[str, Any], ahead: Ahead) -> None:
        plan = row["plan"]
        if isinstance(plan, str):
            self._leaf(plan, token, row, ahead)
        elif shape.kind == "fork":
            self._fork(shape, place, token, row, ahead)
        else:
            self._expand(shape, place, token, row, ahead)

    def _fork(self, shape: Shape, place: Place, token: str, row: dict[str, Any], ahead: Ahead) -> None:
        self.ends[token] = "forked"
        names = [f"f{named(place)}b{n}" for n in range(len(shape.inner))]
        group = _Group(self, shape, f"{token}+join{named(place)}", names, ahead)
        for n, name in enumerate(names):
            picked = {"path": f"{row['path']}.b{n}", "plan": row["plan"][f"b{n}"]}
            self._through(shape.inner[n], (*place, n), f"{token}.{name}", picked, group.branch(name))

    def _expand(self, shape: Shape, place: Place, token: str, row: dict[str, Any], ahead: Ahead) -> None:
        children = row["plan"]
        self.ends[token] = "expanded" if children or shape.kind == "expand" else "dropped_by_filter"
        names = [str(n) for n in range(len(children))]
        gather = None
        if shape.kind == "expand":
            gather = _Group(self, shape, f"{token}+gather{named(place)}", names, ahead, row)
        for n, name in enumerate(names):
            child = {"path": f"{row['path']}:{n}", "plan": children[n]}
            self._through(shape.inner[0], (*place, 0), f"{token}:{n}", child, gather.branch(name) if gather else ahead)

    def _leaf(self, fate: str, token: str, row: dict[str, Any], ahead: Ahead) -> None:
        if fate in (ARRIVE, LATE):
            ahead.arrives(token, row)
            return
        self.ends[token] = "routed" if fate == ROUTE else "dropped_by_filter"
        ahead.is_lost()


class _Group:
    def __init__(self, model: Model, shape: Shape, id_: str, names: list[str], ahead: Ahead,
                 parent: dict[str, Any] | None = None) -> None:
        self._model = model
        self._id = id_
        self._table = Table(shape.policy, tuple(names), shape.need)
        self._ahead = ahead
        self._parent = parent
        self._arrived: dict[str, tuple[str, dict[str, Any]]] = {}
        self._lost: list[str] = []
        if parent is not None and not names and shape.policy in PATIENT:
            self._decide(Decision(MERGES, "all_arrived"))
        elif parent is not None and len(names) < max(shape.need, 1):
            self._decide(self._table.on_loss([], []))

    def branch(self, name: str) -> Ahead:
        """What is ahead of the carrier of a branch."""
        return Ahead(partial(self._arrives, name), partial(self._is_lost, name))

    def _arrives(self, name: str, token: str, row: dict[str, Any]) -> None:
        if self._id in self._model.decided:
            self._model.ends[token] = "failed"
            self._model.late.append(token)
            return
        self._arrived[name] = (token, row)
        self._decide(self._table.on_arrival([*self._arrived], self._lost))

    def _is_lost(self, name: str) -> None:
        if self._id not in self._model.decided:
            self._lost.append(name)
            self._decide(self._table.on_loss([*self._arrived], self._lost))

    def _decide(self, decision: Decision | None) -> None:
        if decision is None:
            return
        self._model.decided[self._id] = decision
        merges = decision.kind == MERGES
        for token, _ in self._arrived.values():
            self._model.ends[token] = "coalesced" if merges else "failed"
        if not merges:
            self._ahead.is_lost()
            return
        rows = {name: self._arrived[name][1] for name in self._table.branches if name in self._arrived}
        self._ahead.arrives(self._id, rows if self._parent is None else {**self._parent, "items": [*rows.values()]})


# --- what it weighs --------------------------------------------------------------------------------------------------


def weigh(ran: Ran) -> Fraction:
    """What the leaves of a sealed run weigh (law T7), read from births and ends alone."""
    weights: dict[str, Fraction] = {}
    empty: dict[str, Fraction] = {}
    for event in ran.events:
        if isinstance(event, e.RowRead):
            weights[event.token] = Fraction(1)
        elif isinstance(event, e.TokenForked):
            weights |= {f"{event.token}.{name}": weights[event.token] / len(event.branches) for name in event.branches}
        elif isinstance(event, e.TokenExpanded):
            weights |= {f"{event.token}:{n}": weights[event.token] / event.count for n in range(event.count)}
            if not event.count and ran.outcomes[event.token] == "expanded":
                empty[event.token] = weights[event.token]
        elif isinstance(event, e.TokensCoalesced) and event.facts is not None:
            consumed = [weights[arrival.token] for arrival in event.facts.arrival_order]
            weights[event.merged] = sum(consumed, Fraction(0)) if consumed else empty.pop(event.group.rpartition("+")[0])
    inner = ("forked", "expanded", "coalesced")
    leaves = [weights[token] for token, outcome in ran.outcomes.items() if outcome not in inner]
    return sum([*leaves, *empty.values()], Fraction(0))


# --- drawn -----------------------------------------------------------------------------------------------------------


@st.composite
def shapes(draw: st.DrawFn, policies: tuple[str, ...], depth: int = DEPTH_MAX) -> Shape:
    """A fork, a gathered expansion, or (outermost) one that nothing gathers, with others or leaves inside."""
    kinds = ["fork", "expand", "expand", *(["spread"] if depth == DEPTH_MAX else [])]
    kind = draw(st.sampled_from([*kinds, *(["leaf"] if depth < DEPTH_MAX else [])]))
    if kind == "leaf" or depth == 0:
        return LEAF
    count = 2 if kind == "fork" else 1
    inner = tuple(draw(shapes(policies, depth - 1)) for _ in range(count))
    policy = draw(st.sampled_from(policies))
    return Shape(kind, inner, policy, draw(st.integers(1, 2)) if policy == "quorum" else 0)


@st.composite
def plans(draw: st.DrawFn, shape: Shape, fates: tuple[str, ...]) -> Plan:
    """What becomes of a row that comes to the shape."""
    if shape.kind == "leaf":
        return draw(st.sampled_from(fates))
    if draw(st.integers(0, 11)) == 0:
        return draw(st.sampled_from((FILTER, ROUTE)))
    if shape.kind == "fork":
        return {f"b{n}": draw(plans(inner, fates)) for n, inner in enumerate(shape.inner)}
    return draw(st.lists(plans(shape.inner[0], fates), max_size=CHILDREN_MAX))
