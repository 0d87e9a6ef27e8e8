"""Whoever runs pipelines may append and no more, whoever reads may read and no more: by real logins, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.engine import make_url

from tests.doors.story import OUTCOMES, PIPELINE, ROWS
from tests.doors.told import Told, tell, write
from tests.kit import both
from tests.kit.postgres import Postgres
from tests.kit.postgres_databases import connected
from tests.ledger.revisions import Place

SCHEMA = "guarded"
PASSWORD = "unspoken"
LOGINS = {"founder": "CREATEROLE", "ann": "", "abe": "", "rob": "", "eve": ""}
"""Who makes the ledger, two who write it, one who reads it, one who has no business with it."""

READING = (("runs",), ("show", "story"), ("replay", "story"), ("explain", "story", "0"), ("tokens", "story"),
           ("pending", "story"), ("query", "SELECT count(*) FROM log.events"),
           ("query", "SELECT * FROM token_outcomes ORDER BY seq, token_id"), ("db", "check"), ("db", "current"))


class Guarded(NamedTuple):
    """A ledger with roles; `url` as one of the logins, or as the administrator."""

    server: Postgres
    database: str

    def url(self, login: str | None = None) -> str:
        """The ledger, as one login sees it."""
        given = self.server.url(self.database, user=login, password=PASSWORD) if login else self.server.url(self.database)
        return f"{given}?schema={SCHEMA}"

    def tell(self, login: str, *command: str) -> Told:
        """A command of one login."""
        return tell(*command, ledger=self.url(login))

    def done(self, login: str, *command: str) -> str:
        """The answer to a command that has to succeed and has nothing to remark."""
        told = self.tell(login, *command)
        assert (told.code, told.err) == (0, ""), command
        return told.out

    def session(self, login: str | None = None) -> psycopg.Connection:
        """A session of one login, in the log's schema."""
        session = connected(self.url(login).partition("?")[0])
        session.execute(f"SET search_path TO {SCHEMA}")
        return session

    def refused(self, login: str, *command: str) -> str:
        """One line, exit 6, and everything as it was."""
        before, files = self.everything(), sorted(Path().rglob("*"))
        told = self.tell(login, *command)
        assert (told.code, told.out) == (6, ""), command
        *warnings, error = told.err.splitlines()
        assert [line for line in warnings if not line.startswith("warning: ")] == []
        assert error.split(":")[0] in ("LEDGER_DENIED", "LEDGER_READ_ONLY") and PASSWORD not in error
        assert self.everything() == before and sorted(Path().rglob("*")) == files
        return error

    def everything(self) -> Any:
        """All that the database holds."""
        return Place(self.url()).everything()


