"""The guards of the log's tables on PostgreSQL: triggers that keep it append-only, and what they run.

Why here: the migration executes these texts and the store compares what it finds with them, so there is one wording. The
conditions stand in functions, whose text the server keeps as it was written; of a trigger it keeps only the meaning.

Invariants: once released, a text changes only together with a migration that replaces it. Guards prevent accidents; the
evidence is the tree. An insert out of turn is refused by the primary key and by the row lock under which the store appends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

ROW, BEFORE, DELETE, UPDATE, TRUNCATE = 1, 2, 8, 16, 32
"""The bits of `pg_trigger.tgtype`."""


class Guard(NamedTuple):
    """A trigger: on which table, before what, by which function, and what it says."""

    table: str
    moment: str
    function: str
    kind: int
    reason: str = ""

    def statement(self, name: str) -> str:
        """The DDL."""
        each = "ROW" if self.kind & ROW else "STATEMENT"
        argument = f"'{self.reason}'" if self.reason else ""
        return (f"CREATE TRIGGER {name} BEFORE {self.moment} ON {self.table} FOR EACH {each} "
                f"EXECUTE FUNCTION {self.function}({argument})")


FUNCTIONS: Mapping[str, str] = {
    "refuse": "BEGIN RAISE EXCEPTION USING MESSAGE = TG_ARGV[0]; END",
    "refuse_all_but_erasure": (
        "BEGIN IF OLD.permanent = 0 AND NEW.permanent = 0 AND NEW.salt IS NULL AND NEW.bytes IS NULL "
        "AND NEW.stream = OLD.stream AND NEW.n = OLD.n THEN RETURN NEW; END IF; "
        "RAISE EXCEPTION 'a payload is never changed, only erased'; END"
    ),
    "refuse_going_back": (
        "BEGIN IF NEW.stream = OLD.stream AND NEW.run_id = OLD.run_id AND NEW.size >= OLD.size AND NEW.epoch >= OLD.epoch "
        "THEN RETURN NEW; END IF; RAISE EXCEPTION 'a stream never goes back'; END"
    ),
}
"""Function name to its body in PL/pgSQL."""

GUARDS: Mapping[str, Guard] = {
    "events_no_update": Guard("events", "UPDATE", "refuse", BEFORE | UPDATE, "events are never changed"),
    "events_no_delete": Guard("events", "DELETE", "refuse", BEFORE | DELETE, "events are never deleted"),
    "events_no_truncate": Guard("events", "TRUNCATE", "refuse", BEFORE | TRUNCATE, "events are never deleted"),
    "payloads_no_update": Guard("payloads", "UPDATE", "refuse_all_but_erasure", ROW | BEFORE | UPDATE),
    "payloads_no_delete": Guard("payloads", "DELETE", "refuse", BEFORE | DELETE, "payloads are never deleted"),
    "payloads_no_truncate": Guard("payloads", "TRUNCATE", "refuse", BEFORE | TRUNCATE, "payloads are never deleted"),
    "streams_no_going_back": Guard("streams", "UPDATE", "refuse_going_back", ROW | BEFORE | UPDATE),
    "streams_no_delete": Guard("streams", "DELETE", "refuse", BEFORE | DELETE, "streams are never deleted"),
    "streams_no_truncate": Guard("streams", "TRUNCATE", "refuse", BEFORE | TRUNCATE, "streams are never deleted"),
}
"""Trigger name to what it is."""


def statements() -> list[str]:
    """The DDL of every function and trigger, in the schema that the connection stands in."""
    made = [f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $guard${body}$guard$"
            for name, body in FUNCTIONS.items()]
    checks = [f"ALTER TABLE {table} ADD CHECK ({column} > 0)" for table, column in (("events", "seq"), ("payloads", "n"))]
    return [*made, *checks, *(guard.statement(name) for name, guard in GUARDS.items())]


TABLES = frozenset({"streams", "events", "payloads", "alembic_version"})

KEYS = frozenset({("streams", "stream"), ("streams", "run_id"), ("events", "stream, seq"), ("payloads", "stream, n")})
"""What can be there once: table and columns."""

FOUND_TRIGGERS = (
    "SELECT c.relname, t.tgname, t.tgenabled, t.tgtype, p.proname, p.pronamespace = c.relnamespace "
    "AND l.lanname = 'plpgsql' AND t.tgqual IS NULL AND t.tgattr::text = '' AND p.proconfig IS NULL AND NOT p.prosecdef, "
    "p.prosrc, encode(t.tgargs, 'escape') FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
    "JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_language l ON l.oid = p.prolang "
    "WHERE c.relnamespace = %s::regnamespace AND NOT t.tgisinternal"
)
"""The sixth says that a trigger runs a function as migrated, whenever its moment comes: no WHEN, no OF, no other setting."""
FOUND_RELATIONS = (
    "SELECT c.relname, c.relkind, c.relpersistence, c.relrowsecurity, EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN "
    "(i.inhparent, i.inhrelid)), EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid) FROM pg_class c "
    "WHERE c.relnamespace = %s::regnamespace AND c.relkind NOT IN ('i', 'S', 't', 'c')"
)
"""A table that inherits is as bad as one that is inherited from: what is done by way of its parent runs no trigger of a
statement."""
FOUND_KEYS = (
    "SELECT c.relname, string_agg(a.attname, ', ' ORDER BY k.place) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
    "CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k(number, place) JOIN pg_attribute a ON a.attrelid = c.oid "
    "AND a.attnum = k.number WHERE c.relnamespace = %s::regnamespace AND i.indisunique AND i.indimmediate AND i.indisvalid "
    "AND i.indpred IS NULL AND i.indexprs IS NULL GROUP BY i.indexrelid, c.relname"
)
FOUND_FUNCTIONS = "SELECT proname FROM pg_proc WHERE pronamespace = %s::regnamespace"
FOUND_RIGHTS = (
    "SELECT DISTINCT c.relname, coalesce(g.rolname, 'public'), a.privilege_type FROM pg_class c CROSS JOIN LATERAL "
    "(SELECT * FROM aclexplode(c.relacl) UNION SELECT e.* FROM pg_attribute o CROSS JOIN LATERAL aclexplode(o.attacl) e "
    "WHERE o.attrelid = c.oid) a LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE c.relnamespace = %s::regnamespace "
    "AND c.relname = ANY(%s) AND a.grantee <> c.relowner "
    "AND a.privilege_type IN ('DELETE', 'TRUNCATE', 'TRIGGER', 'UPDATE') "
    "AND NOT (c.relname = 'streams' AND a.privilege_type = 'UPDATE') ORDER BY 1, 2, 3"
)
"""Of a table or of some of its columns."""


def of_triggers(found: list[tuple[str, str, str, int, str, bool, str, str]]) -> list[str]:
    """What is wrong with the triggers of a schema: missing, switched off, running something else, or not ours."""
    by_name = {row[1]: row for row in found}
    faults = [f"guard {name} is missing" for name in GUARDS if name not in by_name]
    for name, (table, _, enabled, kind, function, own, source, argument) in by_name.items():
        guard = GUARDS.get(name)
        if guard is None:
            faults.append(f"trigger {name} does not belong here")
        elif (table, enabled, kind, function, own) != (guard.table, "O", guard.kind, guard.function, True) \
                or source != FUNCTIONS[guard.function] or argument.removesuffix("\\000") != guard.reason:
            faults.append(f"guard {name} was changed")
    return faults


def of_keys(found: list[tuple[str, str]]) -> list[str]:
    """What could be there twice."""
    return [f"key {table} ({columns}) is missing" for table, columns in sorted(KEYS - set(found))]


def of_functions(found: list[tuple[str]]) -> list[str]:
    """Functions that are no part of a log."""
    return [f"function {name} does not belong here" for (name,) in found if name not in FUNCTIONS]


def of_relations(found: list[tuple[str, str, str, bool, bool, bool]]) -> list[str]:
    """What lies in the log's schema and is no part of a log, and tables that do not show or keep what they hold."""
    faults = []
    for name, kind, persistence, row_security, inherited, rewritten in found:
        if name not in TABLES or kind != "r":
            faults.append(f"{_KINDS.get(kind, 'relation')} {name} does not belong here")
        elif persistence != "p":
            faults.append(f"table {name} does not outlive a crash of the server")
        elif row_security or inherited or rewritten:
            faults.append(f"table {name} shows other rows than it holds")
    return faults


_KINDS = {"r": "table", "v": "view", "m": "view", "f": "table", "p": "table"}
