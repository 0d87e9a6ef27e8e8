"""The program as a child of a test: the very same, with what its tests have to see or to break changed around it.

    python -m tests.simulation.child '{"rows_per_commit": 10, "marks": true}' run pipeline.yaml ...

Why a driver: a commit every few rows gives a small pipeline many crash points, at the same calls every time; a mark says
what was acknowledged when; and a harness that cannot see a loss is shown by breaking what prevents it, here and nowhere in
the product.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal

import msgspec
import psycopg

from counterfoil.cli import main
from counterfoil.postgres_ledger import PostgresKeeping
from engine import loop
from engine.sinks import files
from ledger import sqlite_store
from ledger.postgres_session import Patience
from ledger.postgres_store import PostgresStore
from ledger.store import Part

NEVER_MS = 10**9

Broken = Literal["synchronous_normal", "synchronous_off", "sink_not_synced", "directory_not_synced"]
"""What a control takes away, each of which has to lose something in a power cut."""


At = Literal["before", "within", "sent", "after"]
"""Where in an append to PostgreSQL a process dies: before it, before its COMMIT, when that is sent, after its answer."""


class Knobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is different. `rows_per_commit` also takes the clock out of when commits are made.

    `dies`: at the append of that number to PostgreSQL. `patience_seconds`: how long a server is waited for.
    """

    rows_per_commit: int | None = None
    marks: bool = False
    broken: Broken | None = None
    dies: tuple[int, At] | None = None
    patience_seconds: float | None = None


def turned(knobs: Knobs) -> None:
    """Make this process what the knobs say, for good."""
    if knobs.rows_per_commit is not None:
        for module in [module for name, module in sys.modules.items() if name.startswith("engine.")]:
            if hasattr(module, "ROWS_PER_COMMIT"):
                _put(module, "ROWS_PER_COMMIT", knobs.rows_per_commit)
        _put(loop, "COMMIT_EVERY_MS", NEVER_MS)
    if knobs.marks:
        _mark_what_is_acknowledged()
    if knobs.patience_seconds is not None:
        patience = Patience(knobs.patience_seconds, 0.05)
        _put(PostgresKeeping, "store", lambda kept, *, write, wait: PostgresStore(kept.url, write=write, wait=wait,
                                                                                  patience=patience))
    if knobs.dies is not None:
        _die_at(*knobs.dies)
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
    for kind in (sqlite_store.SqliteStore, PostgresStore):
        _put(kind, "append", _marking(kind.append, mark))


def _marking(append: Callable[[Any, Sequence[Part]], None], mark: Callable[[bytes], None]) -> Callable[..., None]:
    def marked(store: object, parts: Sequence[Part]) -> None:
        append(store, parts)
        for part in parts:
            mark(f"ack {part.head.size} {part.head.run}".encode())

    return marked


def _die_at(number: int, at: At) -> None:
    """Die at an append: of a COMMIT that is sent nobody hears any more, and the server does it all the same."""
    append, append_part, execute = PostgresStore.append, PostgresStore._append_part, psycopg.Connection.execute
    appends = count(1)
    now = [0]

    def reached(place: At) -> None:
        if now[0] == number and place == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(store: PostgresStore, parts: Sequence[Part]) -> None:
        now[0] = next(appends)
        reached("before")
        append(store, parts)
        reached("after")

    def before_commit(store: PostgresStore, part: Part) -> None:
        append_part(store, part)
        reached("within")

    def committing(connection: Any, statement: Any, *given: Any, **named: Any) -> Any:
        if statement == "COMMIT" and at == "sent" and now[0] == number:
            connection.pgconn.send_query(b"COMMIT")
            connection.pgconn.flush()
            reached("sent")
        return execute(connection, statement, *given, **named)

    _put(PostgresStore, "append", dying)
    _put(PostgresStore, "_append_part", before_commit)
    _put(psycopg.Connection, "execute", committing)


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
