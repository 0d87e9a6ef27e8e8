"""The ledgers of an era, made by the production code as it is: between them every event that there is.

Time is simulated and plugins answer from their rows, so that making them again gives the same ends. Long lists are short
here: the limits beyond which they are put aside are lowered while `lists` runs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import counterfoil
from counterfoil.ledgers import Ledger
from engine import long_lists
from engine import run as running
from engine.attempts import Attempt
from engine.plugin_api import BatchResult, Rejected, RetryableError, RowError
from ledger import events as e
from ledger import registry
from tests.kit.batches import batched
from tests.kit.deaths import Cut, MortalStore, died_at, killed
from tests.kit.effects import asking
from tests.kit.pipelines import Sketch, trial
from tests.kit.ports import EPOCH_US, SimulatedTime
from tests.kit.small_runs import SMALL, numbered, odd_fail, parts
from tests.kit.tamper import edit_payload
from tests.kit.twins import Pause
from tests.museum.logs import Log, taken

STOPPED_AFTER = 6
"""How often `stopped` is asked whether it has to stop before it has."""

JOINED = """\
name: beside
source:
  plugin: csv
  on_success: rows
  options: {path: in.csv, on_validation_failure: bad, schema: {mode: fixed, fields: ["id: int"]}}
gates:
  - {name: split, input: rows, condition: "True", routes: {"true": fork}, fork_to: [left, right]}
transforms:
  - {name: lefty, plugin: passthrough, input: left, on_success: done, on_error: bad}
coalesce:
  - {name: join, branches: {left: done, right: right}, policy: require_all, merge: nested, on_success: good}
sinks:
  good: {plugin: json, options: {path: good.jsonl}}
  bad: {plugin: json, options: {path: bad.jsonl}}
