"""Lawful logs of gathers and batches, written by hand.

`MANY` names them, and `LAWFUL` every lawful log there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ledger import events as e
from ledger.graph import DISCARD, SOURCE, BatchRule
from tests.kit import graphs
from tests.kit.log import (
    Log,
    arrived,
    arrived_late,
    batch_begun,
    batch_died,
    batch_failed,
    buffered,
    diverted,
    expanded,
    facts,
    filtered,
    flushed,
    group_failed,
    lost,
    merged,
    routed,
    step,
)
from tests.ledger.lawful import STRAIGHT
from tests.ledger.lawful_groups import GROUPED

GATHER = "0+gather"
TOTALS_EDGE = "totals:__error_totals__"
PAIR = BatchRule(count=2)


def gathered_all() -> Log:
    """A row becomes three, which come back in another order: the list has them in their own."""
    log = Log(graphs.gathered())
    row = log.row({"id": 7})
    parts = [log.keep({"part": part}) for part in range(3)]
    log.say(expanded("0", "split", row, *parts))
    for ordinal in (2, 0, 1):
        n = parts[ordinal].n
        log.say(step(f"0:{ordinal}", "work", n, n), arrived(f"0:{ordinal}", GATHER))
    order = [(str(ordinal), f"0:{ordinal}", 0) for ordinal in (2, 0, 1)]
    whole = log.keep({"id": 7, "items": [{"part": 0}, {"part": 1}, {"part": 2}]})
    log.say(merged(GATHER, "all_arrived", facts(GATHER, "require_all", "012", order, merge="list"), whole))
    return log.write("out", GATHER).exhaust().seal(expanded=1, coalesced=3, completed=1)


def gathered_none() -> Log:
    """A row becomes none, which is all of them: the merged token stands for the expanded one."""
    log = Log(graphs.gathered())
    log.say(expanded("0", "split", log.row({"id": 7})))
    known = facts(GATHER, "require_all", "", merge="list")
    log.say(merged(GATHER, "all_arrived", known, log.keep({"id": 7, "items": []})))
    return log.write("out", GATHER).exhaust().seal(expanded=1, completed=1)


def gathered_nobody() -> Log:
    """A row becomes none, and somebody had to come: the group fails."""
    log = Log(graphs.gathered("quorum", quorum=1))
    log.say(expanded("0", "split", log.row({"id": 7})))
    known = facts(GATHER, "quorum", "", merge="list")
    log.say(group_failed(GATHER, "branch_lost", "quorum_impossible:need=1,max_possible=0", known))
    return log.exhaust().seal(expanded=1)


def gathered_quorum() -> Log:
    """One of two is enough when the other was dropped; the group had a timeout that it never needed."""
    log = Log(graphs.gathered("best_effort", timeout_ms=50))
    row = log.row({"id": 7})
    log.say(expanded("0", "split", row, row, row), filtered("0:0", "work", row), lost("0:0", GATHER, "filtered", "work"))
    log.wait(10).say(step("0:1", "work", row, row), arrived("0:1", GATHER))
    known = facts(GATHER, "best_effort", "01", [("1", "0:1", 10)], [("0", "filtered:work")], wait=10, merge="list")
    log.say(merged(GATHER, "all_arrived", known, log.keep({"id": 7, "items": [{"id": 7}]}))).wait(100)
    return log.write("out", GATHER).exhaust().seal(expanded=1, dropped_by_filter=1, coalesced=1, completed=1)


def gathered_late() -> Log:
    """A child that comes after its gather has timed out is late."""
    log = Log(graphs.gathered("best_effort", timeout_ms=50))
    row = log.row({"id": 7})
    log.say(expanded("0", "split", row, row, row), step("0:0", "work", row, row), arrived("0:0", GATHER)).wait(50)
    known = facts(GATHER, "best_effort", "01", [("0", "0:0", 0)], wait=50, merge="list")
    log.say(merged(GATHER, "timeout", known, log.keep({"id": 7, "items": [{"id": 7}]})))
    log.say(step("0:1", "work", row, row), arrived_late("0:1", GATHER, "merged"))
    return log.write("out", GATHER).exhaust().seal(late=1, expanded=1, coalesced=1, failed=1, completed=1)


def batch_totals() -> Log:
    """Two members make a total; the third is flushed at the end of the source."""
    log = Log(graphs.batched(PAIR))
    for row in range(2):
        log.row()
        log.say(buffered(str(row), row))
    log.say(flushed(2, "count", e.BatchOutput(log.keep({"sum": 1}), "all")))
    last = log.row()
    log.say(buffered("2", 0, 2)).exhaust().say(flushed(1, "end_of_source", e.BatchOutput(last, (0,)), batch=2))
    return log.write("out", "totals@1:0", "totals@2:0").seal(consumed_in_batch=3, completed=2)


def batch_rejected() -> Log:
    """One member is rejected and leaves by the error edge, one is named by no output, two make an output each."""
    log = Log(graphs.batched(BatchRule(count=4)))
    for row in range(4):
        log.row()
        log.say(buffered(str(row), row))
    error = log.keep("negative")
    outputs = [e.BatchOutput(log.keep({"of": "0, 3"}), (0, 3)), e.BatchOutput(log.keep({"of": "3"}), (3,))]
    log.say(flushed(4, "count", *outputs, rejected=[e.RejectedMember(1, "negative", error)]))
    log.say(diverted("1", "totals", "errors", edge=TOTALS_EDGE, code="negative", reason=error.n))
    log.write("errors", "1").write("out", "totals@1:1", "totals@1:0").exhaust()
    return log.seal(consumed_in_batch=2, dropped_by_filter=1, routed=1, completed=2)


def batch_passed_through() -> Log:
    """In passthrough mode the accepted members go on themselves; a rejected one is discarded."""
    log = Log(graphs.batched(BatchRule(count=3, output_mode="passthrough"), on_error=DISCARD))
    rows = [log.row() for _ in range(3)]
    log.say(*(buffered(str(row), row) for row in range(3)))
    outputs = [e.BatchOutput(log.keep({"rank": 1}), (0,)), e.BatchOutput(rows[2], (2,))]
    log.say(flushed(3, "count", *outputs, rejected=[e.RejectedMember(1, "negative", None)]))
    log.say(diverted("1", "totals", DISCARD, code="negative")).write("out", "0", "2").exhaust()
    return log.seal(completed=2, quarantined=1)


def batch_timed_out() -> Log:
    """A batch is flushed when its timeout has passed, one more by its condition, and one fails for good."""
    log = Log(graphs.batched(BatchRule(timeout_ms=100, condition="batch_age_seconds >= 0.05")))
    log.row()
    log.say(buffered("0", 0)).wait(100).say(flushed(1, "timeout", e.BatchOutput(log.keep({"sum": 0}), "all")))
    log.row()
    log.say(buffered("1", 0, 2)).wait(50).say(flushed(1, "condition", batch=2))
    log.row()
    log.say(buffered("2", 0, 3)).exhaust()
    log.say(batch_failed(1, "end_of_source", log.keep("no"), batch=3, retry=True))
    error = log.keep("no again")
    log.say(batch_failed(1, "end_of_source", error, batch=3, attempt=2))
    log.say(diverted("2", "totals", "errors", edge=TOTALS_EDGE, code="bad_batch", reason=error.n))
    log.write("errors", "2").write("out", "totals@1:0")
    return log.seal(consumed_in_batch=1, completed=1, dropped_by_filter=1, routed=1)


def batch_abandoned() -> Log:
    """A run is given up with a batch open: the batch fails first, and its members leave and end."""
    log = Log(graphs.batched(PAIR))
    log.row()
    log.say(buffered("0", 0)).interrupt().resume().say(batch_failed(1, "abandoned", None))
    log.say(diverted("0", "totals", "errors", edge=TOTALS_EDGE, code="bad_batch"))
    return log.say(e.TokensAbandoned(tokens=("0",), code="abandoned")).seal(status="failed", failed=1)


def batch_died_thrice() -> Log:
    """A batch that kills the process three times, between two failures: its members leave by the error edge."""
    log = Log(graphs.batched(PAIR, attempts_max=3))
    for row in range(2):
        log.row()
        log.say(buffered(str(row), row))
    log.say(batch_begun(2, "count"), batch_failed(2, "count", log.keep("busy"), retry=True, delay_ms=10)).wait(10)
    for attempt in (2, 3):
        log.say(batch_begun(2, "count", attempt=attempt)).resume().say(batch_died(attempt))
    log.say(batch_failed(2, "count", None, attempt=4, retry=True), batch_begun(2, "count", attempt=5)).resume()
    log.say(batch_died(5), *(diverted(str(row), "totals", "errors", edge=TOTALS_EDGE, code="process_died")
                             for row in range(2)))
    return log.exhaust().write("errors", "0", "1").seal(routed=2)


def batches_survived() -> Log:
    """A batch of each trigger kills the process once or twice, and is computed after that."""
    log = Log(graphs.batched(BatchRule(count=2, timeout_ms=100, condition="batch_age_seconds >= 0.05")))
    for row in range(2):
        log.row()
        log.say(buffered(str(row), row))
    log.say(batch_begun(2, "count")).resume().say(batch_died(1), batch_begun(2, "count", attempt=2)).resume()
    log.say(batch_died(2), batch_begun(2, "count", attempt=3), flushed(2, "count", e.BatchOutput(2, (0,)), attempt=3))
    triggers: tuple[tuple[e.BatchTrigger, int], ...] = (("condition", 50), ("timeout", 100), ("end_of_source", 0))
    for batch, (trigger, wait) in enumerate(triggers, start=2):
        log.row()
        log.say(buffered(str(batch), 0, batch)).wait(wait)
        if trigger == "end_of_source":
            log.exhaust()
        log.say(batch_begun(1, trigger, batch=batch)).wait(1).resume().say(batch_died(1, batch=batch))
        log.say(flushed(1, trigger, batch=batch, attempt=2))
    return log.write("out", "totals@1:0").seal(consumed_in_batch=1, dropped_by_filter=4, completed=1)


def overdue() -> Log:
    """One row is a member of the batch `one`, another of `two`; the deadlines of both have passed."""
    draft = graphs.Draft().node(SOURCE, "source", on_error=DISCARD).node("gate", "gate").edge(SOURCE, "gate")
    for name, timeout_ms in (("one", 10), ("two", 20)):
        rule = BatchRule(timeout_ms=timeout_ms, output_mode="passthrough")
        draft.node(name, "aggregation", on_error=DISCARD, batch=rule).edge("gate", name, name).edge(name, "out")
    log = Log(draft.node("out", "sink", on_error=DISCARD).graph())
    for row, name in enumerate(("one", "two")):
        log.row()
        log.say(routed(str(row), "gate", name), buffered(str(row), 0, aggregation=name))
    return log.wait(50)


def batches_overdue() -> Log:
    """Two batches are due when the process looks again: each begins and is computed, the one that was due first before."""
    log = overdue()
    for row, name in enumerate(("one", "two")):
        log.say(batch_begun(1, "timeout", aggregation=name))
        log.say(flushed(1, "timeout", e.BatchOutput(2 + row, (0,)), aggregation=name))
    return log.write("out", "0", "1").exhaust().seal(completed=2)


def batch_died_abandoned() -> Log:
    """A run is given up after a batch has killed its process: the death is said first, then the batch fails."""
    log = Log(graphs.batched(PAIR, on_error=DISCARD))
    log.row()
    log.say(buffered("0", 0)).exhaust().say(batch_begun(1, "end_of_source")).resume().say(batch_died(1))
    log.say(batch_failed(1, "abandoned", None, attempt=2), diverted("0", "totals", DISCARD, code="bad_batch"))
    return log.seal(status="failed", quarantined=1)


def batch_open() -> Log:
    """A run that stopped with a batch open. Not sealed."""
    log = Log(graphs.batched(PAIR))
    log.row()
    return log.say(buffered("0", 0)).interrupt()


MANY: Mapping[str, Callable[[], Log]] = {
    builder.__name__: builder
    for builder in (gathered_all, gathered_none, gathered_nobody, gathered_quorum, gathered_late, batch_totals,
                    batch_rejected, batch_passed_through, batch_timed_out, batch_abandoned, batch_died_thrice,
                    batches_survived, batches_overdue, batch_died_abandoned, batch_open)
}
LAWFUL: Mapping[str, Callable[[], Log]] = {**STRAIGHT, **GROUPED, **MANY}
UNSEALED = frozenset({"left_open", "held", "batch_open"})
