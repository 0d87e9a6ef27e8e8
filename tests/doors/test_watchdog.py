"""`limits.step_seconds`: a step that does not come back ends its process, and its row is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from engine.watchdog import Watchdog
from tests.doors.processes import SECONDS_MAX, running
from tests.doors.told import URL, ask, done, lines, write

PIPELINE = """\
source: {plugin: csv, on_success: rows, options: {path: in.csv, on_validation_failure: discard}}
transforms:
  - {name: own, plugin: "own_hanging:%s", input: rows, on_success: good, on_error: bad}
limits: {step_seconds: 0.2}
sinks:
  good: {plugin: json, options: {path: good.jsonl}}
  bad: {plugin: json, options: {path: bad.jsonl}}
"""

STEPS = """\
import re
import threading

def waits(row):
    if row["id"] == "1":
        threading.Event().wait()
    return row

def searches(row):
    if row["id"] == "1":
        re.match("(a+)+$", "a" * 64 + "b")
    return row

def yields(row) -> list[dict]:
    yield row
    waits(row)
"""


@pytest.mark.parametrize("step", ["waits", "searches", "yields"])
def test_a_step_that_hangs_has_died_after_three_processes(step: str) -> None:
    """W8, law T10: it waits for ever, keeps the interpreter to itself, or does so between two rows; the rest completes."""
    write({"pipeline.yaml": PIPELINE % step, "own_hanging.py": STEPS, "in.csv": "id\n0\n1\n2\n"})
    for command in (("run", "pipeline.yaml", "--run-id", "hung"), *[("resume", "hung")] * 3):
        with running(*command, "--ledger", URL) as process:
            _, err = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == (1 if step == "searches" else 4), err
        assert ("Timeout" if step == "searches" else "STEP_HUNG: expected an answer within 0.2 s") in err
    done("resume", "hung")
    assert [row["id"] for row in lines("good.jsonl")] == ["0", "2"]
    assert [row["id"] for row in lines("bad.jsonl")] == ["1"]
    assert ask("replay", "hung", "--deep")["ok"] is True


def test_only_the_call_that_hangs_is_ended() -> None:
    """Calls that come back, however many, and rows that are yielded, are let alone; closing ends the watch."""
    said: list[str] = []
    hung = Event()

    def end(line: str) -> None:
        said.append(line)
        hung.set()

    watch = Watchdog(0.05, end)
    quick = watch.watching("step quick", lambda given: given)
    assert [quick(n) for n in range(10_000)] == list(range(10_000))

    def rows(given: object) -> Iterator[object]:
        yield from (given, given)

    given = watch.watching("step many", rows)(7)
    assert isinstance(given, Iterator)
    assert list(given) == [7, 7]
    assert said == []
    assert watch.watching("step slow", lambda given: hung.wait(SECONDS_MAX))(0) is True
    assert said[0].startswith("STEP_HUNG: expected an answer within 0.05 s, found none; step slow; ")
    watch.close()


def test_without_a_limit_nothing_is_watched(tmp_path: Path) -> None:
    """There is no thread and no timer where the file asks for none."""
    write({"pipeline.yaml": (PIPELINE % "waits").replace("limits: {step_seconds: 0.2}\n", ""), "own_hanging.py": STEPS,
           "in.csv": "id\n0\n2\n"})
    assert done("run", "pipeline.yaml", "--run-id", "free").code == 0
