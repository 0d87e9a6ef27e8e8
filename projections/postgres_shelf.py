"""The read tables of a ledger on PostgreSQL: generations in schemas of their own, `<schema>_read_<n>`.

A new generation is filled in `<schema>_read_new` and swapped in by giving it the next number; in the same transaction the
views of `<schema>_read`, the name that others rely on, turn to it. Why not that one name for the tables themselves: a name
is looked up anew for every statement, so an answer of several statements would come of two generations.

Invariants: a generation is dropped only when there is a later one beside the newest, and only if nobody reads it (each
reader shares a lock of its name); what a killed rebuild left is gone on with if it was for the same purpose: every
transaction of it is whole, also after a crash of the server, and is waited for while the server is still at it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from ledger.errors import LedgerUnavailable
from ledger.postgres_session import MEMBER, Session, lock_key
from ledger.postgres_url import PostgresUrl
from projections.postgres_shapes import drop, foreign, holds_tables, is_whole, misled
from projections.postgres_tables import PostgresTables, reading_key, writing_key
from projections.read_tables import KEPT, ReadTables
from projections.tables import metadata
from projections.views import VIEW_NAMES

TURNS_MAX = 120
TURN_MS = 250
"""How often, and for how long each time, a swap waits for those who read the views. Each time is shorter than what the
server takes for a deadlock (`deadlock_timeout`, a second), so that no reader is ended for it.
"""

MakeSchema = Callable[[str], None]
"""Makes the read tables in a new schema of that name: the migrations' part, which the doors hand in."""


class _Purpose(msgspec.Struct, frozen=True):
    """What a shadow is for, the keys and indexes it has still to get, and whether it has them. The schema's comment."""

    purpose: str
    later: list[str]
    finished: bool


class PostgresShelf:
    """The generations of one ledger. See `projections.read_tables.Shelf`. `owner` is the role that owns them, if any."""

    def __init__(self, url: PostgresUrl, make: MakeSchema) -> None:
        self._url = url
        self._make = make
        self._base = f"{url.schema}_read"

    @contextmanager
    def _session(self) -> Iterator[Session]:
        session = Session(self._url, write=False, search_path="pg_catalog")
        try:
            with session.faults():
                if role := writer_role(session, self._url.schema):
                    session.raw.execute(f'SET ROLE "{role}"')
                yield session
        finally:
            session.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """See `Shelf`: an advisory lock, which a process that is killed lets go of."""
        with self._held("read"):
            yield

    @contextmanager
    def rebuilding(self) -> Iterator[None]:
        """See `Shelf`: the same with another lock."""
        with self._held("rebuild"):
            yield

    @contextmanager
    def _held(self, what: str) -> Iterator[None]:
        with self._session() as session:
            refusal = LedgerUnavailable("LEDGER_BUSY", "expected to be the one that writes the read tables, found another",
                                        where=self._url.shown, next_step="wait for it")
            session.lock(lock_key(self._url, what), refusal, wait=True)
            yield

    def generation(self) -> str | None:
        """See `Shelf`."""
        with self._session() as session:
            found = self._generations(session)
        return found[-1][1] if found else None

    def open(self, name: str, *, write: bool = False, shared: bool = False) -> PostgresTables:
        """See `Shelf`. With `shared` others may write the same tables."""
        owner = None
        if write:
            with self._session() as session:
                owner = writer_role(session, self._url.schema)
        return PostgresTables(self._url, name, write=write, owner=owner, shared=shared)

    def is_of_this_schema(self, name: str) -> bool:
        """See `Shelf`: nothing is missing of tables, columns, indexes and views."""
        with self._session() as session:
            return is_whole(session, name)

    @contextmanager
    def shadow(self, purpose: str, base: str | None = None, without: str | None = None) -> Iterator[PostgresShadow]:
        """See `Shelf`."""
        with self._session() as session:
            made = PostgresShadow(self, session, purpose, base, without)
            try:
                with session.faults():
                    yield made
            except Exception as error:
                if not (isinstance(error, LedgerUnavailable) and error.code in KEPT):
                    made.remove()
                raise
            finally:
                made.close()

    @contextmanager
    def part(self, number: int) -> Iterator[PostgresTables]:
        """See `Shelf`: the shadow's own tables, for the server orders who writes; the share of a lock says that one does."""
        with self.open(f"{self._base}_new", write=True, shared=True) as tables:
            yield tables

    @contextmanager
    def scratch(self) -> Iterator[PostgresTables]:
        """See `Shelf`."""
        name = f"{self._base}_compared"
        with self._session() as session:
            drop(session, name)
            self._make(name)
            try:
                with self.open(name, write=True) as tables:
                    yield tables
            finally:
                drop(session, name)

    def differences(self, name: str, other: ReadTables, views: Sequence[str], run: str, limit: int
                    ) -> list[tuple[str, str, dict[str, Any]]]:
        """See `Shelf`."""
        found: list[tuple[str, str, dict[str, Any]]] = []
        with self.open(name) as tables:
            for view in views:
                for side, one, two in (("here", name, other.where), ("there", other.where, name)):
                    sql = (f'SELECT * FROM "{one}".{view} WHERE run_id = ? EXCEPT ALL SELECT * FROM "{two}".{view} '
                           f"WHERE run_id = ? LIMIT {limit}")
                    found += [(view, side, row) for row in tables.records(sql, (run, run))]
        return [*found, *self.misled(name, run)]

    def misled(self, name: str, run: str) -> list[tuple[str, str, dict[str, Any]]]:
        """The views that others rely on and that show something else than the tables of that name."""
        with self._session() as session:
            found = misled(session, self._base, name)
        return [(view, "here", {"run_id": run, "found": f"{self._base}.{view}, which does not show {name}.{view}"})
                for view in found]

    def _generations(self, session: Session) -> list[tuple[int, str]]:
        found = session.raw.execute("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)",
                                    (f"{self._base}_",)).fetchall()
        matches = [re.fullmatch(rf"{self._base}_([0-9]+)", name) for (name,) in found]
        return sorted((int(match[1]), match[0]) for match in matches if match and holds_tables(session, match[0]))

    def next_name(self, session: Session) -> str:
        """What the next generation is called: whoever has a schema with such a name, it is not given twice."""
        found = session.raw.execute("SELECT substr(nspname, %s) FROM pg_namespace WHERE nspname ~ %s",
                                    (len(self._base) + 2, rf"^{self._base}_[0-9]+$")).fetchall()
        return f"{self._base}_{max((int(number) for (number,) in found), default=0) + 1}"


