"""Plugins of one's own: ten lines each, found by place or by entry point, and whatever they do is on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.doors.kept import on_files
from tests.doors.told import ask, done, lines, tell, write

PIPELINE = """\
source:
  plugin: json
  on_success: rows
  options: {{path: in.jsonl}}
retry: {{max_attempts: 3, initial_delay_seconds: 0, max_delay_seconds: 0}}
transforms:
  - {{name: own, plugin: "{plugin}", input: rows, on_success: good, on_error: {on_error}, options: {options}}}
sinks:
  good: {{plugin: json, options: {{path: good.jsonl}}}}
"""
FAILED = "  failed: {plugin: json, options: {path: failed.jsonl}}\n"

STEPS = '''\
from __future__ import annotations

import copy
from typing import Any, List, Optional

from counterfoil import RetryableError, RowError, effect, transform

ATTEMPTS = []


@transform
def add_vat(row: dict[str, Any], *, rate: float = 0.2, names: list[str] | None = None) -> dict[str, Any]:
    return {**row, "gross": row["n"] * (1 + rate), "names": names}

def needs(row, *, factor: int, label: str):
    return row | {"n": row["n"] * factor, "label": label}

def explode(row) -> list[dict]:
    return [{"n": row["n"], "i": i} for i in range(row["n"])]

def explode_some(row) -> Optional[List[dict]]:
    return None if row["n"] == 0 else [{"n": row["n"]}, {"n": row["n"]}]

def undeclared(row):
    return [row, row]

def keep_odd(row):
    return row if row["n"] % 2 else None

def mutates(row):
    row["n"] = 5
    return row

def mutates_deep(row):
    row["deep"][0]["x"].append(1)
    return row

def copies(row):
    mine = copy.deepcopy(row)
    mine["deep"][0]["x"].append(1)
    mine["also"] = dict(row)["n"]
    return mine

def refuses(row):
    raise RowError("n is odd", "odd") if row["n"] % 2 else RowError("n is even")

def third_time(row):
    ATTEMPTS.append(row["n"])
    if ATTEMPTS.count(row["n"]) < 3:
        raise RetryableError("not yet")
    return {**row, "attempts": ATTEMPTS.count(row["n"])}

def never(row):
    raise RetryableError("still not")

def no_network(row):
    raise ConnectionResetError("reset")

def too_late(row):
    raise TimeoutError

class Unspeakable(BaseException):
    def __str__(self):
        raise ValueError("no words")

RAISES = {"exit": SystemExit(3), "key": KeyError("x"), "stop": StopIteration(), "generator": GeneratorExit(),
          "unspeakable": Unspeakable(), "long": ValueError("x" * 100_000), "text": ValueError("a\\ud800\\x1b[31m")}

def raises(row, *, what: str):
    raise RAISES[what]

def recurses(row):
    return recurses(row)

NONSENSE = {"text": "row", "number": 5, "tuple": ({},), "true": True, "nan": {"n": float("nan")}, "set": {"n": {1}},
            "bytes": {"n": b"x"}, "key": {1: 2}, "huge": {"n": 2**64}, "surrogate": {"n": "\\ud800"},
            "object": {"n": object()}, "class": dict, "generator": (n for n in ())}

def nonsense(row, *, what: str):
    return NONSENSE[what]

class Counter:
    """Holds something open."""

    def __init__(self, *, start: int = 0, path: str = "closed.txt") -> None:
        self.count, self.path = start, path

    def __call__(self, row):
        self.count += 1
        return {**row, "count": self.count}

    def close(self) -> None:
        with open(self.path, "a") as file:
            file.write(f"{self.count}\\n")

@effect
def posts(row):
    return {**row, "posted": True}
'''


def run(step: str, *rows: dict[str, Any], on_error: str = "failed", **options: object) -> dict[str, Any]:
    """A run of those rows through that step; lawful in every way."""
    write({
        "own_plugins.py": STEPS,
        "in.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "pipeline.yaml": PIPELINE.format(plugin=step if ":" in step or "-" in step else f"own_plugins:{step}",
                                         on_error=on_error, options=json.dumps(options))
        + (FAILED if on_error == "failed" else ""),
    })
    receipt: dict[str, Any] = ask("run", "pipeline.yaml", "--run-id", "own")
    assert ask("replay", "own", "--deep")["ok"] is True
    assert ask("verify", "own")["ok"] is True
    return receipt


def reason(token: str = "0") -> str:
    """Why a token ended."""
    found: str = ask("explain", "own", token)["outcome"]["reason"]
    return found


def attempts(token: str = "0") -> list[tuple[int, str]]:
    """(attempt, status) of a token at the step."""
    states = ask("explain", "own", token)["node_states"]
    return [(state["attempt"], state["status"]) for state in states if state["node_id"] == "own"]


def test_options_come_from_the_type_hints() -> None:
    """Defaults, numbers, lists; what is required has to be said."""
    run("add_vat", {"n": 10}, rate=0.5, names=["a"])
    assert lines("good.jsonl") == [{"n": 10, "gross": 15.0, "names": ["a"]}]
    write({"pipeline.yaml": PIPELINE.format(plugin="own_plugins:needs", on_error="discard", options='{factor: "2"}')})
    told = tell("validate", "pipeline.yaml", ledger=None)
    assert (told.code, told.error.split(":")[0]) == (3, "KEY_MISSING")
    assert "transforms[0].options.label" in told.error
    run_again = tell("run", "pipeline.yaml")
    assert run_again.code == 3


def test_a_list_in_the_annotation_expands() -> None:
    """Each child has its parent; none at all is an expansion of nothing."""
    receipt = run("explode", {"n": 3}, {"n": 0}, {"n": 1})
    assert receipt["outcomes"] == {"completed": 4, "dropped_by_filter": 1, "expanded": 2}
    assert [(row["n"], row["i"]) for row in lines("good.jsonl")] == [(3, 0), (3, 1), (3, 2), (1, 0)]
    parents = ask("query", "SELECT token_id, parent_token_id FROM token_parents ORDER BY token_id")["rows"]
    assert [(row["token_id"], row["parent_token_id"]) for row in parents] == [
        ("0:0", "0"), ("0:1", "0"), ("0:2", "0"), ("2:0", "2")]


def test_an_expanding_step_may_filter_too() -> None:
    """`Optional[List[…]]`, in old words and behind `from __future__ import annotations`."""
    receipt = run("explode_some", {"n": 0}, {"n": 1})
    assert (receipt["outcomes"]["dropped_by_filter"], receipt["outcomes"]["expanded"]) == (1, 1)
    assert len(lines("good.jsonl")) == 2


def test_a_list_from_a_step_that_declared_none_fails_the_row() -> None:
    """The build has to know what expands."""
    run("undeclared", {"n": 1})
    assert reason().startswith("bad_output: expected a row or None, found a list")
    assert lines("failed.jsonl") == [{"n": 1}]


def test_none_filters() -> None:
    """On record, with its end; stored nowhere."""
    receipt = run("keep_odd", *({"n": n} for n in range(5)), on_error="discard")
    assert receipt["outcomes"] == {"completed": 2, "dropped_by_filter": 3}
    assert [row["n"] for row in lines("good.jsonl")] == [1, 3]


@pytest.mark.parametrize("step", ["mutates", "mutates_deep"])
def test_the_input_is_frozen(step: str) -> None:
    """W8: a plugin that changes its input fails that row; what was read stays as it was, on record and where it goes."""
    row = {"n": 1, "deep": [{"x": [1, 2]}]}
    run(step, row)
    assert reason().startswith("plugin_raised: TypeError: rows are frozen")
    assert lines("failed.jsonl") == [row]


def test_a_copy_of_the_input_is_free() -> None:
    """`dict(row)`, `{**row}` and `deepcopy` give what can be changed."""
    run("copies", {"n": 1, "deep": [{"x": [1]}]}, on_error="discard")
    assert lines("good.jsonl") == [{"n": 1, "deep": [{"x": [1, 1]}], "also": 1}]


def test_a_row_error_is_final_and_its_code_is_kept() -> None:
    """E1: one attempt, the code, the text, a divert to the route."""
    run("refuses", {"n": 1}, {"n": 2})
    assert (reason("0"), reason("1")) == ("odd: n is odd", "row_error: n is even")
    assert attempts() == [(1, "failed")]
    assert ask("explain", "own", "0")["divert_summary"]["edge_label"] == "__error_own__"


def test_a_retryable_error_is_tried_again() -> None:
    """law T10: up to `max_attempts`, each attempt on record, only the last one succeeds."""
    run("third_time", {"n": 1}, {"n": 2}, on_error="discard")
    assert lines("good.jsonl") == [{"n": 1, "attempts": 3}, {"n": 2, "attempts": 3}]
    assert attempts() == [(1, "failed"), (2, "failed"), (3, "completed")]


@pytest.mark.parametrize(("step", "said"), [
    ("never", "RetryableError: still not"), ("no_network", "ConnectionResetError: reset"), ("too_late", "TimeoutError"),
])
@pytest.mark.parametrize("on_error", ["failed", "discard"])
def test_retries_end(step: str, said: str, on_error: str) -> None:
    """W9, E1, E2: after the last attempt the row leaves as any other that failed; any `OSError` may pass."""
    run(step, {"n": 1}, on_error=on_error)
    assert reason() == f"retries_exhausted: {said}"
    assert attempts() == [(1, "failed"), (2, "failed"), (3, "failed")]
    diverts = [one for one in ask("explain", "own", "0")["routing"] if one["flow_type"] == "divert"]
    assert len(diverts) == (1 if on_error == "failed" else 0)
    assert ask("explain", "own", "0")["divert_summary"]["divert_type"] == "error"


@pytest.mark.parametrize(("what", "said"), [
    ("exit", "SystemExit: 3"), ("key", "KeyError: 'x'"), ("stop", "StopIteration"), ("generator", "GeneratorExit"),
    ("unspeakable", "Unspeakable: (its message raised ValueError)"), ("long", "ValueError: xxx"), ("text", "ValueError: a"),
])
def test_anything_else_that_is_raised_fails_the_row_as_plugin_raised(what: str, said: str) -> None:
    """W8, E1: one attempt, the type and the text, bounded; the run goes on, and its exit code is 0."""
    run("raises", {"n": 1}, {"n": 2}, what=what)
    assert reason().startswith(f"plugin_raised: {said}")
    assert len(reason()) < 5000
    assert attempts() == [(1, "failed")]
    assert lines("failed.jsonl") == [{"n": 1}, {"n": 2}]
    assert done("explain", "own", "0").out.replace("\n", "").isprintable()


def test_endless_recursion_fails_the_row() -> None:
    """W8, E1: the stack of a plugin is not the run's."""
    run("recurses", {"n": 1})
    assert reason().startswith("plugin_raised: RecursionError")


