"""`verify` and `rebuild`: what holds, what does not, by name, and how the read tables are mended."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.doors.kept import on_files
from tests.doors.story import PIPELINE, ROWS
from tests.doors.told import LEDGER, Told, ask, done, tell, write


@pytest.fixture
def receipt() -> str:
    """One run called `story`; gives its receipt."""
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})
    answer = ask("run", "pipeline.yaml", "--run-id", "story")
    return f"{answer['size']}:{answer['root']}"


def edit(path: Path, *statements: str) -> None:
    """What somebody with an editor for SQLite could do."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def read_tables() -> Path:
    """The generation that is read."""
    return max(Path().glob(f"{LEDGER}.read.*.db"))


def parts(told: Told) -> dict[str, bool]:
    """The answers of `verify`, each its own."""
    return {name: told.answer[name]["ok"] for name in ("integrity", "lawfulness", "projections")}


def test_a_receipt_proves_that_the_log_is_all_there(receipt: str) -> None:
    """The right one proves; none proves nothing, and says so; an earlier one of the same log proves as far as it goes."""
    assert ask("verify", "story", "--expect", receipt)["completeness"]["status"] == "proven"
    assert ask("verify", "story")["completeness"]["status"] == "not_proven"
    assert "completeness not proven" in done("verify", "story").out
    assert ask("verify")["rows"] == [
        {key: value for key, value in ask("verify", "story").items() if key != "schema"}]


def test_a_receipt_that_does_not_fit_fails(receipt: str) -> None:
    """Another root, a longer log, a root of another length: exit 5 and why; bytes and laws still hold."""
    size, root = receipt.split(":")
    wrong = root.replace(root[0], "0" if root[0] != "0" else "1")
    for expect, why in ((f"{size}:{wrong}", f"expected root {wrong} at {size}"), (f"{int(size) + 1}:{root}", "at least"),
                        (f"{int(size) - 1}:{root}", "expected root"), (f"1:{root}", "expected root")):
        told = tell("verify", "story", "--expect", expect, "-o", "json")
        assert told.code == 5
        assert told.error.startswith("VERIFY_FAILED: ")
        assert why in told.error
        assert told.answer["completeness"]["status"] == "failed"
        assert (told.answer["ok"], set(parts(told).values())) == (False, {True})


@pytest.mark.parametrize("expect", ["", "5", ":", f"5:{'g' * 64}", f"-1:{'0' * 64}", f"5:{'0' * 63}",
                                    f"{'9' * 30}:{'0' * 64}"])
def test_what_is_no_receipt_is_refused(receipt: str, expect: str) -> None:
    """Exit 2, and where one comes from; a receipt belongs to one run."""
    told = tell("verify", "story", f"--expect={expect}")
    assert (told.code, told.error.split(":")[0]) == (2, "USAGE")
    assert "counterfoil run" in told.error
    assert tell("verify", "--expect", receipt).code == 2


EDITS = [
    ("an outcome changed", "UPDATE p_tokens SET outcome = 'completed' WHERE token_id = '4'"),
    ("a state removed", "DELETE FROM p_states WHERE token_id = '0'"),
    ("a run's count changed", "UPDATE p_runs SET rows_read = 8"),
    ("a row's key changed", "UPDATE p_rows SET source_key = '1' WHERE source_key = '2'"),
    ("a group's status changed", "UPDATE p_groups SET status = 'merged'"),
    ("a divert removed", "DELETE FROM p_routing WHERE mode = 'divert'"),
]


@on_files
@pytest.mark.parametrize("statement", [statement for _, statement in EDITS], ids=[name for name, _ in EDITS])
def test_a_read_table_that_was_edited_is_found_and_mended(receipt: str, statement: str) -> None:
    """W13: `rebuild --verify` and `verify` both name the table; the log is fine; a rebuild mends it."""
    done("rebuild", "--verify")
    edited = read_tables()
    edit(edited, statement)
    compared = tell("rebuild", "--verify", "-o", "json")
    assert compared.code == 5
    assert compared.error.startswith("PROJECTION_DIFFERS: ")
    assert compared.answer["rows"]
    assert tell("rebuild", "--verify", "--run", "story").code == 5
    told = tell("verify", "story", "-o", "json")
    assert told.code == 5
    assert parts(told) == {"integrity": True, "lawfulness": True, "projections": False}
    done("rebuild")
    assert read_tables() != edited
    assert done("rebuild", "--verify").out == "(none)\n"
    assert ask("verify", "story", "--expect", receipt)["ok"] is True


@on_files
def test_read_tables_that_are_gone_are_made_again(receipt: str) -> None:
    """They can be thrown away at any time."""
    before = ask("explain", "story", "5.a")
    for path in Path().glob(f"{LEDGER}.read.*"):
        path.unlink()
    assert ask("explain", "story", "5.a") == before
    done("rebuild", "--verify")


@on_files
def test_read_tables_of_another_making_are_made_again(receipt: str) -> None:
    """W13: a projector that has changed since, and tables that are not there."""
    before = ask("show", "story")
    for statement in ("UPDATE p_places SET fingerprint = 'another'", "DROP VIEW tokens"):
        edit(read_tables(), statement)
        assert ask("show", "story") == before