class PostgresShadow:
    """The schema `<schema>_read_new`. See `projections.read_tables.Shadow`. Its processes fill the same tables."""

    def __init__(self, shelf: PostgresShelf, session: Session, purpose: str, base: str | None, without: str | None) -> None:
        self._shelf = shelf
        self._session = session
        self._name = f"{shelf._base}_new"
        self._tables: PostgresTables | None = None
        self._alone()
        left = self._left()
        if left is None or left.purpose != purpose:
            left = self._begun(purpose, base, without)
        self._purpose = left

    @property
    def is_finished(self) -> bool:
        """See `Shadow`."""
        return self._purpose.finished

    def _alone(self) -> None:
        """Wait for what outlived the rebuild it helped, and for what the server still does for one that was killed.

        Each of them holds a share of this lock; so does this session from now on.
        """
        key = writing_key(self._shelf._url, self._name)
        busy = LedgerUnavailable("LEDGER_BUSY", "expected to be the one that rebuilds, found another",
                                 where=self._shelf._url.shown, next_step="wait for it")
        self._session.lock(key, busy, wait=True)
        self._session.raw.execute("SELECT pg_advisory_lock_shared(%s)", (key,))
        self._session.unlock(key)

    def _left(self) -> _Purpose | None:
        row = self._session.raw.execute(
            "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", (self._name,)).fetchone()
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(row[0], type=_Purpose) if row and row[0] else None
        return None

    def _begun(self, purpose: str, base: str | None, without: str | None) -> _Purpose:
        self.remove()
        self._shelf._make(self._name)
        raw, later = self._session.raw, []
        with raw.transaction():
            raw.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # the base may be caught up meanwhile
            if base is not None:
                for table in metadata.tables:
                    raw.execute(f'INSERT INTO "{self._name}".{table} SELECT * FROM "{base}".{table} WHERE run NOT IN '
                                f'(SELECT run FROM "{base}".p_runs WHERE run_id = %s)', (without,))
            else:
                later = self._without_indexes()
            return self._say(_Purpose(purpose, later, finished=False))

    def _say(self, purpose: _Purpose) -> _Purpose:
        text = msgspec.json.encode(purpose).decode().replace("'", "''")
        self._session.raw.execute(f"COMMENT ON SCHEMA \"{self._name}\" IS '{text}'")
        return purpose

    def _without_indexes(self) -> list[str]:
        """Drop keys and indexes of the new tables, but for those of the two small ones; gives what makes them again."""
        raw, later = self._session.raw, []
        rows = raw.execute(
            "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE connamespace = %s::regnamespace AND contype IN ('p', 'u')", (f'"{self._name}"',)).fetchall()
        for table, name, definition in rows:
            if not table.endswith((".p_runs", ".p_places", ".alembic_version")):
                later.append(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
                raw.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        for name, definition in raw.execute(
                "SELECT quote_ident(schemaname) || '.' || quote_ident(indexname), indexdef FROM pg_indexes "
                "WHERE schemaname = %s AND tablename NOT IN ('p_runs', 'p_places', 'alembic_version')",
                (self._name,)).fetchall():
            later.append(definition)
            raw.execute(f"DROP INDEX {name}")
        return later

    def tables(self) -> PostgresTables:
        """See `Shadow`."""
        if self._tables is None:
            self._tables = self._shelf.open(self._name, write=True, shared=True)
        return self._tables

    def gather(self) -> None:
        """See `Shadow`: there is nothing apart."""

    def finish(self) -> None:
        """See `Shadow`. Statistics are made at once, not when the server comes to it."""
        raw = self._session.raw
        known = {row[0] for row in raw.execute("SELECT indexdef FROM pg_indexes WHERE schemaname = %s",
                                               (self._name,)).fetchall()}
        keyed = {row[0] for row in raw.execute("SELECT conname FROM pg_constraint WHERE connamespace = %s::regnamespace",
                                               (f'"{self._name}"',)).fetchall()}
        for statement in self._purpose.later:
            constraint = re.search(r"ADD CONSTRAINT \"?(\w+)", statement)
            if statement not in known and not (constraint and constraint[1] in keyed):
                raw.execute(statement)
        for table in metadata.tables:
            raw.execute(f'ANALYZE "{self._name}".{table}')
        if not self._purpose.finished:
            self._purpose = self._say(msgspec.structs.replace(self._purpose, finished=True))

    def swap_in(self) -> str:
        """See `Shadow`."""
        self.close()
        found = self._shelf._generations(self._session)
        name = self._shelf.next_name(self._session)
        for _ in range(TURNS_MAX):
            if self._swapped(name):
                break
        else:
            raise LedgerUnavailable("LEDGER_BUSY", f"expected to turn the views of {self._shelf._base} to the new tables, "
                                    "found sessions that keep reading them", where=self._shelf._url.shown,
                                    next_step="let those transactions end, then rebuild: it goes on from here")
        for _, old in found[:-1]:
            self._drop_unread(old)
        return name

    def _swapped(self, name: str) -> bool:
        """Do it, unless somebody who reads the views is in the way."""
        from psycopg.errors import LockNotAvailable

        base, raw = self._shelf._base, self._session.raw
        try:
            with raw.transaction():
                raw.execute("SET LOCAL synchronous_commit = on")
                raw.execute(f"SET LOCAL lock_timeout = {TURN_MS}")
                raw.execute(f'COMMENT ON SCHEMA "{self._name}" IS NULL')
                raw.execute(f'ALTER SCHEMA "{self._name}" RENAME TO "{name}"')
                raw.execute(f'CREATE SCHEMA IF NOT EXISTS "{base}"')
                for view in VIEW_NAMES:
                    self._turn(f'"{base}".{view}', f'"{name}".{view}')
                let_read(self._session, self._shelf._url.schema, (base, name))
        except LockNotAvailable:
            return False
        return True

    def _turn(self, view: str, to: str) -> None:
        """Others' rights on a view, and their own views over it, stay, as long as its columns do."""
        from psycopg.errors import InvalidTableDefinition

        raw = self._session.raw
        try:
            with raw.transaction():
                raw.execute(f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM {to}")
        except InvalidTableDefinition:
            raw.execute(f"DROP VIEW {view}")
            raw.execute(f"CREATE VIEW {view} AS SELECT * FROM {to}")

    def _drop_unread(self, name: str) -> None:
        """A generation that somebody still reads goes with a later swap."""
        from psycopg.errors import LockNotAvailable

        if foreign(self._session, name) is not None:
            return
        raw, key = self._session.raw, reading_key(self._shelf._url, name)
        row = raw.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
        if row is None or not row[0]:
            return
        with suppress(LockNotAvailable), raw.transaction():
            raw.execute("SET LOCAL lock_timeout = '1s'")
            raw.execute(f'DROP SCHEMA "{name}" CASCADE')
        raw.execute("SELECT pg_advisory_unlock(%s)", (key,))

    def remove(self) -> None:
        """Remove the schema."""
        self.close()
        if not self._session.raw.closed:
            drop(self._session, self._name)

    def close(self) -> None:
        """Let go of the tables; the schema stays."""
        if self._tables is not None:
            self._tables.close()
            self._tables = None


def writer_role(session: Session, schema: str) -> str | None:
    """The role of those who write this ledger, when there is one and we have it."""
    row = session.raw.execute("SELECT rolname FROM pg_roles WHERE rolname = %s "
                              f"AND pg_has_role(session_user, oid, {MEMBER})", (f"{schema}_writer",)).fetchone()
    return str(row[0]) if row else None


def let_read(session: Session, schema: str, names: Sequence[str]) -> None:
    """Let the role of those who only read see these schemas, when there is one."""
    role = f"{schema}_reader"
    if session.raw.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None:
        for name in names:
            session.raw.execute(f'GRANT USAGE ON SCHEMA "{name}" TO "{role}"')
            session.raw.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA "{name}" TO "{role}"')

