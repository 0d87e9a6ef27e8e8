"""Every tiny pipeline: a fork, a gathered expansion, one in the other, a batch, a sink that refuses; whatever becomes of
each branch, child, member or row.

Why: what random pipelines seldom make stands here whole. A row says what is to become of it at every node; the oracle is the
simulator's own.

Invariant: enumerated in one fixed order; a place in it repeats a case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

from tests.simulation.drawn import DELIVERIES, SINKS, Case, Delivery, Item
from tests.simulation.drawn_answers import NOWHERE, REFUSED, REFUSED_LATE
from tests.simulation.predicted_alone import PATIENT_MS
from tests.simulation.predicted_plan import (
    DISCARD,
    ERROR,
    FORK,
    LATER,
    NONSENSE,
    NOTHING,
    RAISES,
    ROW,
    ROWS,
    Answer,
    Batch,
    Choice,
    Gate,
    Join,
    Node,
    Output,
    Pipeline,
    Row,
    Step,
    Summed,
)
from tests.simulation.simulated_examination import Examination, Report, at_sinks, every_commit

FATES = ("arrives", "differs", "filtered", "diverted", "discarded", "failed", "away", "late")
FEW_FATES = ("arrives", "filtered", "diverted", "late")
DELAY_MS = 40
TIMEOUTS_MS = (10, 300)
"""Before a late one comes, and after."""
BATCH_FATES = ("all", "each", "nothing", "later", "error", "raises", "nonsense")


class Tiny(NamedTuple):
    """One pipeline, and the lists of rows to run it with: each list is a run."""

    name: str
    pipeline: Pipeline
    runs: tuple[tuple[Row, ...], ...]


class Fated:
    """Answers that rows bring along, under the name of the node."""

    def step(self, node: Step, row: Row, failures: int) -> Answer:
        """See `predicted_plan.Answers`."""
        if node.expands:
            fates: Sequence[Any] = row["children"]
            return Answer(ROWS, tuple({"n": row["n"], "part": n, "work": fate} for n, fate in enumerate(fates)))
        fate = row.get(node.name.removeprefix("drop_"), "arrives")
        if fate in ("diverted", "discarded"):
            return Answer(ERROR, code="told_to")
        if fate == "filtered":
            return Answer(NOTHING)
        if fate == "late" and not failures:
            return Answer(LATER)
        return Answer(ROW, ({**row, "last": node.name if fate == "differs" else "same"},))

    def gate(self, node: Gate, row: Row) -> Choice:
        """See `predicted_plan.Answers`."""
        if FORK in node.routes.values():
            return Choice(ROW, "all")
        fate = row[node.name.removeprefix("way_")]
        return Choice(ROW, {"away": "away", "failed": NOWHERE, "discarded": "drop"}.get(fate, "go"))

    def batch(self, node: Batch, rows: Sequence[Row], failures: int) -> Summed:
        """See `predicted_plan.Answers`: a member says what becomes of the batch, each what becomes of itself; the same of
        the same members in any order."""
        fate = rows[0]["batch"]
        kinds = {"error": ERROR, "raises": RAISES, "nonsense": NONSENSE}
        if fate in kinds or (fate == "later" and not failures):
            return Summed(kinds.get(fate, LATER), code="told_to" if fate == "error" else "")
        rejected = tuple((n, "odd") for n, row in enumerate(rows) if row["member"] == "rejected")
        kept = [n for n, row in enumerate(rows) if row["member"] != "rejected"]
        if not node.passes:
            kept.sort(key=lambda n: int(rows[n]["n"]))
        if node.passes or fate == "each":
            return Summed(ROWS, tuple(Output({**rows[n], "of": len(rows)}, (n,)) for n in kept), rejected)
        outputs = () if fate == "nothing" or not kept else (Output({"n": [rows[n]["n"] for n in kept]}, None),)
        return Summed(ROWS, outputs, rejected)

    def refuses(self, sink: str, row: Row) -> str | None:
        """See `predicted_plan.Answers`."""
        if sink in row.get("refuse", ()):
            return REFUSED
        return REFUSED_LATE if sink in row.get("refuse_late", ()) else None


@lru_cache(maxsize=1)
def all_tiny() -> tuple[Tiny, ...]:
    """All of them."""
    return (*forks(), *gathers(), *nested(), *batches(), *sinks())


def numbers() -> range:
    """The numbers of all tiny cases."""
    return range(sum(len(tiny.runs) for tiny in all_tiny()))


def case_of(number: int) -> Case:
    """The tiny case of a number, all of whose rows are run at once."""
    place = number
    for tiny in all_tiny():
        if place < len(tiny.runs):
            return _case(number, tiny.pipeline, tiny.runs[place])
        place -= len(tiny.runs)
    raise IndexError(number)


def single(case: Case, n: int) -> Case:
    """The case with this row alone."""
    return case._replace(items=(case.items[n % len(case.items)],))


def delivered(case: Case, delivery: Delivery) -> Case:
    """The case, all of whose sinks promise this."""
    return case._replace(deliveries=dict.fromkeys(case.deliveries, delivery))


def _case(number: int, pipeline: Pipeline, rows: Sequence[Row]) -> Case:
    items = tuple(Item("row", row) for row in rows)
    return Case(number, pipeline, items, Fated(), {sink.name: DELIVERIES[0] for sink in SINKS})


def examine_tiny(number: int) -> Report:
    """Every row of a tiny case at once, uncut; then each alone (a batch's all together), cut at every commit; what has a
    refusal in it also at every sink, whatever that promises."""
    case = case_of(number)
    examination = Examination(case)
    examination.begin()
    report = examination.report()
    together = any("batch" in item.row or len(case.items) < 3 for item in case.items)
    for one in [case] if together else [single(case, n) for n in range(len(case.items))]:
        for delivery in DELIVERIES if len(case.items) < 3 else DELIVERIES[:1]:
            again = cut_at_every_place(delivered(one, delivery))
            report = Report(number, report.wrong + again.wrong, report.seen + again.seen)
    return report


def cut_at_every_place(case: Case) -> Report:
    """The case cut at every commit, and at every sink in every way."""
    examination = Examination(case)
    uncut = examination.begin()
    if uncut is not None:
        examination.cut((*every_commit(uncut), *at_sinks(uncut)))
    return examination.report()


def _pipeline(nodes: Sequence[Node], attempts: int = 2) -> Pipeline:
    return Pipeline("rows", DISCARD, attempts, DELAY_MS, tuple(nodes), SINKS)


def _numbered(rows: Iterator[Mapping[str, Any]]) -> tuple[Row, ...]:
    return tuple({"n": n, **row} for n, row in enumerate(rows))


# --- joins -----------------------------------------------------------------------------------------------------------


def _policies(count: int) -> Iterator[dict[str, Any]]:
    """Every policy, every quorum, with no timeout, a short one and a longer one where it may have them."""
    yield {"policy": "first"}
    for timeout_ms in (*TIMEOUTS_MS, PATIENT_MS):
        yield {"policy": "best_effort", "timeout_ms": timeout_ms}
    for limit_ms in (None, *TIMEOUTS_MS):
        yield {"policy": "require_all", "timeout_ms": limit_ms}
        yield from ({"policy": "quorum", "need": need + 1, "timeout_ms": limit_ms} for need in range(count))


def _merges(branches: Sequence[str]) -> Iterator[dict[str, str]]:
    yield {"merge": "nested"}
    yield from ({"merge": "union", "collision": how} for how in ("last_wins", "first_wins", "fail"))
    yield from ({"merge": "select", "select": branch} for branch in branches)


def _way(name: str, input_: str, to: str) -> list[Node]:
    """A gate, and the two steps to which it leads: one whose errors go to a sink, one whose are discarded."""
    return [
        Gate(f"way_{name}", input_, {"go": f"go_{name}", "away": "side", "drop": f"to_drop_{name}"}),
        Step(name, f"go_{name}", to, "errors"),
        Step(f"drop_{name}", f"to_drop_{name}", to, DISCARD),
    ]


def forks() -> Iterator[Tiny]:
    """A fork of two branches, in both orders, by every policy and merge; a row for each pair of fates."""
    names = ("a", "b")
    rows = _numbered(dict(zip(names, pair, strict=True)) for pair in product(FATES, repeat=2))
    for order, policy, merge in product((names, names[::-1]), _policies(2), _merges(names)):
        nodes: list[Node] = [Gate("split", "rows", {"all": FORK}, tuple(f"to_{name}" for name in order))]
        for name in names:
            nodes += _way(name, f"to_{name}", f"from_{name}")
        chosen = {**merge, "select": f"to_{merge['select']}"} if "select" in merge else merge
        carried = {f"to_{name}": f"from_{name}" for name in names}
        join = Join("join", to="joined", branches=carried, **policy, **chosen)
        yield Tiny(f"fork {order} {policy} {merge}", _pipeline([*nodes, join, Step("after", "joined", "out", DISCARD)]),
                   (rows,))


def gathers() -> Iterator[Tiny]:
    """An expansion to none, one or two children, gathered by every policy; a row for each list of fates."""
    rows = _numbered({"children": list(fates)} for count in range(3) for fates in product(FATES, repeat=count))
    for policy in _policies(3):
        nodes = [Step("parts", "rows", "children", "errors", expands=True), *_way("work", "children", "done"),
                 Join("gather", to="joined", gathers="parts", input="done", merge="list", **policy),
                 Step("after", "joined", "out", DISCARD)]
        yield Tiny(f"gather {policy}", _pipeline(nodes), (rows,))


def nested() -> Iterator[Tiny]:
    """A fork in a branch of a fork, by every two policies; a row for each three fates."""
    rows = _numbered({"a": a, "b": b, "c": c} for a, b, c in product(FEW_FATES, repeat=3))
    for inner, outer in product(_policies(2), repeat=2):
        if "timeout_ms" in inner and "timeout_ms" in outer and inner["timeout_ms"] != outer["timeout_ms"]:
            continue
        nodes: list[Node] = [Gate("split", "rows", {"all": FORK}, ("to_inner", "to_c")),
                             Gate("split_in", "to_inner", {"all": FORK}, ("to_a", "to_b"))]
        for name in "abc":
            nodes += _way(name, f"to_{name}", f"from_{name}")
        nodes += [Join("join_in", to="inner", branches={"to_a": "from_a", "to_b": "from_b"}, **inner),
                  Join("join", to="out", branches={"to_inner": "inner", "to_c": "from_c"}, **outer)]
        yield Tiny(f"nested {inner} {outer}", _pipeline(nodes), (rows,))


# --- batches and sinks -----------------------------------------------------------------------------------------------


def batches() -> Iterator[Tiny]:
    """A batch by every trigger, in both modes, also inside a corridor; three rows for each fate of batch and members."""
    triggers: Sequence[dict[str, Any]] = ({"full_at": 1}, {"full_at": 2}, {"at_least": 2}, {"timeout_ms": 20}, {})
    runs = tuple(_numbered({"batch": fate, "member": member} for member in members)
                 for fate in BATCH_FATES for members in product(("taken", "rejected"), repeat=3))
    for trigger, passes, on_error in product(triggers, (False, True), (DISCARD, "errors")):
        batch = Batch("batch", "rows", "out", on_error, passes=passes)._replace(**trigger)
        yield Tiny(f"batch {trigger} {'passes' if passes else 'makes'} {on_error}", _pipeline([batch]), runs)
    for trigger, policy in product(triggers, _policies(2)):
        nodes: list[Node] = [
            Gate("split", "rows", {"all": FORK}, ("to_a", "to_b")),
            Batch("batch", "to_a", "from_a", "errors", passes=True)._replace(**trigger),
            Join("join", to="out", branches={"to_a": "from_a", "to_b": "to_b"}, **policy),
        ]
        yield Tiny(f"batch in a corridor {trigger} {policy}", _pipeline(nodes), runs[:16])


def sinks() -> Iterator[Tiny]:
    """A sink that refuses, at once or when it is written, and a failsink that does so too."""
    says: Sequence[dict[str, list[str]]] = ({}, {"refuse": ["out"]}, {"refuse_late": ["out"]}, {"refuse": ["out", "spare"]},
                                            {"refuse": ["out"], "refuse_late": ["spare"]})
    runs = tuple(_numbered(iter(pair)) for pair in product(says, repeat=2))
    yield Tiny("sink", _pipeline([Step("only", "rows", "out", DISCARD)]), runs)
