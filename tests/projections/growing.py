"""A ledger that grows: stores that hold the first events of a run, and the read tables beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ledger.store import Store, Stored
from projections import catch_up as catching
from projections.projectors import Projector, run_projector
from projections.rebuild import Rebuild, rebuild
from projections.sqlite_shelf import SqliteShelf, generation
from projections.sqlite_tables import SqliteTables
from tests.kit.log import Log
from tests.kit.tamper import edit_events, rehash
from tests.projections.reading import Told, dump, make


class Ledger:
    """The in-memory log of these runs, and read tables in `folder`. A run can be cut back and let grow again."""

    def __init__(self, folder: Path, *logs: Log) -> None:
        self.path = folder / "ledger.db"
        self.shelf = SqliteShelf(self.path, make)
        self.said: list[str] = []
        store: Store | None = None
        for log in logs:
            store = log.store(store)
        assert store is not None
        self.store = store
        self.whole = {log.run: list(store.read(log.run)) for log in logs}

    def grow(self, run: str, size: int) -> None:
        """Let the run's stream have exactly its first `size` events."""
        self.say(run, self.whole[run][:size])

    def say(self, run: str, events: Sequence[Stored]) -> None:
        """Let the run's stream have these events, with the tree that belongs to them."""
        edit_events(self.store, run, lambda _: events)
        rehash(self.store, run)

    def catch_up(self, projector: Projector | None = None) -> Path:
        """Catch the read tables up; gives the generation."""
        return Path(catching.catch_up(self.store, self.shelf, self.said.append, Rebuild(projector or run_projector())))

    def rebuild(self, run: str | None = None) -> Path:
        """Make them again from zero."""
        return Path(rebuild(self.store, self.shelf, Rebuild(run_projector()), run))

    def differences(self) -> list[catching.Difference]:
        """Where they and the log disagree."""
        return catching.differences(self.store, self.shelf)

    def told(self, run: str) -> Told:
        """The tables as they stand, to be asked about a run."""
        return Told(self.store, self.generation(), run)

    def generation(self) -> Path:
        """The generation that readers take."""
        found = generation(self.path)
        assert found is not None
        return found

    def dump(self) -> object:
        """Every row that readers see."""
        return dump(self.generation())

    def edit(self, statement: str) -> None:
        """Write to the read tables behind the projector's back."""
        with SqliteTables(self.generation(), write=True) as tables, tables.transaction():
            tables.select(statement)

    def beside(self) -> list[str]:
        """The names of the files beside the ledger."""
        return sorted(one.name for one in self.path.parent.iterdir())
