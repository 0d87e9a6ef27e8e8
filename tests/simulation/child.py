"""The program as a child of a test: the very same, with what its tests have to see or to break changed around it.

    python -m tests.simulation.child '{"rows_per_commit": 10, "marks": true}' run pipeline.yaml ...

Why a driver: a commit every few rows gives a small pipeline many crash points, at the same calls every time; a mark says
what was acknowledged when; and a harness that cannot see a loss is shown by breaking what prevents it, here and nowhere in
the product.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from counterfoil.cli import main
from engine import loop
from engine.sinks import files
from ledger import sqlite_store
from ledger.store import Part

NEVER_MS = 10**9

Broken = Literal["synchronous_normal", "synchronous_off", "sink_not_synced", "directory_not_synced"]
"""What a control takes away, each of which has to lose something in a power cut."""


class Knobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is different. `rows_per_commit` also takes the clock out of when commits are made."""

    rows_per_commit: int | None = None
    marks: bool = False
    broken: Broken | None = None


def turned(knobs: Knobs) -> None:
    """Make this process what the knobs say, for good."""
    if knobs.rows_per_commit is not None:
        for module in [module for name, module in sys.modules.items() if name.startswith("engine.")]:
            if hasattr(module, "ROWS_PER_COMMIT"):
                _put(module, "ROWS_PER_COMMIT", knobs.rows_per_commit)
        _put(loop, "COMMIT_EVERY_MS", NEVER_MS)
    if knobs.marks:
        _mark_what_is_acknowledged()
    match knobs.broken:
        case "synchronous_normal" | "synchronous_off":
            _insist_on(knobs.broken.removeprefix("synchronous_").upper())
        case "sink_not_synced":
            _put(files, "os", _Without("fsync"))
        case "directory_not_synced":
            _put(files, "_sync_directory", lambda directory: None)
        case _:
            pass


def _mark_what_is_acknowledged() -> None:
    """After each commit that returned, a mark in the journal, if there is one: `ack <size> <run>`."""
    mark: Callable[[bytes], None] | None = getattr(ctypes.CDLL(None), "interpose_mark", None)
    if mark is None:
        return
    append = sqlite_store.SqliteStore.append

    def marked(store: sqlite_store.SqliteStore, parts: Sequence[Part]) -> None:
        append(store, parts)
        for part in parts:
            mark(f"ack {part.head.size} {part.head.run}".encode())

    _put(sqlite_store.SqliteStore, "append", marked)


def _insist_on(synchronous: str) -> None:
    """A ledger that syncs less than it says."""
    insist: Callable[[Any, Path], None] = sqlite_store._insist

    def less(connection: Any, path: Path) -> None:
        insist(connection, path)
        connection.exec_driver_sql(f"PRAGMA synchronous = {synchronous}")

    _put(sqlite_store, "_insist", less)


def _put(place: object, name: str, value: object) -> None:
    setattr(place, name, value)


class _Without:
    """The module `os`, one function of which does nothing."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return (lambda *given: None) if name == self._name else getattr(os, name)


if __name__ == "__main__":
    turned(msgspec.json.decode(sys.argv[1], type=Knobs))
    main(sys.argv[2:])
