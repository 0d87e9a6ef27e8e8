"""Small runs of every kind, each the same whenever it is made: to be cut anywhere and carried on.

Why steps take time: a commit covers 50 ms, so that the runs of a few rows have many commits to be cut at. Where a step is
tried again no time passes in steps, for what is lost of it at a cut would decide who comes first.

Invariants: no timer is ever due, and one worker takes one attempt at a time, so that a run which was cut has to give
exactly what the uncut one gives (law P3). What a plugin answers depends on its row, and on the attempts on record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec

from engine.attempts import Attempt
from engine.bound import Transform
from engine.plugin_api import BatchResult, Rejected, RetryableError, RowError
from ledger import events as e
from ledger import ids, reader, registry
from ledger.store import Store
from tests.kit.deaths import Making, MortalStore
from tests.kit.forks import forked, nested
from tests.kit.pipelines import Sketch, Trial, failing, trial
from tests.kit.ports import EPOCH_US, SimulatedTime
from tests.kit.twins import InlineWorkers, ListSink

Row = Mapping[str, Any]
STEP_MS = 60
LONG_SECONDS = 100_000.0


def numbered(count: int) -> list[object]:
    """So many rows."""
    return [{"n": n} for n in range(count)]


def making(text: str, rows: Iterable[object], steps: Mapping[str, Transform] | None = None, *, takes_ms: int = STEP_MS,
           late: Callable[[str, Row], int] | None = None) -> Making:
    """The trial of a file; every step takes so long, and raises as often as `late` says before it answers."""
    rows = list(rows)

    @cache
    def built() -> Trial:
        return trial(text, rows)

    def make(store: MortalStore) -> Trial:
        made = anew(built(), store)
        calls = {name: _taking(made.time, takes_ms, (steps or {}).get(name, _same)) for name in made.bound.steps}
        if late is not None:
            calls = {name: _late(made, name, call, late) for name, call in calls.items()}
        batches = {name: _taking(made.time, takes_ms, (steps or {}).get(name, list)) for name in made.bound.aggregations}
        return calling(made, {**calls, **batches})

    return make


def anew(built: Trial, store: Store) -> Trial:
    """The same pipeline, not built again, over a store of its own and with nothing of what others left."""
    if store.head(ids.LEDGER_STREAM) is None:
        registry.create(store, "trial", EPOCH_US)
    sinks, source = {name: ListSink(name) for name in built.sinks}, copy(built.source)
    return replace(built, store=store, time=SimulatedTime(), sinks=sinks, source=source, workers=InlineWorkers(),
                   bound=replace(built.bound, sinks=sinks, source=source))


def calling(made: Trial, calls: Mapping[str, Transform]) -> Trial:
    """The trial, with these for its transforms and aggregations of that name."""
    bound = made.bound
    steps = {name: replace(one, call=calls.get(name, one.call)) for name, one in bound.steps.items()}
    batches = {name: replace(one, call=calls.get(name, one.call)) for name, one in bound.aggregations.items()}
    made.bound = replace(bound, steps=steps, aggregations=batches)
    return made


def _same(row: Row, attempt: Attempt | None = None) -> Row:
    return row


def _taking(time: SimulatedTime, milliseconds: int, call: Callable[..., object]) -> Transform:
    def taking(*given: Any, **named: Any) -> object:
        time.advance_ms(milliseconds)
        return call(*given, **named)

    return taking


def _late(made: Trial, name: str, call: Callable[..., object], late: Callable[[str, Row], int]) -> Transform:
    """A step that asks to be tried again; how often it did, the log knows, as the world would that it asks."""
    def ask(row: Row, **named: Any) -> object:
        if attempts_on_record(made, name, row) < late(name, row):
            raise RetryableError("later")
        return call(row, **named)

    return ask


def attempts_on_record(made: Trial, node: str, row: Row) -> int:
    """How many attempts on this row have failed for good."""
    failed = [event.input for _, event in reader.events(made.store, made.run)
              if isinstance(event, e.StepFailed) and event.node == node]
    kept = made.store.payloads(made.run, failed)
    return sum(msgspec.json.decode(kept[n].bytes or b"") == row for n in failed)


# --- what steps do ---------------------------------------------------------------------------------------------------


def odd_fail(row: Row, attempt: Attempt | None = None) -> Row:
    """Rows of an odd number are at fault."""
    if row["n"] % 2:
        raise RowError("odd", "odd")
    return row


def odd_filter(row: Row) -> Row | None:
    """Rows of an odd number are left out."""
    return None if row["n"] % 2 else row


def parts(row: Row, attempt: Attempt | None = None) -> list[Row]:
    """As many children as the row's number says; the child of an odd place is told to `fail`."""
    return [{"of": row["n"], "n": part} for part in range(row["n"])]


