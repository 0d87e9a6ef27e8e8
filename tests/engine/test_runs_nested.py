"""Groups inside groups in real runs: forks, joins, expansions and gathers in one another, each keyed by its own lineage.

Whatever is drawn, the model of `tests.kit.nests` says what must come of it, token by token, under the ids of the contract.
A failure prints the shape and the plans; `go(shape, plans)` runs it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from engine.plugin_api import RetryableError, RowError
from ledger import events as e
from tests.kit.admissible import inadmissible
from tests.kit.forks import Row, Settings, settings_of
from tests.kit.nests import (
    ANY_POLICY,
    ARRIVE,
    FILTER,
    LATE,
    LATE_FILTER,
    PATIENT,
    ROUTE,
    Model,
    Nest,
    Plan,
    Shape,
    plans,
    shapes,
    weigh,
)
from tests.kit.oracle import FAILS, MERGES, Decision
from tests.kit.pipelines import Ran, Sketch, failing, tried

ROWS_MAX = 5
SOMETIMES = {"a join in a gather", "a gather in a join", "a gather in a gather", "a join in a join", "an inner failure",
             "two rows at once", "an empty gather", "an empty gather that fails", "late", "not gathered"}  # fmt: skip
slow = settings(max_examples=40, deadline=None, print_blob=True,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


# --- any nest at all -------------------------------------------------------------------------------------------------


@st.composite
def drawn(draw: st.DrawFn, policies: tuple[str, ...], fates: tuple[str, ...]) -> tuple[Shape, list[Plan]]:
    """A shape, and the plans of a few rows."""
    shape = draw(shapes(policies))
    return shape, draw(st.lists(plans(shape, fates), min_size=1, max_size=ROWS_MAX))


def modelled(shape: Shape, made: Sequence[Plan]) -> Model:
    """What the model says of the plans."""
    model = Model(shape)
    for n, plan in enumerate(made):
        model.row(n, {"path": str(n), "plan": plan})
    return model


def go(shape: Shape, made: Sequence[Plan]) -> tuple[Ran, Model]:
    """Run the plans, and what the model says of them."""
    note(f"go({shape!r}, {made!r})")
    nest = Nest(shape)
    rows = [{"path": str(n), "plan": plan} for n, plan in enumerate(made)]
    return tried(nest.text, rows, nest.steps), modelled(shape, made)


def decisions(ran: Ran) -> dict[str, Decision]:
    """By group, how it was closed."""
    merged = {event.group: Decision(MERGES, event.trigger) for event in ran.of(e.TokensCoalesced)}
    failed = {event.group: Decision(FAILS, event.trigger, event.reason) for event in ran.of(e.CoalesceFailed)}
    assert merged.keys().isdisjoint(failed)
    return {**merged, **failed}


def canonical(rows: Sequence[Any]) -> list[bytes]:
    """The rows without their order."""
    return sorted(msgspec.json.encode(row, order="sorted") for row in rows)


@slow
@given(drawn(ANY_POLICY, (ARRIVE, ARRIVE, FILTER, ROUTE)))
def test_every_nest_comes_to_what_the_contract_says(made: tuple[Shape, list[Plan]]) -> None:
    """B2, C1, C3, E9, G6, law C1, law C4, law T1, law T5, law T6, law T7: ids, ends, decisions, rows, weights."""
    ran, model = go(*made)
    assert ran.outcomes == model.ends
    assert ran.rows("out") == model.out
    assert decisions(ran) == model.decided
    assert inadmissible(ran.events, ran.graph) == []
    assert weigh(ran) == ran.receipt.rows


@slow
@given(drawn(PATIENT, (ARRIVE, ARRIVE, FILTER, LATE, LATE, LATE_FILTER)))
def test_rows_whose_groups_interleave_come_to_the_same(made: tuple[Shape, list[Plan]]) -> None:
    """B2, C1, C3, G6, law T1, law T7: groups of all rows wait side by side, and each gets its own."""
    ran, model = go(*made)
    assert ran.outcomes == model.ends
    assert canonical(ran.rows("out")) == canonical(model.out)
    assert {group: one.kind for group, one in decisions(ran).items()} == {
        group: one.kind for group, one in model.decided.items()}
    assert inadmissible(ran.events, ran.graph) == []
    assert weigh(ran) == ran.receipt.rows


def test_the_interesting_cases_occur_among_them() -> None:
    """G6: what the properties above say of nests is said of these; the model is asked, which they hold the runs to."""
    met: set[str] = set()

    @settings(max_examples=300, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(drawn(ANY_POLICY, (ARRIVE, ARRIVE, FILTER, ROUTE, LATE, LATE_FILTER)))
    def meet(made: tuple[Shape, list[Plan]]) -> None:
        met.update(cases(*made))

    meet()
    assert SOMETIMES - met == set()


def cases(shape: Shape, made: Sequence[Plan]) -> set[str]:
    """Which of the cases above are here."""
    model = modelled(shape, made)
    found = {"not gathered"} if shape.kind == "spread" else set()
    gathered = {group.rpartition("+")[0] for group in model.decided if "+gather" in group}
    for group, decision in model.decided.items():
        parent, _, node = group.rpartition("+")
        kind = node.rstrip("0123456789")
        outer, _, branch = parent.rpartition(":")
        around = "join" if "." in branch else "gather" if outer in gathered else None
        if around:
            found |= {f"a {kind} in a {around}", *(["an inner failure"] if decision.kind == FAILS else [])}
        if kind == "gather" and f"{parent}:0" not in model.ends:
            found.add("an empty gather" if decision.kind == MERGES else "an empty gather that fails")
    found |= {"late" for _ in model.late}
    return found | ({"two rows at once"} if sum("late" in str(plan) for plan in made) > 1 else set())


# --- one of each -----------------------------------------------------------------------------------------------------


def numbered(count: int) -> list[dict[str, int]]:
    """So many children."""
    return [{"n": n} for n in range(count)]


def gather_in_branch(outer: str = "require_all", **settings: Any) -> Sketch:
    """`split -> (deep: parts -> work -> gather; flat) -> join -> out`."""
    sketch = Sketch("rows", attempts=2).fork("split", "rows", "deep", "flat")
    sketch.step("parts", "deep", "children", expands=True).step("work", "children", "worked")
    sketch.gather("gather", "parts", "worked", "require_all", "gathered").step("after", "gathered", "done")
    return sketch.join("join", {"deep": "done", "flat": "flat"}, outer, "out", merge="nested", **settings).sink("out")


def test_a_gather_inside_one_branch_of_a_fork() -> None:
    """C1, G6, B2: the gather's merge is the branch's one carrier; ids say where each came from."""
    ran = tried(gather_in_branch().text(), [{"id": 7}], {"parts": lambda row: numbered(2)})
    assert ran.told()[:-3] == [
        "RowRead 0", "TokenForked 0 split deep,flat", "TokenExpanded 0.deep parts 2",
        "StepCompleted 0.deep:0 work #1", "BranchArrived 0.deep:0 0.deep+gather 0",
        "StepCompleted 0.deep:1 work #1", "BranchArrived 0.deep:1 0.deep+gather 1",
        "TokensCoalesced 0.deep+gather all_arrived", "StepCompleted 0.deep+gather after #1",
        "BranchArrived 0.deep+gather 0+join deep", "BranchArrived 0.flat 0+join flat", "TokensCoalesced 0+join all_arrived",
        "SourceExhausted 1",
    ]  # fmt: skip
    assert ran.rows("out") == [{"deep": {"id": 7, "items": numbered(2)}, "flat": {"id": 7}}]
    assert weigh(ran) == 1


def fork_in_gather(inner: Settings, outer: Settings) -> str:
    """`parts -> split -> (a: work_a, b: work_b) -> join -> gather -> out`."""
    sketch = Sketch("rows", attempts=2).step("parts", "rows", "children", expands=True).fork("split", "children", "a", "b")
    sketch.step("work_a", "a", "done_a").step("work_b", "b", "done_b")
    sketch.join("join", {"a": "done_a", "b": "done_b"}, inner["policy"], "joined", **settings_of(inner))
    sketch.gather("gather", "parts", "joined", outer["policy"], "out", **settings_of(outer))
    return sketch.sink("out").text()


def test_a_fork_inside_a_gathered_expansion() -> None:
    """C1, G6, B2: each child has a join of its own, and what it joins to is that child at the gather."""
    every = {"policy": "require_all"}
    steps = {"parts": lambda row: numbered(2), "work_a": lambda row: {**row, "a": 1}, "work_b": lambda row: {**row, "b": 2}}
    ran = tried(fork_in_gather(every, every), [{"id": 7}], steps)
    assert ran.rows("out") == [{"id": 7, "items": [{"n": 0, "a": 1, "b": 2}, {"n": 1, "a": 1, "b": 2}]}]
    assert ran.outcomes == {
        "0": "expanded", "0:0": "forked", "0:1": "forked", **{f"0:{n}.{name}": "coalesced" for n in (0, 1) for name in "ab"},
        "0:0+join": "coalesced", "0:1+join": "coalesced", "0+gather": "completed",
    }  # fmt: skip
    assert [event.token for event in ran.of(e.BranchArrived) if event.coalesce == "gather"] == ["0:0+join", "0:1+join"]


def expand_in_expand(inner: Settings, outer: Settings) -> str:
    """`chapters -> pages -> work -> inner -> outer -> out`."""
    sketch = Sketch("rows", attempts=2).step("chapters", "rows", "chapter", expands=True)
    sketch.step("pages", "chapter", "page", expands=True).step("work", "page", "worked")
    sketch.gather("inner", "pages", "worked", inner["policy"], "bound", **{"into": "pages", **settings_of(inner)})
    sketch.gather("outer", "chapters", "bound", outer["policy"], "out", **{"into": "chapters", **settings_of(outer)})
    return sketch.sink("out").text()


def book(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A chapter for each number of pages."""
    return [{"chapter": n, "count": count} for n, count in enumerate(row["counts"])]


