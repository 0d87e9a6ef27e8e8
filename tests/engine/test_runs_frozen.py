"""Plugins that write into what they were given: the attempt has failed, and nobody else sees another row."""

from __future__ import annotations

import heapq
import operator
import random
from bisect import insort
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from engine.rows import thaw
from ledger import events as e
from tests.kit.effects import asking
from tests.kit.pipelines import Ran, Sketch, trial

ROW = {"n": 1, "list": [3, 1, 2], "deep": [{"x": {"y": [1]}}]}

WRITES: Mapping[str, Callable[[Any], object]] = {
    "sets a field": lambda row: operator.setitem(row, "n", 2),
    "deletes a field": lambda row: operator.delitem(row, "n"),
    "updates": lambda row: row.update(n=2),
    "merges in place": lambda row: row.__ior__({"n": 2}),
    "pops": lambda row: row.pop("n"),
    "pops an item": lambda row: row.popitem(),
    "sets a default": lambda row: row.setdefault("more", 2),
    "clears": lambda row: row.clear(),
    "sets an element": lambda row: operator.setitem(row["list"], 0, 9),
    "sets a slice": lambda row: operator.setitem(row["list"], slice(None), [9]),
    "deletes an element": lambda row: operator.delitem(row["list"], 0),
    "appends": lambda row: row["list"].append(9),
    "extends": lambda row: row["list"].extend([9]),
    "extends in place": lambda row: row["list"].__iadd__([9]),
    "multiplies in place": lambda row: row["list"].__imul__(2),
    "inserts": lambda row: row["list"].insert(0, 9),
    "inserts in order": lambda row: insort(row["list"], 2),
    "removes": lambda row: row["list"].remove(3),
    "pops an element": lambda row: row["list"].pop(),
    "sorts": lambda row: row["list"].sort(),
    "reverses": lambda row: row["list"].reverse(),
    "shuffles": lambda row: random.Random(1).shuffle(row["list"]),
    "clears a list": lambda row: row["list"].clear(),
    "writes far below": lambda row: row["deep"][0]["x"]["y"].append(2),
    "sets far below": lambda row: operator.setitem(row["deep"][0]["x"], "y", 2),
    "runs code in it": lambda row: exec("n = 2", {}, row),
    "gives it an attribute": lambda row: setattr(row, "more", 2),
}


def failed(ran: Ran, code: str, text: str) -> None:
    """The attempt failed, and the row that leaves is the one that was read."""
    assert code == "plugin_raised"
    assert text.startswith(("TypeError: rows are frozen: ", "AttributeError: "))
    assert ran.payload(ran.one(e.RowRead).data) == ROW
    assert (ran.rows("out"), ran.rows("errors")) == ([], [ROW])


@pytest.mark.parametrize("how", WRITES)
def test_a_step_that_writes_into_its_row_has_failed(how: str) -> None:
    """W8, E1, D4: by an attempt of its own, with the row as it was read."""
    text = Sketch("rows").step("step", "rows", "out", "errors").sink("out", "errors").text()
    ran = trial(text, [ROW], {"step": lambda row: WRITES[how](row) or row}).go()
    failure = ran.one(e.StepFailed)
    failed(ran, failure.code, ran.payload(failure.error))


@pytest.mark.parametrize("how", WRITES)
def test_an_effect_that_writes_into_its_row_has_failed(how: str) -> None:
    """W8, E1: the same beside the loop."""
    ran = trial(asking("errors", attempts=3), [ROW], {"ask": lambda row, attempt: WRITES[how](row) or row}).go()
    failure = ran.one(e.StepFailed)
    failed(ran, failure.code, ran.payload(failure.error))


@pytest.mark.parametrize("how", WRITES)
def test_a_batch_that_writes_into_its_rows_has_failed(how: str) -> None:
    """W8, E1: the same for members."""
    text = Sketch("rows", attempts=3).batch("batch", "rows", "out", "errors").sink("out", "errors").text()
    ran = trial(text, [ROW], {"batch": lambda rows: WRITES[how](rows[0]) or list(rows)}).go()
    failure = ran.one(e.BatchFailed)
    failed(ran, failure.code, ran.payload(failure.error))


