"""Attacks on the record: a real file, edited behind the store's back; each is caught, and by name.

What `verify` says of a file is a set of faults by kind; `completeness` is what a kept receipt adds, and the only thing
that shows a tail that was cut, a file that was rolled back, or a rewrite that went all the way.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from ledger import verify
from ledger.sqlite_store import SqliteStore
from ledger.store import StreamHead
from ledger.tree import EMPTY_ROOT
from tests.kit import graphs
from tests.kit.log import RUN, Log, step
from tests.ledger import lawful
from tests.ledger.appending import part
from tests.ledger.files import written
from tests.ledger.forging import AT_4, LONGER_BODY, OTHER_BODY, STREAM, body_at, complete, edit, faults, receipt, rehash
from tests.ledger.lawful import many_rows, one_row
from tests.ledger.lawful_many import LAWFUL


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with one sealed run: 1 started, 2 claimed, 3 read, 4 step, 5 intended, 6 confirmed, 7 exhausted, 8 sealed."""
    return written(tmp_path, one_row())


def test_a_ledger_that_nobody_touched_has_no_fault(path: Path) -> None:
    """The attacks below are caught against this."""
    assert faults(path) == set()
    assert complete(path, receipt(path)) == "proven"
    assert complete(path, None) == "not_proven"


def test_a_receipt_of_another_size_or_root_fails(path: Path) -> None:
    """A log proves a receipt by that size and that root, also an earlier one; a longer one it lacks, whatever its root."""
    size, root = receipt(path)
    assert complete(path, (size + 1, root)) == "failed"
    assert complete(path, (size - 1, root)) == "failed"
    assert complete(path, (size, root[::-1])) == "failed"
    assert complete(path, (0, EMPTY_ROOT.hex())) == "not_proven"


