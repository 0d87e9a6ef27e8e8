"""One contract for every store of the log: append whole or not at all, fenced by size and epoch; read what was stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import ids
from ledger.memory_store import MemoryStore
from ledger.rows import FETCH_ROWS
from ledger.sqlite_store import SqliteStore
from ledger.store import Store, StoreConflict
from tests.ledger.appending import event, everything, head_at, part, payload, refused
from tests.ledger.files import new_file, postgres_store
from tests.ledger.lawful_many import LAWFUL


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A new store of each kind."""
    made = _made(request, tmp_path)
    yield made
    made.close()


def _made(request: pytest.FixtureRequest, folder: Path) -> Store:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "sqlite":
        return SqliteStore(new_file(folder), write=True)
    return postgres_store(request.getfixturevalue("postgres_url"))


def test_a_new_store_is_empty(store: Store) -> None:
    """No stream, no event, no payload, and nothing wrong with its guards."""
    assert store.heads() == [] and store.head("r") is None
    assert list(store.read("r")) == [] and store.payloads("r", [1]) == {}
    assert list(store.payloads_between("r", 1, 9)) == [] and store.guards() == []


def test_what_is_appended_is_read_back_as_it_was(store: Store) -> None:
    """L6: index columns, bytes and head are those that were given."""
    store.append([part("r", None, 3, payloads=[payload(1, True), payload(2)])])
    assert everything(store) == [(head_at("r", 3), [event(1), event(2), event(3)], [payload(1, True), payload(2)])]
    assert store.head("r") == head_at("r", 3)


def test_bytes_of_every_kind_survive(store: Store) -> None:
    """L5: a body is what was hashed, not what a codec makes of it."""
    body = bytes(range(256)) + "ä€\U0001f4dc\x00".encode()
    given = part("r", None, 1)
    store.append([given._replace(events=[event(1, body)])])
    assert [stored.body for stored in store.read("r")] == [body]


def test_a_stream_grows_by_appends(store: Store) -> None:
    """law L1: each append begins where the one before ended, in events and in payloads."""
    for size in range(5):
        store.append([part("r", size or None, size + 1, payloads=[payload(size + 1)])])
    assert [stored.seq for stored in store.read("r")] == [1, 2, 3, 4, 5]
    assert store.head("r") == head_at("r", 5)


def test_an_append_may_add_no_event(store: Store) -> None:
    """A claim of the epoch alone changes the head alone."""
    store.append([part("r", None, 2)])
    store.append([part("r", 2, 2, to_epoch=2, status="interrupted")])
    assert store.head("r") == head_at("r", 2, 2, "interrupted") and len(list(store.read("r"))) == 2


@pytest.mark.parametrize(
    ("old", "epoch"), [(None, 1), (1, 1), (3, 1), (2, 2), (2, 0), (0, 1)],
    ids=["exists", "behind", "ahead", "later epoch", "earlier epoch", "empty"])
def test_an_append_to_a_stream_that_stands_elsewhere_stores_nothing(store: Store, old: int | None, epoch: int) -> None:
    """W5, law L3: the one that was overtaken, and the one that knows more than there is, are both fenced off."""
    store.append([part("r", None, 2)])
    assert refused(store, part("r", old, 4, epoch=epoch)) == "FENCED"


@pytest.mark.parametrize("old", [0, 1])
def test_an_append_to_a_stream_that_is_not_there_stores_nothing(store: Store, old: int) -> None:
    """A stream is begun as a new one or not at all."""
    assert refused(store, part("r", old, old + 1)) == "FENCED"
    assert store.head("r") is None


def test_of_two_writers_with_the_same_expectation_one_wins(store: Store) -> None:
    """The second finds the stream where it did not expect it, and says where it is."""
    store.append([part("r", None, 2)])
    store.append([part("r", 2, 3, to_epoch=2)])
    with pytest.raises(StoreConflict, match=r"FENCED: expected stream at .*2.*1.*found .*3.*2.*run r"):
        store.append([part("r", 2, 3)])


def test_parts_are_stored_together(store: Store) -> None:
    """A run's seal and the ledger's word about it are one transaction."""
    store.append([part(ids.LEDGER_STREAM, None, 1, status="ledger"), part("r", None, 2)])
    store.append([part("r", 2, 3, status="completed"), part(ids.LEDGER_STREAM, 1, 2, status="ledger")])
    assert [(head.run, head.size, head.status) for head in store.heads()] == [
        (ids.LEDGER_STREAM, 2, "ledger"), ("r", 3, "completed")]


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_a_part_that_conflicts_takes_all_the_others_with_it(store: Store, wrong: int) -> None:
    """Wherever it stands among them, nothing of any part is kept, not even a new stream."""
    store.append([part("a", None, 1), part("b", None, 1)])
    parts = [part("a", 1, 2, payloads=[payload(1)]), part("new", None, 1, payloads=[payload(1)])]
    parts.insert(wrong, part("b", 5, 6))
    assert refused(store, *parts) == "FENCED"
    store.append([part("a", 1, 2, payloads=[payload(1)]), part("new", None, 1), part("b", 1, 2)])
    assert [head.run for head in store.heads()] == ["a", "b", "new"]


