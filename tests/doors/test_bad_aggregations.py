"""What a pipeline file says wrongly of an aggregation: one line with a code and its place, and nothing is made.

Beside the wrong triggers stand the nearest ones that are good.
"""

from __future__ import annotations

import pytest

from tests.doors.refused import INPUT, Bad, bad, changed, check
from tests.doors.told import done, lines, write

MODULES = {
    "own_batches.py": """\
from collections.abc import Iterator

from counterfoil import aggregation, effect

def step(row):
    return row

def explode(row) -> list[dict]:
    return [row]

@aggregation
def totals(rows, *, field: str = "id"):
    return [{field: len(rows)}]

@effect
def sends(rows):
    return rows
sends.__counterfoil_kind__ = "aggregation"

@aggregation
async def later(rows):
    return rows
""",
}

NAME, PLUGIN = "- name: totals", "plugin: batch_stats"
TRIGGER, OPTIONS = "trigger: {count: 10}", "options: {value_field: id}"
TOTALS = f"""\
aggregations:
  {NAME}
    {PLUGIN}
    input: joined
    on_success: good
    on_error: bad
    {TRIGGER}
    {OPTIONS}
"""
BATCHED = (("union\n    on_success: good", "union\n    on_success: joined"), ("coalesce:\n", TOTALS + "coalesce:\n"))
"""The good pipeline with an aggregation behind its join."""

OF_TRIGGERS = [
    ("VALUE_INVALID", ("trigger.count", "at most limits.batch_rows (10000), found 10001"), "{count: 10001}"),
    ("VALUE_INVALID", ("trigger.count", "found 0"), "{count: 0}"),
    ("VALUE_INVALID", ("trigger.count", "found -1"), "{count: -1}"),
    ("VALUE_INVALID", ("trigger.count", "found 1.5"), "{count: 1.5}"),
    ("VALUE_INVALID", ("trigger.count", "found True"), "{count: true}"),
    ("VALUE_INVALID", ("trigger.count", "found 'many'"), "{count: many}"),
    ("VALUE_INVALID", ("trigger.timeout_seconds", "found 0"), "{timeout_seconds: 0}"),
    ("VALUE_INVALID", ("trigger.timeout_seconds", "found -1"), "{timeout_seconds: -1}"),
    ("VALUE_INVALID", ("trigger.timeout_seconds", "found '1:30'"), "{timeout_seconds: 1:30}"),
    ("VALUE_INVALID", ("trigger.timeout_seconds", "found True"), "{timeout_seconds: true}"),
    ("VALUE_INVALID", ("trigger.timeout_seconds", "found 'nan'"), "{timeout_seconds: 'nan'}"),
    ("VALUE_INVALID", ("trigger.timeout_seconds", "found a list"), "{timeout_seconds: [1]}"),
    ("YAML_NUMBER", ("found '.inf'",), "{timeout_seconds: .inf}"),
    ("VALUE_INVALID", ("trigger.condition", "found 5"), "{condition: 5}"),
    ("VALUE_INVALID", ("trigger.condition", "found True"), "{condition: true}"),
    ("KEY_UNKNOWN", ("trigger.counts", "did you mean count?"), "{counts: 3}"),
    ("KEY_UNKNOWN", ("trigger.timeout", "did you mean timeout_seconds?"), "{timeout: 3}"),
    ("VALUE_INVALID", ("aggregations[0].trigger",), "10"),
    ("VALUE_INVALID", ("aggregations[0].trigger",), "[{count: 3}]"),
]

CONDITIONS = [
    *[(text, "true or false") for text in ("batch_count", "batch_count + 1", "batch_age_seconds", "'yes'", "None", "[]",
                                           "batch_count and batch_age_seconds")],
    *[(text, "batch_count") for text in ("batch_size > 3", "row['x'] == 1", "count > 3", "true")],
    *[(text, "") for text in ("batch_count.real > 1", "__import__('os')", "[x for x in (1, 2)] == []", "lambda: True",
                              "batch_count ** 9 > 1", "batch_count >", "", "batch_count > 1; True", "print(batch_count)")],
]

