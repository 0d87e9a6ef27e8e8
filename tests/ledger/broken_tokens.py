"""Broken logs, one per way to break a law of tokens (T1 to T10): ends, roots, children, paths, attempts."""

from __future__ import annotations

from msgspec.structs import replace

from ledger import events as e
from ledger.graph import SOURCE, BatchRule
from tests.kit import graphs
from tests.kit.graphs import Draft, rule
from tests.kit.log import (
    Log,
    arrived,
    batch_failed,
    begun,
    buffered,
    died,
    expanded,
    facts,
    failed,
    filtered,
    forked,
    merged,
    routed,
    step,
)
from tests.ledger.broken import Case
from tests.ledger.broken_log import last_replaced, one_row_read
from tests.ledger.lawful import call
from tests.ledger.lawful_groups import GROUP, dropped, fork, lose


def before_the_sink() -> Log:
    """Row 0 stands before the sink."""
    return one_row_read().say(step("0", "step", 2, 2))


def written() -> Log:
    """Row 0 has its end, and is closed."""
    return before_the_sink().write("out", "0")


def one_dropped() -> Log:
    """Of row 0's two branches `a` was dropped; `b` is still on its way."""
    return lose(fork(rule(2, "best_effort")), "a")


def invalid(**fields: object) -> Log:
    """A row that is read with other fields than a valid one has."""
    return last_replaced(one_row_read(), **fields)


def second_row(**fields: object) -> Log:
    """A second row, with other fields."""
    log = one_row_read()
    log.row()
    return last_replaced(log, **fields)


def effect() -> Log:
    """Row 0 stands before an effect."""
    log = Log(graphs.linear(effect=True))
    log.row()
    return log


def called() -> e.CallRecorded:
    """The first call of row 0's first attempt."""
    return e.CallRecorded(token="0", node="step", attempt=1, call=0, kind="http", status="200",
                          request=e.Commitment(3, "0" * 64), response=None, latency_us=1)


def errors(log: Log, attempt: int, *, retry: bool) -> Log:
    """An attempt of row 0 at the step fails."""
    return log.say(failed("0", "step", 2, log.keep("no"), attempt=attempt, retry=retry))


def expanding(event: e.Event, expands: bool = True) -> Log:
    """Row 0 stands before an expanding step, and this is said."""
    log = Log(graphs.linear(expands=expands))
    log.row()
    return log.say(event)


def no_branches() -> Log:
    """A fork to nowhere: the row's mass is gone, and the seal's counts do not show it."""
    draft = Draft().node(SOURCE, "source").node("fork", "gate").node("out", "sink").edge(SOURCE, "fork")
    log = Log(draft.edge("fork", "out", "go").graph())
    log.row()
    return log.say(forked("0", "fork", ())).exhaust().seal(forked=1)


def merged_of_nobody() -> Log:
    """A quorum of nobody: a merged token that no token was consumed for."""
    log = lose(fork(rule(3, "quorum", quorum=0)), "a")
    return log.say(merged(GROUP, "quorum_met", facts(GROUP, "quorum", "abc", (), dropped("a")), log.keep({})))


def batch_retried_for_ever() -> Log:
    """A batch whose second attempt of two is to be followed by another."""
    log = Log(graphs.batched(BatchRule(count=1)))
    log.row()
    log.say(buffered("0", 0), batch_failed(1, "count", log.keep("no"), retry=True))
    return log.say(batch_failed(1, "count", log.keep("no again"), attempt=2, retry=True))


def gate_retried() -> Log:
    """A gate that is tried a second time where once is all."""
    log = fork(rule(2))
    return log.say(failed("0.a", "gate_a", 2, log.keep("no"), retry=True))


def calling(attempt: int, number: int, start: bool) -> Log:
    """A call of an attempt at the step."""
    log = effect()
    if start:
        log.say(begun("0", "step", 2))
    return log.say(call(log, "0", attempt, number))


def fork_left_open() -> Log:
    """A seal while a branch, which no group waits for, stands before its gate."""
    log = fork(rule(2, "first"))
    log.say(routed("0.a", "gate_a", "go"), step("0.a", "step_a", 2, 2), arrived("0.a", GROUP))
    log.say(merged(GROUP, "first_arrival", facts(GROUP, "first", "ab", [("a", "0.a", 0)]), 2))
    return log.write("out", GROUP).exhaust().seal(tokens=4, forked=1, coalesced=1, completed=1)


def fork_to(branches: str) -> Log:
    """Row 0 is forked to these branches where the graph says `a` and `b`."""
    log = fork(rule(2))
    log.said.pop()
    return log.say(forked("0", "fork", branches))