"""
"""The pipeline of `stopped`: with built-in plugins only, so that it can be carried on wherever it is put."""


def of_small(name: str) -> Log:
    """One of the small runs, to its end."""
    made = SMALL[name](MortalStore())
    made.go()
    return taken(made.store)


def timed_out() -> Log:
    """A quorum that its timeout decides, and a carrier that comes too late."""
    sketch = Sketch("rows", attempts=2, delay_seconds=30.0).fork("split", "rows", "a", "b")
    sketch.step("slow", "a", "c").step("fast", "b", "d")
    sketch.join("join", {"a": "c", "b": "d"}, "quorum", "out", quorum_count=1, timeout_seconds=5)
    seen: list[object] = []

    def late(row: Mapping[str, Any]) -> object:
        if not seen:
            seen.append(row)
            raise RetryableError("later")
        return dict(row)

    made = trial(sketch.sink("out").text(), [*numbered(1), Pause(60_000), *numbered(1)], {"slow": late})
    made.go()
    return taken(made.store)


def called() -> Log:
    """An effect with its calls, heard and unheard, that is tried again and in which a process dies."""
    store, deadly = MortalStore(), [1]

    def ask(row: Mapping[str, Any], attempt: Attempt) -> object:
        with attempt.calling("http", {"url": f"/{row['n']}"}) as call:
            call.answered("200", {"n": row["n"]})
        with suppress(ConnectionResetError), attempt.calling("http", {"url": "/"}):
            raise ConnectionResetError
        if row["n"] == 1 and deadly:
            deadly.clear()
            store.die()
        if row["n"] == 2 and attempt.number == 1:
            raise RetryableError("busy")
        return odd_fail(row)

    made = trial(asking(attempts=3), numbered(4), {"ask": ask}, store=store)
    killed(made.start)
    store.revive()
    made.again()
    return taken(store)


def batch_died() -> Log:
    """A batch in which two processes die, and which is then tried again; one that rejects a member, one that fails."""
    store, deadly, busy = MortalStore(), [1, 2], [1]

    def plugin(rows: Any) -> object:
        first = rows[0]["n"]
        if first == 2 and deadly:
            deadly.pop()
            store.die()
        if first == 2 and busy:
            busy.clear()
            raise RetryableError("busy")
        if first == 4:
            return BatchResult([dict(rows[1])], [Rejected(0, "the first", "odd")])
        if first == 6:
            raise RowError("no", "no")
        return [{"of": [row["n"] for row in rows]}]

    made = trial(batched(attempts=3, trigger={"count": 2}), numbered(9), {"totals": plugin}, store=store)
    killed(made.start)
    store.revive()
    killed(made.resume)
    store.revive()
    made.again()
    return taken(store)


def broken() -> Log:
    """A sink that cannot be written and a source that breaks: two interruptions, then the end."""
    sketch = Sketch("rows").step("one", "rows", "out", "errors")
    rows: list[object] = [*numbered(2), OSError("gone"), *numbered(1)]
    made = trial(sketch.sink("out", "errors").text(), rows, {"one": odd_fail})
    made.sinks["out"].broken = OSError(28, "No space left on device")
    made.go()
    made.sinks["out"].broken = None
    made.again()
    rows[2] = {"n": 4}
    made.again()
    return taken(made.store)


def open_experiments() -> Log:
    """An expansion that is gathered, cut in its midst: nobody said that it stopped."""
    return taken(died_at(SMALL["experiments"], Cut(9, stored=True)).store)


def abandoned() -> Log:
    """A run that was cut and given up; then a payload of it was erased, and keys came and went."""
    made = died_at(SMALL["gathered_all"], Cut(9, stored=True))
    made.abandon()
    gone = next(one for one in made.store.payloads_between(made.run, 1, 2**62) if not one.permanent)
    said: list[e.Event] = [e.PayloadErased(erased=made.run, payloads=(gone.n,), who="someone", why="asked to"),
                           e.KeyAdded(key="k1", public="00ff"), e.KeyRetired(key="k1", why="replaced")]
    made.store.append([registry.entries(made.store, said, EPOCH_US)])
    edit_payload(made.store, made.run, gone.n, gone._replace(salt=None, bytes=None))
    return taken(made.store)


def lists() -> Log:
    """Every list that can stand in a payload does: the graph, outputs, rejected members, what a group was, collisions."""
    sketch = Sketch("rows").step("parts", "rows", "c", expands=True).gather("join", "parts", "c", "best_effort", "d",
                                                                            timeout_seconds=100_000)
    sketch.batch("totals", "d", "e", trigger={"count": 3}).fork("split", "e", "x", "y").step("left", "x", "x_done")
    sketch.step("right", "y", "y_done").join("both", {"x": "x_done", "y": "y_done"}, "require_all", "out")
    steps: dict[str, Any] = {
        "parts": parts, "left": lambda row: {"side": "left"}, "right": lambda row: {"side": "right"},
        "totals": lambda rows: BatchResult([{"n": len(rows)}], [Rejected(0, "the first", "odd")]),
    }
    made = trial(sketch.sink("out").text(), numbered(4), steps)
    with _lowered():
        made.go()
    return taken(made.store)


@contextmanager
def _lowered() -> Iterator[None]:
    """Every list is long."""
    kept = [(module, name, getattr(module, name)) for module, name in (
        (long_lists, "LIST_BYTES_MAX"), (long_lists, "SHORT_ITEMS"), (running, "GRAPH_BYTES_MAX"))]
    for module, name, _ in kept:
        setattr(module, name, 0)
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


def stopped() -> Log:
    """A run through the doors that was stopped after some rows were written; its files lie beside it."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return _stopped()
        finally:
            os.chdir(here)


def _stopped() -> Log:
    files = {"pipeline.yaml": JOINED, "in.csv": "id\n0\n1\nx\n3\n4\n5\n"}
    for name, content in files.items():
        Path(name).write_text(content, encoding="utf-8")
    time, asked = SimulatedTime(), count()

    def monotonic() -> int:
        time.advance_ms(5)
        return time.now_ns

    ports = replace(time.ports(), monotonic_ns=monotonic)
    receipt = counterfoil.run("pipeline.yaml", run_id="stopped", ledger="sqlite:///ledger.db", ports=ports,
                              stopping=lambda: "enough" if next(asked) > STOPPED_AFTER else None)
    if receipt.status != "interrupted":
        raise RuntimeError(f"expected a run that was stopped, found {receipt}")
    files |= {name: Path(name).read_text(encoding="utf-8") for name in ("good.jsonl", "bad.jsonl") if Path(name).exists()}
    with Ledger("sqlite:///ledger.db") as opened:
        return taken(opened.store, files)


MAKE: Mapping[str, Callable[[], Log]] = {
    "troubled": lambda: of_small("troubled"), "joined": lambda: of_small("require_all"),
    "gated": lambda: of_small("one_sink"), "timed_out": timed_out, "called": called, "batch_died": batch_died,
    "broken": broken, "open": open_experiments, "abandoned": abandoned, "lists": lists, "stopped": stopped,
}  # fmt: skip
"""How each log of an era is made."""
