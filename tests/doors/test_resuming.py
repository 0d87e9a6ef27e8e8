"""`resume` and `abandon` as commands: what a stopped or killed run comes to, and what they refuse.

Real processes where a process has to die; everything else in this one.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import counterfoil
from ledger.errors import CounterfoilError, UsageError
from tests.doors.kept import on_files, url_from_anywhere
from tests.doors.processes import SECONDS_MAX, logged, pipe, running, until
from tests.doors.told import URL, ask, done, lines, tell, write

PIPELINE = """\
source:
  plugin: csv
  on_success: rows
  options: {path: in.csv, on_validation_failure: discard, schema: {mode: fixed, fields: ["id: int"]}}
gates:
  - {name: split, input: rows, condition: "True", routes: {"true": fork}, fork_to: [left, right]}
transforms:
  - {name: own, plugin: "own_step:step", input: left, on_success: done, on_error: bad, options: {by: 2}}
coalesce:
  - {name: join, branches: {left: done, right: right}, policy: require_all, merge: nested, on_success: good}
sinks:
  good: {plugin: json, options: {path: good.jsonl}}
  bad: {plugin: json, options: {path: bad.jsonl}}
"""

STEP = """\
import os

def step(row, *, by: int = 1):
    if os.path.exists("deadly") and row["id"] == 1:
        os._exit(9)
    return {"id": row["id"] * by}
"""

ROWS = 6


@pytest.fixture(autouse=True)
def files() -> None:
    """A fork and a join over a few rows."""
    write({"pipeline.yaml": PIPELINE, "own_step.py": STEP, "in.csv": "id\n" + "".join(f"{n}\n" for n in range(ROWS))})


def events(run: str = "cut") -> int:
    """How many events a run has."""
    found: int = ask("show", run)["events"]
    return found


def killed() -> None:
    """A run whose process a step kills at row 1."""
    Path("deadly").touch()
    assert ended("run", "pipeline.yaml", "--run-id", "cut", "--ledger", URL) == 9
    Path("deadly").unlink()


def ended(*arguments: str) -> int:
    """How a process of the program ends."""
    with running(*arguments) as process:
        return process.wait(SECONDS_MAX)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_a_signal_stopped_goes_on_with_the_rows_that_were_not_read(number: signal.Signals) -> None:
    """W14, G7, G13, law P3: unread rows are read, finished ones are not redone, and no row has a second root."""
    Path("in.csv").unlink()
    with pipe("0\n1\n"), running("run", "pipeline.yaml", "--run-id", "cut", "--ledger", URL) as process:
        until(process, logged("SinkWriteConfirmed", 1))
        process.send_signal(number)
        process.communicate(timeout=SECONDS_MAX)
    Path("in.csv").unlink()
    write({"in.csv": "id\n" + "".join(f"{n}\n" for n in range(ROWS))})
    read = ask("show", "cut")["rows_read"]
    told = done("resume", "cut", "--accept-changes")
    assert f"run cut completed: {ROWS} rows" in told.out
    assert lines("good.jsonl") == [{"left": {"id": 2 * n}, "right": {"id": n}} for n in range(ROWS)]
    types = ask("query", "SELECT type, token FROM log.events WHERE type IN ('RowRead', 'RunClaimed')")["rows"]
    assert [one["token"] for one in types if one["type"] == "RowRead"] == [str(n) for n in range(ROWS)]
    assert len([one for one in types if one["type"] == "RunClaimed"]) == 2
    assert 0 < read < ROWS
    assert ask("replay", "cut", "--deep")["ok"] is True
    assert ask("verify", "cut")["ok"] is True


def test_a_step_that_kills_the_process_is_found_and_the_rest_completes() -> None:
    """W8, law T10: after the first death each step says that it begins; after three more its row leaves by `on_error`."""
    killed()
    Path("deadly").touch()
    assert [ended("resume", "cut", "--ledger", URL) for _ in range(3)] == [9, 9, 9]
    assert "run cut completed" in done("resume", "cut").out
    assert [row["right"]["id"] for row in lines("good.jsonl")] == [0, 2, 3, 4, 5]
    states = ask("query", "SELECT attempt, status, error FROM node_states WHERE token_id = '1.left' AND node_id = 'own'")
    assert [tuple(one.values()) for one in states["rows"]] == [(n, "abandoned", "process_died") for n in (1, 2, 3)]
    assert {one["token_id"]: one["reason"] for one in ask("tokens", "cut", "--outcome", "failed")["rows"]} == {
        "1.right": "branch_lost:left"}


def test_a_sealed_run_is_left_alone() -> None:
    """law P4: it says so, answers the receipt again, and appends nothing."""
    first = done("run", "pipeline.yaml", "--run-id", "cut", "-o", "json").answer
    before, content = events(), Path("good.jsonl").read_bytes()
    told = done("resume", "cut", "-o", "json")
    assert told.err.startswith("RUN_SEALED: run cut is completed")
    assert (told.answer["size"], told.answer["root"]) == (first["size"], first["root"])
    assert (events(), Path("good.jsonl").read_bytes()) == (before, content)
    done("abandon", "cut", "--reason", "too late")
    assert (events(), ask("show", "cut")["status"]) == (before, "completed")


CHANGES = {
    "a setting": (("pipeline.yaml", PIPELINE.replace("by: 2", "by: 3")), "transforms[own].options.by", "2", "3"),
    "a limit": (("pipeline.yaml", PIPELINE + "limits: {open_groups: 7}\n"), "limits.open_groups", "nothing", "7"),
    "a plugin's code": (("own_step.py", STEP + "\n# other\n"), "plugin of own.code", "", ""),
    "the source": (("in.csv", "id\n0\n1\n2\n3\n4\n5\n6\n"), "source size_bytes", "15", "17"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_refused_field_by_field_and_accepted_on_record(name: str) -> None:
    """W10, G13: nothing is appended by the refusal; what was accepted stands in the claim."""
    (file, text), field, was, now = CHANGES[name]
    killed()
    before = events()
    write({file: text})
    told = tell("resume", "cut")
    assert told.code == 3
    diff = [line for line in told.err.splitlines() if line.startswith("  ")]
    assert any(line.startswith(f"  {field}: was {was}") and f" is {now}" in line for line in diff), told.err
    assert told.err.splitlines()[-1].startswith("PIPELINE_CHANGED: ")
    assert events() == before
    done("resume", "cut", "--accept-changes")
    claims = ask("query", "SELECT body FROM log.events WHERE type = 'RunClaimed' ORDER BY seq")["rows"]
    assert field in claims[-1]["body"]
    assert field not in claims[0]["body"]
    assert ask("replay", "cut", "--deep")["ok"] is True


def test_a_graph_of_another_shape_is_refused_for_good() -> None:
    """Open tokens stand in the graph on record; the way out is named."""
    killed()
    before = events()
    write({"pipeline.yaml": PIPELINE.replace("policy: require_all", "policy: best_effort, timeout_seconds: 5")})
    for told in (tell("resume", "cut"), tell("resume", "cut", "--accept-changes")):
        assert (told.code, told.err.splitlines()[-1].partition(":")[0]) == (3, "PIPELINE_RESHAPED")
        assert "coalesce[join].policy: was \"require_all\", is \"best_effort\"" in told.err
        assert "abandon" in told.err
    assert events() == before


def test_comments_and_layout_are_no_change() -> None:
    """What is compared is what the file says."""
    killed()
    write({"pipeline.yaml": "# the same\n" + PIPELINE.replace("{by: 2}", "{ by:  2 }")})
    done("resume", "cut")


def test_a_secret_that_changed_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only that it is another: its fingerprint is keyed."""
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FACTOR", "hunter22")
    write({"pipeline.yaml": PIPELINE.replace("on_validation_failure: discard", "encoding: \"${ENCODING}\"")})
    monkeypatch.setenv("ENCODING", "utf-8")
    killed()
    monkeypatch.setenv("ENCODING", "latin-1")
    told = tell("resume", "cut")
    assert told.code == 3
    assert "  secret ENCODING: was one value, is another" in told.err.splitlines()
    assert "latin" not in told.err


