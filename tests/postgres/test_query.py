"""The query box on PostgreSQL: all of the ledger can be read, nothing can be changed or reached, and everything ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from sqlalchemy.engine import make_url

from counterfoil.ledgers import Ledger
from counterfoil.postgres_box import ask_postgres
from counterfoil.postgres_words import words
from ledger.errors import UsageError
from ledger.postgres_url import parsed
from tests.doors.story import PIPELINE, ROWS
from tests.doors.told import ask, done, tell, write
from tests.kit.postgres import Postgres
from tests.kit.postgres_databases import connected
from tests.ledger.revisions import Place

ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t"


class Asked(NamedTuple):
    """One ledger with a run in it, asked as its owner and as the administrator, whom no right binds; `file` has it too."""

    owner: str
    administrator: str
    file: str

    def everything(self) -> Any:
        """All that the database holds."""
        return Place(self.administrator).everything()


@pytest.fixture(scope="module")
def asked(_postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """One ledger for the whole file; beside it a schema of somebody else's, with what an attacker would put there."""
    _postgres.settle()
    url = _postgres.fresh_database()
    administrator = _postgres.url(make_url(url).database or "")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COUNTERFOIL_LEDGER", raising=False)
        folder = tmp_path_factory.mktemp("asked")
        patch.chdir(folder)
        write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})
        done("run", "pipeline.yaml", "--run-id", "story", ledger=url)
        done("run", "pipeline.yaml", "--run-id", "story", ledger="sqlite:///story.db")
        with connected(administrator) as session:
            for statement in (
                "CREATE SCHEMA others", "GRANT USAGE, CREATE ON SCHEMA others, public TO PUBLIC",
                "CREATE TABLE others.wages (paid int)", "INSERT INTO others.wages VALUES (4711)",
                "GRANT ALL ON others.wages TO PUBLIC", "CREATE TABLE public.wages AS SELECT * FROM others.wages",
                "CREATE FUNCTION others.evil(int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS "
                "'BEGIN DELETE FROM others.wages; RETURN 1; END'",
                "CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN DELETE FROM others.wages; END'",
                "CREATE FUNCTION public.evil() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                "CREATE OPERATOR others.+ (FUNCTION = others.evil, RIGHTARG = int)",
                "CREATE DOMAIN others.taken AS int CHECK (others.evil(VALUE) = 1)",
                "CREATE SCHEMA log", "CREATE TABLE log.wages AS SELECT * FROM others.wages",
                "CREATE TABLE log.events AS SELECT 'no event of ours' AS type", "GRANT USAGE ON SCHEMA log TO PUBLIC",
                "GRANT ALL ON ALL TABLES IN SCHEMA log TO PUBLIC",
            ):
                session.execute(statement)
        yield Asked(url, administrator, f"sqlite:///{folder}/story.db")
    _postgres.settle()
    _postgres.drop(url)


