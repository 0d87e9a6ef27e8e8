"""The query box: everything can be read, nothing can be changed or reached, and everything ends."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from counterfoil.boxes import ask_sqlite
from counterfoil.ledgers import Ledger
from ledger.errors import UsageError
from tests.doors import story
from tests.doors.kept import on_files
from tests.doors.story import Story

ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """One story for the whole file."""
    return story.told(tmp_path_factory.mktemp("story"))


def content(told: Story) -> dict[str, str]:
    """Every file in the story's folder by its hash."""
    folder = Path(told.url.removeprefix("sqlite:///")).parent
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if not path.name.endswith("-shm")}


REFUSED = [
    "DROP TABLE p_runs", "DELETE FROM p_runs", "UPDATE p_runs SET status = 'x'", "INSERT INTO p_runs SELECT * FROM p_runs",
    "REPLACE INTO p_runs SELECT * FROM p_runs", "CREATE TABLE x (y)", "CREATE TEMP TABLE x (y)", "CREATE VIEW v AS SELECT 1",
    "CREATE TEMP TRIGGER t AFTER INSERT ON p_runs BEGIN SELECT 1; END", "ALTER TABLE p_runs ADD COLUMN x", "REINDEX",
    "ATTACH 'x.db' AS x", "ATTACH ':memory:' AS x", "DETACH log", "PRAGMA query_only = 0", "PRAGMA journal_mode = DELETE",
    "PRAGMA table_info(p_runs)", "SELECT * FROM pragma_table_info('p_runs')", "VACUUM", "VACUUM INTO 'x.db'", "ANALYZE",
    "BEGIN", "COMMIT", "SAVEPOINT s", "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE p_runs", "DELETE FROM log.events",
    "UPDATE log.streams SET size = 0", "DROP TRIGGER log.events_no_delete", "SELECT load_extension('x')",
    "SELECT writefile('x', 'y')", "SELECT readfile('x')", "SELECT edit('x')", "SELECT fts3_tokenizer('x')",
    "SELECT * FROM nowhere", "SELECT nothing FROM runs", "SELEC 1", "", "   ", "/* nothing */", "SELECT ?", "SELECT 'a",
    "SELECT randomblob(100000000)", "SELECT zeroblob(100000000)", "SELECT 1\x00", "WITH x AS (DELETE FROM p_runs) SELECT 1",
    "SELECT group_concat(body) FROM log.events, log.events, log.events, log.events",
]


@on_files
@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_not_one_reading_select_is_refused(told: Story, sql: str) -> None:
    """F6: no writing, no other file, no setting, no second statement, no function that reaches out; nothing changes."""
    before = content(told)
    refused = told.tell("query", sql)
    assert (refused.code, refused.error.split(":")[0], refused.out) == (2, "QUERY_REFUSED", "")
    assert content(told) == before
    assert not list(Path().iterdir())


@on_files
def test_a_query_that_does_not_end_is_ended(told: Story) -> None:
    """F6: bounded in time, whatever it does meanwhile."""
    with Ledger(told.url) as ledger, ledger.catch_up() as tables:
        for sql in (ENDLESS, f"SELECT * FROM ({ENDLESS})", "SELECT count(*) FROM " + ", ".join(["log.events"] * 8)):
            with pytest.raises(UsageError, match="QUERY_REFUSED: expected one SELECT that ends within 0 s"):
                ask_sqlite(sql, Path(tables.where), Path(ledger.shown), seconds=0.05)


def test_a_query_is_cut_at_its_bound_and_says_so(told: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """`complete` is false in JSON, a line on stderr otherwise."""
    monkeypatch.setattr("counterfoil.boxes.ROWS_MAX", 3)
    for sql, complete in (("SELECT seq FROM tokens LIMIT 3", True), ("SELECT seq FROM tokens LIMIT 4", False)):
        answer = told.ask("query", sql)
        assert (len(answer["rows"]), answer["complete"]) == (3, complete)
        for form in ("table", "jsonl"):
            said = told.done("query", sql, "-o", form).err
            assert said == ("" if complete else "incomplete: only the first 3 rows are here\n")


@on_files
def test_the_read_tables_and_the_log_can_be_asked_together(told: Story) -> None:
    """F6: why each row that was not stored was not, with the event that says so."""
    rows = told.ask("query", "SELECT o.token_id, o.reason, e.type FROM token_outcomes o JOIN log.streams s ON s.run_id = "
                    "o.run_id JOIN log.events e ON e.stream = s.stream AND e.seq = o.seq WHERE o.run_id = 'story' AND "
                    "o.outcome = 'failed' ORDER BY o.seq")["rows"]
    assert [(row["token_id"], row["type"]) for row in rows] == [("4", "StepFailed"), ("5.a", "CoalesceFailed")]
    assert told.ask("query", "SELECT json_extract(e.body, '$.token') AS token FROM log.events e LIMIT 1")["complete"] is True


@on_files
def test_values_of_every_kind_are_shown(told: Story) -> None:
    """Bytes as text or hex, null as null, two columns of one name apart, huge numbers as they are."""
    answer = told.ask("query", "SELECT x'414f' AS a, x'ff00' AS b, NULL AS c, 1 AS d, 2 AS d, 9223372036854775807 AS e, "
                      "0.5 AS f")
    assert answer["rows"] == [{"a": "AO", "b": "ff00", "c": None, "d_1": 1, "d_2": 2, "e": 9223372036854775807, "f": 0.5}]
    assert told.done("query", "SELECT 1 WHERE 0").out == "(none)\n"
    assert told.ask("query", "VALUES (1), (2)")["rows"] == [{"column1": 1}, {"column1": 2}]


ATTACK = "\x1b[31mred\x1b]0;title\x07\r\n\x9b2J\u202egpj.exe\u200b\x00<script>alert(1)</script>"


@on_files
def test_data_cannot_talk_to_a_terminal(told: Story) -> None:
    """Escapes, controls, direction marks and zero widths are shown, in tables and in JSON; HTML is only text."""
    sql = "SELECT char({}) AS value".format(", ".join(str(ord(letter)) for letter in ATTACK))
    table = told.done("query", sql).out
    assert table.removesuffix("\n").replace("\n", "").isprintable()
    assert "\\x1b[31mred" in table
    assert "\\u202egpj.exe\\u200b" in table
    json = told.done("query", sql, "-o", "json")
    assert json.out.removesuffix("\n").isprintable()
    assert json.answer["rows"] == [{"value": ATTACK}]
    named = told.done("query", f'SELECT 1 AS "{ATTACK.replace(chr(0), "")}"').out
    assert named.replace("\n", "").isprintable()