def test_a_gap_in_the_events_stores_nothing(store: Store) -> None:
    """law L1: an event that is not the next one of its stream is never stored."""
    given = part("r", None, 3)
    assert refused(store, given._replace(events=[event(1), event(3)]))
    assert refused(store, given._replace(events=[event(1), event(1), event(2)]))
    assert refused(store, given._replace(events=[event(2), event(3)]))
    assert store.heads() == []


def test_a_gap_in_the_payloads_stores_nothing(store: Store) -> None:
    """law L4: payload numbers are given without a gap too."""
    store.append([part("r", None, 1, payloads=[payload(1)])])
    for numbers in ([3], [1], [2, 4], [2, 2]):
        assert refused(store, part("r", 1, 2, payloads=[payload(n) for n in numbers]))
    store.append([part("r", 1, 2, payloads=[payload(2)])])
    assert list(store.payloads("r", [1, 2])) == [1, 2]


@pytest.mark.parametrize(
    ("after", "until", "seqs"),
    [(0, None, [1, 2, 3, 4]), (2, None, [3, 4]), (0, 2, [1, 2]), (1, 3, [2, 3]), (4, None, []), (9, None, []),
     (2, 2, []), (3, 2, []), (0, 0, []), (0, 99, [1, 2, 3, 4])],
)
def test_a_range_is_read_after_one_seq_and_until_another(
    store: Store, after: int, until: int | None, seqs: list[int]
) -> None:
    """F6: `after` is not among them, `until` is."""
    store.append([part("other", None, 6), part("r", None, 4)])
    assert [stored.seq for stored in store.read("r", after, until)] == seqs


@pytest.mark.parametrize("size", [FETCH_ROWS - 1, FETCH_ROWS, FETCH_ROWS + 1, 2 * FETCH_ROWS + 1])
def test_a_long_stream_is_read_whole_in_batches(store: Store, size: int) -> None:
    """No event is lost or doubled where a batch ends."""
    store.append([part("r", None, size, payloads=[payload(n) for n in range(1, size + 1)])])
    assert [stored.seq for stored in store.read("r")] == list(range(1, size + 1))
    assert [one.n for one in store.payloads_between("r", 1, size + 5)] == list(range(1, size + 1))
    assert len(store.payloads("r", list(range(1, size + 1)))) == size


def test_payloads_are_found_by_number_and_by_range(store: Store) -> None:
    """One that does not exist is absent, and another stream's is never given."""
    store.append([part("r", None, 1, payloads=[payload(n) for n in (1, 2, 3)]), part("s", None, 1)])
    assert store.payloads("r", [3, 1, 7]) == {1: payload(1), 3: payload(3)}
    assert store.payloads("r", []) == {} and store.payloads("s", [1]) == {} and store.payloads("none", [1]) == {}
    assert list(store.payloads_between("r", 2, 9)) == [payload(2), payload(3)]
    assert list(store.payloads_between("r", 3, 2)) == [] and list(store.payloads_between("s", 1, 9)) == []


def test_heads_come_in_the_order_of_creation(store: Store) -> None:
    """The ledger's own stream, which is made first, is first; growing changes no place."""
    for run in (ids.LEDGER_STREAM, "z", "a", "m"):
        store.append([part(run, None, 1)])
    store.append([part("z", 1, 2)])
    assert [head.run for head in store.heads()] == [ids.LEDGER_STREAM, "z", "a", "m"]


def test_streams_do_not_know_each_other(store: Store) -> None:
    """Each has its own seqs, payload numbers and head."""
    store.append([part("a", None, 2, payloads=[payload(1)]), part("b", None, 1, payloads=[payload(1)])])
    store.append([part("b", 1, 3, payloads=[payload(2)])])
    assert [(head.run, head.size) for head in store.heads()] == [("a", 2), ("b", 3)]
    assert list(store.payloads("a", [1, 2])) == [1]


def test_reading_goes_on_while_the_stream_grows(store: Store) -> None:
    """Reading never blocks writing: a reader in the middle of a batch sees no half of an append."""
    store.append([part("r", None, 3)])
    reading = store.read("r", until=3)
    first = next(reading)
    store.append([part("r", 3, 5)])
    assert [stored.seq for stored in (first, *reading)] == [1, 2, 3]


def test_every_kind_of_store_holds_the_same_bytes_of_the_same_run(tmp_path: Path, postgres_url: str) -> None:
    """law L6, law P5: what is hashed does not depend on what keeps it."""
    for name, build in LAWFUL.items():
        log = build()
        sqlite = SqliteStore(new_file(tmp_path, f"{name}.db"), write=True)
        postgres = postgres_store(f"{postgres_url}?schema=s_{list(LAWFUL).index(name)}")
        try:
            kept = everything(log.store(MemoryStore()))
            assert everything(log.store(sqlite)) == kept
            assert everything(log.store(postgres)) == kept
        finally:
            sqlite.close()
            postgres.close()


def test_kinds_are_counted_over_all_streams(store: Store) -> None:
    """law L5: what `db check` compares with what can be read."""
    store.append([part("a", None, 2), part("b", None, 1)])
    assert store.kinds() == [(event(1).type, event(1).v, 3)]