REFUSED = {
    "writing": [
        "DROP TABLE p_runs", "DELETE FROM p_runs", "UPDATE p_runs SET status = 'x'",
        "INSERT INTO p_runs SELECT * FROM p_runs", "CREATE TABLE x (y int)", "CREATE TEMP TABLE x (y int)",
        "CREATE VIEW v AS SELECT 1", "ALTER TABLE p_runs ADD COLUMN x int", "REINDEX TABLE p_runs", "VACUUM", "ANALYZE",
        "BEGIN", "COMMIT", "SAVEPOINT s", "SELECT 1; SELECT 2", "DELETE FROM log.events", "SELECT 1; DROP TABLE p_runs",
        "UPDATE log.streams SET size = 0", "DROP TRIGGER events_no_delete ON log.events", "SELECT * FROM nowhere",
        "SELECT nothing FROM runs", "SELEC 1", "", "   ", ";", "/* nothing */", "-- nothing", "SELECT ?", "SELECT 'a",
        "SELECT $1", "SELECT 1\x00", "SELECT %s", "EXPLAIN ANALYZE SELECT 1", "SHOW ALL", "SET ROLE postgres", "LISTEN x",
        "DO $$ BEGIN DELETE FROM p_runs; END $$", "CALL x()", "PREPARE x AS SELECT 1", "EXECUTE x", "LOCK TABLE p_runs",
        "MERGE INTO p_runs USING p_runs o ON true WHEN MATCHED THEN DELETE", "TABLE p_runs; TABLE p_runs", "SELECT \udcff",
        "EXPLAIN SELECT 1",
    ],
    "stepping out": [
        "COMMIT; CREATE TABLE x (y int)", "SELECT 1; COMMIT; CREATE TABLE x (y int)", "SELECT 1) AS x; --",
        "SELECT 1) AS x; COMMIT; --", "SELECT 1) AS asked LIMIT 1; DROP TABLE p_runs; SELECT * FROM (SELECT 1",
        "SELECT 1) AS x --", "SELECT 1) AS x /*", "SELECT 1) AS x, (SELECT 2",
        "SELECT 1 --\n) AS x; DROP TABLE p_runs; --", "SELECT $$a$$); COMMIT; SELECT ($$b$$",
        "SELECT E'\\'') AS x; COMMIT; --'", "SELECT '\\') AS x; COMMIT; --'",
    ],
    "writing from inside": [
        "WITH x AS (DELETE FROM p_runs RETURNING *) SELECT * FROM x", "SELECT 1 INTO x", "SELECT 1 INTO TEMP x",
        "WITH x AS (INSERT INTO events SELECT * FROM events RETURNING 1) SELECT 1", "SELECT * FROM p_runs FOR UPDATE",
        "SELECT * FROM p_runs FOR KEY SHARE", "SELECT * FROM log.streams FOR UPDATE NOWAIT",
        "SELECT nextval('streams_stream_seq')", "SELECT setval('streams_stream_seq', 1)",
        "SELECT lo_import('/etc/passwd')", "SELECT lo_from_bytea(0, 'x')", "SELECT lo_create(0)",
        "SELECT pg_notify('x', 'y')", "SELECT pg_logical_emit_message(true, 'x', 'y')",
    ],
    "reaching out": [
        "COPY (SELECT 1) TO PROGRAM 'true'", "COPY p_runs TO '/dev/null'", "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_catalog.pg_read_file('/etc/passwd')", "SELECT pg_ls_dir('.')", "SELECT pg_stat_file('.')",
        "SELECT pg_sleep(60)", "SELECT set_config('role', 'postgres', false)",
        "SELECT set_config('statement_timeout', '0', false)",
        "SELECT pg_catalog.set_config('transaction_read_only', 'off', true)",
        'SELECT "set_config"(\'role\', \'none\', true)', "SELECT Set_Config /* so */ ('role', 'none', true)",
        "SELECT set_config--\n('role', 'none', true)", 'SELECT U&"\\0073et_config"(\'role\', \'none\', true)',
        "SELECT U&'\\0061'", 'SELECT pg_catalog."set_config"(\'a.b\', \'c\', true)',
        "SELECT E'a'\n'\\' || ', set_config('role', 'none', true) --'",
        "SELECT 1, (SELECT set_config('role', 'none', true))", "SELECT current_setting('data_directory')",
        "SELECT query_to_xml('SELECT pg_sleep(60)', true, true, '')",
        "SELECT table_to_xml('others.wages', true, true, '')", "SELECT schema_to_xml('others', true, true, '')",
        "SELECT database_to_xml(true, true, '')", "SELECT cursor_to_xml('x', 1, true, true, '')",
        "SELECT ts_stat('SELECT 1')", "SELECT ts_rewrite('a'::tsquery, 'SELECT 1, 2')",
        "SELECT dblink('dbname=x', 'DROP TABLE y')", "SELECT pg_terminate_backend(1)", "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock(1)", "SELECT pg_reload_conf()", "SELECT pg_export_snapshot()",
        "SELECT pg_switch_wal()", "SELECT txid_current()", "SELECT pg_current_xact_id()", "SELECT * FROM pg_authid",
        "SELECT * FROM pg_catalog.pg_class", 'SELECT * FROM "pg_settings"', "SELECT * FROM pg_stat_activity",
        "SELECT obj_description(1)", "SELECT 1259::regclass", "SELECT (1259::oid)::pg_catalog.regclass::text",
        "SELECT CAST(10 AS regrole)", "SELECT to_regclass('x')",
        "SELECT pg_get_functiondef(1)", "SELECT has_table_privilege('others.wages', 'SELECT')",
    ],
    "of others": [
        "SELECT * FROM others.wages", 'SELECT * FROM "others"."wages"', "SELECT * FROM others . wages",
        "SELECT * FROM public.wages", "SELECT * FROM information_schema.tables", "SELECT others.evil(1)",
        "SELECT public.evil()", "SELECT public.lower('A')", "SELECT 1 OPERATOR(others.+) 2", "SELECT OPERATOR(others.+) 1",
        "SELECT 1::others.taken", "SELECT CAST(1 AS others.taken)", "SELECT evil(1)", "SELECT * FROM wages",
        "SELECT count(*) FROM runs, others.wages", "SELECT (SELECT paid FROM others.wages)",
        "SELECT 1 AS others, others.paid FROM others.wages", "SELECT * FROM log.wages",
        "SELECT log.wages.paid FROM log.wages",
    ],
    "calling without parentheses": [
        "SELECT word FROM (SELECT (('SELECT to_tsvector(paid::text) FROM others.wages'::text).ts_stat).*) x",
        "SELECT ('SELECT 1'::text).ts_stat", "SELECT ('search_path'::text) . /* so */ \"current_setting\"",
        "SELECT x.t.pg_ls_dir FROM (SELECT '.'::text AS t) x", "SELECT x.evil FROM (SELECT 1 AS t) x",
    ],
    "too much": [
        "SELECT repeat('x', 100000000)", "SELECT 1 WHERE '" + "x" * 1_000_001 + "' = ''",
        "SELECT " + "(" * 50_000 + "1" + ")" * 50_000, "SELECT " + "x" * 64,
    ],
}
"""What an attacker would ask, by what it is to do."""


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_one_reading_select_is_refused(asked: Asked, what: str) -> None:
    """F6: also to the owner of everything, and to an administrator, whom the server would let do it; nothing changes."""
    before = asked.everything()
    for ask_for in (boxed(asked.owner, 20), boxed(asked.administrator, 20)):
        for sql in REFUSED[what]:
            with pytest.raises(UsageError) as refused:
                ask_for(sql)
            assert refused.value.code == "QUERY_REFUSED" and "ends within" in str(refused.value), sql
    assert asked.everything() == before


