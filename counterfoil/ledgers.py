"""Ledgers by URL: make a new one, open one to write or to read, and its read tables.

Invariants: a ledger of another schema, or no ledger at all, is said to be that before anything is read; where the read
tables stand to the log is said before they are brought up to it.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType

import migrations
from counterfoil.keeping import FAULTS, Keeping, said
from counterfoil.postgres_ledger import PostgresKeeping
from counterfoil.sqlite_ledger import SqliteKeeping, make_read_tables
from ledger import reader
from ledger.errors import LedgerUnavailable, UsageError
from ledger.events import RunStarted
from ledger.follower import Follower
from ledger.postgres_url import is_postgres, parsed
from ledger.store import Store, StreamHead
from projections import catch_up as catching
from projections.catch_up import Standing, Tell
from projections.processes import Processes
from projections.project import Target, project
from projections.projectors import run_projector
from projections.read_tables import ReadTables, Shelf
from projections.rebuild import Progress, Rebuild, rebuild
from projections.sqlite_tables import SqliteTables

_LOG = logging.getLogger("counterfoil")

DEFAULT_URL = "sqlite:///counterfoil.db"
VARIABLE = "COUNTERFOIL_LEDGER"
_UNFIT = re.compile("[\0\ud800-\udfff]")
"""What SQLite takes in no path: NUL, and bytes that are no UTF-8."""

EVENTS_FOR_PROCESSES = 200_000
"""Fewer events are rebuilt sooner by one process than others have started."""


class Ledger:
    """An open ledger: `store` is its log. Use it as a context manager.

    `tell` takes what is to be said of the read tables: that they are stale, or behind and not to be written; `progress` how
    far they are when they are made again for that.
    """

    def __init__(self, url: str = DEFAULT_URL, *, write: bool = False, wait: bool = False, tell: Tell = _LOG.warning,
                 progress: Callable[[Progress], None] = lambda progress: None) -> None:
        self.url = url
        self.keeping = keeping_of(url)
        self.tell = tell
        self.progress = progress
        self.shown = self.keeping.shown
        if not self.keeping.exists():
            raise LedgerUnavailable("LEDGER_MISSING", "expected a ledger, found none", where=self.shown,
                                    next_step="name one with --ledger; `counterfoil run` makes one")
        self.keeping.recognise()
        self._check_schema()
        self.store: Store = self.keeping.store(write=write, wait=wait)

    @classmethod
    def create(cls, url: str = DEFAULT_URL, *, wait: bool = False) -> Ledger:
        """Open a ledger to write; make it when there is none."""
        keeping = keeping_of(url)
        if not keeping.exists():
            keeping.make(wait=wait)
        return cls(url, write=True, wait=wait)

    def _check_schema(self) -> None:
        found, head = self.keeping.revision(), migrations.HEADS["log"]
        if found in migrations.REVISIONS["log"][:-1]:
            raise LedgerUnavailable("LEDGER_SCHEMA", f"expected schema {head}, found {found}", where=self.shown,
                                    next_step="run `counterfoil db upgrade`")
        if found != head:
            raise LedgerUnavailable("LEDGER_SCHEMA", f"expected schema {head}, found {found or 'none'}", where=self.shown,
                                    next_step="use a version that knows this schema; `counterfoil db current` names it")

    def heads(self) -> list[StreamHead]:
        """Every stream, the ledger's own first."""
        return self.store.heads()

    def follow(self, places: Mapping[str, int] | None = None) -> Follower:
        """Reads the log while it grows, from `places` (run to the seq read last) on."""
        return Follower(self.store, places)

    def catch_up(self) -> ReadTables:
        """The read tables at the end of every run, open to read."""
        with _of_read_tables(self.shown):
            shelf = self.keeping.shelf()
            how = Rebuild(run_projector(), self.progress, self._helpers(None))
            return catching.caught_up(self.store, shelf, self.tell, how)

    def rebuild(self, run: str | None = None, *, processes: int | None = None,
                progress: Callable[[Progress], None] = lambda progress: None) -> str:
        """Make the read tables again from zero; gives the name of the generation swapped in.

        `processes` work side by side on several runs; None takes one for each processor, if there is enough to do.
        """
        with _of_read_tables(self.shown):
            how = Rebuild(run_projector(), progress, self._helpers(processes))
            return rebuild(self.store, self.keeping.shelf(), how, run)

    def _helpers(self, processes: int | None) -> Processes | None:
        if processes is None:
            events = sum(head.size for head in self.heads())
            processes = (os.cpu_count() or 1) if events >= EVENTS_FOR_PROCESSES else 1
        return Processes(processes, partial(opened_apart, self.keeping.absolute())) if processes > 1 else None

    def standing(self) -> Standing:
        """How the read tables stand to the log; nothing is changed."""
        shelf = self.keeping.shelf()
        return catching.standing(self.store, shelf, run_projector(), shelf.generation())

    def differences(self, run: str | None = None) -> list[catching.Difference]:
        """Where the read tables and the log disagree, of one run or of all."""
        return catching.differences(self.store, self.keeping.shelf(), run)

    def file_reader(self, run: str) -> Callable[[str, int, int], bytes]:
        """Reads pieces of the files that a run's sinks name, relative to the directory it ran in."""
        _, started = next(reader.events(self.store, run, until=1))
        directory = Path(started.directory if isinstance(started, RunStarted) else ".")

        def read(uri: str, offset: int, length: int) -> bytes:
            with (directory / uri).open("rb") as file:
                file.seek(offset)
                return file.read(length)

        return read

    @contextmanager
    def as_of(self, run: str, seq: int) -> Iterator[ReadTables]:
        """Read tables of one run as they stood at `seq`, made for this one question."""
        head = self.store.head(run)
        if head is None:
            raise UsageError("RUN_UNKNOWN", "expected a run", where=run)
        with tempfile.TemporaryDirectory(prefix="counterfoil-") as directory:
            path = Path(directory) / "as_of.db"
            make_read_tables(path)
            with SqliteTables(path, write=True) as tables:
                project(self.store, head, Target(tables, run_projector()), until=seq)
                yield tables

    def close(self) -> None:
        """Let go of the ledger and its lock."""
        self.store.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def opened_apart(url: str) -> tuple[Store, Shelf]:
    """A ledger's log and read tables, for a process that helps with a rebuild."""
    keeping = keeping_of(url)
    return keeping.store(write=False, wait=False), keeping.shelf()


