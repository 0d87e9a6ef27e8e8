"""Batches that meet each other, are very long, or whose plugins give back what nobody expects: the run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from engine.plugin_api import BatchResult, Derived, Rejected, RetryableError, RowError
from ledger import events as e
from tests.kit.batches import Rows, Times, batched, batches, numbered, rejecting, told, total
from tests.kit.pipelines import Sketch, tried
from tests.kit.ports import SimulatedTime
from tests.kit.twins import Pause

MANY = 3000


def test_two_batches_whose_next_attempts_are_due_together_are_both_made() -> None:
    """law C7: a batch that times out while another is said to have failed has its own next attempt."""
    time = SimulatedTime()
    sketch = Sketch("rows", attempts=2, delay_seconds=0).gate("way", "rows", "row['n'] == 0", {"true": "a", "false": "b"})
    sketch.batch("one", "a", "out", trigger={"timeout_seconds": 5}).batch("two", "b", "out", trigger={"timeout_seconds": 6})

    def slow(rows: Rows) -> object:
        if not asked:
            asked.append(1)
            time.advance_ms(3000)
            raise RetryableError("busy")
        return total(rows)

    asked: list[int] = []
    steps: Mapping[str, Any] = {"one": slow, "two": Times([RetryableError("busy")])}
    ran = tried(sketch.sink("out").text(), [*numbered(2), Pause(20_000)], steps, time=time)
    assert ran.receipt.outcomes == {"completed": 2, "consumed_in_batch": 2}


def test_a_batch_may_reject_thousands_of_members_each_for_its_reason() -> None:
    """law L4: the list stands in a payload that is never erased, and `verify` knows it."""
    ran = tried(batched(), numbered(MANY), {"totals": rejecting(*range(MANY))})
    flush = ran.one(e.BatchFlushed)
    assert (len(flush.rejected), flush.rejected_list is not None) == (MANY, True)
    assert ran.receipt.outcomes == {"routed": MANY}
    assert [ran.payload(event.reason) for event in ran.of(e.Diverted)] == [f"member {n}" for n in range(MANY)]


class Codeless(RowError):
    """A row error whose code raises."""

    def __init__(self) -> None:
        Exception.__init__(self, "x")

    @property
    def code(self) -> str:  # type: ignore[override]
        raise ValueError("no code")


class Word(str):
    """A text of a class of its own."""


class Changing(list[Any]):
    """A list that is another one when it is gone through again."""

    def __init__(self, first: list[Any], times: int, then: list[Any]) -> None:
        super().__init__(first)
        self._times, self._then = times, then

    def __iter__(self) -> Any:
        self._times -= 1
        return iter(self._then) if self._times < 0 else super().__iter__()


class Elusive(Rejected):
    """A rejected member whose place changes."""

    asked = 0

    @property
    def ordinal(self) -> int:
        type(self).asked += 1
        return 0 if self.asked % 3 else 9


class Mute(str):
    """A text that gives itself whatever it is asked."""

    def __str__(self) -> str:
        return self

    def __getitem__(self, key: Any) -> str:
        return self

    def encode(self, *args: Any) -> bytes:
        raise ValueError("no bytes")

    def replace(self, *args: Any) -> str:
        raise ValueError("no copy")


def raising(error: BaseException) -> Any:
    """A plugin that raises it."""

    def plugin(rows: object) -> object:
        raise error
    return plugin


@pytest.mark.parametrize("plugin", [
    raising(Codeless()), raising(RowError("x", Word("word"))),
    lambda rows: BatchResult([], [Rejected(0, "x", Word("word")), Rejected(1, "x")]),
    lambda rows: [Derived({"n": 7}, cast("tuple[int, ...]", Changing([0], 2, [7])))],
    lambda rows: BatchResult([], [Elusive(0, "x")]),
    lambda rows: BatchResult([], [Rejected(0, Mute("x"))]),
    raising(RowError(Mute("x"))),
])
def test_no_plugin_ends_the_run(plugin: Any) -> None:
    """G12: codes, places and texts of kinds of their own are looked at once, and fail their batch."""
    ran = tried(batched(), numbered(2), {"totals": plugin})
    assert ran.receipt.status == "completed"


@pytest.mark.parametrize("error", [Codeless(), RowError("x", Word("word")), RowError(Mute("x"))])
def test_no_step_ends_the_run(error: BaseException) -> None:
    """E1, G12: the same of what a step raises."""
    text = Sketch("rows").step("step", "rows", "out", "errors").sink("out", "errors").text()
    assert tried(text, numbered(1), {"step": raising(error)}).receipt.status == "completed"


def test_in_passthrough_a_row_with_parents_that_are_no_list_is_bad_output() -> None:
    """law C7: parents are places, in this mode too."""
    nobody = cast("tuple[int, ...]", None)
    ran = tried(batched(output_mode="passthrough"), numbered(1), {"totals": lambda rows: [Derived(rows[0], nobody)]})
    assert ran.one(e.BatchFailed).code == "bad_output"


def test_tokens_that_wait_behind_a_batch_are_taken_before_those_that_come_later() -> None:
    """law C7: those that a slow batch let through meanwhile come behind them."""
    time = SimulatedTime()
    sketch = Sketch("rows", attempts=3).gate("way", "rows", "row['n'] == 0", {"true": "a", "false": "b"})
    sketch.batch("up", "a", "b", trigger={"timeout_seconds": 5}, output_mode="passthrough")
    sketch.batch("down", "b", "out", trigger={"count": 2})

    def slow(rows: Rows) -> object:
        asked.append(1)
        if len(asked) == 1:
            raise RetryableError("busy")
        time.advance_ms(6000 if len(asked) == 2 else 0)
        return total(rows)

    asked: list[int] = []
    ran = tried(sketch.sink("out").text(), [*numbered(4), Pause(20_000)], {"down": slow}, time=time)
    assert [members for name, _, members in told(ran) if name.startswith("down")] == [["1", "2"], ["3", "0"]]


def test_a_batch_of_exactly_as_many_rows_as_the_limit_waits_for_its_trigger() -> None:
    """law C7: the limit is what a batch may hold."""
    ran = tried(batched(limits={"batch_rows": 3}), numbered(3), {"totals": total})
    assert ran.fault is None


def test_no_batch_is_computed_with_more_rows_than_the_limit() -> None:
    """law C7: an expansion does not fill a batch beyond it; its children wait."""
    sketch = Sketch("rows", limits={"batch_rows": 3}).step("parts", "rows", "children", expands=True)
    text = sketch.batch("totals", "children", "out", trigger={"condition": "batch_count >= 10"}).sink("out").text()
    ran = tried(text, numbered(1), {"parts": lambda row: [{"n": n} for n in range(10)], "totals": total})
    assert max(len(batch.members) for batch in batches(ran.events).values()) <= 4


def test_rows_that_name_no_parents_are_bounded_by_their_links() -> None:
    """law C7: each of n rows has n parents; a batch that would have too many fails, and says what to do."""
    ran = tried(batched(), numbered(1001), {"totals": list})
    assert ran.payload(ran.one(e.BatchFailed).error) == (
        "expected at most 1000000 links from rows of a batch to their parents, found 1002001: name the parents of each row "
        "with Derived")
