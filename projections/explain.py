"""Explain: one token's whole story, both ways, from the read tables, with the rows themselves from the log's payloads.

Why here: every answer is made of projected rows, each of which cites the seq that made it.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any

import msgspec

from ledger import ids
from ledger.codec import Undecodable, decode
from ledger.errors import UsageError
from ledger.events import Event, StepStarted
from ledger.store import Store
from projections.output import ERASED, UNREADABLE
from projections.read_tables import ReadTables

Answer = dict[str, Any]

_OF_TOKEN = "WHERE run_id = ? AND token_id = ?"
_DIVERT_TYPES = {"__quarantine__": "quarantine", "__failsink__": "sink_refused"}


def explain(tables: ReadTables, store: Store, run: str, token: str) -> Answer:
    """The story of one token.

    `routing` entries carry `flow_type`; `divert_summary` is None for a token that never left the normal path. Raises
    `UsageError` (TOKEN_UNKNOWN).
    """
    known = _row(tables, f"SELECT * FROM tokens {_OF_TOKEN}", run, token)
    if known is None:
        raise UsageError("TOKEN_UNKNOWN", f"expected a token of run {run}, found none named {token!r:.200}"
                         f"{_untold(tables, run)}", where=run, next_step=_instead(tables, run, token))
    about = _row(tables, "SELECT * FROM runs WHERE run_id = ?", run) or {}
    routing, outcome = routing_of(tables, run, token), outcome_of(tables, run, token)
    states = _states(tables, store, run, token)
    return {
        "run": run,
        "token_id": token,
        "complete": about.get("unreadable_from_seq") is None,
        "token": {**known, "data": _data(tables, store, "p_tokens", run, token)},
        "outcome": outcome,
        "divert_summary": divert_summary(tables, run, token, routing, outcome),
        "source_row": source_row(tables, store, run, known["row_index"]),
        "ancestors": _walk(tables, run, token, "parent_token_id", "token_id"),
        "node_states": states,
        "routing": routing,
        "coalesce_groups": groups_of(tables, run, known),
        "batches": _batches(tables, run, known),
        "calls": _calls(tables, store, run, token),
        "sink_writes": _writes(tables, states),
        "descendants": _walk(tables, run, token, "token_id", "parent_token_id"),
    }


def _untold(tables: ReadTables, run: str) -> str:
    """What is to be added where something is not found in a run that is not told, or not to its end; else nothing."""
    found = _row(tables, "SELECT unreadable_from_seq AS seq FROM runs WHERE run_id = ?", run)
    if found is None:
        return ", but nothing is told of this run yet"
    if found["seq"] is None:
        return ""
    return f", but nothing is told of this run from seq {found['seq']} on: `counterfoil show {run}` says why"


def _instead(tables: ReadTables, run: str, name: str) -> str:
    """Whom to ask about a name that is no token: a group that merged nothing by its opener, a batch by its first member."""
    if _row(tables, "SELECT group_id FROM coalesce_groups WHERE run_id = ? AND group_id = ?", run, name) is not None:
        return f"this group made no token: explain {name.rpartition('+')[0]}, which opened it"
    member = _row(tables, "SELECT token_id FROM batch_members WHERE run_id = ? AND batch_id = ?", run, name)
    if member is not None:
        return f"this is a batch: explain one of its members, such as {member['token_id']}"
    return "`counterfoil tokens RUN` lists them"


def explain_row(tables: ReadTables, store: Store, run: str, row: int) -> Answer:
    """The story of a source row: its root token's, and in brief every token it became. Raises `UsageError` (ROW_UNKNOWN)."""
    if _row(tables, "SELECT seq FROM rows WHERE run_id = ? AND row_index = ?", run, row) is None:
        found = _row(tables, "SELECT rows_read FROM runs WHERE run_id = ?", run) or {}
        raise UsageError("ROW_UNKNOWN", f"expected a row from 0 to {int(found.get('rows_read') or 0) - 1}, found {row}"
                         f"{_untold(tables, run)}", where=run, next_step="rows count from 0")
    return explain(tables, store, run, ids.root_token(row))


def outcome_of(tables: ReadTables, run: str, token: str) -> Answer | None:
    """The token's one terminal outcome, or None while it is open."""
    return _row(tables, f"SELECT * FROM token_outcomes {_OF_TOKEN}", run, token)


def routing_of(tables: ReadTables, run: str, token: str) -> list[Answer]:
    """The token's routing events with the edge's ends, label and `flow_type`, in log order."""
    return tables.records(
        "SELECT e.*, g.from_node, g.to_node, g.label, coalesce(g.flow_type, 'normal') AS flow_type FROM routing_events e "
        "LEFT JOIN edges g ON g.run_id = e.run_id AND g.edge_id = e.edge_id "
        "WHERE e.run_id = ? AND e.token_id = ? ORDER BY +e.seq, +e.ordinal", (run, token))


