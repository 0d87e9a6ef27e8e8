"""Where a pipeline reads and writes: no two sinks in one place, and no sink where something is read.

Why before the run: what one sink writes another would destroy, and a source would read what it should not or lose what it
should.

Invariants: looks at files' names and identities, opens nothing; two names of one file are one place; the tables of one
database are places of their own, its file is one for whoever writes files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import NamedTuple

from engine.databases import Database
from engine.pipeline_file import Path, PipelineFile
from engine.problems import Problem

DATABASE = "database"


class _Use(NamedTuple):
    """What is read or written: a whole file (`table` is empty), a table, or what a query reads (`table` is None)."""

    who: str
    key: Path
    place: object
    table: str | None


def clashes(file: PipelineFile) -> Iterator[Problem]:
    """A problem for each sink that would write where something else writes or reads."""
    settings = file.settings
    before = [_Use("the pipeline file", (), _same_file(FilePath(file.path)), "")]
    before += _uses("the source", ("source",), settings.source.plugin, settings.source.options)
    for name, sink in settings.sinks.items():
        for use in _uses(f"sink {name}", ("sinks", name), sink.plugin, sink.options):
            other = next((one for one in before if _meet(one, use)), None)
            if other is not None:
                what = "path" if use.table == "" else "table" if other.table == use.table else "database"
                yield file.problem("PATH_TAKEN", use.key, f"expected a {what} of its own for {use.who}, found that of "
                                   f"{other.who}", f"name another {'table' if what == 'table' else 'file'}")
            before.append(use)


def files_written(file: PipelineFile) -> Iterator[tuple[Path, str, FilePath]]:
    """Each file that a sink writes to: the key that says so, the sink, the file."""
    for name, sink in file.settings.sinks.items():
        database, path = _database(sink.plugin, sink.options), sink.options.get("path")
        if database is not None and database.file is not None:
            yield ("sinks", name, "options", "url"), name, database.file
        elif isinstance(path, str):
            yield ("sinks", name, "options", "path"), name, FilePath(path)


def _uses(who: str, section: Path, plugin: str, options: Mapping[str, object]) -> list[_Use]:
    database, path, table = _database(plugin, options), options.get("path"), options.get("table")
    if database is not None:
        place = database.place if database.file is None else _same_file(database.file)
        return [_Use(who, (*section, "options", "table"), place, _same_table(database, table) if table else None)]
    return [_Use(who, (*section, "options", "path"), _same_file(FilePath(path)), "")] if isinstance(path, str) else []


def _meet(one: _Use, other: _Use) -> bool:
    same = one.table is not None and one.table == other.table
    return one.place == other.place and (same or "" in (one.table, other.table))


def _database(plugin: str, options: Mapping[str, object]) -> Database | None:
    """The database that a section names; None where it names none, or one that the plugin itself refuses."""
    url = options.get("url")
    if plugin != DATABASE or not isinstance(url, str):
        return None
    try:
        return Database(url)
    except ValueError:
        return None


def _same_table(database: Database, table: object) -> str:
    """SQLite does not tell names apart by their case, PostgreSQL has one schema that need not be said."""
    return str(table).lower() if database.file is not None else str(table).removeprefix("public.")


def _same_file(path: FilePath) -> object:
    """What two names of one file share, links of both kinds followed; a file that is not there yet has only its name."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return path.resolve()
    return found.st_dev, found.st_ino
