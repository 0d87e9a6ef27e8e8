"""Hand-broken logs of batches: what C7 refuses."""

from __future__ import annotations

from collections.abc import Sequence

from ledger import events as e
from ledger.graph import BatchRule
from tests.kit import graphs
from tests.kit.log import Log, batch_begun, batch_died, batch_failed, begun, buffered, diverted, flushed
from tests.ledger.broken import Case
from tests.ledger.lawful_many import overdue

ALL = e.BatchOutput(2, "all")


def batch(rule: BatchRule, rows: int = 2, on_error: str = "errors") -> Log:
    """Rows (payloads from 2 on) are buffered as members of batch 1."""
    log = Log(graphs.batched(rule, on_error=on_error))
    for row in range(rows):
        log.row()
        log.say(buffered(str(row), row))
    return log


def pair(*outputs: e.BatchOutput, rejected: Sequence[e.RejectedMember] = ()) -> Log:
    """A whole batch of two is flushed with these outputs."""
    return batch(BatchRule(count=2)).say(flushed(2, "count", *outputs, rejected=rejected))


def passing(*outputs: e.BatchOutput) -> Log:
    """A whole batch of two is passed through with these outputs."""
    return batch(BatchRule(count=2, output_mode="passthrough")).say(flushed(2, "count", *outputs))


def member(ordinal: int, number: int) -> Log:
    """A second member, by these numbers."""
    log = batch(BatchRule(count=3), 1)
    log.row()
    return log.say(buffered("1", ordinal, number))


def third_of_two() -> Log:
    """One member more than a batch holds."""
    log = batch(BatchRule(count=2))
    log.row()
    return log.say(buffered("2", 2))


def second_when_due(condition: str) -> Log:
    """A second member of a batch whose condition held with the first."""
    log = batch(BatchRule(condition=condition), 1)
    log.row()
    return log.say(buffered("1", 1))


def on_its_way() -> Log:
    """The source has ended; one row is a member, another has not come to the aggregation yet."""
    log = batch(BatchRule(count=3), 1)
    log.row()
    return log.exhaust().say(flushed(1, "end_of_source", ALL))


def started(resumed: bool = False) -> Log:
    """A whole batch of two has begun to be computed, by this process or by the one before."""
    log = batch(BatchRule(count=2)).say(batch_begun(2, "count"))
    return log.resume() if resumed else log


def timed(begins: e.BatchTrigger) -> Log:
    """At its deadline a batch begins to be computed for this reason."""
    rule = BatchRule(timeout_ms=10, condition="batch_age_seconds >= 0.01")
    return batch(rule).wait(10).say(batch_begun(2, begins))


def joins_later() -> Log:
    """A batch begins to be computed by its condition, and a member comes while it waits for another attempt."""
    log = batch(BatchRule(condition="batch_age_seconds >= 0.01"), 1).wait(10).say(batch_begun(1, "condition"))
    log.resume().say(batch_died(1))
    log.row()
    return log.say(buffered("1", 1))


def dead(times: int) -> Log:
    """A whole batch of two has killed so many processes."""
    log = batch(BatchRule(count=2))
    for attempt in range(1, times + 1):
        log.say(batch_begun(2, "count", attempt=attempt)).resume().say(batch_died(attempt))
    return log


def left(log: Log) -> Log:
    """The two members leave."""
    edge = "totals:__error_totals__"
    return log.say(*(diverted(token, "totals", "errors", edge=edge, code="process_died") for token in "01"))


def failed_and_died() -> Log:
    """A batch of two attempts failed, killed its process, and is to be tried again after another failure."""
    log = batch(BatchRule(count=2)).say(batch_failed(2, "count", None, retry=True), batch_begun(2, "count", attempt=2))
    return log.resume().say(batch_died(2), batch_failed(2, "count", None, attempt=3, retry=True))


