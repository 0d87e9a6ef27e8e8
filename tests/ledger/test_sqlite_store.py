"""What is SQLite's alone: one writing process per file, readers beside it, files that are no ledger, each by its code."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.errors import CounterfoilError, LedgerUnavailable, UsageError
from ledger.sqlite_store import APPLICATION_ID, PAGE_BYTES, SqliteStore, checkpoint, prepare_file
from migrations import current, upgrade
from tests.ledger.appending import event, everything, part, payload, refused
from tests.ledger.files import new_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A new ledger file."""
    return new_file(tmp_path)


@pytest.fixture
def writer(path: Path) -> Iterator[SqliteStore]:
    """The file's one writer."""
    store = SqliteStore(path, write=True)
    yield store
    store.close()


def opening(path: Path, *, write: bool) -> CounterfoilError:
    """The error with which a file is not opened; its one line has a next step."""
    with pytest.raises(CounterfoilError) as raised:
        SqliteStore(path, write=write)
    assert raised.value.next_step and str(path.parent) in raised.value.where and "\n" not in str(raised.value)
    return raised.value


def test_a_file_that_is_opened_again_holds_what_was_stored(path: Path) -> None:
    """F4: a writer and a reader that come later see every acknowledged byte, and the writer goes on from there."""
    store = SqliteStore(path, write=True)
    store.append([part("r", None, 3, payloads=[payload(1, True)]), part("s", None, 1)])
    held = everything(store)
    store.close()
    reader = SqliteStore(path, write=False)
    assert everything(reader) == held
    reader.close()
    store = SqliteStore(path, write=True)
    store.append([part("r", 3, 4, payloads=[payload(2)])])
    assert [stored.seq for stored in store.read("r")] == [1, 2, 3, 4]
    store.close()


def test_a_second_writer_is_told_that_the_ledger_is_busy(path: Path, writer: SqliteStore) -> None:
    """One writing process per file: the second is refused at once, and told which process holds it."""
    error = opening(path, write=True)
    assert (error.code, error.exit_code) == ("LEDGER_BUSY", 6) and str(os.getpid()) in error.what


def test_the_lock_is_free_again_when_the_writer_has_closed(path: Path) -> None:
    """A lock ends with its holder, the lock file stays: it can be taken again, once."""
    SqliteStore(path, write=True).close()
    again = SqliteStore(path, write=True)
    assert opening(path, write=True).code == "LEDGER_BUSY"
    again.close()


def test_a_writer_that_cannot_open_the_file_holds_no_lock(tmp_path: Path) -> None:
    """A failed opening leaves nothing behind that would keep the next one out."""
    path = tmp_path / "later.db"
    assert opening(path, write=True).code == "LEDGER_MISSING"
    SqliteStore(new_file(tmp_path, "later.db"), write=True).close()


def test_readers_see_what_is_committed_beside_a_writer(path: Path, writer: SqliteStore) -> None:
    """Reading never waits for the writer, and never sees what is not committed."""
    readers = [SqliteStore(path, write=False) for _ in range(2)]
    for reader in readers:
        assert reader.heads() == []
    writer.append([part("r", None, 2)])
    assert [[stored.seq for stored in reader.read("r")] for reader in readers] == [[1, 2], [1, 2]]
    assert refused(writer, part("r", 2, 4), part("r", 1, 2)) == "FENCED"
    assert [[stored.seq for stored in reader.read("r")] for reader in readers] == [[1, 2], [1, 2]]
    for reader in readers:
        reader.close()


def test_a_reader_in_the_middle_of_a_read_does_not_stop_the_writer(path: Path, writer: SqliteStore) -> None:
    """A read that is begun goes on to its own end."""
    writer.append([part("r", None, 3)])
    reader = SqliteStore(path, write=False)
    reading = reader.read("r", until=3)
    next(reading)
    writer.append([part("r", 3, 5)])
    assert [stored.seq for stored in reading] == [2, 3]
    reader.close()


def test_a_reader_writes_nothing(path: Path) -> None:
    """What is opened to read is `mode=ro`: an append is refused by the file itself."""
    reader = SqliteStore(path, write=False)
    assert refused(reader, part("r", None, 1)) == "LEDGER_READ_ONLY"
    reader.close()


