"""JSON sources: lines and arrays, by the book; each kind of bad value as data, resuming after any position."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.schema import RowSchema
from engine.sources import files, json_file
from engine.sources.json_file import JsonSource
from tests.engine.reading import TEXTS, Put, codes, good, read

# --- json lines --------------------------------------------------------------------------------------------------


def lines(put: Put, *texts: bytes) -> JsonSource:
    """A source of these lines."""
    return JsonSource(path=put(b"\n".join(texts), "in.jsonl"))


def test_json_lines_are_rows(put: Put) -> None:
    """Blank lines are none; a BOM and CRLF do no harm; minus zero and big integers keep their value."""
    rows = good(lines(put, b'\xef\xbb\xbf{"a": 1}\r', b"", b'{"b": -0.0, "c":\r9223372036854775807}', b'{"a": 1}', b""))
    assert rows == [{"a": 1}, {"b": 0.0, "c": 2**63 - 1}, {"a": 1}]
    assert json.dumps(rows[1]).startswith('{"b": -0.0')


def test_a_line_of_the_greatest_length_is_a_row(put: Put) -> None:
    """The bound is the last length that is allowed, and the next line is not taken for its rest."""
    text = "x" * (files.RECORD_CHARS_MAX - len('{"a": ""}\n'))
    assert good(lines(put, f'{{"a": "{text}"}}'.encode(), b'{"a": 1}')) == [{"a": text}, {"a": 1}]


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\n"])
def test_an_empty_file_of_json_lines_has_no_rows(put: Put, content: bytes) -> None:
    """Empty is not a fault."""
    assert read(lines(put, content)) == []


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"{", "not_json"),
        (b'{"a": 1} {"a": 2}', "not_json"),
        (b'{"a": 01}', "not_json"),
        (b"{'a': 1}", "not_json"),
        (b'{"a": 1,}', "not_json"),
        (b'{"a": "\x00"}', "not_json"),
        (b'{"a": "\t"}', "not_json"),
        (b"\xc2\xa0", "not_json"),
        (b'{"a": NaN}', "not_json"),
        (b'{"a": [-Infinity]}', "not_json"),
        (b'{"a": 1e999}', "bad_value"),
        (b'{"a": 1, "a": 2}', "bad_value"),
        (b'{"a": {"b": 1, "b": 1}}', "bad_value"),
        (b'{"a": 9223372036854775808}', "bad_value"),
        (b'{"a": ' + b"9" * 5000 + b"}", "bad_value"),
        (b'{"a": ' + b"[" * 32 + b"]" * 32 + b"}", "bad_value"),
        (b'{"a": ' + b"[" * 99999 + b"]" * 99999 + b"}", "bad_value"),
        (b"[" * 99999, "not_json"),
        (b'{"a": "\\ud800"}', "bad_value"),
        (b'{"\\udfff": 1}', "bad_value"),
        (b'{"a": "\xff"}', "encoding"),
        (b"[1, 2]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b'{"a": "' + b"x" * files.RECORD_CHARS_MAX + b'"}', "field_too_long"),
        (b'{"a": NaN', "not_json"),
        (b'{"a": NaN, "b": ' + b"[" * 99999 + b"]" * 99999 + b"}", "bad_value"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_bad_line_is_one_invalid_row_with_its_text(put: Put, bad: bytes, code: str) -> None:
    """Never fatal; the lines before and after are what they were; the text is kept, bounded."""
    rows = read(lines(put, b'{"a": 0}', bad, b'{"a": 9}'))
    assert codes(rows) == [None, code, None]
    assert [row.position for row in rows] == [1, 2, 3]
    assert (rows[0].row, rows[2].row) == ({"a": 0}, {"a": 9})
    kept = rows[1].row["raw"] if isinstance(rows[1].row, dict) else rows[1].row
    assert kept == bad[:4000].decode("utf-8", "backslashreplace")[:4000]


def test_the_same_faults_in_a_schema_row_are_faults_of_the_schema(put: Put) -> None:
    """What can be recorded of the row is; what cannot is shown as text."""
    schema = RowSchema.parse("fixed", ["a: int"])
    path = put(b'{"a": "x"}\n{"a": 9223372036854775808}\n{"a": "7"}\n', "in.jsonl")
    rows = read(JsonSource(path=path, schema=schema))
    assert codes(rows) == ["schema", "schema", None]
    assert [row.row for row in rows] == [{"a": "x"}, '{"a": 9223372036854775808}', {"a": 7}]


def test_fields_get_the_names_that_are_mapped(put: Put) -> None:
    """Before the schema looks; two fields of one name are a fault of that row."""
    path = put(b'{"A": "1", "c": 2}\n{"A": "1", "a": 2}\n', "in.jsonl")
    rows = read(JsonSource(path=path, field_mapping={"A": "a"}))
    assert codes(rows) == [None, "bad_value"]
    assert rows[0].row == {"a": "1", "c": 2}
    schema = RowSchema.parse("flexible", ["a: int"])
    assert read(JsonSource(path=path, field_mapping={"A": "a"}, schema=schema))[0].row == {"a": 1, "c": 2}


@pytest.mark.parametrize("after", range(7))
def test_a_source_of_json_lines_goes_on_after_any_position(put: Put, after: int) -> None:
    """Blank and bad lines and all."""
    long = b"x" * (files.RECORD_CHARS_MAX + 1)
    texts = (b'{"a": 1}', b"", b"{", b'{"a": 1}', b"\xff", b'{"a": NaN}', long, b'{"a": 2}')
    whole = read(lines(put, *texts))
    assert len(whole) == 7
    assert read(lines(put, *texts), after) == whole[after:]


# --- json arrays -------------------------------------------------------------------------------------------------


def array(put: Put, content: bytes, data_key: str | None = None) -> JsonSource:
    """A source of one JSON text."""
    return JsonSource(path=put(content, "in.json"), data_key=data_key)


def test_the_elements_of_an_array_are_rows(put: Put) -> None:
    """At the top, or under a key of the top-level object."""
    assert good(array(put, b' [ {"a": 1} , {"a": [2]}\n] ')) == [{"a": 1}, {"a": [2]}]
    text = b'{"x": [{"rows": 0}], "rows": [{"a": 1}], "y": {"z": null}}'
    assert good(array(put, text, data_key="rows")) == [{"a": 1}]


@pytest.mark.parametrize("content", [b"", b" \n", b"[]", b"[ ]"])
def test_an_empty_array_has_no_rows(put: Put, content: bytes) -> None:
    """Empty is not a fault."""
    assert read(array(put, content)) == []


def test_bad_elements_are_invalid_rows(put: Put) -> None:
    """Each one alone; positions are those of the elements; a resume gives the tail."""
    deep = b"[" * 99999 + b"]" * 99999
    elements = (
        b'{"a": 0}', b'{"a": NaN}', b'{"a": 1, "a": 1}', b"5", b'{"a": "\xff"}', b'{"a": "]\\"", "b": ' + deep + b"}",
        b'{"a": 9223372036854775808}', b'{"a": ' + b"9" * 5000 + b"}", b'{"a": "\\ud800"}', b'{"a": 9}',
    )
    content = b"[" + b", ".join(elements) + b"]"
    rows = read(array(put, content))
    assert codes(rows) == [None, "not_json", "bad_value", "not_an_object", "encoding", *["bad_value"] * 4, None]
    assert rows[1].row == '{"a": NaN}'
    assert rows[4].row == '{"a": "\\xff"}'
    for after in range(len(rows) + 1):
        assert read(array(put, content), after) == rows[after:]


@pytest.mark.parametrize(
    ("content", "key", "rows", "text"),
    [
        (b'[{"a": 1}, {"a": 2}', None, 2, "line 1 column 20"),
        (b'[{"a": 1} {"a": 2}]', None, 1, "line 1 column 11"),
        (b'[{"a": 1},\n{"a" 2}]', None, 1, "line 2 column 6"),
        (b'[{"a": 1},]', None, 1, "line 1 column 11"),
        (b'[{"a": 1}] x', None, 1, "more after the end"),
        (b'[{"a": ' + b"[" * 99999, None, 0, "an end of what is nested"),
        (b'{"a": 1}', None, 0, "no array (a data_key names one inside an object)"),
        (b'[{"a": 1}]', "rows", 0, "no object with the key 'rows'"),
        (b'{"a": 1}', "rows", 0, "no key 'rows'"),
        (b"{}", "rows", 0, "no key 'rows'"),
        (b'{"rows": {}}', "rows", 0, "no array"),
        (b'{"rows": [{"a": 1}], "rows": []}', "rows", 1, "the key 'rows' twice"),
        (b'{"rows": [{"a": 1}]', "rows", 1, "no ',' or '}'"),
        (b'{"rows": [{"a": 1}], 5: 1}', "rows", 1, "no key and ':'"),
        (b'{"rows": [{"a": 1}]} x', "rows", 1, "more after the end"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_broken_array_ends_the_source_where_it_is_broken(
    put: Put, content: bytes, key: str | None, rows: int, text: str
) -> None:
    """The rows before it were read; the error names the place in the text."""
    source = array(put, content, key)
    read_so_far = []
    with pytest.raises(ValueError, match="expected a JSON array") as raised:
        for row in source.rows(None):
            read_so_far.append(row)
    assert len(read_so_far) == rows
    assert text in str(raised.value)


def test_an_array_beyond_the_bound_is_refused(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    """W15: it would have to be held whole; the error says what to use instead."""
    monkeypatch.setattr(json_file, "ARRAY_CHARS_MAX", 10)
    assert good(array(put, b'[{"a": 1}]')) == [{"a": 1}]
    with pytest.raises(OSError, match="or jsonl"):
        read(array(put, b'[{"a": 12}]'))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"path": "in.jsonl", "data_key": "rows"}, "data_key"),
        ({"path": "in.json", "format": "jsonl", "data_key": "rows"}, "data_key"),
        ({"path": "in.json", "field_mapping": {"a": "c", "b": "c"}}, "field_mapping"),
        ({"path": "in.json", "encoding": "nonsense"}, "encoding"),
    ],
)
def test_json_options_that_cannot_work_are_refused(options: dict[str, object], text: str) -> None:
    """D2: before the run, in one line."""
    with pytest.raises(ValueError, match=text):
        JsonSource(**options)  # type: ignore[arg-type]


def test_the_format_follows_the_name_unless_it_is_said(put: Put) -> None:
    """`.jsonl` and `.ndjson` are lines, anything else an array."""
    assert good(JsonSource(path=put(b'{"a": 1}\n', "in.NDJSON"))) == [{"a": 1}]
    assert good(JsonSource(path=put(b'{"a": 1}\n', "in.txt"), format="jsonl")) == [{"a": 1}]
    assert good(JsonSource(path=put(b'[{"a": 1}]', "in.jsonl"), format="json")) == [{"a": 1}]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
ROWS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=4), max_size=4)


@given(ROWS, st.booleans())
def test_a_json_source_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], escaped: bool
) -> None:
    """Lines and arrays give the same rows, values and order of fields."""
    folder = tmp_path_factory.getbasetemp()
    lines_text = "".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows)
    (folder / "any.jsonl").write_text(lines_text, encoding="utf-8")
    (folder / "any.json").write_text(json.dumps(rows, ensure_ascii=escaped, indent=1), encoding="utf-8")
    for name in ("any.jsonl", "any.json"):
        assert json.dumps(good(JsonSource(path=str(folder / name)))) == json.dumps(rows)


@given(st.binary(max_size=40), st.integers(0, 4))
def test_no_bytes_make_a_source_of_json_lines_raise(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, after: int
) -> None:
    """Any bytes are rows, valid or not."""
    path = tmp_path_factory.getbasetemp() / "bytes.jsonl"
    path.write_bytes(content)
    whole = read(JsonSource(path=str(path)))
    assert read(JsonSource(path=str(path)), after) == [row for row in whole if row.position > after]


