"""The event store on PostgreSQL: many runs at once, one writer each.

Why so: a stream's row is locked for an append, its size and epoch compared, the events sent by `COPY`; nothing is shared
between runs but the ledger's own stream, which is appended to at the beginning and the end of each.

Invariants: an append is one transaction; when its connection is cut it is not known whether it was committed, so the
stream is read again: what is there is acknowledged, what is not is sent again, byte for byte, and what somebody else put
there is a conflict. The tables, triggers and rights are alembic's, this file only checks that they are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from ledger import postgres_guards
from ledger.errors import LedgerUnavailable
from ledger.postgres_copy import COPY_EVENTS, COPY_PAYLOADS, event_rows, payload_rows
from ledger.postgres_session import PATIENCE, Patience, Session, lock_key
from ledger.postgres_url import PostgresUrl
from ledger.rows import EARLY, FETCH_ROWS, pages, payload_of
from ledger.store import Part, Payload, StoreConflict, Stored, StreamHead

Asked = TypeVar("Asked")

ATTEMPTS_MAX = 50
"""How often one append is sent to a server that takes connections and cuts them again."""

_NUL = "\0"
"""No text on PostgreSQL holds it, so no stream's name does."""

_HEAD = "SELECT run_id, size, epoch, root, frontier, status FROM streams"
_LOCK = ("SELECT s.stream, s.size, s.epoch, (SELECT coalesce(max(n), 0) FROM payloads p WHERE p.stream = s.stream) "
         "FROM streams s WHERE s.run_id = %s FOR UPDATE OF s")
_STRAYS = (
    "WITH RECURSIVE found(stream) AS ((SELECT min(stream) FROM {table}) UNION ALL SELECT (SELECT min(e.stream) "
    "FROM {table} e WHERE e.stream > found.stream) FROM found WHERE found.stream IS NOT NULL) "
    "SELECT stream FROM found WHERE stream IS NOT NULL AND stream NOT IN (SELECT stream FROM streams)"
)