@pytest.mark.parametrize("what", ["text", "number", "tuple", "true", "nan", "set", "bytes", "key", "huge", "surrogate",
                                  "object", "class", "generator"])
def test_what_is_no_row_fails_the_row(what: str) -> None:
    """W8, E1: a returned error is an error like a raised one; what was found is named."""
    run("nonsense", {"n": 1}, what=what)
    assert reason().startswith("bad_output: ")
    assert "expected" in reason()
    assert lines("failed.jsonl") == [{"n": 1}]


def test_a_class_is_bound_once_and_closed_at_the_end() -> None:
    """Its options are those of `__init__`; it may hold something open."""
    run("Counter", {"n": 1}, {"n": 2}, on_error="discard", start=10)
    assert [row["count"] for row in lines("good.jsonl")] == [11, 12]
    assert Path("closed.txt").read_text(encoding="utf-8") == "12\n"


def test_an_effect_is_a_step_with_its_intent_on_record() -> None:
    """Marked in the graph of the run; its start is an event of its own."""
    run("posts", {"n": 1}, on_error="discard")
    assert lines("good.jsonl") == [{"n": 1, "posted": True}]
    types = [row["type"] for row in ask("query", "SELECT type FROM log.events ORDER BY stream, seq")["rows"]]
    assert types.index("StepStarted") < types.index("StepCompleted")


