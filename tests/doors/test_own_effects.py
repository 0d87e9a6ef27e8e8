"""An effect of one's own through the doors: real threads, a real ledger, and its calls where people look for them."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import counterfoil
from tests.doors.kept import on_files
from tests.doors.told import LEDGER, URL, ask, done, lines, tell, write

SECRET = "s3cret-of-the-desk"
ROWS = 40

PIPELINE = """\
source:
  plugin: json
  on_success: rows
  options: {path: in.jsonl}
retry: {max_attempts: 3, initial_delay_seconds: 0, max_delay_seconds: 0}
concurrency: {max_workers: 8}
transforms:
  - {name: desk, plugin: "own_effects:asks_the_desk", input: rows, on_success: good, on_error: failed,
     options: {token: "${DESK_TOKEN}"}}
sinks:
  good: {plugin: json, options: {path: good.jsonl}}
  failed: {plugin: json, options: {path: failed.jsonl}}
"""

PLUGIN = '''\
import threading

from counterfoil import Attempt, RetryableError, RowError, effect

TOGETHER = threading.Barrier(8)


@effect(deadline_seconds=30)
def asks_the_desk(row, attempt: Attempt, *, token: str):
    """Rows come eight at a time; 1 of 4 is busy at first, 1 of 10 is refused."""
    n = row["n"]
    if attempt.number == 1:
        TOGETHER.wait(30)
    with attempt.calling("desk", {"n": n, "key": attempt.key, "authorization": f"Bearer {token}"}) as call:
        if n % 10 == 9:
            call.answered("refused", {"why": f"not with {token}"})
            raise RowError(f"the desk refused {token}", "refused")
        if n % 4 == 0 and attempt.number == 1:
            raise RetryableError("busy")
        call.answered(200, {"file": n * 100})
    return {**row, "file": n * 100, "key": attempt.key}
'''


@pytest.fixture
def plugin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin's module can be imported, and what it needs is in the environment."""
    write({"pipeline.yaml": PIPELINE, "own_effects.py": PLUGIN})
    monkeypatch.setenv("DESK_TOKEN", SECRET)
    monkeypatch.syspath_prepend(folder)
    yield
    for name in ("own_effects", "own_later"):
        sys.modules.pop(name, None)


@pytest.fixture
def receipt(plugin: None) -> counterfoil.Receipt:
    """A run of forty rows through it, by the Python door."""
    write({"in.jsonl": "".join(f'{{"n": {n}}}\n' for n in range(ROWS))})
    return counterfoil.run("pipeline.yaml", run_id="desk", ledger=URL)


def calls(where: str = "1 = 1") -> list[dict[str, Any]]:
    """Rows of the `calls` table."""
    found: list[dict[str, Any]] = ask("query", f"SELECT * FROM calls WHERE {where} ORDER BY seq")["rows"]
    return found


def test_a_run_with_eight_workers_is_whole_lawful_and_verified(receipt: counterfoil.Receipt) -> None:
    """F3, law T1, law T10, law R4: eight attempts were in flight at once, or the run would have none that succeeded."""
    assert receipt.outcomes == {"completed": ROWS - 4, "routed": 4}
    verified = counterfoil.verify("desk", ledger=URL, expect=(receipt.size, receipt.root), world=True)
    assert (verified.ok, verified.completeness.status) == (True, "proven")
    verdict = counterfoil.replay("desk", ledger=URL, deep=True)
    assert (verdict.lawful, verdict.open_tokens) == (True, 0)
    good = lines("good.jsonl")
    assert sorted(row["n"] for row in good) == [n for n in range(ROWS) if n % 10 != 9]
    assert all(row["file"] == row["n"] * 100 for row in good)
    assert len({row["key"] for row in good}) == len(good)
    assert sorted(row["n"] for row in lines("failed.jsonl")) == [9, 19, 29, 39]


def test_the_table_of_calls_has_every_call_of_every_attempt(receipt: counterfoil.Receipt) -> None:
    """F6: what was asked, under which attempt, how it was answered."""
    found = calls()
    assert len(found) == ROWS + ROWS // 4
    assert {row["kind"] for row in found} == {"desk"}
    statuses = {(int(row["token_id"]), row["attempt"]): row["status"] for row in found}
    for n in range(ROWS):
        first = "refused" if n % 10 == 9 else "RetryableError" if n % 4 == 0 else "200"
        assert statuses.pop((n, 1)) == first
        assert first != "RetryableError" or statuses.pop((n, 2)) == "200"
    assert statuses == {}
    assert [row["seq"] for row in found] == sorted(row["seq"] for row in found)
    assert all(row["request_hash"] for row in found)
    assert all((row["response_hash"] is None) == (row["status"] == "RetryableError") for row in found)
    assert all(row["call_index"] == 0 and row["latency_ms"] >= 0 for row in found)