@pytest.mark.parametrize("how", WRITES)
def test_a_branch_that_writes_into_its_row_changes_nothing_for_its_sibling(how: str) -> None:
    """W8, D4: the sibling comes later, and sees and sends on what was read."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b").step("one", "a", "out", "errors").step("two", "b", "c")
    text = sketch.step("three", "c", "out").sink("out", "errors").text()
    ran = trial(text, [ROW], {"one": lambda row: WRITES[how](row) or row, "two": lambda row: {**row, "seen": True}}).go()
    assert ran.rows("out") == [{**ROW, "seen": True}]
    assert ran.outcomes == {"0": "forked", "0.a": "routed", "0.b": "completed"}


PAST: Mapping[str, Callable[[Any], object]] = {
    "heapifies": lambda row: heapq.heapify(row["list"]),
    "pushes onto a heap": lambda row: heapq.heappush(row["list"], 0),
    "pops from a heap": lambda row: heapq.heappop(row["list"]),
    "sorts as any list": lambda row: list.sort(row["list"]),
    "sorts far below": lambda row: list.clear(row["deep"][0]["x"]["y"]),
    "updates as any dict": lambda row: dict.update(row, n=2),
    "puts an equal value": lambda row: dict.__setitem__(row, "n", True),
    "puts another zero": lambda row: list.__setitem__(row["deep"][0]["x"]["y"], 0, 1.0),
    "computes in it": lambda row: eval("n", row),
}
"""Writes that no mutator hears of."""


@pytest.mark.parametrize("how", PAST)
def test_what_writes_past_the_mutators_changes_no_row_but_its_own(how: str) -> None:
    """W8, D4, law C6: whatever it gives back is judged and recorded as its row; its sibling and the record keep theirs."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b").step("one", "a", "c", "errors").step("two", "b", "d")
    text = sketch.join("join", {"a": "c", "b": "d"}, "require_all", "out", merge="nested").sink("out", "errors").text()
    ran = trial(text, [ROW], {"one": lambda row: (PAST[how](row), row)[1], "two": lambda row: {**row}}).go()
    assert ran.payload(ran.one(e.RowRead).data) == ROW
    mine: Any = thaw(ROW)
    PAST[how](mine)
    if how == "computes in it":
        assert (ran.one(e.StepFailed).code, ran.rows("out"), ran.rows("errors")) == ("bad_output", [], [ROW])
    else:
        assert repr(ran.rows("out")) == repr([{"a": mine, "b": ROW}])  # True is 1, and another value


@pytest.mark.parametrize("how", PAST)
def test_a_batch_or_an_effect_that_writes_past_the_mutators_changes_its_own_rows_only(how: str) -> None:
    """W8: what fails then leaves with the row as it was read."""

    def fails(row: Any) -> None:
        PAST[how](row)
        raise ValueError("no")

    text = Sketch("rows").batch("batch", "rows", "out", "errors").sink("out", "errors").text()
    assert trial(text, [ROW], {"batch": lambda rows: fails(rows[0])}).go().rows("errors") == [ROW]
    assert trial(asking("errors"), [ROW], {"ask": lambda row, attempt: fails(row)}).go().rows("errors") == [ROW]


def test_what_a_step_keeps_of_what_it_gave_changes_nothing_any_more() -> None:
    """W8, law P2: the row is on record as it was given, and that is what goes on."""
    kept: list[Any] = []

    def keeping(row: Any) -> dict[str, Any]:
        for values in kept:
            heapq.heappush(values, -99)
        own = {"mine": [2, 1], **row}
        kept.extend((own["mine"], row["list"], own["list"]))
        return own

    text = Sketch("rows").step("one", "rows", "c", "errors").step("two", "c", "out", "errors").sink("out", "errors").text()
    ran = trial(text, [ROW, ROW], {"one": keeping, "two": lambda row: {**row}}).go()
    assert ran.rows("out") == [{"mine": [2, 1], **ROW}] * 2


def test_what_was_put_into_a_frozen_row_is_frozen_where_it_goes_on() -> None:
    """W8, D4: a plain list that one step smuggled in is none that the branches after it share."""

    def smuggling(row: Any) -> dict[str, Any]:
        dict.__setitem__(row["deep"][0], "tags", ["x"])
        return {**row}

    sketch = Sketch("rows").step("one", "rows", "c", "errors").fork("split", "c", "a", "b").step("two", "b", "d", "errors")
    text = sketch.step("three", "a", "out", "errors").step("four", "d", "out", "errors").sink("out", "errors").text()
    ran = trial(text, [ROW], {"one": smuggling, "two": lambda row: (row["deep"][0]["tags"].append("b"), row)[1],
                              "three": lambda row: row, "four": lambda row: row}).go()
    assert (ran.one(e.StepFailed).code, ran.one(e.StepFailed).node) == ("plugin_raised", "two")
    assert [row["deep"][0]["tags"] for row in (*ran.rows("out"), *ran.rows("errors"))] == [["x"], ["x"]]
