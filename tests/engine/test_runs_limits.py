"""What a run may take: memory for what is open, a commit for many rows, limits that stop it in good order."""

from __future__ import annotations

from typing import Any

import pytest

from engine.loop import Hooks
from engine.plugin_api import RowError
from engine.wary import ROWS_PER_COMMIT
from ledger import events as e
from tests.kit.forks import Later, Row, forked
from tests.kit.pipelines import Sketch, failing, trial, tried
from tests.kit.twins import Pause, TrialStore

ROWS = 3000


def straight() -> str:
    """`source -> step -> out`."""
    return Sketch("rows").step("step", "rows", "out").sink("out").text()


def numbered(count: int) -> list[object]:
    """So many rows."""
    return [{"n": n} for n in range(count)]


# --- memory --------------------------------------------------------------------------------------------------------


def test_nothing_is_kept_of_rows_that_ended() -> None:
    """law P2: tokens, groups, families and rows are forgotten with their end; closed rows are one interval."""
    open_families: list[int] = []
    made = trial(forked("a", "b", policy="require_all").text(), numbered(ROWS),
                 {"step_b": lambda row: None if int(str(row["n"])) % 7 == 0 else row})  # fmt: skip
    made.hooks = Hooks(progress=lambda rows: open_families.append(len(recorder.state.families)))
    recorder, loop = made.opened()
    assert loop.run() is None
    state = recorder.state
    assert (state.tokens, state.families, state.groups, loop.desk.rows, loop.desk.stack) == ({}, {}, {}, {}, [])
    assert list(state.closed_rows) == [(0, ROWS)]
    assert max(open_families) <= ROWS_PER_COMMIT
    assert not state.owed


def test_what_waits_for_a_retry_is_bounded() -> None:
    """D8: reading pauses while a thousand rows wait to be tried again, so that memory does not grow with the source."""
    waiting: list[int] = []
    later = Later()

    def step(row: Row) -> object:
        waiting.append(len(loop._retries))
        return later(row)

    text = Sketch("rows", attempts=2, delay_seconds=5).step("step", "rows", "out").sink("out").text()
    recorder, loop = trial(text, numbered(2500), {"step": step}).opened()
    assert loop.run() is None
    assert 900 < max(waiting) <= 1000
    assert recorder.state.outcomes == {"completed": 2500}


# --- commits -------------------------------------------------------------------------------------------------------


def test_many_rows_share_a_commit() -> None:
    """law L1: about one append for two hundred rows, each with whole rows in it, and never one for each row."""
    store = TrialStore()
    ran = trial(straight(), numbered(ROWS), store=store).go()
    assert ran.receipt.outcomes == {"completed": ROWS}
    assert ROWS // ROWS_PER_COMMIT <= len(store.appends) <= ROWS // ROWS_PER_COMMIT + 6