class PostgresStore:
    """A ledger's log in one schema of a database."""

    def __init__(self, url: PostgresUrl, *, write: bool, wait: bool = False, patience: Patience = PATIENCE) -> None:
        self.url = url.shown
        self._url = url
        self._wait = wait
        self._ids: dict[str, int] = {}
        self._in_snapshot = False
        self._listens: object = None
        self._session = Session(url, write=write, search_path=f'"{url.schema}"', patience=patience)

    # --- writing -------------------------------------------------------------------------------------------------

    def append(self, parts: Sequence[Part]) -> None:
        """See `ledger.store.Store`."""
        from psycopg import Error

        with self._session.faults():
            try:
                self._append(parts)
            except Error as error:
                if not self._session.is_cut(error):
                    raise
                self._settle(parts)
            self._tell()

    def _settle(self, parts: Sequence[Part]) -> None:
        """After a cut: acknowledge what is stored, send again what is not."""
        from psycopg import Error

        for _ in range(ATTEMPTS_MAX):
            self._session.reopen()
            try:
                if not self._are_stored(parts):
                    self._append(parts)
                return
            except StoreConflict:
                if self._are_stored(parts):  # the end that was cut off had not been done with it when we first looked
                    return
                raise
            except Error as error:
                if not self._session.is_cut(error):
                    raise
        raise self._unanswered()

    def _are_stored(self, parts: Sequence[Part]) -> bool:
        return all(self._is_stored(part) for part in parts)

    def _is_stored(self, part: Part) -> bool:
        """Whether this very part is in the log: its events and payloads as given, or, of one without any, its head."""
        run = part.head.run
        if not part.events and not part.payloads:
            return self.head(run) == part.head
        first = part.expected_size or 0
        if part.events and list(self.read(run, first, first + len(part.events))) != list(part.events):
            return False
        kept = self.payloads(run, [payload.n for payload in part.payloads])
        return all(kept.get(payload.n) in (payload, *_erased(payload)) for payload in part.payloads)

    def _append(self, parts: Sequence[Part]) -> None:
        with self._transaction():
            for part in parts:
                self._append_part(part)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """By hand, since the driver's own one says on stderr what it could not undo on a connection that is gone."""
        from psycopg import Error
        from psycopg.pq import TransactionStatus

        raw = self._session.raw
        raw.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        try:
            yield
            raw.execute("COMMIT")
        except BaseException:
            if raw.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                with suppress(Error):  # whoever cannot be told to undo it is gone, and it with him
                    raw.execute("ROLLBACK")
            raise

    def _append_part(self, part: Part) -> None:
        raw, head = self._session.raw, part.head
        stream = self._begin(part)
        with raw.cursor() as cursor:
            if part.events:
                with cursor.copy(COPY_EVENTS) as copy:
                    copy.write(event_rows(stream, part.events))
            if part.payloads:
                with cursor.copy(COPY_PAYLOADS) as copy:
                    for block in payload_rows(stream, part.payloads):
                        copy.write(block)
            cursor.execute("UPDATE streams SET size = %s, epoch = %s, root = %s, frontier = %s, status = %s "
                           "WHERE stream = %s", (*head[1:], stream))

    def _begin(self, part: Part) -> int:
        """The stream's number, its row locked, once it stands where the writer thinks it does; a new stream is made."""
        from psycopg.errors import UniqueViolation

        raw, run = self._session.raw, part.head.run
        row = raw.execute(_LOCK, (run,)).fetchone()
        found = None if row is None else (row[1], row[2])
        expected = None if part.expected_size is None else (part.expected_size, part.expected_epoch)
        if found != expected:
            raise StoreConflict(run, f"{expected or 'none'}", f"{found or 'none'}")
        _check_numbers(part, row[3] if row else 0)
        if row is not None:
            return int(row[0])
        try:
            made = raw.execute("INSERT INTO streams (run_id, size, epoch, root, frontier, status) "
                               "VALUES (%s, 0, 0, '', '', 'running') RETURNING stream", (run,)).fetchone()
        except UniqueViolation:
            raise StoreConflict(run, "none", "one that was made meanwhile") from None
        return int(made[0]) if made else 0

    def hold(self, run: str) -> None:
        """See `ledger.store.Store`: an advisory lock, which ends with the connection however that ends."""
        from psycopg import Error

        key = lock_key(self._url, f"run/{run}")
        refusal = LedgerUnavailable("RUN_HELD", "expected a run that nobody writes, found a process that does",
                                    where=f"run {run}", next_step="let it end, or stop it; or use --wait")
        with self._session.faults():
            for _ in range(ATTEMPTS_MAX):
                try:
                    return self._session.lock(key, refusal, wait=self._wait)
                except Error as error:
                    if not self._session.is_cut(error):
                        raise
                try:
                    self._session.reopen()
                except LedgerUnavailable:
                    self._session.unlock(key)
                    raise
        raise self._unanswered()

    def _tell(self) -> None:
        """Wake who follows. No commit waits for it, nobody relies on it, and what was stored is stored if it fails."""
        from psycopg import Error

        raw = self._session.raw
        with suppress(Error):
            try:
                raw.execute(f"BEGIN; SET LOCAL synchronous_commit TO off; NOTIFY \"{self._url.schema}\"; COMMIT")
            except Error:
                raw.execute("ROLLBACK")

    # --- reading -------------------------------------------------------------------------------------------------

    def head(self, run: str) -> StreamHead | None:
        """See `ledger.store.Store`."""
        row = self._select(f"{_HEAD} WHERE run_id = %s", (run,)) if _NUL not in run else []
        return StreamHead._make(row[0]) if row else None

    def heads(self) -> list[StreamHead]:
        """See `ledger.store.Store`."""
        return [StreamHead._make(row) for row in self._select(f"{_HEAD} ORDER BY stream", ())]

    def read(self, run: str, after: int = 0, until: int | None = None) -> Iterator[Stored]:
        """See `ledger.store.Store`."""
        stream = self._stream(run)
        last = until if until is not None else 2**62
        if stream is not None:
            for rows in pages(after, lambda place: self._select(
                    "SELECT seq, type, v, token, row_index, at, body FROM events "
                    "WHERE stream = %s AND seq > %s AND seq <= %s ORDER BY seq LIMIT %s",
                    (stream, place, last, FETCH_ROWS))):
                yield from map(Stored._make, rows)

    def payloads(self, run: str, numbers: Sequence[int]) -> dict[int, Payload]:
        """See `ledger.store.Store`."""
        stream = self._stream(run)
        if stream is None or not numbers:
            return {}
        rows = self._select("SELECT n, salt, bytes, permanent FROM payloads WHERE stream = %s AND n = ANY(%s)",
                            (stream, list(numbers)))
        return {row[0]: payload_of(row) for row in rows}

    def payloads_between(self, run: str, first: int, last: int) -> Iterator[Payload]:
        """See `ledger.store.Store`."""
        stream = self._stream(run)
        if stream is not None:
            for rows in pages(first - 1, lambda place: self._select(
                    "SELECT n, salt, bytes, permanent FROM payloads "
                    "WHERE stream = %s AND n > %s AND n <= %s ORDER BY n LIMIT %s", (stream, place, last, FETCH_ROWS))):
                yield from map(payload_of, rows)

    def kinds(self) -> list[tuple[str, int, int]]:
        """See `ledger.store.Store`."""
        return [(row[0], row[1], row[2]) for row in self._select(
            'SELECT type, v, count(*) FROM events GROUP BY type, v ORDER BY type COLLATE "C", v', ())]

    def wait(self, seconds: float) -> None:
        """See `ledger.store.Store`: `LISTEN`, which a cut connection forgets and the next call asks for again."""
        from psycopg import Error

        with self._session.faults():
            try:
                raw = self._session.raw
                if self._listens is not raw:
                    raw.execute(f'LISTEN "{self._url.schema}"')
                    self._listens = raw
                    return
                for _ in raw.notifies(timeout=seconds, stop_after=1):
                    return
            except Error as error:
                if not self._session.is_cut(error):
                    raise
                self._session.reopen()

    def guards(self) -> list[str]:
        """See `ledger.store.Store`: triggers as migrated, nothing else in the schema, nobody who may change a thing."""
        schema = (f'"{self._url.schema}"',)
        faults = postgres_guards.of_triggers(self._select(postgres_guards.FOUND_TRIGGERS, schema))
        faults += postgres_guards.of_relations(self._select(postgres_guards.FOUND_RELATIONS, schema))
        faults += postgres_guards.of_keys(self._select(postgres_guards.FOUND_KEYS, schema))
        faults += postgres_guards.of_functions(self._select(postgres_guards.FOUND_FUNCTIONS, schema))
        rights = self._select(postgres_guards.FOUND_RIGHTS, (*schema, ["streams", "events", "payloads"]))
        faults += [f"role {role} may {right} {table}" for table, role, right in rights]
        for table, place in (("events", "seq"), ("payloads", "n")):
            strays = self._select(_STRAYS.format(table=table), ())
            faults += [f"{table} of stream {stream} are of no run" for (stream,) in strays]
            early = self._select(EARLY.format(table=table, place=place), ())
            faults += [f"{table} of run {run} have one before the first" for (run,) in early]
        return faults

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See `ledger.store.Store`: one transaction that sees what was committed when it began."""
        from psycopg import Error

        if self._in_snapshot:
            yield
            return
        self._again(lambda: self._session.raw.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        self._in_snapshot = True
        try:
            yield
        finally:
            self._in_snapshot = False
            with suppress(Error):  # all was read; a connection that is gone takes its transaction with it
                self._session.raw.execute("ROLLBACK")

    def close(self) -> None:
        """See `ledger.store.Store`."""
        self._session.close()

    def _stream(self, run: str) -> int | None:
        if run not in self._ids:
            row = self._select("SELECT stream FROM streams WHERE run_id = %s", (run,)) if _NUL not in run else []
            if not row:
                return None
            self._ids[run] = row[0][0]
        return self._ids[run]

    def _select(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        """All rows. Reading again is safe, so a cut is waited out, except inside a snapshot, which is gone with it."""
        def select() -> list[Any]:
            with self._session.raw.cursor(binary=True) as cursor:
                return cursor.execute(statement, values).fetchall()

        return self._again(select)

    def _again(self, ask: Callable[[], Asked]) -> Asked:
        """What a question gives that may be asked again on a new connection."""
        from psycopg import Error

        with self._session.faults():
            for _ in range(ATTEMPTS_MAX):
                try:
                    return ask()
                except Error as error:
                    if self._in_snapshot or not self._session.is_cut(error):
                        raise
                    self._session.reopen()
        raise self._unanswered()

    def _unanswered(self) -> LedgerUnavailable:
        return LedgerUnavailable("LEDGER_UNREACHABLE", f"expected an answer, found {ATTEMPTS_MAX} connections cut one after "
                                 "the other", where=self.url, next_step="mend the network, then go on or resume the run")


def _check_numbers(part: Part, payloads: int) -> None:
    """A part begins where its stream ends and has no gap; nothing else here would notice one."""
    run, first = part.head.run, (part.expected_size or 0) + 1
    if part.head.size != first - 1 + len(part.events):
        raise StoreConflict(run, f"a head of size {first - 1 + len(part.events)}", f"size {part.head.size}")
    if any(event.seq != seq for seq, event in enumerate(part.events, first)):
        raise StoreConflict(run, f"events {first}..{part.head.size}", "a gap or a repetition")
    if any(payload.n != n for n, payload in enumerate(part.payloads, payloads + 1)):
        raise StoreConflict(run, f"payloads from {payloads + 1}", "a gap or a repetition")


def _erased(payload: Payload) -> tuple[Payload, ...]:
    """What somebody else may have made of it meanwhile."""
    return () if payload.permanent else (Payload(payload.n, None, None),)
