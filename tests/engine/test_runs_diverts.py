"""Every way to fail at a step or a gate: with a route, discarded, or (at a gate) neither; the exact events of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import pytest

from engine.bound import Transform
from engine.plugin_api import RetryableError, RowError
from ledger import events as e
from tests.kit.forks import Row
from tests.kit.pipelines import Sketch, failing, tried


class Stubborn(Exception):
    """An exception whose message cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no message")


def recurse(row: Row) -> object:
    """Never ends by itself."""
    return recurse(row)


def self_holding() -> dict[str, object]:
    """A row that is its own field."""
    row: dict[str, object] = {}
    row["row"] = row
    return row


RAISED: Mapping[str, tuple[Transform, str, str]] = {
    "RowError": (failing(lambda: RowError("a bad row", "bad_row")), "bad_row", "a bad row"),
    "RowError without a code": (failing(lambda: RowError("a bad row")), "row_error", "a bad row"),
    "RowError with no word as code": (failing(lambda: RowError("a bad row", "x" * 70_000)), "bad_code", "a bad row"),
    "RowError with a number as code": (failing(lambda: RowError("a bad row", 5)), "bad_code", "a bad row"),  # type: ignore[arg-type]
    "ValueError": (failing(lambda: ValueError("broken")), "plugin_raised", "ValueError: broken"),
    "no message": (failing(KeyError), "plugin_raised", "KeyError"),
    "unspeakable": (failing(Stubborn), "plugin_raised", "Stubborn: (its message raised ValueError)"),
    "surrogate": (failing(lambda: ValueError("\ud800")), "plugin_raised", "ValueError: \\ud800"),
    "long": (failing(lambda: ValueError("x" * 10_000)), "plugin_raised", ("ValueError: " + "x" * 10_000)[:4000]),
    "SystemExit": (failing(lambda: SystemExit(3)), "plugin_raised", "SystemExit: 3"),
    "GeneratorExit": (failing(GeneratorExit), "plugin_raised", "GeneratorExit"),
    "StopIteration": (failing(StopIteration), "plugin_raised", "StopIteration"),
    "AssertionError": (failing(lambda: AssertionError("no")), "plugin_raised", "AssertionError: no"),
    "MemoryError": (failing(MemoryError), "plugin_raised", "MemoryError"),
    "RecursionError": (recurse, "plugin_raised", "RecursionError: maximum recursion depth exceeded"),
}

RETURNED: Mapping[str, object] = {
    "a number": 7, "a text": "row", "a tuple": ({"n": 1},), "a list of rows": [{"n": 1}], "True": True,
    "not finite": {"n": float("nan")}, "infinite": {"n": [float("inf")]}, "a long int": {"n": 2**63},
    "bytes": {"n": b""}, "a set": {"n": {1}}, "an object": {"n": object()}, "a number as name": {1: 2},
    "a deep number as name": {"n": {1: 2}}, "a surrogate": {"n": "\ud800"}, "a surrogate name": {"\ud800": 1},
    "too deep": self_holding(), "a tuple inside": {"n": (1, 2)}, "a generator": {"n": (x for x in "ab")},
}  # fmt: skip


def step_file(on_error: str, *, attempts: int = 1) -> str:
    """`source -> step -> out`, errors to `errors`, discarded, or wherever."""
    return Sketch("rows", attempts=attempts).step("step", "rows", "out", on_error).sink("out", "errors").text()


def leaving(on_error: str, code: str, *before: str, kind: str = "error", node: str = "step") -> list[str]:
    """The whole log of one row that left at `node` for `errors`, or was discarded there."""
    if on_error == "discard":
        return ["RowRead 0", *before, f"Diverted 0 {kind} {node} > discard by None {code}", "SourceExhausted 1",
                "RunSealed completed"]  # fmt: skip
    return ["RowRead 0", *before, f"Diverted 0 {kind} {node} > errors by {node}:__error_{node}__ {code}",
            "SourceExhausted 1", "SinkWriteIntended errors 0", "SinkWriteConfirmed errors 1",
            "RunSealed completed"]  # fmt: skip


def reordered(told: Sequence[str]) -> list[str]:
    """The end of the source can stand before a retry; here only the row's own story counts."""
    return [line for line in told if not line.startswith("SourceExhausted")]


@pytest.mark.parametrize("on_error", ["errors", "discard"])
@pytest.mark.parametrize("way", RAISED)
def test_whatever_a_step_raises_fails_its_row_alone(way: str, on_error: str) -> None:
    """W8, E1, E2, law R1: one failure, one divert with its code and its reason; with `discard` no edge, but an end."""
    step, code, text = RAISED[way]
    ran = tried(step_file(on_error), [{"n": 0}], {"step": step})
    assert ran.told() == leaving(on_error, code, f"StepFailed 0 step #1 {code}")
    assert ran.payload(ran.one(e.StepFailed).error).startswith(text)
    assert ran.payload(ran.one(e.Diverted).reason) == ran.payload(ran.one(e.StepFailed).error)
    assert ran.outcomes == {"0": "routed" if on_error == "errors" else "quarantined"}
    assert ran.rows("errors") == ([{"n": 0}] if on_error == "errors" else [])