@contextmanager
def _of_read_tables(where: str) -> Iterator[None]:
    """Read tables that cannot be written are no fault of the record."""
    try:
        yield
    except FAULTS as error:
        raise LedgerUnavailable("READ_TABLES_FAULT", f"expected to bring the read tables up to date, found {said(error)}",
                                where=where, next_step="free some space or mend the disk; the log is whole, and "
                                "`counterfoil rebuild` makes them again") from error


def url_of(named: str | None, environment: Mapping[str, str], of_file: str | None = None) -> str:
    """The ledger that was named, else the environment's, else the pipeline file's, else the default; "" names none."""
    return named if named is not None else environment.get(VARIABLE) or of_file or DEFAULT_URL


def keeping_of(url: str) -> Keeping:
    """Where the ledger of a URL is kept. Raises `UsageError` (LEDGER_URL_INVALID)."""
    if is_postgres(url):
        return PostgresKeeping(parsed(url), url)
    return SqliteKeeping(path_of(url))


def path_of(url: str) -> Path:
    """The file that a `sqlite:///` URL names; of a link the file itself, for locks and logs stand beside that one.

    Raises `UsageError` for anything else.
    """
    prefix = "sqlite:///"
    if url.startswith(prefix) and len(url) > len(prefix) and not _UNFIT.search(url):
        path = Path(url.removeprefix(prefix))
        path = Path(os.path.realpath(path)) if path.is_symlink() else path
        return path.absolute() if str(path).startswith("file:") else path  # SQLite may take `file:` for the scheme of a URI
    shown = re.sub(r"//[^@]*@", "//***@", url)
    raise UsageError("LEDGER_URL_INVALID", f"expected sqlite:///FILE, found {shown!r:.100}", where="--ledger",
                     next_step="three slashes and a path, e.g. sqlite:///counterfoil.db; or postgresql://USER@HOST/NAME")
