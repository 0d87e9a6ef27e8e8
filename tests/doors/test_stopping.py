"""Ctrl-C once and twice, SIGTERM, a reader that goes away, a source or a sink that fails: what stands afterwards.

Real processes; a source that waits is a named pipe, and what a process has done is read from its ledger or its stderr.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doors.kept import on_files
from tests.doors.processes import COMMAND, SECONDS_MAX, logged, pipe, running, until
from tests.doors.told import URL, ask, done, lines, tell, write
from tests.house.tree import ROOT

PIPELINE = """\
source:
  plugin: csv
  on_success: rows
  options: {path: in.csv}
retry: {max_attempts: 2, initial_delay_seconds: 3600, max_delay_seconds: 3600}
gates:
  - {name: split, input: rows, condition: "row['id'] != '0'", routes: {"true": fork, "false": good}, fork_to: [fast, slow]}
transforms:
  - {name: ask, plugin: "own_slow:ask", input: slow, on_success: answered, on_error: discard}
coalesce:
  - {name: join, branches: {fast: fast, slow: answered}, policy: require_all, merge: union, on_success: good}
sinks:
  good: {plugin: json, options: {path: good.jsonl}}
"""

ASK = """\
from counterfoil import RetryableError

def ask(row):
    if row["id"] == "wait":
        open("pipe").read()
    raise RetryableError("nobody answers")
