"""The roles of those who write a ledger on PostgreSQL and of those who read it, and the rights of each.

Why: whoever runs pipelines needs to append and nothing else, so an accident or a stolen password changes nothing that is on
record. The log's tables belong to whoever ran `db upgrade`, the read tables to the role of the writers: any of them makes
and removes generations.

Invariants: neither role can log in; people and programs are made members of one. A role is made only by one who may make
roles; of roles that are there the rights are put right, as far as whoever does it may give them, and what is left is said.
"""

from __future__ import annotations

from sqlalchemy import TextClause, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, ProgrammingError

from ledger.postgres_session import MEMBER


def writer(schema: str) -> str:
    """The role of those who write the ledger in a schema."""
    return f"{schema}_writer"


def reader(schema: str) -> str:
    """The role of those who read it."""
    return f"{schema}_reader"


def as_writer(connection: Connection, schema: str) -> None:
    """Be the writers' role until the transaction ends, where there is one and we may be it."""
    connection.execute(_TAKE, {"role": writer(schema)})


def put_right(connection: Connection, schema: str) -> list[str]:
    """Make the two roles and give them their rights; gives what somebody else has to do, in words."""
    if not _made(connection, schema) or not _is_true(connection, _OWNS, name=schema):
        return []
    database = str(connection.execute(text("SELECT quote_ident(current_database())")).scalar())
    for statement in _grants(schema):
        connection.exec_driver_sql(statement)
    if _is_true(connection, _MAY_SHARE):
        connection.exec_driver_sql(f'GRANT CREATE ON DATABASE {database} TO "{writer(schema)}"')
    left = []
    if not _is_true(connection, _MAY_MAKE, role=writer(schema)):
        left.append(f"role {writer(schema)} may not make schemas, so its members cannot keep read tables; let the owner of "
                    f'the database do: GRANT CREATE ON DATABASE {database} TO "{writer(schema)}"')
    if not _is_true(connection, _MAY_BE, role=writer(schema)):
        login = connection.execute(text("SELECT quote_ident(current_user)")).scalar()
        left.append("read tables that this login makes are not the writers'; let one who may do: "
                    f'GRANT "{writer(schema)}" TO {login}')
    if not left:
        _hand_over(connection, schema)
    return left


def _grants(schema: str) -> list[str]:
    write, read = writer(schema), reader(schema)
    return [
        f'GRANT USAGE ON SCHEMA "{schema}" TO "{write}", "{read}"',
        f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO "{write}", "{read}"',
        f'GRANT INSERT ON streams, events, payloads TO "{write}"',
        f'GRANT UPDATE (size, epoch, root, frontier, status) ON streams TO "{write}"',
        f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA "{schema}" TO "{write}"',
    ]


def _made(connection: Connection, schema: str) -> bool:
    """Whether both roles are there, made now if need be; who makes one may be it, so that what he makes is its."""
    may = _is_true(connection, "rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user")
    for role in (writer(schema), reader(schema)):
        if _is_true(connection, _KNOWN, role=role):
            continue
        if not may:
            return False
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f'CREATE ROLE "{role}" NOLOGIN')
        except (IntegrityError, ProgrammingError):  # somebody made it at this moment, for a database of his
            if not _is_true(connection, _KNOWN, role=role):
                raise
            continue
        if not _is_true(connection, _MAY_BE, role=role):
            connection.exec_driver_sql(f'GRANT "{role}" TO CURRENT_USER')
    return True


def _hand_over(connection: Connection, schema: str) -> None:
    """Read tables that were made before there were roles are the writers' too."""
    found = connection.execute(text(
        "SELECT nspname, nspowner = (SELECT oid FROM pg_roles WHERE rolname = :role) FROM pg_namespace "
        "WHERE nspname ~ :ours AND pg_has_role(nspowner, 'USAGE') "
        "AND to_regclass(quote_ident(nspname) || '.streams') IS NULL"),
        {"ours": f"^{schema}_read(_[0-9]+|_new|_compared)?$", "role": writer(schema)}).fetchall()
    for name, handed_over in found:
        connection.exec_driver_sql(f'GRANT USAGE ON SCHEMA "{name}" TO "{reader(schema)}"')
        connection.exec_driver_sql(f'GRANT SELECT ON ALL TABLES IN SCHEMA "{name}" TO "{reader(schema)}"')
        if handed_over:
            continue
        connection.exec_driver_sql(f'ALTER SCHEMA "{name}" OWNER TO "{writer(schema)}"')
        for (relation,) in connection.execute(text(
                "SELECT quote_ident(relname) FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(:name)) AND "
                "relkind IN ('r', 'v')"), {"name": name}).fetchall():
            connection.exec_driver_sql(f'ALTER TABLE "{name}".{relation} OWNER TO "{writer(schema)}"')


def _is_true(connection: Connection, condition: str | TextClause, **named: str) -> bool:
    statement = text(f"SELECT {condition}") if isinstance(condition, str) else condition
    return bool(connection.execute(statement, named).scalar())


_TAKE = text(f"SELECT set_config('role', rolname, true) FROM pg_roles WHERE rolname = :role "
             f"AND pg_has_role(session_user, oid, {MEMBER})")
_KNOWN = "count(*) FROM pg_roles WHERE rolname = :role"
_MAY_BE = f"count(*) FROM pg_roles WHERE rolname = :role AND pg_has_role(session_user, oid, {MEMBER})"
_OWNS = "pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = :name"
_MAY_SHARE = "has_database_privilege(current_database(), 'CREATE WITH GRANT OPTION')"
_MAY_MAKE = "has_database_privilege(:role, current_database(), 'CREATE')"