EDITS = {
    "a body changed by UPDATE": (f"UPDATE events SET body = {OTHER_BODY} WHERE {AT_4}", {"tree", "seal", "registry"}),
    "a body changed by INSERT OR REPLACE": (
        "INSERT OR REPLACE INTO events SELECT stream, seq, type, v, token, row_index, at, "
        f"{OTHER_BODY} FROM events WHERE {AT_4}", {"tree", "seal", "registry"}),
    "a body that is no event": (f"UPDATE events SET body = x'7b' WHERE {AT_4}",
                                {"body", "tree", "seal", "registry", "payload"}),
    "a body in other bytes": (f"UPDATE events SET body = {LONGER_BODY} WHERE {AT_4}", {"body", "tree", "seal", "registry"}),
    "an index column changed": (f"UPDATE events SET token = '1' WHERE {AT_4}", {"column"}),
    "a row number changed": (f"UPDATE events SET row_index = 1 WHERE {AT_4}", {"column"}),
    "a type changed": (f"UPDATE events SET type = 'StepStarted' WHERE {AT_4}", {"column"}),
    "a type of the future": (f"UPDATE events SET type = 'StepSkipped' WHERE {AT_4}", {"body", "payload"}),
    "a time changed": (f"UPDATE events SET at = at + 1 WHERE {AT_4}", {"column"}),
    "an event deleted in the middle": (f"DELETE FROM events WHERE {STREAM} AND seq = 7",
                                       {"gap", "tree", "seal", "registry"}),
    "the first event deleted": (f"DELETE FROM events WHERE {STREAM} AND seq = 1",
                                {"gap", "tree", "seal", "registry", "payload"}),
    "the tail deleted": (f"DELETE FROM events WHERE {STREAM} AND seq > 6", {"tree", "registry"}),
    "all events deleted": (f"DELETE FROM events WHERE {STREAM}", {"tree", "registry", "payload"}),
    "the rest renumbered after a deletion": (
        f"DELETE FROM events WHERE {AT_4}; UPDATE events SET seq = seq - 1 WHERE {STREAM} AND seq > 4",
        {"column", "tree", "seal", "registry", "payload"}),
    "two events swapped": (
        f"UPDATE events SET seq = -6 WHERE {STREAM} AND seq = 6; UPDATE events SET seq = 6 WHERE {STREAM} AND seq = 7; "
        f"UPDATE events SET seq = 7 WHERE {STREAM} AND seq = -6", {"column", "tree", "seal", "registry"}),
    "two bodies swapped": (
        f"UPDATE events SET body = (SELECT body FROM events o WHERE o.stream = events.stream AND o.seq = 11 - events.seq) "
        f"WHERE {STREAM} AND seq IN (5, 6)", {"column", "tree", "seal", "registry"}),
    "an event duplicated at the end": (
        f"INSERT INTO events SELECT stream, 9, type, v, token, row_index, at, body FROM events WHERE {AT_4}",
        {"column", "tree", "registry", "payload"}),
    "an event inserted in the middle": (
        f"UPDATE events SET seq = -seq WHERE {STREAM} AND seq > 6; "
        f"INSERT INTO events SELECT stream, 7, type, v, token, row_index, at, body FROM events WHERE {STREAM} AND seq = 6; "
        f"UPDATE events SET seq = 1 - seq WHERE {STREAM} AND seq < 0", {"column", "tree", "seal", "registry"}),
    "a payload swapped": (
        f"UPDATE payloads SET bytes = (SELECT bytes FROM payloads o WHERE o.stream = payloads.stream AND o.n = 3) "
        f"WHERE {STREAM} AND n = 2", {"payload"}),
    "two payloads swapped": (
        f"UPDATE payloads SET n = -2 WHERE {STREAM} AND n = 2; UPDATE payloads SET n = 2 WHERE {STREAM} AND n = 3; "
        f"UPDATE payloads SET n = 3 WHERE {STREAM} AND n = -2", {"payload"}),
    "a payload stripped": (f"UPDATE payloads SET salt = NULL, bytes = NULL WHERE {STREAM} AND n = 2", {"payload"}),
    "the settings stripped": (f"UPDATE payloads SET salt = NULL, bytes = NULL WHERE {STREAM} AND n = 1", {"payload"}),
    "a payload's salt changed": (f"UPDATE payloads SET salt = x'00' WHERE {STREAM} AND n = 2", {"payload"}),
    "a payload deleted": (f"DELETE FROM payloads WHERE {STREAM} AND n = 2", {"payload"}),
    "the last payload deleted": (f"DELETE FROM payloads WHERE {STREAM} AND n = 3", {"payload"}),
    "a payload that no event introduced": (
        f"INSERT INTO payloads SELECT stream, 4, salt, bytes, 0 FROM payloads WHERE {STREAM} AND n = 3", {"payload"}),
    "the root changed": (f"UPDATE streams SET root = zeroblob(32) WHERE run_id = '{RUN}'", {"tree"}),
    "the size changed": (f"UPDATE streams SET size = 7 WHERE run_id = '{RUN}'", {"tree"}),
    "the frontier changed": (f"UPDATE streams SET frontier = x'' WHERE run_id = '{RUN}'", {"tree"}),
    "the status changed": (f"UPDATE streams SET status = 'running' WHERE run_id = '{RUN}'", {"tree"}),
    "the epoch changed": (f"UPDATE streams SET epoch = 9 WHERE run_id = '{RUN}'", {"tree"}),
    "the run by another name": (f"UPDATE streams SET run_id = 'other' WHERE run_id = '{RUN}'", {"tree", "registry"}),
    "a body as text": (f"UPDATE events SET body = CAST(body AS TEXT) WHERE {AT_4}", {"body", "payload"}),
    "a body as a number": (f"UPDATE events SET body = 5 WHERE {AT_4}", {"body", "payload", "tree", "seal", "registry"}),
    "a body that is no UTF-8": (
        "UPDATE events SET body = CAST(replace(body, CAST('completed' AS BLOB), x'ff') AS BLOB) "
        f"WHERE {STREAM} AND seq = 8", {"body", "tree", "registry"}),
    "a payload as text": (f"UPDATE payloads SET bytes = CAST(bytes AS TEXT) WHERE {STREAM} AND n = 2", {"payload"}),
    "a payload made permanent": (f"UPDATE payloads SET permanent = 1 WHERE {STREAM} AND n = 2", {"payload"}),
    "the settings made erasable": (f"UPDATE payloads SET permanent = 0 WHERE {STREAM} AND n = 1", {"payload"}),
    "events of no stream": (
        f"INSERT INTO events SELECT 77, seq, type, v, token, row_index, at, body FROM events WHERE {STREAM}", {"guard"}),
    "payloads of no stream": (
        f"INSERT INTO payloads SELECT 77, n, salt, bytes, permanent FROM payloads WHERE {STREAM}", {"guard"}),
    "the ledger's own stream changed": (
        "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), 'by hand', 'by me') AS BLOB) "
        "WHERE type = 'RunOpened'", {"tree"}),
    "the ledger's word of the seal deleted": ("DELETE FROM events WHERE type = 'RunClosed'", {"tree", "registry"}),
}


