"""An event in the midst of a log that nobody can read, or that may not be there: reading stops at it, by name.

Whoever wrote it also made the tree and the head anew, so that nothing but the event itself is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from msgspec.structs import replace

from ledger import events as e
from ledger import reader
from ledger.codec import Undecodable
from ledger.replay import replay
from ledger.store import Store, Stored
from ledger.verify import integrity
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


def nested(stored: Stored) -> Stored:
    """With a value before its type that is nested deeper than anybody reads."""
    return stored._replace(body=b'{"more":' + b"[" * 50_000 + b"]" * 50_000 + b"," + stored.body[1:])


UNREADABLE: Mapping[str, Callable[[Stored], Stored]] = {
    "unknown type": unknown, "future version": of_the_future, "torn": torn, "no text": no_text, "nested": nested,
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


@pytest.mark.parametrize("token", ["9" * 5000, "9" * 5000 + ".a", "9" * 5000 + ":1"])
def test_a_token_of_a_number_that_is_none_is_where_reading_stops(token: str) -> None:
    """W12, law L6: it is of no row, whatever the columns say; by name, and never an error of the reader."""
    log = LAWFUL["error_routed"]()
    seq = next(one.seq for one in log.store().read(RUN) if one.token == "0" and one.row_index == 0)
    for row in (None, 0, 9):
        store = poisoned(log, seq, lambda one, row=row: one._replace(  # type: ignore[misc]
            token=token, row_index=row, body=one.body.replace(b'"token":"0"', f'"token":"{token}"'.encode())))
        assert law_of(log, store, seq) == "L6"
        assert ("column", seq) in {(fault.kind, fault.seq) for fault in integrity(store, RUN)}


def test_a_list_nested_too_deeply_is_where_reading_stops() -> None:
    """W12, law L4: a list payload that its commitment matches, and nobody can read."""
    log = LAWFUL["nested_joins"]()
    seq, event = next((n, one) for n, one in enumerate(log.said, 1) if isinstance(one, e.TokensCoalesced))
    for data in (b"[" * 50_000, b'{"policy":' + b"[" * 50_000 + b"]" * 50_000 + b"}"):
        salt = bytes(16)
        log.kept.append((salt, data))
        committed = e.Commitment(len(log.kept), reader.commit(salt, data))
        log.said[seq - 1] = replace(event, facts=None, facts_list=committed)
        verdict = replay(log.store(), RUN).verdict
        assert [(one.law, one.seq) for one in verdict.findings] == [("L4", seq)]
        assert [one.seq for one, _ in reader.unreadable(log.store(), RUN)] == [seq]


@pytest.mark.parametrize("fault", UNREADABLE)
def test_every_event_that_cannot_be_read_is_found_in_one_reading(fault: str) -> None:
    """F7, W12: those at which reading would stop, one by one, and none that can be read; the log is fetched once."""
    log = LAWFUL["error_routed"]()
    store = log.store()
    assert list(reader.unreadable(store, RUN)) == []
    last = len(log.said)
    bad = {1, 2, 5, last}
    tamper.edit_events(store, RUN, lambda stored: [UNREADABLE[fault](one) if one.seq in bad else one for one in stored])
    tamper.edit_events(store, RUN, lambda stored: [one._replace(at=7) if one.seq == 4 else one for one in stored])
    found = list(reader.unreadable(store, RUN))
    assert [stored.seq for stored, _ in found] == [1, 2, 4, 5, last]
    assert found[2][1].startswith("L6 at run") and all("L6" not in said for stored, said in found if stored.seq != 4)
