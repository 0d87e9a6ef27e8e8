"""What a database sink keeps in its target beside the rows: who may write, and what was written under each key.

Why in the target: only there is it one transaction with the rows. What the ledger knows is known a moment later.

Invariants: the epoch of a (ledger, run, sink) never falls; a receipt is there if and only if its rows are, less those that
the target refused; nothing here is derived from rows but the texts of refusals.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from engine.plugin_api import Claim, Refusal

KEYS_PER_LOOK = 500
METADATA = sa.MetaData()

EPOCHS = sa.Table(
    "counterfoil_epochs", METADATA,
    sa.Column("ledger", sa.Text, primary_key=True),
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("sink", sa.Text, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
)  # fmt: skip
RECEIPTS = sa.Table(
    "counterfoil_receipts", METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("ledger", sa.Text, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("sink", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("content_sha256", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("ordinals", sa.Text, nullable=False),
    sa.Column("refused", sa.Text, nullable=False),
    sa.Column("inserted", sa.BigInteger, nullable=False),
)  # fmt: skip
OWN_TABLES = frozenset(METADATA.tables)


class Fenced(OSError):
    """A newer writer has opened the sink: this one writes nothing any more."""


class Receipt(NamedTuple):
    """What a write came to: the places that were offered, what was refused of them (places within those)."""

    content_sha256: str
    size_bytes: int
    ordinals: tuple[int, ...]
    refused: tuple[Refusal, ...]


def raise_epoch(connection: sa.Connection, claim: Claim) -> bool:
    """Let in nobody older from here on; gives whether this run had opened the sink before. Raises `Fenced`."""
    METADATA.create_all(connection)
    stored = _stored(connection, claim)
    if stored is None:
        connection.execute(sa.insert(EPOCHS).values(**_of(claim), epoch=claim.epoch))
        return False
    if stored > claim.epoch:
        raise _fenced(claim, stored)
    connection.execute(sa.update(EPOCHS).where(*_is(EPOCHS, claim)).values(epoch=claim.epoch))
    return True


def check_epoch(connection: sa.Connection, claim: Claim) -> None:
    """Raises `Fenced` unless the claim is the newest; from here to the end of the transaction it stays so."""
    stored = _stored(connection, claim)
    if stored != claim.epoch:
        raise _fenced(claim, stored)


def find(connection: sa.Connection, key: str) -> Receipt | None:
    """The receipt of a write."""
    columns = RECEIPTS.c
    row = connection.execute(sa.select(columns.content_sha256, columns.size_bytes, columns.ordinals, columns.refused)
                             .where(columns.key == key)).one_or_none()
    if row is None:
        return None
    refused = msgspec.json.decode(row.refused, type=list[tuple[int, str, str]])
    ordinals = msgspec.json.decode(row.ordinals, type=tuple[int, ...])
    return Receipt(row.content_sha256, row.size_bytes, ordinals, tuple([Refusal(*one) for one in refused]))


def keep(connection: sa.Connection, claim: Claim, key: str, receipt: Receipt) -> None:
    """Put a receipt beside its rows."""
    connection.execute(sa.insert(RECEIPTS).values(
        **_of(claim), key=key, epoch=claim.epoch, content_sha256=receipt.content_sha256, size_bytes=receipt.size_bytes,
        ordinals=msgspec.json.encode(receipt.ordinals).decode(),
        refused=msgspec.json.encode([tuple(one) for one in receipt.refused]).decode(),
        inserted=len(receipt.ordinals) - len(receipt.refused)))


def missing(connection: sa.Connection, claim: Claim) -> int:
    """How many confirmed writes have left no receipt: those that a target has lost, which was put back to an older state."""
    keys, lost = iter(claim.keys), 0
    while some := list(islice(keys, KEYS_PER_LOOK)):
        there = sa.select(sa.func.count()).where(*_is(RECEIPTS, claim), RECEIPTS.c.key.in_(some))
        lost += len(some) - connection.execute(there).scalar_one()
    return lost


def has_rows(connection: sa.Connection, claim: Claim) -> bool:
    """Whether this run's sink has put any row into the target."""
    found = sa.select(RECEIPTS.c.key).where(*_is(RECEIPTS, claim), RECEIPTS.c.inserted > 0).limit(1)
    return connection.execute(found).one_or_none() is not None


def _stored(connection: sa.Connection, claim: Claim) -> int | None:
    """The epoch that is let in, its row locked."""
    found = sa.select(EPOCHS.c.epoch).where(*_is(EPOCHS, claim)).with_for_update()
    epoch = connection.execute(found).scalar_one_or_none()
    return None if epoch is None else int(epoch)


def _of(claim: Claim) -> dict[str, str]:
    return {"ledger": claim.ledger, "run": claim.run, "sink": claim.sink}


def _is(table: sa.Table, claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.ledger == claim.ledger, table.c.run == claim.run, table.c.sink == claim.sink


def _fenced(claim: Claim, stored: int | None) -> Fenced:
    found = "no trace of it" if stored is None else f"epoch {stored}"
    return Fenced(f"FENCED: expected to be the newest writer of run {claim.run} at sink {claim.sink} (epoch {claim.epoch}), "
                  f"found {found}; nothing was written")
