"""The promised read tables (docs/read-tables.md), as views over the compact ones.

Invariants: names, columns and the forms of values (ISO times, hex hashes, JSON texts) are what others rely on, and the same
on both databases (law P5); every row is keyed by `run_id` first; a test holds the columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

Dialect = Literal["sqlite", "postgresql"]

CHUNK = 64
"""Payload hashes in one row of `p_payloads`."""


LISTS_CHARS_MAX = 4096
"""A group of more branches than fit here is told once, in `coalesce_groups`, and not again with each token that it held."""


class _Words(Protocol):
    """What the two databases say in different words."""

    def iso(self, column: str) -> str:
        """Microseconds as UTC ISO 8601 with microseconds."""
        ...

    def hex(self, column: str) -> str:
        """Bytes as lower-case hex."""
        ...

    def milliseconds(self, column: str) -> str:
        """Microseconds as a double."""
        ...

    def text(self, value: str) -> str:
        """A text as JSON, NULL as null."""
        ...


class _Sqlite(NamedTuple):
    def iso(self, column: str) -> str:
        seconds = f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000, 'unixepoch')"
        return f"CASE WHEN {column} IS NULL THEN NULL ELSE {seconds} || printf('.%06dZ', {column} % 1000000) END"

    def hex(self, column: str) -> str:
        return f"lower(hex({column}))"

    def milliseconds(self, column: str) -> str:
        return f"{column} / 1000.0"

    def text(self, value: str) -> str:
        return f"json_quote({value})"


class _Postgres(NamedTuple):
    def iso(self, column: str) -> str:
        time = f"timestamp 'epoch' + {column} * interval '1 microsecond'"
        return f"to_char({time}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"

    def hex(self, column: str) -> str:
        return f"encode({column}, 'hex')"

    def milliseconds(self, column: str) -> str:
        return f"{column} / 1000.0::float8"

    def text(self, value: str) -> str:
        return f"coalesce(to_json({value})::text, 'null')"


_WORDS: Mapping[Dialect, _Words] = {"sqlite": _Sqlite(), "postgresql": _Postgres()}

_TEXTS = ("coalesce", "group_id", "status", "trigger", "failure_reason", "policy", "merge_strategy")
_LISTS = ("expected_branches", "branches_arrived", "branches_lost", "branches_missing", "arrival_order")


def _facts(words: _Words) -> str:
    """What a group's row says, as the `context` of a state that was held in it: JSON, keys in the order of the columns."""
    def pair(name: str, value: str) -> str:
        return f"'\"{name}\":' || {value}"

    def listed(name: str) -> str:
        return pair(name, f"coalesce(CASE WHEN length(g.expected_branches) <= {LISTS_CHARS_MAX} THEN g.{name} END, 'null')")

    pairs = [*(pair(name, words.text(f"g.{name}")) for name in _TEXTS), *map(listed, _LISTS),
             pair("merged_token_id", words.text("g.merged_token_id")),
             pair("wait_duration_ms", "coalesce(CAST(g.wait_duration_ms AS TEXT), 'null')"), listed("collisions")]
    return ("CASE WHEN t.group_id IS NULL THEN NULL ELSE (SELECT '{' || " + " || ',' || ".join(pairs) + " || '}' "
            "FROM p_groups g WHERE g.run = t.run AND g.group_id = t.group_id) END")


def _hashed(words: _Words, n: str) -> str:
    """The hash of a payload by number; NULL for one that only a list payload commits to."""
    found = words.hex(f"substr(h.hashes, CAST(({n} - 1) % {CHUNK} * 32 + 1 AS INTEGER), 32)")
    return (f"(SELECT nullif(nullif({found}, ''), '{'0' * 64}') "
            f"FROM p_payloads h WHERE h.run = t.run AND h.chunk = ({n} - 1) / {CHUNK})")


def _born(by: int) -> str:
    return f"CASE t.born_by WHEN {by} THEN t.born_of END"


def _ended(outcome: str) -> str:
    return f"CASE t.outcome WHEN '{outcome}' THEN t.ended_of END"


def _view(table: str, columns: str) -> str:
    return f"SELECT r.run_id, {columns} FROM {table} t JOIN p_runs r ON r.run = t.run"


