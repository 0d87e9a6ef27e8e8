"""Row schemas: declarations, what a source coerces, what a sink lets pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.rows import INT_MAX, INT_MIN, check_row
from engine.schema import Field, RowSchema, shown

TYPES = ("int", "float", "str", "bool", "any")
TEXTS = st.sampled_from(("", "a", "é", "\ud800", "1", "-7", "1.5", "no"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def one(kind: str) -> RowSchema:
    """A schema of one field `x`."""
    return RowSchema.parse("fixed", [f"x: {kind}"])


def coerced(kind: str, value: object) -> object:
    """What becomes of one value, or the fault's text in a list."""
    row, fault = one(kind).coerce({"x": value})
    return row["x"] if fault is None else [fault]


def test_a_declaration_is_read_with_its_types() -> None:
    """Spaces do not matter, a colon may stand in a name, `?` makes a field optional."""
    schema = RowSchema.parse("flexible", ["id: int", "note:str?", " a:b : any "])
    assert schema.fields == (Field("id", "int", False), Field("note", "str", True), Field("a:b", "any", False))
    assert schema == RowSchema.parse("flexible", ["id: int", "note: str?", "a:b: any"])


@pytest.mark.parametrize(
    ("mode", "fields", "text"),
    [
        ("strict", ["id: int"], "expected mode fixed, flexible or observed, found 'strict'"),
        ("fixed", [], "expected at least one field for mode fixed, found none"),
        ("flexible", [], "expected at least one field for mode flexible, found none"),
        ("fixed", ["id: int", "id: str"], "expected each field once, found 'id' twice"),
        ("fixed", ["id"], "expected a field as 'name: type', found 'id'"),
        ("fixed", [": int"], "expected a field as 'name: type', found ': int'"),
        ("fixed", ["id: number"], "expected type int, float, str, bool or any for field 'id', found 'number'"),
        ("fixed", ["id: int??"], "expected type int, float, str, bool or any for field 'id', found 'int??'"),
    ],
)
def test_a_bad_declaration_is_refused_with_what_was_expected(mode: str, fields: Sequence[str], text: str) -> None:
    """D2: one line, naming what was expected and found."""
    with pytest.raises(ValueError, match="expected") as refused:
        RowSchema.parse(mode, fields)
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int", "17", 17),
        ("int", "+17", 17),
        ("int", "-0", 0),
        ("int", "007", 7),
        ("int", str(INT_MAX), INT_MAX),
        ("int", str(INT_MIN), INT_MIN),
        ("int", 5, 5),
        ("float", "1.5", 1.5),
        ("float", "-1e3", -1000.0),
        ("float", ".5", 0.5),
        ("float", "7", 7.0),
        ("float", 7, 7.0),
        ("float", 2.5, 2.5),
        ("str", "", ""),
        ("str", "naïve", "naïve"),
        ("bool", "TRUE", True),
        ("bool", "yes", True),
        ("bool", "1", True),
        ("bool", "No", False),
        ("bool", "false", False),
        ("bool", "0", False),
        ("bool", False, False),
        ("any", [1, {"a": None}], [1, {"a": None}]),
        ("any", None, None),
        ("str?", "", None),
        ("int?", "", None),
        ("int?", None, None),
        ("int?", "3", 3),
    ],
)
def test_a_source_value_becomes_the_declared_type(kind: str, value: object, expected: object) -> None:
    """Text is read as the type says; the type is exact."""
    made = coerced(kind, value)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("int", text) for text in ("", " 1", "1 ", "1_0", "1.0", "1e3", "0x1", "٣", "²", "--1", "+", "1\n")),
        ("int", str(INT_MAX + 1)),
        ("int", str(INT_MIN - 1)),
        ("int", "0" * 21),
        ("int", "9" * 5000),
        ("int", INT_MAX + 1),
        ("int", 10**400),
        ("int", True),
        ("int", 1.0),
        ("int", None),
        *(("float", text) for text in ("", " 1", "1_0.5", "nan", "inf", "-Infinity", "1e999", "٣", "1,5", "1\n")),
        ("float", float("inf")),
        ("float", 10**400),
        ("float", True),
        ("str", 5),
        ("str", None),
        ("str", "\ud800"),
        *(("bool", text) for text in ("", "y", "on", "2", " true")),
        ("bool", 1),
        ("any", float("nan")),
        ("any", "\udfff"),
        ("any", INT_MAX + 1),
        ("any", {1, 2}),
    ],
)
def test_a_source_value_that_is_not_of_the_type_is_a_fault(kind: str, value: object) -> None:
    """The row comes back as it was, with a text that names field, type and value."""
    given_row = {"x": value}
    row, fault = one(kind).coerce(given_row)
    assert row is given_row
    assert fault is not None
    assert fault.startswith("field 'x': expected ")
    assert ", found " in fault
    fault.encode()


