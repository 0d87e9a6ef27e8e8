"""An event in the midst of a log that nobody can read, or that may not be there: reading stops at it, by name.

Whoever wrote it also made the tree and the head anew, so that nothing but the event itself is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from msgspec.structs import replace

from ledger import reader
from ledger.codec import Undecodable
from ledger.replay import replay
from ledger.store import Store, Stored
from tests.kit import tamper
from tests.kit.log import RUN, Log
from tests.ledger.lawful_many import LAWFUL

LOGS = ("error_routed", "effect_retried", "process_died_thrice", "refused_to_failsink", "nested_joins", "gathered_late",
        "batch_rejected")
"""Errors, retries, several processes, sinks, groups in one another, a gather, a batch."""


def unknown(stored: Stored) -> Stored:
    """Of a type that nobody knows."""
    return stored._replace(type="TokenTeleported", body=stored.body.replace(stored.type.encode(), b"TokenTeleported", 1))


def of_the_future(stored: Stored) -> Stored:
    """Of a version that is not there yet."""
    return stored._replace(v=stored.v + 1)


def torn(stored: Stored) -> Stored:
    """Half of its bytes."""
    return stored._replace(body=stored.body[: len(stored.body) // 2])


def no_text(stored: Stored) -> Stored:
    """Bytes that are no UTF-8."""
    return stored._replace(body=stored.body[:-1] + b"\xff}")


UNREADABLE: Mapping[str, Callable[[Stored], Stored]] = {
    "unknown type": unknown, "future version": of_the_future, "torn": torn, "no text": no_text,
}  # fmt: skip


def poisoned(log: Log, seq: int, fault: Callable[[Stored], Stored]) -> Store:
    """The log with that fault at `seq`."""
    store = log.store()
    tamper.edit_events(store, RUN, lambda stored: [fault(one) if one.seq == seq else one for one in stored])
    tamper.rehash(store, RUN)
    return store


def law_of(log: Log, store: Store, seq: int) -> str:
    """The law that is named at `seq`, and nowhere else; what stands before is told as if the log had ended there."""
    verdict = replay(store, RUN).verdict
    (finding,) = verdict.findings
    assert finding.seq == seq
    assert (verdict.events, verdict.sealed) == (seq - 1, False)
    before = replay(store, RUN, until_seq=seq - 1, deep=True).verdict
    assert before.lawful
    assert before == replay(log.store(), RUN, until_seq=seq - 1, deep=True).verdict
    return finding.law


@pytest.mark.parametrize("fault", UNREADABLE)
@pytest.mark.parametrize("name", LOGS)
def test_an_event_that_cannot_be_read_is_where_reading_stops(name: str, fault: str) -> None:
    """W12, F3, F4, law L5: at every seq: typed, with its place; never skipped; earlier history is as it was."""
    log = LAWFUL[name]()
    for seq in range(1, len(log.said) + 1):
        store = poisoned(log, seq, UNREADABLE[fault])
        read = []
        with pytest.raises(Undecodable) as raised:
            for stored, _ in reader.events(store, RUN):
                read.append(stored.seq)
        assert read == list(range(1, seq))
        assert (raised.value.code, raised.value.run, raised.value.seq) == ("EVENT_UNREADABLE", RUN, seq)
        assert law_of(log, store, seq) == "L5"


@pytest.mark.parametrize("name", LOGS)
def test_an_event_that_may_not_follow_is_where_folding_stops(name: str) -> None:
    """W12, F3, F4, law L2: a second start, at every seq: it can be read, and is named; where something is owed, by that."""
    log = LAWFUL[name]()
    events = log.stamped()
    laws = []
    for seq in range(2, len(events) + 1):
        here = events[seq - 1]
        start = tamper.as_stored(replace(events[0], seq=seq, at=here.at, active_ms=here.active_ms, epoch=here.epoch))
        laws.append(law_of(log, poisoned(log, seq, lambda _, start=start: start), seq))  # type: ignore[misc]
    assert laws.count("L2") > len(laws) / 2
    assert set(laws) <= {"L2", "L3", "R1", "C4"}
