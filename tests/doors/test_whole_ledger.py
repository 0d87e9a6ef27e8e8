"""`verify` over a ledger that somebody reached into: each answer is given whatever the others say, and by name."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.doors.kept import on_files
from tests.doors.told import JOINED, LEDGER, URL, ask, done, tell, write

READ = f"{LEDGER}.read.1.db"


@pytest.fixture(autouse=True)
def runs() -> None:
    """Two runs of thirty rows."""
    write({"pipeline.yaml": JOINED, "in.csv": "id\n" + "".join(f"{n}\n" for n in range(30))})
    for run in ("one", "two"):
        done("run", "pipeline.yaml", "--run-id", run)


def edit(path: str, *statements: str) -> None:
    """Change a file behind the program's back; guards are put aside and put back."""
    with closing(sqlite3.connect(path)) as connection:
        guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in guards:
            connection.execute(sql)
        connection.commit()


def broken(*arguments: str) -> Any:
    """The JSON answer of a command that has to find something."""
    told = tell(*arguments, "-o", "json", "--ledger", URL)
    assert told.code == 5, told.err
    return told.answer


def forget(run: str) -> list[str]:
    """Every trace of a run in its own stream."""
    stream = f"(SELECT stream FROM streams WHERE run_id = '{run}')"
    return [f"DELETE FROM events WHERE stream = {stream}", f"DELETE FROM payloads WHERE stream = {stream}",
            f"DELETE FROM streams WHERE run_id = '{run}'"]


@on_files
def test_a_run_that_was_removed_whole_is_named_though_nothing_of_it_is_left() -> None:
    """F6: the ledger's own stream opened it and has no more of it."""
    edit(LEDGER, *forget("two"))
    told = tell("verify", "one", "--ledger", URL)
    assert told.code == 5
    assert "registry at run two" in told.out


@on_files
def test_a_ledger_whose_runs_were_all_removed_is_no_empty_ledger() -> None:
    """F6: there is nothing to verify, and that is the finding."""
    edit(LEDGER, *forget("one"), *forget("two"))
    for path in Path().glob(f"{LEDGER}.read.*"):
        path.unlink()
    told = tell("verify", "--ledger", URL)
    assert told.code == 5
    assert "registry at run one" in told.out


@on_files
def test_edits_of_one_run_s_tables_do_not_hide_those_of_another() -> None:
    """F6: however many rows of one run were edited, another run's are told of."""
    edit(READ, "UPDATE p_tokens SET outcome = 'failed' WHERE run = 1", "UPDATE p_tokens SET reason = 'x' WHERE run = 2")
    assert tell("verify", "two", "--ledger", URL).code == 5
    tables = {one["table"] for one in broken("verify", "two")["projections"]["findings"]}
    assert tables == {"token_outcomes"}


@on_files
def test_a_run_that_only_the_read_tables_know_is_named() -> None:
    """F6: a row brought in among the runs."""
    edit(READ, "INSERT INTO p_runs (run, run_id, status) VALUES (9, 'ghost', 'completed')")
    told = tell("verify", "--ledger", URL)
    assert (told.code, "run ghost" in told.out) == (5, True)


@on_files
@pytest.mark.parametrize("damage", [b"", b"not a database at all", bytes(4096)])
def test_damaged_read_tables_leave_the_other_answers_standing(damage: bytes) -> None:
    """F6: bytes and laws are answered whatever became of the tables, which are a finding of their own."""
    for path in Path().glob(f"{READ}-*"):
        path.unlink()
    Path(READ).write_bytes(damage)
    found = broken("verify", "one")
    assert (found["integrity"]["ok"], found["lawfulness"]["ok"], found["projections"]["ok"]) == (True, True, False)
    done("rebuild")
    assert ask("verify", "one")["ok"] is True


def test_the_sinks_files_are_read_again_only_when_asked() -> None:
    """law R4: what a file holds now is compared with what was confirmed."""
    assert ask("verify", "two", "--world")["world"]["findings"] == []
    content = Path("good.jsonl").read_text(encoding="utf-8")
    Path("good.jsonl").write_text(content.replace('"7"', '"8"'), encoding="utf-8")
    assert ask("verify", "two")["ok"] is True
    findings = broken("verify", "two", "--world")["world"]["findings"]
    assert {one["law"] for one in findings} == {"R4"}
    Path("good.jsonl").unlink()
    assert tell("verify", "two", "--world", "--ledger", URL).code == 5


@on_files
@pytest.mark.parametrize("column", ["type", "token"])
def test_text_that_is_no_text_is_a_finding_of_its_run_and_hides_no_other(column: str) -> None:
    """F6: one edited column is told at its place; the other run is still answered for."""
    edit(LEDGER, f"UPDATE events SET {column} = CAST(x'fffe' AS TEXT) WHERE stream = 2 AND seq = 5")
    assert broken("verify", "one")["integrity"]["ok"] is False
    assert ask("verify", "two")["ok"] is True
    assert [run["run_id"] for run in ask("runs")["rows"]] == ["one", "two"]


@on_files
def test_answers_about_a_run_that_cannot_be_read_to_its_end_say_so() -> None:
    """F3: what is not told is said to be missing."""
    for path in Path().glob(f"{LEDGER}.read.*"):
        path.unlink()
    edit(LEDGER, "UPDATE events SET body = x'7b' WHERE stream = 2 AND seq = 40")
    assert ask("pending", "one")["complete"] is False
    assert ask("query", "SELECT count(*) AS n FROM tokens")["complete"] is False
    assert ask("pending", "two")["complete"] is True