NO = e.RejectedMember(0, "no", None)
MEMBERS = [
    Case("a place left out", "C7", "1", lambda: member(2, 1)),
    Case("a place taken already", "C7", "1", lambda: member(0, 1)),
    Case("another batch", "C7", "1", lambda: member(1, 2)),
    Case("more than the batch holds", "C7", "2", third_of_two),
    Case("more when its condition holds", "C7", "1", lambda: second_when_due("batch_count == 1")),
    Case("a step on a buffered token", "C7", "0", lambda: batch(BatchRule(count=2), 1).say(begun("0", "totals", 2))),
    Case("a buffered token buffered again", "C7", "0", lambda: batch(BatchRule(count=2), 1).say(buffered("0", 1))),
    Case("an open batch at the seal", "C7", None, lambda: batch(BatchRule(count=2), 1).exhaust().seal(tokens=1)),
]
FLUSHES = [
    Case("another number of members", "C7", None, lambda: batch(BatchRule(count=2)).say(flushed(1, "count", ALL))),
    Case("a flush of another batch", "C7", None, lambda: batch(BatchRule(count=2)).say(flushed(2, "count", ALL, batch=2))),
    Case("a flush as another attempt", "C7", None,
         lambda: batch(BatchRule(count=2)).say(flushed(2, "count", ALL, attempt=2))),
    Case("a flush of no batch", "C7", None, lambda: batch(BatchRule(count=2), 0).say(flushed(0, "count"))),
    Case("a batch flushed twice", "C7", None, lambda: pair(ALL).say(flushed(2, "count", ALL))),
    Case("a count that is not reached", "C7", None, lambda: batch(BatchRule(count=3)).say(flushed(2, "count", ALL))),
    Case("a timeout that has not passed", "C7", None,
         lambda: batch(BatchRule(timeout_ms=10)).wait(9).say(flushed(2, "timeout", ALL))),
    Case("a timeout where there is none", "C7", None,
         lambda: batch(BatchRule(count=3)).wait(9).say(flushed(2, "timeout", ALL))),
    Case("a condition where there is none", "C7", None, lambda: batch(BatchRule(count=3)).say(flushed(2, "condition", ALL))),
    Case("a condition that does not hold", "C7", None,
         lambda: batch(BatchRule(condition="batch_count > 2")).say(flushed(2, "condition", ALL))),
    Case("a condition that is not old enough", "C7", None,
         lambda: batch(BatchRule(condition="batch_age_seconds > 1")).wait(1000).say(flushed(2, "condition", ALL))),
    Case("a condition that raises", "C7", None,
         lambda: batch(BatchRule(condition="1 / (batch_count - 2) > 0")).say(flushed(2, "condition", ALL))),
    Case("the second trigger where the first has won", "C7", None,
         lambda: batch(BatchRule(count=2)).exhaust().say(flushed(2, "end_of_source", ALL))),
    Case("another trigger for the second attempt", "C7", None,
         lambda: batch(BatchRule(timeout_ms=10)).wait(10).say(batch_failed(2, "timeout", None, retry=True)).exhaust()
         .say(flushed(2, "end_of_source", ALL, attempt=2))),
    Case("the end before the end of the source", "C7", None,
         lambda: batch(BatchRule(count=3)).say(flushed(2, "end_of_source", ALL))),
    Case("a failure for another trigger", "C7", None,
         lambda: batch(BatchRule(count=3)).say(batch_failed(2, "count", None))),
    Case("a batch's attempt before it was due", "T10", None,
         lambda: batch(BatchRule(count=2)).say(batch_failed(2, "count", None, retry=True, delay_ms=10)).wait(9)
         .say(flushed(2, "count", ALL, attempt=2))),
    Case("the end of the source with a row on its way", "C7", None, on_its_way),
    Case("a failure of another attempt", "C7", None,
         lambda: batch(BatchRule(count=2)).say(batch_failed(2, "count", None, attempt=2, retry=True))),
]
PARENTS = [
    Case("an output of no parent", "C7", None, lambda: pair(e.BatchOutput(2, ()))),
    Case("an output of a parent beyond the batch", "C7", None, lambda: pair(e.BatchOutput(2, (0, 2)))),
    Case("an output of a parent twice", "C7", None, lambda: pair(e.BatchOutput(2, (0, 0)))),
    Case("a rejected parent", "C7", None, lambda: pair(e.BatchOutput(3, (0, 1)), rejected=[NO])),
    Case("a rejected member beyond the batch", "C7", None,
         lambda: pair(ALL, rejected=[e.RejectedMember(2, "no", None)])),
    Case("an output of all where all were rejected", "C7", None,
         lambda: pair(ALL, rejected=[NO, e.RejectedMember(1, "no", None)])),
    Case("passing through fewer than accepted", "C7", None, lambda: passing(e.BatchOutput(2, (0,)))),
    Case("passing through in another order", "C7", None,
         lambda: passing(e.BatchOutput(3, (1,)), e.BatchOutput(2, (0,)))),
    Case("passing through as one", "C7", None, lambda: passing(ALL, e.BatchOutput(3, (1,)))),
]
BEGINNINGS = [
    Case("a beginning of no batch", "C7", None, lambda: batch(BatchRule(count=2), 0).say(batch_begun(0, "count"))),
    Case("a beginning of another batch", "C7", None,
         lambda: batch(BatchRule(count=2)).say(batch_begun(2, "count", batch=2))),
    Case("a beginning with another number of members", "C7", None,
         lambda: batch(BatchRule(count=2)).say(batch_begun(3, "count"))),
    Case("a beginning as another attempt", "C7", None,
         lambda: batch(BatchRule(count=2)).say(batch_begun(2, "count", attempt=2))),
    Case("a beginning by a count that is not reached", "C7", None,
         lambda: batch(BatchRule(count=3)).say(batch_begun(2, "count"))),
    Case("a beginning by a timeout that has not passed", "C7", None,
         lambda: batch(BatchRule(timeout_ms=10)).wait(9).say(batch_begun(2, "timeout"))),
    Case("a beginning by a condition that does not hold", "C7", None,
         lambda: batch(BatchRule(condition="batch_count > 2")).say(batch_begun(2, "condition"))),
    Case("a beginning at the end of a source that goes on", "C7", None,
         lambda: batch(BatchRule()).say(batch_begun(2, "end_of_source"))),
    Case("a beginning by the second trigger", "C7", None,
         lambda: batch(BatchRule(count=2)).exhaust().say(batch_begun(2, "end_of_source"))),
    Case("a beginning by something else at the deadline", "C4", None, lambda: timed("condition")),
    Case("the later deadline begins first", "C4", None, lambda: overdue().say(batch_begun(1, "timeout", aggregation="two"))),
    Case("a batch that began is computed past another deadline", "C4", None,
         lambda: overdue().say(batch_begun(1, "timeout", aggregation="one")).wait(1)
         .say(flushed(1, "timeout", e.BatchOutput(2, (0,)), aggregation="one"))),
    Case("another trigger after the beginning", "C7", None,
         lambda: timed("timeout").say(flushed(2, "condition", ALL))),
    Case("a member of a batch that has begun", "C7", "1", joins_later),
    Case("a beginning in the midst of an attempt", "T10", None, lambda: started().say(batch_begun(2, "count"))),
    Case("a beginning before it was due", "T10", None,
         lambda: batch(BatchRule(count=2)).say(batch_failed(2, "count", None, retry=True, delay_ms=10)).wait(9)
         .say(batch_begun(2, "count", attempt=2))),
]
DEATHS = [
    Case("a batch's death in no attempt", "T10", None, lambda: batch(BatchRule(count=2)).resume().say(batch_died(1))),
    Case("a death of no batch", "C7", None, lambda: batch(BatchRule(count=2), 0).resume().say(batch_died(1))),
    Case("a death of another batch", "T10", None, lambda: started(resumed=True).say(batch_died(1, batch=2))),
    Case("a batch's death in another attempt", "T10", None, lambda: started(resumed=True).say(batch_died(2))),
    Case("a batch's death while its process lives", "T10", None, lambda: started().say(batch_died(1))),
    Case("a batch's death that was said before", "T10", None, lambda: dead(1).say(batch_died(2))),
    Case("a batch's death after its end", "T10", None,
         lambda: started().say(batch_failed(2, "count", None, retry=True)).resume().say(batch_died(2))),
    Case("a dead process's batch is flushed", "T10", None, lambda: started(resumed=True).say(flushed(2, "count", ALL))),
    Case("a dead process's batch fails", "T10", None, lambda: started(resumed=True).say(batch_failed(2, "count", None))),
    Case("a dead process's batch is to be tried again", "T10", None,
         lambda: started(resumed=True).say(batch_failed(2, "count", None, retry=True))),
    Case("a dead process's batch begins anew", "T10", None, lambda: started(resumed=True).say(batch_begun(2, "count"))),
    Case("a dead process's batch is given up", "T10", None,
         lambda: started(resumed=True).say(batch_failed(2, "abandoned", None))),
    Case("the same attempt after a death", "C7", None, lambda: dead(1).say(flushed(2, "count", ALL))),
    Case("another trigger after a death", "C7", None,
         lambda: dead(1).exhaust().say(flushed(2, "end_of_source", ALL, attempt=2))),
    Case("a failure beyond the limit after a death", "T10", None, failed_and_died),
    Case("members that stay after three deaths", "R1", "0", lambda: dead(3).exhaust()),
    Case("an attempt after three deaths", "C7", None, lambda: left(dead(3)).say(batch_begun(2, "count", attempt=4))),
    Case("a flush after three deaths", "C7", None, lambda: left(dead(3)).say(flushed(2, "count", ALL, attempt=4))),
]
BATCH_CASES = [*MEMBERS, *FLUSHES, *PARENTS, *BEGINNINGS, *DEATHS]
