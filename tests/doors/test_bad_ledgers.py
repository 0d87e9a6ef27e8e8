"""What `--ledger` can name wrongly: no ledger, another's database, another schema, one that cannot be used now."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from counterfoil.ledgers import Ledger
from tests.doors.story import PIPELINE, ROWS
from tests.doors.told import LEDGER, URL, Told, ask, done, tell, write

READING = (("runs",), ("show", "x"), ("replay", "x"), ("explain", "x", "0"), ("verify",), ("rebuild",),
           ("query", "SELECT 1"), ("tokens", "x"), ("pending", "x"), ("graph", "x"))
WRITING = (("run", "pipeline.yaml"), ("db", "upgrade"))


@pytest.fixture(autouse=True)
def pipeline() -> None:
    """Something to run."""
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})


def edit(path: str, *statements: str) -> None:
    """What another program could do to a database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def refused(told: Told, exit_code: int, error: str) -> str:
    """One line with that code; nothing on stdout."""
    assert (told.code, told.error.split(":")[0], told.out) == (exit_code, error, "")
    return told.error


def content(path: str = LEDGER) -> bytes:
    """The file as it stands."""
    return Path(path).read_bytes()


NO_LEDGERS: list[tuple[str, bytes, str]] = [
    ("text", b"just text, long enough to be taken for something\n" * 40, "LEDGER_FOREIGN"),
    ("a few bytes", b"x", "LEDGER_FOREIGN"),
    ("nothing", b"", "LEDGER_FOREIGN"),
    ("a cut header", b"SQLite format 3\x00" + b"\x00" * 40, "LEDGER_FOREIGN"),
]


@pytest.mark.parametrize(("data", "code"), [case[1:] for case in NO_LEDGERS], ids=[case[0] for case in NO_LEDGERS])
def test_a_file_that_is_no_ledger_is_said_and_left_alone(data: bytes, code: str) -> None:
    """Every command: exit 6, one line, and the file as it was; no sink has been touched."""
    write({LEDGER: data})
    for command in (*READING, *WRITING, ("db", "check")):
        assert "ledger.db" in refused(tell(*command), 6, code)
        assert content() == data
    assert not Path("store.csv").exists()


def test_another_programs_database_is_left_alone() -> None:
    """Its tables, also those that are called as ours are, stay as they are; nothing is upgraded into it."""
    edit(LEDGER, "CREATE TABLE invoices (id)", "INSERT INTO invoices VALUES (1)")
    edit("near.db", "CREATE TABLE events (id)", "CREATE TABLE streams (id)", "CREATE TABLE payloads (id)")
    for path, code in ((LEDGER, "LEDGER_FOREIGN"), ("near.db", "LEDGER_SCHEMA")):
        before = content(path)
        for command in (*READING, ("run", "pipeline.yaml")):
            refused(tell(*command, ledger=f"sqlite:///{path}"), 6, code)
        assert tell("db", "check", ledger=f"sqlite:///{path}").code == 6
        assert content(path) == before
    refused(tell("db", "upgrade"), 6, "LEDGER_FOREIGN")
    assert tell("db", "upgrade", ledger="sqlite:///near.db").code == 6
    with closing(sqlite3.connect(LEDGER)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("invoices",)]


def test_a_directory_for_a_ledger_is_the_commands_mistake(folder: Path) -> None:
    """Exit 2, to read and to write."""
    (folder / LEDGER).mkdir()
    for command in (*READING, *WRITING, ("db", "check"), ("db", "current")):
        refused(tell(*command), 2, "LEDGER_IS_DIRECTORY")


def test_a_ledger_that_is_not_there_is_said_and_not_made() -> None:
    """Reading makes nothing; a directory that is not there is not made by a run either."""
    before = sorted(Path().iterdir())
    for command in (*READING, ("db", "check"), ("db", "current")):
        refused(tell(*command), 6, "LEDGER_MISSING")
    for command in (*READING, *WRITING):
        error = refused(tell(*command, ledger="sqlite:///no/such/place.db"), 6, "LEDGER_MISSING")
        assert "no/such" in error
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("url", ["ledger.db", "sqlite:ledger.db", "sqlite:///", "sqlite://", "", "mysql://me:secret@host/db",
                                 "file:///ledger.db", "sqlite:///a\0b", "SQLITE:///x.db"])
def test_what_is_no_url_of_a_ledger_is_refused_without_its_password(url: str) -> None:
    """Exit 2, and what one looks like."""
    for command in (("runs",), ("run", "pipeline.yaml"), ("db", "upgrade")):
        error = refused(tell(*command, ledger=url), 2, "LEDGER_URL_INVALID")
        assert "sqlite:///" in error
        assert "secret" not in error


