"""A run that was removed whole, brought in, or told twice: the ledger's own stream and the runs' streams must agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import ids, verify
from ledger.memory_store import MemoryStore
from ledger.sqlite_store import SqliteStore
from tests.kit import tamper
from tests.ledger import lawful
from tests.ledger.files import written
from tests.ledger.forging import edit


def two_runs() -> MemoryStore:
    """A ledger with two runs."""
    store = tamper.memory(lawful.one_row().store())
    second = lawful.one_row()
    second.run = "second"
    second.store(store)
    return store


def texts(store: MemoryStore) -> list[str]:
    """What the registry says, by run."""
    return [f"{fault.run}: {fault.text}" for fault in verify.registry(store)]


def test_a_ledger_whose_runs_are_all_there_has_no_fault() -> None:
    """The attacks below are caught against this."""
    assert texts(two_runs()) == []


def test_a_run_that_was_removed_whole_is_missed() -> None:
    """F6: nothing of the run is left but what the ledger's own stream says of it."""
    store = two_runs()
    tamper.remove_run(store, "second")
    assert texts(store) == ["second: the ledger's stream opened it, and its own stream is gone"]


def test_runs_are_missed_also_when_none_is_left() -> None:
    """F6: an empty ledger is not a ledger that was emptied."""
    store = two_runs()
    for run in ("second", lawful.one_row().run):
        tamper.remove_run(store, run)
    assert len(texts(store)) == 2


def test_a_run_that_the_ledger_never_opened_is_told() -> None:
    """F6: a stream that was put in beside the others."""
    store = two_runs()
    tamper.edit_events(store, ids.LEDGER_STREAM, lambda events: events[:-2])
    assert texts(store) == ["second: its stream is here, and the ledger's stream never opened it"]


STRAY: list[tuple[str, str, Callable[[str], bool]]] = [
    ("INSERT INTO events SELECT 77, seq, type, v, token, row_index, at, body FROM events WHERE stream = 2",
     "an entry of no stream", lambda text: "stream 77" in text),
    ("CREATE TABLE notes (text)", "another table", lambda text: "table notes" in text),
    ("CREATE VIEW events_view AS SELECT 1", "a view", lambda text: "view events_view" in text),
]


@pytest.mark.parametrize(("statement", "name", "told"), STRAY)
def test_what_is_no_part_of_a_log_is_told(tmp_path: Path, statement: str, name: str, told: Callable[[str], bool]) -> None:
    """F6: nothing lies in a ledger file that no stream accounts for."""
    path = written(tmp_path, lawful.one_row())
    edit(path, statement)
    store = SqliteStore(path, write=False)
    try:
        assert [fault for fault in verify.guards(store) if told(fault.text)] != [], name
    finally:
        store.close()


@pytest.mark.parametrize("column", ["status = 'failed'", "epoch = 9"])
def test_a_stream_s_own_status_and_epoch_are_those_of_its_last_event(tmp_path: Path, column: str) -> None:
    """F6: the stream's record of itself is checked whole."""
    log = lawful.one_row()
    path = written(tmp_path, log)
    edit(path, f"UPDATE streams SET {column} WHERE run_id = '{log.run}'")
    store = SqliteStore(path, write=False)
    try:
        assert {fault.kind for fault in verify.integrity(store, log.run)} == {"tree"}
    finally:
        store.close()
