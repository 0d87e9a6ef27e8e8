"""The log's tables: streams, events, payloads, and the guards that keep them append-only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ledger import postgres_guards
from ledger.guards import TRIGGERS

revision = "0001_log"
down_revision = None
branch_labels = ("log",)
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables and their guards."""
    op.create_table(
        "streams",
        sa.Column("stream", BIG, primary_key=True),
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("size", BIG, nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("frontier", sa.LargeBinary, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.UniqueConstraint("run_id"),
    )
    op.create_table(
        "events",
        sa.Column("stream", BIG, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("v", sa.Integer, nullable=False),
        sa.Column("token", TEXT),
        sa.Column("row_index", BIG),
        sa.Column("at", BIG, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("stream", "seq"),
    )
    op.create_table(
        "payloads",
        sa.Column("stream", BIG, nullable=False),
        sa.Column("n", BIG, nullable=False),
        sa.Column("salt", sa.LargeBinary),
        sa.Column("bytes", sa.LargeBinary),
        sa.Column("permanent", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("stream", "n"),
    )
    connection = op.get_bind()
    for guard in TRIGGERS.values() if connection.dialect.name == "sqlite" else postgres_guards.statements():
        connection.exec_driver_sql(guard)
