"""The Python API: the functions behind the commands, with the same answers and typed errors."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import counterfoil
from counterfoil import CounterfoilError, Ledger, Receipt
from ledger.errors import LedgerUnavailable, RunIncomplete, SettingsInvalid, UsageError
from tests.doors.kept import on_files
from tests.doors.story import OUTCOMES, PIPELINE, ROWS
from tests.doors.told import LEDGER, URL, ask, lines, write


@pytest.fixture(autouse=True)
def files() -> None:
    """The story's pipeline and rows."""
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})


def run(run_id: str = "story") -> Receipt:
    """A run of it."""
    return counterfoil.run("pipeline.yaml", run_id=run_id, ledger=URL)


def test_what_is_promised_is_there_and_documented() -> None:
    """Every public name, each with a docstring."""
    assert set(counterfoil.__all__) >= {"run", "replay", "rebuild", "explain", "verify", "Ledger", "Receipt", "Verdict",
                                        "transform", "effect", "RowError", "RetryableError", "CounterfoilError"}
    for name in counterfoil.__all__:
        assert inspect.getdoc(getattr(counterfoil, name)), name


def test_a_run_gives_its_receipt() -> None:
    """What the command prints: how it ended, its counts, size and root."""
    receipt = run()
    assert (receipt.run, receipt.pipeline, receipt.status, receipt.rows) == ("story", "story", "completed", 9)
    assert receipt.outcomes == OUTCOMES
    verified = counterfoil.verify("story", ledger=URL, expect=(receipt.size, receipt.root))
    assert (verified.ok, verified.completeness.status) == (True, "proven")
    assert not counterfoil.verify("story", ledger=URL, expect=(receipt.size + 1, receipt.root)).ok
    assert (ask("show", "story")["events"], ask("show", "story")["root"]) == (receipt.size, receipt.root)


@on_files
def test_replay_explain_and_rebuild_answer_as_the_commands_do() -> None:
    """F4, E11: one implementation, two doors."""
    run()
    verdict = counterfoil.replay("story", ledger=URL, deep=True)
    assert (verdict.lawful, verdict.findings, verdict.outcomes) == (True, [], OUTCOMES)
    assert counterfoil.replay("story", ledger=URL, until_seq=3).events == 3
    story = {"schema": "counterfoil/explain/1", **counterfoil.explain("story", "1", ledger=URL)}
    assert story == ask("explain", "story", "1")
    assert counterfoil.explain("story", row=1, ledger=URL) == counterfoil.explain("story", "1", ledger=URL)
    assert counterfoil.explain("sto", "1", at=12, ledger=URL)["as_of_seq"] == 12
    assert Path(counterfoil.rebuild(ledger=URL)).is_file()
    assert Path(counterfoil.rebuild(ledger=URL, run="story")).is_file()
    assert ask("explain", "story", "1") == story


def test_errors_are_typed_and_carry_their_exit_code() -> None:
    """One family; a code, what, where, and the next step."""
    with pytest.raises(UsageError, match="FILE_MISSING") as missing:
        counterfoil.run("none.yaml", ledger=URL)
    assert missing.value.exit_code == 2
    write({"bad.yaml": PIPELINE.replace("on_error: rejects", "on_error: reject")})
    with pytest.raises(SettingsInvalid, match="ERROR_EDGE_MISSING") as invalid:
        counterfoil.run("bad.yaml", ledger=URL)
    assert (invalid.value.exit_code, invalid.value.next_step) == (3, "did you mean rejects?")
    with pytest.raises(LedgerUnavailable, match="LEDGER_MISSING") as gone:
        counterfoil.replay("story", ledger=URL)
    assert gone.value.exit_code == 6
    run()
    with pytest.raises(LedgerUnavailable, match="RUN_EXISTS"):
        run()
    for wrong in (lambda: counterfoil.explain("story", ledger=URL),
                  lambda: counterfoil.explain("story", "0", row=0, ledger=URL),
                  lambda: counterfoil.replay("nope", ledger=URL), lambda: counterfoil.verify("", ledger=URL),
                  lambda: counterfoil.run("pipeline.yaml", run_id="", ledger=URL), lambda: Ledger("")):
        with pytest.raises(CounterfoilError) as error:
            wrong()
        assert error.value.exit_code == 2
        assert error.value.code in str(error.value)