def test_a_refusal_is_one_line_and_its_exit_code(asked: Asked) -> None:
    """F6: the command's own word, on either database the same; of several statements none is begun."""
    for sql in ("SELECT 1; COMMIT; CREATE TABLE x (y int)", "SELECT pg_sleep(60)", "", "SELECT 1) AS x; --", "SELEC 1"):
        refused = tell("query", sql, ledger=asked.owner)
        assert (refused.code, refused.error.split(":")[0], refused.out) == (2, "QUERY_REFUSED", "")


def boxed(url: str, seconds: float) -> Callable[[str], Any]:
    """The box alone, with a shorter time."""
    with Ledger(url) as ledger, ledger.catch_up() as tables:
        name = tables.where
    return lambda sql: ask_postgres(sql, name, parsed(url), seconds)


def test_a_query_that_does_not_end_is_ended(asked: Asked) -> None:
    """F6: bounded in time, whatever it does meanwhile, and the server does not go on with it."""
    ask_for = boxed(asked.owner, 0.05)
    for sql in (ENDLESS, f"SELECT * FROM ({ENDLESS}) x", "SELECT count(*) FROM generate_series(1, 100000000000)",
                "SELECT count(*) FROM " + ", ".join(f"log.events e{n}" for n in range(8)),
                "SELECT repeat('x', 1000000) FROM generate_series(1, 1000000) ORDER BY 1"):
        with pytest.raises(UsageError, match="QUERY_REFUSED: expected one SELECT that ends within 0 s"):
            ask_for(sql)
    with connected(asked.administrator) as session:
        assert session.execute("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = "
                               "current_database() AND pid <> pg_backend_pid()").fetchone() == (0,)


