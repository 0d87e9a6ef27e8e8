"""Every way for a batch plugin to fail: its members leave by the error edge or are discarded, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, pairwise
from typing import Any

import pytest

from engine.plugin_api import BatchResult, Derived, Rejected, RetryableError, RowError
from ledger import events as e
from tests.kit.batches import Rows, Times, batched, batches, numbered, told, total
from tests.kit.pipelines import Ran, Sketch, trial, tried
from tests.kit.twins import Pause

Plugin = Callable[[Rows], object]
COUNT = {"count": 2}


class Unspeakable(Exception):
    """An error that cannot be told."""

    def __str__(self) -> str:
        raise SystemExit(3)


class Lying:
    """A value whose class raises."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise ValueError("no class")


class Endless(list[object]):
    """A list that cannot be gone through."""

    def __iter__(self) -> Any:
        raise SystemExit(4)


class Silent:
    """A value that cannot be shown as text."""

    def __str__(self) -> str:
        raise ValueError("no text")


def raising(error: BaseException) -> Plugin:
    """A plugin that raises."""

    def plugin(rows: Rows) -> object:
        raise error

    return plugin


def recurse(rows: Rows) -> object:
    """Never ends by itself."""
    return recurse(rows)


def giving(value: object) -> Plugin:
    """A plugin that gives back this."""
    return lambda rows: value


def at_first(plugin: Plugin) -> Plugin:
    """It does that to the batch with row 0, and makes the total of any other."""
    return lambda rows: plugin(rows) if rows[0]["n"] == 0 else total(rows)


RAISED: Mapping[str, tuple[Plugin, str, str]] = {
    "RowError": (raising(RowError("not these", "not_these")), "not_these", "not these"),
    "RowError without a code": (raising(RowError("not these")), "row_error", "not these"),
    "RowError with no word as code": (raising(RowError("x", "a b")), "bad_code", "x"),
    "RowError with a number as code": (raising(RowError("x", 5)), "bad_code", "x"),  # type: ignore[arg-type]
    "ValueError": (raising(ValueError("broken")), "plugin_raised", "ValueError: broken"),
    "KeyError": (lambda rows: rows[0]["missing"], "plugin_raised", "KeyError: 'missing'"),
    "unspeakable": (raising(Unspeakable()), "plugin_raised", "Unspeakable: (its message raised SystemExit)"),
    "surrogate": (raising(ValueError("\ud800")), "plugin_raised", "ValueError: \\ud800"),
    "long": (raising(ValueError("x" * 10_000)), "plugin_raised", ("ValueError: " + "x" * 10_000)[:4000]),
    "SystemExit": (raising(SystemExit(3)), "plugin_raised", "SystemExit: 3"),
    "GeneratorExit": (raising(GeneratorExit()), "plugin_raised", "GeneratorExit"),
    "StopIteration": (raising(StopIteration()), "plugin_raised", "StopIteration"),
    "MemoryError": (raising(MemoryError()), "plugin_raised", "MemoryError"),
    "RecursionError": (recurse, "plugin_raised", "RecursionError: maximum recursion depth exceeded"),
    "a list changed": (lambda rows: rows.sort(), "plugin_raised", "TypeError: rows are frozen"),  # type: ignore[attr-defined]
    "a row changed": (lambda rows: rows[0].update(n=1), "plugin_raised", "TypeError: rows are frozen"),  # type: ignore[attr-defined]
    "too many rows": (giving([{}] * 4), "limit_exceeded", "expected at most 3 rows of a batch, found"),
    "rows without end": (lambda rows: ({} for _ in count()), "limit_exceeded", "expected at most 3 rows of a batch, found"),
    "too long a row": (giving([{"x": "y" * 200}]), "limit_exceeded", "expected a row of at most 100 bytes, found 208"),
}