"""


@pytest.fixture(autouse=True)
def files() -> None:
    """A pipeline whose rows wait for an hour at a step, so that their groups stay open."""
    write({"pipeline.yaml": PIPELINE, "own_slow.py": ASK})


def lawful(status: str) -> None:
    """The log stands, whatever was cut."""
    verdict = ask("replay", "cut", "--deep")
    assert (verdict["ok"], verdict["status"]) == (True, status)
    verified = ask("verify", "cut")
    assert verified["ok"] is True, verified


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_finishes_what_is_in_hand_and_leaves_groups_open(number: signal.Signals) -> None:
    """W14, D4, D8: exit 130, the stop on record, rows that were done stored, groups open, listed with what they wait for."""
    with pipe("1\n2\n0\n"), running("run", "pipeline.yaml", "--run-id", "cut", "--ledger", URL) as process:
        until(process, logged("StepFailed", 2))
        until(process, logged("SinkWriteConfirmed", 1))
        process.send_signal(number)
        out, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 130, err
    assert "stopping: finishing what is in hand" in err
    assert err.splitlines()[-1].startswith("STOPPED: ")
    assert err.splitlines()[-1].endswith(f"`counterfoil resume cut --ledger {shlex.quote(URL)}` carries it on")
    assert "Traceback" not in err
    assert "run cut interrupted: 3 rows" in out
    lawful("interrupted")
    shown = ask("show", "cut")
    assert (shown["status"], shown["stopped"]) == ("interrupted", {"code": "stopped", "detail": number.name})
    again = f"`counterfoil resume cut --ledger {shlex.quote(URL)}` carries"
    assert f"stopped: stopped {number.name}; {again}" in done("show", "cut").out
    assert lines("good.jsonl") == [{"id": "0"}]
    last = ask("query", "SELECT type, body FROM log.events ORDER BY stream DESC, seq DESC LIMIT 1")["rows"][0]
    assert last["type"] == "RunInterrupted"
    assert number.name in last["body"]
    groups = [one for one in ask("pending", "cut")["rows"] if one["kind"] == "coalesce_group"]
    assert [(one["what"], one["has"], one["waits_for"]) for one in groups] == [
        ("0+join", ["fast"], ["slow"]), ("1+join", ["fast"], ["slow"])]
    assert {one["what"] for one in ask("pending", "cut")["rows"]} >= {"0.slow", "1.slow"}
    assert all(one["since"] and one["since_seq"] for one in groups)
    assert ask("tokens", "cut", "--outcome", "open")["rows"]


def test_a_signal_is_heard_while_nothing_comes() -> None:
    """W14: the source is silent, nothing is in hand: it stops all the same."""
    with pipe(""), running("run", "pipeline.yaml", "--run-id", "cut", "--ledger", URL) as process:
        until(process, logged("RunClaimed", 1))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, "Traceback" in err) == (130, False)
    lawful("interrupted")


@on_files
def test_a_run_that_waits_for_the_ledger_ends_at_the_first_signal() -> None:
    """Nothing is in hand yet: it ends at once, and no run of that name is on record."""
    write({"other.yaml": PIPELINE.replace("path: in.csv", "path: other.csv"), "other.csv": "id\n0\n"})
    with pipe(""), running("run", "pipeline.yaml", "--run-id", "cut", "--ledger", URL) as holder:
        until(holder, logged("RunClaimed", 1))
        with running("run", "other.yaml", "--run-id", "late", "--ledger", URL, "--wait") as waiting:
            until(waiting, lambda: "--wait" in Path(f"/proc/{waiting.pid}/cmdline").read_text())
            until(waiting, blocked(waiting.pid))
            waiting.send_signal(signal.SIGINT)
            out, err = waiting.communicate(timeout=SECONDS_MAX)
        assert (waiting.returncode, out, "Traceback" in err) == (130, "", False)
        assert err.splitlines()[-1].startswith("STOPPED: ")
        holder.send_signal(signal.SIGINT)
        holder.communicate(timeout=SECONDS_MAX)
    assert [run["run_id"] for run in ask("runs")["rows"]] == ["cut"]


def blocked(process: int) -> Callable[[], bool]:
    """Whether a process stands in line for a file lock, as the kernel lists it."""
    return lambda: any("->" in line and f" {process} " in line for line in Path("/proc/locks").read_text().splitlines())


def test_a_second_signal_ends_the_process_at_once_and_the_log_stands() -> None:
    """W14: a plugin hangs: the first signal waits for it, the second does not; the ledger is free, whole and lawful."""
    os.mkfifo("pipe")
    with pipe("1\nwait\n"), running("run", "pipeline.yaml", "--run-id", "cut", "--ledger", URL) as process:
        writer = os.open("pipe", os.O_WRONLY)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "again: exit at once" in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS_MAX)
        os.close(writer)
    assert (process.returncode, out, err) == (130, "", "")
    lawful("running")
    assert (ask("show", "cut")["status"], ask("show", "cut")["stopped"]) == ("running", None)
    assert "died without a word; `counterfoil resume cut -" in done("show", "cut").out
    write({"pipeline.yaml": PIPELINE.replace("path: in.csv", "path: other.csv"), "other.csv": "id\n0\n"})
    done("run", "pipeline.yaml", "--run-id", "next")


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    """W14: `| head -1`: one line read, no traceback, nothing on stderr."""
    write({"pipeline.yaml": PIPELINE, "in.csv": "id\n" + "0\n" * 2000})
    done("run", "pipeline.yaml", "--run-id", "many")
    for command in (("tokens", "many"), ("tokens", "many", "-o", "jsonl"), ("query", "SELECT * FROM node_states")):
        with running(*command, "--ledger", URL) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            process.stdout.close()
            assert process.stderr is not None
            assert process.stderr.read() == ""
            assert process.wait(SECONDS_MAX) == 0


def test_a_run_whose_reader_has_gone_is_run_to_its_end() -> None:
    """W14: nobody hears what became of it, on stdout or on stderr; it is sealed all the same, and its exit code is 0."""
    write({"in.csv": "id\n" + "0\n" * 50})
    for run, form in (("plain", "table"), ("data", "json")):
        with running("run", "pipeline.yaml", "--run-id", run, "--ledger", URL, "-o", form) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.stderr is not None
            process.stderr.close()
            assert process.wait(SECONDS_MAX) == 0
        assert (ask("show", run)["status"], ask("verify", run)["ok"]) == ("completed", True)


def test_what_went_wrong_is_said_and_counts_though_the_answer_has_no_reader() -> None:
    """W14: a source that fails, a receipt that does not fit, rows that are not wanted: the exit code, and why on stderr."""
    rows = ", ".join('{"id": "0"}' for _ in range(50))
    write({"in.json": f"[{rows}, {{\"id\": ", "in.csv": "id\n0\n", "pipeline.yaml": PIPELINE,
           "broken.yaml": PIPELINE.replace("plugin: csv", "plugin: json").replace("in.csv", "in.json")})
    done("run", "pipeline.yaml", "--run-id", "good")
    for arguments, code, said in (
            (("run", "broken.yaml"), 4, "SOURCE_FAILED"), (("run", "broken.yaml", "-o", "json"), 4, "SOURCE_FAILED"),
            (("verify", "good", "--expect", f"1:{'0' * 64}"), 5, "VERIFY_FAILED"),
            (("verify", "good", "--expect", f"1:{'0' * 64}", "-o", "json"), 5, "VERIFY_FAILED")):
        with running(*arguments, "--ledger", URL) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.stderr.read().splitlines()[-1].startswith(f"{said}: ")
            assert process.wait(SECONDS_MAX) == code


def test_a_run_without_a_standard_error_is_a_run() -> None:
    """Nobody hears of its progress."""
    write({"pipeline.yaml": PIPELINE, "in.csv": "id\n0\n"})
    shell = ["sh", "-c", 'exec "$@" 2>&-', "sh", *COMMAND, "run", "pipeline.yaml", "--run-id", "mute", "--ledger", URL]
    told = subprocess.run(shell, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert (told.returncode, told.stdout.splitlines()[0][:13]) == (0, "run mute comp")


def test_a_full_disk_behind_stdout_is_one_line() -> None:
    """Data that could not be written is said: exit 1, no traceback."""
    write({"pipeline.yaml": PIPELINE, "in.csv": "id\n0\n"})
    done("run", "pipeline.yaml", "--run-id", "one")
    broken = PIPELINE.replace("plugin: csv", "plugin: json").replace("in.csv", "in.json")
    write({"broken.yaml": broken, "in.json": '[{"id": '})
    for command, code, said in ((("tokens", "one"), 1, "STDOUT_FAILED"), (("show", "one", "-o", "json"), 1, "STDOUT_FAILED"),
                                (("run", "broken.yaml"), 4, "SOURCE_FAILED")):
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            told = subprocess.run([*COMMAND, *command, "--ledger", URL], stdout=full, stderr=subprocess.PIPE, text=True,
                                  env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
        assert told.returncode == code
        assert told.stderr.startswith(f"{said}: ")
        assert told.stderr.count("\n") == 1


def test_help_without_a_reader_is_no_error() -> None:
    """W14: `--help | true`."""
    for arguments in (("--help",), ("run", "--help"), ("--version",)):
        with running(*arguments) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert (process.stderr.read(), process.wait(SECONDS_MAX)) == ("", 0)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_a_terminal_of_another_encoding_gets_what_it_can_show(encoding: str) -> None:
    """No UnicodeEncodeError: what the terminal cannot show is escaped."""
    done("db", "upgrade")
    told = subprocess.run([*COMMAND, "query", "SELECT 'caf\u00e9 \u65e5' AS x", "--ledger", URL], capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}, check=False)
    assert (told.returncode, told.stderr) == (0, b"")
    assert told.stdout.decode(encoding).splitlines()[1] == "caf\u00e9 \u65e5".encode(encoding, "backslashreplace").decode(
        encoding)


def test_a_source_that_fails_midway_keeps_what_it_gave() -> None:
    """W10: exit 4, the reason and where; rows so far are stored and counted; the run is interrupted, and lawful."""
    rows = ", ".join('{"id": "0"}' for _ in range(700))
    write({"in.json": f"[{rows}, {{\"id\": ", "pipeline.yaml": PIPELINE.replace("plugin: csv", "plugin: json").replace(
        "in.csv", "in.json")})
    told = tell("run", "pipeline.yaml", "--run-id", "cut", "-o", "json")
    assert told.code == 4
    assert told.error.startswith("SOURCE_FAILED: ")
    assert "after position 700" in told.error
    assert (told.answer["status"], told.answer["rows"]) == ("interrupted", 700)
    assert len(lines("good.jsonl")) == 700
    assert ask("show", "cut")["outcomes"] == [{"outcome": "routed", "sink_name": "good", "tokens": 700}]
    lawful("interrupted")


@pytest.mark.parametrize("place", ["taken/good.jsonl", "folder"])
def test_a_sink_that_cannot_be_opened_interrupts_the_run(place: str) -> None:
    """Exit 4 and which sink; no row is read; the run is on record."""
    write({"taken": "a file", "folder/x": "", "in.csv": "id\n0\n",
           "pipeline.yaml": PIPELINE.replace("good.jsonl", place)})
    told = tell("run", "pipeline.yaml", "--run-id", "cut")
    assert told.code == 4
    assert told.error.startswith("SINK_FAILED: ")
    assert "sink good" in told.error
    assert ask("show", "cut")["rows_read"] == 0
    lawful("interrupted")


def test_a_source_that_is_not_there_is_said_before_anything_is_made(folder: Path) -> None:
    """Exit 4, the key and its line; no run, no ledger, no sink."""
    told = tell("run", "pipeline.yaml")
    assert (told.code, told.error.split(":")[0]) == (4, "SOURCE_UNREADABLE")
    assert "pipeline.yaml:4" in told.error
    assert sorted(path.name for path in folder.iterdir()) == ["own_slow.py", "pipeline.yaml"]