def test_a_rebuild_of_one_run_leaves_the_others(receipt: str) -> None:
    """Beside it the others stand as they were."""
    done("run", "pipeline.yaml", "--run-id", "other")
    before = ask("tokens", "other")
    answer = ask("rebuild", "--run", "story")
    assert (answer["schema"], answer["run"]) == ("counterfoil/rebuild/1", "story")
    assert ask("tokens", "other") == before
    assert done("rebuild", "--verify").out == "(none)\n"


@on_files
def test_an_event_that_was_edited_is_found_by_its_place(receipt: str) -> None:
    """Bytes and guards are one answer, laws another; the receipt fails too; what stands before is still told."""
    changed = "UPDATE events SET body = CAST(replace(body, 'rejects', 'refused') AS BLOB) WHERE type = 'Diverted'"
    edit(Path(LEDGER), "DROP TRIGGER events_no_update", changed)
    told = tell("verify", "story", "--expect", receipt, "-o", "json")
    assert told.code == 5
    assert (told.answer["integrity"]["ok"], told.answer["completeness"]["status"]) == (False, "failed")
    kinds = {fault["kind"] for fault in told.answer["integrity"]["findings"]}
    assert {"guard", "tree"} <= kinds
    assert tell("db", "check").code == 6
    assert "integrity    " in tell("verify", "story").out


@on_files
def test_an_unlawful_event_is_named_by_law_place_and_token(receipt: str) -> None:
    """W12, F3: the first offence, in `replay` and in `verify`; `--until` before it is lawful; the tables say how far."""
    with closing(sqlite3.connect(LEDGER)) as connection:
        seq = connection.execute("SELECT min(seq) FROM events WHERE type = 'TokensCoalesced'").fetchone()[0]
    changed = "CAST(replace(body, 'all_arrived', 'quorum_met') AS BLOB)"
    edit(Path(LEDGER), "DROP TRIGGER events_no_update",
         f"UPDATE events SET body = {changed} WHERE stream = 2 AND seq = {seq}")
    told = tell("replay", "story", "-o", "json")
    assert told.code == 5
    assert told.error.startswith(f"LAW_BROKEN: C4 at run story seq {seq}")
    assert (told.answer["ok"], told.answer["findings"][0]["seq"]) == (False, seq)
    assert ask("replay", "story", "--until", str(seq - 1))["ok"] is True
    assert "NOT LAWFUL" in tell("replay", "story").out
    done("rebuild")
    assert ask("show", "story")["unreadable_from_seq"] == seq
    assert ask("tokens", "story")["complete"] is False
    assert ask("runs")["complete"] is False
    assert "incomplete" in done("runs").err


@on_files
def test_a_ledger_rolled_back_to_a_copy_fails_its_receipt(receipt: str) -> None:
    """W13: yesterday's copy is whole and lawful; only a receipt kept elsewhere shows what is missing."""
    with closing(sqlite3.connect(LEDGER)) as connection, closing(sqlite3.connect("copy.db")) as copy:
        connection.backup(copy)
    later = ask("run", "pipeline.yaml", "--run-id", "later")
    for path in Path().glob(f"{LEDGER}-*"):
        path.unlink()
    shutil.copy("copy.db", LEDGER)
    assert tell("verify", "later", "--expect", f"{later['size']}:{later['root']}").error.startswith("RUN_UNKNOWN")
    assert ask("verify", "story", "--expect", receipt)["completeness"]["status"] == "proven"
    ahead = tell("rebuild", "--verify", "-o", "json")
    assert ahead.code == 5
    assert {row["row"]["run_id"] for row in ahead.answer["rows"]} == {"later"}
    everything = tell("verify", "-o", "json")
    assert everything.code == 5
    assert [(one["run"], one["ok"]) for one in everything.rows] == [("story", True), ("later", False)]
    assert "run later" in everything.err.splitlines()[-1]
    assert [run["run_id"] for run in ask("runs")["rows"]] == ["story"]
    assert tell("verify").code == 0


@on_files
def test_tables_that_are_ahead_of_their_run_are_an_error_that_verify_names() -> None:
    """W13: the log was put back to where the run had stopped, the tables tell of its end; who reads hears of the log."""
    write({"pipeline.yaml": PIPELINE.replace("plugin: csv", "plugin: json").replace("path: in.csv", "path: in.json"),
           "in.json": '[{"id": "1", "text": "fine", "to": "void"}, '})
    assert tell("run", "pipeline.yaml", "--run-id", "story").code == 4
    before = ask("show", "story")
    with closing(sqlite3.connect(LEDGER)) as connection, closing(sqlite3.connect("copy.db")) as copy:
        connection.backup(copy)
    write({"in.json": '[{"id": "1", "text": "fine", "to": "void"}]'})
    done("resume", "story", "--accept-changes")
    assert ask("show", "story")["status"] == "completed"
    for path in Path().glob(f"{LEDGER}-*"):
        path.unlink()
    shutil.copy("copy.db", LEDGER)
    told = tell("verify", "story", "-o", "json")
    assert (told.code, parts(told)) == (5, {"integrity": True, "lawfulness": True, "projections": False})
    assert any("projection_places" in str(finding) for finding in told.answer["projections"]["findings"])
    ahead, differs = tell("rebuild", "--verify", "--run", "story").err.splitlines()
    assert ahead.startswith("READ_TABLES_AHEAD: ") and differs.startswith("PROJECTION_DIFFERS: ")
    assert ask("show", "story") == before
    assert ask("verify", "story")["ok"] is True