@pytest.mark.parametrize("attack", EDITS)
def test_an_edit_of_the_file_is_caught_by_name(path: Path, attack: str) -> None:
    """L6, law L5: exactly these kinds of fault are named, although the guards were put back afterwards."""
    statements, kinds = EDITS[attack]
    edit(path, *(statement.strip() for statement in statements.split(";")))
    assert faults(path) == kinds


def test_an_edit_in_the_raw_page_is_caught(path: Path) -> None:
    """One bit of one body, past SQLite and its triggers; `integrity_check` sees nothing."""
    data = bytearray(path.read_bytes())
    place = data.index(b'"duration_us":5')
    data[place + len('"duration_us":')] ^= 1
    path.write_bytes(data)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert faults(path) == {"tree", "seal", "registry"}


def test_every_part_of_every_body_counts(path: Path, tmp_path: Path) -> None:
    """A bit of a stored body flipped in the page, here and there in each: always a fault."""
    clean = path.read_bytes()
    for seq in range(1, 9):
        body = body_at(path, seq)
        start = clean.index(body)
        for offset in range(0, len(body), 17):
            data = bytearray(clean)
            data[start + offset] ^= 1 << (offset % 7)
            other = tmp_path / "flipped.db"
            other.write_bytes(data)
            assert "tree" in faults(other), (seq, offset)


def test_another_run_s_events_are_not_this_run_s(tmp_path: Path) -> None:
    """Replayed under another name, every event still says whose it is."""
    other = Log(graphs.linear(), "other")
    other.say(step("0", "step", other.row(), other.keep({"row": "mine"}))).write("out", "0").exhaust().seal(completed=1)
    path = written(tmp_path, one_row(), other)
    assert faults(path, "other") == set()
    of_other = "stream = (SELECT stream FROM streams WHERE run_id = 'other')"
    edit(path, f"DELETE FROM events WHERE {of_other}",
         "INSERT INTO events SELECT (SELECT stream FROM streams WHERE run_id = 'other'), seq, type, v, token, row_index, "
         f"at, body FROM events WHERE {STREAM}")
    assert faults(path, "other") >= {"column", "tree", "registry"}
    rehash(path, "other")
    assert faults(path, "other") >= {"column", "registry"}


def test_a_run_that_is_gone_is_missed_by_the_ledger(path: Path) -> None:
    """A whole run deleted, head and all: the ledger's own stream still speaks of it."""
    edit(path, f"DELETE FROM events WHERE {STREAM}", f"DELETE FROM payloads WHERE {STREAM}",
         f"DELETE FROM streams WHERE run_id = '{RUN}'")
    assert faults(path) == {"tree", "registry"}
    assert complete(path, (8, "00")) == "failed"


def test_a_rewrite_that_is_hashed_again_contradicts_its_seal(path: Path) -> None:
    """The head agrees with the bytes, the seal inside them and the ledger's own stream do not."""
    edit(path, f"UPDATE events SET body = {OTHER_BODY} WHERE {AT_4}")
    kept = receipt(path)
    rehash(path)
    assert faults(path) == {"seal", "registry"}
    assert complete(path, kept) == "failed"


def test_a_rewrite_of_a_run_that_is_open_shows_only_against_a_receipt(tmp_path: Path) -> None:
    """Nothing in the file speaks against it: so it is `not_proven` without a receipt, never ok."""
    path = written(tmp_path, lawful.left_open())
    kept = receipt(path)
    edit(path, f"UPDATE events SET body = {OTHER_BODY} WHERE {STREAM} AND seq = 6")
    rehash(path)
    assert faults(path) == set()
    assert (complete(path, None), complete(path, kept)) == ("not_proven", "failed")