def chapter(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pages of a chapter."""
    return [{"chapter": row["chapter"], "page": n} for n in range(row["count"])]


def test_an_expansion_inside_an_expansion() -> None:
    """C1, G6, B2: one group a chapter and one a book; an empty chapter is a chapter."""
    every = {"policy": "require_all"}
    ran = tried(expand_in_expand(every, every), [{"counts": [2, 0, 1]}], {"chapters": book, "pages": chapter})
    assert ran.outcomes == {
        "0": "expanded", "0:0": "expanded", "0:1": "expanded", "0:2": "expanded",
        "0:0:0": "coalesced", "0:0:1": "coalesced", "0:2:0": "coalesced",
        "0:0+inner": "coalesced", "0:1+inner": "coalesced", "0:2+inner": "coalesced", "0+outer": "completed",
    }  # fmt: skip
    pages = [[{"chapter": 0, "page": 0}, {"chapter": 0, "page": 1}], [], [{"chapter": 2, "page": 0}]]
    assert [one["pages"] for one in ran.rows("out")[0]["chapters"]] == pages
    assert weigh(ran) == 1


OUTER: Sequence[tuple[Settings, str | None, tuple[str, ...]]] = (
    ({"policy": "require_all"}, "branch_lost:1", ("1",)),
    ({"policy": "quorum", "quorum_count": 3}, "quorum_impossible:need=3,max_possible=2", ("1",)),
    ({"policy": "quorum", "quorum_count": 2}, None, ("1",)),
    ({"policy": "best_effort", "timeout_seconds": 60}, None, ("1",)),
    ({"policy": "first"}, None, ()),
)


@pytest.mark.parametrize(("outer", "reason", "lost"), OUTER)
def test_an_inner_gather_that_fails_is_a_loss_to_the_outer_one(
    outer: Settings, reason: str | None, lost: tuple[str, ...]
) -> None:
    """C3, E9, E10, law C5: the page, its chapter's failure, the book's loss, one after the other in the record."""
    steps = {"chapters": book, "pages": chapter, "work": no_second_page}
    ran = tried(expand_in_expand({"policy": "require_all"}, outer), [{"counts": [1, 2, 1]}], steps)
    told = ran.told()
    at = told.index("Diverted 0:1:1 error work > discard by None told_to")
    inner = ["BranchLost 0:1:1 0:1+inner 1 discarded:work:told_to", "CoalesceFailed 0:1+inner branch_lost branch_lost:1"]
    why = "group_failed:inner:branch_lost:1"
    assert told[at + 1 : at + 3] == inner
    assert (told[at + 3] == f"BranchLost 0:1 0+outer 1 {why}") == bool(lost)
    closed: list[e.TokensCoalesced | e.CoalesceFailed] = [*ran.of(e.TokensCoalesced), *ran.of(e.CoalesceFailed)]
    resolved = next(event for event in closed if event.group == "0+outer")
    assert getattr(resolved, "reason", None) == reason
    assert resolved.facts is not None
    assert resolved.facts.branches_lost == tuple(e.Loss(branch, why) for branch in lost)
    assert ran.outcomes["0:1"] == "expanded"
    assert ran.outcomes["0:1:0"] == "failed"
    assert ran.outcomes.get("0+outer") == (None if reason else "completed")
    assert weigh(ran) == 1


def no_second_page(row: Row) -> Row:
    """The second page of any chapter fails."""
    if row["page"] == 1:
        raise RowError("no", "told_to")
    return row


@pytest.mark.parametrize("made", [[], [{"page": 1}]])
def test_a_gather_that_fails_is_a_loss_to_the_join_around_it(made: list[dict[str, int]]) -> None:
    """C3, E9: also when there was nothing to gather: the join hears which branch, and by which failure."""
    sketch = Sketch("rows").fork("split", "rows", "deep", "flat").step("parts", "deep", "children", expands=True)
    sketch.step("work", "children", "worked").gather("gather", "parts", "worked", "first", "gathered")
    text = sketch.join("join", {"deep": "gathered", "flat": "flat"}, "require_all", "out").sink("out").text()
    ran = tried(text, [{"id": 7}], {"parts": lambda row: made, "work": failing(lambda: RowError("no"))})
    assert ran.told("0.deep")[-1] == "BranchLost 0.deep 0+join deep group_failed:gather:all_branches_lost"
    assert ran.one(e.BranchArrivedLate).token == "0.flat"
    assert [event.reason for event in ran.of(e.CoalesceFailed)] == ["all_branches_lost", "branch_lost:deep"]
    assert weigh(ran) == 1


def test_groups_one_after_the_other_keep_the_way_in_their_ids() -> None:
    """C1, B2, G6: what a join made is expanded and gathered, and gathered again: four groups of one row."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b").join("join", {"a": "a", "b": "b"}, "require_all", "joined")
    for name, input_, to in (("one", "joined", "between"), ("two", "between", "out")):
        sketch.step(f"parts_{name}", input_, f"children_{name}", expands=True)
        sketch.gather(f"gather_{name}", f"parts_{name}", f"children_{name}", "require_all", to, into=name)
    steps = {f"parts_{name}": lambda row: numbered(2) for name in ("one", "two")}
    ran = tried(sketch.sink("out").text(), [{"id": 7}], steps)
    assert [*ran.outcomes] == [
        "0", "0.a", "0.b", "0+join", "0+join:0", "0+join:1", "0+join+gather_one", "0+join+gather_one:0",
        "0+join+gather_one:1", "0+join+gather_one+gather_two",
    ]  # fmt: skip
    assert ran.rows("out") == [{"id": 7, "one": numbered(2), "two": numbered(2)}]


