"""A batch plugin that ends its process, for real: it is found, its rows leave by `on_error`, and the rest completes."""

from __future__ import annotations

import pytest

from tests.doors.kept import on_files
from tests.doors.processes import SECONDS_MAX, running
from tests.doors.told import URL, ask, done, lines, write

PIPELINE = """\
source: {plugin: csv, on_success: rows, options: {path: in.csv, on_validation_failure: discard}}
gates:
  - {name: split, input: rows, condition: "row['id'] < '4'", routes: {"true": few, "false": many}}
aggregations:
  - {name: totals, plugin: "own_batches:TOTAL", input: few, trigger: TRIGGER, on_success: good, on_error: bad}
  - {name: rest, plugin: "own_batches:count", input: many, on_success: good, on_error: bad}
sinks:
  good: {plugin: json, options: {path: good.jsonl}}
  bad: {plugin: json, options: {path: bad.jsonl}}
"""

PLUGINS = """\
import os
import threading

from counterfoil import aggregation

@aggregation
def ends(rows):
    if any(row["id"] == "1" for row in rows):
        os._exit(9)
    return count(rows)

@aggregation
def hangs(rows):
    if any(row["id"] == "1" for row in rows):
        threading.Event().wait()
    return count(rows)

@aggregation
def count(rows):
    return [{"ids": ",".join(row["id"] for row in rows)}]
"""

BY_COUNT, AT_THE_END = "{count: 2}", "{}"


def files(plugin: str, trigger: str, limits: str = "{}") -> None:
    """Seven rows, of which four go to the batches of that plugin."""
    pipeline = PIPELINE.replace("TOTAL", plugin).replace("TRIGGER", trigger) + f"limits: {limits}\n"
    write({"pipeline.yaml": pipeline, "own_batches.py": PLUGINS, "in.csv": "id\n" + "".join(f"{n}\n" for n in range(7))})


def dies(code: int, *command: str) -> str:
    """A process of the program that ends like this; gives what it said."""
    with running(*command, "--ledger", URL) as process:
        _, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == code, err
    return err


def attempts() -> list[tuple[str, str]]:
    """The attempts at the first batch that are on record."""
    found = ask("query", "SELECT type, body ->> '$.attempt' AS n FROM log.events WHERE type LIKE 'Batch%' AND "
                "body ->> '$.aggregation' = 'totals' AND body ->> '$.batch' = 1 ORDER BY seq")["rows"]
    return [(one["type"], str(one["n"])) for one in found]


@on_files
@pytest.mark.parametrize(("trigger", "members"), [(BY_COUNT, ["0", "1"]), (AT_THE_END, ["0", "1", "2", "3"])])
def test_a_batch_that_ends_its_process_is_found_and_the_rest_completes(trigger: str, members: list[str]) -> None:
    """W8, E1, law T10: the run and three resumes die; the fourth completes, and every answer says why."""
    files("ends", trigger)
    dies(9, "run", "pipeline.yaml", "--run-id", "cut")
    for death in range(3):
        dies(9, "resume", "cut")
        (batch,) = [one for one in ask("pending", "cut")["rows"] if one["what"] == "totals@1"]
        assert batch["waits_for"].startswith(f"the end of attempt {death + 1}, due by ")
    assert "run cut completed: 7 rows" in done("resume", "cut").out
    assert attempts() == [(kind, str(n)) for n in (1, 2, 3) for kind in ("BatchStarted", "BatchAbandoned")]
    assert [row["id"] for row in lines("bad.jsonl")] == members
    left = [] if trigger == AT_THE_END else [{"ids": "2,3"}]
    assert sorted(lines("good.jsonl"), key=str) == sorted([*left, {"ids": "4,5,6"}], key=str)
    story = ask("explain", "cut", "1")
    assert story["outcome"]["reason"] == "process_died"
    assert [(one["batch_id"], one["status"], one["attempts"], one["error"]) for one in story["batches"]] == [
        ("totals@1", "failed", 3, "process_died")]
    assert ask("replay", "cut", "--deep")["ok"] is True
    assert ask("verify", "cut")["ok"] is True
    assert done("rebuild", "--verify").code == 0


def test_a_batch_that_hangs_ends_its_process_at_its_limit_and_is_found() -> None:
    """W8, E1, law T10: `limits.step_seconds` holds for batches as well."""
    files("hangs", BY_COUNT, "{step_seconds: 0.2}")
    assert "STEP_HUNG" in dies(4, "run", "pipeline.yaml", "--run-id", "hung")
    for _ in range(3):
        dies(4, "resume", "hung")
    done("resume", "hung")
    assert [row["id"] for row in lines("bad.jsonl")] == ["0", "1"]
    assert sorted(row["ids"] for row in lines("good.jsonl")) == ["2,3", "4,5,6"]


@on_files
def test_a_run_that_a_batch_keeps_ending_can_be_given_up() -> None:
    """D8, law T10: the death on record is said, and the members leave as after a failure."""
    files("ends", BY_COUNT)
    dies(9, "run", "pipeline.yaml", "--run-id", "cut")
    dies(9, "resume", "cut")
    done("abandon", "cut", "--reason", "it cannot be computed")
    assert attempts() == [("BatchStarted", "1"), ("BatchAbandoned", "1"), ("BatchFailed", "2")]
    assert ask("show", "cut")["open_tokens"] == 0
    assert ask("replay", "cut", "--deep")["ok"] is True