ROW = {"n": 7}
NO_RESULT: Mapping[str, object] = {
    "None": None, "a number": 7, "a text": "rows", "a row": ROW, "True": True, "a set": {1},
    "texts one by one": (letter for letter in "ab"),
    "a row of None": [None], "a number in a list": [7], "a list in a list": [[ROW]], "not finite": [{"n": float("nan")}],
    "a long int": [{"n": 2**63}], "an object": [{"n": object()}], "a number as name": [{1: 2}],
    "a surrogate": [{"\ud800": 1}],
    "Derived alone": Derived(ROW, (0,)), "Rejected alone": Rejected(0, "no"), "Rejected as a row": [Rejected(0, "no")],
    "a result in a list": [BatchResult([ROW])], "no rows": BatchResult(None), "rows as a row": BatchResult(ROW),  # type: ignore[arg-type]
}  # fmt: skip
NO_PARENTS: Mapping[str, object] = {
    "none": (), "None": None, "a number": 0, "a text": "0", "a set": {0}, "twice": (0, 1, 0), "one too many": (0, 1, 2),
    "below": (-1,), "True": (True,), "a float": (0.0,), "a numeral": ("0",), "a list in a list": [[0]],
}  # fmt: skip
NO_REJECTED: Mapping[str, object] = {
    "None": None, "one alone": Rejected(0, "no"), "a place": [0], "a pair": [(0, "no")], "a row": [ROW], "a set": set(),
    "a numeral": [Rejected("0", "no")], "True": [Rejected(True, "no")], "beyond": [Rejected(2, "no")],  # type: ignore[arg-type]
    "below": [Rejected(-1, "no")], "twice": [Rejected(1, "no"), Rejected(1, "no")], "a float": [Rejected(1.0, "no")],  # type: ignore[arg-type]
}  # fmt: skip
NONSENSE: Mapping[str, Plugin] = {
    **{f"result: {name}": giving(value) for name, value in NO_RESULT.items()},
    **{f"parents: {name}": giving([Derived(ROW, value)]) for name, value in NO_PARENTS.items()},  # type: ignore[arg-type]
    **{f"rejected: {name}": giving(BatchResult([], value)) for name, value in NO_REJECTED.items()},  # type: ignore[arg-type]
    "a row of a rejected member": giving(BatchResult([Derived(ROW, (0, 1))], [Rejected(0, "no")])),
    "a row, and all members rejected": giving(BatchResult([ROW], [Rejected(0, "no"), Rejected(1, "no")])),
    "no row, with a parent": giving([Derived(None, (0,))]),  # type: ignore[arg-type]
}
UNSEEABLE: Mapping[str, Plugin] = {
    "a result that lies": lambda rows: Lying(), "a row that lies": lambda rows: [Lying()],
    "parents that lie": lambda rows: [Derived(ROW, Lying())],  # type: ignore[arg-type]
    "rows that cannot be gone through": lambda rows: Endless([ROW]),
    "rejected that cannot be gone through": lambda rows: BatchResult([], Endless()),  # type: ignore[arg-type]
    "a reason without text": lambda rows: BatchResult([], [Rejected(0, Silent())]),  # type: ignore[arg-type]
}  # fmt: skip


def leaving(on_error: str, code: str) -> list[str]:
    """The whole log of a batch of two that failed, and of the row after it."""
    routed = on_error == "errors"
    way = "errors by totals:__error_totals__" if routed else "discard by None"
    return [
        "RowRead 0", "TokenBuffered 0 totals@1 0", "RowRead 1", "TokenBuffered 1 totals@1 1",
        f"BatchFailed totals@1 #1 count {code}",
        f"Diverted 0 error totals > {way} {code}", f"Diverted 1 error totals > {way} {code}",
        "RowRead 2", "TokenBuffered 2 totals@2 0", "SourceExhausted 3", "BatchFlushed totals@2 #1 end_of_source all",
        "SinkWriteIntended out totals@2:0", *(["SinkWriteIntended errors 0,1"] if routed else []),
        "SinkWriteConfirmed out 1", *(["SinkWriteConfirmed errors 2"] if routed else []), "RunSealed completed",
    ]  # fmt: skip