def test_children_that_nothing_gathers_are_forked_and_joined_each_for_itself() -> None:
    """G6, B2: one group a child; what became of one is nothing to the other."""
    sketch = Sketch("rows").step("parts", "rows", "children", expands=True).fork("split", "children", "a", "b")
    text = sketch.step("work", "a", "done").join("join", {"a": "done", "b": "b"}, "require_all", "out").sink("out").text()
    ran = tried(text, [{"id": 7}], {"parts": lambda row: numbered(3), "work": lambda row: row if row["n"] != 1 else None})
    assert decisions(ran) == {"0:0+join": Decision(MERGES, "all_arrived"), "0:2+join": Decision(MERGES, "all_arrived"),
                              "0:1+join": Decision(FAILS, "branch_lost", "branch_lost:a")}  # fmt: skip
    assert ran.rows("out") == [{"n": 0}, {"n": 2}]
    assert weigh(ran) == 1


def test_a_lost_child_may_be_forked_and_gathered_elsewhere() -> None:
    """E9, G6: past its own gather it goes on under its own id; the group it left hears nothing more of it."""
    sketch = Sketch("rows").step("parts", "rows", "children", expands=True)
    sketch.gate("way", "children", "row['n'] == 0", {"true": "worked", "false": "next"})
    sketch.gather("gather", "parts", "worked", "best_effort", "next", timeout_seconds=60)
    sketch.step("again", "next", "again", expands=True).fork("split", "again", "a", "b").step("work", "a", "done")
    sketch.join("join", {"a": "done", "b": "b"}, "require_all", "joined")
    text = sketch.gather("last", "again", "joined", "require_all", "out").sink("out").text()
    steps = {"parts": lambda row: numbered(2), "again": lambda row: numbered(1), "work": lambda row: None}
    ran = tried(text, [{"id": 7}], steps)
    assert [*decisions(ran).items()] == [
        ("0+gather", Decision(MERGES, "branch_lost")),
        ("0+gather:0+join", Decision(FAILS, "branch_lost", "branch_lost:a")),
        ("0+gather+last", Decision(FAILS, "branch_lost", "branch_lost:0")),
        ("0:1:0+join", Decision(FAILS, "branch_lost", "branch_lost:a")),
        ("0:1+last", Decision(FAILS, "branch_lost", "branch_lost:0")),
    ]  # fmt: skip
    assert [event.group for event in ran.of(e.BranchLost)].count("0+gather") == 1
    assert weigh(ran) == 1


