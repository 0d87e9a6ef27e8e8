"""The process between a test run and its PostgreSQL: it starts the server, tells when it is ready, and ends it.

Why: a server must not outlive the tests, and a test run may be killed in a way that lets it clean nothing up. The guard
is a process of its own, waits for its parent's end as well as for its orders, and then takes the server down for it.

    python postgres_guard.py PARENT_PID FOLDER LOG USER COMMAND...

It says `ready` or `ended`, a line each, on its output. It is told `stop` or `kill` on its input; the end of the input, or
of the parent, means `kill` and the removal of the folder.

Invariants: the guard ends after the server and after every process of the server; it signals its own children alone.
Nothing here is imported by a test, and nothing but the standard library is imported here.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

READY = b"database system is ready to accept connections"
STOP_SECONDS_MAX = 60
_PR_SET_CHILD_SUBREAPER = 36
_IPC_RMID = 0


def main(parent: str, folder: str, log: str, user: str, *command: str) -> None:
    """Guard one server from its start to its end; `user` is whom it runs as, as `uid:gid`, or empty for oneself."""
    _adopt_orphans()
    uid, gid = (int(number) for number in user.split(":")) if user else (None, None)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder, user=uid, group=gid,
                              extra_groups=[] if user else None, start_new_session=True, stdout=subprocess.DEVNULL)
    assert server.stderr is not None
    relay = threading.Thread(target=_relay, args=(server.stderr, Path(log)))
    relay.start()
    order = _next_order(int(parent), server.pid)
    if order == b"stop":
        server.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS_MAX)
    _kill_all(server)
    _free_memory(Path(folder) / "data" / "postmaster.pid")
    relay.join()
    if not order:
        shutil.rmtree(folder, ignore_errors=True)


def _adopt_orphans() -> None:
    """Processes whose parent, the server, is gone become children of the guard, so that it can end and await them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _relay(lines: IO[bytes], log: Path) -> None:
    """Write what the server says to its log, and say when it is ready, and when it or a failed start of it is over."""
    with lines, log.open("ab", buffering=0) as file:
        for line in lines:
            file.write(line)
            if READY in line:
                _say(b"ready\n")
    _say(b"ended\n")


def _say(word: bytes) -> None:
    with suppress(BrokenPipeError):  # nobody may be left to hear it
        os.write(1, word)


def _next_order(parent: int, server: int) -> bytes:
    """What is to be done: `stop`, `kill`, `over` when the server ended by itself, empty when the parent is gone."""
    events = select.poll()
    events.register(0, select.POLLIN)
    ends: dict[int, bytes] = {}
    with suppress(ProcessLookupError):
        for pid, order in ((server, b"over"), (parent, b"")):
            descriptor = os.pidfd_open(pid)
            ends[descriptor] = order
            events.register(descriptor, select.POLLIN)
    happened = {descriptor for descriptor, _ in events.poll()}
    if 0 in happened:
        return os.read(0, 16).strip()
    return min(ends[descriptor] for descriptor in happened)


def _kill_all(server: subprocess.Popen[bytes]) -> None:
    """End every process before one of them can see that another is gone: the first one, which starts them, is held."""
    if server.returncode is None:
        server.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, server.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        for pid in _children(server.pid):
            os.kill(pid, signal.SIGKILL)
        server.kill()
        server.wait()
    orphans = _children(os.getpid())
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)
    for pid in orphans:
        os.waitpid(pid, 0)


def _free_memory(pid_file: Path) -> None:
    """Remove the segment of shared memory that a killed server leaves until it is started again, which may never be."""
    if sys.platform == "linux" and pid_file.exists():
        words = pid_file.read_text(encoding="ascii").splitlines()[6:7]
        for segment in [int(word) for line in words for word in line.split()[1:]]:
            ctypes.CDLL(None).shmctl(segment, _IPC_RMID, None)


def _children(pid: int) -> list[int]:
    with suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(*sys.argv[1:])
