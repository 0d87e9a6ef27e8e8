"""Aggregations in whole runs: what makes a batch due, what its plugin may give, what becomes of members and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from engine.plugin_api import BatchResult, Derived, Rejected
from ledger import events as e
from ledger.fold import State, apply
from tests.kit.batches import Rows, batched, batches, numbered, rejecting, told, total
from tests.kit.pipelines import Ran, Sketch, tried
from tests.kit.ports import SimulatedTime
from tests.kit.twins import Pause

COUNT = {"count": 2}
SECONDS = {"timeout_seconds": 5}
AGE = {"condition": "batch_age_seconds >= 5"}
LOOKS_EVERY_MS = 200


def outcomes(ran: Ran, *tokens: str) -> list[str]:
    """How these ended."""
    return [ran.outcomes[token] for token in tokens]


def closing(ran: Ran) -> tuple[str, int]:
    """What closed the first batch, and when."""
    first = ran.of(e.BatchFlushed)[0]
    return first.trigger, first.active_ms


# --- triggers --------------------------------------------------------------------------------------------------------


def test_a_count_closes_a_batch_with_the_member_that_makes_it_full() -> None:
    """D6, law C7: at once, before another row is read; the end of the source closes the last one."""
    ran = tried(batched(trigger=COUNT), numbered(5), {"totals": total})
    assert ran.told() == [
        "RowRead 0", "TokenBuffered 0 totals@1 0", "RowRead 1", "TokenBuffered 1 totals@1 1",
        "BatchFlushed totals@1 #1 count all",
        "RowRead 2", "TokenBuffered 2 totals@2 0", "RowRead 3", "TokenBuffered 3 totals@2 1",
        "BatchFlushed totals@2 #1 count all",
        "RowRead 4", "TokenBuffered 4 totals@3 0", "SourceExhausted 5",
        "BatchFlushed totals@3 #1 end_of_source all",
        "SinkWriteIntended out totals@1:0,totals@2:0,totals@3:0", "SinkWriteConfirmed out 3", "RunSealed completed",
    ]  # fmt: skip
    assert ran.rows("out") == [{"of": [0, 1]}, {"of": [2, 3]}, {"of": [4]}]


def test_a_count_of_one_makes_a_batch_of_each_row() -> None:
    """law C7: the first member is the last one."""
    ran = tried(batched(trigger={"count": 1}), numbered(3), {"totals": total})
    assert told(ran) == [(f"totals@{n + 1}", "count", [str(n)]) for n in range(3)]


def test_without_a_trigger_the_end_of_the_source_closes_the_batch() -> None:
    """D6, law C7: and with no row there is no batch at all."""
    assert told(tried(batched(), numbered(4), {"totals": total})) == [("totals@1", "end_of_source", ["0", "1", "2", "3"])]
    assert tried(batched(), [], {"totals": total}).told() == ["SourceExhausted 0", "RunSealed completed"]


def test_a_timeout_closes_a_batch_while_no_row_comes() -> None:
    """D5, law C7: it counts from the first member, to the millisecond; the next batch has a clock of its own."""
    rows = [{"n": 0}, Pause(3000), {"n": 1}, Pause(9000), {"n": 2}, Pause(9000), {"n": 3}]
    ran = tried(batched(trigger=SECONDS), rows, {"totals": total})
    assert told(ran) == [("totals@1", "timeout", ["0", "1"]), ("totals@2", "timeout", ["2"]),
                         ("totals@3", "end_of_source", ["3"])]  # fmt: skip
    assert [event.active_ms for event in ran.of(e.BatchFlushed)][:2] == [5000, 17_000]
    assert [line for line in ran.told() if line.startswith(("RowRead 2", "BatchFlushed totals@1"))] == [
        "BatchFlushed totals@1 #1 timeout all", "RowRead 2"]  # fmt: skip


def test_a_timer_that_ran_out_while_a_step_blocked_is_decided_before_what_the_step_gave() -> None:
    """D5, law C7: the row that the step was working on came too late for the batch, by the log's own order."""
    time = SimulatedTime()

    def slow(row: Mapping[str, Any]) -> Mapping[str, Any]:
        time.advance_ms(6000 if row["n"] == 1 else 0)
        return row

    text = Sketch("rows").step("slow", "rows", "next").batch("totals", "next", "out", trigger=SECONDS).sink("out").text()
    ran = tried(text, numbered(2), {"slow": slow, "totals": total}, time=time)
    lines = ran.told()
    assert lines.index("BatchFlushed totals@1 #1 timeout all") + 1 == lines.index("StepCompleted 1 slow #1")
    assert told(ran) == [("totals@1", "timeout", ["0"]), ("totals@2", "end_of_source", ["1"])]
    assert closing(ran) == ("timeout", 6000)