def divert_summary(tables: ReadTables, run: str, token: str, routing: list[Answer], outcome: Answer | None) -> Answer | None:
    """How the token left the normal path (the last time, when it was refused again), or None (E11).

    A discard has no edge: it is told from the state that the token had last.
    """
    diverts = [one for one in routing if one["flow_type"] == "divert"]
    discarded = outcome is not None and outcome["outcome"] in ("quarantined", "diverted") and outcome["sink_name"] is None
    if outcome is None or not discarded:
        return _by_edge(diverts[-1]) if diverts else None
    state = _row(tables, "SELECT * FROM node_states WHERE run_id = ? AND token_id = ? ORDER BY opened_seq DESC", run, token)
    kind = _row(tables, "SELECT kind FROM nodes WHERE run_id = ? AND node_id = ?", run, state["node_id"] if state else "")
    types = {"source": "quarantine", "sink": "sink_refused"}
    return {"diverted": True, "divert_type": types.get(kind["kind"] if kind else "", "error"),
            "from_node": state["node_id"] if state else None, "to_sink": None, "edge_label": None,
            "reason_hash": outcome["error_hash"]}


def _by_edge(last: Answer) -> Answer:
    return {"diverted": True, "divert_type": _DIVERT_TYPES.get(last["label"], "error"), "from_node": last["from_node"],
            "to_sink": last["to_node"], "edge_label": last["label"], "reason_hash": last["reason_hash"]}


def groups_of(tables: ReadTables, run: str, token: Answer) -> list[Answer]:
    """The coalesce groups that the token was held in, came late to, was lost to, was made by, is a branch of, or opened."""
    held = tables.select("SELECT t.group_id FROM p_states t JOIN p_runs r ON r.run = t.run "
                         "WHERE r.run_id = ? AND t.token_id = ? AND t.group_id IS NOT NULL", (run, token["token_id"]))
    names = {row[0] for row in held} | ({token["join_group_id"]} if token["join_group_id"] else set())
    names |= set(_groups_ahead(tables, run, _carried(tables, run, token)))
    names |= {one["group_id"] for one in _groups_of_opener(tables, run, token["token_id"])}
    if not names:
        return []
    marks = ", ".join("?" * len(names))
    rows = tables.records(f"SELECT * FROM coalesce_groups WHERE run_id = ? AND group_id IN ({marks}) ORDER BY opened_seq",
                          (run, *sorted(names)))
    return [_decoded(row) for row in rows]


def _carried(tables: ReadTables, run: str, token: Answer) -> Answer:
    """The forked or expanded token whose branch this one carries: itself, or the one that its merge stands for."""
    while token["join_group_id"] is not None:
        ancestor = str(token["join_group_id"]).rpartition("+")[0]
        found = _row(tables, f"SELECT * FROM tokens {_OF_TOKEN}", run, ancestor)
        if found is None:
            break
        token = found
    return token


def _groups_ahead(tables: ReadTables, run: str, token: Answer) -> list[str]:
    """The groups that wait, or waited, for this branch of its fork, or this child of its expansion."""
    if token["fork_group_id"] is not None:
        opened, branch = token["fork_group_id"], token["branch_name"]
    elif token["expand_group_id"] is not None:
        opened, branch = token["expand_group_id"], str(token["token_id"]).rpartition(":")[2]
    else:
        return []
    parent = str(opened).rpartition("/")[0]
    return [one["group_id"] for one in _groups_of_opener(tables, run, parent)
            if branch in msgspec.json.decode(one["expected_branches"])]


def _groups_of_opener(tables: ReadTables, run: str, token: str) -> list[Answer]:
    """The groups of what the token was forked or expanded to; a group without arrivals is told by its opener alone."""
    found = tables.records("SELECT * FROM coalesce_groups WHERE run_id = ? AND group_id >= ? AND group_id < ?",
                           (run, f"{token}+", f"{token},"))
    return [one for one in found if one["group_id"] == ids.merged_token(token, one["coalesce"])]


def source_row(tables: ReadTables, store: Store, run: str, row: int | None) -> Answer | None:
    """The source row with its data, or None for a batch's output."""
    if row is None:
        return None
    found = _row(tables, "SELECT * FROM rows WHERE run_id = ? AND row_index = ?", run, row)
    if found is None:
        return None
    number = tables.select("SELECT t.data FROM p_rows t JOIN p_runs r ON r.run = t.run WHERE r.run_id = ? AND "
                           "t.row_index = ?", (run, row))[0][0]
    return {**found, "data": _payload(store, run, number)}


