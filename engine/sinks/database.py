"""Rows into a table of a database, each write and its receipt in one transaction.

Why receipts in the target: after a crash between a write and its confirmation nobody here knows whether it was made. The
target knows, and answers a write that is made again under its key as it did the first time.

Invariants:
- A write's rows, its receipt and the check that no newer writer has come are one transaction: all of it or nothing.
- `if_exists` is heeded once in a run's life, in the transaction in which the run first opens the sink; a stop between that
  and the first write changes nothing, for the target remembers it.
- Which rows are refused before they are sent depends on the rows and the table, not on how they were put into writes.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Literal

import msgspec
import sqlalchemy as sa

from engine.databases import Database
from engine.plugin_api import Claim, Delivery, Prepared, Refusal, Written
from engine.rows import Row
from engine.schema import RowSchema, shown
from engine.sinks import database_columns as columns_of
from engine.sinks import database_receipts as receipts
from engine.sinks import database_rows as inserting
from engine.sinks import files

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(dict[str, object]).decode

_Way = Literal["together", "singly", "deferred"]
_WAYS: tuple[_Way, ...] = ("together", "singly", "deferred")


class DatabaseSink:
    """Writes to `table`. What is no text becomes its JSON in a column of text; a field that a row lacks has its default.

    With a `primary_key` a row that is there is updated in the fields that the new one has.
    """

    delivery: Delivery = "transactional"

    def __init__(
        self, *, url: str, table: str, if_exists: Literal["append", "replace", "fail"] = "append",
        primary_key: str | list[str] | None = None, schema: RowSchema | None = None,
    ) -> None:
        self._database = Database(url)
        self._named = table
        space, _, name = table.rpartition(".") if self._database.backend == "postgresql" else ("", "", table)
        if not name or "\0" in table or name.lower() in receipts.OWN_TABLES or name.lower().startswith("sqlite_"):
            raise ValueError(f"expected the name of a table of your own, found {shown(table)}")
        self._table, self._space = name, space or None
        self._if_exists = if_exists
        self._schema = schema
        self._primary_key = _names(primary_key)
        self._declared = columns_of.declared(schema)
        fault = self._schema_fault()
        if fault is not None:
            raise ValueError(fault)
        self._engine: sa.Engine | None = None
        self._claim = Claim()
        self._columns: columns_of.Columns | None = None
        self._made = False

    def open(self, claim: Claim) -> None:
        """See `engine.plugin_api.Sink`. Older writers of the run are shut out; to one of them it raises `Fenced`."""
        self.close(False)
        engine = self._database.engine("make")
        try:
            with self._database.faults(), engine.begin() as connection:
                again = receipts.raise_epoch(connection, claim)
                if not claim.is_held():
                    raise receipts.Fenced("FENCED: expected to be the run's writer, found that another carries it on")
                if claim.begun and not again:
                    raise self._fault("expected the database that this run has written to, found no trace of the run")
                if lost := receipts.missing(connection, claim):
                    raise self._fault(f"expected the receipts of all confirmed writes, found that {lost} are gone: the "
                                      "database is an older copy, or was changed")
                columns = self._found(connection, claim, again=again)
        finally:
            engine.dispose()
        self._claim, self._columns, self._made = claim, columns, columns is not None
        self._engine = self._database.engine("write")

    def offset(self) -> None:
        """See `engine.plugin_api.Sink`. A table has no end to be cut back to."""
        return

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """See `engine.plugin_api.Sink`. The content is a line of JSON a row, its fields sorted by name."""
        refused: list[Refusal] = []
        taken: list[bytes] = []
        for ordinal, row in enumerate(rows):
            refusal = self._refusal(ordinal, row)
            if refusal is None:
                taken.append(_encode(row) + b"\n")
            else:
                refused.append(refusal)
        return files.prepared(b"".join(taken), len(rows), refused)

    def write(self, prepared: Prepared, key: str) -> Written:
        """See `engine.plugin_api.Sink`. `size_bytes` is that of this write's content. Raises `Fenced` to an older writer."""
        rows = [_decode(line) for line in prepared.content.split(b"\n") if line]
        refused: dict[int, Refusal] = {}
        rejected: Exception | None = None
        with self._database.faults():
            for way in _WAYS:
                try:
                    return self._written(self._until_done(prepared, key, rows, refused, way))
                except (*inserting.REJECTIONS, inserting.Ignored) as error:
                    rejected = error
        raise self._fault(f"expected a target that says which rows it rejects, found {self._database.text(rejected)}"
                          if rejected else "expected a target that takes rows")

    def close(self, finished: bool) -> None:
        """See `engine.plugin_api.Sink`."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    # --- opening -------------------------------------------------------------------------------------------------

    def _found(self, connection: sa.Connection, claim: Claim, *, again: bool) -> columns_of.Columns | None:
        """The table's columns, once `if_exists` has been heeded; None where the first row will tell them."""
        if columns_of.is_view(connection, self._table, self._space):
            raise self._fault("expected a table, found a view")
        columns = columns_of.find(connection, self._table, self._space)
        if columns is None and again and receipts.has_rows(connection, claim):
            raise self._fault("expected the table that this run has written to, found none")
        if columns is not None and not again:
            if self._if_exists == "fail":
                raise self._fault("expected no table of that name, found one", errno.EEXIST)
            if self._if_exists == "replace":
                columns_of.drop(connection, self._table, self._space)
                columns = None
        if columns is None and self._schema is not None and self._schema.mode == "fixed":
            columns = self._declared
            self._create(connection, columns)
        if columns is not None and self._primary_key:
            self._check_key(connection)
        return columns

    def _check_key(self, connection: sa.Connection) -> None:
        if not columns_of.is_unique(connection, self._table, self._space, self._primary_key):
            raise self._fault(f"expected a primary key or a unique index over {', '.join(self._primary_key)}, found none")

    def _create(self, connection: sa.Connection, columns: columns_of.Columns) -> None:
        schema = self._schema
        required = frozenset(one.name for one in schema.fields if not one.optional and one.type != "any"
                             ) if schema and schema.mode != "observed" else frozenset()
        columns_of.create(connection, self._table, self._space, columns, required, self._primary_key)

    # --- preparing -----------------------------------------------------------------------------------------------

    def _schema_fault(self) -> str | None:
        fixed = self._schema is not None and self._schema.mode == "fixed"
        for name in self._primary_key if fixed else ():
            if name not in self._declared:
                return f"expected the primary key among the schema's fields, found no {shown(name)}"
        return columns_of.naming_fault([*self._declared], self._name_bytes_max())

    def _name_bytes_max(self) -> int:
        return 63 if self._database.backend == "postgresql" else 255

    def _refusal(self, ordinal: int, row: Row) -> Refusal | None:
        if self._schema is not None and (wrong := self._schema.check(row)) is not None:
            return Refusal(ordinal, "schema", wrong)
        for name in self._primary_key:
            if row.get(name) is None:
                return Refusal(ordinal, "primary_key", f"field {shown(name)}: expected a value, found none")
        columns = self._columns
        wrong = None if row else "expected at least one field, found none"
        if columns is None:
            columns = columns_of.of_first_row(row, self._declared)
            wrong = wrong or columns_of.naming_fault([*columns], self._name_bytes_max())
        extra = next((name for name in row if name not in columns), None)
        if extra is not None:
            wrong = f"field {shown(extra)}: expected only the columns of the table, found one more"
        if wrong is not None:
            return Refusal(ordinal, "columns", wrong)
        wrong = columns_of.value_fault(row, columns)
        if wrong is not None:
            return Refusal(ordinal, "type", wrong)
        self._columns = columns
        return None

    # --- writing -------------------------------------------------------------------------------------------------

    def _until_done(self, prepared: Prepared, key: str, rows: list[dict[str, object]], refused: dict[int, Refusal],
                    way: _Way) -> receipts.Receipt:
        """Each time that a rejected row undoes the transaction there is one row less to be tried."""
        while True:
            try:
                return self._transaction(prepared, key, rows, refused, way)
            except inserting.Undone:
                continue

    def _transaction(self, prepared: Prepared, key: str, rows: list[dict[str, object]], refused: dict[int, Refusal],
                     way: _Way) -> receipts.Receipt:
        if self._engine is None:
            raise self._fault("expected an open sink, found it closed", errno.EBADF)
        with self._engine.begin() as connection:
            receipts.check_epoch(connection, self._claim)
            receipt = receipts.find(connection, key)
            if receipt is not None:
                return self._same(receipt, prepared)
            self._insert(connection, rows, refused, way)
            receipt = receipts.Receipt(prepared.content_sha256, len(prepared.content), prepared.ordinals,
                                       tuple([refused[place] for place in sorted(refused)]))
            receipts.keep(connection, self._claim, key, receipt)
        self._made = self._made or bool(rows)
        return receipt

    def _insert(self, connection: sa.Connection, rows: list[dict[str, object]], refused: dict[int, Refusal], way: _Way
                ) -> None:
        if self._columns is None or not rows:
            return
        if not self._made:
            self._create(connection, self._columns)
        target = inserting.Target(self._database, self._table, self._space, self._columns, self._primary_key)
        if way == "together":
            inserting.insert(connection, target, rows)
        else:
            inserting.insert_singly(connection, target, rows, refused, deferred=way == "deferred")

    def _same(self, receipt: receipts.Receipt, prepared: Prepared) -> receipts.Receipt:
        """What was written under the key stands; it can be answered again only if it was of the same rows."""
        if receipt.ordinals != prepared.ordinals:
            raise self._fault("expected the rows that were written under this key before, found others: the pipeline was "
                              "changed since")
        return receipt

    def _written(self, receipt: receipts.Receipt) -> Written:
        return Written(f"{self._database.shown}#{self._named}", receipt.size_bytes, receipt.content_sha256, receipt.refused)

    def _fault(self, text: str, number: int = errno.EIO) -> OSError:
        return OSError(number, text, f"{self._database.shown}#{self._named}")


def _names(primary_key: str | list[str] | None) -> tuple[str, ...]:
    names = (primary_key,) if isinstance(primary_key, str) else tuple(primary_key or ())
    if primary_key is not None and (not names or len(set(names)) < len(names) or not all(names)):
        raise ValueError(f"expected a column, or several different ones, as primary_key, found {primary_key!r:.80}")
    return names