@pytest.mark.parametrize("on_error", ["errors", "discard"])
@pytest.mark.parametrize("what", RETURNED)
def test_whatever_a_step_returns_that_is_no_row_fails_its_row_alone(what: str, on_error: str) -> None:
    """W8, E1, E2: nonsense is a failure with a text of its own; nothing of it reaches a payload or a sink."""
    ran = tried(step_file(on_error), [{"n": 0}], {"step": lambda row: RETURNED[what]})
    assert ran.told() == leaving(on_error, "bad_output", "StepFailed 0 step #1 bad_output")
    assert "expected" in ran.payload(ran.one(e.StepFailed).error)
    assert ran.outcomes == {"0": "routed" if on_error == "errors" else "quarantined"}


@pytest.mark.parametrize("on_error", ["errors", "discard"])
@pytest.mark.parametrize("error", [lambda: RetryableError("busy"), lambda: ConnectionError("refused"),
                                   lambda: TimeoutError("slow"), lambda: OSError(5, "EIO")])  # fmt: skip
def test_retries_that_are_exhausted_fail_the_row_by_the_last_attempt(
    error: Callable[[], BaseException], on_error: str
) -> None:
    """W9, E1, E2, law T10: each attempt is on record with the delay before the next; only the last one diverts."""
    ran = tried(step_file(on_error, attempts=3), [{"n": 0}], {"step": failing(error)})
    code = "retries_exhausted"
    attempts = [f"StepFailed 0 step #{n} {'retryable retry' if n < 3 else code}" for n in (1, 2, 3)]
    assert reordered(ran.told()) == reordered(leaving(on_error, code, *attempts))
    failures = ran.of(e.StepFailed)
    for failure, following in pairwise(failures):
        assert 500 <= failure.delay_ms <= 1000
        assert following.active_ms >= failure.active_ms + failure.delay_ms
    assert [failure.delay_ms for failure in failures][-1] == 0


def test_a_retry_that_succeeds_leaves_no_divert() -> None:
    """E1, law T10: two failures, then the row goes on as if nothing had been."""
    answers: list[BaseException | None] = [OSError("one"), RetryableError("two"), None]

    def step(row: Row) -> Row:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return row

    ran = tried(step_file("errors", attempts=3), [{"n": 0}], {"step": step})
    assert reordered(ran.told()) == [
        "RowRead 0", "StepFailed 0 step #1 retryable retry", "StepFailed 0 step #2 retryable retry",
        "StepCompleted 0 step #3", "SinkWriteIntended out 0", "SinkWriteConfirmed out 1", "RunSealed completed",
    ]  # fmt: skip
    assert ran.outcomes == {"0": "completed"}


def test_a_final_error_after_a_retry_is_not_tried_again() -> None:
    """E1, law T10: what is raised counts at each attempt anew."""
    answers: list[BaseException] = [OSError("once"), RowError("for good", "hopeless")]
    ran = tried(step_file("errors", attempts=5), [{"n": 0}], {"step": failing(lambda: answers.pop(0))})
    assert [line for line in ran.told() if "step #" in line] == [
        "StepFailed 0 step #1 retryable retry", "StepFailed 0 step #2 hopeless",
    ]  # fmt: skip


@pytest.mark.parametrize("on_error", ["errors", "discard", None])
@pytest.mark.parametrize(("condition", "code"), [
    ("row['label']", "unknown_label"), ("row['nowhere']", "condition_raised"), ("row['n']", "condition_type"),
    ("1 / row['n'] > 0", "condition_raised"),
])  # fmt: skip
def test_a_gate_that_cannot_choose_diverts_discards_or_fails(condition: str, code: str, on_error: str | None) -> None:
    """W9, E1, E2, G12, law R1: with a route as a step does; without one the row is `failed`, and no divert is said."""
    sketch = Sketch("rows").gate("gate", "rows", condition, {"go": "out"}, on_error=on_error).sink("out", "errors")
    ran = tried(sketch.text(), [{"n": 0, "label": "elsewhere"}])
    failed = f"StepFailed 0 gate #1 {code}"
    if on_error is None:
        assert ran.told() == ["RowRead 0", failed, "SourceExhausted 1", "RunSealed completed"]
    else:
        assert ran.told() == leaving(on_error, code, failed, node="gate")
    assert ran.payload(ran.one(e.StepFailed).error)
    assert ran.outcomes == {"0": {"errors": "routed", "discard": "quarantined", None: "failed"}[on_error]}


def test_a_failing_row_is_diverted_as_the_step_saw_it() -> None:
    """E1: the error sink gets the step's input, not what earlier steps got."""
    text = Sketch("rows").step("one", "rows", "two_in").step("two", "two_in", "out", "errors").sink("out", "errors").text()
    ran = tried(text, [{"n": 0}], {"one": lambda row: {**row, "one": True}, "two": failing(lambda: RowError("no"))})
    assert ran.rows("errors") == [{"n": 0, "one": True}]


def test_an_expansion_that_holds_nonsense_makes_no_child() -> None:
    """E1: one bad row among the outputs fails the whole attempt."""
    text = Sketch("rows").step("parts", "rows", "out", "errors", expands=True).sink("out", "errors").text()
    ran = tried(text, [{"n": 0}], {"parts": lambda row: [{"n": 1}, {"n": {1, 2}}]})
    assert ran.told()[1] == "StepFailed 0 parts #1 bad_output"
    assert set(ran.outcomes) == {"0"}
