"""Small pipelines of every kind, each with its rows: what the faults are tried on.

Why generated: a run must be the same run each time it is made, so answers follow from rows, no timer fires, and one worker
asks outside.

Invariants: everything lies in one folder; sinks write below `out`, an effect tells `out/told.txt`; where a run that is cut
may put the same rows into a sink in another order (`sinks_in_any_order`), that is because a row asked
again is overtaken by those that stand in line, and a crash empties the line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

PLUGINS = "tests.simulation.plugins"
FILE = "pipeline.yaml"
TOLD = "out/told.txt"
WORDS = ("plain", "with, comma", 'with "quotes"', "two\nlines", "", "caf\u00e9")
LONG_SECONDS = 1e6

Settings = dict[str, Any]


class Pipeline(NamedTuple):
    """A pipeline file, what lies beside it, and what may differ after a crash."""

    name: str
    settings: Settings
    files: Mapping[str, bytes]
    rows: int
    sinks_in_any_order: bool = False
    loose: bool = False
    """Its sinks are `LooseSink`s: at least once, each line behind the key of its write."""

    @property
    def sinks(self) -> dict[str, str]:
        """Sink names to their files."""
        options = {name: sink["options"] for name, sink in self.settings["sinks"].items()}
        return {name: given["path"] if "path" in given else given["url"].removeprefix("sqlite:///")
                for name, given in options.items()}

    def put(self, folder: Path) -> Path:
        """Write everything into a folder; gives the pipeline file."""
        for name, content in {**self.files, FILE: msgspec.json.encode(self.settings)}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder / FILE


def rows(count: int) -> bytes:
    """So many rows of CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["n", "word", "shop"])
    for n in range(count):
        writer.writerow([n, WORDS[n % len(WORDS)], f"shop {n % 4}"])
    return text.getvalue().encode()


def source(to: str, *, invalid: str = "discard") -> Settings:
    """A CSV source of `n`, `word` and `shop`."""
    schema = {"mode": "fixed", "fields": ["n: int", "word: str?", "shop: str"]}
    return {"plugin": "csv", "on_success": to, "key": "n",
            "options": {"path": "in.csv", "schema": schema, "on_validation_failure": invalid}}


def step(name: str, plugin: str, input_: str, to: str, on_error: str = "discard", **options: Any) -> Settings:
    """A transform; a plugin without a colon is built in, one with a colon in front is one of ours."""
    full = f"{PLUGINS}{plugin}" if plugin.startswith(":") else plugin
    return {"name": name, "plugin": full, "input": input_, "on_success": to, "on_error": on_error, "options": options}


def fork(name: str, input_: str, *branches: str) -> Settings:
    """A gate that sends every row to each branch."""
    return {"name": name, "input": input_, "condition": "True", "routes": {"true": "fork"}, "fork_to": list(branches)}


def gate(name: str, input_: str, condition: str, routes: Mapping[str, str], on_error: str | None = None) -> Settings:
    """A gate that chooses."""
    made: Settings = {"name": name, "input": input_, "condition": condition, "routes": dict(routes)}
    return made if on_error is None else {**made, "on_error": on_error}


def join(name: str, branches: Sequence[str] | Mapping[str, str], to: str, **settings: Any) -> Settings:
    """A coalesce; without a word it is `require_all` and `union`."""
    given = dict(branches) if isinstance(branches, Mapping) else list(branches)
    return {"name": name, "branches": given, "on_success": to, **settings}


def sink(name: str, *, plugin: str = "json", refused: str = "discard", **options: Any) -> Settings:
    """A sink below `out`: CSV under `.csv`, one array under `.json`, else lines."""
    return {"plugin": plugin, "on_write_failure": refused, "options": {"path": f"out/{name}", **options}}


def house(table: str, **options: Any) -> Settings:
    """A table of a database below `out`."""
    return {"plugin": "database", "on_write_failure": "discard",
            "options": {"url": "sqlite:///out/house.db", "table": table, **options}}


LINES = sink("good.jsonl")
BAD = sink("bad.jsonl")
TABLE = sink("good.csv", plugin="csv")


def pipeline(name: str, count: int, sinks: Settings, *, first: str = "rows", invalid: str = "discard",
             files: Mapping[str, bytes] | None = None, any_order: bool = False, loose: bool = False, **sections: Any
             ) -> Pipeline:
    """One pipeline; `sections` are those of its file."""
    retry = {"max_attempts": 3, "initial_delay_seconds": 0, "max_delay_seconds": 0}
    settings = {"name": name, "source": source(first, invalid=invalid), "retry": retry, "sinks": sinks, **sections}
    return Pipeline(name, settings, {"in.csv": rows(count), **(files or {})}, count, any_order, loose)


