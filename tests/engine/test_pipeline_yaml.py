"""The strict reader of YAML: plain data with its lines, and one typed error for each way to be something else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.pipeline_yaml import BYTES_MAX, DEPTH_MAX, NODES_MAX, load, read
from ledger.errors import CounterfoilError, SettingsInvalid, UsageError

PIPELINE = """\
# a pipeline
name: planes
source:
  plugin: csv
  options: {path: in.csv, schema: {mode: observed}}
gates:
  - name: late
    condition: row['delay'] > 15
    routes:
      true: fork
      false: done
    fork_to:
      - no
      - yes
limits: {open_groups: 7}
"""


def test_a_pipeline_is_read_with_the_line_of_every_key_and_item() -> None:
    """Lines count from 1; an entry's line is its key's."""
    data, lines = load(PIPELINE, "p.yaml")
    assert data == {
        "name": "planes",
        "source": {"plugin": "csv", "options": {"path": "in.csv", "schema": {"mode": "observed"}}},
        "gates": [
            {
                "name": "late",
                "condition": "row['delay'] > 15",
                "routes": {"true": "fork", "false": "done"},
                "fork_to": ["no", "yes"],
            }
        ],
        "limits": {"open_groups": 7},
    }
    assert lines == {
        (): 2,
        ("name",): 2,
        ("source",): 3,
        ("source", "plugin"): 4,
        ("source", "options"): 5,
        ("source", "options", "path"): 5,
        ("source", "options", "schema"): 5,
        ("source", "options", "schema", "mode"): 5,
        ("gates",): 6,
        ("gates", 0): 7,
        ("gates", 0, "name"): 7,
        ("gates", 0, "condition"): 8,
        ("gates", 0, "routes"): 9,
        ("gates", 0, "routes", "true"): 10,
        ("gates", 0, "routes", "false"): 11,
        ("gates", 0, "fork_to"): 12,
        ("gates", 0, "fork_to", 0): 13,
        ("gates", 0, "fork_to", 1): 14,
        ("limits",): 15,
        ("limits", "open_groups"): 15,
    }


STRINGS = (
    "no", "No", "NO", "yes", "Yes", "on", "On", "off", "y", "n", "TRUE", "FALSE", "Null", "NULL", "1:30", "190:20:30",
    "0x10", "0o7", "0b1", "007", "-01", "1_000", "1,000", "1e", "1.e+", "..5", "1.2.3", "0x1p3", "nan", "inf", "NaN",
    "-inf", "2026-01-31", "2026-01-31T10:00:00Z", "٣", "５", "=", "<<",
)  # fmt: skip


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *((text, True) for text in ("true", "True", "!!bool true")),
        *((text, False) for text in ("false", "False")),
        *((text, None) for text in ("null", "~", "", "!!null null")),
        *((text, int(text)) for text in ("0", "7", "-7", "+7", "9223372036854775807", "-9223372036854775808")),
        *((text, float(text)) for text in ("0.5", "-0.5", ".5", "1.", "1e3", "1.5E-3", "+0.0", "9" * 18 + ".0")),
        ("!!int 5", 5),
        ("!!float 5", 5.0),
        ("!!str 5", "5"),
        ("!!str", ""),
        ("'5'", "5"),
        ('"true"', "true"),
        ("''", ""),
        ("|\n  5\n", "5\n"),
        *((text, text) for text in STRINGS),
    ],
)
def test_a_scalar_is_what_it_plainly_is_or_text_as_written(written: str, value: object) -> None:
    """`no` as a branch, `1:30` as a time, leading zeros, dates: nothing changes its kind unasked."""
    data = load(f"key: {written}", "p.yaml").data
    assert isinstance(data, dict)
    assert (data["key"], type(data["key"])) == (value, type(value))


@pytest.mark.parametrize("key", ["no", "yes", "true", "True", "1", "1.5", "null", "~", "2026-01-31", "<<", "=", "1:30"])
def test_a_key_stays_the_text_as_written(key: str) -> None:
    """A gate's labels `true` and `1` are names."""
    assert load(f"{key}: a", "p.yaml") == ({key: "a"}, {(): 1, (key,): 1})
    with pytest.raises(SettingsInvalid, match="YAML_DUPLICATE_KEY"):
        load(f"{key}: a\n'{key}': b", "p.yaml")


