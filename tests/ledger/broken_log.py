"""Broken logs, one per way to break a law of the log itself (L1 to L7): seqs, lifecycle, epochs, references, bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from ledger import events as e
from ledger.store import Payload, Store, Stored
from tests.kit import graphs, tamper
from tests.kit.log import RUN, Log, begun, facts, filtered, merged, started, step
from tests.ledger import lawful, lawful_groups
from tests.ledger.broken import Case
from tests.ledger.lawful_groups import GROUP


def one_row_read() -> Log:
    """Row 0 (payload 2) stands before the step; the last event is seq 3."""
    log = Log(graphs.linear())
    log.row()
    return log


def edited(edit: Callable[[list[Stored]], Iterable[Stored]]) -> Callable[[], Store]:
    """The stored log of one row, edited behind its back: 1 started, 2 claimed, 3 read, 4 step, 5 and 6 write, 7, 8."""

    def build() -> Store:
        store = lawful.one_row().store()
        tamper.edit_events(store, RUN, edit)
        return store

    return build


def swap(stored: list[Stored]) -> list[Stored]:
    """The step before the row."""
    return [*stored[:2], stored[3], stored[2], *stored[4:]]


def changed(**columns: object) -> Callable[[], Store]:
    """The step's index columns, or its body, changed in place."""
    return edited(lambda stored: [*stored[:3], stored[3]._replace(**columns), *stored[4:]])  # type: ignore[arg-type]


def without_a_start() -> Log:
    """The first event is the claim."""
    log = Log(graphs.linear())
    del log.said[0]
    return log


def first_replaced(**fields: object) -> Log:
    """`RunStarted` with other fields."""
    log = Log(graphs.linear())
    log.said = [replace(log.said[0], **fields)]
    return log


def last_replaced(log: Log, **fields: object) -> Log:
    """The last event with other fields."""
    log.said[-1] = replace(log.said[-1], **fields)
    return log


def in_epoch(log: Log, epoch: int) -> Log:
    """What is said from here on is said in this epoch."""
    log.epoch = epoch
    return log


def again_started() -> Log:
    """A run that starts a second time."""
    log = one_row_read()
    return log.say(started(graphs.linear(), log.keep({})))


def skipped_payload() -> Log:
    """A payload number that nothing introduced."""
    log = one_row_read()
    log.keep("never introduced")
    return log.say(step("0", "step", 2, log.keep({"row": "done"})))


def merged_payload_of_nobody() -> Log:
    """A merged token that carries the settings."""
    log = lawful_groups.arrive(lawful_groups.fork(graphs.rule(2)), "a", "b")
    known = facts("0+join", "require_all", "ab", lawful_groups.at("ab"))
    return log.say(merged("0+join", "all_arrived", known, 1))


def graph_list_swapped() -> Store:
    """A graph in a list payload that its commitment does not match."""
    log = Log(graphs.linear())
    log.said = [replace(log.said[0], graph=None, graph_list=log.keep({"nodes": [], "edges": []}))]
    store = log.store()
    tamper.edit_payload(store, RUN, 2, Payload(2, b"salt", b"{}", True))
    return store


def facts_listed(value: object) -> Log:
    """A merge whose facts stand in a list payload (nowhere when None)."""
    log = lawful_groups.arrive(lawful_groups.fork(graphs.rule(2)), "a", "b")
    known = facts(GROUP, "require_all", "ab", lawful_groups.at("ab"))
    return log.say(replace(merged(GROUP, "all_arrived", known, 2), facts=None,
                           facts_list=None if value is None else log.keep(value)))


def facts_list_swapped() -> Store:
    """Facts in a list payload that was exchanged."""
    store = facts_listed(facts(GROUP, "require_all", "ab", lawful_groups.at("ab"))).store()
    tamper.edit_payload(store, RUN, 3, Payload(3, b"salt", b"{}", True))
    return store


def unknown_group() -> Log:
    """A merge of a group that never was."""
    known = facts("9+join", "require_all", "ab", ())
    return lawful_groups.fork(graphs.rule(2)).say(merged("9+join", "all_arrived", known, 2))


