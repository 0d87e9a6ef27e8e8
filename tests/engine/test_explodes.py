"""The explodes, called directly: which rows one row becomes, and which rows are at fault; and once each in a real run."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.plugin_api import RowError
from engine.plugins import Catalog, OptionsInvalid, bind
from engine.rows import Row, check_row, freeze
from engine.transforms.json_explode import JsonExplode
from engine.transforms.line_explode import LineExplode
from ledger import events as e
from tests.kit.pipelines import Ran, tried

Explode = Callable[[Row], list[dict[str, object]]]

NAMES = st.sampled_from(["list", "item", "item_index", "line", "line_index", "a", ""])
TEXTS = st.text(st.sampled_from("ab\r\n\v\f\x1c\x85\u2028\u2029é"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
ROWS = st.dictionaries(NAMES, st.one_of(VALUES, st.lists(VALUES, max_size=4), TEXTS), max_size=5)

LINE_CHARS = "a\n\r\u2028"
PIPELINE = """\
source: {{plugin: "null", on_success: rows}}
transforms:
  - {{name: parts, plugin: {plugin}, input: rows, on_success: children, on_error: errors, options: {options}}}
coalesce:
  - {{name: all, gathers: parts, input: children, policy: require_all, merge: list, on_success: out}}
sinks:
  out: {{plugin: json, options: {{path: out.jsonl}}}}
  errors: {{plugin: json, options: {{path: errors.jsonl}}}}
"""


def json_explode(**options: Any) -> Explode:
    """The plugin, its rows taken at once."""
    plugin = JsonExplode(**options)
    return lambda row: list(plugin(row))


def line_explode(**options: Any) -> Explode:
    """The plugin, its rows taken at once."""
    plugin = LineExplode(**options)
    return lambda row: list(plugin(row))


def fault_of(explode: Explode, row: Mapping[str, object]) -> tuple[str, str]:
    """The code and the text of the row error."""
    with pytest.raises(RowError) as raised:
        explode(freeze(row))
    return raised.value.code, str(raised.value)


def refusal(make: Callable[..., object], **options: object) -> str:
    """What a plugin says of options that cannot work."""
    with pytest.raises(ValueError, match=r"expected .*, found") as refused:
        make(**options)
    return str(refused.value)


def model(row: Mapping[str, object], field: str, elements: list[Any] | None, output: str, index: str | None) -> Any:
    """What must come of a row, from the contract alone: rows, or a code; `elements` is None for a field of another kind."""
    if field not in row:
        return "field_missing"
    if elements is None:
        return "wrong_kind"
    new = {output} if index is None else {output, index}
    if new & (row.keys() - {field}):
        return "field_collision"
    children = []
    for place, element in enumerate(elements):
        child = dict(row)
        del child[field]
        child[output] = element
        if index is not None:
            child[index] = place
        children.append(child)
    return children


def outcome(explode: Explode, row: Mapping[str, object]) -> Any:
    """What came of a row, in the model's words; the row is as it was."""
    frozen, before = freeze(row), repr(row)
    try:
        children = explode(frozen)
    except RowError as error:
        return "wrong_kind" if error.code in ("not_list", "not_text") else error.code
    assert repr(dict(frozen)) == repr(dict(freeze(row))) and repr(row) == before
    assert all(check_row(child) is None for child in children)
    return children


@given(ROWS, NAMES, NAMES, st.booleans())
def test_each_element_of_a_list_becomes_a_row(row: dict[str, Any], field: str, output: str, index: bool) -> None:
    """C1: the other fields, the element, its place: for any row and any names, or a row error and nothing lost."""
    if index and output == "item_index":
        return
    elements = row.get(field) if isinstance(row.get(field), list) else None
    explode = json_explode(array_field=field, output_field=output, include_index=index)
    assert outcome(explode, row) == model(row, field, elements, output, "item_index" if index else None)


@given(ROWS, NAMES, NAMES, st.one_of(st.none(), NAMES))
def test_each_line_of_a_text_becomes_a_row(row: dict[str, Any], field: str, output: str, index: str | None) -> None:
    """C1: the other fields, the line, its place: for any row and any names, or a row error and nothing lost."""
    if index == output:
        return
    text = row.get(field)
    lines = [line.rstrip("\n") for line in io.StringIO(text, newline=None)] if isinstance(text, str) else None
    explode = line_explode(source_field=field, output_field=output, include_index=index is not None,
                          index_field="line_index" if index is None else index)
    assert outcome(explode, row) == model(row, field, lines, output, index)