def sums(rows: Sequence[Row]) -> list[Row]:
    """One row that names its members."""
    return [{"n": len(rows), "of": [row["n"] for row in rows]}]


def rejecting(rows: Sequence[Row]) -> BatchResult:
    """The first member is not taken, and each other is one row."""
    return BatchResult([dict(row) for row in rows[1:]], [Rejected(0, "the first", "odd")])


def refused(row: Row, attempt: Attempt | None = None) -> Row:
    """Rows that sinks do not take, each some."""
    ways: list[dict[str, Any]] = [{}, {"refuse": ["out"]}, {"refuse": ["out", "spare"]}, {"refuse_late": True}]
    return {**row, **ways[row["n"] % 4]}


def hastily(name: str, row: Row) -> int:
    """How often a step asks to be tried again."""
    return int(row["n"]) % 3


# --- pipelines -------------------------------------------------------------------------------------------------------


def linear() -> Making:
    """One step."""
    return making(Sketch("rows").step("one", "rows", "out").sink("out").text(), numbered(3))


def troubled() -> Making:
    """Failures that are routed and discarded, a filter, invalid rows."""
    sketch = Sketch("rows", invalid="errors").step("one", "rows", "c", "errors").step("two", "c", "d", "discard")
    rows = [*numbered(5), ({"n": "x"}, ("odd", "no number")), {"n": 6}]
    return making(sketch.step("three", "d", "out").sink("out", "errors").text(), rows,
                  {"one": lambda row: odd_fail(row) if row["n"] < 3 else row, "three": odd_filter})


def invalid() -> Making:
    """Nothing but invalid rows, discarded."""
    rows = [({"n": n}, ("odd", "no")) for n in range(3)]
    return making(Sketch("rows").step("one", "rows", "out").sink("out").text(), rows)


def gated() -> Making:
    """A gate to two sinks and on, with a label it does not know."""
    condition = "'a' if row['n'] == 0 else 'b' if row['n'] == 1 else 'c' if row['n'] == 2 else 'd'"
    sketch = Sketch("rows").gate("gate", "rows", condition, {"a": "side", "b": "next", "c": "out"})
    return making(sketch.step("one", "next", "out").sink("out", "side").text(), numbered(5))


def gate_routed() -> Making:
    """A gate whose failures have a way."""
    sketch = Sketch("rows").step("one", "rows", "c").gate("gate", "c", "row['none'] > 1", {"true": "out", "false": "out"},
                                                          on_error="errors")
    return making(sketch.sink("out", "errors").text(), numbered(3))


def joined(policy: str, **settings: Any) -> Making:
    """A fork of three, the middle one of which loses the odd ones."""
    sketch = forked("a", "b", "c", policy=policy, **settings)
    return making(sketch.text(), numbered(3), {"step_b": odd_fail})


