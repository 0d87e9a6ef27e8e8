"""Each command in each form, and each mistake that a command line can hold: one line, a code, an exit code."""

from __future__ import annotations

import json
import os
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from counterfoil.cli import main
from tests.doors import story
from tests.doors.story import OUTCOMES, PIPELINE, ROWS, Story
from tests.doors.told import JOINED, URL, ask, done, lines, tell, write

LISTS = {
    "runs": ("runs",),
    "tokens": ("tokens", "story"),
    "pending": ("pending", "story"),
    "query": ("query", "SELECT run_id, pipeline FROM runs"),
    "rebuild": ("rebuild", "--verify"),
}
OBJECTS = {
    "show": ("show", "story"),
    "replay": ("replay", "story"),
    "explain": ("explain", "story", "0"),
    "verify": ("verify", "story"),
    "db": ("db", "current"),
}
PROMISED = {
    "runs": "pipeline status started_at sealed_at settings_hash rows_read tokens events root unreadable_from_seq",
    "nodes": "node_id name kind plugin plugin_version settings_hash step",
    "edges": "edge_id from_node to_node label mode",
    "rows": "row_index token_id valid source_position source_key data_hash seq",
    "tokens": "token_id row_index branch_name fork_group_id join_group_id expand_group_id batch_id seq",
    "token_parents": "token_id parent_token_id ordinal",
    "node_states": "token_id node_id step_index attempt status input_hash output_hash started_at duration_ms error context "
                   "opened_seq closed_seq",
    "routing_events": "seq ordinal token_id node_id edge_id mode routing_group_id reason reason_hash",
    "token_outcomes": "token_id outcome sink_name fork_group_id join_group_id expand_group_id batch_id error_hash reason "
                      "seq",
    "coalesce_groups": "coalesce group_id row_index status trigger failure_reason policy merge_strategy expected_branches "
                       "branches_arrived branches_lost branches_missing arrival_order merged_token_id wait_duration_ms "
                       "collisions opened_seq closed_seq",
    "batches": "batch_id aggregation number status trigger size",
    "batch_members": "batch_id token_id ordinal",
    "calls": "token_id node_id attempt call_index kind status request_hash response_hash latency_ms seq",
    "sink_writes": "sink write_id tokens status uri size_bytes content_hash idempotency_key seq",
    "violations": "law seq token_id expected found",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """One story for the whole file."""
    return story.told(tmp_path_factory.mktemp("story"))


def proven(story: Story, run: str, receipt: dict[str, Any]) -> bool:
    """Whether the ledger holds what the receipt says."""
    completeness = story.ask("verify", run, "--expect", f"{receipt['size']}:{receipt['root']}")["completeness"]
    return bool(completeness["status"] == "proven")


def test_the_run_says_what_became_of_its_rows(told: Story) -> None:
    """B1: every token has one end; the receipt names run, size and root."""
    receipt = told.receipt
    assert receipt["outcomes"] == OUTCOMES
    assert (receipt["schema"], receipt["run"], receipt["status"], receipt["rows"]) == (
        "counterfoil/run/1", "story", "completed", 9)
    assert sum(fate["tokens"] for fate in receipt["fates"]) == receipt["tokens"] == sum(OUTCOMES.values())
    assert proven(told, "story", receipt)


@pytest.mark.parametrize("name", LISTS)
def test_a_list_answers_as_a_table_as_json_and_as_lines(told: Story, name: str) -> None:
    """`schema`, `rows`, `complete`; one object a line; the same rows in all three."""
    answer = told.ask(*LISTS[name])
    assert list(answer) == ["schema", "rows", "complete"]
    assert (answer["schema"], answer["complete"]) == (f"counterfoil/{name}/1", True)
    one_a_line = told.done(*LISTS[name], "-o", "jsonl")
    assert [json.loads(line) for line in one_a_line.out.splitlines()] == answer["rows"]
    table = told.done(*LISTS[name])
    assert (table.err, one_a_line.err) == ("", "")
    assert len(table.out.splitlines()) == max(1, len(answer["rows"])) + (1 if answer["rows"] else 0)


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_answers_as_a_table_and_as_json(told: Story, name: str) -> None:
    """One document with its schema; `jsonl` is the same on one line."""
    answer = told.ask(*OBJECTS[name])
    assert answer["schema"] == f"counterfoil/{name}/1"
    one_line = told.done(*OBJECTS[name], "-o", "jsonl").out
    assert one_line.count("\n") == 1
    assert list(json.loads(one_line)) == list(answer)
    assert told.done(*OBJECTS[name]).err == ""


@pytest.mark.parametrize("table", PROMISED)
def test_each_promised_column_can_be_asked_for(told: Story, table: str) -> None:
    """F6: whoever wrote a query by the document finds every column, `run_id` the first."""
    promised = ["run_id", *PROMISED[table].split()]
    told.done("query", f"SELECT {', '.join(promised)} FROM {table}")
    found = told.ask("query", f"SELECT * FROM {table} LIMIT 1")["rows"]
    assert [next(iter(row)) for row in found] == ["run_id"] * len(found)


def test_values_have_the_promised_forms(told: Story) -> None:
    """Times in UTC with microseconds, hashes in hex, lists as JSON texts, the quarantined row named by its key."""
    run = told.ask("query", "SELECT * FROM runs WHERE run_id = 'story'")["rows"][0]
    assert len(run["started_at"]) == len("2026-11-20T10:15:00.000000Z")
    assert run["started_at"].endswith("Z")
    assert bytes.fromhex(run["root"]).hex() == run["root"] == told.receipt["root"]
    group = told.ask("query", "SELECT * FROM coalesce_groups WHERE run_id = 'story' AND status = 'failed'")["rows"][0]
    assert json.loads(group["expected_branches"]) == ["a", "b"]
    assert json.loads(group["branches_arrived"]) == ["a"]
    lost = json.loads(group["branches_lost"])
    assert list(lost) == ["b"]
    assert "blocked" in lost["b"]
    keys = told.ask("query", "SELECT source_key FROM rows WHERE run_id = 'story' ORDER BY row_index")["rows"]
    assert [row["source_key"] for row in keys] == ["1", "2", "x", "4", "5", "6", "7", "8", "9"]


def test_tokens_are_filtered_by_their_end_and_by_where_they_were(told: Story) -> None:
    """Only those asked for, in the order of their birth; a node that is not there is a mistake, not an empty list."""
    failed = [row["token_id"] for row in told.ask("tokens", "story", "--outcome", "failed")["rows"]]
    assert failed == ["4", "5.a"]
    assert [row["token_id"] for row in told.ask("tokens", "story", "--node", "strict")["rows"]] == ["3"]
    both = told.ask("tokens", "story", "--node", "join", "--outcome", "coalesced")["rows"]
    assert [row["token_id"] for row in both] == ["0.a", "0.b", "8.a", "8.b"]
    assert told.ask("tokens", "story", "--outcome", "open")["rows"] == []
    wrong = told.tell("tokens", "story", "--node", "jion")
    assert (wrong.code, wrong.error.split(":")[0]) == (2, "NODE_UNKNOWN")
    assert "did you mean join?" in wrong.error


@pytest.mark.parametrize("command", ["replay", "show", "tokens", "pending", "verify", "explain", "graph", "rebuild"])
def test_an_unknown_and_an_ambiguous_run_are_said(told: Story, command: str) -> None:
    """Exit 2, the name, and where to look; the beginning of an id is enough when it is only one's."""
    def named(run: str) -> tuple[str, ...]:
        return (command, "--run", run) if command == "rebuild" else (command, run, *(("0",) if command == "explain" else ()))

    for run in ("nope", "", "stories", "%", "STORY", "$ledger", "a\nb", "\x1b[31m"):
        unknown = told.tell(*named(run))
        assert (unknown.code, unknown.error.split(":")[0]) == (2, "RUN_UNKNOWN"), run
        assert "counterfoil runs" in unknown.error
        assert unknown.error.isprintable()
    told.done(*named("st"))
    told.done(*named("d"))


def test_two_runs_with_one_beginning_are_both_named() -> None:
    """The whole id always counts, also when another begins with it."""
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})
    for run in ("one", "one-more"):
        done("run", "pipeline.yaml", "--run-id", run)
    ambiguous = tell("show", "on")
    assert (ambiguous.code, ambiguous.error.split(":")[0]) == (2, "RUN_AMBIGUOUS")
    assert "one, one-more" in ambiguous.error
    assert ask("show", "one")["run"] == "one"


