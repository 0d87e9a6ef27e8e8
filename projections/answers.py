"""The plain questions: which runs there are, how one stands, its tokens, what is waiting in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ledger.errors import LedgerUnavailable
from ledger.events import BatchStarted, RunClaimed, RunInterrupted, StepFailed
from ledger.store import Store
from projections.explain import event_at
from projections.read_tables import ReadTables

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Answer = dict[str, Any]


def runs(tables: ReadTables) -> list[Answer]:
    """Every run, the first started first."""
    return tables.records("SELECT * FROM runs ORDER BY started_at NULLS FIRST, run_id")


def is_complete(tables: ReadTables, run: str | None = None) -> bool:
    """Whether a run (or every run) is told to its end: no event of it was one that cannot be read."""
    return not tables.select("SELECT 1 FROM p_runs WHERE unreadable_from_seq IS NOT NULL AND run_id = coalesce(?, run_id)",
                             (run,))


def show(tables: ReadTables, run: str) -> Answer:
    """One run: its row, what became of its tokens, its joins, its batches, its sinks, its violations.

    Raises `LedgerUnavailable` (READ_TABLES_BEHIND) where nothing is told of it yet.
    """
    rows = tables.records("SELECT * FROM runs WHERE run_id = ?", (run,))
    if not rows:
        raise LedgerUnavailable("READ_TABLES_BEHIND", "expected read tables that tell of this run, found none yet",
                                where=f"run {run} in {tables.where}", next_step="let somebody who may write read once")
    row = rows[0]
    return {
        "run": run,
        **row,
        "complete": row["unreadable_from_seq"] is None,
        "outcomes": fates(tables, run),
        "open_tokens": tables.select("SELECT count(*) FROM p_tokens t JOIN p_runs r ON r.run = t.run WHERE r.run_id = ? AND "
                                     "t.outcome IS NULL", (run,))[0][0],
        "coalesces": tables.records(
            "SELECT coalesce, status, trigger, failure_reason, count(*) AS groups FROM coalesce_groups WHERE run_id = ? "
            "GROUP BY coalesce, status, trigger, failure_reason "
            "ORDER BY coalesce, groups DESC, trigger NULLS FIRST", (run,)),
        "batches": tables.records(
            f"SELECT aggregation, status, trigger, count(*) AS batches, {_sum('size')} AS members, "
            f"{_sum('rejected')} AS rejected, {_sum('outputs')} AS outputs, max(error) AS error FROM batches "
            "WHERE run_id = ? GROUP BY aggregation, status, trigger "
            "ORDER BY aggregation, batches DESC, trigger NULLS FIRST", (run,)),
        "sinks": tables.records(
            f"SELECT sink, count(*) AS writes, {_sum(_WRITTEN)} AS tokens, max(uri) AS uri, "
            "max(size_bytes) AS size_bytes FROM sink_writes WHERE run_id = ? AND status = 'confirmed' GROUP BY sink "
            "ORDER BY sink", (run,)),
        "violations": tables.records("SELECT * FROM violations WHERE run_id = ? ORDER BY seq", (run,)),
    }


def fates(tables: ReadTables, run: str) -> list[Answer]:
    """How many tokens came to each outcome, by sink."""
    return tables.records(
        "SELECT outcome, sink_name, count(*) AS tokens FROM token_outcomes WHERE run_id = ? GROUP BY outcome, sink_name "
        "ORDER BY outcome, sink_name NULLS FIRST", (run,))


_WRITTEN = "CASE tokens WHEN '[]' THEN 0 ELSE length(tokens) - length(replace(tokens, ',', '')) + 1 END"
"""How many ids there are in a list of them."""


def _sum(expression: str) -> str:
    """A sum as an integer on every database."""
    return f"CAST(sum({expression}) AS BIGINT)"


def tokens(tables: ReadTables, run: str, outcome: str | None = None, node: str | None = None) -> Iterator[Answer]:
    """Tokens with their outcomes, in the order of their birth; only those that ended so, or that were at `node`.

    `outcome` may be `open` for tokens that have none yet.
    """
    conditions, values = ["r.run_id = ?"], [run]
    if outcome == "open":
        conditions.append("t.outcome IS NULL")
    elif outcome is not None:
        conditions.append("t.outcome = ?")
        values.append(outcome)
    if node is not None:
        conditions.append("EXISTS (SELECT 1 FROM p_states s WHERE s.run = t.run AND s.token_id = t.token_id AND "
                          "s.node_id = ?)")
        values.append(node)
    return tables.stream(
        "SELECT r.run_id, t.token_id, t.row_index, t.branch_name, t.outcome, t.sink_name, "
        "CASE t.outcome WHEN 'coalesced' THEN t.ended_of END AS join_group_id, t.reason, t.seq AS born_seq, t.ended_seq "
        f"FROM p_tokens t JOIN p_runs r ON r.run = t.run WHERE {' AND '.join(conditions)} ORDER BY t.seq, t.token_id",
        values)


def pending(tables: ReadTables, store: Store, run: str) -> list[Answer]:
    """What is waiting for what, since when (D8): open groups, batches, intents, attempts, tokens between two steps.

    The `node` of a token between two steps is the one that it has left.
    """
    waiting = [_group(row) for row in tables.records(
        "SELECT * FROM coalesce_groups WHERE run_id = ? AND status = 'open' ORDER BY opened_seq", (run,))]
    started = _batch_started(tables, store, run)
    waiting += [{"kind": "batch", "what": row["batch_id"], "node": row["aggregation"],
                 "waits_for": _of_batch(row, started),
                 "has": row["size"], "since_seq": row["opened_seq"]} for row in tables.records(
        "SELECT * FROM batches WHERE run_id = ? AND status = 'open' ORDER BY opened_seq", (run,))]
    waiting += [{"kind": "sink_write", "what": row["write_id"], "node": row["sink"], "waits_for": "its confirmation",
                 "has": len(msgspec.json.decode(row["tokens"])), "since_seq": row["seq"]} for row in tables.records(
        "SELECT * FROM sink_writes WHERE run_id = ? AND status = 'intended' ORDER BY seq", (run,))]
    waiting += [_token(store, run, row) for row in tables.records(_OPEN_TOKENS, (run,)) if row["kind"] in (None, *_STEPS)]
    return [{"run_id": run, **one, "since": _at(store, run, one["since_seq"])} for one in waiting]


_OPEN_TOKENS = (
    "SELECT t.token_id, t.seq, t.born_of, s.node_id, s.attempt, s.status, s.opened_seq, s.closed_seq, "
    "CASE s.status WHEN 'open' THEN n.kind END AS kind "
    "FROM p_runs r JOIN p_tokens t ON t.run = r.run "
    "LEFT JOIN p_states s ON s.run = t.run AND s.token_id = t.token_id AND s.opened_seq = "
    "(SELECT max(l.opened_seq) FROM p_states l WHERE l.run = t.run AND l.token_id = t.token_id) "
    "LEFT JOIN p_nodes n ON n.run = s.run AND n.node_id = s.node_id "
    "WHERE r.run_id = ? AND t.outcome IS NULL ORDER BY t.seq, t.token_id"
)
"""Tokens without an outcome, each with the state that it had last; `kind` is that of a node it is at."""

_STEPS = ("transform", "gate")


def _token(store: Store, run: str, row: Answer) -> Answer:
    """A token in an attempt at a step, before another one, or between two steps.

    Those that are held, buffered or written are told above.
    """
    one = {"kind": "token", "what": row["token_id"], "node": row["node_id"], "waits_for": "its next step", "has": None,
           "since_seq": row["closed_seq"]}
    if row["kind"] is not None:
        return {**one, "kind": "attempt", "waits_for": "its end", "has": row["attempt"], "since_seq": row["opened_seq"]}
    failed = event_at(store, run, row["closed_seq"]) if row["status"] == "failed" else None
    if isinstance(failed, StepFailed) and failed.retry:
        due = f"attempt {failed.attempt + 1}, due {failed.delay_ms} ms after attempt {failed.attempt} failed"
        return {**one, "waits_for": due, "has": failed.attempt}
    if row["node_id"] is None:
        return {**one, "node": _born_at(row["born_of"]), "since_seq": row["seq"]}
    return one


def _batch_started(tables: ReadTables, store: Store, run: str) -> BatchStarted | None:
    """The attempt to compute a batch that is on record as begun and not as ended.

    While a batch is computed nothing else is said, so it is the last thing on record, but for the comings and goings of
    processes.
    """
    seq = tables.select("SELECT events FROM runs WHERE run_id = ?", (run,))[0][0]
    while isinstance(last := event_at(store, run, seq), (RunClaimed, RunInterrupted)):
        seq -= 1
    return last if isinstance(last, BatchStarted) else None


def _of_batch(row: Answer, started: BatchStarted | None) -> str:
    """What an open batch waits for."""
    if row["trigger"] is None:
        return "its trigger"
    attempt = f"attempt {row['attempts'] + 1}, due by {row['trigger']}"
    begun = started is not None and (started.aggregation, started.batch) == (row["aggregation"], row["number"])
    return f"the end of {attempt}" if begun else attempt


def _born_at(group: str) -> str:
    """The node that made a token, by its fork or expansion `token/node`, its join `token+node` or its batch `node@n`."""
    return re.split("[/+]", group)[-1].partition("@")[0]


def _group(row: Answer) -> Answer:
    arrived, missing = (msgspec.json.decode(row[name]) for name in ("branches_arrived", "branches_missing"))
    lost = msgspec.json.decode(row["branches_lost"])
    return {"kind": "coalesce_group", "what": row["group_id"], "node": row["coalesce"], "waits_for": missing,
            "has": arrived, "lost": lost, "policy": row["policy"], "since_seq": row["opened_seq"]}


def _at(store: Store, run: str, seq: int) -> str | None:
    for stored in store.read(run, after=seq - 1, until=seq):
        at = EPOCH + timedelta(microseconds=stored.at)
        return f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"
    return None
