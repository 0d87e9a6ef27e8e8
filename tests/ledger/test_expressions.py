"""Expressions: what is allowed means what Python means, everything else is refused before a row is read."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.rows import INT_MAX, INT_MIN, FrozenRow, freeze
from ledger.expressions import (
    DEPTH_MAX,
    NODES_MAX,
    RESULT_LIST_MAX,
    RESULT_TEXT_MAX,
    TEXT_MAX,
    ExpressionInvalid,
    compile_expression,
)

ROW = freeze({"n": 6, "x": 1.5, "s": "abc", "t": True, "none": None, "list": [1, [2, 3]], "in": {"a": {"b": 7}}})

ALLOWED: list[tuple[str, object]] = [
    ("row['n'] > 5", True),
    ("  row['n'] > 5\n", True),
    ("1 < row['x'] < 2 < row['n']", True),
    ("row['s'] == 'abc' and not row['t'] is False", True),
    ("row['none'] is None or row['absent']", True),
    ("row['t'] is not True", False),
    ("row['in']['a']['b'] + 1", 8),
    ("row['list'][1][-1]", 3),
    ("row.get('absent')", None),
    ("row.get('absent', row['n'] * 2)", 12),
    ("row['in'].get('a', 0)", {"b": 7}),
    ("row['in']['a'].get('c', 'd')", "d"),
    ("len(row.get('absent', []))", 0),
    ("row['s'] in ('abc', 'd')", True),
    ("row['s'] not in ['d']", True),
    ("row['n'] in {-6, 6}", True),
    ("'n' in row and 'm' not in row", True),
    ("len(row) + len(row['s'])", 10),
    ("abs(-row['n']) - +row['n']", 0),
    ("row['n'] // 4 + row['n'] % 4", 3),
    ("7 / 2 * 2.0", 7.0),
    ("'yes' if row['t'] else 'no'", "yes"),
    ("row['s'] + '-' + row['s']", "abc-abc"),
    ("row['list'] + [4]", [1, [2, 3], 4]),
    ("-9223372036854775808 + 9223372036854775807", -1),
    ("(row['n'] > 5\n and row['t'])", True),
    ("'straße' == 'stra\\u00dfe'  # said why", True),
    ("None", None),
]


@pytest.mark.parametrize(("text", "answer"), ALLOWED)
def test_what_is_allowed_answers_as_in_python(text: str, answer: object) -> None:
    """Each kind of node that the allow-list names."""
    found = compile_expression(text)(ROW)
    assert found == answer
    assert type(found) is type(answer) or isinstance(found, dict)


def test_an_aggregation_s_condition_sees_its_names_in_their_order() -> None:
    """The names are positional; the row is not among them."""
    ready = compile_expression("batch_count >= 10 or batch_age_seconds > 1.5", ("batch_count", "batch_age_seconds"))
    assert [ready(10, 0.0), ready(9, 2.0), ready(9, 1.5)] == [True, True, False]
    with pytest.raises(ExpressionInvalid, match="expected batch_count or a literal, found the name 'row', at column 1"):
        compile_expression("row['x']", ("batch_count",))


ESCAPES = [
    "().__class__", "().__class__.__bases__[0].__subclasses__()", "row.__class__", "row['s'].__class__",
    "row.get.__self__", "row.items()", "row.pop('n')", "row['s'].upper()", "row['s'].format(row)",
    "'{0.__class__}'.format(row)", "''.join(row)", "row.get('a').get('b')", "row.get('a')['b']", "row.get",
    "row.get('a', 'b', 'c')", "row.get(key='a')", "row.get('a', default=().__class__)",
    "len('a', x=row.__class__)", "row.budget('a')", "row.forget", "xrow['a']", "row.get.get('a')",
    "row.get(*row['list'])", "row.get(row['s'])", "row.get()", "row[row['s']]", "row[True]", "row[None]",
    "row[1.5]", "row['list'][0:2]", "row['list'][...]", "row", "row == row", "row and True",
    "row if row else row", "[row]", "'abc'[0]", "('a', 'b')['a']", "getattr(row, 'x')", "__import__('os')",
    "__import__('os').system('true')", "eval('1')", "exec('1')", "open('x')", "globals()", "vars()",
    "type(row)", "str(1)", "int('1')", "range(9)", "print", "len", "len()", "len(row, row)", "len(*row)",
    "len(obj=row)", "abs(x=1)", "abs(row)", "(len)(row)(1)", "(lambda: 1)()", "lambda: 1", "[x for x in row]",
    "{x for x in row}", "{x: 1 for x in row}", "(x for x in row)", "[*row]", "(x := 1)", "[y := 1]",
    "f'{row}'", "f''", "f'{f\"{row}\"}'", "'%s' % row['s']", "'%999999999d' % 1", "'a' * 1000000000",
    "1000000000 * 'a'", "[0] * 1000000000", "(0,) * 1000000000", "-'a'", "+[1]", "~1", "2 ** 9",
    "2 ** 9 ** 9 ** 9", "1 << 99", "1 >> 1", "1 | 2", "1 & 2", "1 ^ 2", "row @ row", "b'x'", "1j", "...", "{}",
    "{'a': 1}", "{1, 2}", "1 in {}", "1 in {row['n']}", "1 in [row['n']]", "row['n'],", "9223372036854775808",
    "-9223372036854775809", "9" * 1999, "1e999", "-1e999", "'\\ud800'", "row['\\udfff']", "1 is 1",
    "row['n'] is 5", "row['s'] is row['s']", "None is 'a'", "(1, 2) is None", "await row", "yield",
    "(yield 1)", "a", "_", "__debug__", "__builtins__", "__name__", "batch_count", " +", "x = 1",
    "row['n'] = 1", "del row", "import os", "1; 2", "1\n2", "*row", "1 +", "(", ")", "'", "'''", "'\\d'",
    "1if 1else 2", "", " \n\t", "# nothing", "\\", "`row`", "row['n'] <> 1", "\0", "'\0'", "\ud800",
    "'\ud800'", "ｒｏｗ['n']", "𝓻𝓸𝔀['n']", "ｌｅｎ('a')", "row.ｇｅｔ('n')", "row.ℊet('n')", "r\u043ew['n']",
    "row［'n'］", "row['n'] ≥ 1", "\ufeffrow['n']", "row\u200b['n']",
]  # fmt: skip


@pytest.mark.parametrize("text", ESCAPES)
def test_everything_else_is_refused_at_build(text: str) -> None:
    """The usual escapes, and each node that the allow-list does not name."""
    with pytest.raises(ExpressionInvalid) as refused:
        compile_expression(text)
    assert refused.value.text == text
    assert 0 <= refused.value.offset <= len(text)
    assert str(refused.value).startswith("expected ")
    assert str(refused.value).endswith(f", at column {refused.value.offset + 1}")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "offset", "said"),
    [
        ("row['n'] > foo", 11, "expected row or a literal, found the name 'foo'"),
        ("\n  'ü' == foo", 10, "expected row or a literal, found the name 'foo'"),
        ("(1 ==\r\n foo)", 8, "expected row or a literal, found the name 'foo'"),
        ("1 + 2 ** 3", 4, r"expected one of \+ - \* / // %, found the operator \*\*"),
        ("1 + '%s' % 2", 4, "expected numbers around %, found text"),
        ("row['a'] > 1 row", 13, "expected one Python expression, found invalid syntax"),
        ("1 < row.name", 4, "found an attribute"),
        ("1 < exec('x')", 4, r"expected len\(\), abs\(\) or row.get\(\), found a call of 'exec'"),
    ],
)
def test_a_refusal_says_what_and_where(text: str, offset: int, said: str) -> None:
    """A column from 1 for people, an offset from 0 for programs, in characters and not in bytes."""
    with pytest.raises(ExpressionInvalid, match=said) as refused:
        compile_expression(text)
    assert refused.value.offset == offset


@pytest.mark.parametrize(
    ("fits", "breaks"),
    [
        ("1" + " " * (TEXT_MAX - 2) + "#", "1" + " " * (TEXT_MAX - 1) + "#"),
        ("1 in [" + "1," * (NODES_MAX - 3) + "]", "1 in [" + "1," * (NODES_MAX - 2) + "]"),
        ("not " * (DEPTH_MAX - 1) + "1", "not " * DEPTH_MAX + "1"),
        ("(" * 90 + "1" + ")" * 90, "(" * 900 + "1" + ")" * 900),
        ("1" + "+1" * (DEPTH_MAX - 1), "1" + "+1" * 900),
        ("row" + "['a']" * 14, "row" + "['a']" * 390),
        ("1", "-" * 1999 + "1"),
        ("1", "not " * 499 + "1"),
        ("1", "[" * 1000 + "]" * 1000),
    ],
)
def test_size_and_depth_are_bounded(fits: str, breaks: str) -> None:
    """Just within compiles, beyond is refused, far beyond too."""
    compile_expression(fits)
    with pytest.raises(ExpressionInvalid):
        compile_expression(breaks)


@pytest.mark.parametrize(
    ("text", "row", "error"),
    [
        ("row['missing']", {}, KeyError),
        ("row['n']['m']", {"n": 1}, TypeError),
        ("row['s'].get('m')", {"s": "a"}, AttributeError),
        ("row['list'][9]", {"list": []}, IndexError),
        ("row['n'] / row['m']", {"n": 1, "m": 0}, ZeroDivisionError),
        ("row['n'] % 0", {"n": 1}, ZeroDivisionError),
        ("row['n'] < row['s']", {"n": 1, "s": "a"}, TypeError),
        ("len(row['n'])", {"n": 1}, TypeError),
        ("row['list'] in {1}", {"list": []}, TypeError),
        ("row['s'] % row['n']", {"s": "%s", "n": 1}, TypeError),
        ("row['s'] * row['n']", {"s": "a", "n": 10**9}, TypeError),
        ("row['n'] * row['list']", {"n": 10**9, "list": [0]}, TypeError),
        ("row['s'] + row['n']", {"s": "a", "n": 1}, TypeError),
        ("row['s'] + row['list']", {"s": "a", "list": []}, TypeError),
        ("row['n'] + None", {"n": 1}, TypeError),
        ("-row['s']", {"s": "a"}, TypeError),
        ("abs(row['s'])", {"s": "a"}, TypeError),
        ("row['n'] + 1", {"n": INT_MAX}, OverflowError),
        ("row['n'] - 1", {"n": INT_MIN}, OverflowError),
        ("row['n'] * row['n']", {"n": 2**32}, OverflowError),
        ("-row['n']", {"n": INT_MIN}, OverflowError),
        ("abs(row['n'])", {"n": INT_MIN}, OverflowError),
        ("row['x'] * 10", {"x": 1e308}, OverflowError),
        ("row['s'] + row['s']", {"s": "a" * (RESULT_TEXT_MAX // 2 + 1)}, OverflowError),
        ("row['list'] + row['list']", {"list": [0] * (RESULT_LIST_MAX // 2 + 1)}, OverflowError),
    ],
)
def test_a_row_that_does_not_fit_raises_and_nothing_grows(
    text: str, row: dict[str, object], error: type[Exception]
) -> None:
    """An ordinary exception that fails the row; repetition and formatting reach no text that came with the row."""
    expression = compile_expression(text)
    with pytest.raises(error):
        expression(freeze(row))


def test_a_result_within_its_bound_is_given() -> None:
    """The bounds themselves are allowed."""
    half: dict[str, object] = {"s": "a" * (RESULT_TEXT_MAX // 2), "list": [0] * (RESULT_LIST_MAX // 2)}
    assert len(str(compile_expression("row['s'] + row['s']")(half))) == RESULT_TEXT_MAX
    assert compile_expression("len(row['list'] + row['list'])")(half) == RESULT_LIST_MAX
    assert compile_expression("row['n'] + 1")({"n": INT_MAX - 1}) == INT_MAX


def test_a_literal_list_is_made_anew_for_each_row() -> None:
    """What one row's consumer does to an answer, the next row does not see."""
    expression = compile_expression("row.get('absent', [1])")
    first = expression(FrozenRow())
    assert isinstance(first, list)
    first.append(2)
    assert expression(FrozenRow()) == [1]


