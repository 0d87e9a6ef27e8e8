"""Aggregations among other nodes: in a corridor, before and after forks and joins, two in a row; at a stop, at limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from engine.loop import Hooks
from engine.plugin_api import BatchResult, Derived, Rejected
from ledger import events as e
from ledger.replay import replay
from tests.kit.admissible import inadmissible
from tests.kit.batches import Rows, Times, batched, batches, numbered, rejecting, told, total
from tests.kit.pipelines import Ran, Sketch, trial, tried
from tests.kit.twins import Pause, TrialStore

COUNT = {"count": 2}
PASSING: Mapping[str, Any] = {"output_mode": "passthrough"}
BODY_BYTES_MAX = 65_535
MANY = 3000


def passing_but(*numbers: int) -> Any:
    """In passthrough mode: these rows are rejected, the others are marked."""

    def plugin(rows: Rows) -> BatchResult:
        taken = [{**row, "seen": True} for row in rows if row["n"] not in numbers]
        return BatchResult(taken, [Rejected(n, "odd", "odd") for n, row in enumerate(rows) if row["n"] in numbers])

    return plugin


# --- corridors -------------------------------------------------------------------------------------------------------


def corridor(policy: str, **settings: Any) -> str:
    """`split -> (a: a batch in passthrough; b: nothing) -> join -> out`."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b").batch("seen", "a", "done", "errors", **PASSING, trigger=COUNT)
    return sketch.join("join", {"a": "done", "b": "b"}, policy, "out", **settings).sink("out", "errors").text()


def test_a_batch_in_a_corridor_passes_its_carriers_on_to_their_groups() -> None:
    """D4, D6, law C7: each goes to the group of its own row; what waits for the batch is held, and the end flushes it."""
    ran = tried(corridor("require_all"), numbered(3), {"seen": passing_but()})
    assert told(ran) == [("seen@1", "count", ["0.a", "1.a"]), ("seen@2", "end_of_source", ["2.a"])]
    assert ran.told("0.a") == ["TokenBuffered 0.a seen@1 0", "BranchArrived 0.a 0+join a"]
    assert ran.told("2+join")[:3] == ["BranchArrived 2.b 2+join b", "BranchArrived 2.a 2+join a",
                                      "TokensCoalesced 2+join all_arrived"]  # fmt: skip
    assert ran.rows("out") == [{"n": n, "seen": True} for n in range(3)]
    assert inadmissible(ran.events, ran.graph) == []


@pytest.mark.parametrize(("policy", "settings", "decided"), [
    ("require_all", {}, "CoalesceFailed 1+join branch_lost branch_lost:a"),
    ("best_effort", {"timeout_seconds": 60}, "TokensCoalesced 1+join branch_lost"),
    ("quorum", {"quorum_count": 2}, "CoalesceFailed 1+join branch_lost quorum_impossible:need=2,max_possible=1"),
])  # fmt: skip
def test_a_rejected_carrier_is_a_lost_branch_with_its_reason(policy: str, settings: dict[str, Any], decided: str) -> None:
    """E9, E10, G11: its group hears of it at once and decides; the other carriers of the batch are not touched."""
    ran = tried(corridor(policy, **settings), numbered(2), {"seen": passing_but(1)})
    assert ran.told("1+join")[:3] == ["BranchArrived 1.b 1+join b", "BranchLost 1.a 1+join a error_routed:seen:odd", decided]
    resolved = next(event for event in ran.events if isinstance(event, (e.TokensCoalesced, e.CoalesceFailed))
                    and event.group == "1+join")
    assert resolved.facts is not None
    assert resolved.facts.branches_lost == (e.Loss("a", "error_routed:seen:odd"),)
    assert ran.rows("errors") == [{"n": 1}]
    assert ran.outcomes["0+join"] == "completed"
    assert inadmissible(ran.events, ran.graph) == []


def test_a_carrier_that_comes_at_once_is_before_one_that_stands_before_a_batch() -> None:
    """G2, law C4: members are taken when nothing else is in hand; a loss that comes after `first` has merged is not told."""
    ran = tried(corridor("first"), numbered(2), {"seen": passing_but(1)})
    assert ran.told("1+join")[:2] == ["BranchArrived 1.b 1+join b", "TokensCoalesced 1+join first_arrival"]
    assert ran.of(e.BranchLost) == []
    assert ran.outcomes["1.a"] == "routed"


