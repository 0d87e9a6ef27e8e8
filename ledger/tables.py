"""The log's tables as SQLAlchemy metadata: what the migrations of the branch `log` make, for those who ask for shapes.

Invariant: a test holds this equal to what alembic makes; alembic alone makes it.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

BIG = BigInteger().with_variant(Integer(), "sqlite")
TEXT = Text().with_variant(Text(collation="C"), "postgresql")

streams = Table(
    "streams",
    metadata,
    Column("stream", BIG, primary_key=True),
    Column("run_id", TEXT, nullable=False),
    Column("size", BIG, nullable=False),
    Column("epoch", BIG, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
    Column("status", TEXT, nullable=False),
    UniqueConstraint("run_id"),
)

events = Table(
    "events",
    metadata,
    Column("stream", BIG, nullable=False),
    Column("seq", BIG, nullable=False),
    Column("type", TEXT, nullable=False),
    Column("v", Integer, nullable=False),
    Column("token", TEXT),
    Column("row_index", BIG),
    Column("at", BIG, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("stream", "seq"),
    CheckConstraint("seq > 0", name="events_seq_check").ddl_if(dialect="postgresql"),  # on SQLite a trigger says so
)

payloads = Table(
    "payloads",
    metadata,
    Column("stream", BIG, nullable=False),
    Column("n", BIG, nullable=False),
    Column("salt", LargeBinary),
    Column("bytes", LargeBinary),
    Column("permanent", Integer, nullable=False, server_default="0"),
    PrimaryKeyConstraint("stream", "n"),
    CheckConstraint("n > 0", name="payloads_n_check").ddl_if(dialect="postgresql"),
)