def test_what_is_buffered_does_not_wait_for_two_hundred_rows() -> None:
    """D5: on a slow source a row is on record, and at its sink, within fifty milliseconds of run time."""
    store = TrialStore()
    seen: list[tuple[int, int]] = []
    made = trial(straight(), [item for n in range(20) for item in ({"n": n}, Pause(200))], store=store)
    made.hooks = Hooks(progress=lambda rows: seen.append((made.time.now_ns // 1_000_000, len(made.sinks["out"].rows))))
    ran = made.go()
    assert ran.receipt.rows == 20
    for read in ran.of(e.RowRead):
        written = next(ms for ms, count in seen if count > read.row)
        assert written - read.active_ms <= 50


def test_sinks_are_written_as_the_run_goes() -> None:
    """law R3: rows are at the sink long before the source ends, in the source's order, each exactly once."""
    counts: list[int] = []
    made = trial(straight(), numbered(ROWS))
    made.hooks = Hooks(progress=lambda rows: counts.append(len(made.sinks["out"].rows)))
    ran = made.go()
    assert counts[:5] == [200, 400, 600, 800, 1000]
    assert [row["n"] for row in ran.rows("out")] == list(range(ROWS))
    assert len(set(made.sinks["out"].keys)) == len(made.sinks["out"].keys) == len(ran.of(e.SinkWriteIntended))


# --- limits --------------------------------------------------------------------------------------------------------


def test_too_many_open_groups_stop_the_run_in_good_order() -> None:
    """W15, D8: one line with a code and what to do; everything is on record, held tokens are open, nothing is invented."""
    text = forked("a", "b", policy="require_all", attempts=2, delay_seconds=60, limits={"open_groups": 5}).text()
    made = trial(text, numbered(20), {"step_b": failing(lambda: OSError("never"))})
    ran = made.go()
    assert ran.fault is not None
    assert ran.fault.code == "LIMIT_EXCEEDED"
    assert "limits.open_groups" in str(ran.fault)
    assert ran.told()[-1].startswith("RunInterrupted limit_exceeded")
    assert (ran.verdict.status, ran.verdict.rows) == ("interrupted", 6)


@pytest.mark.parametrize("on_error", ["errors", "discard"])
def test_a_source_row_that_is_too_long_is_an_invalid_row(on_error: str) -> None:
    """W15, E4, E5: its beginning is kept, its length is told, and the others go on."""
    text = Sketch("out", invalid=on_error, limits={"row_bytes": 100}).sink("out", "errors").text()
    ran = tried(text, [{"n": 0}, {"n": "x" * 500}, {"n": 2}])
    assert ran.told("1")[0] == "RowRead 1 invalid row_too_long"
    assert ran.payload(ran.of(e.RowRead)[1].error) == "expected a row of at most 100 bytes, found 508"
    assert ran.outcomes == {"0": "completed", "1": "quarantined", "2": "completed"}


def test_a_step_that_makes_too_long_a_row_fails_it() -> None:
    """W15, E1: by the step's error edge, with the row that it got."""
    text = Sketch("rows", limits={"row_bytes": 100}).step("step", "rows", "out", "errors").sink("out", "errors").text()
    ran = tried(text, [{"n": 0}], {"step": lambda row: {**row, "x": "y" * 100}})
    assert ran.told()[1] == "StepFailed 0 step #1 limit_exceeded"
    assert ran.rows("errors") == [{"n": 0}]


@pytest.mark.parametrize("made", [[{"n": n} for n in range(4)], [{"n": "x" * 200}], [{}] * 10_001])
def test_an_expansion_beyond_its_limits_makes_no_child(made: list[dict[str, Any]]) -> None:
    """W15, E1: too many rows, or one that is too long: the attempt failed, the row leaves by the error edge."""
    sketch = Sketch("rows", limits={"row_bytes": 100, "expand_children": 3})
    text = sketch.step("parts", "rows", "out", "errors", expands=True).sink("out", "errors").text()
    ran = tried(text, [{"n": 0}], {"parts": lambda row: made})
    assert ran.told()[1] == "StepFailed 0 parts #1 limit_exceeded"
    assert ran.outcomes == {"0": "routed"}


# --- faults of the outside -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 250])
def test_when_the_source_raises_the_rows_so_far_finish(after: int) -> None:
    """W10: the position is on record, what was read is written, and the run can go on from there."""
    ran = tried(straight(), [*numbered(after), ValueError("torn page"), {"n": "never"}])
    assert ran.fault is not None
    assert ran.fault.code == "SOURCE_FAILED"
    assert ran.told()[-1].startswith("RunInterrupted source_failed")
    failed = ran.one(e.SourceFailed)
    assert failed.position == (after or None)
    assert ran.payload(failed.error) == "ValueError: torn page"
    assert ran.outcomes == {str(n): "completed" for n in range(after)}
    assert (ran.verdict.status, ran.verdict.open_tokens, len(ran.rows("out"))) == ("interrupted", 0, after)


def test_when_the_source_raises_open_groups_stay_open_and_retries_are_made() -> None:
    """W10, D6: a source that raised did not end: nothing is flushed; a branch that still can come does."""
    text = forked("a", "b", policy="require_all", attempts=2).text()
    ran = tried(text, [{"n": 0}, OSError(5, "EIO")], {"step_b": Later()})
    assert ran.one(e.TokensCoalesced).trigger == "all_arrived"
    assert ran.outcomes["0+join"] == "completed"
    assert ran.of(e.SourceExhausted) == []


def test_a_sink_that_cannot_be_written_interrupts_the_run() -> None:
    """W4, law R3: the failed write is on record, its tokens wait, nothing is said to be done."""
    made = trial(straight(), numbered(450))
    made.sinks["out"].while_writing = lambda: setattr(
        made.sinks["out"], "broken", OSError(28, "No space left on device") if len(made.sinks["out"].rows) >= 200 else None
    )
    ran = made.go()
    assert ran.fault is not None
    assert (ran.fault.code, ran.fault.where) == ("SINK_FAILED", "sink out")
    assert [line for line in ran.told() if line.startswith(("SinkWriteFailed", "RunInterrupted"))] == [
        "SinkWriteFailed out sink_unwritable", "RunInterrupted sink_failed sink out",
    ]  # fmt: skip
    assert "No space left on device" in ran.payload(ran.one(e.SinkWriteFailed).error)
    assert ran.outcomes == {str(n): "completed" for n in range(200)}
    assert (ran.verdict.status, ran.verdict.open_tokens, len(ran.rows("out"))) == ("interrupted", 200, 200)
    assert made.sinks["out"].closed is False


def test_a_sink_that_cannot_be_opened_interrupts_the_run_before_a_row_is_read() -> None:
    """Nothing is read, the other sinks are let go of, the run can be resumed."""
    text = Sketch("rows").step("step", "rows", "out", "errors").sink("out", "errors").text()
    made = trial(text, numbered(3))
    made.sinks["errors"].unopenable = PermissionError(13, "Permission denied")
    ran = made.go()
    assert ran.fault is not None
    assert ran.fault.code == "SINK_FAILED"
    assert ran.told() == ["RunInterrupted sink_failed sink errors"]
    assert made.sinks["out"].closed is False


def test_a_row_error_beside_a_broken_sink_is_not_lost() -> None:
    """E1: what was decided before the sink failed is committed with the failure."""
    text = Sketch("rows").step("step", "rows", "out", "errors").sink("out", "errors").text()
    made = trial(text, numbered(2), {"step": failing(lambda: RowError("no"))})
    made.sinks["errors"].broken = OSError("gone")
    ran = made.go()
    assert len(ran.of(e.Diverted)) == 2
    assert ran.verdict.open_tokens == 2