def _lines() -> list[Pipeline]:
    """Without forks."""
    return [
        pipeline("linear", 200, {"good": TABLE}, transforms=[step("same", "passthrough", "rows", "good")]),
        pipeline("wide_rows", 120, {"good": LINES}, transforms=[step("pad", ":padded", "rows", "good", characters=1500)]),
        pipeline("two_steps", 150, {"good": sink("good.csv", plugin="csv", delimiter=";")}, transforms=[
            step("mark", ":marked", "rows", "marked", field="m"),
            step("mark_again", ":marked", "marked", "good", field="k")]),
        pipeline("stored", 120, {"good": house("goods", primary_key="n"), "bad": BAD}, files={"out/.keep": b""}, transforms=[
            step("pick", ":picky", "rows", "good", "bad", salt="pick", one_in=4)]),
        pipeline("filters", 200, {"good": LINES, "bad": BAD}, transforms=[
            step("drop", ":dropping", "rows", "left", salt="drop", one_in=3),
            step("pick", ":picky", "left", "good", "bad", salt="pick", one_in=5)]),
        pipeline("discards", 160, {"good": TABLE}, transforms=[
            step("pick", ":picky", "rows", "good", salt="pick", one_in=2)]),
        pipeline("gates", 200, {"zero": sink("zero.jsonl"), "one": sink("one.csv", plugin="csv"), "odd": sink("odd.jsonl")},
                 gates=[gate("which", "rows", "'zero' if row['n'] % 3 == 0 else 'one' if row['n'] % 3 == 1 else 'none'",
                             {"zero": "zero", "one": "one"}, on_error="odd")]),
        pipeline("gate_fails", 120, {"good": LINES}, gates=[
            gate("which", "rows", "'go' if row['n'] % 4 else 'nowhere'", {"go": "good"})]),
        pipeline("quarantine", 150, {"good": LINES, "bad": BAD}, invalid="bad",
                 files={"in.csv": rows(150).replace(b"\n4", b"\nfour").replace(b"shop 2", b"shop 2,more")},
                 transforms=[step("same", "passthrough", "rows", "good")]),
        pipeline("array", 100, {"good": sink("good.json", indent=2), "bad": sink("bad.json")}, transforms=[
            step("pick", ":picky", "rows", "good", "bad", salt="pick", one_in=4)]),
        pipeline("appends", 120, {"good": sink("good.csv", plugin="csv", mode="append"),
                                  "bad": sink("bad.jsonl", mode="append")},
                 files={"out/good.csv": b"n,word,shop\n-1,here before,shop", "out/bad.jsonl": b'{"n": -2}\n'},
                 transforms=[step("pick", ":picky", "rows", "good", "bad", salt="pick", one_in=3)]),
        pipeline("refusals", 150, {"good": sink("good.jsonl", refused="narrow", schema={
            "mode": "fixed", "fields": ["n: int", "word: str", "shop: str"]}), "narrow": sink("narrow.jsonl")},
            files={"in.csv": rows(150).replace(b",,", b",\xc3\xa9,").replace(b"plain", b"")},
            transforms=[step("same", "passthrough", "rows", "good")]),
        pipeline("loose", 150, {"good": sink("good.txt", plugin=f"{PLUGINS}:LooseSink")}, loose=True, transforms=[
            step("same", "passthrough", "rows", "good")], files={"out/.keep": b""}),
    ]


def _forks() -> list[Pipeline]:
    """Forks and what brings their branches together."""
    best = {"policy": "best_effort", "timeout_seconds": LONG_SECONDS, "merge": "nested"}
    return [
        pipeline("fork_all", 120, {"good": TABLE}, gates=[fork("split", "rows", "a", "b")], transforms=[
            step("mark_a", ":marked", "a", "a_done", field="x"), step("mark_b", ":marked", "b", "b_done", field="y")],
            coalesce=[join("whole", {"a": "a_done", "b": "b_done"}, "good")]),
        pipeline("require_all_lost", 120, {"good": LINES, "bad": BAD}, gates=[fork("split", "rows", "a", "b")], transforms=[
            step("pick", ":picky", "a", "a_done", "bad", salt="pick", one_in=3)],
            coalesce=[join("whole", {"a": "a_done", "b": "b"}, "good", merge="nested")]),
        pipeline("quorum", 100, {"good": LINES, "bad": BAD}, gates=[fork("split", "rows", "a", "b", "c")], transforms=[
            step("pick_a", ":picky", "a", "a_done", "bad", salt="a", one_in=3),
            step("pick_b", ":picky", "b", "b_done", "discard", salt="b", one_in=3),
            step("drop_c", ":dropping", "c", "c_done", "bad", salt="c", one_in=3)],
            coalesce=[join("most", {"a": "a_done", "b": "b_done", "c": "c_done"}, "good", policy="quorum", quorum_count=2,
                           merge="nested")]),
        pipeline("best_effort", 100, {"good": LINES, "bad": BAD}, gates=[fork("split", "rows", "a", "b")], transforms=[
            step("pick_a", ":picky", "a", "a_done", "bad", salt="a", one_in=2),
            step("pick_b", ":picky", "b", "b_done", "bad", salt="b", one_in=2)],
            coalesce=[join("some", {"a": "a_done", "b": "b_done"}, "good", **best)]),
        pipeline("first", 100, {"good": LINES}, gates=[fork("split", "rows", "a", "b")], transforms=[
            step("drop_a", ":dropping", "a", "a_done", salt="a", one_in=2),
            step("drop_b", ":dropping", "b", "b_done", salt="b", one_in=3)],
            coalesce=[join("one", {"a": "a_done", "b": "b_done"}, "good", policy="first", merge="select",
                           select_branch="b")]),
        pipeline("nested", 80, {"good": LINES, "bad": BAD},
                 gates=[fork("outer", "rows", "a", "b"), fork("inner", "a", "p", "q")],
                 transforms=[step("pick_p", ":picky", "p", "p_done", "bad", salt="p", one_in=4),
                             step("mark_b", ":marked", "b", "b_done", field="y")],
                 coalesce=[join("small", {"p": "p_done", "q": "q"}, "a_done", merge="nested"),
                           join("large", {"a": "a_done", "b": "b_done"}, "good", merge="nested", **{
                               key: best[key] for key in ("policy", "timeout_seconds")})]),
        pipeline("collisions", 120, {"good": LINES}, gates=[
            fork("split", "rows", "a", "b"), fork("split_again", "merged", "c", "d")], transforms=[
            step("mark_a", ":marked", "a", "a_done", field="x"),
            step("mark_b", ":marked", "b", "b_done", field="x", below=4),
            step("mark_c", ":marked", "c", "c_done", field="y", below=3),
            step("mark_d", ":marked", "d", "d_done", field="y", below=2)],
            coalesce=[join("whole", {"a": "a_done", "b": "b_done"}, "merged", union_collision_policy="first_wins"),
                      join("strict", {"c": "c_done", "d": "d_done"}, "good", union_collision_policy="fail")]),
        pipeline("several_ways", 100, {"a": sink("a.csv", plugin="csv"), "b": sink("b.jsonl"), "c": sink("c.json")}, gates=[
            fork("split", "rows", "to_a", "to_b", "to_c")], transforms=[
            step("mark_a", ":marked", "to_a", "a", field="x"), step("drop_b", ":dropping", "to_b", "b", salt="b", one_in=3),
            step("same_c", "passthrough", "to_c", "c")]),
    ]