@pytest.mark.parametrize("run", ["", "a b", "a/b", "..\\x", "a\nb", "é", "$ledger", "x" * 129, "a%b", "\x1b"])
def test_a_run_id_that_names_nothing_is_refused(run: str) -> None:
    """Exit 2, before anything is made."""
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})
    refused = tell("run", "pipeline.yaml", "--run-id", run)
    assert (refused.code, refused.error.split(":")[0]) == (2, "RUN_ID_INVALID")
    assert refused.error.isprintable()
    assert sorted(path.name for path in Path().iterdir()) == ["in.csv", "pipeline.yaml"]


def test_a_run_id_is_used_once() -> None:
    """Exit 6; the run that is there, its sinks and its read tables stay as they are."""
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})
    receipt = ask("run", "pipeline.yaml", "--run-id", "x" * 128)
    before = {path.name: path.read_bytes() for path in Path().glob("*.[cj]s*")}
    again = tell("run", "pipeline.yaml", "--run-id", "x" * 128)
    assert (again.code, again.error.split(":")[0]) == (6, "RUN_EXISTS")
    assert {path.name: path.read_bytes() for path in Path().glob("*.[cj]s*")} == before
    assert proven(Story(URL, {}), "x", receipt)


def test_a_run_without_an_id_gets_one_that_says_what_and_when() -> None:
    """`<pipeline>-<UTC time>-<4 hex>`."""
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})
    name, time, end = ask("run", "pipeline.yaml")["run"].split("-")
    assert (name, len(time), time[8], time[-1], len(end)) == ("story", 16, "T", "Z", 4)


