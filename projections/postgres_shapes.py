"""What a schema of PostgreSQL holds, against what the migrations of read tables make: whole, edited, or somebody else's.

Why by content and not by name: a schema that is named like read tables may be anybody's, and those that are old are dropped.

Invariant: nothing here looks at rows.
"""

from __future__ import annotations

from ledger.errors import LedgerUnavailable
from ledger.postgres_session import Session
from projections.tables import COLUMNS, INDEXES
from projections.views import VIEW_NAMES

_SHAPE = """
    WITH found AS (SELECT c.oid, c.relkind::text, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname <> 'alembic_version')
    SELECT 'r', f.relname, string_agg(a.attname, ' ' ORDER BY a.attnum) FROM found f JOIN pg_attribute a
        ON a.attrelid = f.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE f.relkind = 'r' GROUP BY f.relname
    UNION ALL SELECT 'v', relname, NULL FROM found WHERE relkind = 'v'
    UNION ALL SELECT 'i', relname, NULL FROM found WHERE relkind = 'i'
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = found.oid)
        AND relname <> 'alembic_version_pkc'
    UNION ALL SELECT 'k', f.relname, NULL FROM found f JOIN pg_constraint k ON k.conrelid = f.oid AND k.contype = 'p'"""
"""Tables with their columns, views, indexes that are no key's, and keys of a schema."""

_OTHERS = """
    SELECT relname AS name FROM pg_class WHERE relnamespace = to_regnamespace(%(schema)s) AND relkind NOT IN ('i', 't')
        AND NOT relname = ANY(%(ours)s)
    UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace(%(schema)s)
    UNION ALL SELECT typname FROM pg_type WHERE typnamespace = to_regnamespace(%(schema)s) AND typtype IN ('e', 'd', 'r')
    ORDER BY name LIMIT 1"""

_MISLED = """
    WITH whole AS (
        SELECT c.relname, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) AS bare,
            string_agg(quote_ident(c.relname) || '.' || quote_ident(a.attname), ', ' ORDER BY a.attnum) AS qualified
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = to_regnamespace(quote_ident(%(name)s)) AND c.relname = ANY(%(views)s) GROUP BY c.relname
    ), shown AS (
        SELECT c.relname, btrim(regexp_replace(pg_get_viewdef(c.oid), '\\s+', ' ', 'g')) AS said FROM pg_class c
        WHERE c.relnamespace = to_regnamespace(quote_ident(%(base)s)) AND c.relkind = 'v'
    )
    SELECT w.relname FROM whole w LEFT JOIN shown s USING (relname) CROSS JOIN LATERAL
        (SELECT ' FROM ' || quote_ident(%(name)s) || '.' || quote_ident(w.relname) || ';') AS source(said)
    WHERE s.said IS NULL OR s.said NOT IN ('SELECT ' || w.bare || source.said, 'SELECT ' || w.qualified || source.said)
    ORDER BY w.relname"""
"""The definition of a view as servers write it: up to PostgreSQL 15 with the relation before each column."""


def is_whole(session: Session, schema: str) -> bool:
    """Whether tables, columns, keys, indexes and views are those that the migrations make; indexes may be added."""
    found = {tuple(row) for row in session.raw.execute(_SHAPE, (schema,)).fetchall()}
    bare = {(kind, name, None) for kind, names in (("v", VIEW_NAMES), ("i", INDEXES), ("k", COLUMNS)) for name in names}
    return found >= bare | {("r", name, columns) for name, columns in COLUMNS.items()}


def holds_tables(session: Session, schema: str) -> bool:
    """Whether there is any of the read tables' tables in a schema, whatever else is."""
    return session.raw.execute("SELECT FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r' AND "
                               "relname = ANY(%s) LIMIT 1", (f'"{schema}"', list(COLUMNS))).fetchone() is not None


def misled(session: Session, base: str, schema: str) -> list[str]:
    """The views of `base`, on which others rely, that are not there or show something else than those of `schema`."""
    found = session.raw.execute(_MISLED, {"base": base, "name": schema, "views": list(VIEW_NAMES)}).fetchall()
    return [view for (view,) in found]


def drop(session: Session, schema: str) -> None:
    """Drop a schema of read tables, if it is there. Raises `LedgerUnavailable` where somebody keeps something else in it."""
    other = foreign(session, schema)
    if other is not None:
        raise LedgerUnavailable("LEDGER_FOREIGN", f"expected read tables to drop, found {other}, which is none",
                                where=f"{session.url.shown} {schema}", next_step="move it to a schema of another name")
    session.raw.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


def foreign(session: Session, schema: str) -> str | None:
    """Something in a schema that is no part of read tables."""
    ours = [*COLUMNS, *VIEW_NAMES, "alembic_version", "p_runs_run_seq"]
    row = session.raw.execute(_OTHERS, {"schema": f'"{schema}"', "ours": ours}).fetchone()
    return None if row is None else str(row[0])