def failing_run(plugin: Plugin, on_error: str = "errors") -> Ran:
    """Two rows that fail together, and a third."""
    text = batched(trigger=COUNT, on_error=on_error, limits={"batch_rows": 3, "row_bytes": 100})
    return tried(text, numbered(3), {"totals": at_first(plugin)})


@pytest.mark.parametrize("on_error", ["errors", "discard"])
@pytest.mark.parametrize("way", RAISED)
def test_whatever_a_batch_plugin_raises_fails_its_members_and_no_other(way: str, on_error: str) -> None:
    """W8, E1, E2, law R1: one failure, a divert of each member with its code and its reason; the next batch is made."""
    plugin, code, text = RAISED[way]
    ran = failing_run(plugin, on_error)
    assert ran.told() == leaving(on_error, code)
    assert ran.payload(ran.one(e.BatchFailed).error).startswith(text)
    assert {ran.payload(event.reason) for event in ran.of(e.Diverted)} == {ran.payload(ran.one(e.BatchFailed).error)}
    assert [ran.outcomes[token] for token in "01"] == ["routed" if on_error == "errors" else "quarantined"] * 2
    assert ran.rows("errors") == (numbered(2) if on_error == "errors" else [])
    assert ran.rows("out") == [{"of": [2]}]


@pytest.mark.parametrize("what", NONSENSE)
def test_whatever_a_batch_plugin_gives_that_is_no_result_fails_its_members(what: str) -> None:
    """W8, E1, G11, law C7: parents and rejected members are places of this batch, each once; anything else is told apart."""
    ran = failing_run(NONSENSE[what])
    assert ran.told() == leaving("errors", "bad_output")
    assert "expected" in ran.payload(ran.one(e.BatchFailed).error)


@pytest.mark.parametrize("what", UNSEEABLE)
def test_a_result_that_raises_when_it_is_looked_at_fails_its_members(what: str) -> None:
    """E1: what a plugin gives back is as much its own code as what it runs."""
    assert failing_run(UNSEEABLE[what]).told() == leaving("errors", "plugin_raised")


@pytest.mark.parametrize("given", [
    [], [ROW], [ROW] * 3, [ROW, Derived(ROW, (0,))], [Derived(ROW, (0, 1)), ROW], [ROW, None], [Derived(ROW, ()), ROW],
    BatchResult([ROW, ROW], [Rejected(0, "no")]), BatchResult([Derived(ROW, (0,))], [Rejected(0, "no")]),
])  # fmt: skip
def test_in_passthrough_anything_but_one_row_for_each_member_fails_them(given: Any) -> None:
    """E1, law C7: the same tokens go on, so there is one row for each of them, of itself."""
    text = batched(trigger=COUNT, output_mode="passthrough")
    plugin = at_first(giving(given))
    ran = tried(text, numbered(2), {"totals": plugin})
    assert ran.one(e.BatchFailed).code == "bad_output"
    assert (ran.rows("out"), ran.rows("errors")) == ([], numbered(2))


@pytest.mark.parametrize(("rejected", "code", "text"), [
    (Rejected(0, 7), "rejected", "7"), (Rejected(0, None), "rejected", "None"), (Rejected(0, ""), "rejected", ""),  # type: ignore[arg-type]
    (Rejected(0, "x", "a b"), "bad_code", "x"), (Rejected(0, "x", None), "bad_code", "x"),  # type: ignore[arg-type]
    (Rejected(0, "x", "c" * 70_000), "bad_code", "x"), (Rejected(0, "\ud800"), "rejected", "\\ud800"),
    (Rejected(0, "x" * 10_000, "long"), "long", "x" * 4000),
])  # fmt: skip
def test_a_rejected_member_may_have_any_reason_and_code(rejected: Rejected, code: str, text: str) -> None:
    """E1, G11: a code that is none is told as such, a text is kept as far as it goes; the other member goes on."""
    ran = failing_run(lambda rows: BatchResult([Derived(ROW, (1,))], [rejected]))
    assert ran.told("totals@1")[-1] == f"BatchFlushed totals@1 #1 count 1 rejected 0:{code}"
    assert (ran.one(e.Diverted).code, ran.payload(ran.one(e.Diverted).reason)) == (code, text)