@pytest.mark.parametrize("name", ["with space", "ünï-çødé-日本", "100% #1?", "%41", "it's \"quoted\"", "back\\slash", "-o",
                                  "a;b&c", "file:x"])
def test_odd_names_are_names(name: str) -> None:
    """A folder, a pipeline file, a source, sinks and a ledger of any name, through every command that opens files."""
    text = JOINED.replace("path: in.csv", f"path: {json.dumps(f'{name}/in.csv')}").replace(
        "path: good.jsonl", f"path: {json.dumps(f'{name}/out {name}.jsonl')}").replace(
        "path: bad.jsonl", f"path: {json.dumps(f'{name}/bad.jsonl')}")
    write({f"{name}/{name}.yaml": text, f"{name}/in.csv": "id\n1\n"})
    url = f"sqlite:///{name}/{name}.db"
    done("run", f"./{name}/{name}.yaml", "--run-id", "odd", ledger=url)
    assert lines(f"{name}/out {name}.jsonl") == [{"id": "1"}]
    for command in (("show", "odd"), ("replay", "odd", "--deep"), ("explain", "odd", "0", "--at", "4"), ("verify", "odd"),
                    ("rebuild",), ("query", "SELECT * FROM log.streams"), ("db", "check"), ("graph", "odd")):
        done(*command, ledger=url)
    assert {path.name for path in Path().iterdir()} == {name}


def test_names_that_are_no_text_are_refused_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are no UTF-8, in whatever can be named: a code, exit 2, nothing made; a graph can still be drawn."""
    odd = os.fsdecode(b"caf\xe9")
    write({f"{odd}.yaml": PIPELINE, "pipeline.yaml": PIPELINE, "in.csv": ROWS})
    before = sorted(folder.iterdir())
    for arguments, ledger, code in (
        (("run", f"{odd}.yaml"), URL, "PATH_NOT_TEXT"), (("run", "pipeline.yaml", "--run-id", odd), URL, "RUN_ID_INVALID"),
        (("run", "pipeline.yaml"), f"sqlite:///{odd}.db", "LEDGER_URL_INVALID"), (("run", odd), URL, "FILE_MISSING"),
    ):
        told = tell(*arguments, ledger=ledger)
        assert (told.code, told.error.split(":")[0]) == (2, code)
        assert told.error.isprintable()
        assert sorted(folder.iterdir()) == before
    done("graph", f"{odd}.yaml")
    inside = folder / odd
    inside.mkdir()
    monkeypatch.chdir(inside)
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})
    told = tell("run", str(folder / "pipeline.yaml"))
    assert (told.code, told.error.split(":")[0], (inside / "ledger.db").exists()) == (2, "PATH_NOT_TEXT", False)
    monkeypatch.chdir(folder)
    done("run", "pipeline.yaml", "--run-id", "x")
    for named in (("show", odd), ("explain", "x", odd), ("query", f"SELECT '{odd}'"), ("tokens", "x", "--node", odd)):
        told = tell(*named)
        assert told.code == 2
        assert told.error.isprintable()


def test_a_working_directory_that_is_gone_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2, one line."""
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for arguments in (("runs",), ("run", "pipeline.yaml"), ("validate", "pipeline.yaml")):
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main(list(arguments))
        assert (ended.value.code, err.getvalue().split(":")[0], err.getvalue().count("\n")) == (2, "DIRECTORY_GONE", 1)