def test_a_compiled_expression_finds_no_builtins() -> None:
    """Were a name to slip through the checker, there would be nothing behind it."""
    namespace = compile_expression("row['n']").__globals__
    assert namespace["__builtins__"] == {}
    assert {name for name in namespace if name.isidentifier()} == {"__builtins__", "abs", "len"}


KEYS = st.sampled_from(["n", "x", "s", "t", "z"])
NUMBERS = st.integers(-5, 5) | st.floats(-4, 4, width=16) | st.sampled_from([INT_MAX, INT_MIN])
SCALARS = NUMBERS | st.sampled_from([None, True, False, "", "a", "ab", "é"])
LISTS = st.lists(SCALARS, max_size=3).map(repr)
FIELDS = KEYS.map(lambda key: f"row[{key!r}]") | st.builds("row.get({!r}, {!r})".format, KEYS, SCALARS)
LEAVES = SCALARS.map(repr) | FIELDS | FIELDS | FIELDS


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = st.sampled_from(["+", "-", "*", "/", "//", "%", "<", "<=", "==", "!=", ">", ">=", "and", "or"])
    return st.one_of(
        st.builds("({} {} {})".format, inner, signs, inner),
        st.builds("({} {} {} {} {})".format, inner, st.sampled_from(["<", "=="]), inner, st.just(">="), inner),
        st.builds("(not {})".format, inner),
        st.builds("(-{})".format, FIELDS),
        st.builds("(+{})".format, FIELDS),
        st.builds("abs({})".format, inner),
        st.builds("len({})".format, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["in", "not in"]), LISTS | FIELDS | st.just("row")),
        st.builds("({} {} {})".format, FIELDS, st.sampled_from(["is", "is not"]), st.sampled_from(["None", "True"])),
    )