ENDS = [
    Case("no end at the seal", "T1", "0", lambda: before_the_sink().exhaust().seal(tokens=1)),
    Case("no end of a branch at the seal", "T1", "0.b", fork_left_open),
    Case("a second end of an open row's token", "T1", "0.a", lambda: one_dropped().say(filtered("0.a", "step_a", 2))),
    Case("a second end of a closed row's token", "T1", "0", lambda: written().say(filtered("0", "step", 2))),
    Case("written again after its end", "T1", "0", lambda: written().intend("out", "0")),
    Case("failed after its end", "T1", "0", lambda: errors(written(), 1, retry=False)),
    Case("forked twice", "T1", "0", lambda: fork(rule(2)).say(forked("0", "fork", "ab"))),
    Case("abandoned after its end", "T1", "0", lambda: written().say(e.TokensAbandoned(tokens=("0",), code="x"))),
    Case("abandoned twice in one event", "T1", "0",
         lambda: before_the_sink().say(e.TokensAbandoned(tokens=("0", "0"), code="x"))),
    Case("the seal counts another outcome", "T1", None, lambda: written().exhaust().seal(routed=1)),
    Case("the seal counts another number of tokens", "T1", None, lambda: written().exhaust().seal(tokens=2, completed=1)),
    Case("the seal counts a late arrival", "T1", None, lambda: written().exhaust().seal(late=1, completed=1)),
    Case("a failed run that nobody abandoned", "T1", None,
         lambda: written().exhaust().seal(status="failed", completed=1)),
    Case("an abandoned run that completed", "T1", None,
         lambda: before_the_sink().say(e.TokensAbandoned(tokens=("0",), code="x")).seal(failed=1)),
]
AFTER_THE_END = [
    Case("a start after the row closed", "T2", "0", lambda: written().say(begun("0", "step", 2))),
    Case("a retry after the row closed", "T2", "0", lambda: errors(written(), 1, retry=True)),
    Case("a start after the token's end", "T2", "0.a", lambda: one_dropped().say(begun("0.a", "step_a", 2))),
    Case("a choice after the token's end", "T2", "0.a", lambda: one_dropped().say(routed("0.a", "gate_a", "go"))),
    Case("an arrival after the token's end", "T2", "0.a", lambda: one_dropped().say(arrived("0.a", GROUP))),
    Case("an attempt after the fork", "T2", "0", lambda: fork(rule(2)).say(begun("0", "fork", 2))),
]
ROOTS = [
    Case("a row read again", "T3", "0", lambda: second_row(row=0, token="0")),
    Case("a row left out", "T3", "2", lambda: second_row(row=2, token="2")),
    Case("a root by another name", "T3", "first", lambda: second_row(token="first")),
    Case("a negative row", "T3", "-1", lambda: invalid(row=-1, token="-1")),
]
STEP_0 = [
    Case("a valid row with a code", "T4", "0", lambda: invalid(code="ragged")),
    Case("an invalid row without a code", "T4", "0", lambda: invalid(valid=False, error=e.Commitment(3, "0" * 64))),
    Case("an invalid row without an error", "T4", "0", lambda: invalid(valid=False, code="ragged")),
    Case("a second state at the source", "T4", "0", lambda: one_row_read().say(begun("0", SOURCE, 2))),
    Case("a branch with a state at the source", "T4", "0.a", lambda: fork(rule(2)).say(begun("0.a", SOURCE, 2))),
]
PARENTS = [
    Case("a fork of a token that nothing made", "T5", "0.z", lambda: fork(rule(2)).say(forked("0.z", "fork", "ab"))),
    Case("an expansion of a row that was not read", "T5", "5", lambda: expanding(expanded("5", "step", 2, 2))),
]
KINDS = [
    Case("a forked token is dropped as well", "T6", "0", lambda: fork(rule(2)).say(filtered("0", "fork", 2))),
    Case("a forked token is written as well", "T6", "0", lambda: fork(rule(2)).intend("out", "0")),
    Case("a dropped token is forked as well", "T6", "0.a", lambda: one_dropped().say(forked("0.a", "fork", "ab"))),
]
MASS = [
    Case("a fork to nowhere", "T7", None, no_branches),
    Case("a merged token that weighs nothing", "T7", GROUP, merged_of_nobody),
]
CHILDREN = [
    Case("a branch is missing", "T8", "0", lambda: fork_to("a")),
    Case("a branch too many", "T8", "0", lambda: fork_to("abc")),
    Case("the branches in another order", "T8", "0", lambda: fork_to("ba")),
    Case("a fork at a gate that does not fork", "T8", "0.a", lambda: fork(rule(2)).say(forked("0.a", "gate_a", "ab"))),
    Case("fewer children than stated", "T8", "0",
         lambda: expanding(replace(expanded("0", "step", 2, 2), count=2))),
    Case("an expansion by a step that does not expand", "T8", "0", lambda: expanding(expanded("0", "step", 2, 2), False)),
]
PATHS = [
    Case("a node left out", "T9", "0", lambda: one_row_read().intend("out", "0")),
    Case("a step back", "T9", "0", lambda: before_the_sink().say(step("0", "step", 2, 2))),
    Case("a node that the graph has not", "T9", "0", lambda: one_row_read().say(begun("0", "nowhere", 2))),
    Case("an attempt at a sink", "T9", "0", lambda: before_the_sink().say(begun("0", "out", 2))),
    Case("one row to one by an expanding step", "T9", "0", lambda: expanding(step("0", "step", 2, 2))),
    Case("a filter at a gate", "T9", "0.a", lambda: fork(rule(2)).say(filtered("0.a", "gate_a", 2))),
    Case("a step at a gate", "T9", "0.a", lambda: fork(rule(2)).say(step("0.a", "gate_a", 2, 2))),
    Case("buffered at a step", "T9", "0", lambda: one_row_read().say(buffered("0", 0, aggregation="step"))),
    Case("an arrival before the branch's steps", "T9", "0.a", lambda: fork(rule(2)).say(arrived("0.a", GROUP))),
]
ATTEMPTS = [
    Case("the first attempt is the second", "T10", "0", lambda: one_row_read().say(begun("0", "step", 2, 2))),
    Case("an attempt 0", "T10", "0", lambda: one_row_read().say(step("0", "step", 2, 2, attempt=0))),
    Case("the same attempt after a failure", "T10", "0",
         lambda: errors(one_row_read(), 1, retry=True).say(step("0", "step", 2, 2))),
    Case("an attempt is left out", "T10", "0",
         lambda: errors(one_row_read(), 1, retry=True).say(step("0", "step", 2, 2, attempt=3))),
    Case("an attempt starts while another is open", "T10", "0",
         lambda: one_row_read().say(begun("0", "step", 2), begun("0", "step", 2))),
    Case("an effect without a start", "T10", "0", lambda: effect().say(step("0", "step", 2, 2))),
    Case("an effect that failed without a start", "T10", "0", lambda: errors(effect(), 1, retry=False)),
    Case("an effect that ended as another attempt", "T10", "0",
         lambda: effect().say(begun("0", "step", 2), step("0", "step", 2, 2, attempt=2))),
    Case("a retry beyond the limit", "T10", "0",
         lambda: errors(errors(one_row_read(), 1, retry=True), 2, retry=True)),
    Case("a gate is tried again", "T10", "0.a", gate_retried),
    Case("a death in no attempt", "T10", "0", lambda: one_row_read().say(died("0", "step", 1))),
    Case("a death in another attempt", "T10", "0",
         lambda: one_row_read().say(begun("0", "step", 2)).interrupt().resume().say(died("0", "step", 2))),
    Case("a death while its process lives", "T10", "0",
         lambda: one_row_read().say(begun("0", "step", 2), died("0", "step", 1))),
    Case("an attempt of a dead process ends", "T10", "0",
         lambda: one_row_read().say(begun("0", "step", 2)).interrupt().resume().say(step("0", "step", 2, 2))),
    Case("an effect of a dead process fails", "T10", "0",
         lambda: errors(effect().say(begun("0", "step", 2)).interrupt().resume(), 1, retry=False)),
    Case("a call in an attempt of a dead process", "T10", "0",
         lambda: effect().say(begun("0", "step", 2)).interrupt().resume().say(called())),
    Case("an attempt of a dead process is given up with its token", "T10", "0",
         lambda: one_row_read().say(begun("0", "step", 2)).interrupt().resume()
         .say(e.TokensAbandoned(tokens=("0",), code="abandoned"))),
    Case("a call outside an attempt", "T10", "0", lambda: calling(1, 0, start=False)),
    Case("a call of another attempt", "T10", "0", lambda: calling(2, 0, start=True)),
    Case("a call is left out", "T10", "0", lambda: calling(1, 1, start=True)),
    Case("a batch is retried beyond its limit", "T10", None, batch_retried_for_ever),
    Case("an effect without a key", "T10", "0", lambda: effect().say(replace(begun("0", "step", 2), key=None))),
    Case("an effect under another key", "T10", "0",
         lambda: effect().say(begun("0", "step", 2), failed("0", "step", 2, None, retry=True),
                              replace(begun("0", "step", 2, 2), key="other"))),
    Case("a call of a step that is no effect", "T10", "0", lambda: one_row_read().say(begun("0", "step", 2), called())),
    Case("an attempt before it was due", "T10", "0",
         lambda: one_row_read().say(failed("0", "step", 2, None, retry=True, delay_ms=10)).wait(9)
         .say(step("0", "step", 2, 2, attempt=2))),
    Case("an effect's attempt before it was due", "T10", "0",
         lambda: effect().say(begun("0", "step", 2), failed("0", "step", 2, None, retry=True, delay_ms=10)).wait(9)
         .say(begun("0", "step", 2, 2))),
]
TOKEN_CASES = [*ENDS, *AFTER_THE_END, *ROOTS, *STEP_0, *PARENTS, *KINDS, *MASS, *CHILDREN, *PATHS, *ATTEMPTS]