def collided() -> Making:
    """A union that fails on a collision."""
    sketch = forked("a", "b", policy="require_all", union_collision_policy="fail")
    return making(sketch.text(), numbered(3), {"step_b": lambda row: {**row, "n": row["n"] // 2}})


def crossed() -> Making:
    """A fork inside a fork, some of whose branches are lost."""
    made = nested({"policy": "require_all"}, {"policy": "best_effort", "timeout_seconds": LONG_SECONDS})
    return making(made.text(), numbered(3), {"step_b": odd_fail})


def gathered(policy: str = "best_effort", **settings: Any) -> Making:
    """Expansions of 0 to 3 children, gathered; some children fail."""
    sketch = Sketch("rows").step("parts", "rows", "c", expands=True).step("work", "c", "d", "errors")
    sketch.gather("join", "parts", "d", policy, "e", **settings).step("last", "e", "out")
    return making(sketch.sink("out", "errors").text(), numbered(4), {"parts": parts, "work": odd_fail})


def spread() -> Making:
    """An expansion that nothing gathers."""
    sketch = Sketch("rows").step("parts", "rows", "c", expands=True).step("work", "c", "out", "errors")
    return making(sketch.sink("out", "errors").text(), numbered(4), {"parts": parts, "work": odd_fail})


def batched(plugin: Transform = sums, **settings: Any) -> Making:
    """A batch between two steps."""
    sketch = Sketch("rows").step("one", "rows", "c").batch("batch", "c", "d", "errors", **settings)
    return making(sketch.step("two", "d", "out").sink("out", "errors").text(), numbered(5), {"batch": plugin})


def joining_batch() -> Making:
    """Branches of a fork that come to one batch, by ways of other lengths."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b", "z").step("one", "a", "c").step("two", "c", "to")
    sketch.step("three", "b", "to").gate("all", "z", "True", {"true": "to"})
    sketch.batch("batch", "to", "out", trigger={"count": 4})
    return making(sketch.sink("out").text(), numbered(3), {"batch": sums})


def batch_tried_again() -> Making:
    """A batch whose first attempts fail, with tokens that wait behind it."""
    sketch = Sketch("rows", attempts=3).batch("batch", "rows", "out", "errors", trigger={"count": 2})
    plain = making(sketch.sink("out", "errors").text(), numbered(8))

    def make(store: MortalStore) -> Trial:
        made = plain(store)

        def plugin(rows: Sequence[Row]) -> list[Row]:
            failed = [event for _, event in reader.events(made.store, made.run) if isinstance(event, e.BatchFailed)]
            if len(failed) < 2:
                raise RetryableError("later")
            return sums(rows)

        return calling(made, {"batch": _taking(made.time, STEP_MS, plugin)})

    return make


def refusals() -> Making:
    """Sinks that refuse, before writing and late; a failsink that refuses too."""
    sketch = Sketch("rows").step("one", "rows", "out").sink("out", on_write_failure="spare")
    return making(sketch.sink("spare", on_write_failure="last").sink("last").text(), numbered(6), {"one": refused})


def one_sink() -> Making:
    """A sink to which tokens come by every way there is."""
    sketch = Sketch("rows", invalid="out").step("one", "rows", "c", "out").gate("gate", "c", "row['n'] > 3",
                                                                               {"true": "out", "false": "d"})
    rows = [*numbered(3), ({"n": 9}, ("odd", "no")), {"n": 4}, {"n": 5}]
    return making(sketch.step("two", "d", "out", "out").sink("out", "spare").text(), rows,
                  {"one": odd_fail, "two": lambda row: odd_fail({**row, "n": row["n"] // 2})})


def asked(workers: int = 1, **settings: Any) -> Making:
    """An effect, with steps before and after it."""
    sketch = Sketch("rows", workers=workers).step("one", "rows", "c").effect("ask", "c", "d", "errors")
    return making(sketch.step("two", "d", "out").sink("out", "errors").text(), numbered(4), {"ask": odd_fail})


def asked_twice() -> Making:
    """Two effects, one behind the other, over one row."""
    sketch = Sketch("rows").effect("ask", "rows", "c").effect("tell", "c", "out")
    return making(sketch.sink("out").text(), numbered(1))


def asked_again() -> Making:
    """An effect and a step that are tried again."""
    sketch = Sketch("rows", attempts=3, delay_seconds=1.0).effect("ask", "rows", "c", "errors").step("two", "c", "out")
    return making(sketch.sink("out", "errors").text(), numbered(4), takes_ms=0, late=hastily)


def experiments() -> Making:
    """`pre_test > analyse x N > synthesise`."""
    sketch = Sketch("rows").step("pre_test", "rows", "trials", expands=True).effect("analyse", "trials", "done", "errors")
    sketch.gather("join", "pre_test", "done", "best_effort", "whole", timeout_seconds=LONG_SECONDS)
    return making(sketch.step("synthesise", "whole", "out").sink("out", "errors").text(), numbered(4),
                  {"pre_test": parts, "analyse": odd_fail})


def empty() -> Making:
    """A source without rows."""
    return making(Sketch("rows").step("one", "rows", "out").sink("out").text(), [])


SMALL: Mapping[str, Making] = {
    "linear": linear(), "troubled": troubled(), "invalid": invalid(), "gated": gated(), "gate_routed": gate_routed(),
    "require_all": joined("require_all"), "quorum": joined("quorum", quorum_count=2), "first": joined("first"),
    "best_effort": joined("best_effort", timeout_seconds=LONG_SECONDS), "collided": collided(), "crossed": crossed(),
    "nested_merge": joined("quorum", quorum_count=3, merge="nested"),
    "selected": joined("require_all", merge="select", select_branch="b"),
    "gathered": gathered(timeout_seconds=LONG_SECONDS), "gathered_all": gathered("require_all"),
    "gathered_quorum": gathered("quorum", quorum_count=2), "spread": spread(),
    "batch_count": batched(trigger={"count": 2}), "batch_end": batched(),
    "batch_condition": batched(trigger={"condition": "batch_count >= 3"}),
    "batch_timeout": batched(trigger={"timeout_seconds": LONG_SECONDS}),
    "batch_passing": batched(list, trigger={"count": 2}, output_mode="passthrough"),
    "batch_rejecting": batched(rejecting, trigger={"count": 2}),
    "batch_rejecting_passing": batched(rejecting, trigger={"count": 3}, output_mode="passthrough"),
    "batch_failing": batched(failing(lambda: RowError("no")), trigger={"count": 2}),
    "batch_joining": joining_batch(), "batch_tried_again": batch_tried_again(), "refusals": refusals(),
    "one_sink": one_sink(), "asked": asked(), "asked_twice": asked_twice(), "asked_again": asked_again(),
    "experiments": experiments(), "empty": empty(),
}  # fmt: skip
