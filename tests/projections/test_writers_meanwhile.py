"""A real writer is at work while the read tables are made again: what it had committed before the swap is in them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event

import pytest

from counterfoil.ledgers import keeping_of
from ledger import events as e
from ledger import ids, registry
from ledger.store import Store
from ledger.writer import Writer
from projections import catch_up as catching
from projections.projectors import run_projector
from projections.rebuild import Progress, Rebuild, rebuild
from tests.kit.log import AT, Log
from tests.ledger import lawful, lawful_groups
from tests.projections import apart
from tests.projections.shelves import BOTH, named

RUNS_MAX = 8
SECONDS_MAX = 60


def write(store: Store, log: Log, step: int, over: Event) -> None:
    """Commit the run a few events at a time, to its end or until it is over."""
    writer = Writer(store, log.run)
    for salt, data in log.kept:
        writer.keep(salt, data, permanent=writer.payloads == 0)
    events = log.stamped()[:-1]
    for first in range(0, len(events), step):
        for event in events[first:first + step]:
            writer.add(event)
        opened = [registry.entries(store, [e.RunOpened(opened=log.run, pipeline="p")], AT)] if first == 0 else []
        writer.commit("running", lambda opened=opened: opened)  # type: ignore[misc]
        if over.is_set():
            return


@contextmanager
def writer_at(url: str) -> Iterator[None]:
    """A thread that begins one run after the other, each in small commits."""
    over, begun = Event(), Event()

    def work() -> None:
        with closing(keeping_of(url).store(write=True, wait=True)) as store:
            for number in range(RUNS_MAX):
                write(store, named(lawful.many_rows(40), f"new-{number}"), 7, over)
                begun.set()
                if over.is_set():
                    return

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        begun.wait(SECONDS_MAX)
        try:
            yield
        finally:
            over.set()
        future.result(SECONDS_MAX)


@BOTH
@pytest.mark.parametrize("run", [None, "old"])
def test_what_was_committed_before_the_swap_is_in_the_new_tables(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, run: str | None
) -> None:
    """F5, W13: runs that grow and runs that begin, also where one of them alone is made again; never less than was read."""
    url = apart.real(tmp_path, request.getfixturevalue("postgres_url") if database == "postgresql" else None,
                     [named(lawful_groups.all_arrived(), "old")])
    store, shelf = apart.opened(url)
    with closing(store), writer_at(url):
        catching.catch_up(store, shelf)
        told: list[dict[str, int]] = []

        def looking(progress: Progress) -> None:
            told.append({head.run: head.size for head in store.heads() if head.run != ids.LEDGER_STREAM})

        name = rebuild(store, shelf, Rebuild(run_projector(), looking), run)
        with shelf.open(name) as tables:
            found = dict(tables.select("SELECT run_id, events FROM runs"))
        assert {who: size for who, size in told[0].items() if found.get(who, 0) < size} == {}
    store, shelf = apart.opened(url)
    with closing(store):
        name = catching.catch_up(store, shelf)
        assert catching.standing(store, shelf, run_projector(), name).state == "current"
        assert catching.differences(store, shelf) == []