def _many() -> list[Pipeline]:
    """Expansions, batches, effects, and everything at once."""
    gather = {"name": "whole", "gathers": "explode", "policy": "best_effort", "timeout_seconds": LONG_SECONDS,
              "merge": "list"}
    return [
        pipeline("expands", 100, {"good": LINES}, transforms=[
            step("explode", ":parts", "rows", "parts", most=3), step("mark", ":marked", "parts", "good", field="x")]),
        pipeline("gathers", 80, {"good": LINES, "bad": BAD}, transforms=[
            step("explode", ":parts", "rows", "parts", most=4),
            step("pick", ":picky", "parts", "left", "bad", salt="part", one_in=4),
            step("count", ":counted", "whole", "good")], coalesce=[{**gather, "input": "left"}]),
        pipeline("batches", 160, {"good": TABLE, "bad": BAD}, aggregations=[
            {**step("sum", ":sums", "rows", "good", "bad"), "trigger": {"count": 9}}]),
        pipeline("batches_in_order", 120, {"good": LINES, "bad": BAD}, aggregations=[
            {**step("place", ":placed", "rows", "good", "bad"), "trigger": {"count": 7}, "output_mode": "passthrough"}]),
        pipeline("batch_in_fork", 90, {"good": LINES}, gates=[fork("split", "rows", "a", "b")], aggregations=[
            {**step("place", ":placed", "a", "a_done"), "trigger": {"count": 8}, "output_mode": "passthrough"}],
            coalesce=[join("whole", {"a": "a_done", "b": "b"}, "good", merge="nested")]),
        pipeline("tells", 60, {"good": LINES}, files={"out/.keep": b""}, transforms=[
            step("tell", ":telling", "rows", "good", path=TOLD)]),
        pipeline("retries", 60, {"good": LINES, "bad": BAD}, any_order=True, transforms=[
            step("ask", ":stubborn", "rows", "good", "bad", salt="ask", one_in=5)]),
        pipeline("everything", 60, {"good": TABLE, "sum": sink("sum.jsonl"), "bad": BAD, "worse": sink("worse.jsonl")},
                 invalid="worse", any_order=True,
                 files={"in.csv": rows(60).replace(b"\n5", b"\nfive"), "out/.keep": b""},
                 gates=[fork("split", "left", "a", "b", "t"),
                        gate("odd", "b", "row['n'] % 5 == 1", {"true": "bad", "false": "b_on"})],
                 transforms=[step("drop", ":dropping", "rows", "left", "bad", salt="drop", one_in=6),
                             step("tell", ":telling", "a", "told", "bad", path=TOLD),
                             step("ask", ":stubborn", "told", "a_done", "bad", salt="ask", one_in=6)],
                 aggregations=[{**step("add", ":sums", "t", "sum", "worse"), "trigger": {"count": 11}}],
                 coalesce=[join("whole", {"a": "a_done", "b": "b_on"}, "good", policy="require_all")]),
    ]


ALL: Mapping[str, Pipeline] = {one.name: one for one in (*_lines(), *_forks(), *_many())}
"""By name, in a fixed order."""