def test_a_timer_that_ran_out_while_another_batch_was_computed_is_decided_right_after_it() -> None:
    """D5, law C7: each at its own time; of two that are due the earlier deadline comes first."""
    time = SimulatedTime()

    def slow(rows: Rows) -> list[dict[str, Any]]:
        time.advance_ms(6000)
        return total(rows)

    sketch = Sketch("rows").gate("way", "rows", "row['to']", {"a": "a", "b": "b", "c": "c"})
    for name, seconds in (("a", 4), ("b", 8), ("c", 7)):
        sketch.batch(f"of_{name}", name, "out", trigger={"timeout_seconds": seconds})
    rows = [{"n": n, "to": name} for n, name in enumerate("abc")]
    steps = {"of_a": slow, "of_b": total, "of_c": total}
    ran = tried(sketch.sink("out").text(), [*rows, Pause(20_000)], steps, time=time)
    assert [(event.aggregation, event.trigger, event.active_ms) for event in ran.of(e.BatchFlushed)] == [
        ("of_a", "timeout", 4000), ("of_c", "timeout", 10_000), ("of_b", "timeout", 10_000)]  # fmt: skip


def test_a_condition_closes_a_batch_by_its_count() -> None:
    """law C7: looked at with each member."""
    ran = tried(batched(trigger={"condition": "batch_count * 2 > 5"}), numbered(4), {"totals": total})
    assert told(ran) == [("totals@1", "condition", ["0", "1", "2"]), ("totals@2", "end_of_source", ["3"])]


def test_a_condition_closes_a_batch_by_its_age_while_no_row_comes() -> None:
    """D5, law C7: it is looked at now and then while the source has nothing."""
    ran = tried(batched(trigger=AGE), [*numbered(2), Pause(20_000), {"n": 2}], {"totals": total})
    assert told(ran) == [("totals@1", "condition", ["0", "1"]), ("totals@2", "end_of_source", ["2"])]
    at_ms = closing(ran)[1]
    assert 5000 <= at_ms <= 5000 + LOOKS_EVERY_MS


def test_a_condition_that_raises_does_not_hold() -> None:
    """G12, law C7: it is looked at again with the next member; nothing fails."""
    ran = tried(batched(trigger={"condition": "12 // (batch_count - 1) < 5"}), numbered(5), {"totals": total})
    assert told(ran) == [("totals@1", "condition", ["0", "1", "2", "3"]), ("totals@2", "end_of_source", ["4"])]


@pytest.mark.parametrize(("trigger", "pause_ms", "expected"), [
    ({**COUNT, "condition": "batch_count >= 2"}, 100, ("count", 100)),
    ({"count": 3, "condition": "batch_count >= 2"}, 100, ("condition", 100)),
    ({**SECONDS, **AGE}, 20_000, ("timeout", 5000)),
    ({"timeout_seconds": 6, **AGE}, 20_000, ("condition", 5000)),
    ({**SECONDS, **COUNT}, 4900, ("count", 4900)),
    ({**SECONDS, **COUNT}, 5000, ("timeout", 5000)),
    ({**AGE, **COUNT}, 4900, ("count", 4900)),
    ({**AGE, "count": 3}, 4900, ("end_of_source", 4900)),
    ({**SECONDS, "count": 3}, 100, ("end_of_source", 100)),
])  # fmt: skip
def test_the_first_trigger_wins_and_is_the_one_on_record(
    trigger: dict[str, object], pause_ms: int, expected: tuple[str, int]
) -> None:
    """D5, D6, law C7: two rows with a pause between them; where one member brings both, it is the count."""
    ran = tried(batched(trigger=trigger), [{"n": 0}, Pause(pause_ms), {"n": 1}], {"totals": total})
    why, at_ms = closing(ran)
    late_ms = LOOKS_EVERY_MS if expected == ("condition", 5000) else 0
    assert why == expected[0]
    assert expected[1] <= at_ms <= expected[1] + late_ms
    assert len(ran.of(e.BatchFlushed)) == (2 if at_ms >= 5000 else 1)


def test_batches_are_numbered_in_the_order_in_which_they_begin() -> None:
    """law C7: each aggregation counts for itself, from 1, whatever is flushed when."""
    sketch = Sketch("rows").gate("way", "rows", "row['n'] % 3 == 0", {"true": "a", "false": "b"})
    sketch.batch("fast", "b", "out", trigger={"count": 1}).batch("slow", "a", "out", trigger=COUNT)
    ran = tried(sketch.sink("out").text(), numbered(7), {"fast": total, "slow": total})
    assert told(ran) == [
        ("slow@1", "count", ["0", "3"]), ("fast@1", "count", ["1"]), ("fast@2", "count", ["2"]),
        ("fast@3", "count", ["4"]), ("fast@4", "count", ["5"]), ("slow@2", "end_of_source", ["6"]),
    ]  # fmt: skip