def test_a_fault_shows_a_long_or_hostile_value_as_data() -> None:
    """At most 40 characters of it, with its control characters escaped."""
    assert coerced("int", "\x1b[2J" + "x" * 90) == [
        f"field 'x': expected an int of 64 bits, found '\\x1b[2J{'x' * 36}'…"
    ]
    assert shown([1] * 1000) == "a list"
    assert shown(10**5000) == "an int beyond 64 bits"
    assert "\u202e" not in shown("\u202eabc")


def test_fixed_refuses_what_is_missing_and_what_is_more() -> None:
    """The first field that is at fault is named."""
    schema = RowSchema.parse("fixed", ["id: int", "note: str?"])
    assert schema.coerce({"note": "n", "id": "1"}) == ({"id": 1, "note": "n"}, None)
    assert schema.coerce({"id": "1"}) == ({"id": 1, "note": None}, None)
    assert schema.coerce({"note": "x"})[1] == "field 'id': expected an int of 64 bits, found nothing"
    fault = schema.coerce({"id": "1", "more": "x"})[1]
    assert fault == "field 'more': expected only the declared fields, found one more"


def test_flexible_keeps_extra_fields_behind_the_declared_ones() -> None:
    """Extra fields are not coerced, and must still be JSON."""
    schema = RowSchema.parse("flexible", ["id: int", "ok: bool"])
    row, fault = schema.coerce({"z": "9", "ok": "no", "id": "1", "a": [1]})
    assert fault is None
    assert list(row.items()) == [("id", 1), ("ok", False), ("z", "9"), ("a", [1])]
    assert schema.coerce({"id": "1", "ok": "1", "z": float("nan")})[1] is not None


def test_observed_takes_what_comes_and_types_what_is_declared() -> None:
    """Declared fields are coerced where present, and not made where they are not."""
    assert RowSchema.parse("observed", []).coerce({"a": "1"}) == ({"a": "1"}, None)
    assert RowSchema.parse("observed", []).coerce({"a": float("nan")})[1] is not None
    schema = RowSchema.parse("observed", ["n: int", "m: int?"])
    assert schema.coerce({"a": "1", "n": "2"}) == ({"n": 2, "a": "1"}, None)
    assert schema.coerce({"a": "1"}) == ({"a": "1"}, None)
    assert schema.coerce({"n": "x"})[1] is not None


@given(st.sampled_from(("fixed", "flexible", "observed")),
       st.dictionaries(st.sampled_from("abcd"), st.sampled_from(TYPES).flatmap(lambda t: st.sampled_from((t, f"{t}?"))),
                       min_size=1),
       st.dictionaries(st.sampled_from("abcde"), VALUES))
def test_what_a_source_coerced_is_a_row_that_a_sink_of_that_schema_takes(
    mode: str, fields: Mapping[str, str], row: dict[str, object]
) -> None:
    """A coerced row is valid, passes the exact check, and coercing it again changes nothing; the input is untouched."""
    schema = RowSchema.parse(mode, [f"{name}: {kind}" for name, kind in fields.items()])
    before = repr(row)
    made, fault = schema.coerce(row)
    assert repr(row) == before
    if fault is not None:
        assert made is row
        return
    assert check_row(made) is None
    assert schema.check(made) is None
    assert schema.coerce(made) == (made, None)
    declared = [name for name in fields if name in made]
    assert list(made)[: len(declared)] == declared


@given(st.integers(), st.sampled_from((str, lambda n: f"+{n}", lambda n: f"0{n}")))
def test_an_int_is_read_from_text_exactly_when_64_bits_hold_it(number: int, write: Callable[[int], str]) -> None:
    """No rounding, no wrapping."""
    text = write(number)
    fits = INT_MIN <= number <= INT_MAX and len(text) <= 20 and "+-" not in text and "0-" not in text
    assert (coerced("int", text) == number) is fits


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("int", 1, (True, 1.0, "1", None)),
        ("float", 1.0, (1, "1.0", None)),
        ("str", "", (1, None, [])),
        ("bool", True, (1, "true", None)),
        ("int?", None, ("", 1.5)),
        ("any", None, ()),
    ],
)
def test_a_sink_checks_exact_types(kind: str, good: object, bad: Sequence[object]) -> None:
    """Nothing is coerced on the way out."""
    schema = one(kind)
    assert schema.check({"x": good}) is None
    for value in bad:
        assert (schema.check({"x": value}) or "").startswith("field 'x': expected ")


def test_a_sink_checks_what_is_missing_and_what_is_more() -> None:
    """Missing is allowed where the schema says optional, more where it says flexible or observed."""
    fixed = RowSchema.parse("fixed", ["id: int", "note: str?"])
    assert fixed.check({"id": 1}) is None
    assert fixed.check({"note": "x"}) == "field 'id': expected an int of 64 bits, found nothing"
    assert fixed.check({"id": 1, "b": 2}) == "field 'b': expected only the declared fields, found one more"
    assert RowSchema.parse("flexible", ["id: int"]).check({"id": 1, "b": 2}) is None
    assert RowSchema.parse("flexible", ["id: int"]).check({"b": 2}) is not None
    assert RowSchema.parse("observed", ["id: int"]).check({"b": 2}) is None
    assert RowSchema.parse("observed", ["id: int"]).check({"id": "2"}) is not None
