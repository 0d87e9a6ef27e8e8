"""What the commands tell of a batch: its members, its outputs, who was rejected, and what still waits for its trigger."""

from __future__ import annotations

from typing import Any

import pytest

from tests.doors.kept import url_in
from tests.doors.story import Story
from tests.doors.told import tell, write

PIPELINE = """\
name: sums
source:
  plugin: csv
  on_success: rows
  options: {path: in.csv, on_validation_failure: discard, schema: {mode: fixed, fields: ["kind: str", "amount: float?"]}}
aggregations:
  - name: totals
    plugin: batch_stats
    input: rows
    on_success: sums
    on_error: rejects
    trigger: {count: 4}
    options: {value_field: amount, group_by: kind}
sinks:
  sums: {plugin: csv, options: {path: sums.csv}}
  rejects: {plugin: json, options: {path: rejects.jsonl}}
"""
ROWS = "kind,amount\na,1\nb,2\na,\na,4\nb,8\n"
BATCH = ("batch_id", "status", "trigger", "size")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Five rows in two batches, once for the whole file; and a run that stopped because a batch was too large."""
    folder = tmp_path_factory.mktemp("batches")
    url = url_in(folder, "batches")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COUNTERFOIL_LEDGER", raising=False)
        patch.chdir(folder)
        small = PIPELINE.replace("trigger: {count: 4}", "trigger: {timeout_seconds: 1000}") + "limits: {batch_rows: 3}\n"
        write({"pipeline.yaml": PIPELINE, "small.yaml": small, "in.csv": ROWS})
        receipt = tell("run", "pipeline.yaml", "--run-id", "sums", "-o", "json", ledger=url)
        stopped = tell("run", "small.yaml", "--run-id", "small", ledger=url)
    assert (receipt.code, stopped.code, stopped.error.split(":")[0]) == (0, 4, "LIMIT_EXCEEDED")
    return Story(url, receipt.answer)


def batch(answer: dict[str, Any]) -> tuple[Any, ...]:
    """The one batch of a story."""
    (found,) = answer["batches"]
    return tuple(found[name] for name in BATCH)


def test_a_members_story_has_its_batch_and_the_output_that_counts_it(told: Story) -> None:
    """A4, F6, G11: forward, and back again."""
    member = told.ask("explain", "sums", "0")
    assert batch(member) == ("totals@1", "flushed", "count", 4)
    assert [one["token_id"] for one in member["descendants"]] == ["totals@1:0"]
    output = told.ask("explain", "sums", "totals@1:0")
    assert [one["token_id"] for one in output["ancestors"]] == ["0", "3"]
    assert batch(output) == ("totals@1", "flushed", "count", 4)
    assert output["token"]["data"] == {"kind": "a", "count": 2, "sum": 5.0, "batch_size": 4, "mean": 2.5}
    assert [write["uri"] for write in output["sink_writes"]] == ["sums.csv"]
    last = told.ask("explain", "sums", "totals@2:0")
    assert (batch(last)[2:], [one["token_id"] for one in last["ancestors"]]) == (("end_of_source", 1), ["4"])


def test_a_rejected_members_story_says_why_and_has_no_output(told: Story) -> None:
    """A4, E1, E11, G11: it has its batch, its reason and its way out."""
    answer = told.ask("explain", "sums", "--row", "2")
    assert (batch(answer)[0], answer["descendants"]) == ("totals@1", [])
    assert answer["outcome"]["reason"].startswith("not_number: expected a finite number in field 'amount'")
    assert answer["divert_summary"]["edge_label"] == "__error_totals__"
    assert "left the normal path at totals (error) by __error_totals__ to rejects" in told.done("explain", "sums", "2").out


def test_the_table_names_the_batch_with_its_trigger(told: Story) -> None:
    """A4, F6: for people, in one line; the line of an output goes back to its parents."""
    table = told.done("explain", "sums", "totals@1:1").out
    assert "line totals@1:1 < 1" in table
    line = next(line for line in table.splitlines() if line.split()[:1] == ["totals@1"])
    assert line.split()[1:4] == ["flushed", "count", "4"]


def test_tables_and_answers_agree_on_batches(told: Story) -> None:
    """F2, F6, law P1: read by SQL, counted by show, proved by replay and verify, the same when they are made again."""
    rows = told.ask("query", "SELECT batch_id, trigger, size FROM batches WHERE run_id = 'sums' ORDER BY number")["rows"]
    assert [tuple(row.values()) for row in rows] == [("totals@1", "count", 4), ("totals@2", "end_of_source", 1)]
    consumed = told.ask("tokens", "sums", "--outcome", "consumed_in_batch")["rows"]
    assert [row["token_id"] for row in consumed] == ["0", "1", "3", "4"]
    assert told.receipt["outcomes"] == {"completed": 3, "consumed_in_batch": 4, "routed": 1}
    assert told.ask("replay", "sums", "--deep")["ok"] is True
    assert told.done("verify", "sums").code == told.done("rebuild", "--verify").code == 0


def test_what_waits_for_a_trigger_is_pending(told: Story) -> None:
    """D8: a run that stopped because a batch was too large says which one, with how many, since when."""
    waiting = told.ask("pending", "small")["rows"]
    assert [(one["kind"], one["what"], one["node"], one["has"]) for one in waiting] == [("batch", "totals@1", "totals", 4)]
    opened = told.ask("explain", "small", "0", "--at", str(waiting[0]["since_seq"]))
    assert batch(opened) == ("totals@1", "open", None, 1)
    assert told.ask("pending", "sums")["rows"] == []