# --- what a plugin gives -----------------------------------------------------------------------------------------------


def test_a_plain_row_has_all_members_as_its_parents() -> None:
    """G11, law C7: many to some, and to more than there were."""
    ran = tried(batched(trigger=COUNT), numbered(2), {"totals": lambda rows: [{"part": part} for part in range(3)]})
    assert [output.parents for output in ran.one(e.BatchFlushed).outputs or ()] == ["all"] * 3
    assert outcomes(ran, "0", "1", "totals@1:0", "totals@1:2") == ["consumed_in_batch"] * 2 + ["completed"] * 2
    assert ran.rows("out") == [{"part": 0}, {"part": 1}, {"part": 2}]


def test_a_derived_row_has_the_parents_that_it_names() -> None:
    """G11, law C7, law T7: a member that no row names is dropped; what two rows name is shared between them."""
    made = [Derived({"of": "2 0"}, (2, 0)), Derived({"of": "2"}, (2,)), {"of": "all"}]
    ran = tried(batched(), numbered(4), {"totals": lambda rows: made[:2]})
    assert ran.told("totals@1")[-1] == "BatchFlushed totals@1 #1 end_of_source 2+0 2"
    assert outcomes(ran, "0", "1", "2", "3") == ["consumed_in_batch", "dropped_by_filter"] * 2
    ran = tried(batched(), numbered(4), {"totals": lambda rows: made})
    assert ran.told("totals@1")[-1] == "BatchFlushed totals@1 #1 end_of_source 2+0 2 all"
    assert outcomes(ran, "0", "1", "2", "3") == ["consumed_in_batch"] * 4


@pytest.mark.parametrize("nothing", [[], (), BatchResult([]), BatchResult((), ())])
def test_a_batch_that_comes_to_nothing_drops_its_members(nothing: object) -> None:
    """law C7, law T7: flushed all the same, and each member has its end."""
    ran = tried(batched(trigger=COUNT), numbered(2), {"totals": lambda rows: nothing})
    assert ran.told("totals@1")[-1] == "BatchFlushed totals@1 #1 count nothing"
    assert ran.receipt.outcomes == {"dropped_by_filter": 2}


def test_outputs_exist_in_the_event_in_which_members_end() -> None:
    """law T5, law C7: no event stands between them, and at no prefix is a member gone and its output not there."""
    result = BatchResult([Derived({"x": 1}, (0,)), {"x": 2}], [Rejected(2, "no")])
    ran = tried(batched(trigger={"count": 4}), numbered(4), {"totals": lambda rows: result})
    state = State(ran.run)
    for event in ran.events:
        apply(state, event)
        if isinstance(event, e.BatchFlushed):
            assert [token.id for token in state.born] == ["totals@1:0", "totals@1:1"]
            assert {token.id: token.outcome for token in state.ended} == dict.fromkeys(["0", "1", "3"], "consumed_in_batch")
        assert state.live >= 1 or not isinstance(event, (e.TokenBuffered, e.BatchFlushed))


@pytest.mark.parametrize("on_error", ["errors", "discard"])
def test_a_rejected_member_leaves_by_the_error_edge_and_is_nobodys_parent(on_error: str) -> None:
    """E1, E2, G11, law R1: with its code and its reason; the others are consumed."""
    ran = tried(batched(on_error=on_error), numbered(4), {"totals": rejecting(2, 0)})
    way = "errors by totals:__error_totals__" if on_error == "errors" else "discard by None"
    lines = ran.told()
    flushed = lines.index("BatchFlushed totals@1 #1 end_of_source all rejected 0:odd,2:odd")
    assert lines[flushed + 1 : flushed + 3] == [f"Diverted {token} error totals > {way} odd" for token in (0, 2)]
    assert [ran.payload(event.reason) for event in ran.of(e.Diverted)] == ["member 0", "member 2"]
    assert outcomes(ran, "1", "3", "totals@1:0") == ["consumed_in_batch"] * 2 + ["completed"]
    assert outcomes(ran, "0", "2") == ["routed" if on_error == "errors" else "quarantined"] * 2
    assert ran.rows("out") == [{"of": [1, 3]}]
    assert ran.rows("errors") == ([{"n": 0}, {"n": 2}] if on_error == "errors" else [])


@pytest.mark.parametrize("mode", ["transform", "passthrough"])
def test_a_batch_may_reject_every_member(mode: str) -> None:
    """E1, G11, law C7: there is nothing left to make a row of, whatever count is expected."""
    ran = tried(batched(trigger=COUNT, output_mode=mode, expected_output_count=2), numbered(2), {"totals": rejecting(0, 1)})
    assert ran.told("totals@1")[-1] == "BatchFlushed totals@1 #1 count rejected 0:odd,1:odd"
    assert ran.receipt.outcomes == {"routed": 2}
    assert ran.rows("errors") == [{"n": 0}, {"n": 1}]


