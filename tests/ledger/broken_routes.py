"""Broken logs, one per way to break a law of ways and sinks (R1, R2, R3, R5)."""

from __future__ import annotations

from ledger import events as e
from ledger.graph import DISCARD
from tests.kit import graphs
from tests.kit.graphs import rule
from tests.kit.log import Log, begun, diverted, routed, step
from tests.ledger import lawful
from tests.ledger.broken import Case
from tests.ledger.broken_log import last_replaced, one_row_read
from tests.ledger.broken_tokens import before_the_sink, errors, invalid, second_row
from tests.ledger.lawful_groups import fork


def failing(*events: e.Event, on_error: str | None = "errors") -> Log:
    """Row 0 failed for good (its reason is payload 3), and then this is said."""
    log = Log(graphs.linear(on_error=on_error, attempts_max=1))
    log.row()
    return errors(log, 1, retry=False).say(*events)


def good(**fields: object) -> Log:
    """The divert that the failure owes, with other fields."""
    return last_replaced(failing(diverted("0", "step", "errors", edge=lawful.ERROR_EDGE, reason=3)), **fields)


def refused_and_then(event: e.Event) -> Log:
    """A sink refused row 0, and then this is said."""
    return before_the_sink().write("out", "0", refused=[e.Refusal(0, "refused", None)]).say(event)


def refusing(accepted: int, *ordinals: int) -> Log:
    """A write of two rows that is confirmed with these counts."""
    log = second_row().say(step("0", "step", 2, 2), step("1", "step", 3, 3)).intend("out", "0", "1")
    return log.confirm("out", accepted, [e.Refusal(n, "refused", None) for n in ordinals])


def two_before_the_sink() -> Log:
    """Two rows that stand before the sink."""
    return second_row().say(step("0", "step", 2, 2), step("1", "step", 3, 3))


def numbered(write: int) -> Log:
    """A first write with another number."""
    return last_replaced(before_the_sink().intend("out", "0"), write=write)


def unforked() -> Log:
    """Row 0 stands before the fork."""
    log = fork(rule(2))
    log.said.pop()
    return log


def write_failed() -> Log:
    """A write that is known to have failed."""
    log = before_the_sink().intend("out", "0")
    return log.say(e.SinkWriteFailed(sink="out", write=1, code="unreachable", error=log.keep("no")))


def row_after_the_end() -> Log:
    """One row more than the source had."""
    log = one_row_read().exhaust()
    log.row()
    return log


def source_failed(position: int | None) -> Log:
    """The source raised after another row than the last one recorded."""
    log = one_row_read()
    return log.say(e.SourceFailed(position=position, code="torn", error=log.keep("torn")))