SETTINGS = [
    bad("VALUE_INVALID", ("trigger.count", "limits.batch_rows (5), found 10"), *BATCHED, (TRIGGER, TRIGGER + " #!"),
        ("sinks:", "limits: {batch_rows: 5}\nsinks:")),
    bad("VALUE_INVALID", ("limits.batch_rows", "found 0"), *BATCHED, ("sinks:", "limits: {batch_rows: 0} #!\nsinks:")),
    bad("VALUE_INVALID", ("expected_output_count", "found 0"), *BATCHED, (TRIGGER, "expected_output_count: 0 #!")),
    bad("VALUE_INVALID", ("expected_output_count", "found 1.5"), *BATCHED, (TRIGGER, "expected_output_count: 1.5 #!")),
    bad("VALUE_INVALID", ("output_mode", "'transform' or 'passthrough', found 'through'"), *BATCHED,
        (TRIGGER, "output_mode: through #!")),
    bad("KEY_UNKNOWN", ("aggregations[0].triger", "did you mean trigger?"), *BATCHED, ("trigger:", "triger: #!\n     ")),
    bad("KEY_UNKNOWN", ("'aggregation'", "did you mean aggregations?"), *BATCHED, ("aggregations:", "aggregation: #!")),
    bad("KEY_MISSING", ("aggregations[0].on_error", "add on_error"), *BATCHED, (NAME, NAME + " #!"),
        ("    on_error: bad\n    trigger", "    trigger")),
    bad("KEY_MISSING", ("aggregations[0].input",), *BATCHED, (NAME, NAME + " #!"), ("    input: joined\n", "")),
    bad("ERROR_EDGE_MISSING", ("totals", "'bda'", "did you mean bad?"), *BATCHED,
        ("on_error: bad\n    trigger", "on_error: bda #!\n    trigger")),
    bad("ERROR_EDGE_MISSING", ("totals", "'rows'"), *BATCHED,
        ("on_error: bad\n    trigger", "on_error: rows #!\n    trigger")),
    bad("CONNECTION_UNUSED", ("'joined'", "join", "did you mean joinde?"), *BATCHED, ("input: joined", "input: joinde"),
        ("on_success: joined", "on_success: joined #!")),
    bad("CONNECTION_UNUSED", ("'godo'", "totals", "did you mean good?"), *BATCHED,
        ("on_success: good", "on_success: godo #!")),
    bad("VALUE_INVALID", ("aggregations[0].name", "'discard' is reserved"), *BATCHED, (NAME, "- name: discard #!")),
    bad("VALUE_INVALID", ("aggregations[0].name", "found 'a@b'"), *BATCHED, (NAME, "- name: a@b #!")),
    bad("NAME_TWICE", ("'lefty'", "aggregation"), *BATCHED, (NAME, "- name: lefty #!")),
    bad("CYCLE", ("totals > totals",), *BATCHED, ("transforms:\n", """\
transforms:
  - {name: other, plugin: passthrough, input: joined, on_success: good, on_error: discard}
"""), ("input: joined\n    on_success: good", "input: around\n    on_success: around"), (NAME, NAME + " #!")),
]

PLUGINS = [
    bad("PLUGIN_UNKNOWN", ("aggregations[0].plugin", "'batch_stat'", "did you mean batch_stats?"), *BATCHED,
        (PLUGIN, "plugin: batch_stat #!")),
    bad("PLUGIN_UNKNOWN", ("aggregations[0].plugin", "'passthrough'"), *BATCHED, (PLUGIN, "plugin: passthrough #!")),
    bad("PLUGIN_UNKNOWN", ("transforms[0].plugin", "'batch_stats'"), *BATCHED,
        ("plugin: passthrough", "plugin: batch_stats #!")),
    bad("PLUGIN_BROKEN", ("aggregations[0].plugin", "own_batches:step", "found a transform"), *BATCHED,
        (PLUGIN, "plugin: own_batches:step #!"), (OPTIONS, "")),
    bad("PLUGIN_BROKEN", ("aggregations[0].plugin", "own_batches:explode", "found a transform"), *BATCHED,
        (PLUGIN, "plugin: own_batches:explode #!"), (OPTIONS, "")),
    bad("PLUGIN_BROKEN", ("transforms[0].plugin", "own_batches:totals", "transform", "aggregation"), *BATCHED,
        ("plugin: passthrough", "plugin: own_batches:totals #!")),
    bad("PLUGIN_BROKEN", ("aggregations[0].plugin", "own_batches:sends", "effects only of a transform"), *BATCHED,
        (PLUGIN, "plugin: own_batches:sends #!"), (OPTIONS, "")),
    bad("PLUGIN_BROKEN", ("aggregations[0].plugin", "own_batches:later"), *BATCHED,
        (PLUGIN, "plugin: own_batches:later #!"), (OPTIONS, "")),
    bad("PLUGIN_BROKEN", ("aggregations[0].plugin", "own_batches:none", "AttributeError"), *BATCHED,
        (PLUGIN, "plugin: own_batches:none #!")),
    bad("KEY_UNKNOWN", ("aggregations[0].options.value_fild", "did you mean value_field?"), *BATCHED,
        (OPTIONS, "options: {value_field: id, value_fild: id} #!")),
    bad("KEY_MISSING", ("aggregations[0].options.value_field", "add value_field"), *BATCHED, (OPTIONS, "options: {} #!")),
    bad("VALUE_INVALID", ("aggregations[0].options.value_field", "found 7"), *BATCHED,
        (OPTIONS, "options: {value_field: 7} #!")),
    bad("VALUE_INVALID", ("aggregations[0].options.field", "found 7"), *BATCHED, (PLUGIN, "plugin: own_batches:totals"),
        (OPTIONS, "options: {field: 7} #!")),
]