def test_a_tail_that_is_cut_with_its_head_shows_only_against_a_receipt(tmp_path: Path) -> None:
    """The open run's last events are gone, and what is left is whole."""
    path = written(tmp_path, lawful.left_open())
    kept = receipt(path)
    edit(path, f"DELETE FROM events WHERE {STREAM} AND seq > 7")
    edit(path, f"UPDATE streams SET status = 'running' WHERE {STREAM}")
    rehash(path)
    assert faults(path) == set()
    assert (complete(path, None), complete(path, kept)) == ("not_proven", "failed")


def test_yesterday_s_copy_shows_only_against_today_s_receipt(tmp_path: Path) -> None:
    """A file that was rolled back is a whole ledger; the run it lacks, and the run it has shorter, show by receipt."""
    log = lawful.left_open()
    path = written(tmp_path, log)
    yesterday = tmp_path / "yesterday.db"
    shutil.copyfile(path, yesterday)
    earlier = receipt(path)
    grown = written(tmp_path, log.resume().write("out", "1"), name="today.db")
    today = receipt(grown)
    assert faults(yesterday) == set() and complete(yesterday, None) == "not_proven"
    assert complete(yesterday, today) == "failed" and complete(yesterday, earlier) == "proven"
    assert complete(grown, earlier) == "proven" and complete(grown, today) == "proven"
    assert complete(yesterday, (3, "00" * 32), "tomorrow") == "failed"


def test_a_copy_without_its_write_ahead_log_shows_against_a_receipt(tmp_path: Path) -> None:
    """What was committed is in the `-wal` until a checkpoint: a copy without it lacks the run."""
    path = written(tmp_path)
    store = SqliteStore(path, write=True)
    one_row().store(store)
    copy = tmp_path / "copy.db"
    shutil.copyfile(path, copy)
    kept = receipt(path)
    store.close()
    assert (complete(copy, kept), complete(copy, None), complete(path, kept)) == ("failed", "not_proven", "proven")


class Racing(SqliteStore):
    """A reader beside which a writer appends when the reader has read the events and asks for the head."""

    def head(self, run: str) -> StreamHead | None:
        """The head, after the writer was quicker."""
        writer = SqliteStore(self.path, write=True)
        writer.append([part("r", 3, 4)])
        writer.close()
        return super().head(run)


def test_a_writer_at_work_is_no_attack(tmp_path: Path) -> None:
    """What verify reads is of one moment: an append meanwhile is not taken for an edit."""
    path = written(tmp_path)
    store = SqliteStore(path, write=True)
    store.append([part("r", None, 3)])
    store.close()
    racing = Racing(path, write=False)
    assert "tree" not in {fault.kind for fault in verify.integrity(racing, "r")}
    racing.close()
    reader = SqliteStore(path, write=False)
    assert len(list(reader.read("r"))) == 4
    reader.close()


@pytest.mark.parametrize("name", ["three_rows", "quorum_met", "gathered_all", "batch_rejected"])
def test_any_event_that_is_changed_moved_or_removed_is_caught(tmp_path: Path, name: str) -> None:
    """F3, law L1: at every seq of richer logs, whatever stands there."""
    log = LAWFUL[name]()
    clean = written(tmp_path, log)
    for seq in range(1, len(log.said) + 1):
        here = f"{STREAM} AND seq = {seq}"
        for statement in (f"DELETE FROM events WHERE {here}", f"UPDATE events SET body = {LONGER_BODY} WHERE {here}",
                          f"UPDATE events SET seq = 99 WHERE {here}"):
            path = tmp_path / "edited.db"
            shutil.copyfile(clean, path)
            edit(path, statement)
            assert faults(path) & {"tree", "gap"}, (seq, statement)
            path.unlink()


def test_the_list_of_faults_ends(tmp_path: Path) -> None:
    """A log that is wrong everywhere is told in a bounded answer."""
    path = written(tmp_path, many_rows(60))
    edit(path, f"UPDATE events SET at = at + 1 WHERE {STREAM}")
    store = SqliteStore(path, write=False)
    assert len(verify.integrity(store, RUN)) == verify.FINDINGS_MAX
    store.close()
