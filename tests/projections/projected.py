"""Every run of a store in read tables of its own, whatever shapes its events were stored in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger import ids
from ledger.store import Store
from projections.project import Target, project
from projections.projectors import run_projector
from projections.sqlite_tables import SqliteTables
from tests.projections.reading import make


@contextmanager
def projected(store: Store, path: Path) -> Iterator[SqliteTables]:
    """The tables, made at `path` and open to read."""
    make(path)
    with SqliteTables(path, write=True) as tables:
        for head in store.heads():
            if head.run != ids.LEDGER_STREAM:
                project(store, head, Target(tables, run_projector()))
    with SqliteTables(path, write=False) as tables:
        yield tables