@pytest.fixture
def bare(postgres_server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    """An empty database that belongs to the founder, who may make roles; logins, and no ledger yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COUNTERFOIL_LEDGER", raising=False)
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})
    url = postgres_server.fresh_database()
    database = make_url(url).database or ""
    with connected(postgres_server.url()) as administrator:
        for login, more in LOGINS.items():
            administrator.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' {more}")
        administrator.execute(f'ALTER DATABASE "{database}" OWNER TO founder')
        yield Guarded(postgres_server, database)
        postgres_server.drop(url)
        for role in (f"{SCHEMA}_writer", f"{SCHEMA}_reader", *LOGINS):
            administrator.execute(f'DROP ROLE IF EXISTS "{role}"')


@pytest.fixture
def guarded(bare: Guarded) -> Guarded:
    """The ledger, made by the founder, who lets two write and one read."""
    bare.done("founder", "db", "upgrade")
    let_in(bare)
    return bare


def let_in(guarded: Guarded) -> None:
    """The logins get their roles."""
    with guarded.session("founder") as founder:
        founder.execute(f"GRANT {SCHEMA}_writer TO ann, abe")
        founder.execute(f"GRANT {SCHEMA}_reader TO rob")


def test_whoever_may_make_roles_makes_the_two_that_cannot_log_in(guarded: Guarded) -> None:
    """F1, F7: a writer may append, a reader may read, and nothing more is given to either, or to everybody."""
    with guarded.session() as session:
        roles = session.execute("SELECT rolname, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb FROM pg_roles "
                                "WHERE rolname LIKE 'guarded%' ORDER BY 1").fetchall()
        assert roles == [("guarded_reader", False, False, False, False), ("guarded_writer", False, False, False, False)]
        rights = session.execute(
            "SELECT c.relname, coalesce(g.rolname, 'public'), string_agg(DISTINCT a.privilege_type, ' ') FROM pg_class c "
            "CROSS JOIN LATERAL (SELECT (aclexplode(c.relacl)).* UNION ALL SELECT (aclexplode(o.attacl)).* FROM "
            "pg_attribute o WHERE o.attrelid = c.oid) a LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE c.relnamespace = "
            "'guarded'::regnamespace AND a.grantee <> c.relowner GROUP BY 1, 2 ORDER BY 1, 2").fetchall()
    assert rights == [
        ("alembic_version", "guarded_reader", "SELECT"), ("alembic_version", "guarded_writer", "SELECT"),
        ("events", "guarded_reader", "SELECT"), ("events", "guarded_writer", "INSERT SELECT"),
        ("payloads", "guarded_reader", "SELECT"), ("payloads", "guarded_writer", "INSERT SELECT"),
        ("streams", "guarded_reader", "SELECT"), ("streams", "guarded_writer", "INSERT SELECT UPDATE"),
        ("streams_stream_seq", "guarded_writer", "USAGE")]


def test_a_writer_runs_resumes_catches_up_and_rebuilds(guarded: Guarded) -> None:
    """F1, F5: and so does every other one with what the first has made: read tables are the role's, not a login's."""
    write({"stops.yaml": PIPELINE.replace("path: in.csv", "path: grows.csv"), "grows.csv": ROWS})
    receipt = guarded.tell("ann", "run", "pipeline.yaml", "--run-id", "story", "-o", "json").answer
    assert (receipt["status"], receipt["outcomes"]) == ("completed", OUTCOMES)
    first = generations(guarded)
    guarded.done("abe", "run", "stops.yaml", "--run-id", "second")
    assert generations(guarded) == first
    guarded.done("abe", "rebuild")
    assert len(generations(guarded)) == len(first) + 1
    guarded.done("founder", "rebuild", "--run", "story")
    guarded.done("ann", "rebuild")
    assert {owner for _, owner in generations(guarded)} == {"guarded_writer"}
    for login in ("ann", "founder"):
        guarded.done(login, "verify")
        guarded.done(login, "show", "second")


def test_a_writer_carries_on_a_run_that_another_began(guarded: Guarded) -> None:
    """F1: the log is no login's."""
    write({"in.json": '[{"id": 1, "text": "fine", "to": "store"}, {"id": ',
           "cut.yaml": PIPELINE.replace("plugin: csv\n  key", "plugin: json\n  key").replace("in.csv", "in.json")})
    assert guarded.tell("ann", "run", "cut.yaml", "--run-id", "story").code == 4
    write({"in.json": '[{"id": 1, "text": "fine", "to": "store"}, {"id": 2, "text": "fine", "to": "store"}]'})
    told = guarded.tell("abe", "resume", "story", "--accept-changes", "-o", "json")
    assert (told.code, told.answer["status"], told.answer["rows"]) == (0, "completed", 2)


def generations(guarded: Guarded) -> list[tuple[str, str]]:
    """The schemas of the read tables with their owners."""
    with guarded.session() as session:
        return session.execute("SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace "
                               "WHERE nspname ~ '^guarded_read' ORDER BY 1").fetchall()


def is_refused(session: psycopg.Connection, statement: str) -> bool:
    """Whether somebody may not do a thing, by the server's rights or by a guard."""
    try:
        session.execute(statement)
    except (errors.InsufficientPrivilege, errors.RaiseException):
        return True
    return False


WRITERS_MAY_NOT = [
    "UPDATE events SET body = ''", "UPDATE events SET type = 'x' WHERE seq = 1", "DELETE FROM events", "TRUNCATE events",
    "DELETE FROM streams", "TRUNCATE streams", "UPDATE streams SET run_id = 'other'", "UPDATE streams SET stream = 99",
    "UPDATE payloads SET bytes = NULL, salt = NULL", "DELETE FROM payloads", "TRUNCATE payloads",
    "DROP TRIGGER events_no_update ON events", "ALTER TABLE events DISABLE TRIGGER ALL",
    "ALTER TABLE events ADD COLUMN x int", "DROP TABLE events CASCADE", "DROP SCHEMA guarded CASCADE",
    "CREATE TABLE guarded.more (x int)",
    "CREATE INDEX ON events (type)", "CREATE TRIGGER x BEFORE INSERT ON events EXECUTE FUNCTION refuse()",
    "CREATE FUNCTION guarded.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "ALTER SCHEMA guarded RENAME TO gone",
    "UPDATE alembic_version SET version_num = 'x'", "SET session_replication_role = replica",
    "SELECT setval('streams_stream_seq', 1)", "ALTER ROLE guarded_writer SUPERUSER",
    "SET ROLE founder", "COPY events TO '/dev/null'", "BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE",
    "ALTER FUNCTION refuse() RENAME TO other", "CREATE RULE x AS ON INSERT TO events DO INSTEAD NOTHING",
]


def test_a_writer_can_change_nothing_that_is_on_record(guarded: Guarded) -> None:
    """F1: no update, no delete, no guard switched off, by a login that runs pipelines, or in the role itself."""
    guarded.done("ann", "run", "pipeline.yaml", "--run-id", "story")
    before = guarded.everything()
    for role in ("ann", "guarded_writer"):
        for statement in WRITERS_MAY_NOT:
            with guarded.session("ann") as session:
                session.execute(f'SET ROLE "{role}"')
                assert is_refused(session, statement), statement
    assert guarded.everything() == before


def test_a_reader_reads_everything_and_is_told_what_the_writer_is_told(guarded: Guarded) -> None:
    """F6: every command that reads, over read tables that are current; nothing is made for it."""
    guarded.done("ann", "run", "pipeline.yaml", "--run-id", "story")
    before = guarded.everything()
    for command in (*READING, ("verify", "story")):
        assert guarded.done("rob", *command, "-o", "json") == guarded.done("ann", *command, "-o", "json"), command
    assert guarded.everything() == before


def test_a_reader_finds_read_tables_that_were_edited(guarded: Guarded) -> None:
    """F5, W13: by name, and the same rows as one who may write: here without a schema to compare in."""
    guarded.done("ann", "run", "pipeline.yaml", "--run-id", "story")
    with guarded.session("ann") as session:
        session.execute("SET ROLE guarded_writer")
        session.execute("UPDATE guarded_read_1.p_tokens SET outcome = 'completed' WHERE outcome = 'failed'")
        session.execute("DELETE FROM guarded_read_1.p_rows WHERE row_index = 0")
    found = [guarded.tell(login, "rebuild", "--verify", "-o", "json") for login in ("rob", "ann")]
    assert [told.code for told in found] == [5, 5]
    one, other = (sorted(map(repr, told.rows)) for told in found)
    assert one == other and {row["table"] for row in found[0].rows} == {"rows", "token_outcomes"}
    assert guarded.tell("rob", "verify").code == 5


def test_a_reader_sees_tables_that_are_behind_and_is_told_so(guarded: Guarded) -> None:
    """F5, W13: he cannot bring them up; a writer who reads does, and then he sees it all."""
    guarded.done("ann", "run", "pipeline.yaml", "--run-id", "story")
    both.run(guarded.url("ann"), "pipeline.yaml", "later")
    told = guarded.tell("rob", "runs", "-o", "json")
    assert (told.code, [row["run_id"] for row in told.rows]) == (0, ["story"])
    assert told.error.startswith("READ_TABLES_BEHIND: ") and "later" in told.error
    assert guarded.tell("rob", "db", "check").err.startswith("READ_TABLES_BEHIND: ")
    for command in (("show", "later"), ("explain", "later", "0"), ("explain", "later", "--row", "0")):
        asked = guarded.tell("rob", *command)
        assert asked.code in (2, 6) and "UNEXPECTED" not in asked.err, asked.err
        assert "READ_TABLES_BEHIND" in asked.err.splitlines()[-1] or "nothing is told of this run yet" in asked.err
    guarded.done("abe", "runs")
    assert guarded.done("rob", "runs", "-o", "json").count('"later"') == 1


def test_a_reader_is_refused_what_writes(guarded: Guarded) -> None:
    """F1: exit 6, one line; nothing is begun: no sink is touched either."""
    both.run(guarded.url("ann"), "pipeline.yaml", "story")
    for made in Path().glob("*.csv"):
        if made.name != "in.csv":
            made.unlink()
    writing: list[tuple[str, ...]] = [("run", "pipeline.yaml"), ("rebuild",), ("rebuild", "--run", "story")]
    for command in (*writing, ("runs",)):
        guarded.refused("rob", *command)
    guarded.done("ann", "runs")
    for command in writing:
        guarded.refused("rob", *command)


READERS_MAY_NOT = [
    *WRITERS_MAY_NOT, "INSERT INTO streams (run_id, size, epoch, root, frontier, status) VALUES ('x', 0, 0, '', '', 'x')",
    "INSERT INTO events SELECT stream, seq + 1000, type, v, token, row_index, at, body FROM events",
    "UPDATE streams SET size = size", "SELECT nextval('streams_stream_seq')", "CREATE SCHEMA more",
    "DELETE FROM guarded_read_1.p_tokens", "UPDATE guarded_read_1.p_runs SET status = 'x'",
    "DROP SCHEMA guarded_read CASCADE", "CREATE TABLE guarded_read.x (y int)", "CREATE VIEW guarded_read_1.x AS SELECT 1",
]


def test_a_reader_can_write_nothing(guarded: Guarded) -> None:
    """F1, F6: neither the log nor the read tables."""
    guarded.done("ann", "run", "pipeline.yaml", "--run-id", "story")
    before = guarded.everything()
    for statement in READERS_MAY_NOT:
        with guarded.session("rob") as session:
            assert is_refused(session, statement), statement
    assert guarded.everything() == before


def test_a_login_without_a_role_is_refused_everything(guarded: Guarded) -> None:
    """F1, F6: with the names of the roles that it could be given."""
    guarded.done("ann", "run", "pipeline.yaml", "--run-id", "story")
    for command in (*READING, ("verify",), ("run", "pipeline.yaml"), ("db", "upgrade"), ("rebuild",)):
        assert "guarded_reader" in guarded.refused("eve", *command)


def test_who_may_look_at_the_log_alone_is_told_what_it_says(guarded: Guarded) -> None:
    """F1, F6: bytes, guards and laws are no secret of the read tables; that those were not compared is said."""
    guarded.done("ann", "run", "pipeline.yaml", "--run-id", "story")
    with guarded.session() as session:
        session.execute("GRANT USAGE ON SCHEMA guarded TO eve")
        session.execute("GRANT SELECT ON ALL TABLES IN SCHEMA guarded TO eve")
    told = guarded.tell("eve", "verify", "story", "-o", "json")
    assert (told.code, told.answer["integrity"]["ok"], told.answer["lawfulness"]["ok"]) == (0, True, True)
    assert told.error.startswith("READ_TABLES_NOT_COMPARED: ")
    with guarded.session("founder") as session:
        session.execute("ALTER TABLE events DISABLE TRIGGER USER")
        session.execute("UPDATE events SET body = 'x' WHERE stream = 2 AND seq = 3")
    assert guarded.tell("eve", "verify", "story").code == 5


def test_read_tables_from_before_there_were_roles_are_handed_over(bare: Guarded) -> None:
    """F5: a founder who might make no roles, and later may: the writers go on with what he made, the reader sees it."""
    with connected(bare.server.url()) as administrator:
        administrator.execute("ALTER ROLE founder NOCREATEROLE")
        bare.done("founder", "run", "pipeline.yaml", "--run-id", "story")
        assert {owner for _, owner in generations(bare)} == {"founder"}
        with bare.session() as session:
            assert session.execute("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'guarded%'").fetchone() == (0,)
        administrator.execute("ALTER ROLE founder CREATEROLE")
    bare.done("founder", "db", "upgrade")
    let_in(bare)
    assert {owner for _, owner in generations(bare)} == {"guarded_writer"}
    bare.done("rob", "show", "story")
    both.run(bare.url("ann"), "pipeline.yaml", "second")
    bare.done("abe", "show", "second")
    bare.done("abe", "rebuild")
    bare.done("rob", "show", "second")


def test_what_the_founder_cannot_give_is_said_with_the_statement_that_gives_it(bare: Guarded) -> None:
    """F7: making schemas is the database owner's to allow; when he has, nothing is said any more."""
    with connected(bare.server.url()) as administrator:
        administrator.execute(f'ALTER DATABASE "{bare.database}" OWNER TO CURRENT_USER')
        administrator.execute(f'GRANT CREATE ON DATABASE "{bare.database}" TO founder')
        told = bare.tell("founder", "db", "upgrade")
        assert told.code == 0 and told.error.startswith("LEDGER_ROLES: ")
        _, _, statement = told.error.partition("do: ")
        administrator.execute(statement)
    bare.done("founder", "db", "upgrade")
    let_in(bare)
    bare.done("ann", "run", "pipeline.yaml", "--run-id", "story")


def test_a_founder_who_is_no_writer_is_told_how_to_become_one(bare: Guarded) -> None:
    """F5, F7: an administrator made the roles; what such a founder projected nobody else could read."""
    with connected(bare.server.url()) as administrator:
        for role in ("writer", "reader"):
            administrator.execute(f"CREATE ROLE {SCHEMA}_{role} NOLOGIN")
        bare.tell("founder", "run", "pipeline.yaml", "--run-id", "story")
        told = bare.tell("founder", "db", "upgrade")
        assert told.code == 0 and told.error.startswith("LEDGER_ROLES: ")
        for role in ("writer TO ann, abe", "reader TO rob"):
            administrator.execute(f"GRANT {SCHEMA}_{role}")
        administrator.execute(told.error.partition("do: ")[2])
    bare.done("founder", "db", "upgrade")
    bare.done("abe", "rebuild")
    bare.done("rob", "show", "story")
