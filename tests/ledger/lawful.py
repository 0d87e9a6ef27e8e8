"""Lawful logs of runs without a join, written by hand: each is the shortest that shows its case, sealed unless it says so.

`STRAIGHT` names them; what each must show stands in `test_lawful_logs.py`, and other tests break, cut and edit them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from ledger import events as e
from ledger.graph import DISCARD, SOURCE
from tests.kit import graphs
from tests.kit.log import Log, begun, died, diverted, expanded, failed, filtered, step

ERROR_EDGE = "step:__error_step__"
QUARANTINE_EDGE = "source:__quarantine__"
FAILSINK_EDGE = "out:__failsink__"


def one_row() -> Log:
    """A row goes through the step to the sink."""
    log = Log(graphs.linear())
    log.say(step("0", "step", log.row(), log.keep({"row": "done"})))
    return log.write("out", "0").exhaust().seal(completed=1)


def three_rows() -> Log:
    """Three rows, interleaved, in two writes; one is unchanged by the step."""
    log = Log(graphs.linear())
    inputs = [log.row() for _ in range(3)]
    log.say(step("1", "step", inputs[1], inputs[1]), step("0", "step", inputs[0], log.keep({"row": "done"})))
    log.write("out", "1", "0").say(step("2", "step", inputs[2], log.keep({"row": "last"})))
    return log.exhaust().write("out", "2").seal(completed=3)


def no_rows() -> Log:
    """An empty source."""
    return Log(graphs.linear()).exhaust().seal()


def effect_retried() -> Log:
    """An effect with a recorded call fails once and succeeds at its second attempt."""
    log = Log(graphs.linear(effect=True))
    row = log.row()
    log.say(begun("0", "step", row), call(log, "0", 1, 0), failed("0", "step", row, log.keep("busy"), retry=True))
    log.wait(10).say(begun("0", "step", row, 2), call(log, "0", 2, 0), call(log, "0", 2, 1))
    log.say(step("0", "step", row, log.keep({"row": "done"}), attempt=2))
    return log.write("out", "0").exhaust().seal(completed=1)


def call(log: Log, token: str, attempt: int, number: int) -> e.CallRecorded:
    """An outside call of an attempt at `step`."""
    return e.CallRecorded(token=token, node="step", attempt=attempt, call=number, kind="http", status="200",
                          request=log.keep("asked"), response=log.keep("answered"), latency_us=3)


def retried_at_each_step() -> Log:
    """Attempts count from 1 at each step: a row fails once at the first, once at the second."""
    draft = graphs.Draft().node(SOURCE, "source", on_error=DISCARD)
    draft.node("one", "transform", on_error=DISCARD, attempts_max=2)
    draft.node("two", "transform", on_error=DISCARD, attempts_max=2).node("out", "sink", on_error=DISCARD)
    log = Log(draft.edge(SOURCE, "one").edge("one", "two").edge("two", "out").graph())
    row = log.row()
    for node in ("one", "two"):
        log.say(failed("0", node, row, None, retry=True), step("0", node, row, row, attempt=2))
    return log.write("out", "0").exhaust().seal(completed=1)


def error_routed() -> Log:
    """A step fails for good; its row goes to the error sink."""
    log = Log(graphs.linear(attempts_max=1))
    row, error = log.row(), log.keep("no good")
    log.say(failed("0", "step", row, error), diverted("0", "step", "errors", edge=ERROR_EDGE, reason=error.n))
    return log.write("errors", "0").exhaust().seal(routed=1)


def error_discarded() -> Log:
    """A step fails for good; its row is discarded, with its reason."""
    log = Log(graphs.linear(on_error=DISCARD, attempts_max=1))
    row, error = log.row(), log.keep("no good")
    log.say(failed("0", "step", row, error), diverted("0", "step", DISCARD, reason=error.n))
    return log.exhaust().seal(quarantined=1)


def row_quarantined() -> Log:
    """An invalid row goes to the quarantine sink from the source's own state."""
    log = Log(graphs.linear())
    log.row(code="ragged")
    log.say(diverted("0", SOURCE, "errors", kind="quarantine", edge=QUARANTINE_EDGE, code="ragged", reason=3))
    return log.write("errors", "0").exhaust().seal(quarantined=1)