BOMB = "a: &a [x, x]\n" + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in ("ab", "bc", "cd", "de", "ef"))

REFUSED = [
    ("a: 1\nb: 2\na: 3", "YAML_DUPLICATE_KEY", 3, "found 'a' again (first on line 1)"),
    ("a:\n  b: 1\n  'b': 2", "YAML_DUPLICATE_KEY", 3, "'b'"),
    ("- {a: 1,\n   a: 2}", "YAML_DUPLICATE_KEY", 2, "'a'"),
    (BOMB, "YAML_ALIAS", 1, "'&a'"),
    ("a: 1\nb: *a", "YAML_ALIAS", 2, "'*a'"),
    ("a: &unused 1", "YAML_ALIAS", 1, "'&unused'"),
    ("a: &m {b: 1}\nc:\n  <<: *m", "YAML_ALIAS", 1, "'&m'"),
    ("&k a: 1", "YAML_ALIAS", 1, "'&k'"),
    ("? *k\n: 1", "YAML_ALIAS", 1, "'*k'"),
    ("a: !!python/object/apply:os.system [x]", "YAML_TAG", 1, "!!python/object/apply:os.system"),
    ("a: !!python/name:os.system", "YAML_TAG", 1, "!!python/name:os.system"),
    ("a: !<tag:yaml.org,2002:python/none> x", "YAML_TAG", 1, "!!python/none"),
    ("!!python/tuple a: 1", "YAML_TAG", 1, "!!python/tuple"),
    ("a: !!binary aGk=", "YAML_TAG", 1, "!!binary"),
    ("a: !!timestamp 2026-01-31", "YAML_TAG", 1, "!!timestamp"),
    ("a: !!set {b, c}", "YAML_TAG", 1, "!!set"),
    ("a: !!omap [b: 1]", "YAML_TAG", 1, "!!omap"),
    ("\na: !include x", "YAML_TAG", 2, "!include"),
    ("a: ! x", "YAML_TAG", 1, "'!'"),
    ("%TAG ! tag:example.org,2000:\n---\na: !x y", "YAML_TAG", 3, "tag:example.org,2000:x"),
    ("a: !!str [b]", "YAML_TAG", 1, "!!str"),
    ("a: !!seq {b: c}", "YAML_TAG", 1, "!!seq"),
    ("a: !!int x", "YAML_TAG", 1, "expected a value of !!int, found 'x'"),
    ("a: !!bool yes", "YAML_TAG", 1, "!!bool"),
    ("a: 1\n---\nb: 2", "YAML_DOCUMENTS", 2, "a second"),
    ("a: 1\n...\n---\n", "YAML_DOCUMENTS", 3, "a second"),
    ("[" * 100_000, "YAML_TOO_DEEP", 1, "40"),
    ("{a: " * 100_000, "YAML_TOO_DEEP", 1, "40"),
    ("- " * 100_000 + "x", "YAML_TOO_DEEP", 1, "40"),
    ("".join(" " * depth + "a:\n" for depth in range(100)), "YAML_TOO_DEEP", 41, "40"),
    ("\n- a" * (NODES_MAX + 1), "YAML_TOO_LONG", NODES_MAX + 1, str(NODES_MAX)),
    ("a: .nan", "YAML_NUMBER", 1, "'.nan'"),
    ("a: .NaN", "YAML_NUMBER", 1, "'.NaN'"),
    ("\na: [1,\n -.inf]", "YAML_NUMBER", 3, "'-.inf'"),
    ("a: .Inf", "YAML_NUMBER", 1, "finite"),
    ("a: 1e999", "YAML_NUMBER", 1, "finite"),
    ("a: 9223372036854775808", "YAML_NUMBER", 1, "64 bits"),
    ("a: -9223372036854775809", "YAML_NUMBER", 1, "64 bits"),
    (f"a: {'9' * 5000}", "YAML_NUMBER", 1, "64 bits"),
    ("a: !!float .inf", "YAML_NUMBER", 1, "finite"),
    ("", "YAML_INVALID", 1, "an empty file"),
    ("\n# nothing\n", "YAML_INVALID", 1, "an empty file"),
    ("a: b: c", "YAML_INVALID", 1, "mapping values are not allowed here"),
    ("a: 'b\n\nc: d", "YAML_INVALID", 3, "unexpected end of stream"),
    ("a:\n\t- b", "YAML_INVALID", 2, "'\\t'"),
    ("a: [1, 2", "YAML_INVALID", 1, "column 9"),
    ("a: @b", "YAML_INVALID", 1, "'@'"),
    ("a: 1\n b: 2", "YAML_INVALID", 2, "mapping values"),
    ("- a\nb: 1", "YAML_INVALID", 2, "block end"),
    ("? [a]\n: b", "YAML_INVALID", 1, "a list or a mapping"),
    ("{a: 1}: b", "YAML_INVALID", 1, "a list or a mapping"),
    ("? \n: b", "YAML_INVALID", 1, "found nothing"),
    ('a: "\\U00110000"', "YAML_INVALID", 1, "beyond its range"),
    ('a: "\\UFFFFFFFF"', "YAML_INVALID", 1, "beyond its range"),
    (f"%YAML 1.{'9' * 5000}\n---\na: 1", "YAML_INVALID", 1, "beyond its range"),
    ("%YAML 2.0\n---\na: 1", "YAML_INVALID", 1, "incompatible"),
    ('a: "\\uD800"', "YAML_ENCODING", 1, "U+D800"),
    ('a: "\\uDE00\\uD83D"', "YAML_ENCODING", 1, "U+DE00"),
    ('"\\uDC00": a', "YAML_ENCODING", 1, "U+DC00"),
    ('a: "\\0"', "YAML_ENCODING", 1, "U+0000"),
    ("a: 1\nb: \0", "YAML_ENCODING", 2, "U+0000"),
    ("a: 1\r\nb: \x1b[31m", "YAML_ENCODING", 2, "U+001B"),
    ("a: \ud800", "YAML_ENCODING", 1, "U+D800"),
]


