"""Rows from a table or a query of a database, in the order of a column of ints that tells each of them apart.

Why by key: a row's position is its value in that column, so a resume reads on from there and reads nothing twice. It reads
the row at that place once more, to see that there is only one of it.

Why in pages where reading blocks writing: a SQLite file without a write-ahead log takes no commit while it is read, and a
sink may write to the file that the source reads. Elsewhere all rows come from one snapshot.

Invariants: positions rise; a value that no row can hold makes its row invalid; a row that has no place, or shares it, ends
the source, also when it is resumed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from hashlib import sha256

import sqlalchemy as sa

from engine.databases import Database, blocks_writers
from engine.plugin_api import RowFault, SourceIdentity, SourceRow
from engine.rows import check_row
from engine.schema import RowSchema, shown
from engine.sources import database_values as values_of
from engine.sources import files

PAGE_ROWS = 2000
PAGE_CHARS = 2**22
FETCH_ROWS = 200

_PLAIN = frozenset({type(None), bool, int, float, str})


class DatabaseSource:
    """Reads `table`, or what `query` selects. Dates, times, decimals and UUIDs are text, bytes their hex digits."""

    def __init__(
        self, *, url: str, order_by: str, table: str | None = None, query: str | None = None,
        schema: RowSchema | None = None,
    ) -> None:
        if (table is None) == (query is None):
            raise ValueError(f"expected a table or a query, found {'none' if table is None else 'both'}")
        query = query.strip().removesuffix(";").strip() if query is not None else None
        if query == "" or table == "" or not order_by or "\0" in f"{table}{query}{order_by}":
            raise ValueError("expected a table or a query, and a column in order_by, found none")
        self._database = Database(url)
        self._table = table
        self._query = query
        self._order_by = order_by
        self._schema = schema
        self._bools = frozenset(one.name for one in schema.fields if one.type == "bool") if schema else frozenset()
        self._reading: Generator[SourceRow, None, None] | None = None

    def identity(self) -> SourceIdentity:
        """See `engine.plugin_api.Source`. Raises ValueError when `order_by` names no column. Size and hash are not known."""
        engine = self._database.engine("read")
        try:
            with self._database.faults(), engine.connect() as connection:
                self._names(connection.execute(sa.text(f"SELECT * FROM {self._rows_of(connection)} WHERE 1 = 0")))
        finally:
            engine.dispose()
        what = self._table or f"query-{sha256((self._query or '').encode()).hexdigest()[:16]}"
        return SourceIdentity("database", f"{self._database.shown}#{what}", None, None)

    def rows(self, after: int | None) -> Iterator[SourceRow]:
        """See `engine.plugin_api.Source`. Raises ValueError where `order_by` is no int, or not each once; OSError."""
        self._reading = self._read(after)
        return self._reading

    def close(self) -> None:
        """See `engine.plugin_api.Source`."""
        files.end_reading(self._reading)

    def _read(self, after: int | None) -> Generator[SourceRow, None, None]:
        engine = self._database.engine("read")
        try:
            with self._database.faults():
                while True:
                    with engine.connect() as connection:
                        pages = self._pages(connection, after)
                        if not blocks_writers(connection):
                            for page in pages:
                                yield from page
                            return
                        page = next(pages, [])
                        pages.close()
                    if not page:
                        return
                    yield from page
                    after = page[-1].position
        finally:
            engine.dispose()

    def _pages(self, connection: sa.Connection, after: int | None) -> Generator[list[SourceRow], None, None]:
        """The rows past `after`, some at a time; those before one that has no place come first."""
        page: list[SourceRow] = []
        chars = 0
        try:
            with closing(self._placed(connection, after)) as placed:
                for position, names, values in placed:
                    page.append(self._row(position, names, values))
                    chars += sum([len(value) for value in values if isinstance(value, (str, bytes))])
                    if len(page) == PAGE_ROWS or chars > PAGE_CHARS:
                        yield page
                        page, chars = [], 0
        except ValueError:
            if page:
                yield page
            raise
        if page:
            yield page

    def _placed(self, connection: sa.Connection, after: int | None
                ) -> Generator[tuple[int, list[str], Sequence[object]], None, None]:
        """Each row past `after`: its value of `order_by`, names, values. Raises ValueError."""
        rows_of, column = self._rows_of(connection), self._column(connection)
        if connection.execute(sa.text(f"SELECT 1 FROM {rows_of} WHERE {column} IS NULL LIMIT 1")).first() is not None:
            raise self._misplaced("found null")
        bound = "" if after is None else f" WHERE {column} >= :after"
        statement = sa.text(f"SELECT * FROM {rows_of}{bound} ORDER BY {column}")
        declared = self._bools | self._declared_bools(connection)
        connection.execution_options(yield_per=FETCH_ROWS)
        with closing(connection.execute(statement, {} if after is None else {"after": after})) as result:
            names = self._names(result)
            bools = [names.index(name) for name in declared if name in names]
            place = names.index(self._order_by)
            last: int | None = None
            for row in result:
                position = row[place]
                if type(position) is not int:
                    raise self._misplaced(f"found {shown(position)}{'' if last is None else f' after {last}'}")
                if last is not None and position <= last:
                    raise self._misplaced(f"found {position} after {last}")
                last = position
                if position != after:
                    yield position, names, values_of.with_bools(row, bools) if bools else row

    def _row(self, position: int, names: list[str], values: Sequence[object]) -> SourceRow:
        row = dict(zip(names, values, strict=True))
        if not _PLAIN.issuperset(map(type, values)):
            row = {name: values_of.json_value(value) for name, value in row.items()}
        if any(map(files.has_wrong_bytes, [value for value in values if type(value) is str])):
            return SourceRow(position, values_of.recordable(row), files.wrong_bytes("UTF-8"))
        wrong = check_row(row)
        if wrong is not None:
            return SourceRow(position, values_of.recordable(row), RowFault("bad_value", wrong))
        if self._schema is not None:
            row, wrong = self._schema.coerce(row)
        return SourceRow(position, row, None if wrong is None else RowFault("schema", wrong))

    def _rows_of(self, connection: sa.Connection) -> str:
        """What is selected from, for `sqlalchemy.text`: colons are escaped, a comment at a query's end is ended."""
        if self._query is not None:
            return f"({_escaped(self._query)}\n) AS counterfoil_rows"
        quote = connection.dialect.identifier_preparer.quote_identifier
        parts = (self._table or "").split(".") if self._database.backend == "postgresql" else [self._table or ""]
        return f"{_escaped('.'.join(map(quote, parts)))} AS counterfoil_rows"

    def _column(self, connection: sa.Connection) -> str:
        """Qualified, for SQLite takes a quoted name that no column has for a text."""
        return f"counterfoil_rows.{_escaped(connection.dialect.identifier_preparer.quote_identifier(self._order_by))}"

    def _names(self, result: sa.CursorResult[tuple[object, ...]]) -> list[str]:
        names = [str(name) for name in result.keys()]  # noqa: SIM118 - a result is no dict
        if len(set(names)) < len(names):
            raise ValueError(f"{self._database.shown}: expected each column once, found {', '.join(names)[:200]}")
        if self._order_by not in names:
            raise ValueError(f"{self._database.shown}: expected a column {shown(self._order_by)} for order_by, found "
                             f"{', '.join(names)[:200]}")
        return names

    def _declared_bools(self, connection: sa.Connection) -> frozenset[str]:
        """The columns of truth values of a SQLite table, which keeps them as 0 and 1."""
        if self._table is None or connection.dialect.name != "sqlite":
            return frozenset()
        columns = sa.inspect(connection).get_columns(self._table)
        return frozenset(one["name"] for one in columns if isinstance(one["type"], sa.Boolean))

    def _misplaced(self, found: str) -> ValueError:
        return ValueError(f"{self._database.shown}: expected ints that rise and are each there once in column "
                          f"{shown(self._order_by)}, which order_by names, {found}")


def _escaped(sql: str) -> str:
    return sql.replace(":", "\\:")
