"""Plugins that give nonsense: each fails its row or interrupts its run, on record; none ends the process or the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from engine.bound import RetryPolicy
from engine.plugin_api import Prepared, Refusal, RowError, Written
from ledger import events as e
from ledger.errors import RunIncomplete
from tests.kit.pipelines import Sketch, trial, tried
from tests.kit.twins import ListSink


class Codeless(RowError):
    """An error whose own `__init__` forgets the code."""

    def __init__(self) -> None:
        """Say nothing."""


class Unspeakable(Exception):
    """An error that cannot be told."""

    def __str__(self) -> str:
        raise SystemExit(3)


class Itemless(dict[str, object]):
    """A dict that does not show its items."""

    def items(self) -> object:  # type: ignore[override]
        """Refuse."""
        raise ValueError("no items")


class Lying:
    """A value whose class raises."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise ValueError("no class")


class Unshowable(str):
    """A field name that cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError("no repr")


def raising(error: Callable[[], BaseException]) -> Callable[[Mapping[str, object]], object]:
    """A step that raises."""

    def step(row: Mapping[str, object]) -> object:
        raise error()

    return step


def nested(depth: int) -> object:
    """Lists in lists."""
    value: object = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (raising(lambda: RowError("x", 5)), "bad_code"),  # type: ignore[arg-type]
        (raising(lambda: RowError("x", "c" * 70_000)), "bad_code"),
        (raising(lambda: RowError("x", "\ud800")), "bad_code"),
        (raising(Codeless), "bad_code"),
        (raising(lambda: RowError("x" * 10_000_000)), "row_error"),
        (raising(Unspeakable), "plugin_raised"),
        (lambda row: {Unshowable("a"): object()}, "plugin_raised"),
        (lambda row: Lying(), "plugin_raised"),
        (lambda row: {"x": nested(100_000)}, "bad_output"),
        (lambda row: {"x": 2**63}, "bad_output"),
        (lambda row: {"x": float("nan")}, "bad_output"),
        (lambda row: {"\ud800": 1}, "bad_output"),
        (lambda row: [row], "bad_output"),
        (lambda row: row.update(n=1), "plugin_raised"),
    ],
)
def test_nonsense_fails_its_row_with_a_code_that_tables_can_hold(step: Callable[[Mapping[str, object]], object], code: str
                                                                 ) -> None:
    """W8, E1: whatever a plugin raises or gives back, the row leaves by its error edge and the run goes on."""
    text = Sketch("rows").step("step", "rows", "out", "errors").sink("out", "errors").text()
    ran = tried(text, [{"n": 0}, {"n": 1}], {"step": step})
    assert [event.code for event in ran.of(e.StepFailed)] == [code, code]
    assert (ran.rows("out"), len(ran.rows("errors"))) == ([], 2)


def test_a_dict_of_another_class_is_taken_for_the_row_it_holds() -> None:
    """E1: what it does when it is looked at is its own affair: its fields are read, not its methods."""
    text = Sketch("rows").step("step", "rows", "out", "errors").sink("out", "errors").text()
    assert tried(text, [{"n": 0}], {"step": lambda row: Itemless(n=7)}).rows("out") == [{"n": 7}]


class Breaking(ListSink):
    """A sink that gives nonsense, or raises what is no exception of a sink."""

    def __init__(self, result: object) -> None:
        super().__init__("out")
        self.result = result

    def write(self, prepared: Prepared, key: str) -> Written:
        """Give or raise it."""
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result  # type: ignore[return-value]

    def close(self, finished: bool) -> None:
        """Break here as well."""
        raise ValueError("and it does not close")


@pytest.mark.parametrize(
    "result",
    [SystemExit(0), RecursionError(), ValueError("x"), None, "written", Written(7, 1, "", ()),  # type: ignore[arg-type]
     Written("uri", 1, "", (Refusal(9, "x", "no such place"),)),
     Written("uri", 1, "", (Refusal(0, "x", "one"), Refusal(0, "x", "two")))],
)
def test_a_sink_that_gives_nonsense_interrupts_the_run_and_its_tokens_wait(result: object) -> None:
    """W8, E1, F3: the write has failed on record, its tokens have no end yet, and the first fault is what is told."""
    made = trial(Sketch("out").sink("out").text(), [{"n": 0}])
    made.bound.sinks["out"] = Breaking(result)  # type: ignore[index]
    with pytest.raises(RunIncomplete) as fault:
        made.start()
    assert fault.value.code == "SINK_FAILED"
    ran = made.left()
    assert ran.verdict.status == "interrupted"
    assert ran.verdict.open_tokens == 1
    assert len(ran.of(e.SinkWriteFailed)) == 1


class Lost(ListSink):
    """A sink that does not know where it is."""

    def offset(self) -> int | None:
        """Fail."""
        raise OSError(5, "gone")


def test_a_sink_that_does_not_know_its_offset_interrupts_the_run() -> None:
    """F3: its tokens wait, and the fault has its name."""
    made = trial(Sketch("out").sink("out").text(), [{"n": 0}])
    made.bound.sinks["out"] = Lost("out")  # type: ignore[index]
    with pytest.raises(RunIncomplete) as fault:
        made.start()
    assert (fault.value.code, made.left().verdict.status) == ("SINK_FAILED", "interrupted")


def test_a_refusal_may_have_any_code_and_text() -> None:
    """R3, law R3: a code that is none is told as such, and the row is diverted."""
    made = trial(Sketch("out").sink("out").text(), [{"n": 0}, {"n": 1}])
    made.bound.sinks["out"] = Refusing("out")  # type: ignore[index]
    made.start()
    ran = made.left()
    assert [event.code for event in ran.of(e.Diverted)] == ["bad_code"]
    assert ran.verdict.outcomes == {"completed": 1, "diverted": 1}


class Refusing(ListSink):
    """Refuses the first row with no code at all."""

    def write(self, prepared: Prepared, key: str) -> Written:
        """Take the rest."""
        return Written("memory:", 1, "", (Refusal(0, None, 5),))  # type: ignore[arg-type]


def test_a_collision_of_thousands_of_fields_merges_and_is_on_record() -> None:
    """G12, D7: however wide the rows are, the merge stands, and every field that collided is named."""
    wide = {f"field_{n}": n for n in range(2_500)}
    sketch = Sketch("rows").fork("both", "rows", "a", "b").step("left", "a", "l").step("right", "b", "r")
    text = sketch.join("join", {"a": "l", "b": "r"}, "require_all", "out").sink("out").text()
    ran = tried(text, [wide], {"left": lambda row: {**row}, "right": lambda row: dict.fromkeys(row, -1)})
    (merged,) = ran.of(e.TokensCoalesced)
    assert len(merged.collisions) == 2_500
    assert merged.collisions_list is not None
    assert ran.rows("out") == [dict.fromkeys(wide, -1)]


def test_a_step_may_expand_to_thousands_of_rows_in_their_order() -> None:
    """G6: a list that is longer than a body stands in a payload; the children go on in the order they were given."""
    text = Sketch("rows").step("split", "rows", "out", "discard", expands=True).sink("out").text()
    ran = tried(text, [{"n": 3_000}], {"split": lambda row: [{"part": n} for n in range(3_000)]})
    (expanded,) = ran.of(e.TokenExpanded)
    assert (expanded.count, expanded.outputs_list is not None) == (3_000, True)
    assert ran.rows("out") == [{"part": n} for n in range(3_000)]


def test_delays_between_attempts_never_overflow() -> None:
    """E1: any number of attempts and any base give a delay, at most the longest."""
    policy = RetryPolicy(initial_delay_ms=100, max_delay_ms=5_000, exponential_base=100.0)
    assert all(0 <= policy.delay_ms(1, "0", "step", attempt) <= 5_000 for attempt in (1, 2, 150, 1000))
