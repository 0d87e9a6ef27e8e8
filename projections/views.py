"""The promised read tables (docs/read-tables.md), as views over the compact ones.

Invariants: names, columns and the forms of values (ISO times, hex hashes, JSON texts) are what others rely on; every row
is keyed by `run_id` first; a test holds the columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

CHUNK = 64
"""Payload hashes in one row of `p_payloads`."""


def _iso(column: str) -> str:
    """Microseconds as UTC ISO 8601 with microseconds."""
    seconds = f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000, 'unixepoch')"
    return f"CASE WHEN {column} IS NULL THEN NULL ELSE {seconds} || printf('.%06dZ', {column} % 1000000) END"


def _hex(n: str) -> str:
    """The hash of a payload by number; NULL for one that only a list payload commits to."""
    return (f"(SELECT nullif(nullif(lower(hex(substr(h.hashes, ({n} - 1) % {CHUNK} * 32 + 1, 32))), ''), '{'0' * 64}') "
            f"FROM p_payloads h WHERE h.run = t.run AND h.chunk = ({n} - 1) / {CHUNK})")


def _born(by: int) -> str:
    return f"CASE t.born_by WHEN {by} THEN t.born_of END"


def _ended(outcome: str) -> str:
    return f"CASE t.outcome WHEN '{outcome}' THEN t.ended_of END"


def _view(table: str, columns: str) -> str:
    return f"SELECT r.run_id, {columns} FROM {table} t JOIN p_runs r ON r.run = t.run"


LISTS_CHARS_MAX = 4096
"""A group of more branches than fit here is told once, in `coalesce_groups`, and not again with each token that it held."""


def _list(column: str) -> str:
    return f"'{column}', CASE WHEN length(g.expected_branches) <= {LISTS_CHARS_MAX} THEN json(g.{column}) END"


_FACTS = (
    "CASE WHEN t.group_id IS NULL THEN NULL ELSE (SELECT json_object('coalesce', g.coalesce, 'group_id', g.group_id, "
    "'status', g.status, 'trigger', g.trigger, 'failure_reason', g.failure_reason, 'policy', g.policy, "
    f"'merge_strategy', g.merge_strategy, {_list('expected_branches')}, {_list('branches_arrived')}, "
    f"{_list('branches_lost')}, {_list('branches_missing')}, {_list('arrival_order')}, "
    f"'merged_token_id', g.merged_token_id, 'wait_duration_ms', g.wait_duration_ms, {_list('collisions')}) "
    "FROM p_groups g WHERE g.run = t.run AND g.group_id = t.group_id) END"
)

VIEWS: Mapping[str, str] = {
    "runs": (
        f"SELECT t.run_id, t.pipeline, t.status, {_iso('t.started_us')} AS started_at, {_iso('t.sealed_us')} AS sealed_at, "
        "t.settings_hash, t.rows_read, t.tokens, t.late_arrivals, t.events, nullif(lower(hex(t.root)), '') AS root, "
        "t.unreadable_from_seq FROM p_runs t"
    ),
    "nodes": _view("p_nodes", "t.node_id, t.node_id AS name, t.kind, t.plugin, t.plugin_version, t.settings_hash, t.step"),
    "edges": _view("p_edges", "t.edge_id, t.from_node, t.to_node, t.label, t.mode, "
                   "CASE t.mode WHEN 'divert' THEN 'divert' ELSE 'normal' END AS flow_type"),
    "rows": _view("p_rows", "t.row_index, CAST(t.row_index AS TEXT) AS token_id, t.valid, t.source_position, t.source_key, "
                  f"{_hex('t.data')} AS data_hash, t.seq"),
    "tokens": _view("p_tokens", f"t.token_id, t.row_index, t.branch_name, {_born(1)} AS fork_group_id, "
                    f"{_born(2)} AS join_group_id, {_born(3)} AS expand_group_id, {_born(4)} AS batch_id, "
                    f"{_hex('t.data')} AS data_hash, t.seq"),
    "token_parents": _view("p_token_parents", "t.token_id, t.parent_token_id, t.ordinal"),
    "node_states": _view("p_states", "t.token_id, t.node_id, (SELECT n.step FROM p_nodes n WHERE n.run = t.run AND "
                         "n.node_id = t.node_id) AS step_index, t.attempt, t.status, "
                         f"{_hex('t.input')} AS input_hash, {_hex('t.output')} AS output_hash, "
                         f"{_iso('t.started_us')} AS started_at, t.duration_us / 1000.0 AS duration_ms, t.error, "
                         f"{_FACTS} AS context, t.opened_seq, t.closed_seq"),
    "routing_events": _view("p_routing", "t.seq, t.ordinal, t.token_id, t.node_id, t.edge_id, t.mode, t.routing_group_id, "
                            f"t.reason, {_hex('t.reason_n')} AS reason_hash"),
    "token_outcomes": _view("p_tokens", f"t.token_id, t.outcome, t.sink_name, {_ended('forked')} AS fork_group_id, "
                            f"{_ended('coalesced')} AS join_group_id, {_ended('expanded')} AS expand_group_id, "
                            f"{_ended('consumed_in_batch')} AS batch_id, {_hex('t.error_n')} AS error_hash, t.reason, "
                            "t.ended_seq AS seq") + " WHERE t.outcome IS NOT NULL",
    "coalesce_groups": _view("p_groups", "t.coalesce, t.group_id, t.row_index, t.status, t.trigger, t.failure_reason, "
                             "t.policy, t.merge_strategy, t.expected_branches, t.branches_arrived, t.branches_lost, "
                             "t.branches_missing, t.arrival_order, t.merged_token_id, t.wait_duration_ms, t.collisions, "
                             "t.opened_seq, t.closed_seq"),
    "batches": _view("p_batches", "t.batch_id, t.aggregation, t.number, t.status, t.trigger, t.size, t.opened_seq, "
                     "t.closed_seq, t.attempts, t.rejected, t.outputs, t.error"),
    "batch_members": _view("p_batch_members", "t.batch_id, t.token_id, t.ordinal"),
    "calls": _view("p_calls", "t.token_id, t.node_id, t.attempt, t.call_index, t.kind, t.status, "
                   f"{_hex('t.request')} AS request_hash, {_hex('t.response')} AS response_hash, "
                   "t.latency_us / 1000.0 AS latency_ms, t.seq"),
    "sink_writes": _view("p_sink_writes", "t.sink, r.run_id || '/' || t.sink || '/' || t.number AS write_id, t.tokens, "
                         "t.status, t.uri, t.size_bytes, t.content_hash, t.idempotency_key, t.seq"),
    "violations": _view("p_violations", "t.law, t.seq, t.token_id, t.expected, t.found"),
    "projection_places": _view("p_places", "t.projector, t.fingerprint, r.run_id AS stream, t.seq"),
}
"""View name to its SELECT."""

TOLD: Sequence[str] = tuple(name for name in VIEWS if name != "projection_places")
"""The views that tell of runs: what a rebuild must give again, row for row."""


def statements() -> list[str]:
    """The DDL of every view."""
    return [f"CREATE VIEW {name} AS {select}" for name, select in VIEWS.items()]