def test_an_answer_is_cut_at_its_bounds_and_says_so(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """F6: in rows, and in bytes: what is beyond is never held; a row that is too long is refused."""
    monkeypatch.setattr("counterfoil.boxes.ROWS_MAX", 3)
    for sql, complete in (("SELECT seq FROM tokens LIMIT 3", True), ("SELECT seq FROM tokens LIMIT 4", False)):
        answer = ask("query", sql, ledger=asked.owner)
        assert (len(answer["rows"]), answer["complete"]) == (3, complete)
    monkeypatch.undo()
    ask_for = boxed(asked.owner, 20)
    monkeypatch.setattr("counterfoil.boxes.ANSWER_BYTES_MAX", 10_000)
    found = ask_for("SELECT repeat('x', 1000) FROM generate_series(1, 10000)")
    assert (len(found.rows), found.cut) == (9, True)
    with pytest.raises(UsageError, match=r"found: a row of 20000028 bytes;"):
        ask_for("SELECT repeat('x', 20000000) FROM generate_series(1, 100)")


SAME = [
    f"SELECT * FROM {view} ORDER BY 1, 2, 3" for view in ("nodes", "edges", "rows", "tokens", "token_parents",
                                                                    "routing_events", "token_outcomes")
] + [
    "SELECT run_id, status, tokens, rows_read FROM runs;", "SELECT count(*) AS n FROM log.events",
    "SELECT type, v, count(*) AS n FROM log.events GROUP BY type, v ORDER BY type", "SELECT max(seq) AS n FROM events",
    "SELECT o.token_id, o.reason, e.type FROM token_outcomes o JOIN log.streams s ON s.run_id = o.run_id JOIN log.events e "
    "ON e.stream = s.stream AND e.seq = o.seq WHERE o.run_id = 'story' AND o.outcome = 'failed' ORDER BY o.seq",
    "SELECT count(*) AS n FROM routing_events WHERE mode = 'copy'", "SELECT 'pg_sleep(1); set_config(' AS text",
    "SELECT 1 AS d, 2 AS d, NULL AS n, 9223372036854775807 AS e, 0.5 AS f", "VALUES (1), (2)", "SELECT 1 WHERE 1 = 0",
    "SELECT avg(seq) AS a, sum(seq) AS s, min(token_id) AS t FROM tokens",
    "SELECT sum(seq) * 1.0 / 4 AS quarter FROM tokens",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT n FROM t",
    "SELECT count(*) AS n FROM log.payloads p WHERE p.salt IS NOT NULL",
    "SELECT 'é' || \"token_id\" AS u FROM tokens ORDER BY 1",
    "SELECT token_id FROM tokens -- those that\nWHERE run_id = 'story' /* are of this run */ ORDER BY token_id;",
]


def test_the_same_question_has_the_same_answer_on_both_databases(asked: Asked) -> None:
    """F6, law P5: names, values and their types; the log is `log.events` here too, though no schema is called so."""
    for sql in SAME:
        here, there = (tell("query", sql, "-o", "json", ledger=url) for url in (asked.owner, asked.file))
        assert (here.code, there.code) == (0, 0), here.err + there.err
        assert [without_hashes(row) for row in here.rows] == [without_hashes(row) for row in there.rows], sql
        assert [list(row) for row in here.rows] == [list(row) for row in there.rows]


def without_hashes(row: dict[str, Any]) -> dict[str, Any]:
    """Two runs of one file are salted differently."""
    return {name: value if not name.endswith("hash") else value is None for name, value in row.items()}


def test_values_that_sqlite_does_not_know_are_shown(asked: Asked) -> None:
    """F6: as text, numbers as numbers, bytes as text or hex; also those that the driver has no value for."""
    row, = ask("query", "SELECT '\\x414f'::bytea AS a, '\\xff00'::bytea AS b, true AS c, 'infinity'::timestamptz AS d, "
               "DATE '0044-03-15 BC' AS e, '{\"a\": [1]}'::json AS f, ARRAY[1.5, 2] AS g, '[1,3)'::int4range AS h, "
               "INTERVAL '1 day' AS i, 1e40::numeric AS j, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS k, "
               "ROW(1, 'x') AS l",
               ledger=asked.owner)["rows"]
    assert row == {"a": "AO", "b": "ff00", "c": True, "d": "infinity", "e": "0044-03-15 BC", "f": '{"a": [1]}',
                   "g": [1.5, 2], "h": "[1, 3)", "i": "P1D", "j": 10**40,
                   "k": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "l": ["1", "x"]}


HARMLESS = [
    "SELECT 1 /* /* */ ) AS x; COMMIT; -- */",
    "SELECT $$set_config('a')$$, $x$; DROP TABLE p_runs; $$ $x$", "SELECT E'it''s \\' ; COMMIT'", "SELECT ';', '--', '/*'",
    "SELECT \"token_id\" AS \"pg sleep(1); --\" FROM tokens", "(SELECT 1) UNION (SELECT 2)", "TABLE runs",
    "SELECT extract(year FROM now()), position('a' IN 'ba'), substring('abc' FROM 2 FOR 1), trim(BOTH 'x' FROM 'xax')",
    "SELECT count(*) FILTER (WHERE outcome = 'failed') OVER (PARTITION BY run_id) FROM token_outcomes",
    "SELECT x.a FROM (VALUES (1), (2)) AS x(a) WHERE x.a IN (1, 2) AND EXISTS (SELECT 1)",
    "SELECT random() < 2, pg_typeof(1)",
    "SELECT convert_from(body, 'UTF8')::json ->> 'type' FROM log.events WHERE log.events.seq = 1",
    "SELECT r.* FROM runs r JOIN LATERAL (SELECT 1) l ON true", "SELECT 1 -- the end", "SELECT lower('A'), 1 + 1, - 1",
    "SELECT * FROM json_to_recordset('[{\"a\": 1}]') AS x(a int)", "SELECT array_agg(token_id ORDER BY seq) FROM tokens",
    "SELECT others.token_id FROM tokens others", "SELECT others.* FROM tokens AS others",
    "SELECT log.events.seq FROM log.events", "SELECT log.seq FROM log.events log",
    "SELECT others.a FROM (SELECT 1) others(a)",
]


def test_what_only_looks_like_an_attack_is_answered(asked: Asked) -> None:
    """F6: words in texts, comments and quoted names are no code; the box is no nuisance."""
    for ask_for in (boxed(asked.owner, 20), boxed(asked.administrator, 20)):
        for sql in HARMLESS:
            assert ask_for(sql).rows, sql


def test_a_member_of_the_readers_role_asks_in_that_role(asked: Asked, _postgres: Postgres) -> None:
    """F6: so rights bound whatever the box did not see."""
    with connected(asked.administrator) as session:
        session.execute("CREATE ROLE counterfoil_reader NOLOGIN")
        try:
            assert boxed(asked.administrator, 5)("SELECT current_user").rows == [("counterfoil_reader",)]
        finally:
            session.execute("DROP ROLE counterfoil_reader")


def test_words_are_told_apart_as_the_server_tells_them() -> None:
    """F6: case folds in ASCII alone, a quote within quotes is one, comments nest, a dollar may be of a name or a text."""
    def read(sql: str) -> list[tuple[str, str]]:
        return [(word.kind, word.value) for word in words(sql)]

    assert read('Ab "A""b" éÉ a$$b') == [("name", "ab"), ("quoted", 'A"b'), ("name", "éÉ"), ("name", "a$$b")]
    assert read("1e5 $$a'$$ -/* /* */ */-1") == [("number", "1"), ("name", "e5"), ("text", "$$a'$$"), ("sign", "-"),
                                                 ("sign", "-"), ("number", "1")]
    assert read("'a''b'||E'\\'c'--'\nx") == [("text", "'a''b'"), ("sign", "|"), ("sign", "|"), ("text", "E'\\'c'"),
                                             ("name", "x")]
    assert read("a\u00a0b") == [("name", "a\u00a0b")]
    for sql in ("'a", '"', '""', "$a$b$", "/* /* */", "U&'x'", "u&\"x\"", "'a' 'b'", "'a'\n--x\n'b'", "$1", "\0"):
        with pytest.raises(ValueError, match=r"."):
            words(sql)
