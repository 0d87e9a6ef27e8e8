"""Append with hash, frontier and guard, against bare `sqlite3.executemany` of the same bytes into the same table, unguarded.

Run: python -m bench.append [EVENTS]. Batches of 1 000, FULL on both sides, payload of a median event.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import migrations
from bench import logs
from ledger.guards import TRIGGERS
from ledger.sqlite_store import SqliteStore, prepare_file
from ledger.store import Stored

BATCH = 1000
REPEATS = 5


def main(count: int = 60_000) -> None:
    """Print both rates and their ratio, medians of repeats that take turns."""
    batches = logs.linear_batches(count, BATCH)
    bare, ours = [], []
    for _ in range(REPEATS):
        bare.append(_bare(batches))
        ours.append(_ours(batches))
    bare_s, ours_s = median(bare), median(ours)
    print(f"append: {count / ours_s:,.0f} events/CPU s, bare executemany {count / bare_s:,.0f}; "
          f"ratio {bare_s / ours_s:.2f}")


def _bare(batches: list[list[Stored]]) -> float:
    with tempfile.TemporaryDirectory(prefix="counterfoil-bench-") as name:
        path = Path(name) / "bare.db"
        _make(path)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        for trigger in TRIGGERS:
            connection.execute(f"DROP TRIGGER {trigger}")
        began = time.process_time()
        for batch in batches:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO events VALUES (1, ?, ?, ?, ?, ?, ?, ?)", batch)
            connection.execute("COMMIT")
        taken = time.process_time() - began
        connection.close()
        return taken


def _ours(batches: list[list[Stored]]) -> float:
    with tempfile.TemporaryDirectory(prefix="counterfoil-bench-") as name:
        path = Path(name) / "ours.db"
        _make(path)
        store = SqliteStore(path, write=True)
        began = time.process_time()
        for part in logs.parts(batches):
            store.append([part])
        taken = time.process_time() - began
        store.close()
        return taken


def _make(path: Path) -> None:
    prepare_file(path)
    migrations.upgrade(f"sqlite:///{path}", "log")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
