"""Append to a ledger on PostgreSQL against bare `COPY` of the same bytes into the same tables: batches of 1 000, durable.

Run: python -m bench.postgres [EVENTS]. The server is one that the bench starts, or that COUNTERFOIL_TEST_POSTGRES names.

Bare: the packed rows of a batch are ready, and are sent between BEGIN and COMMIT into tables of the same keys, unguarded.
Ours: leaf hashes, frontier, packing, size and epoch compared under a row lock, guards, the head, and the word to followers.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from psycopg import Connection

import migrations
from bench import logs
from ledger.postgres_copy import COPY_EVENTS, event_rows
from ledger.postgres_session import connect
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import PostgresUrl, parsed
from ledger.store import Stored
from tests.kit.postgres import given

BATCH = 1000
REPEATS = 5
TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """Seconds: on the clock, of our processor time, and of the server's process for us (0 where it cannot be seen)."""

    wall: float
    ours: float
    server: float


def main(count: int = 60_000) -> None:
    """Print both rates and their ratios, medians of repeats that take turns."""
    batches = logs.linear_batches(count, BATCH)
    bare: list[Cost] = []
    ours: list[Cost] = []
    with given() as server:
        for _ in range(REPEATS):
            for measured, costs in ((_bare, bare), (_ours, ours)):
                url = server.fresh_database()
                costs.append(measured(parsed(url), batches))
                server.give_back(url)
    for name, of in (("wall", _wall), ("CPU of client and server", _cpu)):
        bare_s, ours_s = median(map(of, bare)), median(map(of, ours))
        print(f"postgres append, {name}: {count / ours_s:,.0f} events/s, bare COPY {count / bare_s:,.0f}; "
              f"ratio {bare_s / ours_s:.2f}", flush=True)


def _wall(cost: Cost) -> float:
    return cost.wall


def _cpu(cost: Cost) -> float:
    return cost.ours + cost.server


def _bare(url: PostgresUrl, batches: list[list[Stored]]) -> Cost:
    migrations.upgrade(url.sqlalchemy(), "log", schema=url.schema)
    connection = connect(url)
    try:
        connection.execute(f'SET search_path TO "{url.schema}"')
        connection.execute("SET synchronous_commit = on")
        for table in ("events", "streams", "payloads"):
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        ready = [event_rows(1, batch) for batch in batches]

        def send() -> None:
            for rows in ready:
                with connection.transaction(), connection.cursor() as cursor, cursor.copy(COPY_EVENTS) as copy:
                    copy.write(rows)

        return _cost(connection, send)
    finally:
        connection.close()


def _ours(url: PostgresUrl, batches: list[list[Stored]]) -> Cost:
    migrations.upgrade(url.sqlalchemy(), "log", schema=url.schema)
    store = PostgresStore(url, write=True)

    def append() -> None:
        for part in logs.parts(batches):
            store.append([part])

    try:
        return _cost(store._session.raw, append)
    finally:
        store.close()


def _cost(connection: Connection, what: Callable[[], None]) -> Cost:
    pid = connection.info.backend_pid
    server, ours, wall = _server(pid), time.process_time(), time.perf_counter()
    what()
    return Cost(time.perf_counter() - wall, time.process_time() - ours, _server(pid) - server)


def _server(pid: int) -> float:
    """The processor time of the server's process behind a connection, where it runs on this machine."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