def test_a_batch_that_fails_loses_every_branch_that_it_held() -> None:
    """E1, E9: each group by its own."""
    ran = tried(corridor("require_all"), numbered(2), {"seen": lambda rows: 1 / 0})
    assert [event.group for event in ran.of(e.CoalesceFailed)] == ["0+join", "1+join"]
    assert [(event.group, event.cause, event.node, event.code) for event in ran.of(e.BranchLost)] == [
        ("0+join", "error_routed", "seen", "plugin_raised"), ("1+join", "error_routed", "seen", "plugin_raised")]
    assert ran.receipt.outcomes == {"failed": 2, "forked": 2, "routed": 2}


def test_a_carrier_that_waits_in_a_batch_is_late_when_its_group_has_timed_out() -> None:
    """D5, G5: it is a member until the batch is flushed, and then it comes too late."""
    text = corridor("best_effort", timeout_seconds=5)
    ran = tried(text, [{"n": 0}, Pause(6000), {"n": 1}], {"seen": passing_but()})
    assert [line for line in ran.told("0+join") if "Sink" not in line] == [
        "BranchArrived 0.b 0+join b", "TokensCoalesced 0+join timeout", "BranchArrivedLate 0.a 0+join a merged"]
    assert ran.outcomes["0.a"] == "failed"
    assert ran.rows("out") == [{"n": 0}, {"n": 1, "seen": True}]


def test_children_on_their_way_to_a_gather_may_pass_through_a_batch() -> None:
    """C1, C3, E9, G11: a batch takes children of several rows; a rejected one is a member lost to its own gather."""
    sketch = Sketch("rows").step("parts", "rows", "children", expands=True)
    sketch.batch("seen", "children", "done", **PASSING, trigger={"count": 3})
    text = sketch.gather("gather", "parts", "done", "best_effort", "out", timeout_seconds=60).sink("out").text()
    steps = {"parts": lambda row: [{"n": 10 * row["n"] + part} for part in range(2)], "seen": passing_but(1, 10)}
    ran = tried(text, numbered(3), steps)
    assert told(ran) == [("seen@1", "count", ["0:0", "0:1", "1:0"]), ("seen@2", "count", ["1:1", "2:0", "2:1"])]
    assert [[item["n"] for item in row["items"]] for row in ran.rows("out")] == [[0], [11], [20, 21]]
    assert [(event.token, event.group) for event in ran.of(e.BranchLost)] == [("0:1", "0+gather"), ("1:0", "1+gather")]


def test_between_two_members_that_one_batch_rejects_the_group_of_the_first_decides() -> None:
    """E9, G2, G11: a loss is told at once; a group that it closed hears of no other."""
    sketch = Sketch("rows").step("parts", "rows", "children", expands=True).batch("seen", "children", "done", **PASSING)
    text = sketch.gather("gather", "parts", "done", "require_all", "out").sink("out").text()
    ran = tried(text, numbered(1), {"parts": lambda row: numbered(3), "seen": passing_but(0, 1)})
    assert ran.told()[6:] == [
        "BatchFlushed seen@1 #1 end_of_source 2 rejected 0:odd,1:odd",
        "Diverted 0:0 error seen > discard by None odd", "BranchLost 0:0 0+gather 0 discarded:seen:odd",
        "CoalesceFailed 0+gather branch_lost branch_lost:0",
        "Diverted 0:1 error seen > discard by None odd", "BranchArrivedLate 0:2 0+gather 2 failed", "RunSealed completed",
    ]  # fmt: skip
    assert inadmissible(ran.events, ran.graph) == []


# --- before and after ------------------------------------------------------------------------------------------------