# --- passthrough -------------------------------------------------------------------------------------------------------


def test_in_passthrough_the_same_tokens_go_on_in_their_order() -> None:
    """law C7: no token is made; a row that was not changed refers to the payload that it came with."""

    def rank(rows: Rows) -> list[Mapping[str, Any]]:
        return [row if n == 1 else Derived({**row, "rank": n}, (n,)) if n else {**row, "rank": n}  # type: ignore[misc]
                for n, row in enumerate(rows)]

    ran = tried(batched(output_mode="passthrough"), numbered(3), {"totals": rank})
    assert ran.told()[-4:] == ["BatchFlushed totals@1 #1 end_of_source 0 1 2", "SinkWriteIntended out 0,1,2",
                               "SinkWriteConfirmed out 3", "RunSealed completed"]  # fmt: skip
    assert ran.rows("out") == [{"n": 0, "rank": 0}, {"n": 1}, {"n": 2, "rank": 2}]
    assert (ran.receipt.tokens, ran.receipt.outcomes) == (3, {"completed": 3})
    outputs = [one.output for one in ran.one(e.BatchFlushed).outputs or ()]
    assert outputs[1] == ran.of(e.RowRead)[1].data.n
    assert [ran.payload(output) for output in outputs] == ran.rows("out")
    assert [type(output) for output in outputs] == [e.Commitment, int, e.Commitment]


def test_a_row_that_equals_its_one_parents_is_kept_once() -> None:
    """law C7: the bytes decide: `1` and `true` are equal to Python, and not the same row."""
    result = [Derived({"n": 1}, (1,)), Derived({"n": True}, (1,)), Derived({"n": 1}, (0, 1))]
    ran = tried(batched(), numbered(2), {"totals": lambda rows: result})
    same, other, shared = [one.output for one in ran.one(e.BatchFlushed).outputs or ()]
    assert same == ran.of(e.RowRead)[1].data.n
    assert (ran.payload(other), ran.payload(shared)) == ({"n": True}, {"n": 1})
    assert isinstance(other, e.Commitment)


def test_in_passthrough_a_rejected_member_leaves_and_the_others_go_on() -> None:
    """E1, G11: one row for each of the others, in their order."""
    result = BatchResult([{"n": 0, "kept": True}, {"n": 2, "kept": True}], [Rejected(1, "no")])
    ran = tried(batched(output_mode="passthrough"), numbered(3), {"totals": lambda rows: result})
    assert ran.told("1")[1:3] == ["TokenBuffered 1 totals@1 1",
                                  "Diverted 1 error totals > errors by totals:__error_totals__ rejected"]  # fmt: skip
    assert (ran.rows("out"), ran.rows("errors")) == ([{"n": 0, "kept": True}, {"n": 2, "kept": True}], [{"n": 1}])
    assert outcomes(ran, "0", "1", "2") == ["completed", "routed", "completed"]


# --- how many rows are expected --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "plugin", "met"), [
    ("transform", total, False), ("transform", lambda rows: [{}, {}], True), ("transform", lambda rows: [], False),
    ("transform", lambda rows: BatchResult([{}, Derived({}, (0,))], [Rejected(1, "no")]), True),
    ("passthrough", lambda rows: rows, True), ("passthrough", rejecting(0), False),
])  # fmt: skip
def test_a_batch_makes_as_many_rows_as_are_expected_of_it_or_fails(mode: str, plugin: Any, met: bool) -> None:
    """E1, law C7: not one more or less; every member of a batch that misses it leaves by the error edge."""
    ran = tried(batched(trigger=COUNT, output_mode=mode, expected_output_count=2), numbered(2), {"totals": plugin})
    assert len(ran.of(e.BatchFlushed)) == met
    assert [event.code for event in ran.of(e.BatchFailed)] == ([] if met else ["output_count"])
    if not met:
        assert "expected 2 rows of each batch, found" in ran.payload(ran.one(e.BatchFailed).error)
        assert ran.rows("errors") == [{"n": 0}, {"n": 1}]


def test_every_batch_of_a_long_run_is_told_whole_and_in_order() -> None:
    """law C7, F3: batches partition the tokens that arrived, in their order, over many commits."""
    ran = tried(batched(trigger={"count": 7}), numbered(1000), {"totals": total})
    found = batches(ran.events)
    assert [token for batch in found.values() for token in batch.members] == [str(n) for n in range(1000)]
    assert [batch.number for batch in found.values()] == [*range(1, 144)]
    assert ran.receipt.outcomes == {"completed": 143, "consumed_in_batch": 1000}