SEQS = [
    Case("an event is missing", "L1", None, edited(lambda stored: [*stored[:3], *stored[4:]]), 5),
    Case("the first event is missing", "L1", None, edited(lambda stored: stored[1:]), 2),
    Case("an event stands twice", "L1", None, edited(lambda stored: [*stored[:4], *stored[3:]]), 4),
    Case("two events are swapped", "L1", None, edited(swap), 4),
    Case("the seal states another size", "L1", None, lambda: last_replaced(lawful.one_row(), size=99)),
]
LIFECYCLE = [
    Case("the first event is a claim", "L2", None, without_a_start),
    Case("a second start", "L2", None, again_started),
    Case("an event after the seal", "L2", None, lambda: lawful.one_row().say(filtered("0", "step", 2))),
    Case("a second seal", "L2", None, lambda: lawful.one_row().seal(completed=1)),
    Case("a claim after the seal", "L2", None, lambda: lawful.one_row().resume()),
    Case("an interruption after the seal", "L2", None, lambda: lawful.one_row().interrupt()),
    Case("an event after an interruption", "L2", None, lambda: one_row_read().interrupt().exhaust()),
    Case("a second interruption", "L2", None, lambda: one_row_read().interrupt().interrupt()),
]
EPOCHS = [
    Case("an event of an epoch before", "L3", None, lambda: in_epoch(one_row_read().resume(), 1).exhaust()),
    Case("an epoch that no claim raised", "L3", None, lambda: in_epoch(one_row_read(), 2).exhaust()),
    Case("a claim in the same epoch", "L3", None, lambda: one_row_read().say(e.RunClaimed(process="test"))),
    Case("a claim that leaves an epoch out", "L3", None, lambda: in_epoch(one_row_read(), 2).resume()),
    Case("a claim of an epoch before", "L3", None, lambda: in_epoch(one_row_read().resume(), 0).resume()),
    Case("a start claimed in another epoch", "L3", None, lambda: last_replaced(Log(graphs.linear()), epoch=2)),
]
REFERENCES = [
    Case("a payload number is skipped", "L4", None, skipped_payload),
    Case("a payload number is given again", "L4", None,
         lambda: one_row_read().say(step("0", "step", 2, e.Commitment(2, "0" * 64)))),
    Case("a token that nothing made", "L4", "5", lambda: one_row_read().say(begun("5", "step", 2))),
    Case("an id that is none", "L4", "no id", lambda: one_row_read().say(begun("no id", "step", 2))),
    Case("an input that the token does not carry", "L4", "0", lambda: one_row_read().say(step("0", "step", 1, 1))),
    Case("an input that the token does not carry, the output is its own", "L4", "0",
         lambda: one_row_read().say(step("0", "step", 1, 2))),
    Case("a start on another input", "L4", "0", lambda: one_row_read().say(begun("0", "step", 1))),
    Case("an output that is not the input", "L4", "0", lambda: one_row_read().say(step("0", "step", 2, 1))),
    Case("a filter on another input", "L4", "0", lambda: one_row_read().say(filtered("0", "step", 1))),
    Case("a sink that is not in the graph", "L4", None, lambda: one_row_read().intend("nowhere", "0")),
    Case("a group that never was", "L4", "9+join", unknown_group),
    Case("a merged row of nobody", "L4", "0+join", merged_payload_of_nobody),
    Case("an event of the ledger's own stream", "L4", None,
         lambda: one_row_read().say(e.RunOpened(opened=RUN, pipeline="p"))),
    Case("no graph", "L4", None, lambda: first_replaced(graph=None)),
    Case("a graph that its commitment does not match", "L4", None, graph_list_swapped, 1),
]
LISTS = [
    Case("facts neither in the body nor in a list", "L4", GROUP, lambda: facts_listed(None).store(), 11),
    Case("facts in a list that is none", "L4", GROUP, lambda: facts_listed(["nonsense"]).store(), 11),
    Case("facts in a list that its commitment does not match", "L4", GROUP, facts_list_swapped, 11),
]
BYTES = [
    Case("a type that nobody knows", "L5", None, changed(type="StepSkipped"), 4),
    Case("a version of the future", "L5", None, changed(v=2), 4),
    Case("bytes that are no JSON", "L5", None, changed(body=b"{"), 4),
    Case("bytes that are no UTF-8", "L5", None, changed(body=b'{"type":"Routed","token":"\xff"}'), 4),
    Case("a field that nobody knows", "L5", None, changed(body=b'{"type":"SourceExhausted","rows":1,"more":2}'), 4),
    Case("text in place of bytes", "L5", None, changed(body='{"type":"SourceExhausted","rows":1}'), 4),
    Case("a number in place of bytes", "L5", None, changed(body=5), 4),
    Case("no bytes at all", "L5", None, changed(body=b""), 4),
]
COLUMNS = [
    Case("another type", "L6", "0", changed(type="StepStarted"), 4),
    Case("another token", "L6", "1", changed(token="1"), 4),
    Case("no token", "L6", None, changed(token=None), 4),
    Case("another row", "L6", "0", changed(row_index=1), 4),
    Case("another time", "L6", "0", changed(at=0), 4),
    Case("another seq", "L6", "0", changed(seq=9), 9),
    Case("another run in the body", "L6", None, lambda: last_replaced(one_row_read().exhaust(), run="other")),
]
TIMES = [
    Case("at falls", "L7", None, lambda: last_replaced(one_row_read().wait(5).exhaust(), at=1)),
    Case("run time falls", "L7", None, lambda: one_row_read().wait(5).exhaust().wait(-1).seal()),
    Case("run time that was never given", "L7", None, lambda: last_replaced(one_row_read().exhaust(), active_ms=-1)),
]
LOG_CASES = [*SEQS, *LIFECYCLE, *EPOCHS, *REFERENCES, *LISTS, *BYTES, *COLUMNS, *TIMES]