def test_explain_tells_what_was_sent_and_what_came_back(receipt: counterfoil.Receipt) -> None:
    """F6: both attempts of a row that was busy at first, with one key, and without the secret."""
    told = counterfoil.explain("desk", "4", ledger=URL)
    (busy, heard) = told["calls"]
    assert (busy["attempt"], busy["status"], busy["response"]) == (1, "RetryableError", None)
    assert (heard["attempt"], heard["status"], heard["response"]) == (2, "200", {"file": 400})
    assert busy["request"] == heard["request"]
    assert heard["request"]["authorization"] == "Bearer ***"
    assert heard["request"]["key"] == next(row["key"] for row in lines("good.jsonl") if row["n"] == 4)
    states = [(state["attempt"], state["status"]) for state in told["node_states"] if state["node_id"] == "desk"]
    assert states == [(1, "failed"), (2, "completed")]
    keys = [state["idempotency_key"] for state in told["node_states"] if state["node_id"] == "desk"]
    assert keys == [heard["request"]["key"]] * 2
    text = done("explain", "desk", "4").out
    assert "RetryableError" in text
    assert '"file"' in text


@on_files
def test_the_secret_is_nowhere_in_what_the_run_left(receipt: counterfoil.Receipt) -> None:
    """What came from the environment is in no file of the ledger, though the plugin sent it and put it into an error."""
    assert counterfoil.explain("desk", "9", ledger=URL)["outcome"]["reason"] == "refused: the desk refused ***"
    assert counterfoil.explain("desk", "9", ledger=URL)["calls"][0]["response"] == {"why": "not with ***"}
    with sqlite3.connect(LEDGER) as ledger:
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    files = [path for path in Path().iterdir() if path.name.startswith(LEDGER)]
    assert len(files) >= 2
    assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in json.dumps(calls())


def test_attempts_that_a_hard_stop_left_behind_are_told_as_what_is_open(plugin: None) -> None:
    """D8: their intents are on record, so whoever asks knows what the outside may have heard; nothing of it is an end."""
    write({"in.jsonl": "".join(f'{{"n": {n}}}\n' for n in range(3))})

    def stopping() -> None:
        if "own_effects" in sys.modules and sys.modules["own_effects"].TOGETHER.n_waiting == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        counterfoil.run("pipeline.yaml", run_id="desk", ledger=URL, stopping=stopping)
    sys.modules["own_effects"].TOGETHER.abort()
    waiting = [(one["kind"], one["what"], one["node"], one["has"]) for one in ask("pending", "desk")["rows"]]
    assert waiting == [("attempt", str(n), "desk", 1) for n in range(3)]
    told = counterfoil.explain("desk", "0", ledger=URL)
    assert (told["outcome"], told["calls"]) == (None, [])
    assert [(one["node_id"], one["status"]) for one in told["node_states"]] == [("source", "completed"), ("desk", "open")]
    assert counterfoil.verify("desk", ledger=URL).ok


LATER = """\
from counterfoil import RetryableError, effect

ASKED = []


@effect
class Later:
    def __init__(self, *, seconds: object = 60):
        self.deadline_seconds = seconds

    def __call__(self, row):
        ASKED.append(row)
        raise RetryableError("busy")
"""


def later(options: str) -> str:
    """The pipeline with that plugin."""
    text = PIPELINE.replace("own_effects:asks_the_desk", "own_later:Later").replace('{token: "${DESK_TOKEN}"}', options)
    return text.replace("initial_delay_seconds: 0, max_delay_seconds: 0", "initial_delay_seconds: 60, max_delay_seconds: 60")


def test_a_token_that_waits_for_its_next_attempt_says_so(plugin: None) -> None:
    """D8: which attempt it is, and how long after which."""
    write({"pipeline.yaml": later("{}"), "own_later.py": LATER, "in.jsonl": '{"n": 0}\n'})

    def stopping() -> str | None:
        return "enough" if "own_later" in sys.modules and sys.modules["own_later"].ASKED else None

    counterfoil.run("pipeline.yaml", run_id="later", ledger=URL, stopping=stopping)
    (one,) = ask("pending", "later")["rows"]
    assert (one["kind"], one["what"], one["node"], one["has"]) == ("token", "0", "desk", 1)
    assert one["waits_for"].startswith("attempt 2, due ") and one["waits_for"].endswith(" ms after attempt 1 failed")


@pytest.mark.parametrize("seconds", ["null", "1.0e+300", "0", "-1", "'5'"])
def test_a_deadline_that_is_none_is_refused_before_the_run(plugin: None, seconds: str) -> None:
    """law T10: each attempt ends, so its deadline is a time."""
    write({"pipeline.yaml": later(f"{{seconds: {seconds}}}"), "own_later.py": LATER, "in.jsonl": '{"n": 0}\n'})
    told = tell("run", "pipeline.yaml", "--run-id", "later")
    assert (told.code, told.error.split(":")[0]) == (3, "PLUGIN_REFUSED")
    assert "expected deadline_seconds above 0 and at most 1e+06, found " in told.error
    assert not Path(LEDGER).exists()