def row_discarded() -> Log:
    """An invalid row is discarded, and keeps its row, its token, its reason and its end."""
    log = Log(graphs.linear(quarantine=DISCARD))
    log.row(code="ragged")
    log.say(diverted("0", SOURCE, DISCARD, kind="quarantine", code="ragged", reason=3))
    return log.exhaust().seal(quarantined=1)


def refused_to_failsink() -> Log:
    """A sink accepts one row and refuses another, which its failsink accepts."""
    log = Log(graphs.linear())
    one, two = log.row(), log.row()
    log.say(step("0", "step", one, one), step("1", "step", two, two))
    error = log.keep("too long")
    log.write("out", "0", "1", refused=[e.Refusal(1, "refused", error)])
    log.say(diverted("1", "out", "errors", kind="sink_refused", edge=FAILSINK_EDGE, code="refused", reason=error.n))
    return log.write("errors", "1").exhaust().seal(completed=1, diverted=1)


def refused_by_failsink_too() -> Log:
    """What the failsink refuses as well is discarded: the last sink to refuse decides."""
    log = Log(graphs.linear())
    row = log.row()
    log.say(step("0", "step", row, row)).write("out", "0", refused=[e.Refusal(0, "refused", None)])
    log.say(diverted("0", "out", "errors", kind="sink_refused", edge=FAILSINK_EDGE, code="refused"))
    log.write("errors", "0", refused=[e.Refusal(0, "refused_again", None)])
    log.say(diverted("0", "errors", DISCARD, kind="sink_refused", code="refused_again"))
    return log.exhaust().seal(diverted=1)


def refused_twice_with_another_sink() -> Log:
    """A failsink's refusal is discarded although that sink has a failsink of its own."""
    draft = graphs.Draft().node(SOURCE, "source", on_error=DISCARD).node("out", "sink", on_error="errors")
    draft.node("errors", "sink", on_error="last").node("last", "sink", on_error=DISCARD)
    log = Log(draft.edge(SOURCE, "out").graph())
    log.row()
    log.write("out", "0", refused=[e.Refusal(0, "refused", None)])
    log.say(diverted("0", "out", "errors", kind="sink_refused", edge=FAILSINK_EDGE, code="refused"))
    log.write("errors", "0", refused=[e.Refusal(0, "refused_again", None)])
    log.say(diverted("0", "errors", DISCARD, kind="sink_refused", code="refused_again"))
    return log.exhaust().seal(diverted=1)


def write_repeated() -> Log:
    """A sink cannot be reached; the run stops, and another process writes the rows."""
    log = Log(graphs.linear())
    row = log.row()
    log.say(step("0", "step", row, row)).intend("out", "0")
    log.say(e.SinkWriteFailed(sink="out", write=1, code="unreachable", error=log.keep("no route")))
    return log.interrupt().resume().write("out", "0", key=f"{log.run}:1").exhaust().seal(completed=1)


def source_failed_once() -> Log:
    """The source raises after a row; the next process reads on from there."""
    log = Log(graphs.linear())
    row = log.row()
    log.say(step("0", "step", row, row), e.SourceFailed(position=0, code="torn", error=log.keep("line 2")))
    log.interrupt().resume().write("out", "0")
    row = log.row()
    return log.say(step("1", "step", row, row)).write("out", "1").exhaust().seal(completed=2)


