"""Gathers through the doors: why nothing came out, what a very large one costs to tell, and what a stopped run answers."""

from __future__ import annotations

import json

import counterfoil
from tests.doors.told import URL, ask, done, tell, write

PIPELINE = """\
source: {plugin: json, on_success: rows, options: {path: in.jsonl}}
transforms:
  - {name: parts, plugin: json_explode, input: rows, on_success: each, on_error: discard, options: {array_field: of}}
coalesce:
  - {name: whole, gathers: parts, input: each, policy: quorum, quorum_count: 1, merge: list, on_success: out}
sinks:
  out: {plugin: json, options: {path: out.jsonl}}
"""
MANY = 1500


def run(*rows: dict[str, object]) -> None:
    """A run of those rows, whose record holds in every way."""
    write({"pipeline.yaml": PIPELINE, "in.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    done("run", "pipeline.yaml", "--run-id", "gathers")
    assert ask("verify", "gathers")["ok"] is True
    assert done("rebuild", "--verify").code == 0


def test_an_empty_gather_that_failed_is_told_by_the_row_that_opened_it() -> None:
    """A4, G10: nothing arrived in it, so nobody else can; asked for itself it says whom to ask."""
    run({"of": []})
    (group,) = ask("explain", "gathers", "0")["coalesce_groups"]
    assert (group["group_id"], group["failure_reason"]) == ("0+whole", "quorum_impossible:need=1,max_possible=0")
    assert "quorum_impossible" in done("explain", "gathers", "0").out
    told = tell("explain", "gathers", "0+whole")
    assert told.error.endswith("this group made no token: explain 0, which opened it")


def test_a_very_large_group_is_told_once_and_not_with_each_token_that_it_held() -> None:
    """F2: its lists stand in `coalesce_groups`; a state's context says which group it is, and how that ended."""
    write({"strict.yaml": PIPELINE.replace("quorum, quorum_count: 1", "require_all"),
           "in.jsonl": json.dumps({"of": list(range(MANY))}) + "\n"})
    done("run", "strict.yaml", "--run-id", "gathers")
    state = next(one for one in ask("explain", "gathers", "0:7")["node_states"] if one["node_id"] == "whole")
    assert (state["context"]["group_id"], state["context"]["trigger"]) == ("0+whole", "all_arrived")
    assert state["context"]["expected_branches"] is None
    rows = ask("query", "SELECT expected_branches, arrival_order FROM coalesce_groups")["rows"]
    assert [len(json.loads(row[name])) for row in rows for name in row] == [MANY, MANY]
    length = ask("query", "SELECT max(length(context)) AS n FROM node_states")["rows"][0]["n"]
    assert length < 1000


def test_the_receipt_of_a_run_that_was_stopped_proves_what_it_left() -> None:
    """F3, F6: size and root are those of the log with its `RunInterrupted`."""
    write({"pipeline.yaml": PIPELINE, "in.jsonl": '{"of": [1]}\n'})
    receipt = counterfoil.run("pipeline.yaml", run_id="gathers", ledger=URL, stopping=lambda: "enough")
    assert receipt.status == "interrupted"
    verified = counterfoil.verify("gathers", ledger=URL, expect=(receipt.size, receipt.root))
    assert verified.completeness.status == "proven"
