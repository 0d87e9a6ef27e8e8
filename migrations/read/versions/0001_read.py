"""The read tables: compact tables, and over them the promised views. Never a data migration: a rebuild fills them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from projections.views import statements

revision = "0001_read"
down_revision = None
branch_labels = ("read",)
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

TABLES = {
    "p_payloads": ("chunk", "chunk+ hashes=!"),
    "p_nodes": ("node_id", "node_id! kind plugin plugin_version settings_hash step#"),
    "p_edges": ("edge_id", "edge_id! from_node to_node label mode"),
    "p_rows": ("row_index", "row_index+ valid# source_position# source_key data# seq#"),
    "p_tokens": ("token_id", "token_id! row_index# branch_name born_by# born_of data# seq# outcome sink_name ended_of "
                 "error_n# reason ended_seq#"),
    "p_token_parents": ("token_id ordinal", "token_id! ordinal+ parent_token_id!"),
    "p_states": ("token_id opened_seq", "token_id! opened_seq+ node_id attempt# status input# output# started_us# "
                 "duration_us# error group_id closed_seq#"),
    "p_routing": ("token_id seq ordinal", "seq+ ordinal+ token_id! node_id edge_id mode routing_group_id reason reason_n#"),
    "p_groups": ("group_id", "group_id! coalesce row_index# status trigger failure_reason policy merge_strategy "
                 "expected_branches branches_arrived branches_lost branches_missing arrival_order merged_token_id "
                 "wait_duration_ms# collisions opened_seq# closed_seq#"),
    "p_batches": ("batch_id", "batch_id! aggregation number# status trigger size# opened_seq# closed_seq# attempts# "
                  "rejected# outputs# error"),
    "p_batch_members": ("batch_id ordinal", "batch_id! ordinal+ token_id"),
    "p_calls": ("token_id seq", "seq+ token_id! node_id attempt# call_index# kind status request# response# latency_us#"),
    "p_sink_writes": ("number", "number+ sink tokens status uri size_bytes# content_hash idempotency_key seq#"),
    "p_violations": ("seq law", "seq+ law! token_id expected found"),
    "p_places": ("projector", "projector! fingerprint seq#"),
}
"""Table to its key after `run`, and its columns: text, `!` text not null, `#` integer, `+` integer not null, `=` bytes."""

PARTIAL = (
    ("p_rows_by_key", "p_rows", "source_key", "source_key IS NOT NULL"),
    ("p_tokens_open", "p_tokens", "run seq", "outcome IS NULL"),
    ("p_groups_open", "p_groups", "run opened_seq", "status = 'open'"),
)
"""Index, table, columns, condition. A key of any length has to fit: on PostgreSQL its hash is what is indexed."""


def upgrade() -> None:
    """Make the tables, their indexes and the views."""
    op.create_table(
        "p_runs",
        sa.Column("run", BIG, primary_key=True),
        *map(_column, ("run_id!", "pipeline", "status", "started_us#", "sealed_us#", "settings_hash", "rows_read#",
                       "tokens#", "late_arrivals#", "events#", "root=", "unreadable_from_seq#")),
        sa.UniqueConstraint("run_id"),
    )
    for name, (key, columns) in TABLES.items():
        op.create_table(name, _column("run+"), *map(_column, columns.split()),
                        sa.PrimaryKeyConstraint("run", *key.split()), sqlite_with_rowid=False)
    for name, table, columns, where in PARTIAL:
        op.create_index(name, table, columns.split(), sqlite_where=sa.text(where), postgresql_where=sa.text(where),
                        postgresql_using="hash" if columns == "source_key" else "btree")
    op.create_index("p_token_parents_by_parent", "p_token_parents", ["run", "parent_token_id"])
    op.create_index("p_batch_members_by_token", "p_batch_members", ["run", "token_id"])
    op.create_index("p_sink_writes_by_seq", "p_sink_writes", ["run", "seq"], unique=True)
    connection = op.get_bind()
    for statement in statements("sqlite" if connection.dialect.name == "sqlite" else "postgresql"):
        connection.execute(sa.text(statement.replace(":", "\\:")))


def _column(spec: str) -> sa.Column[object]:
    name = spec.rstrip("!#+=")
    signs = spec[len(name) :]
    kind: sa.types.TypeEngine[Any] = sa.LargeBinary() if "=" in signs else BIG if signs in ("#", "+") else TEXT
    return sa.Column(name, kind, nullable=not (signs == "+" or "!" in signs))