def _states(tables: ReadTables, store: Store, run: str, token: str) -> list[Answer]:
    """The token's states; one of an attempt that was announced has the key under which the outside world heard of it."""
    rows = tables.records(f"SELECT * FROM node_states {_OF_TOKEN} ORDER BY opened_seq", (run, token))
    return [{**row, "context": msgspec.json.decode(row["context"]) if row["context"] else None,
             "idempotency_key": _key(store, run, row)} for row in rows]


def _key(store: Store, run: str, state: Answer) -> str | None:
    if state["opened_seq"] == state["closed_seq"]:
        return None
    opened = event_at(store, run, state["opened_seq"])
    return opened.key if isinstance(opened, StepStarted) else None


def event_at(store: Store, run: str, seq: int) -> Event | None:
    """The event at one place of a run's log, None where there is none that can be read."""
    for stored in store.read(run, after=seq - 1, until=seq):
        with suppress(Undecodable):
            return decode(stored.body, stored.type, stored.v, run=run, seq=seq)
    return None


def _batches(tables: ReadTables, run: str, token: Answer) -> list[Answer]:
    """The batch that made the token, and those that it was a member of, with its place in them as `member`."""
    member_of = tables.records(f"SELECT batch_id, ordinal FROM batch_members {_OF_TOKEN}", (run, token["token_id"]))
    places: dict[str | None, int | None] = {token["batch_id"]: None} | {one["batch_id"]: one["ordinal"] for one in member_of}
    return [{**row, "member": place} for name, place in places.items() if name is not None for row in tables.records(
        "SELECT * FROM batches WHERE run_id = ? AND batch_id = ?", (run, name))]


def _calls(tables: ReadTables, store: Store, run: str, token: str) -> list[Answer]:
    """The calls that the token's attempts made, with what was sent and what came back."""
    numbers = tables.select("SELECT t.request, t.response FROM p_calls t JOIN p_runs r ON r.run = t.run "
                            "WHERE r.run_id = ? AND t.token_id = ? ORDER BY +t.seq", (run, token))
    rows = tables.records(f"SELECT * FROM calls {_OF_TOKEN} ORDER BY +seq", (run, token))
    return [{**row, "request": _payload(store, run, request),
             "response": _payload(store, run, response) if response is not None else None}
            for row, (request, response) in zip(rows, numbers, strict=True)]


def _writes(tables: ReadTables, states: list[Answer]) -> list[Answer]:
    """The sink writes that the token was in: those that its own states were opened or closed by."""
    return [write for state in states for write in tables.records(
        "SELECT sink, write_id, status, uri, size_bytes, content_hash, idempotency_key, seq FROM sink_writes "
        "WHERE run_id = ? AND seq = ?", (state["run_id"], state["closed_seq"] or state["opened_seq"]))]


def _walk(tables: ReadTables, run: str, token: str, to: str, from_: str) -> list[Answer]:
    """The tokens reached from `token` along the parents table, each once; `generation` counts the steps to it, from 1."""
    seen: dict[str, int] = {}
    todo = deque([(token, 0)])
    while todo:
        one, generation = todo.popleft()
        found = tables.select(f"SELECT {to} FROM token_parents WHERE run_id = ? AND {from_} = ? ORDER BY ordinal, {to}",
                              (run, one))
        new = [row[0] for row in found if row[0] not in seen]
        seen.update(dict.fromkeys(new, generation + 1))
        todo += [(name, generation + 1) for name in new]
    return [{**_brief(tables, run, name), "generation": generation} for name, generation in seen.items()]


def _brief(tables: ReadTables, run: str, token: str) -> Answer:
    row = _row(tables, "SELECT t.token_id, t.row_index, t.branch_name, t.outcome, t.sink_name, t.reason, "
               "t.seq AS born_seq, t.ended_seq FROM p_tokens t JOIN p_runs r ON r.run = t.run "
               "WHERE r.run_id = ? AND t.token_id = ?", run, token)
    return row or {"token_id": token}


def _data(tables: ReadTables, store: Store, table: str, run: str, token: str) -> Any:
    found = tables.select(f"SELECT t.data FROM {table} t JOIN p_runs r ON r.run = t.run WHERE r.run_id = ? AND "
                          "t.token_id = ?", (run, token))
    return _payload(store, run, found[0][0]) if found else None


def _payload(store: Store, run: str, number: int) -> Any:
    payload = store.payloads(run, [number]).get(number)
    if payload is None or payload.bytes is None:
        return ERASED
    try:
        return msgspec.json.decode(payload.bytes)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, RecursionError):
        return UNREADABLE


def _decoded(group: Answer) -> Answer:
    columns = ("expected_branches", "branches_arrived", "branches_lost", "branches_missing", "arrival_order", "collisions")
    return {**group, **{name: msgspec.json.decode(group[name]) for name in columns}}


def _row(tables: ReadTables, statement: str, *values: object) -> Answer | None:
    return next(iter(tables.records(f"{statement} LIMIT 1", values)), None)
