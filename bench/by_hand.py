"""A loop written by hand over the events of the two standard pipelines: what a script for this one purpose would do.

Why: it is what a rebuild is measured against. It decodes each body, keeps what is open in dictionaries and inserts the same
rows into the same tables. It holds no law, knows no failure, no loss, no retry, no batch and no place, checks nothing, and
would tell nonsense of any other pipeline.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from counterfoil.sqlite_ledger import make_read_tables

EVENTS_PER_BATCH = 10_000
CHUNK = 64

Row = list[Any]


def rebuild(ledger: Path, target: Path) -> int:
    """Fill the read tables at `target` from the run `bench`; gives the number of events."""
    make_read_tables(target)
    source, tables = sqlite3.connect(ledger), sqlite3.connect(target, isolation_level=None)
    for pragma in ("synchronous = OFF", "journal_mode = MEMORY", "cache_size = -65536"):
        tables.execute(f"PRAGMA {pragma}")
    loop = _Loop(tables)
    stream = source.execute("SELECT stream FROM streams WHERE run_id = 'bench'").fetchone()[0]
    decode, count = msgspec.json.decode, 0
    for (body,) in source.execute("SELECT body FROM events WHERE stream = ? ORDER BY seq", (stream,)):
        event = decode(body)
        handler = loop.handlers.get(event["type"])
        if handler is not None:
            handler(event)
        count += 1
        if count % EVENTS_PER_BATCH == 0:
            loop.flush()
    loop.flush()
    tables.execute("PRAGMA journal_mode = WAL")
    source.close()
    tables.close()
    return count


class _Loop:
    def __init__(self, tables: sqlite3.Connection) -> None:
        self._tables = tables
        self._rows: dict[str, list[Row]] = {}
        self._tokens: dict[str, Row] = {}
        self._held: dict[str, list[Row]] = {}
        self._groups: dict[str, list[tuple[str, int]]] = {}
        self._writes: dict[int, dict[str, Any]] = {}
        self._hashes = bytearray()
        self._chunk = 0
        self.handlers: dict[str, Callable[[dict[str, Any]], object]] = {
            "RowRead": self._row, "StepCompleted": self._step, "TokenForked": self._fork, "BranchArrived": self._arrived,
            "TokensCoalesced": self._merged, "SinkWriteIntended": self._intended, "SinkWriteConfirmed": self._confirmed,
            "RunStarted": lambda event: self._payload(event["settings"]),
        }

    def _add(self, table: str, row: Row) -> None:
        self._rows.setdefault(table, []).append(row)

    def flush(self) -> None:
        """Insert what is finished."""
        self._tables.execute("BEGIN")
        for table, rows in self._rows.items():
            marks = ", ".join("?" * len(rows[0]))
            self._tables.executemany(f"INSERT INTO {table} VALUES (1, {marks})", rows)
        self._tables.execute("COMMIT")
        self._rows.clear()

    def _payload(self, said: Any) -> int:
        if isinstance(said, int):
            return said
        self._hashes += bytes.fromhex(said[1])
        if len(self._hashes) == CHUNK * 32:
            self._add("p_payloads", [self._chunk, bytes(self._hashes)])
            self._hashes.clear()
            self._chunk += 1
        return int(said[0])

    def _row(self, event: dict[str, Any]) -> None:
        seq, token, n = event["seq"], event["token"], self._payload(event["data"])
        self._add("p_rows", [event["row"], 1, event["position"], None, n, seq])
        self._tokens[token] = [token, event["row"], None, None, None, n, seq, None, None, None, None, None, None]
        self._add("p_states", [token, seq, "source", 1, "completed", None, n, event["at"], 0, None, None, seq])

    def _step(self, event: dict[str, Any]) -> None:
        seq, lasted = event["seq"], event["duration_us"]
        self._add("p_states", [event["token"], seq, event["node"], event["attempt"], "completed", event["input"],
                               self._payload(event["output"]), event["at"] - lasted, lasted, None, None, seq])

    def _fork(self, event: dict[str, Any]) -> None:
        seq, token, node = event["seq"], event["token"], event["node"]
        parent = self._tokens.pop(token)
        group, n = f"{token}/{node}", parent[5]
        self._add("p_states", [token, seq, node, 1, "completed", n, n, event["at"], event.get("duration_us", 0), None, None,
                               seq])
        for ordinal, branch in enumerate(event["branches"]):
            child = f"{token}.{branch}"
            self._add("p_routing", [seq, ordinal, token, node, f"{node}:{branch}", "copy", group, None, None])
            self._tokens[child] = [child, parent[1], branch, 1, group, n, seq, None, None, None, None, None, None]
            self._add("p_token_parents", [child, 0, token])
        self._end(parent, "forked", None, group, seq)

    def _arrived(self, event: dict[str, Any]) -> None:
        token, group, seq = event["token"], event["group"], event["seq"]
        self._held.setdefault(group, []).append(
            [token, seq, event["coalesce"], 1, "open", self._tokens[token][5], None, event["at"], None, None, group, None])
        self._groups.setdefault(group, []).append((event["branch"], seq))

    def _merged(self, event: dict[str, Any]) -> None:
        group, seq, n, facts = event["group"], event["seq"], self._payload(event["output"]), event["facts"]
        arrivals = self._groups.pop(group)
        names = msgspec.json.encode(facts["expected_branches"]).decode()
        order = msgspec.json.encode(facts["arrival_order"]).decode()
        row = int(group.partition("+")[0])
        self._add("p_groups", [group, event["coalesce"], row, "merged", event["trigger"], None, facts["policy"],
                               facts["merge_strategy"], names, names, "{}", "[]", order, event["merged"],
                               facts.get("wait_duration_ms", 0), "{}", arrivals[0][1], seq])
        self._tokens[group] = [group, row, None, 2, group, n, seq, None, None, None, None, None, None]
        for ordinal, state in enumerate(self._held.pop(group)):
            state[4], state[6], state[8], state[11] = "completed", n, event["at"] - state[7], seq
            self._add("p_states", state)
            self._add("p_token_parents", [group, ordinal, state[0]])
            self._end(self._tokens.pop(state[0]), "coalesced", None, group, seq)

    def _intended(self, event: dict[str, Any]) -> None:
        self._writes[event["write"]] = event

    def _confirmed(self, event: dict[str, Any]) -> None:
        intended, seq, sink = self._writes.pop(event["write"]), event["seq"], event["sink"]
        self._add("p_sink_writes", [event["write"], sink, msgspec.json.encode(intended["tokens"]).decode(), "confirmed",
                                    event["uri"], event["size_bytes"], event["content_hash"], intended["key"], seq])
        for token in intended["tokens"]:
            row = self._tokens.pop(token)
            self._add("p_states", [token, intended["seq"], sink, 1, "completed", row[5], None, intended["at"],
                                   event["at"] - intended["at"], None, None, seq])
            self._end(row, "completed", sink, None, seq)

    def _end(self, row: Row, outcome: str, sink: str | None, of: str | None, seq: int) -> None:
        row[7], row[8], row[9], row[12] = outcome, sink, of, seq
        self._add("p_tokens", row)
