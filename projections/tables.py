"""The read tables as they are stored: compact, keyed by a small number for the run, hashes as bytes, payloads by number.

Why compact: a row leaves about four states behind it; names and hashes would be most of their bytes. What others rely on
(docs/read-tables.md) are the views of `projections.views` over these.

Invariants: a test holds this equal to what alembic makes; nobody but `projections.read_tables` writes here. Times are
microseconds since the epoch, durations microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

BIG = BigInteger().with_variant(Integer(), "sqlite")
TEXT = Text().with_variant(Text(collation="C"), "postgresql")


def _big(name: str, *, null: bool = True) -> Column[Any]:
    return Column(name, BIG, nullable=null)


def _text(name: str, *, null: bool = True) -> Column[Any]:
    return Column(name, TEXT, nullable=null)


def _table(name: str, key: str, *columns: Column[Any] | Index | UniqueConstraint) -> Table:
    return Table(name, metadata, _big("run", null=False), *columns, PrimaryKeyConstraint("run", *key.split()),
                 sqlite_with_rowid=False)


def _partial(name: str, where: str, *columns: str, using: str = "btree") -> Index:
    """An index of few of the rows. A key of any length has to fit: on PostgreSQL its hash is what is indexed."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where), postgresql_using=using)


runs = Table(
    "p_runs",
    metadata,
    Column("run", BIG, primary_key=True),
    _text("run_id", null=False),
    _text("pipeline"),
    _text("status"),
    _big("started_us"),
    _big("sealed_us"),
    _text("settings_hash"),
    _big("rows_read"),
    _big("tokens"),
    _big("late_arrivals"),
    _big("events"),
    Column("root", LargeBinary),
    _big("unreadable_from_seq"),
    UniqueConstraint("run_id"),
)

payloads = _table("p_payloads", "chunk", _big("chunk", null=False), Column("hashes", LargeBinary, nullable=False))
"""The hashes of 64 payloads, one after the other: payload `n` is number `(n - 1) % 64` of chunk `(n - 1) / 64`."""

nodes = _table(
    "p_nodes", "node_id", _text("node_id", null=False), _text("kind"), _text("plugin"), _text("plugin_version"),
    _text("settings_hash"), _big("step"),
)  # fmt: skip

edges = _table(
    "p_edges", "edge_id", _text("edge_id", null=False), _text("from_node"), _text("to_node"), _text("label"),
    _text("mode"),
)  # fmt: skip

rows = _table(
    "p_rows", "row_index", _big("row_index", null=False), _big("valid"), _big("source_position"), _text("source_key"),
    _big("data"), _big("seq"),
    _partial("p_rows_by_key", "source_key IS NOT NULL", "source_key", using="hash"),
)  # fmt: skip

tokens = _table(
    "p_tokens", "token_id", _text("token_id", null=False), _big("row_index"), _text("branch_name"), _big("born_by"),
    _text("born_of"), _big("data"), _big("seq"), _text("outcome"), _text("sink_name"), _text("ended_of"), _big("error_n"),
    _text("reason"), _big("ended_seq"), _partial("p_tokens_open", "outcome IS NULL", "run", "seq"),
)  # fmt: skip
"""A token with its birth (`born_by` 1 fork, 2 join, 3 expansion, 4 batch; `born_of` that group) and its end."""

token_parents = _table(
    "p_token_parents", "token_id ordinal", _text("token_id", null=False), _big("ordinal", null=False),
    _text("parent_token_id", null=False), Index("p_token_parents_by_parent", "run", "parent_token_id"),
)  # fmt: skip

states = _table(
    "p_states", "token_id opened_seq", _text("token_id", null=False), _big("opened_seq", null=False), _text("node_id"),
    _big("attempt"), _text("status"), _big("input"), _big("output"), _big("started_us"), _big("duration_us"),
    _text("error"), _text("group_id"), _big("closed_seq"),
)  # fmt: skip

routing = _table(
    "p_routing", "token_id seq ordinal", _big("seq", null=False), _big("ordinal", null=False), _text("token_id", null=False),
    _text("node_id"), _text("edge_id"), _text("mode"), _text("routing_group_id"), _text("reason"), _big("reason_n"),
)  # fmt: skip

groups = _table(
    "p_groups", "group_id", _text("group_id", null=False), _text("coalesce"), _big("row_index"), _text("status"),
    _text("trigger"), _text("failure_reason"), _text("policy"), _text("merge_strategy"), _text("expected_branches"),
    _text("branches_arrived"), _text("branches_lost"), _text("branches_missing"), _text("arrival_order"),
    _text("merged_token_id"), _big("wait_duration_ms"), _text("collisions"), _big("opened_seq"), _big("closed_seq"),
    _partial("p_groups_open", "status = 'open'", "run", "opened_seq"),
)  # fmt: skip

batches = _table(
    "p_batches", "batch_id", _text("batch_id", null=False), _text("aggregation"), _big("number"), _text("status"),
    _text("trigger"), _big("size"), _big("opened_seq"), _big("closed_seq"), _big("attempts"), _big("rejected"),
    _big("outputs"), _text("error"),
)  # fmt: skip

batch_members = _table(
    "p_batch_members", "batch_id ordinal", _text("batch_id", null=False), _big("ordinal", null=False), _text("token_id"),
    Index("p_batch_members_by_token", "run", "token_id"),
)  # fmt: skip

calls = _table(
    "p_calls", "token_id seq", _big("seq", null=False), _text("token_id", null=False), _text("node_id"), _big("attempt"),
    _big("call_index"), _text("kind"), _text("status"), _big("request"), _big("response"), _big("latency_us"),
)  # fmt: skip

sink_writes = _table(
    "p_sink_writes", "number", _big("number", null=False), _text("sink"), _text("tokens"), _text("status"), _text("uri"),
    _big("size_bytes"), _text("content_hash"), _text("idempotency_key"), _big("seq"),
    Index("p_sink_writes_by_seq", "run", "seq", unique=True),
)  # fmt: skip

violations = _table(
    "p_violations", "seq law", _big("seq", null=False), _text("law", null=False), _text("token_id"), _text("expected"),
    _text("found"),
)  # fmt: skip

places = _table(
    "p_places", "projector", _text("projector", null=False), _text("fingerprint"), _big("seq"),
)  # fmt: skip

COLUMNS: Mapping[str, str] = {name: " ".join(column.name for column in table.c) for name, table in metadata.tables.items()}
"""Table to its columns, in order."""

INDEXES: Mapping[str, str] = {str(index.name): table.name for table in metadata.tables.values() for index in table.indexes}
"""Index to its table, beside the keys."""
