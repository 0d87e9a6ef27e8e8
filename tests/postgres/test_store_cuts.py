"""A writer whose connection is cut at every message of its talk with the server: nothing twice, nothing missing.

The long variant, of 50 commits and every kind of cut: `python -m tests.postgres.campaign cuts`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing

import pytest

from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from ledger.store import StoreConflict
from tests.kit.cutting import Cut, How, Message, after, before, cutting, within
from tests.ledger.appending import event, part, payload
from tests.postgres import cuts
from tests.postgres.cuts import story

COMMITS = 4
BEGIN = b"BEGIN ISOLATION"


def _wrong(url: str, reading: PostgresStore, made: Sequence[Cut], commits: int = COMMITS, first: int = 1) -> list[str]:
    """What is wrong after sessions that were cut at one of these places each; all but those of the opening must end well."""
    found = []
    for case, cut in enumerate(made, start=first):
        told = story(case, commits)
        result = cuts.told_through(url, told, [cut])
        found += [f"{cut}: {fault}" for fault in cuts.faults(reading, told, result)]
        if result.made != [cut] or result.acknowledged != commits:
            found.append(f"{cut}: {result}")
    return found


def _from(messages: Sequence[Message], turn: int, turns: int = 1) -> list[Message]:
    """The messages from the beginning of the `turn`-th transaction to that of the one so many turns later."""
    begins = [index for index, message in enumerate(messages) if BEGIN in message.head and message.direction == "client"]
    begins.append(len(messages))
    return list(messages[begins[turn - 1]:begins[turn - 1 + turns]])


def test_a_cut_while_a_store_is_opened_is_told_and_stores_nothing(log_url: str, reading: PostgresStore) -> None:
    """W6: nothing was asked of it yet, so nothing is waited for: the code says that there is no server."""
    messages = cuts.recorded(log_url, story(0, 1))[:cuts.opening(log_url)]
    for case, message in enumerate(messages, start=1):
        told = story(case, 1)
        result = cuts.told_through(log_url, told, [before(message)])
        assert (result.acknowledged, result.code, len(result.made)) == (0, "LEDGER_UNREACHABLE", 1), message
        assert cuts.kept(reading, [told[0][0].head.run]) == [(None, [], [])]


def test_a_writer_that_is_cut_at_any_message_stores_everything_once(
    log_url: str, reading: PostgresStore, caplog: pytest.LogCaptureFixture
) -> None:
    """W6, law L1: before each message of each direction, both ends reset: every commit is there once, in order, and told.

    What is repaired is not complained of, not even by the driver.
    """
    messages = cuts.recorded(log_url, story(0, COMMITS))[cuts.opening(log_url):]
    assert sum(BEGIN in message.head for message in messages) == COMMITS
    assert _wrong(log_url, reading, [*map(before, messages), after(messages[-1])]) == []
    assert caplog.records == []


@pytest.mark.parametrize(("how", "turn"), [("orderly", 4), ("client_only", 2)])
def test_a_server_that_was_not_told_of_the_cut_changes_nothing(
    log_url: str, reading: PostgresStore, how: How, turn: int
) -> None:
    """W6: it reads on to the end, or never hears of it: every message of a commit."""
    messages = _from(cuts.recorded(log_url, story(0, COMMITS)), turn)
    assert _wrong(log_url, reading, [before(message, how) for message in messages]) == []


def test_a_message_that_is_cut_in_two_is_none(log_url: str, reading: PostgresStore) -> None:
    """W6: every byte of a commit's own words and of its answer, and the middle of what is copied."""
    messages = _from(cuts.recorded(log_url, story(0, COMMITS)), 2)
    commits = [message for message in messages if b"COMMIT\0" in message.head and BEGIN not in message.head]
    copied = [message for message in messages if message.type == "d"]
    assert len(commits) >= 2 and len(copied) == 2
    places = [within(message, kept) for message in commits[:2] for kept in range(1, message.length)]
    assert _wrong(log_url, reading, [*places, *(within(message, message.length // 2) for message in copied)]) == []


def test_a_cut_while_it_is_found_out_what_a_cut_left_changes_nothing(log_url: str, reading: PostgresStore) -> None:
    """W6: after a cut whose commit was handed on, each message of the second connection, but for some that open it."""
    told = story(0, 2)
    first = after(_commit(cuts.recorded(log_url, told), 1), "orderly")
    with cutting(log_url, first) as proxy:
        assert cuts.told_over(proxy, story(1, 2)).acknowledged == 2
        second = [message for message in proxy.messages if message.connection == 2 and message.type != "X"]
    assert len(second) > 150
    opened = cuts.opening(log_url)
    asked = [message for message in second[opened:] if message.direction == "client" or message.type in "CZ"]
    for case, message in enumerate([*second[:opened:8], *asked], start=2):
        told = story(case, 2)
        result = cuts.told_through(log_url, told, [first, before(message)])
        assert (result.acknowledged, len(result.made)) == (2, 2), message
        assert cuts.faults(reading, told, result) == [], message


def test_connection_after_connection_is_cut_and_everything_is_stored_once(log_url: str, reading: PostgresStore) -> None:
    """W6: a network that is bad for a while: twelve connections in a row, each cut somewhere."""
    for seed in range(12):
        drawn = random.Random(seed)
        told = story(seed, COMMITS)
        made = [_somewhere(drawn, number) for number in range(2, 14)]
        result = cuts.told_through(log_url, told, [Cut("client", 40, connection=1), *made])
        assert result.acknowledged == COMMITS and len(result.made) > 5, seed
        assert cuts.faults(reading, told, result) == [], seed


def _somewhere(drawn: random.Random, connection: int) -> Cut:
    """A place in a connection: mostly after what it takes to open it, sometimes within a message."""
    how: How = drawn.choice(["rst", "orderly"])
    if drawn.random() < 0.5:
        return Cut("client", drawn.randint(8, 50), drawn.choice([None, 0, 3]), how, connection)
    return Cut("server", drawn.randint(25, 75), drawn.choice([None, 0, 3]), how, connection)


def test_payloads_without_an_event_are_sent_again(log_url: str, reading: PostgresStore) -> None:
    """W6: their stream's head is the same before and after, so it cannot say whether they are there."""
    def append(url: str, run: str) -> None:
        with closing(PostgresStore(parsed(url), write=True, patience=cuts.PATIENT)) as store:
            store.append([part(run, None, 1)])
            store.append([part(run, 1, 1, payloads=[payload(1), payload(2, True)])])

    with cutting(log_url) as proxy:
        append(proxy.url, "0")
        commit = proxy.found("client", b"COMMIT\0", 3)
    for run, cut in (("1", before(commit)), ("2", after(commit, "orderly"))):
        with cutting(log_url, cut) as proxy:
            append(proxy.url, run)
            assert proxy.made == [cut]
        assert list(reading.payloads_between(run, 1, 9)) == [payload(1), payload(2, True)]


def _commit(messages: Sequence[Message], turn: int) -> Message:
    """The client's word that ends the `turn`-th append."""
    return next(message for message in _from(messages, turn)
            if message.direction == "client" and b"COMMIT\0" in message.head and b"NOTIFY" not in message.head)


def test_events_of_one_append_are_compared_one_by_one(log_url: str, reading: PostgresStore) -> None:
    """W6: another writer's append that ends alike is another's; the one that was cut off is fenced, and nothing is lost."""
    ours = part("r", None, 3)
    theirs = ours._replace(events=[event(1, b"other"), *ours.events[1:]])
    with cutting(log_url) as proxy, closing(PostgresStore(parsed(proxy.url), write=True)) as store:
        store.append([part("first", None, 3)])
        commit = proxy.found("client", b"COMMIT\0")
    with closing(PostgresStore(parsed(log_url), write=True)) as other:
        def now() -> float:
            if other.head("r") is None:
                other.append([theirs])
            return 0.0

        patience = cuts.PATIENT._replace(now=now)
        with cutting(log_url, before(commit)) as proxy, \
                closing(PostgresStore(parsed(proxy.url), write=True, patience=patience)) as store, \
                pytest.raises(StoreConflict):
            store.append([ours])
    assert list(reading.read("r")) == theirs.events


def test_a_conflict_stays_one_when_its_undoing_is_cut(
    log_url: str, reading: PostgresStore, caplog: pytest.LogCaptureFixture
) -> None:
    """W5, W6: what is told is the conflict, with no word of the driver on stderr beside it."""
    with closing(PostgresStore(parsed(log_url), write=True)) as store:
        store.append([part("r", None, 2)])

    def conflict(url: str) -> None:
        with closing(PostgresStore(parsed(url), write=True, patience=cuts.PATIENT)) as store:
            with pytest.raises(StoreConflict):
                store.append([part("new", None, 1), part("r", 1, 2)])
            assert [head.run for head in store.heads()] == ["r"]

    with cutting(log_url) as proxy:
        conflict(proxy.url)
        rollback = proxy.found("client", b"ROLLBACK")
    for how in ("rst", "orderly", "client_only"):
        with cutting(log_url, before(rollback, how)) as proxy:
            conflict(proxy.url)
        assert len(proxy.made) == 1
    assert [head.run for head in reading.heads()] == ["r"] and caplog.records == []