def process_died_thrice() -> Log:
    """A row that kills the process three times leaves by the error edge."""
    log = Log(graphs.linear())
    row = log.row()
    for attempt in (1, 2, 3):
        log.say(begun("0", "step", row, attempt)).resume().say(died("0", "step", attempt))
    log.say(diverted("0", "step", "errors", edge=ERROR_EDGE, code="process_died"))
    return log.write("errors", "0").exhaust().seal(routed=1)


def row_filtered() -> Log:
    """A step drops a row by rule."""
    log = Log(graphs.linear())
    return log.say(filtered("0", "step", log.row())).exhaust().seal(dropped_by_filter=1)


def row_expanded() -> Log:
    """A step makes three rows of one and none of another; nothing gathers them."""
    log = Log(graphs.linear(expands=True))
    row = log.row()
    log.say(expanded("0", "step", row, row, log.keep({"part": 1}), log.keep({"part": 2})))
    log.say(expanded("1", "step", log.row()))
    log.write("out", "0:2", "0:0", "0:1").exhaust()
    return log.seal(expanded=1, completed=3, dropped_by_filter=1)


def abandoned() -> Log:
    """A run is given up: what is open ends `failed`."""
    log = Log(graphs.linear())
    one, two = log.row(), log.row()
    log.say(step("0", "step", one, one), begun("1", "step", two)).interrupt().resume()
    log.say(e.StepAbandoned(token="1", node="step", attempt=1, code="process_died"))
    log.say(e.TokensAbandoned(tokens=("0", "1"), code="abandoned", reason=log.keep("the customer left")))
    return log.seal(status="failed", failed=2)


def left_open() -> Log:
    """A run that stopped with one row before the step, one before the sink and one finished. Not sealed."""
    log = Log(graphs.linear())
    rows = [log.row() for _ in range(3)]
    log.say(step("0", "step", rows[0], rows[0]), step("1", "step", rows[1], rows[1]))
    return log.write("out", "0").interrupt()


def gate_failed() -> Log:
    """A gate without a route raises: its row is `failed`."""
    draft = graphs.Draft().node(SOURCE, "source", on_error=DISCARD).node("gate", "gate")
    draft.node("out", "sink", on_error=DISCARD).edge(SOURCE, "gate").edge("gate", "out", "go")
    log = Log(draft.graph())
    log.say(failed("0", "gate", log.row(), log.keep("no such column")))
    return log.exhaust().seal(failed=1)


def gate_chose() -> Log:
    """A gate sends one row to a sink: that row ends `routed`."""
    draft = graphs.Draft().node(SOURCE, "source", on_error=DISCARD).node("gate", "gate")
    draft.node("step", "transform", on_error=DISCARD).node("out", "sink", on_error=DISCARD)
    draft.node("side", "sink", on_error=DISCARD).edge(SOURCE, "gate").edge("gate", "step", "go")
    log = Log(draft.edge("gate", "side", "away").edge("step", "out").graph())
    row = log.row()
    log.row()
    log.say(e.Routed(token="0", node="gate", label="go", edge="gate:go"), step("0", "step", row, row))
    log.say(e.Routed(token="1", node="gate", label="away", edge="gate:away"))
    return log.write("side", "1").write("out", "0").exhaust().seal(completed=1, routed=1)


def many_rows(count: int) -> Log:
    """`count` rows, each written before the next is read."""
    log = Log(graphs.linear())
    for number in range(count):
        row = log.row()
        log.say(step(str(number), "step", row, row)).write("out", str(number))
    return log.exhaust().seal(completed=count)


STRAIGHT: Mapping[str, Callable[[], Log]] = {
    builder.__name__: builder
    for builder in (one_row, three_rows, no_rows, effect_retried, retried_at_each_step, error_routed, error_discarded,
                    row_quarantined, row_discarded, refused_to_failsink, refused_by_failsink_too,
                    refused_twice_with_another_sink, write_repeated, source_failed_once, process_died_thrice,
                    row_filtered, row_expanded, abandoned, left_open, gate_failed, gate_chose)
} | {"many_rows": partial(many_rows, 20)}