LEFTY = "plugin: passthrough\n    input: left\n    on_success: left_done"
INSIDE = """\
aggregations:
  - name: within #!
    plugin: batch_stats
    input: {source}
    on_success: {to}
    on_error: bad
    options: {{value_field: id}}
"""
GATHERED = """\
coalesce:
  - {name: items, gathers: lefty, input: counted, policy: require_all, merge: list, on_success: left_done}
"""
CORRIDORS = [
    bad("AGGREGATION_IN_CORRIDOR", ("within", "split", "join", "output_mode: passthrough"),
        (LEFTY, LEFTY.replace("left_done", "left_now")),
        ("coalesce:\n", INSIDE.format(source="left_now", to="left_done") + "coalesce:\n")),
    bad("AGGREGATION_IN_CORRIDOR", ("within", "lefty", "items"),
        (LEFTY, LEFTY.replace("passthrough", "own_batches:explode").replace("left_done", "parts")),
        ("coalesce:\n", INSIDE.format(source="parts", to="counted") + GATHERED)),
]


@pytest.mark.parametrize(("code", "says", "trigger"), OF_TRIGGERS, ids=[text for *_, text in OF_TRIGGERS])
def test_a_trigger_that_cannot_be_is_one_line_with_its_place(code: str, says: tuple[str, ...], trigger: str) -> None:
    """D2: a count beyond the limit is never reached, a time that is none never passes."""
    check(bad(code, says, *BATCHED, (TRIGGER, f"trigger: {trigger} #!")))


@pytest.mark.parametrize(("condition", "says"), CONDITIONS, ids=[text for text, _ in CONDITIONS])
def test_a_condition_that_answers_no_yes_or_no_is_one_line_with_its_place(condition: str, says: str) -> None:
    """D2: it sees two names, and the allow-list of every expression holds."""
    written = condition.replace('"', '\\"')
    check(bad("EXPRESSION_INVALID", ("aggregations[0].trigger.condition", says), *BATCHED,
              (TRIGGER, f'trigger: {{condition: "{written}"}} #!')))


@pytest.mark.parametrize("case", [*SETTINGS, *PLUGINS, *CORRIDORS], ids=lambda case: f"{case.code}-{case.says[0]}")
def test_what_a_file_says_wrongly_of_an_aggregation_is_one_line_with_its_place(case: Bad) -> None:
    """D2, E3: a code, what was expected, file:line, the next step; exit 3 and nothing made."""
    check(case, MODULES)


@pytest.mark.parametrize("trigger", [
    "{count: 10000}", "{timeout_seconds: 0.001}", "{count: 2, timeout_seconds: 5, condition: batch_count > 1}", "{}",
    "{condition: batch_age_seconds >= 5 or batch_count == 3}", "{condition: not batch_count < 3}",
    "{condition: '10 // (batch_count - 1) > 3'}", "{condition: 'True'}",
])  # fmt: skip
def test_the_neighbouring_good_trigger_is_taken(trigger: str) -> None:
    """A rule that refuses good pipelines would be switched off."""
    text = changed((*BATCHED, (TRIGGER, f"trigger: {trigger}"), (PLUGIN, "plugin: own_batches:totals"), (OPTIONS, "")))
    write({**MODULES, "pipeline.yaml": text, "in.csv": INPUT})
    done("run", "pipeline.yaml")
    assert lines("good.jsonl") == [{"id": 1}]