def views(dialect: Dialect) -> dict[str, str]:
    """View name to its SELECT, in a database's own words."""
    words = _WORDS[dialect]
    return {
        "runs": (
            f"SELECT t.run_id, t.pipeline, t.status, {words.iso('t.started_us')} AS started_at, "
            f"{words.iso('t.sealed_us')} AS sealed_at, t.settings_hash, t.rows_read, t.tokens, t.late_arrivals, t.events, "
            f"nullif({words.hex('t.root')}, '') AS root, t.unreadable_from_seq FROM p_runs t"
        ),
        "nodes": _view("p_nodes", "t.node_id, t.node_id AS name, t.kind, t.plugin, t.plugin_version, t.settings_hash, "
                       "t.step"),
        "edges": _view("p_edges", "t.edge_id, t.from_node, t.to_node, t.label, t.mode, "
                       "CASE t.mode WHEN 'divert' THEN 'divert' ELSE 'normal' END AS flow_type"),
        "rows": _view("p_rows", "t.row_index, CAST(t.row_index AS TEXT) AS token_id, t.valid, t.source_position, "
                      f"t.source_key, {_hashed(words, 't.data')} AS data_hash, t.seq"),
        "tokens": _view("p_tokens", f"t.token_id, t.row_index, t.branch_name, {_born(1)} AS fork_group_id, "
                        f"{_born(2)} AS join_group_id, {_born(3)} AS expand_group_id, {_born(4)} AS batch_id, "
                        f"{_hashed(words, 't.data')} AS data_hash, t.seq"),
        "token_parents": _view("p_token_parents", "t.token_id, t.parent_token_id, t.ordinal"),
        "node_states": _view("p_states", "t.token_id, t.node_id, (SELECT n.step FROM p_nodes n WHERE n.run = t.run AND "
                             "n.node_id = t.node_id) AS step_index, t.attempt, t.status, "
                             f"{_hashed(words, 't.input')} AS input_hash, {_hashed(words, 't.output')} AS output_hash, "
                             f"{words.iso('t.started_us')} AS started_at, "
                             f"{words.milliseconds('t.duration_us')} AS duration_ms, t.error, "
                             f"{_facts(words)} AS context, t.opened_seq, t.closed_seq"),
        "routing_events": _view("p_routing", "t.seq, t.ordinal, t.token_id, t.node_id, t.edge_id, t.mode, "
                                f"t.routing_group_id, t.reason, {_hashed(words, 't.reason_n')} AS reason_hash"),
        "token_outcomes": _view("p_tokens", f"t.token_id, t.outcome, t.sink_name, {_ended('forked')} AS fork_group_id, "
                                f"{_ended('coalesced')} AS join_group_id, {_ended('expanded')} AS expand_group_id, "
                                f"{_ended('consumed_in_batch')} AS batch_id, {_hashed(words, 't.error_n')} AS error_hash, "
                                "t.reason, t.ended_seq AS seq") + " WHERE t.outcome IS NOT NULL",
        "coalesce_groups": _view("p_groups", "t.coalesce, t.group_id, t.row_index, t.status, t.trigger, t.failure_reason, "
                                 "t.policy, t.merge_strategy, t.expected_branches, t.branches_arrived, t.branches_lost, "
                                 "t.branches_missing, t.arrival_order, t.merged_token_id, t.wait_duration_ms, t.collisions, "
                                 "t.opened_seq, t.closed_seq"),
        "batches": _view("p_batches", "t.batch_id, t.aggregation, t.number, t.status, t.trigger, t.size, t.opened_seq, "
                         "t.closed_seq, t.attempts, t.rejected, t.outputs, t.error"),
        "batch_members": _view("p_batch_members", "t.batch_id, t.token_id, t.ordinal"),
        "calls": _view("p_calls", "t.token_id, t.node_id, t.attempt, t.call_index, t.kind, t.status, "
                       f"{_hashed(words, 't.request')} AS request_hash, {_hashed(words, 't.response')} AS response_hash, "
                       f"{words.milliseconds('t.latency_us')} AS latency_ms, t.seq"),
        "sink_writes": _view("p_sink_writes", "t.sink, r.run_id || '/' || t.sink || '/' || t.number AS write_id, t.tokens, "
                             "t.status, t.uri, t.size_bytes, t.content_hash, t.idempotency_key, t.seq"),
        "violations": _view("p_violations", "t.law, t.seq, t.token_id, t.expected, t.found"),
        "projection_places": _view("p_places", "t.projector, t.fingerprint, r.run_id AS stream, t.seq"),
    }


VIEW_NAMES: Sequence[str] = tuple(views("sqlite"))

TOLD: Sequence[str] = tuple(name for name in VIEW_NAMES if name != "projection_places")
"""The views that tell of runs: what a rebuild must give again, row for row."""


def statements(dialect: Dialect) -> list[str]:
    """The DDL of every view."""
    return [f"CREATE VIEW {name} AS {select}" for name, select in views(dialect).items()]