SERVERS = [
    ("postgresql+psycopg://me:secret@host", "no database"), ("postgresql://me:secret@host/", "no database"),
    ("postgres://me:secret@host:port/db", "something else"), ("postgresql+psycopg2://me:secret@host/db", "sqlite:///FILE"),
    ("postgresql://me:secret@host/db?schema=A", "no plain lower-case name"),
    ("postgresql://me:secret@host/db?schema=a;b", "name"), ("postgresql://me:secret@host/db?schema=" + "s" * 41, "name"),
    ("postgresql://me@host/db?password=secret", "a password among the options"),
    ("postgresql://me:secret@host/db?conninfo=x", "none of libpq's"), ("postgresql://me:secret@host/db?what=x", "invalid"),
    ("postgresql://me:secret@127.0.0.1:1/db?sslmode=maybe", "sslmode"),
    ("postgresql://me:secret@127.0.0.1:1/db?connect_timeout=x", "x"),
]


@pytest.mark.parametrize(("url", "found"), SERVERS)
def test_what_is_no_url_of_a_ledger_on_postgresql_is_refused_without_its_password(url: str, found: str) -> None:
    """W6: exit 2; what is wrong with it, and not the password, with the traceback neither."""
    for command in (("runs",), ("run", "pipeline.yaml"), ("db", "upgrade"), ("db", "check")):
        error = refused(tell(*command, ledger=url), 2, "LEDGER_URL_INVALID")
        assert found in error and "secret" not in error
        assert "secret" not in tell("--debug", *command, ledger=url).err
    assert not Path("store.csv").exists()


def test_the_url_of_a_pipeline_file_may_name_postgresql_and_is_checked_as_one() -> None:
    """W6: the password is not repeated."""
    write({"file.yaml": PIPELINE + "ledger: {url: 'postgresql+psycopg://me:secret@127.0.0.1:1/db?connect_timeout=2'}\n"})
    assert "secret" not in refused(tell("run", "file.yaml", ledger=None), 6, "LEDGER_UNREACHABLE")
    assert not Path("store.csv").exists()


def test_a_ledger_of_another_schema_is_said() -> None:
    """A later version's, and one without any: exit 6, found and expected named; nothing is read or written."""
    done("run", "pipeline.yaml", "--run-id", "x")
    for revision in ("UPDATE alembic_version SET version_num = '9999_later'", "DELETE FROM alembic_version",
                     "DROP TABLE alembic_version"):
        edit(LEDGER, revision)
        before = content()
        for command in (*READING, ("run", "pipeline.yaml"), ("db", "check")):
            refused(tell(*command), 6, "LEDGER_SCHEMA")
        assert ask("db", "current")["current"] is False
        assert tell("db", "upgrade").code == 6
        assert content() == before


def test_a_dropped_guard_is_found() -> None:
    """`db check` is 6, `verify` 5 as a finding of integrity; a run into it is refused or said; laws still hold."""
    done("run", "pipeline.yaml", "--run-id", "x")
    edit(LEDGER, "DROP TRIGGER events_no_update")
    told = tell("db", "check", "-o", "json")
    assert (told.code, told.error.split(":")[0], told.answer["guards"]) == (6, "LEDGER_SCHEMA", [
        "guard events_no_update is missing"])
    told = tell("verify", "x", "-o", "json")
    assert told.code == 5
    assert [finding["kind"] for finding in told.answer["integrity"]["findings"]] == ["guard"]
    assert told.answer["lawfulness"]["ok"] is True
    assert tell("verify").code == 5