def test_the_ledger_comes_from_the_option_the_environment_the_file_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """In that order; an empty option is a slip in a script, and never another ledger."""
    write({"pipeline.yaml": PIPELINE + "ledger: {url: 'sqlite:///file.db'}\n", "plain.yaml": PIPELINE, "in.csv": ROWS})
    monkeypatch.setenv("COUNTERFOIL_LEDGER", "sqlite:///environment.db")
    done("run", "pipeline.yaml", ledger="sqlite:///option.db")
    assert Path("option.db").exists()
    assert not Path("environment.db").exists()
    done("run", "pipeline.yaml", ledger=None)
    assert Path("environment.db").exists()
    assert not Path("file.db").exists()
    monkeypatch.setenv("COUNTERFOIL_LEDGER", "")
    done("run", "pipeline.yaml", ledger=None)
    assert Path("file.db").exists()
    assert not Path("counterfoil.db").exists()
    done("run", "plain.yaml", ledger=None)
    assert Path("counterfoil.db").exists()
    for command in (("run", "plain.yaml"), ("runs",), ("db", "current")):
        empty = tell(*command, ledger="")
        assert (empty.code, empty.error.split(":")[0]) == (2, "LEDGER_URL_INVALID")


def test_rows_that_are_not_wanted_change_the_exit_code_and_nothing_else() -> None:
    """`--fail-on` is 4 when such rows exist; which, and how to list them, is one line."""
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS, "fine.csv": "id,text,to\n1,fine,store\n",
           "fine.yaml": PIPELINE.replace("path: in.csv", "path: fine.csv")})
    for outcome in ("failed", "quarantined", "diverted"):
        unwanted = tell("run", "pipeline.yaml", "--run-id", outcome, "--fail-on", outcome)
        assert unwanted.code == 4
        assert unwanted.error.startswith(f"ROWS_{outcome.upper()}: ")
        assert ask("show", outcome)["status"] == "completed"
    everything = ("--fail-on", "failed", "--fail-on", "quarantined", "--fail-on", "diverted")
    assert done("run", "fine.yaml", "--run-id", "fine", *everything).err == ""
    assert tell("run", "fine.yaml", "--fail-on", "late").code == 2


def test_what_is_no_command_or_no_option_is_one_line() -> None:
    """Exit 2, and where the help is; `--help` and `--version` answer on stdout."""
    for arguments in (("frob",), ("run",), ("runs", "--nope"), ("runs", "-o", "xml"), ("explain", "x", "--row", "-1"),
                      ("explain", "x", "--row", "one"), ("tokens", "x", "--outcome", "lost"), ("db", "downgrade"),
                      ("graph", "x", "--format", "png"), ("show", "a", "b")):
        wrong = tell(*arguments, ledger=None)
        assert (wrong.code, wrong.error.split(":")[0], wrong.out) == (2, "USAGE", "")
        assert "--help" in wrong.error
    assert tell(ledger=None).code == 2
    assert "explain" in done("--help", ledger=None).out
    assert "--until" in done("replay", "--help", ledger=None).out
    assert done("--version", ledger=None).out.startswith("counterfoil ")


def test_debug_adds_the_traceback_and_keeps_the_line() -> None:
    """Before or after the command's name."""
    for arguments in (("--debug", "show", "x"), ("show", "x", "--debug")):
        told = tell(*arguments)
        assert told.code == 6
        assert "Traceback" in told.err
        assert told.err.splitlines()[-1].startswith("LEDGER_MISSING: ")


def test_the_schema_is_made_named_and_checked() -> None:
    """`db upgrade` makes a ledger that is not there, and does nothing to one that is current."""
    assert tell("db", "current").error.startswith("LEDGER_MISSING")
    assert tell("db", "check").code == 6
    for _ in range(2):
        answer = ask("db", "upgrade")
        assert (answer["current"], answer["revision"], answer["ledger"]) == (True, answer["head"], URL)
    assert ask("db", "check")["current"] is True
    assert ask("runs")["rows"] == []
    assert done("verify").out == "no runs\n"


def test_plugins_are_listed_with_their_options() -> None:
    """What can be named here, required options without a question mark."""
    found = {(row["kind"], row["name"]): row for row in ask("plugins", ledger=None)["rows"]}
    assert {("source", "csv"), ("source", "json"), ("transform", "passthrough"), ("sink", "csv")} <= set(found)
    csv = found["source", "csv"]
    assert csv["options"].split(", ")[0] == "path"
    assert "skip_rows?" in csv["options"]
    assert (csv["origin"], csv["expands"], csv["effect"]) == ("built in", False, False)