EXPRESSIONS = st.recursive(LEAVES, _grown, max_leaves=12)
ROWS = st.dictionaries(KEYS, SCALARS | st.lists(SCALARS, max_size=2), max_size=5)


@settings(max_examples=1500, deadline=None)
@given(text=EXPRESSIONS, row=ROWS)
def test_an_allowed_expression_means_what_python_means(text: str, row: dict[str, object]) -> None:
    """The same value and type, or the same kind of error; where ours refuses more, it is a bound or `*` and `%`."""
    try:
        expression = compile_expression(text)
    except ExpressionInvalid as refused:
        assert "numbers around" in str(refused) or "expected at most" in str(refused), text
        return
    try:
        found = expression(freeze(row))
    except (OverflowError, TypeError, KeyError, ZeroDivisionError) as error:
        found = error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = eval(text, {}, {"row": row})
        except Exception as error:
            expected = error
    if isinstance(found, OverflowError) or (isinstance(found, TypeError) and "numbers" in str(found)):
        return
    if isinstance(expected, Exception):
        assert type(found) is type(expected)
    else:
        assert (repr(found), isinstance(found, list)) == (repr(expected), isinstance(expected, list))


def test_what_the_property_draws_has_values() -> None:
    """The property above is not vacuous: on these both sides give an answer."""
    for text in ("(row['n'] + row.get('x', 1.5))", "(abs((-row['n'])) in [1, 2])", "(row['z'] is not None)"):
        row = {"n": -2, "x": 1, "z": 0}
        assert compile_expression(text)(row) == eval(text, {}, {"row": row})


PIECES = st.sampled_from(
    ["row", "['n']", ".get(", "(", ")", "[", "]", "{", "}", "'", '"', "\\", ",", ":", ":=", "=", "==", "%", "*", "**",
     "@", "~", "not", "in", "is", "lambda", "for", "if", "else", "f'", "b'", "__class__", ".", "..", "...", "1", "1e9",
     "0x", "1j", "#", "\n", ";", "len", "abs", "eval", "print", "é", "\ud800", "\0", "await", "yield", "None", "True",
     "and", "or", "<", ">", "!", "$", "?", "`", "-"]
)  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(text=st.text(max_size=30) | st.builds(str.join, st.sampled_from(["", " "]), st.lists(PIECES, max_size=12)))
def test_any_text_compiles_or_is_refused_and_does_nothing_else(text: str) -> None:
    """No other exception, no warning, whatever is written."""
    try:
        expression = compile_expression(text)
    except ExpressionInvalid as refused:
        assert refused.text == text
        return
    assert callable(expression)