@pytest.mark.parametrize(("step", "said"), [("later", "return a row or a list"), ("yields", "annotation Iterator[...]"),
                                            ("later_many", "return a row or a list")])
def test_a_function_that_is_not_plain_is_refused_when_it_is_named(step: str, said: str) -> None:
    """`async` returns no row, and `yield` any number of them: said once, and not for every row."""
    write({"own_odd.py": "async def later(row):\n    return row\n\ndef yields(row):\n    yield row\n\n"
                         "async def later_many(row):\n    yield row\n",
           "pipeline.yaml": PIPELINE.format(plugin=f"own_odd:{step}", on_error="discard", options="{}")})
    told = tell("validate", "pipeline.yaml", ledger=None)
    assert (told.code, told.error.split(":")[0]) == (3, "PLUGIN_BROKEN")
    assert said in told.error


def test_a_step_that_yields_expands() -> None:
    """W15, C1: its rows are taken one by one, no more of them than a row may become, so that an endless one ends too."""
    write({"own_many.py": "from collections.abc import Iterator\n\ndef many(row) -> Iterator[dict]:\n    n = 0\n"
                          "    while n < row['times']:\n        yield {'n': n}\n        n += 1\n"})
    receipt = run("own_many:many", {"times": 3}, {"times": 0}, {"times": 2**60})
    assert lines("good.jsonl") == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert lines("failed.jsonl") == [{"times": 2**60}]
    assert reason("2") == "limit_exceeded: expected at most 10000 rows, found more"
    assert receipt["outcomes"] == {"completed": 3, "expanded": 1, "dropped_by_filter": 1, "routed": 1}