def test_texts_are_split_where_files_of_lines_are_and_nowhere_else() -> None:
    """Every text of up to six characters: as Python reads lines of a file with universal newlines, a separator stays."""
    explode = line_explode(source_field="t", include_index=False)
    for length in range(7):
        for characters in product(LINE_CHARS, repeat=length):
            text = "".join(characters)
            lines = [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]
            assert explode({"t": text}) == [{"line": line} for line in lines], repr(text)


@pytest.mark.parametrize("separator", ["\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_other_separators_are_part_of_a_line(separator: str) -> None:
    """Only \\n, \\r\\n and \\r end a line."""
    text = f"a{separator}b"
    assert line_explode(source_field="t")({"t": f"{text}\r\n{separator}"}) == [
        {"line": text, "line_index": 0}, {"line": separator, "line_index": 1}
    ]  # fmt: skip


def test_nothing_to_explode_makes_no_row() -> None:
    """C1: any number of rows may be none."""
    assert json_explode(array_field="list")({"id": 1, "list": []}) == []
    assert line_explode(source_field="text")({"id": 1, "text": ""}) == []


@pytest.mark.parametrize(("value", "found"), [
    (None, "null"), (True, "True"), (1, "1"), (1.5, "1.5"), ("[1, 2]", "'[1, 2]'"), ({"0": 1}, "an object"),
])  # fmt: skip
def test_what_is_no_list_is_a_row_error(value: object, found: str) -> None:
    """A text that looks like a list and an object are none."""
    expected = ("not_list", f"expected a list in field 'list', found {found}")
    assert fault_of(json_explode(array_field="list"), {"list": value}) == expected
    assert fault_of(json_explode(array_field="list"), {"id": 1}) == ("field_missing", "expected field 'list', found none")


@pytest.mark.parametrize(("value", "found"), [
    (None, "null"), (False, "False"), (0, "0"), (1.5, "1.5"), (["a"], "a list"), ({}, "an object"),
])  # fmt: skip
def test_what_is_no_text_is_a_row_error(value: object, found: str) -> None:
    """A list of texts is none."""
    expected = ("not_text", f"expected a text in field 'text', found {found}")
    assert fault_of(line_explode(source_field="text"), {"text": value}) == expected
    assert fault_of(line_explode(source_field="text"), {"id": 1}) == ("field_missing", "expected field 'text', found none")


@pytest.mark.parametrize("elements", [[], [1], [1, 2]])
def test_a_new_field_never_takes_anothers_place(elements: list[int]) -> None:
    """G12: whatever the list holds, a row with another field of a new one's name is at fault, even with the same value."""
    collision = "expected no other field {!r}, found one"
    lists, row = json_explode(array_field="list"), {"list": elements}
    lines, text = line_explode(source_field="text"), {"text": "a\n" * len(elements)}
    for name in ("item", "item_index"):
        assert fault_of(lists, {name: 0, **row}) == ("field_collision", collision.format(name))
    for name in ("line", "line_index"):
        assert fault_of(lines, {**text, name: "a"}) == ("field_collision", collision.format(name))
    assert json_explode(array_field="list", include_index=False)({"item_index": 7, **row}) == [
        {"item_index": 7, "item": element} for element in elements
    ]


def test_a_new_field_may_have_the_name_of_the_one_that_is_exploded() -> None:
    """It is gone by then."""
    assert json_explode(array_field="item")({"item": ["a"], "n": 1}) == [{"n": 1, "item": "a", "item_index": 0}]
    assert json_explode(array_field="item_index")({"item_index": ["a"]}) == [{"item": "a", "item_index": 0}]
    assert line_explode(source_field="line")({"line": "a"}) == [{"line": "a", "line_index": 0}]
    assert line_explode(source_field="t", index_field="t")({"t": "a"}) == [{"line": "a", "t": 0}]


def test_options_that_cannot_work_are_refused_at_once() -> None:
    """D2: two new fields of one name; without an index there is only one."""
    assert refusal(JsonExplode, array_field="list", output_field="item_index") == (
        "expected an output_field other than 'item_index' with include_index, found the same")
    assert refusal(LineExplode, source_field="text", output_field="x", index_field="x") == (
        "expected an output_field other than index_field with include_index, found 'x' for both")
    assert refusal(LineExplode, source_field="text", output_field="line_index")
    assert json_explode(array_field="list", output_field="item_index", include_index=False)({"list": [5]}) == [
        {"item_index": 5}
    ]
    assert line_explode(source_field="t", output_field="x", index_field="x", include_index=False)({"t": "a"}) == [{"x": "a"}]


@pytest.mark.parametrize(("name", "options", "row", "children"), [
    ("json_explode", {"array_field": "l", "output_field": "o", "include_index": False}, {"l": [1]}, [{"o": 1}]),
    ("json_explode", {"array_field": "l"}, {"l": [1]}, [{"item": 1, "item_index": 0}]),
    ("line_explode", {"source_field": "t", "output_field": "o", "include_index": True, "index_field": "i"}, {"t": "a"},
     [{"o": "a", "i": 0}]),
    ("line_explode", {"source_field": "t"}, {"t": "a"}, [{"line": "a", "line_index": 0}]),
])  # fmt: skip
def test_the_options_are_those_of_the_contract(
    name: str, options: dict[str, object], row: dict[str, object], children: list[dict[str, object]]
) -> None:
    """C1: found by name, they declare that they expand; an unknown, a missing and an impossible option are refused."""
    plugin = Catalog().find("transform", name)
    assert (plugin.expands, plugin.effect) == (True, False)
    assert list(bind(plugin, options)(freeze(row))) == children
    for wrong in ({}, {**options, "index": True}, {**options, "include_index": "perhaps"},
                  {**options, "include_index": True, "index_field": "x", "output_field": "x"},
                  {**options, "include_index": True, "output_field": "item_index"} if name == "json_explode" else {}):
        with pytest.raises(OptionsInvalid):
            bind(plugin, wrong)


def ran(plugin: str, options: str, *rows: dict[str, object]) -> Ran:
    """A run of the rows through the plugin, whose children are gathered again; replayed and verified."""
    return tried(PIPELINE.format(plugin=plugin, options=options), rows)


@pytest.mark.parametrize(("plugin", "options", "field", "values"), [
    ("json_explode", "{array_field: x, output_field: part}", "x", (["a", "", "a"], [], [None], "abc")),
    ("line_explode", "{source_field: x, output_field: part, index_field: item_index}", "x", ("a\n\r\na", "", "\n", ["a"])),
])  # fmt: skip
def test_a_run_makes_as_many_tokens_as_there_are_parts(
    plugin: str, options: str, field: str, values: tuple[object, ...]
) -> None:
    """C1: three, none, one, and a row error that leaves by `on_error`; each complete group makes the next token once."""
    made = ran(plugin, options, *({"id": number, field: value} for number, value in enumerate(values)))
    assert [expanded.count for expanded in made.of(e.TokenExpanded)] == [3, 0, 1]
    assert made.rows("errors") == [{"id": 3, field: values[3]}]
    gathered = {row["id"]: row["items"] for row in made.rows("out")}
    assert {id_: len(items) for id_, items in gathered.items()} == {0: 3, 1: 0, 2: 1}
    assert gathered[0] == [{"id": 0, "part": part, "item_index": place} for place, part in enumerate(["a", "", "a"])]


def test_the_examples_on_the_page_are_true() -> None:
    """C1, G11: what the page of the pipeline file shows of the plugins that expand or take a batch is what they make."""
    page = Path(__file__).parents[2].joinpath("docs", "pipeline-file.md").read_text(encoding="utf-8")
    shown = [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
             for line in page.splitlines() if re.match(r"\| `\w+` \| `\{", line)]
    assert [name for name, *_ in shown] == ["json_explode", "line_explode", "batch_stats", "batch_replicate"]
    for name, *texts in shown:
        options, given, made = map(json.loads, texts)
        rows = [freeze(row) for row in given]
        if name.startswith("batch"):
            found = [one.row for one in bind(Catalog().find("aggregation", name), options)(rows).rows]
        else:
            found = list(bind(Catalog().find("transform", name), options)(*rows))
        assert found == made, name