def test_two_rows_at_once_do_not_meet() -> None:
    """G6, B2, C1: children of both rows come in turns, the first row's last; each list is of its own row, in its order."""
    asked: Counter[tuple[int, int]] = Counter()

    def work(row: Mapping[str, Any]) -> object:
        asked[row["id"], row["n"]] += 1
        if asked[row["id"], row["n"]] <= (2 - row["n"] if row["id"] == 0 else row["n"]):
            raise RetryableError("not yet")
        return row

    sketch = Sketch("rows", attempts=3, delay_seconds=1).step("parts", "rows", "children", expands=True)
    text = sketch.step("work", "children", "done").gather("gather", "parts", "done", "require_all", "out").sink("out").text()
    steps = {"parts": lambda row: [{"id": row["id"], "n": n} for n in range(3)], "work": work}
    ran = tried(text, [{"id": 0}, {"id": 1}], steps)
    order = [event.token for event in ran.of(e.BranchArrived)]
    assert [token for token in order if token[0] == "0"] == ["0:2", "0:1", "0:0"]
    assert [token for token in order if token[0] == "1"] == ["1:0", "1:1", "1:2"]
    assert [token[0] for token in order] != sorted(token[0] for token in order)
    for n in (0, 1):
        assert {"id": n, "items": [{"id": n, "n": part} for part in range(3)]} in ran.rows("out")
    assert weigh(ran) == Fraction(2)
