"""The harness itself: every change of a file goes through it, and each fault strikes where it was told to."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import interposer, journal, power
from tests.simulation.interposer import Plan

SECONDS_MAX = 60

PROGRAM = """\
import os
def tell(what, call, *given):
    try:
        print(what, call(*given), flush=True)
    except OSError as error:
        print(what, "error", error.errno, flush=True)
file = os.open("inside/file", os.O_RDWR | os.O_CREAT)
tell("write", os.write, file, b"0123456789")
tell("sync", os.fsync, file)
tell("over", os.pwrite, file, b"ab", 0)
tell("more", os.pwrite, file, b"cdefghij", 10)
tell("sync", os.fdatasync, file)
tell("rename", os.rename, "inside/file", "inside/name")
tell("mkdir", os.mkdir, "inside/folder")
tell("cut", os.ftruncate, file, 4)
tell("remove", os.unlink, "inside/name")
with open("outside", "wb") as other:
    other.write(b"x")
"""


class Small:
    """A small program that changes files, under a plan."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.folder = folder / "inside"
        self.folder.mkdir()
        (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
        self._library = library

    def start(self, plan: Plan | None) -> subprocess.Popen[str]:
        """Begin it."""
        told = interposer.environment(self._library, self.folder, self.folder.parent / "journal", plan, data=True)
        return subprocess.Popen([sys.executable, "-I", "program.py"], cwd=self.folder.parent, env={**os.environ, **told},
                                stdout=subprocess.PIPE, text=True)

    def run(self, plan: Plan | None = None) -> tuple[int, list[str]]:
        """Run it; gives its exit code and its lines."""
        child = self.start(plan)
        out, _ = child.communicate(timeout=SECONDS_MAX)
        return child.returncode, out.splitlines()

    def calls(self) -> list[journal.Call]:
        """What was written down."""
        return journal.read(self.folder.parent / "journal", self.folder.resolve())


@pytest.fixture
def small(tmp_path: Path, library: Path) -> Small:
    """The small program, not begun."""
    return Small(tmp_path, library)


def test_calls_are_written_down_in_order_with_their_data_and_only_those_inside(small: Small) -> None:
    """What `os` does to files below the folder, as libc was asked to do it; nothing of what lies outside."""
    assert small.run()[0] == 0
    told = [(one.number, one.op, f"{one.path}>{one.other}", one.offset, one.length, one.data) for one in small.calls()]
    assert told == [
        (1, "create", "file>", 0, 0, b""), (2, "write", "file>", 0, 10, b"0123456789"), (3, "sync", "file>", 0, 0, b""),
        (4, "write", "file>", 0, 2, b"ab"), (5, "write", "file>", 10, 8, b"cdefghij"), (6, "sync", "file>", 0, 0, b""),
        (7, "rename", "file>name", 0, 0, b""), (8, "mkdir", "folder>", 0, 0, b""), (9, "truncate", "name>", 0, 4, b""),
        (10, "unlink", "name>", 0, 0, b""),
    ]


@pytest.mark.parametrize(("where", "lines", "content"), [
    ("before", 3, b"ab23456789"), ("half", 3, b"ab23456789cdef"), ("after", 3, b"ab23456789cdefghij")])
def test_a_kill_strikes_before_in_the_middle_of_or_after_a_call(
        small: Small, where: interposer.Where, lines: int, content: bytes) -> None:
    """SIGKILL at the fifth call, a write of eight bytes."""
    code, said = small.run(Plan("kill", 5, where))
    assert (code, len(said)) == (-signal.SIGKILL, lines)
    assert (small.folder / "file").read_bytes() == content
    assert small.calls()[-1].op == "killed"


def test_a_sync_fails_once(small: Small) -> None:
    """The second sync, with EIO; what follows goes on."""
    code, said = small.run(Plan("eio", 2))
    assert (code, said[4], said[5]) == (0, f"sync error {errno.EIO}", "rename None")
    assert [call.error for call in small.calls() if call.op == "sync"] == [0, errno.EIO]


def test_a_sync_fails_and_the_process_dies_before_it_can_do_more(small: Small) -> None:
    """The second sync, with EIO; the call after it is not made."""
    code, said = small.run(Plan("dies", 2))
    assert (code, said[4:]) == (-signal.SIGKILL, [f"sync error {errno.EIO}"])
    assert [(call.op, call.error) for call in small.calls()[-2:]] == [("sync", errno.EIO), ("killed", 0)]


def test_a_full_disk_takes_half_of_a_write_and_then_nothing_that_grows(small: Small) -> None:
    """The first growing write comes back short; a folder cannot be made; what does not grow goes on."""
    _, said = small.run(Plan("full", 4))
    assert said[2:6] == ["over 2", "more 4", "sync None", "rename None"]
    assert said[6:] == [f"mkdir error {errno.ENOSPC}", "cut None", "remove None"]


def test_a_read_only_disk_takes_no_change_at_all(small: Small) -> None:
    """From the fourth call on."""
    _, said = small.run(Plan("readonly", 4))
    refused = ("over", "more", "sync", "rename", "mkdir", "cut", "remove")
    assert said[2:] == [f"{what} error {errno.EROFS}" for what in refused]


def test_calls_of_one_kind_on_one_path_can_be_counted(small: Small) -> None:
    """The second write that follows no write, the first sync of a file under its later name."""
    assert small.run(Plan("kill", 2, "before", "first:file"))[1] == ["write 10", "sync None"]
    (small.folder / "file").unlink()
    assert small.run(Plan("eio", 1, of="sync:name"))[1][3:5] == ["more 8", "sync None"]


def test_a_stopped_process_goes_on_when_it_is_woken(small: Small) -> None:
    """SIGSTOP at a call, and SIGCONT from outside."""
    child = small.start(Plan("stop", 5, "before"))
    found = os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert found is not None
    assert found.si_code == os.CLD_STOPPED
    assert (small.folder / "file").read_bytes() == b"ab23456789"
    child.send_signal(signal.SIGCONT)
    out, _ = child.communicate(timeout=SECONDS_MAX)
    assert (child.returncode, len(out.splitlines())) == (0, 9)


def test_nothing_that_the_program_changes_passes_by(everything: power.Story) -> None:
    """SQLite's calls and the interpreter's: the journal, played to the files as they were, gives the files as they are."""
    disk = everything.disk()
    for call in everything.calls:
        disk.play(call)
    assert disk.whole() == everything.after
    assert {call.path.rpartition("/")[2] for call in everything.calls if call.op == "sync"} >= {
        "ledger.db", "ledger.db-wal", "good.csv", "sum.jsonl", "told.txt"}
