"""The read tables of a ledger on SQLite: generation files `<ledger>.read.<n>.db` beside it.

A new generation is filled as `<ledger>.read.new`; what it is for stands in `<ledger>.read.new.of`, and processes that help
have `<ledger>.read.new.<k>`, each under a lock that one which outlived its parent still holds. What a killed rebuild left is
gone on with if it was for the same purpose and the machine has not been started anew since: nothing of it was synced, so a
power cut may have torn it.

Invariants: no file that is open is ever renamed over; a file has its place under the name of a generation only when it is
whole and synced.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from ledger.errors import LedgerUnavailable
from ledger.file_lock import FileLock
from ledger.sqlite_store import checkpoint, sync
from projections.read_tables import KEPT, ReadTables
from projections.sqlite_tables import SqliteTables
from projections.tables import COLUMNS, INDEXES, metadata
from projections.tally import SUMMED
from projections.views import VIEW_NAMES

MakeTables = Callable[[Path], None]
"""Makes an empty file with the read tables in it: the migrations' part, which the doors hand in."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class _Purpose(msgspec.Struct, frozen=True):
    """What a shadow is for, since which start of the machine, the indexes it has still to get, and whether it has them."""

    purpose: str
    boot: str
    indexes: list[str]
    finished: bool


class SqliteShelf:
    """The generations beside `ledger`. See `projections.read_tables.Shelf`."""

    def __init__(self, ledger: Path, make: MakeTables) -> None:
        self._ledger = ledger
        self._make = make

    @contextmanager
    def locked(self) -> Iterator[None]:
        """See `Shelf`: the lock of `<ledger>.read.lock`."""
        with _held(self._ledger.with_name(f"{self._ledger.name}.read.lock")):
            yield

    @contextmanager
    def rebuilding(self) -> Iterator[None]:
        """See `Shelf`: the lock of `<ledger>.read.rebuild.lock`."""
        with _held(self._ledger.with_name(f"{self._ledger.name}.read.rebuild.lock")):
            yield

    def generation(self) -> str | None:
        """See `Shelf`."""
        found = generation(self._ledger)
        return None if found is None else str(found)

    def open(self, name: str, *, write: bool = False) -> SqliteTables:
        """See `Shelf`."""
        return SqliteTables(Path(name), write=write)

    def is_of_this_schema(self, name: str) -> bool:
        """See `Shelf`: nothing is missing of tables, columns, indexes and views, and no trigger comes in between."""
        with self.open(name) as tables:
            columns = dict(tables.select("SELECT name, (SELECT group_concat(name, ' ') FROM pragma_table_info(m.name)) FROM "
                                         "sqlite_master m WHERE type = 'table'"))
            found = set(tables.select("SELECT type, name FROM sqlite_master WHERE type <> 'table' AND sql IS NOT NULL"))
        made = {*(("view", name) for name in VIEW_NAMES), *(("index", name) for name in INDEXES)}
        return found >= made and COLUMNS.items() <= columns.items() and all(kind != "trigger" for kind, _ in found)

    @contextmanager
    def shadow(self, purpose: str, base: str | None = None, without: str | None = None) -> Iterator[SqliteShadow]:
        """See `Shelf`."""
        made = SqliteShadow(self._ledger, self._make)
        try:
            made.begin(purpose, base, without)
            yield made
        except Exception as error:
            if not (isinstance(error, LedgerUnavailable) and error.code in KEPT):
                made.remove()
            raise
        finally:
            made.close()

    @contextmanager
    def part(self, number: int) -> Iterator[SqliteTables]:
        """See `Shelf`: a file of its own, under its lock."""
        path = _shadow_of(self._ledger, f".{number}")
        with _held(_shadow_of(self._ledger, f".{number}.lock")):
            if not path.exists():
                self._make_part(path)
            with SqliteTables(path, write=True) as tables:
                _hurry(tables)
                yield tables

    def _make_part(self, path: Path) -> None:
        """A part without indexes, under its name only when it is made."""
        begun = path.with_name(f"{path.name}.begun")
        remove(begun)
        self._make(begun)
        with SqliteTables(begun, write=True) as tables:
            tables.execute("PRAGMA journal_mode = DELETE")
            found = tables.select("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
            tables.execute(*(f"DROP INDEX {name}" for (name,) in found))
        begun.rename(path)

    @contextmanager
    def scratch(self) -> Iterator[SqliteTables]:
        """See `Shelf`."""
        path = self._ledger.with_name(f"{self._ledger.name}.read.compared")
        remove(path)
        try:
            self._make(path)
            with SqliteTables(path, write=True) as tables:
                _hurry(tables)
                yield tables
        finally:
            remove(path)

    def differences(self, name: str, other: ReadTables, views: Sequence[str], run: str, limit: int
                    ) -> list[tuple[str, str, dict[str, Any]]]:
        """See `Shelf`."""
        found: list[tuple[str, str, dict[str, Any]]] = []
        with self.open(name) as tables, tables.beside(Path(other.where), "other"):
            for view in views:
                for side, one, two in (("here", "main", "other"), ("there", "other", "main")):
                    sql = (f"SELECT * FROM {one}.{view} WHERE run_id = ? EXCEPT SELECT * FROM {two}.{view} "
                           f"WHERE run_id = ? LIMIT {limit}")
                    found += [(view, side, row) for row in tables.records(sql, (run, run))]
        return found


class SqliteShadow:
    """The file `<ledger>.read.new`, its parts and what is said of it. See `projections.read_tables.Shadow`."""

    def __init__(self, ledger: Path, make: MakeTables) -> None:
        self._ledger = ledger
        self._make = make
        self._path = _shadow_of(ledger)
        self._said = _shadow_of(ledger, ".of")
        self._open: SqliteTables | None = None
        self._purpose = _Purpose("", "", [], finished=False)

    def begin(self, purpose: str, base: str | None, without: str | None) -> None:
        """Go on with what there is, or begin."""
        left = self._left()
        if left is None or left.purpose != purpose or left.boot != _boot() or not (left.boot and self._path.exists()):
            self.remove()
            left = self._begun(purpose, base, without)
        self._purpose = left

    @property
    def is_finished(self) -> bool:
        """See `Shadow`."""
        return self._purpose.finished

    def _left(self) -> _Purpose | None:
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(self._said.read_bytes(), type=_Purpose)
        return None

    def _begun(self, purpose: str, base: str | None, without: str | None) -> _Purpose:
        if base is None:
            self._make(self._path)
        else:
            with SqliteTables(Path(base), write=False) as tables:
                tables.copy_to(self._path)
        with SqliteTables(self._path, write=True) as tables:
            _hurry(tables)
            found = tables.select("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
            tables.execute(*(f"DROP INDEX {name}" for name, _ in found if base is None))
            if without is not None:
                with tables.transaction():
                    tables.forget(without)
        return self._say(_Purpose(purpose, _boot(), [sql for _, sql in found] if base is None else [], finished=False))

    def _say(self, purpose: _Purpose) -> _Purpose:
        """In one step: whoever goes on with what is left finds it whole, or as it was."""
        begun = _shadow_of(self._ledger, ".of.begun")
        begun.write_bytes(msgspec.json.encode(purpose))
        begun.rename(self._said)
        return purpose

    def tables(self) -> SqliteTables:
        """See `Shadow`."""
        if self._open is None:
            self._open = SqliteTables(self._path, write=True)
            _hurry(self._open)
        return self._open

    def _parts(self) -> list[int]:
        """The numbers of parts of which anything is left."""
        pattern = re.compile(re.escape(self._path.name) + r"\.(\d+)(\.lock|\.begun)?")
        return sorted({int(match[1]) for match in map(pattern.fullmatch, os.listdir(self._path.parent)) if match})

    def gather(self) -> None:
        """See `Shadow`: part by part, each in one transaction; a run that came in before is not taken twice."""
        for number in self._parts():
            path = _shadow_of(self._ledger, f".{number}")
            with _held(_shadow_of(self._ledger, f".{number}.lock")):
                if path.exists():
                    self._take(path)
                remove(path)

    def _take(self, path: Path) -> None:
        with SqliteTables(path, write=True) as part:  # whoever reads cannot undo what a killed process had begun
            there = dict(part.select("SELECT run_id, run FROM p_runs"))
        tables = self.tables()
        known = {run for (run,) in tables.select("SELECT run_id FROM p_runs")}
        keys = ", ".join(str(key) for run, key in there.items() if run not in known)
        with tables.beside(path, "part"), tables.transaction():
            for name in metadata.tables:
                tables.execute(f"INSERT INTO main.{name} SELECT * FROM part.{name} WHERE run IN ({keys})")
                total = f"SELECT count(*), sum({SUMMED.get(name) or 'run'}) FROM {{}}.{name} WHERE run IN ({keys})"
                wanted, found = (tables.select(total.format(side)) for side in ("part", "main"))
                if found != wanted:
                    raise self._not_made(f"the rows of {name} in {path.name} {wanted}, found {found}")

    def finish(self) -> None:
        """See `Shadow`."""
        tables = self.tables()
        known = {row[0] for row in tables.select("SELECT sql FROM sqlite_master WHERE type = 'index'")}
        tables.execute(*(sql for sql in self._purpose.indexes if sql not in known))
        self.close()
        tables = self.tables()  # with nothing in its cache, so that the file is what is looked at
        found = tables.select("PRAGMA quick_check(1)")
        if found != [("ok",)]:
            raise self._not_made(f"whole read tables, found {found[0][0]}")
        tables.execute("PRAGMA analysis_limit = 400", "ANALYZE")
        if not self._purpose.finished:
            self._purpose = self._say(msgspec.structs.replace(self._purpose, finished=True))

    def _not_made(self, expected: str) -> LedgerUnavailable:
        return LedgerUnavailable("READ_TABLES_NOT_MADE", f"expected {expected}", where=str(self._path),
                                 next_step="try again; check the disk")

    def swap_in(self) -> str:
        """See `Shadow`."""
        self.tables().execute("PRAGMA journal_mode = WAL")
        self.close()
        path = swap_in(self._path, self._ledger)
        self.remove()
        return str(path)

    def close(self) -> None:
        """Let go of the file; what is in it stays."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def remove(self) -> None:
        """Remove the file, the parts and what was said of them; waits for whoever still writes a part."""
        self.close()
        self._said.unlink(missing_ok=True)  # first: what is left of the rest is then nobody's
        _shadow_of(self._ledger, ".of.begun").unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            for number in self._parts():
                lock = _shadow_of(self._ledger, f".{number}.lock")
                with _held(lock):
                    remove(_shadow_of(self._ledger, f".{number}.begun"))
                    remove(_shadow_of(self._ledger, f".{number}"))
                    lock.unlink(missing_ok=True)
        remove(self._path)


def generation(ledger: Path) -> Path | None:
    """The highest whole generation beside a ledger, or None."""
    found = _generations(ledger)
    return found[-1][1] if found else None


def swap_in(temporary: Path, ledger: Path) -> Path:
    """Make a whole, closed file the highest generation, durably; generations before the last are removed."""
    found = _generations(ledger)
    path = ledger.with_name(f"{ledger.name}.read.{found[-1][0] + 1 if found else 1}.db")
    try:
        checkpoint(temporary)
    except sqlite3.Error as error:
        raise LedgerUnavailable("READ_TABLES_NOT_MADE", f"expected whole read tables, found {error}", where=str(temporary),
                                next_step="try again; check the disk") from error
    sync(temporary)
    remove(path)  # nothing has this name, but a write-ahead log that was left of it would be taken for the new file's
    temporary.rename(path)
    sync(path.parent)
    for _, old in _generations(ledger)[:-2]:
        remove(old)
    return path


def remove(path: Path) -> None:
    """Remove a file with what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    lock = FileLock(path, wait=True)
    try:
        yield
    finally:
        lock.release()


def _shadow_of(ledger: Path, suffix: str = "") -> Path:
    return ledger.with_name(f"{ledger.name}.read.new{suffix}")


def _hurry(tables: SqliteTables) -> None:
    """Settings for a file that nobody reads before it is whole: a killed process leaves it whole, a power cut may not."""
    tables.execute("PRAGMA synchronous = OFF", "PRAGMA cache_size = -16384", "PRAGMA journal_mode = PERSIST")


def _boot() -> str:
    """Which start of the machine this is; empty where nobody says."""
    with suppress(OSError):
        return _BOOT.read_text(encoding="ascii").strip()
    return ""


def _generations(ledger: Path) -> list[tuple[int, Path]]:
    pattern = re.compile(re.escape(f"{ledger.name}.read.") + r"(\d+)\.db")
    try:
        names = os.listdir(ledger.parent)
    except OSError:
        return []
    matches = [match for match in map(pattern.fullmatch, names) if match]
    return sorted((int(match.group(1)), ledger.parent / match.group(0)) for match in matches)