def test_a_damaged_page_is_found_or_said() -> None:
    """Wherever it lies: a typed error or a finding, never a traceback, never `ok` for what cannot be read."""
    done("run", "pipeline.yaml", "--run-id", "x")
    edit(LEDGER, "PRAGMA wal_checkpoint(TRUNCATE)")
    whole = content()
    codes = []
    for page in range(1, len(whole) // 4096, 2):
        Path(LEDGER).write_bytes(whole[: page * 4096] + b"\xa5" * 4096 + whole[(page + 1) * 4096 :])
        told = tell("verify", "x")
        codes.append(told.code)
        assert told.code in (0, 5, 6), told.err
        assert "UNEXPECTED" not in told.err
    assert set(codes) & {5, 6}


@contextmanager
def held(path: str) -> Iterator[None]:
    """Another writer's lock, as the system knows it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, b"4711", 0)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def test_a_ledger_that_another_process_writes_is_busy() -> None:
    """Exit 6 and who holds it; reading goes on; the same for one that is being made."""
    with held(f"{LEDGER}.lock"):
        assert "4711" in refused(tell("run", "pipeline.yaml"), 6, "LEDGER_BUSY")
    done("run", "pipeline.yaml", "--run-id", "x")
    with held(f"{LEDGER}.lock"):
        for command in WRITING:
            error = refused(tell(*command), 6, "LEDGER_BUSY")
            assert "4711" in error
            assert "--wait" in error
        assert ask("show", "x")["status"] == "completed"
        done("verify", "x")
    assert ask("runs")["rows"][0]["run_id"] == "x"


def test_a_run_that_waits_goes_on_when_the_ledger_is_free() -> None:
    """`--wait`: it neither fails nor writes while another holds the ledger."""
    done("db", "upgrade")
    before = content()
    ended: list[Told] = []
    with held(f"{LEDGER}.lock"):
        waiting = threading.Thread(target=lambda: ended.append(_wait()))
        waiting.start()
        _until_someone_waits(f"{LEDGER}.lock")
        assert not ended
        assert content() == before
    waiting.join()
    assert ended[0].code == 0
    assert ask("show", "x")["status"] == "completed"


def _wait() -> Told:
    """In a process of its own: signals belong to the main thread."""
    command = ["run", "pipeline.yaml", "--run-id", "x", "--wait", "--ledger", URL]
    ran = subprocess.run([sys.executable, "-c", "from counterfoil.cli import main; main()", *command], capture_output=True,
                         text=True, check=False)
    return Told(ran.returncode, ran.stdout, ran.stderr)


def _until_someone_waits(path: str) -> None:
    """The system's list of locks names who waits for whom."""
    inode = f":{Path(path).stat().st_ino} "
    while not any("->" in line and inode in line for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()):
        os.sched_yield()


def test_a_ledger_that_may_only_be_read_is_read(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W4: a file without write permission, in such a folder: exit 6 and one line for whoever writes; the file as it was."""
    monkeypatch.chdir(open_folder)
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})
    done("run", "pipeline.yaml", "--run-id", "x")
    done("replay", "x", "--deep")
    before = content()
    for path in open_folder.iterdir():
        path.chmod(0o444)
    open_folder.chmod(0o555)
    with unprivileged():
        for command in WRITING:
            told = tell(*command)
            assert (told.code, told.error.split("_")[0]) == (6, "LEDGER")
        assert ask("replay", "x")["ok"] is True
    assert content() == before


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may reach."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
        path.chmod(0o755)


@contextmanager
def unprivileged() -> Iterator[None]:
    """As somebody whom permissions bind: root is let in anywhere."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_link_to_a_ledger_is_that_ledger(folder: Path) -> None:
    """One lock, one log, one set of read tables, whatever it is called; also when the link came first."""
    (folder / "real").mkdir()
    Path("link.db").symlink_to(folder / "real" / "x.db")
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})
    done("run", "pipeline.yaml", "--run-id", "one", ledger="sqlite:///link.db")
    with Ledger("sqlite:///real/x.db", write=True):
        told = tell("run", "pipeline.yaml", "--run-id", "two", ledger="sqlite:///link.db")
        assert (told.code, told.error.partition(":")[0]) == (6, "LEDGER_BUSY")
    assert Path("link.db").is_symlink()
    assert [path.name for path in folder.iterdir() if path.name.startswith("link")] == ["link.db"]


def test_a_copy_of_a_ledger_is_a_ledger() -> None:
    """Without its read tables, and without its lock: what is missing is made again."""
    done("run", "pipeline.yaml", "--run-id", "x")
    edit(LEDGER, "PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(LEDGER, "copy.db")
    told = done("tokens", "x", ledger="sqlite:///copy.db")
    assert told.out == done("tokens", "x").out


def test_the_receipt_is_printed_though_the_read_tables_cannot_be_had() -> None:
    """W11, F4: what a run came to is told, and its receipt, though its fates cannot be looked up now."""
    in_the_way = Path(f"{LEDGER}.read.lock")
    in_the_way.mkdir()
    told = tell("run", "pipeline.yaml", "--run-id", "x", "-o", "json")
    assert (told.code, told.error.split(":")[0]) == (6, "READ_TABLES_FAULT")
    assert "found LEDGER_MISSING" in told.error and "run x, which is completed" in told.error
    assert (told.answer["status"], told.answer["fates"]) == ("completed", None)
    shown = tell("run", "pipeline.yaml", "--run-id", "y")
    assert (shown.code, "run y completed: " in shown.out) == (6, True)
    in_the_way.rmdir()
    assert f"receipt {told.answer['size']}:{told.answer['root']}" in done("resume", "x").out
    assert tell("verify", "y").code == 0