def test_a_run_can_be_stopped_and_watched() -> None:
    """`stopping` is asked between rows: the run is interrupted, on record with the reason; `progress` hears of every row."""
    seen: list[int] = []
    receipt = counterfoil.run("pipeline.yaml", run_id="watched", ledger=URL, progress=seen.append)
    assert sum(seen) == receipt.rows
    receipt = counterfoil.run("pipeline.yaml", run_id="stopped", ledger=URL, stopping=lambda: "enough")
    assert (receipt.status, receipt.rows) == ("interrupted", 0)
    assert counterfoil.replay("stopped", ledger=URL).lawful
    assert ask("show", "stopped")["status"] == "interrupted"


def test_a_failed_source_raises_and_the_run_is_on_record() -> None:
    """Typed; the read tables are caught up all the same."""
    write({"in.csv": "id,id\n1,2\n"})
    with pytest.raises(RunIncomplete, match="SOURCE_FAILED") as failed:
        run()
    assert failed.value.exit_code == 4
    assert ask("show", "story")["status"] == "interrupted"


@on_files
def test_a_ledger_is_opened_closed_and_freed() -> None:
    """A context manager; two may read, one may write."""
    run()
    with Ledger(URL) as one, Ledger(URL) as two, one.catch_up() as tables:
        assert [head.run for head in one.heads()] == [head.run for head in two.heads()]
        assert tables.select("SELECT count(*) FROM runs") == [(1,)]
    with Ledger.create(URL), pytest.raises(LedgerUnavailable, match="LEDGER_BUSY"):
        run("second")
    run("second")
    with Ledger.create("sqlite:///fresh.db") as fresh:
        assert [head.run for head in fresh.heads()] == ["$ledger"]


def test_without_a_ledger_named_it_is_the_files_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the command; the environment counts before the file."""
    counterfoil.run("pipeline.yaml")
    assert Path("counterfoil.db").is_file()
    write({"named.yaml": PIPELINE + "ledger: {url: 'sqlite:///file.db'}\n"})
    counterfoil.run("named.yaml")
    assert Path("file.db").is_file()
    monkeypatch.setenv("COUNTERFOIL_LEDGER", "sqlite:///environment.db")
    counterfoil.run("named.yaml")
    assert Path("environment.db").is_file()


@on_files
@pytest.mark.parametrize("path", [LEDGER, f"./{LEDGER}", f"{LEDGER}-wal", f"{LEDGER}.lock", f"{LEDGER}.read.1.db"])
def test_no_sink_may_write_to_the_ledger(path: str) -> None:
    """Refused before anything is made, whoever named the ledger; a name that only begins so is fine."""
    write({"sink.yaml": PIPELINE.replace("path: rejects.jsonl", f"path: {path}")})
    with pytest.raises(SettingsInvalid, match=r"PATH_TAKEN.*sinks\.rejects\.options\.path"):
        counterfoil.run("sink.yaml", ledger=URL)
    assert not Path(LEDGER).exists()
    write({"fine.yaml": PIPELINE.replace("path: rejects.jsonl", f"path: {LEDGER}.jsonl")})
    counterfoil.run("fine.yaml", run_id="fine", ledger=URL)
    assert len(lines(f"{LEDGER}.jsonl")) == 3


def test_no_sink_may_write_to_the_pipeline_file() -> None:
    """It would be gone with the first row."""
    write({"sink.yaml": PIPELINE.replace("path: rejects.jsonl", "path: ./sink.yaml")})
    with pytest.raises(SettingsInvalid, match=r"PATH_TAKEN.*the pipeline file.*sink.yaml:\d+"):
        counterfoil.run("sink.yaml", ledger=URL)


def test_secrets_are_in_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came from the environment, and redacted fields, are neither recorded nor written nor printed."""
    monkeypatch.setenv("BLOCKED", "hunter2secret")
    monkeypatch.setenv("COUNTERFOIL_KEY_FILE", str(Path("key").absolute()))
    write({"pipeline.yaml": PIPELINE.replace("[bad]", '["${BLOCKED}"]').replace("key: id", "redact: [text]"),
           "in.csv": "id,text,to\n1,mysecrettext,store\nmysecretid,mysecrettext,store\n"})
    run()
    for path in Path().iterdir():
        content = path.read_bytes()
        assert b"hunter2secret" not in content, path
        assert path.name == "in.csv" or b"mysecrettext" not in content, path
    for text in ("retry: {max_attempts: '${BLOCKED}'}", ""):
        write({"bad.yaml": PIPELINE.replace("on_error: discard", "on_error: ${BLOCKED}", 1) + text})
        with pytest.raises(SettingsInvalid) as refused:
            counterfoil.run("bad.yaml", ledger=URL)
        assert "hunter2secret" not in str(refused.value)
        assert "***" in str(refused.value)
