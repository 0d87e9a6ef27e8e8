"""Read tables that are open, whatever keeps them; and the shelf on which their generations stand.

Why generations: a rebuild fills new tables beside those that are read and gives them their name when they are whole; whoever
reads goes on reading the old ones. Readers take the highest.

Invariants: effect and place are stored in one transaction; a generation that is read is never written over, only caught up;
what is here can be thrown away, so nothing but speed and wholeness is asked of it. SQL is what SQLite and PostgreSQL both
take, with `?` for values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from ledger.errors import LedgerUnavailable
from ledger.store import StreamHead
from projections.output import Record, Rows
from projections.tables import metadata

UNREADABLE = "READ_TABLES_UNREADABLE"
"""The code of tables that cannot be read as such, or not be added to: they are made again from the log."""

KEPT = frozenset({"LEDGER_BUSY", "LEDGER_UNREACHABLE", "REBUILD_STOPPED"})
"""What stops a rebuild and says nothing against the tables it has made: the next one goes on with them."""


class ReadTables(Protocol):
    """One open generation, or one that is being made."""

    @property
    def where(self) -> str:
        """The generation's name."""
        ...

    def select(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """All rows of a SELECT, as tuples."""
        ...

    def records(self, statement: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        """All rows of a SELECT, as mappings by column name."""
        ...

    def stream(self, statement: str, values: Sequence[object] = ()) -> Iterator[dict[str, Any]]:
        """The rows of a SELECT as mappings, fetched in batches."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Everything inside is stored, or nothing."""
        ...

    def begin_run(self, run_id: str, run: int | None = None) -> int:
        """The small number of a run; one that is new gets `run`, or the next."""
        ...

    def put(self, run: int, rows: Rows) -> None:
        """Do a projector's row operations."""
        ...

    def put_run(self, run: int, record: Record) -> None:
        """Store the run's own row."""
        ...

    def put_place(self, run: int, projector: str, fingerprint: str, seq: int) -> None:
        """Store how far a projector has read."""
        ...

    def forget(self, run_id: str) -> None:
        """Remove every row of one run."""
        ...

    def close(self) -> None:
        """Let go of the tables."""
        ...

    def __enter__(self) -> ReadTables: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ...


class Shadow(Protocol):
    """A generation that is being made, beside those that are read. What a killed process left of one is gone on with."""

    def tables(self) -> ReadTables:
        """The tables themselves, open to be filled, before `finish` and after it. One process does."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether `finish` was done, by this process or one that was killed."""
        ...

    def gather(self) -> None:
        """Bring what other processes have filled into the tables."""
        ...

    def finish(self) -> None:
        """Build the indexes and tell the planner: after this the tables are caught up as those are that are read."""
        ...

    def swap_in(self) -> str:
        """Make the tables the highest generation, durably and in one step; gives its name.

        Generations before the last are removed, but for those that somebody still reads. Raises `LedgerUnavailable`
        (LEDGER_BUSY) where readers do not let it: what was made is kept.
        """
        ...


class Shelf(Protocol):
    """Where the generations of one ledger's read tables stand."""

    def locked(self) -> AbstractContextManager[None]:
        """Whoever writes the tables that are read, or puts others in their place, does it inside, alone; others wait."""
        ...

    def rebuilding(self) -> AbstractContextManager[None]:
        """Whoever makes a shadow does it inside, alone; others wait. It may take long, so it keeps nobody from reading:
        `locked` is entered inside, and only for the swap.
        """
        ...

    def generation(self) -> str | None:
        """The name of the highest whole generation, or None."""
        ...

    def open(self, name: str, *, write: bool = False) -> ReadTables:
        """A generation. Raises `LedgerUnavailable` (READ_TABLES_UNREADABLE)."""
        ...

    def is_of_this_schema(self, name: str) -> bool:
        """Whether a generation stands at the head of the migrations, with every view."""
        ...

    def shadow(self, purpose: str, base: str | None = None, without: str | None = None) -> AbstractContextManager[Shadow]:
        """A new generation, empty or a copy of `base` but for the run `without`; or the one begun for the same purpose.

        It is kept when the process is killed or stopped, or says `KEPT`, and removed when something is wrong with it.
        """
        ...

    def part(self, number: int) -> AbstractContextManager[ReadTables]:
        """What process `number` fills, alone, for the shadow that is being made; a run is in it whole or up to its place."""
        ...

    def scratch(self) -> AbstractContextManager[ReadTables]:
        """Empty tables for a comparison, gone with the block."""
        ...

    def differences(self, name: str, other: ReadTables, views: Sequence[str], run: str, limit: int
                    ) -> list[tuple[str, str, dict[str, Any]]]:
        """(view, `here` or `there`, row) of a run that only one of the two has, up to `limit` a side of a view."""
        ...


class Place(NamedTuple):
    """How far a run, with `run` for its small number, is told by the projector of that fingerprint: to `seq`, with the log's
    root if that was its end then; `stuck` is the event that it cannot be told beyond.
    """

    run: int
    fingerprint: str
    seq: int
    root: bytes | None
    stuck: int | None

    def is_of(self, head: StreamHead) -> bool:
        """Whether it can be of this log, as far as the sizes and the roots say."""
        if self.stuck is not None:
            return self.stuck <= head.size
        return self.seq < head.size or (self.seq == head.size and self.root in (None, head.root))

    def is_all(self, head: StreamHead) -> bool:
        """Whether there is nothing more to tell, not even the root."""
        return self.stuck is not None or (self.seq == head.size and self.root == head.root)


_PLACED = (str, int, str, int, bytes | None, int | None)


def places(tables: ReadTables) -> dict[str, Place]:
    """Run id to place. Raises `LedgerUnavailable` (READ_TABLES_UNREADABLE) for what no projector writes."""
    found = tables.select("SELECT r.run_id, r.run, p.fingerprint, p.seq, r.root, r.unreadable_from_seq FROM p_runs r "
                          "JOIN p_places p ON p.run = r.run")
    for row in found:
        if not all(isinstance(value, kind) for value, kind in zip(row, _PLACED, strict=True)):
            raise LedgerUnavailable(UNREADABLE, "expected a run, its number, its teller, how far, its root, where it stops; "
                                    f"found {', '.join(f'{value!r:.40}' for value in row)}", where=tables.where,
                                    next_step="run `counterfoil rebuild`")
    return {run: Place(*rest) for run, *rest in found}


def unplaced(tables: ReadTables) -> list[tuple[str, int]]:
    """(table, small number of a run) of places of no run, and of runs without a place: somebody edited them."""
    without = tables.select("SELECT run FROM p_runs WHERE run NOT IN (SELECT run FROM p_places) ORDER BY run")
    return [*(("p_runs", number) for (number,) in without), *_orphans(tables, "p_places")]


def orphans(tables: ReadTables) -> list[tuple[str, int]]:
    """(table, small number of a run) of rows of no run, in every table."""
    return [one for table in metadata.tables if table != "p_runs" for one in _orphans(tables, table)]


def _orphans(tables: ReadTables, table: str) -> list[tuple[str, int]]:
    """By leaps over the key, whose first column is the run's number."""
    found = tables.select(
        f"WITH RECURSIVE found(run) AS (SELECT (SELECT min(run) FROM {table}) UNION ALL SELECT (SELECT min(o.run) "
        f"FROM {table} o WHERE o.run > found.run) FROM found WHERE found.run IS NOT NULL) "
        "SELECT run FROM found WHERE run IS NOT NULL AND run NOT IN (SELECT run FROM p_runs)")
    return [(table, number) for (number,) in found]


def told_runs(tables: ReadTables) -> set[str]:
    """The runs that tables tell of."""
    return {run for (run,) in tables.select("SELECT run_id FROM p_runs")}