def test_a_file_that_cannot_be_written_is_read_and_not_written(path: Path) -> None:
    """The file's own mark says that this library may only read it; what is refused is said as read-only."""
    store = SqliteStore(path, write=True)
    store.append([part("r", None, 2)])
    store.close()
    data = bytearray(path.read_bytes())
    data[18] = 3  # SQLite's "write version": above 2, the file may be read only
    path.write_bytes(data)
    reader = SqliteStore(path, write=False)
    assert len(list(reader.read("r"))) == 2
    reader.close()
    with pytest.raises(LedgerUnavailable) as raised:
        store = SqliteStore(path, write=True)
        store.append([part("r", 2, 3)])
    assert raised.value.code == "LEDGER_READ_ONLY"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser writes what nobody may write")
def test_a_file_without_the_right_to_write_is_read_and_not_written(path: Path) -> None:
    """The same by the file's mode."""
    path.chmod(0o444)
    assert opening(path, write=True).code in ("LEDGER_READ_ONLY", "LEDGER_MISSING")


@pytest.mark.parametrize("write", [True, False])
def test_a_missing_file_is_not_made(tmp_path: Path, write: bool) -> None:
    """Only a run makes a ledger, by the migrations."""
    path = tmp_path / "none.db"
    assert opening(path, write=write).code == "LEDGER_MISSING" and not path.exists()


@pytest.mark.parametrize("write", [True, False])
def test_a_missing_directory_is_named(tmp_path: Path, write: bool) -> None:
    """The place that is wrong is in the message."""
    assert opening(tmp_path / "none" / "ledger.db", write=write).code == "LEDGER_MISSING"


@pytest.mark.parametrize("write", [True, False])
def test_a_directory_is_no_ledger(tmp_path: Path, write: bool) -> None:
    """A usage error, not a fault of the ledger."""
    folder = tmp_path / "ledger.db"
    folder.mkdir()
    error = opening(folder, write=write)
    assert error.code == "LEDGER_IS_DIRECTORY" and isinstance(error, UsageError)


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize("content", [b"id,name\n1,one\n" * 100, b"SQLite format 3\x00" + b"\xff" * 200])
def test_a_file_that_is_no_database_is_foreign_and_untouched(tmp_path: Path, write: bool, content: bytes) -> None:
    """Somebody's data by the wrong name is never overwritten."""
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    assert opening(path, write=write).code == "LEDGER_FOREIGN"
    assert path.read_bytes() == content


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize("tables", [[], ["music"], ["streams", "events"]])
def test_another_program_s_database_is_foreign(tmp_path: Path, write: bool, tables: list[str]) -> None:
    """Nothing is written to a database that has not all of the log's tables; the first missing one is named."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    for table in tables:
        connection.execute(f"CREATE TABLE {table} (x)")
    connection.execute("PRAGMA user_version = 7")
    connection.commit()
    connection.close()
    error = opening(path, write=write)
    missing = sorted({"streams", "events", "payloads"} - set(tables))[0]
    assert error.code == "LEDGER_FOREIGN" and missing in error.what


def test_a_log_of_another_schema_is_told_apart(tmp_path: Path) -> None:
    """Tables by our names with other columns are no ledger that this version reads."""
    path = tmp_path / "later.db"
    connection = sqlite3.connect(path)
    for table in ("streams", "events", "payloads"):
        connection.execute(f"CREATE TABLE {table} (stream, run_id)")
    connection.commit()
    connection.close()
    store = SqliteStore(path, write=False)
    with pytest.raises(LedgerUnavailable) as raised:
        store.heads()
    assert raised.value.code == "LEDGER_SCHEMA"
    store.close()


def test_a_damaged_page_is_told_and_not_skipped(path: Path) -> None:
    """What SQLite itself finds malformed is a typed error, not an empty answer."""
    store = SqliteStore(path, write=True)
    store.append([part("r", None, 2000)])
    store.close()
    data = bytearray(path.read_bytes())
    place = data.index(event(1500).body) // PAGE_BYTES * PAGE_BYTES
    data[place : place + 200] = b"\x00" * 200
    path.write_bytes(data)
    reader = SqliteStore(path, write=False)
    with pytest.raises(LedgerUnavailable) as raised:
        list(reader.read("r"))
    assert raised.value.code == "LEDGER_DAMAGED"
    reader.close()


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "what?.db", "no#1.db", "ä€.db", "a;b'c\".db", "%20.db"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    """A path is no address: nothing in it means anything to SQLite."""
    folder = tmp_path / "odd %3f"
    folder.mkdir()
    path = new_file(folder, name)
    store = SqliteStore(path, write=True)
    store.append([part("r", None, 1)])
    store.close()
    reader = SqliteStore(path, write=False)
    assert len(list(reader.read("r"))) == 1
    reader.close()
    assert {file.name for file in folder.iterdir()} <= {name, f"{name}.lock", f"{name}-wal", f"{name}-shm"}


def test_a_new_file_is_marked_as_a_ledger_and_stands_at_the_head(tmp_path: Path) -> None:
    """F7: page size, WAL and the application's id are set before the first table; alembic makes the rest, once."""
    path = tmp_path / "new.db"
    prepare_file(path)
    for _ in range(2):
        upgrade(f"sqlite:///{path}", "log")
    connection = sqlite3.connect(path)
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0]
             for name in ("page_size", "journal_mode", "application_id")]
    connection.close()
    assert found == [PAGE_BYTES, "wal", APPLICATION_ID]
    assert current(f"sqlite:///{path}") == "0001_log"
    store = SqliteStore(path, write=True)
    assert store.guards() == [] and store.heads() == []
    store.close()