def test_a_batch_after_a_fork_that_joins_nowhere_ends_the_branch() -> None:
    """law T7, C7: the other branch goes its own way; the outputs have no lineage but their parents."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b")
    sketch.batch("totals", "a", "out", trigger=COUNT).step("next", "b", "out")
    ran = tried(sketch.sink("out").text(), numbered(3), {"totals": total})
    assert told(ran) == [("totals@1", "count", ["0.a", "1.a"]), ("totals@2", "end_of_source", ["2.a"])]
    assert ran.receipt.outcomes == {"completed": 5, "consumed_in_batch": 3, "forked": 3}
    assert ran.of(e.BranchLost) == []


def test_what_leaves_a_corridor_for_a_batch_is_lost_to_its_group_when_it_leaves() -> None:
    """E9: the group is told at the gate, and hears nothing of the flush."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b")
    sketch.gate("way", "a", "row['n'] == 0", {"true": "away", "false": "on"}).batch("totals", "away", "out")
    sketch.join("join", {"a": "on", "b": "b"}, "best_effort", "out", timeout_seconds=60)
    ran = tried(sketch.sink("out").text(), numbered(2), {"totals": total})
    assert [(event.token, event.cause) for event in ran.of(e.BranchLost)] == [("0.a", "routed_away")]
    assert told(ran) == [("totals@1", "end_of_source", ["0.a"])]
    assert inadmissible(ran.events, ran.graph) == []


def test_a_batch_takes_merged_tokens_and_its_outputs_fork_join_and_expand() -> None:
    """law T5, law T7, G6: ids name the batch; lineage begins anew with its outputs."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b").join("join", {"a": "a", "b": "b"}, "require_all", "joined")
    sketch.batch("totals", "joined", "sums", trigger=COUNT).fork("again", "sums", "left", "right")
    sketch.join("both", {"left": "left", "right": "right"}, "require_all", "whole")
    sketch.step("parts", "whole", "out", expands=True)
    steps = {"totals": total, "parts": lambda row: [{"n": n} for n in row["of"]]}
    ran = tried(sketch.sink("out").text(), numbered(2), steps)
    lines = ran.told()
    assert lines[lines.index("RowRead 1") + 1 :] == [
        "TokenForked 1 split a,b", "BranchArrived 1.a 1+join a", "BranchArrived 1.b 1+join b",
        "TokensCoalesced 1+join all_arrived", "TokenBuffered 1+join totals@1 1", "BatchFlushed totals@1 #1 count all",
        "TokenForked totals@1:0 again left,right", "BranchArrived totals@1:0.left totals@1:0+both left",
        "BranchArrived totals@1:0.right totals@1:0+both right", "TokensCoalesced totals@1:0+both all_arrived",
        "TokenExpanded totals@1:0+both parts 2", "SourceExhausted 2",
        "SinkWriteIntended out totals@1:0+both:0,totals@1:0+both:1", "SinkWriteConfirmed out 2", "RunSealed completed",
    ]  # fmt: skip
    assert (ran.outcomes["1+join"], ran.outcomes["totals@1:0"]) == ("consumed_in_batch", "forked")
    assert ran.rows("out") == numbered(2)


def test_a_batch_takes_what_a_gather_merged() -> None:
    """C1, C7: the merged token is a member like any other."""
    sketch = Sketch("rows").step("parts", "rows", "children", expands=True)
    sketch.gather("gather", "parts", "children", "require_all", "lists").batch("totals", "lists", "out").sink("out")
    steps = {"parts": lambda row: [{"part": part} for part in range(row["n"])],
             "totals": lambda rows: [{"parts": sum(len(row["items"]) for row in rows)}]}  # fmt: skip
    ran = tried(sketch.text(), numbered(4), steps)
    assert told(ran) == [("totals@1", "end_of_source", [f"{n}+gather" for n in range(4)])]
    assert ran.rows("out") == [{"parts": 6}]


def two_in_a_row(**second: Any) -> str:
    """`first` of two rows, `second` of what it makes."""
    sketch = Sketch("rows").batch("first", "rows", "between", trigger=COUNT)
    return sketch.batch("second", "between", "out", **second).sink("out").text()


def test_batches_of_batches_are_flushed_from_the_source_down() -> None:
    """D6, law C7: at the end the first one's outputs are still members of the second."""
    ran = tried(two_in_a_row(), numbered(5), {"first": lambda rows: [{"n": row["n"]} for row in rows], "second": total})
    assert told(ran) == [
        ("first@1", "count", ["0", "1"]),
        ("second@1", "end_of_source", ["first@1:0", "first@1:1", "first@2:0", "first@2:1", "first@3:0"]),
        ("first@2", "count", ["2", "3"]), ("first@3", "end_of_source", ["4"])]  # fmt: skip
    ends = [f"{event.aggregation}@{event.batch}" for event in ran.of(e.BatchFlushed)]
    assert ends == ["first@1", "first@2", "first@3", "second@1"]
    assert ran.outcomes["first@3:0"] == "consumed_in_batch"
    assert ran.rows("out") == [{"of": [0, 1, 2, 3, 4]}]