# --- what may pass ---------------------------------------------------------------------------------------------------


def without_sinks(told_lines: Sequence[str]) -> list[str]:
    """The log without its sink writes, which come when a commit is due."""
    return [line for line in told_lines if not line.startswith("SinkWrite")]


def test_tokens_that_come_while_a_batch_is_tried_again_are_the_next_batch() -> None:
    """E1, law C7, law T10: nothing is said of them until then; they keep their order, and none joins the batch."""
    text = batched(trigger=COUNT, attempts=2)
    ran = tried(text, [*numbered(5), Pause(5000)], {"totals": Times([RetryableError("busy")])})
    assert without_sinks(ran.told()) == [
        "RowRead 0", "TokenBuffered 0 totals@1 0", "RowRead 1", "TokenBuffered 1 totals@1 1",
        "BatchFailed totals@1 #1 count retryable retry", "RowRead 2", "RowRead 3", "RowRead 4",
        "BatchFlushed totals@1 #2 count all",
        "TokenBuffered 2 totals@2 0", "TokenBuffered 3 totals@2 1", "BatchFlushed totals@2 #1 count all",
        "TokenBuffered 4 totals@3 0", "SourceExhausted 5", "BatchFlushed totals@3 #1 end_of_source all",
        "RunSealed completed",
    ]  # fmt: skip
    assert ran.rows("out") == [{"of": [0, 1]}, {"of": [2, 3]}, {"of": [4]}]


@pytest.mark.parametrize("error", [RetryableError("busy"), ConnectionError("refused"), TimeoutError("slow"),
                                   OSError(5, "EIO")])  # fmt: skip
def test_when_its_attempts_are_exhausted_the_batch_has_failed_by_the_last_one(error: BaseException) -> None:
    """W9, E1, law T10: each attempt is on record with the delay before the next, and all for the same trigger."""
    ran = tried(batched(trigger=COUNT, attempts=3), [*numbered(4), Pause(9000)], {"totals": Times([error] * 3)})
    failures = ran.of(e.BatchFailed)
    assert [(failure.attempt, failure.trigger, failure.code, failure.retry) for failure in failures] == [
        (1, "count", "retryable", True), (2, "count", "retryable", True), (3, "count", "retries_exhausted", False)]
    for failure, following in pairwise(failures):
        assert 500 <= failure.delay_ms <= 1000
        assert following.active_ms >= failure.active_ms + failure.delay_ms
    assert {event.code for event in ran.of(e.Diverted)} == {"retries_exhausted"}
    assert told(ran) == [("totals@1", "count", ["0", "1"]), ("totals@2", "count", ["2", "3"])]
    assert (ran.rows("errors"), ran.rows("out")) == (numbered(2), [{"of": [2, 3]}])


def test_rows_that_are_given_one_by_one_may_fail_on_the_way() -> None:
    """E1, law T10: nothing of an attempt that failed half-way is kept."""

    def plugin(rows: Rows) -> Iterator[dict[str, Any]]:
        for row in rows:
            if row["n"] == 1 and not asked:
                asked.append(True)
                raise OSError("busy")
            yield {"of": row["n"]}

    asked: list[bool] = []
    ran = tried(batched(trigger=COUNT, attempts=2), numbered(2), {"totals": plugin})
    assert ran.told("totals@1")[-2:] == ["BatchFailed totals@1 #1 count retryable retry",
                                         "BatchFlushed totals@1 #2 count all all"]  # fmt: skip
    assert ran.rows("out") == [{"of": 0}, {"of": 1}]


