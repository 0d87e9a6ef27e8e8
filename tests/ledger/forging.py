"""Editing a ledger file behind the store's back, and asking what is found: kinds of fault, and completeness."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from ledger import ids, verify
from ledger.guards import TRIGGERS
from ledger.sqlite_store import SqliteStore
from ledger.tree import Frontier
from tests.kit.log import RUN

STREAM = f"stream = (SELECT stream FROM streams WHERE run_id = '{RUN}')"
AT_4 = f"{STREAM} AND seq = 4"
BODY = "replace(CAST(body AS TEXT), '\"duration_us\":5', '\"duration_us\":6')"
OTHER_BODY = f"CAST({BODY} AS BLOB)"
LONGER_BODY = "CAST(body || x'20' AS BLOB)"


def edit(path: Path, *statements: str | tuple[str, tuple[object, ...]]) -> None:
    """What an attacker with `sqlite3` does: without the guards, unless the statements say so."""
    connection = sqlite3.connect(path, isolation_level=None)
    for name in TRIGGERS:
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")
    for statement in statements:
        connection.execute(*((statement,) if isinstance(statement, str) else statement))
    for text in TRIGGERS.values():
        connection.execute(text)
    connection.close()


def faults(path: Path, run: str = RUN) -> set[str]:
    """The kinds of fault that verify finds in a run, with the ledger's own stream and the guards."""
    store = SqliteStore(path, write=False)
    try:
        found = [*verify.guards(store), *verify.registry(store), *verify.integrity(store, run),
                 *verify.integrity(store, ids.LEDGER_STREAM)]
        assert all(str(fault).startswith(f"{fault.kind} at run ") and fault.text for fault in found)
        return {fault.kind for fault in found}
    finally:
        store.close()


def receipt(path: Path, run: str = RUN) -> tuple[int, str]:
    """What one who keeps a receipt writes down."""
    store = SqliteStore(path, write=False)
    try:
        head = store.head(run)
        assert head is not None
        return head.size, head.root.hex()
    finally:
        store.close()


def complete(path: Path, kept: tuple[int, str] | None, run: str = RUN) -> str:
    """What completeness says against a receipt."""
    store = SqliteStore(path, write=False)
    try:
        return verify.completeness(store, run, kept).status
    finally:
        store.close()


def rehash(path: Path, run: str = RUN) -> None:
    """Make a stream's head agree with the bytes that are there: a forger who knows the tree."""
    connection = sqlite3.connect(path, isolation_level=None)
    (stream,) = connection.execute("SELECT stream FROM streams WHERE run_id = ?", (run,)).fetchone()
    frontier, last = Frontier(), b"{}"
    for (body,) in connection.execute("SELECT body FROM events WHERE stream = ? ORDER BY seq", (stream,)):
        frontier.append(body)
        last = body
    event = json.loads(last)
    status = {"RunSealed": event.get("status"), "RunInterrupted": "interrupted"}.get(event["type"], "running")
    connection.execute("UPDATE streams SET size = ?, root = ?, frontier = ?, status = ? WHERE stream = ?",
                       (frontier.size, frontier.root(), frontier.pack(), status, stream))
    connection.close()


def body_at(path: Path, seq: int, run: str = RUN) -> bytes:
    """One stored body."""
    store = SqliteStore(path, write=False)
    try:
        return next(store.read(run, seq - 1, seq)).body
    finally:
        store.close()


def guards_of(path: Path) -> list[str]:
    """What verify says of the guards."""
    store = SqliteStore(path, write=False)
    try:
        assert {fault.kind for fault in verify.guards(store)} <= {"guard"}
        return [fault.text for fault in verify.guards(store)]
    finally:
        store.close()