def test_the_end_of_the_source_drains_what_is_behind_a_node_before_it_flushes_the_next() -> None:
    """D6: a batch that is full meanwhile is flushed by its count, a group that is whole merges as whole."""
    sketch = Sketch("rows").batch("first", "rows", "a").fork("split", "a", "x", "y").batch("seen", "x", "b", **PASSING)
    sketch.join("join", {"x": "b", "y": "y"}, "require_all", "c").batch("last", "c", "out", trigger={"count": 3})
    steps = {"first": lambda rows: [Derived(row, (n,)) for n, row in enumerate(rows)], "seen": passing_but(), "last": total}
    ran = tried(sketch.sink("out").text(), numbered(4), steps)
    decisions = [line for line in ran.told() if line.startswith(("BatchFlushed", "TokensCoalesced", "SourceE"))]
    assert decisions == [
        "SourceExhausted 4", "BatchFlushed first@1 #1 end_of_source 0 1 2 3", "BatchFlushed seen@1 #1 end_of_source 0 1 2 3",
        "TokensCoalesced first@1:0+join all_arrived", "TokensCoalesced first@1:1+join all_arrived",
        "TokensCoalesced first@1:2+join all_arrived", "TokensCoalesced first@1:3+join all_arrived",
        "BatchFlushed last@1 #1 count all", "BatchFlushed last@2 #1 end_of_source all"]  # fmt: skip


# --- stops and limits ------------------------------------------------------------------------------------------------


def left_open(ran: Ran) -> dict[str, tuple[int, str, list[str]]]:
    """The batches that are open when the log ends: number, whether due, members."""
    state = replay(ran.store, ran.run).state
    return {name: (one.number, one.status, [token.id for token in one.members]) for name, one in state.batches.items()}


class StopAfter:
    """A reason to stop, once it was asked so often."""

    def __init__(self, asked: int) -> None:
        self._left = asked

    def __call__(self) -> str | None:
        """None, or the reason."""
        self._left -= 1
        return "enough" if self._left < 0 else None