@pytest.mark.parametrize(("text", "code", "line", "said"), REFUSED)
def test_what_is_not_plain_yaml_is_one_error_with_its_line(text: str, code: str, line: int, said: str) -> None:
    """A code, what was expected and found, the file and line, what to do; one line of text."""
    with pytest.raises(SettingsInvalid) as refused:
        load(text, "dir/p.yaml")
    error = refused.value
    assert (error.code, error.where) == (code, f"dir/p.yaml:{line}")
    assert error.what.startswith("expected ")
    assert said in error.what
    assert error.next_step
    assert str(error).isprintable()
    assert len(str(error)) < 300


def test_sizes_at_their_bounds_are_read() -> None:
    """One less than what is refused."""
    assert load("[" * DEPTH_MAX + "]" * DEPTH_MAX, "p").data is not None
    assert len(load("\n- a" * (NODES_MAX - 1), "p").lines) == NODES_MAX
    assert load("a: " + "é" * ((BYTES_MAX - 4) // 2), "p").data is not None
    with pytest.raises(SettingsInvalid, match="YAML_TOO_LONG"):
        load("a: " + "é" * ((BYTES_MAX - 2) // 2), "p")
    with pytest.raises(SettingsInvalid, match="YAML_TOO_LONG"):
        load("\n" * (BYTES_MAX + 1), "p")


@pytest.mark.parametrize("text", ["\ufeffa: 1\nb: x\n", "a: 1\r\nb: x\r\n", "\ufeff---\r\na: 1\r\nb: x\r\n...\r\n"])
def test_a_byte_order_mark_and_any_line_end_are_accepted(text: str, tmp_path: Path) -> None:
    """Files from other systems say the same."""
    file = tmp_path / "p.yaml"
    file.write_bytes(text.encode())
    data, lines = load(read(str(file)), "p.yaml")
    assert data == {"a": 1, "b": "x"}
    assert lines[("b",)] == lines[("a",)] + 1


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a: 1\nb: caf\xe9\n", 2),
        ("a: 1\n".encode("utf-16"), 1),
        (b"a: 1\n\n\xed\xa0\x80", 3),
        (b"\x1f\x8b\x08", 1),
    ],
)
def test_bytes_that_are_not_utf_8_are_refused_with_their_line(content: bytes, line: int, tmp_path: Path) -> None:
    """Latin-1, UTF-16, a surrogate in bytes, a compressed file."""
    file = tmp_path / "p.yaml"
    file.write_bytes(content)
    with pytest.raises(SettingsInvalid) as refused:
        read(str(file))
    assert (refused.value.code, refused.value.where) == ("YAML_ENCODING", f"{file}:{line}")


def test_a_file_that_is_not_there_a_directory_and_a_closed_one_are_told_apart(tmp_path: Path) -> None:
    """The first two are the command's mistake, the others the file's."""
    file = tmp_path / "p.yaml"
    file.write_text("a: 1")
    for path in (str(tmp_path / "none.yaml"), "", f"{file}/x", "a\0b"):
        with pytest.raises(UsageError, match="FILE_MISSING"):
            read(path)
    with pytest.raises(UsageError, match="FILE_IS_DIRECTORY"):
        read(str(tmp_path))
    with pytest.raises(SettingsInvalid, match="FILE_UNREADABLE"):
        read(str(tmp_path / ("n" * 300)))
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(SettingsInvalid, match="FILE_UNREADABLE"):
        read(str(loop))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    """Said with the system's own words."""
    file = tmp_path / "p.yaml"
    file.write_text("a: 1")
    file.chmod(0)
    with pytest.raises(SettingsInvalid, match=r"FILE_UNREADABLE.*Permission denied"):
        read(str(file))


def test_a_long_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    """One byte beyond the bound is enough; an endless file ends too."""
    file = tmp_path / "p.yaml"
    file.write_bytes(b"#" * BYTES_MAX)
    assert len(read(str(file))) == BYTES_MAX
    for path in (file, Path("/dev/zero")):
        if path == file:
            file.write_bytes(b"#" * (BYTES_MAX + 1))
        with pytest.raises(SettingsInvalid, match="YAML_TOO_LONG"):
            read(str(path))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(value=VALUES, indent=st.sampled_from([None, 0, 2]))
def test_json_is_read_as_json(value: object, indent: int | None) -> None:
    """JSON is YAML: the same values and types come back, with a line for each of them."""
    data, lines = load(json.dumps(value, indent=indent), "p.yaml")
    assert json.dumps(data) == json.dumps(value)
    assert set(lines) == {(), *_paths(value)}
    assert indent is not None or set(lines.values()) == {1}


def _paths(value: object, above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: list[tuple[str | int, ...]] = []
    for key, inner in entries:
        found += [(*above, key), *_paths(inner, (*above, key))]
    return found


PIECES = st.sampled_from(
    ["a", "1", ":", ": ", "- ", "\n", "\n  ", "{", "}", "[", "]", ", ", "? ", "'", '"', "\\", "|", ">", "#", " #",
     "&a ", "*a", "!", "!!str ", "%", "---\n", "...\n", "@", "`", "\t", "\r", "\ufeff", "\u2028", "\x85", "é", "\ud800",
     "\0", "<<", "=", "~", "0x", ".", "e9", '"\\x', '"\\u', "\\U"]
)  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(text=st.text(max_size=40) | st.lists(PIECES, max_size=25).map("".join))
@example(text="\ufeff\ufeff")
@example(text='"\\U')
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    """No other exception, whatever is written."""
    try:
        data, lines = load(text, "p.yaml")
    except CounterfoilError as error:
        assert error.code.startswith("YAML_")
        assert error.where.startswith("p.yaml:")
        assert str(error).isprintable()
        return
    assert set(lines) == {(), *_paths(data)}
