"""The program as a process of its own, a source that waits, and what a ledger holds meanwhile."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from counterfoil.ledgers import Ledger
from ledger.errors import LedgerUnavailable
from tests.doors.kept import LEDGER, ON_POSTGRES, URL
from tests.house.tree import ROOT

COMMAND = [sys.executable, "-m", "counterfoil"]
SECONDS_MAX = 60


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of the program; it is ended with the block, whatever happens."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def until(process: subprocess.Popen[str], true: Callable[[], bool]) -> None:
    """Wait for something while the process lives."""
    for _ in range(SECONDS_MAX * 100):
        if true():
            return
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"it ended with {process.returncode}: {process.communicate()}")
    pytest.fail("it took too long")


def logged(type_: str, count: int) -> Callable[[], bool]:
    """Whether the ledger has that many events of a type."""
    def look() -> bool:
        if ON_POSTGRES:
            return _kinds()[type_] >= count
        if not Path(LEDGER).exists():
            return False
        with closing(sqlite3.connect(f"file:{LEDGER}?mode=ro", uri=True)) as connection:
            found: int = connection.execute("SELECT count(*) FROM events WHERE type = ?", (type_,)).fetchone()[0]
        return found >= count

    return look


def _kinds() -> Counter[str]:
    """How many events of each type the ledger has; none where there is none yet."""
    try:
        with Ledger(URL) as ledger:
            return Counter({type_: count for type_, _, count in ledger.store.kinds()})
    except LedgerUnavailable:
        return Counter()


@contextmanager
def pipe(rows: str) -> Iterator[None]:
    """A named pipe as the source's file, with some rows in it and no end."""
    os.mkfifo("in.csv")
    descriptor = os.open("in.csv", os.O_RDWR)
    try:
        os.write(descriptor, f"id\n{rows}".encode())
        yield
    finally:
        os.close(descriptor)