def test_a_source_that_was_read_to_its_end_is_needed_no_more() -> None:
    """D9: only what is open is carried on."""
    asking = "  - {name: ask, plugin: \"own_step:later\", input: right, on_success: asked, on_error: bad}\n"
    write({"pipeline.yaml": PIPELINE.replace("right: right}", "right: asked}").replace("coalesce:", f"{asking}coalesce:")
        + "retry: {max_attempts: 2, initial_delay_seconds: 3600, max_delay_seconds: 3600}\n",
        "own_step.py": STEP + "\nfrom counterfoil import RetryableError\n\ndef later(row):\n"
        "    if row['id'] == 5 and not os.path.exists('mended'):\n        raise RetryableError('busy')\n    return row\n"})
    with running("run", "pipeline.yaml", "--run-id", "cut", "--ledger", URL) as process:
        until(process, logged("SourceExhausted", 1))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SECONDS_MAX)
    Path("in.csv").unlink()
    with running("resume", "cut", "--ledger", URL) as process:
        until(process, logged("RunClaimed", 2))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 130, err
    waiting = [one["what"] for one in ask("pending", "cut")["rows"]]
    assert "5.right" in waiting


def test_paths_are_those_of_the_directory_in_which_the_run_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From anywhere: the same input, the same files, the same plugins."""
    killed()
    here = Path.cwd()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with running("resume", "cut", "--ledger", url_from_anywhere(here)) as process:
        out, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, err
    assert "run cut completed" in out
    assert list(elsewhere.iterdir()) == []
    monkeypatch.chdir(here)
    assert len(lines("good.jsonl")) == ROWS


def test_the_pipeline_file_that_is_named_says_where_the_ledger_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for `run`: --ledger, else the environment, else the file's ledger.url, else the default; from Python too."""
    write({"pipeline.yaml": PIPELINE.replace("own_step:step", "passthrough").replace(", options: {by: 2}", "")
           + f"ledger: {{url: '{URL}'}}\n"})
    done("run", "pipeline.yaml", "--run-id", "cut", ledger=None)
    told = tell("resume", "cut", ledger=None)
    assert (told.code, told.error.partition(":")[0]) == (6, "LEDGER_MISSING")
    done("resume", "cut", "--file", "pipeline.yaml", ledger=None)
    assert counterfoil.resume("cut", file="pipeline.yaml").status == "completed"
    monkeypatch.setenv("COUNTERFOIL_LEDGER", "sqlite:///another.db")
    with pytest.raises(CounterfoilError, match="LEDGER_MISSING"):
        counterfoil.resume("cut", file="pipeline.yaml")
    assert counterfoil.resume("cut", ledger=URL).status == "completed"
    write({"pipeline.yaml": "source: ["})
    assert tell("resume", "cut", "--file", "pipeline.yaml").err.startswith("RUN_SEALED: ")
    assert counterfoil.resume("cut", ledger=URL, file="pipeline.yaml").status == "completed"