ENTRY_POINTS = """\
[counterfoil.plugins]
add-vat = packaged_steps:add_vat
explode-more = packaged_steps:explode
passthrough = packaged_steps:refuses
gone-away = packaged_steps:not_there
no-hints = packaged_hints:keep
late-hints = packaged_late:keep
"""


@pytest.fixture
def packaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution `packaged` 1.2 on the search path."""
    write({
        "site/packaged_steps.py": STEPS,
        "site/packaged_hints.py": "def keep(row, *, factor: Nowhere):\n    return row\n",
        "site/packaged_late.py": "from __future__ import annotations\ndef keep(row, *, factor: Nowhere):\n    return row\n",
        "site/packaged-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: packaged\nVersion: 1.2\n",
        "site/packaged-1.2.dist-info/entry_points.txt": ENTRY_POINTS,
        "site/packaged-1.2.dist-info/top_level.txt": "packaged_steps\n",
    })
    monkeypatch.syspath_prepend(folder / "site")


@on_files
def test_a_plugin_is_found_by_its_entry_point(packaged: None) -> None:
    """By its short name; its distribution's version and its source's hash are on record."""
    run("add-vat", {"n": 10}, on_error="discard")
    assert lines("good.jsonl")[0]["gross"] == 12.0
    node = ask("query", "SELECT plugin, plugin_version FROM nodes WHERE node_id = 'own'")["rows"]
    assert node[0]["plugin"] == "add-vat"
    assert node[0]["plugin_version"].startswith("1.2+")
    graph = ask("query", "SELECT json_extract(CAST(body AS TEXT), '$.graph.nodes') AS nodes FROM log.events WHERE type = "
                "'RunStarted'")["rows"][0]["nodes"]
    assert len(next(one for one in json.loads(graph) if one["id"] == "own")["code_hash"]) == 64


def test_a_built_in_name_cannot_be_taken_over(packaged: None) -> None:
    """An installed package never changes what a pipeline file means."""
    write({"in.jsonl": '{"n": 1}\n',
           "pipeline.yaml": PIPELINE.format(plugin="passthrough", on_error="discard", options="{}")})
    done("run", "pipeline.yaml", "--run-id", "own")
    assert lines("good.jsonl") == [{"n": 1}]


def test_installed_plugins_are_listed_and_a_broken_one_hides_no_other(packaged: None) -> None:
    """Named with version and options; one that cannot be used says why when it is named."""
    told = done("plugins", "-o", "json", ledger=None)
    assert [line.split(": ")[1] for line in told.err.splitlines()] == ["passthrough", "gone-away", "no-hints", "late-hints"]
    found = {row["name"]: row for row in told.rows}
    assert (found["add-vat"]["version"], found["add-vat"]["origin"]) == ("1.2", "packaged_steps:add_vat")
    assert found["add-vat"]["options"] == "rate?, names?"
    assert (found["explode-more"]["expands"], found["passthrough"]["origin"]) == (True, "built in")
    for name, said in (("gone-away", "not_there"), ("no-hints", "Nowhere"), ("late-hints", "Nowhere")):
        write({"pipeline.yaml": PIPELINE.format(plugin=name, on_error="discard", options="{}")})
        told = tell("validate", "pipeline.yaml", ledger=None)
        assert (told.code, told.error.split(":")[0]) == (3, "PLUGIN_BROKEN")
        assert said in told.error
    write({"pipeline.yaml": PIPELINE.format(plugin="ad-vat", on_error="discard", options="{}")})
    assert "did you mean add-vat?" in tell("validate", "pipeline.yaml", ledger=None).error