def test_a_writer_insists_on_durable_commits(path: Path, writer: SqliteStore) -> None:
    """W3: its one connection is WAL with `synchronous=FULL`, read back."""
    raw = writer._raw()
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert raw.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_copy_without_its_write_ahead_log_is_an_earlier_ledger(path: Path, writer: SqliteStore, tmp_path: Path) -> None:
    """What was committed since the last checkpoint is only in the `-wal`: such a copy opens, and lacks the tail."""
    writer.append([part("r", None, 3)])
    copy = tmp_path / "copy.db"
    shutil.copyfile(path, copy)
    reader = SqliteStore(copy, write=False)
    assert len(list(reader.read("r"))) < 3 == len(list(writer.read("r")))
    reader.close()


def test_what_stands_in_the_write_ahead_log_is_written_again_before_anything_is_added(
        path: Path, writer: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """law P3: the process that wrote it may have died after a sync that failed; nobody else would write it."""
    writer.append([part("r", None, 3)])
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    log = Path(shutil.copy(f"{path}-wal", f"{copy}-wal")).read_bytes()
    done: list[tuple[str, int, bytes]] = []
    write, sync = os.pwrite, os.fsync

    def noted_write(descriptor: int, data: bytes, offset: int) -> int:
        done.append((os.readlink(f"/proc/self/fd/{descriptor}"), offset, data))
        return write(descriptor, data, offset)

    def noted_sync(descriptor: int) -> None:
        done.append((os.readlink(f"/proc/self/fd/{descriptor}"), -1, b""))
        sync(descriptor)

    monkeypatch.setattr(os, "pwrite", noted_write)
    monkeypatch.setattr(os, "fsync", noted_sync)
    store = SqliteStore(copy, write=True)
    assert [one for one in done if one[0] == f"{copy}-wal"] == [(f"{copy}-wal", 0, log), (f"{copy}-wal", -1, b"")]
    assert len(log) > 0
    assert everything(store) == everything(writer)
    store.close()


def test_a_write_ahead_log_that_cannot_be_synced_is_said(path: Path, writer: SqliteStore, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is added to it, and the lock is free again."""
    writer.append([part("r", None, 3)])
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    shutil.copy(f"{path}-wal", f"{copy}-wal")

    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fails)
        assert opening(copy, write=True).code == "LEDGER_IO"
    SqliteStore(copy, write=True).close()


def test_a_checkpoint_brings_the_log_into_the_file_or_says_that_it_could_not(path: Path, writer: SqliteStore, tmp_path: Path
                                                                              ) -> None:
    """The file alone has everything afterwards, and may be renamed."""
    writer.append([part("r", None, 3)])
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    shutil.copy(f"{path}-wal", f"{copy}-wal")
    checkpoint(copy)
    renamed = copy.rename(tmp_path / "renamed.db")
    store = SqliteStore(renamed, write=False)
    assert everything(store) == everything(writer)
    store.close()
    renamed.write_bytes(b"no database" * 1000)
    with pytest.raises(sqlite3.Error):
        checkpoint(renamed)