@pytest.mark.parametrize("reason", ["", " \n", "\udc80"])
def test_a_reason_that_says_nothing_closes_no_run(reason: str) -> None:
    """From Python too; the run stays as it was."""
    killed()
    with pytest.raises(UsageError, match="expected a reason in words"):
        counterfoil.abandon("cut", reason, ledger=URL)
    assert ask("show", "cut")["status"] == "running"


def test_a_run_whose_directory_is_gone_says_so(tmp_path: Path) -> None:
    """What its paths were relative to is not guessed."""
    home = tmp_path / "home"
    home.mkdir()
    ledger = url_from_anywhere(Path.cwd())
    for name in ("pipeline.yaml", "own_step.py", "in.csv"):
        (home / name).write_text(Path(name).read_text())
    back = Path.cwd()
    os.chdir(home)
    Path("deadly").touch()
    with running("run", "pipeline.yaml", "--run-id", "cut", "--ledger", ledger) as process:
        process.wait(SECONDS_MAX)
    os.chdir(back)
    home.rename(tmp_path / "moved")
    told = tell("resume", "cut")
    assert (told.code, told.error.partition(":")[0]) == (2, "DIRECTORY_GONE")


@on_files
def test_a_run_that_is_going_on_is_held_and_another_one_waits_for_the_ledger() -> None:
    """W5: two processes: who carries a run on that another writes is told which one, and appends nothing."""
    killed()
    Path("in.csv").rename("kept.csv")
    with pipe("0\n"), running("run", "pipeline.yaml", "--run-id", "busy", "--ledger", URL) as process:
        until(process, logged("RunClaimed", 2))
        held, other = tell("resume", "busy"), tell("resume", "cut", "--accept-changes")
        gone = tell("abandon", "busy", "--reason", "why not")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SECONDS_MAX)
    for told, code in ((held, "RUN_HELD"), (gone, "RUN_HELD"), (other, "LEDGER_BUSY")):
        assert (told.code, told.err.splitlines()[-1].partition(":")[0]) == (6, code), told.err
        assert str(process.pid) in told.err
    claims = ask("query", "SELECT count(*) AS n FROM log.events WHERE type = 'RunClaimed'")["rows"]
    assert claims == [{"n": 2}]


def test_abandoning_ends_every_token_and_seals_the_run() -> None:
    """T1, A1: what is open is decided as at the end of the source; nothing is read, called or written."""
    killed()
    done("db", "check")
    content = Path("good.jsonl").read_bytes() if Path("good.jsonl").exists() else b""
    Path("pipeline.yaml").unlink()
    Path("own_step.py").unlink()
    told = done("abandon", "cut", "--reason", "the customer left", "-o", "json")
    assert told.answer["status"] == "failed"
    assert ask("show", "cut")["status"] == "failed"
    verdict = ask("replay", "cut", "--deep")
    assert (verdict["ok"], verdict["sealed"], verdict["open_tokens"]) == (True, True, 0)
    assert Path("good.jsonl").read_bytes() == content
    again = tell("resume", "cut")
    assert (again.code, again.err.partition(":")[0]) == (4, "RUN_SEALED")


@pytest.mark.parametrize(("arguments", "code", "sign"), [
    (("resume", "nobody"), 2, "RUN_UNKNOWN"),
    (("abandon", "nobody", "--reason", "x"), 2, "RUN_UNKNOWN"),
    (("abandon", "cut"), 2, "USAGE"),
    (("abandon", "cut", "--reason", "  "), 2, "USAGE"),
    (("resume",), 2, "USAGE"),
    (("resume", "cut", "--file", "nothing.yaml"), 2, ""),
])  # fmt: skip
def test_what_cannot_be_meant_is_one_line(arguments: tuple[str, ...], code: int, sign: str) -> None:
    """An unknown run, no reason, no such file: said, with what to do."""
    killed()
    told = tell(*arguments)
    assert told.code == code, told.err
    assert told.error.startswith(sign)
    assert events() == ask("show", "cut")["events"]