def test_an_error_that_is_final_ends_the_attempts() -> None:
    """E1, law T10: whatever was left of them."""
    ran = tried(batched(trigger=COUNT, attempts=5), numbered(2),
                {"totals": Times([OSError("busy"), RowError("no", "final")])})  # fmt: skip
    assert [failure.code for failure in ran.of(e.BatchFailed)] == ["retryable", "final"]
    assert ran.receipt.outcomes == {"routed": 2}


def test_the_end_of_the_source_waits_for_a_batch_that_is_tried_again() -> None:
    """D6, law T10: and for the tokens that wait behind it; the run is sealed after them."""
    for trigger, first in (({}, "end_of_source"), (COUNT, "count")):
        ran = tried(batched(trigger=trigger, attempts=3), numbered(3), {"totals": Times([OSError("busy")] * 2)})
        assert [event.trigger for event in ran.of(e.BatchFailed)] == [first] * 2
        assert (ran.receipt.status, sum(len(row["of"]) for row in ran.rows("out"))) == ("completed", 3)


def test_a_batch_that_is_tried_again_is_not_timed_out_and_the_next_one_has_its_own_clock() -> None:
    """D5, law C7: the trigger on record is the first attempt's; a token that waited counts from when it became a member."""
    text = batched(trigger={"timeout_seconds": 5}, attempts=3, delay_seconds=8)
    ran = tried(text, [*numbered(1), Pause(6000), {"n": 1}, Pause(60_000)], {"totals": Times([OSError("busy")] * 2)})
    first, second = batches(ran.events).values()
    assert [event.trigger for event in (*first.ends, *second.ends)] == ["timeout"] * 4
    assert second.opened_ms == first.ends[-1].active_ms > 13_000
    assert second.ends[0].active_ms == second.opened_ms + 5000
    assert (first.members, second.members) == (["0"], ["1"])


def test_what_waits_for_a_batch_that_is_tried_again_is_bounded() -> None:
    """D8: reading pauses while a thousand rows wait behind it, so that memory does not grow with the source."""
    waiting: list[int] = []

    def plugin(rows: Rows) -> object:
        waiting.append(loop._aggregations.waiting)
        if rows[0]["n"] == 0 and len(waiting) < 3:
            raise OSError("busy")
        return total(rows)

    text = batched(trigger=COUNT, attempts=3, delay_seconds=30)
    recorder, loop = trial(text, numbered(2500), {"totals": plugin}).opened()
    assert loop.run() is None
    assert waiting[:5] == [0, 1000, 1000, 998, 996]
    assert max(waiting) == 1000
    assert recorder.state.outcomes == {"completed": 1250, "consumed_in_batch": 2500}


def test_batches_of_several_aggregations_are_tried_again_each_at_its_own_time() -> None:
    """law T10, law C7: what waits before one does not keep the other from going on."""
    sketch = Sketch("rows", attempts=3, delay_seconds=4)
    sketch.gate("way", "rows", "row['n'] % 2 == 0", {"true": "a", "false": "b"})
    sketch.batch("slow", "a", "out", trigger=COUNT).batch("quick", "b", "out", trigger=COUNT).sink("out")
    steps = {"slow": Times([OSError("busy")] * 2), "quick": Times([OSError("busy")])}
    ran = tried(sketch.text(), [*numbered(8), Pause(60_000)], steps)
    found = batches(ran.events)
    assert {name: batch.members for name, batch in found.items()} == {
        "slow@1": ["0", "2"], "slow@2": ["4", "6"], "quick@1": ["1", "3"], "quick@2": ["5", "7"]}
    for batch in found.values():
        for failure, following in pairwise(batch.ends):
            due_ms = failure.active_ms + failure.delay_ms  # type: ignore[union-attr]
            assert due_ms <= following.active_ms <= due_ms + 1
    assert len(found["slow@1"].ends) == 3 and len(found["quick@1"].ends) == 2
