"""A server whose every process is killed, and that is started again, while writers append: at moments drawn by a seed."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from queue import SimpleQueue
from threading import Event
from typing import NamedTuple

from ledger.postgres_session import Patience
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from tests.kit.postgres import SECONDS_MAX, Postgres
from tests.postgres import writers

PATIENT = Patience(seconds=SECONDS_MAX, pause_seconds=0.02)


class Tally(NamedTuple):
    """How many kills there were, how many commits and events were acknowledged, and what was wrong."""

    kills: int
    commits: int
    events: int
    faults: list[str]


def campaign(server: Postgres, url: str, seed: int, kills: int, writing: int = 2) -> Tally:
    """So many kills, each after a number of commits, under so many writers; then look at all that is there."""
    drawn, told, over = random.Random(seed), SimpleQueue[int](), Event()

    def stopping(size: int) -> bool:
        told.put(size)
        return over.is_set()

    commits = 0
    runs = [f"run-{number}" for number in range(writing)]
    with ThreadPoolExecutor(writing) as pool:
        works = [pool.submit(writers.write_until, url, run, seed, PATIENT, stopping) for run in runs]
        try:
            for _ in range(kills):
                for _ in range(drawn.randint(1, 40)):
                    told.get(timeout=SECONDS_MAX)
                    commits += 1
                server.kill()
                server.start()
        finally:
            over.set()
        sizes = [work.result(SECONDS_MAX) for work in works]
    with closing(PostgresStore(parsed(url), write=False)) as store:
        faults = [fault for run, size in zip(runs, sizes, strict=True) for fault in writers.faults(store, run, size, seed)]
    return Tally(kills, commits + told.qsize(), sum(sizes), faults)
