"""The guards of the log's tables on SQLite: triggers that keep it append-only, name to SQL.

Why here: the migration executes these texts and the store compares what it finds with them, so there is one wording.

Invariants: a text is deterministic; once released it changes only together with a migration that replaces the trigger.
Guards prevent accidents; the evidence is the tree. `INSERT OR REPLACE` deletes without firing a delete trigger, so an
insert must be the stream's next entry *and* must not name a hidden row number (SQLite shows -1 to a trigger where the
statement gives none): with one it could replace any row.
"""

from __future__ import annotations

_NEXT_EVENT = "NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events WHERE stream = NEW.stream)"
_NEXT_PAYLOAD = "NEW.n IS NOT (SELECT coalesce(max(n), 0) + 1 FROM payloads WHERE stream = NEW.stream)"
_IS_ERASURE = (
    "OLD.permanent = 0 AND NEW.salt IS NULL AND NEW.bytes IS NULL AND NEW.permanent = 0 "
    "AND NEW.stream = OLD.stream AND NEW.n = OLD.n AND NEW.rowid = OLD.rowid"
)


def _trigger(name: str, moment: str, table: str, reason: str, when: str = "") -> str:
    condition = f" WHEN {when}" if when else ""
    return f"CREATE TRIGGER {name} BEFORE {moment} ON {table}{condition} BEGIN SELECT RAISE(ABORT, '{reason}'); END"


TRIGGERS: dict[str, str] = {
    "events_no_update": _trigger("events_no_update", "UPDATE", "events", "events are never changed"),
    "events_no_delete": _trigger("events_no_delete", "DELETE", "events", "events are never deleted"),
    "events_append_only": _trigger(
        "events_append_only",
        "INSERT",
        "events",
        "an event is appended with the next seq of its stream",
        f"NEW.rowid <> -1 OR {_NEXT_EVENT}",
    ),
    "payloads_no_update": _trigger(
        "payloads_no_update", "UPDATE", "payloads", "a payload is never changed, only erased", f"NOT ({_IS_ERASURE})"
    ),
    "payloads_no_delete": _trigger("payloads_no_delete", "DELETE", "payloads", "payloads are never deleted"),
    "payloads_append_only": _trigger(
        "payloads_append_only",
        "INSERT",
        "payloads",
        "a payload is appended with the next number of its stream",
        f"NEW.rowid <> -1 OR {_NEXT_PAYLOAD}",
    ),
    "streams_no_delete": _trigger("streams_no_delete", "DELETE", "streams", "streams are never deleted"),
    "streams_no_replace": _trigger(
        "streams_no_replace",
        "INSERT",
        "streams",
        "a stream is made once",
        "EXISTS (SELECT 1 FROM streams WHERE run_id = NEW.run_id OR stream = NEW.stream)",
    ),
}