DIVERTS = [
    Case("a divert that nothing owes", "R1", "0", lambda: one_row_read().say(diverted("0", "step", "errors"))),
    Case("a divert that a retry does not owe", "R1", "0",
         lambda: errors(one_row_read(), 1, retry=True).say(diverted("0", "step", "errors"))),
    Case("a failure without its divert", "R1", "0", lambda: failing().exhaust()),
    Case("a discard without its divert", "R1", "0", lambda: failing(on_error=DISCARD).exhaust()),
    Case("an attempt after the failure", "R1", "0", lambda: failing(begun("0", "step", 2, 2))),
    Case("an invalid row without its divert", "R1", "0",
         lambda: invalid(valid=False, code="x", error=e.Commitment(3, "0" * 64)).exhaust()),
    Case("a refusal without its divert", "R1", "0", lambda: refused_and_then(e.SourceExhausted(rows=1))),
    Case("a divert by no edge", "R1", "0", lambda: good(edge=None)),
    Case("a divert by another edge", "R1", "0", lambda: good(edge="out:__failsink__")),
    Case("a divert to another sink", "R1", "0", lambda: good(to="out")),
    Case("a divert to nowhere where a sink is due", "R1", "0", lambda: good(to=DISCARD, edge=None)),
    Case("a divert from another node", "R1", "0", lambda: good(node="source")),
    Case("a divert of another kind", "R1", "0", lambda: good(kind="quarantine")),
    Case("a divert with another code", "R1", "0", lambda: good(code="other")),
    Case("a divert with another reason", "R1", "0", lambda: good(reason=2)),
    Case("a divert without the reason", "R1", "0", lambda: good(reason=None)),
    Case("a divert of another token", "R1", "7", lambda: good(token="7")),
    Case("a discard by an edge", "R1", "0",
         lambda: failing(diverted("0", "step", DISCARD, edge=lawful.ERROR_EDGE, reason=3), on_error=DISCARD)),
]
CHOICES = [
    Case("a label that the gate has not", "R2", "0.a", lambda: fork(rule(2)).say(routed("0.a", "gate_a", "up"))),
    Case("the edge of another label", "R2", "0.a",
         lambda: last_replaced(fork(rule(2)).say(routed("0.a", "gate_a", "go")), edge="gate_a:away")),
    Case("the edge of another gate", "R2", "0.a",
         lambda: last_replaced(fork(rule(2)).say(routed("0.a", "gate_a", "go")), edge="gate_b:go")),
    Case("a choice at a step", "R2", "0", lambda: one_row_read().say(routed("0", "step", "continue"))),
    Case("a move along a branch", "R2", "0", lambda: unforked().say(routed("0", "fork", "a"))),
]
WRITES = [
    Case("a token twice in one write", "R3", "0", lambda: before_the_sink().intend("out", "0", "0")),
    Case("a token in two open writes", "R3", "0", lambda: before_the_sink().intend("out", "0").intend("out", "0")),
    Case("a write of nothing", "R3", None, lambda: before_the_sink().intend("out")),
    Case("a write of too many", "R3", None, lambda: before_the_sink().intend("out", *["0"] * 1001)),
    Case("a write number left out", "R3", None, lambda: numbered(2)),
    Case("a failed write's token under another key", "R3", None, lambda: write_failed().intend("out", "0")),
    Case("a failed write's key for another token", "R3", None,
         lambda: two_before_the_sink().intend("out", "0").say(
             e.SinkWriteFailed(sink="out", write=1, code="unreachable", error=e.Commitment(4, "0" * 64)))
         .intend("out", "1", key="hand-made:1")),
    Case("a failed write with one token more", "R3", None,
         lambda: two_before_the_sink().intend("out", "0").say(
             e.SinkWriteFailed(sink="out", write=1, code="unreachable", error=e.Commitment(4, "0" * 64)))
         .intend("out", "0", "1", key="hand-made:1")),
    Case("a write under no key", "R3", None, lambda: before_the_sink().intend("out", "0", key="")),
    Case("an artifact that ends before the write began", "R3", None,
         lambda: last_replaced(before_the_sink().intend("out", "0"), offset=7).confirm("out", 1)),
    Case("a write after the run was given up", "T1", None,
         lambda: before_the_sink().say(e.TokensAbandoned(tokens=(), code="abandoned")).intend("out", "0")),
    Case("a write number given again", "R3", None, lambda: last_replaced(write_failed().intend("out", "0"), write=1)),
    Case("a confirmation of no write", "R3", None, lambda: before_the_sink().confirm("out", 1)),
    Case("a second confirmation", "R3", None,
         lambda: before_the_sink().write("out", "0").confirm("out", 1)),
    Case("a confirmation by another sink", "R3", None, lambda: before_the_sink().intend("out", "0").confirm("errors", 1)),
    Case("a confirmation after the write failed", "R3", None, lambda: write_failed().confirm("out", 1)),
    Case("fewer accepted than written", "R3", None, lambda: refusing(1)),
    Case("more accepted than written", "R3", None, lambda: refusing(2, 1)),
    Case("a refusal of what was not written", "R3", None, lambda: refusing(1, 2)),
    Case("a refusal by a negative place", "R3", None, lambda: refusing(1, -1)),
    Case("a step on a token that is being written", "R3", "0",
         lambda: before_the_sink().intend("out", "0").say(begun("0", "out", 2))),
    Case("an open write at the seal", "R3", None, lambda: before_the_sink().intend("out", "0").exhaust().seal(tokens=1)),
]
ROWS = [
    Case("the source counts another number", "R5", None, lambda: one_row_read().say(e.SourceExhausted(rows=2))),
    Case("the source ends twice", "R5", None, lambda: one_row_read().exhaust().exhaust()),
    Case("a row after the end", "R5", "1", row_after_the_end),
    Case("a position again", "R5", "1", lambda: second_row(position=0)),
    Case("a position that falls", "R5", "1", lambda: second_row(position=-1)),
    Case("a failure at another position", "R5", None, lambda: source_failed(4)),
    Case("a failure before the first row", "R5", None, lambda: source_failed(None)),
    Case("the seal counts another number of rows", "R5", None, lambda: last_replaced(lawful.one_row(), rows=2)),
    Case("a seal before the source ended", "R5", None, lambda: before_the_sink().write("out", "0").seal(completed=1)),
]
ROUTE_CASES = [*DIVERTS, *CHOICES, *WRITES, *ROWS]