@pytest.mark.parametrize("asked", range(4, 14))
def test_a_stop_leaves_a_batch_open_with_its_members(asked: int) -> None:
    """D4, D8: nothing is flushed but what is full, and nothing is sealed; what waits can be listed."""
    made = trial(batched(trigger={"count": 3}), numbered(20), {"totals": total})
    made.hooks = Hooks(stopping=StopAfter(asked))
    ran = made.go()
    assert (ran.receipt.status, ran.told()[-1]) == ("interrupted", "RunInterrupted stopped enough")
    rows = len(ran.of(e.RowRead))
    rest = [str(n) for n in range(rows - rows % 3, rows)]
    assert left_open(ran) == ({"totals": (rows // 3 + 1, "open", rest)} if rest else {})
    assert {event.trigger for event in ran.of(e.BatchFlushed)} <= {"count"}


def test_a_stop_leaves_a_batch_that_is_tried_again_due_and_what_waits_behind_it_unsaid() -> None:
    """D8, law T10: the attempt that failed is on record, and no other was begun."""
    made = trial(batched(trigger=COUNT, attempts=3), numbered(9), {"totals": Times([OSError("busy")] * 3)})
    made.hooks = Hooks(stopping=StopAfter(8))
    ran = made.go()
    assert left_open(ran) == {"totals": (1, "due", ["0", "1"])}
    assert ran.told()[4:] == ["BatchFailed totals@1 #1 count retryable retry", "RowRead 2", "RowRead 3",
                              "RunInterrupted stopped enough"]  # fmt: skip
    assert (ran.verdict.status, ran.verdict.open_tokens) == ("interrupted", 4)


def test_when_the_source_raises_a_batch_stays_open() -> None:
    """D6: a source that raised did not end."""
    ran = tried(batched(trigger={"count": 3}), [*numbered(4), OSError(5, "EIO")], {"totals": total})
    assert ran.fault is not None
    assert (ran.fault.code, left_open(ran)) == ("SOURCE_FAILED", {"totals": (2, "open", ["3"])})
    assert ran.rows("out") == [{"of": [0, 1, 2]}]


def test_a_batch_that_holds_too_many_rows_stops_the_run_in_good_order() -> None:
    """W15, D8: one line with a code and what to do; everything until then is on record, and nothing is invented."""
    ran = tried(batched(limits={"batch_rows": 3}, trigger={"timeout_seconds": 60}), numbered(9), {"totals": total})
    assert ran.fault is not None
    assert (ran.fault.code, ran.fault.where) == ("LIMIT_EXCEEDED", "limits.batch_rows")
    assert "totals" in str(ran.fault)
    assert ran.told()[-1] == "RunInterrupted limit_exceeded limits.batch_rows"
    assert (ran.verdict.status, ran.of(e.BatchFlushed)) == ("interrupted", [])
    assert ran.verdict.open_tokens == len(left_open(ran)["totals"][2]) in (3, 4)


@pytest.mark.parametrize("trigger", [{"count": 3}, {"condition": "batch_count == 3"}])
def test_a_batch_may_be_as_large_as_the_limit(trigger: dict[str, object]) -> None:
    """D8: a trigger that comes with the last row that fits comes in time."""
    ran = tried(batched(limits={"batch_rows": 3}, trigger=trigger), numbered(9), {"totals": total})
    assert [len(batch.members) for batch in batches(ran.events).values()] == [3, 3, 3]


def test_a_store_that_fails_between_any_two_commits_leaves_no_half_of_a_batch() -> None:
    """law L1, law C7: at every append what stands replays, and its batches hold the rows that were read, in their order."""
    whole, text = TrialStore(), batched(trigger={"count": 7})
    trial(text, numbered(500), {"totals": rejecting(3)}, store=whole).go()
    assert len(whole.appends) > 5
    for append in range(3, len(whole.appends) + 1):
        made = trial(text, numbered(500), {"totals": rejecting(3)}, store=TrialStore(fail_at=append))
        with pytest.raises(OSError, match="No space left"):
            made.start()
        ran = made.left()
        members = [token for batch in batches(ran.events).values() for token in batch.members]
        assert members == [str(n) for n in range(len(ran.of(e.RowRead)))]
        assert not ran.verdict.sealed


# --- long lists ------------------------------------------------------------------------------------------------------


def longest_body(ran: Ran) -> int:
    """Bytes of the longest event."""
    return max(len(stored.body) for stored in ran.store.read(ran.run))


def test_a_batch_may_make_thousands_of_rows_in_their_order() -> None:
    """law L4, law T7: a list that is longer than a body stands in a payload, and replays."""
    ran = tried(batched(), numbered(MANY), {"totals": lambda rows: [Derived({**row, "of": n}, (n,))
                                                                   for n, row in enumerate(rows)]})  # fmt: skip
    flush = ran.one(e.BatchFlushed)
    assert (flush.members, len(flush.outputs or ()), flush.outputs_list is not None) == (MANY, MANY, True)
    assert [row["of"] for row in ran.rows("out")] == [*range(MANY)]
    assert longest_body(ran) < BODY_BYTES_MAX


def test_a_batch_of_thousands_may_pass_through() -> None:
    """law L4, law C7: unchanged rows refer to their payloads."""
    ran = tried(batched(**PASSING), numbered(MANY), {"totals": lambda rows: rows})
    outputs = ran.one(e.BatchFlushed).outputs or ()
    assert [one.output for one in outputs] == [read.data.n for read in ran.of(e.RowRead)]
    assert ran.receipt.outcomes == {"completed": MANY}
    assert longest_body(ran) < BODY_BYTES_MAX


def test_one_row_may_have_thousands_of_parents() -> None:
    """law L4, law T5: named one by one."""
    ran = tried(batched(), numbered(6000), {"totals": lambda rows: [Derived({"n": 0}, tuple(range(len(rows))))]})
    assert ran.one(e.BatchFlushed).outputs_list is not None
    assert ran.receipt.outcomes == {"completed": 1, "consumed_in_batch": 6000}
    assert longest_body(ran) < BODY_BYTES_MAX
