"""Where a ledger is kept: what SQLite files and PostgreSQL schemas have in common for the doors."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

import migrations
from counterfoil.boxes import Asked
from ledger.errors import LedgerUnavailable
from ledger.store import Store
from projections.read_tables import Shelf

FAULTS = (sqlite3.Error, SQLAlchemyError, OSError)
"""What a disk that is full, broken or read-only makes of a database's work."""


class Keeping(Protocol):
    """A place for one ledger. `shown` names it, without a secret."""

    shown: str

    def exists(self) -> bool:
        """Whether there is something; perhaps it is no ledger."""
        ...

    def recognise(self) -> None:
        """Raise `LedgerUnavailable` for what is no ledger, before anything in it is changed."""
        ...

    def revision(self) -> str | None:
        """The schema revision that the log stands at, or None."""
        ...

    def make(self, *, wait: bool) -> None:
        """Make a ledger where there is none; whoever looks sees a whole one or none."""
        ...

    def upgrade(self, *, wait: bool) -> list[str]:
        """Bring the log's schema to this version's; gives what is left for somebody else to do, in words.

        What is no ledger, or at no known revision, is left alone.
        """
        ...

    def safety(self) -> str | None:
        """Raise `LedgerUnavailable` (LEDGER_UNSAFE) where what is acknowledged may be lost; gives why nothing is written."""
        ...

    def store(self, *, write: bool, wait: bool) -> Store:
        """The log, open."""
        ...

    def shelf(self) -> Shelf:
        """The read tables."""
        ...

    def ask(self, sql: str, read_tables: str) -> Asked:
        """The answer to one SELECT over a generation of the read tables and the log (`counterfoil.boxes`)."""
        ...

    def is_part(self, path: Path) -> bool:
        """Whether a file is the ledger's own, or one that is kept beside it."""
        ...

    def absolute(self) -> str:
        """A URL that means the same ledger wherever one stands."""
        ...


def foreign_schema(keeping: Keeping) -> None:
    """Raise `LedgerUnavailable` (LEDGER_SCHEMA) for a revision that this version cannot upgrade from."""
    known, found = migrations.REVISIONS["log"], keeping.revision()
    if found not in known:
        expected = f"expected a schema from {known[0]} to {known[-1]}, found {found or 'none'}"
        raise LedgerUnavailable("LEDGER_SCHEMA", expected,
                                where=keeping.shown, next_step="use a version that knows this schema")


def said(error: BaseException) -> str:
    """What went wrong first: the database's own undoing of it may have failed too."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(getattr(error, "orig", None) or error).split())
