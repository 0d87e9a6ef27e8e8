"""Variables in values: filled in once, never read again as anything; what they brought is known as a secret."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pipeline_yaml import load
from engine.substitution import INSERTED_MAX, Substituted, substitute
from ledger.errors import SettingsInvalid

ENVIRONMENT = {
    "HOME_DIR": "data",
    "PORT": "5432",
    "EMPTY": "",
    "YAML": "[a, b]: {c: *d}",
    "NESTED": "${PORT} $${x} }",
    "_x1": "u",
}


def _place(path: tuple[str | int, ...]) -> str:
    return "p.yaml:7"


def _filled(text: object) -> object:
    return substitute(text, ENVIRONMENT, _place).data


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${PORT}", "5432"),
        ("a-${HOME_DIR}/${PORT}${_x1}", "a-data/5432u"),
        ("${HOME_DIR:-other}", "data"),
        ("${NONE:-other}", "other"),
        ("${NONE:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-other}", "other"),
        ("${NONE:-a:-b $c {d}", "a:-b $c {d"),
        ("${NONE:-two\nlines}", "two\nlines"),
        ("${YAML}", "[a, b]: {c: *d}"),
        ("${NESTED}", "${PORT} $${x} }"),
        ("$${PORT}", "${PORT}"),
        ("$$${PORT}", "$${PORT}"),
        ("$${", "${"),
        ("$${PORT} ${PORT}", "${PORT} 5432"),
        ("$PORT $ $$ { } $(PORT) %PORT%", "$PORT $ $$ { } $(PORT) %PORT%"),
        ("", ""),
        (5, 5),
        (None, None),
        (True, True),
        (1.5, 1.5),
    ],
)
def test_variables_are_filled_in_once_and_stay_text(text: object, filled: object) -> None:
    """What a variable holds is neither searched for variables nor read as YAML."""
    assert (_filled(text), type(_filled(text))) == (filled, type(filled))


def test_values_everywhere_are_filled_in_and_keys_nowhere() -> None:
    """The given data stays as it was."""
    data = {"${PORT}": ["${PORT}", {"k": "x${PORT}"}, 5], "b": {"c": [["${HOME_DIR}"]]}}
    before = copy.deepcopy(data)
    assert substitute(data, ENVIRONMENT, _place) == Substituted(
        {"${PORT}": ["5432", {"k": "x5432"}, 5], "b": {"c": [["data"]]}}, {"PORT": "5432", "HOME_DIR": "data"}
    )
    assert data == before


@pytest.mark.parametrize(
    "text",
    ["${", "${}", "${PORT", "${1A}", "${A-B}", "${A:B}", "${A:=b}", "${A:?b}", "${ A }", "${é}", "${A\n}", "${A:-${B}}",
     "${A:-", "a ${PORT} ${", "${${PORT}}", "$${A} ${"],
)  # fmt: skip
def test_a_malformed_variable_is_refused(text: str) -> None:
    """Other shells' forms too: nothing that looks like a variable is left standing."""
    with pytest.raises(SettingsInvalid, match="VARIABLE_MALFORMED"):
        substitute({"a": text}, ENVIRONMENT, _place)


def test_an_unset_variable_is_named_with_its_key_and_line() -> None:
    """One line: the variable, the key's path, the file and line, what to do."""
    data, lines = load("a: 1\nsinks:\n  out:\n    options:\n    - {path: x}\n    - {path: '${NONE}/y'}\n", "p.yaml")
    with pytest.raises(SettingsInvalid) as refused:
        substitute(data, ENVIRONMENT, lambda path: f"p.yaml:{lines[path]}")
    assert str(refused.value) == (
        "VARIABLE_UNSET: expected the variable NONE to be set, found it unset; key sinks.out.options.1.path; p.yaml:6; "
        "set NONE, or write ${NONE:-default}"
    )


def test_a_variable_that_is_no_text_or_too_long_is_refused() -> None:
    """Bytes that are no UTF-8 come out of the environment as lone surrogates; repetition multiplies what is long."""
    with pytest.raises(SettingsInvalid, match="VARIABLE_NOT_TEXT"):
        substitute("${A}", {"A": "caf\udce9"}, _place)
    half = {"A": "x" * (INSERTED_MAX // 2)}
    assert len(str(substitute("${A}${A}", half, _place).data)) == INSERTED_MAX
    with pytest.raises(SettingsInvalid, match="VARIABLE_TOO_LONG"):
        substitute(["${A}", "${A}", "${A}"], half, _place)


def test_only_what_came_from_the_environment_is_a_secret() -> None:
    """Neither a default nor an escape nor an empty value; a variable that is used twice is one."""
    found = substitute(
        ["${PORT} ${PORT}", "${NONE:-PORT}", "$${HOME_DIR}", "${EMPTY}", "${HOME_DIR:-x}", "plain"], ENVIRONMENT, _place
    )
    assert found.secrets == {"PORT": "5432", "HOME_DIR": "data"}


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql+psycopg://user:secret@host:5432/db", "secret"),
        ("postgresql://user:s%40t@host/db", "s%40t"),
        ("https://:secret@host", "secret"),
        ("  https://user:secret@host/path?x=y@z", "secret"),
        ("https://user:se:cr@et@host/path", "se:cr@et"),
        ("postgresql://user:se/cr?e#t@host/db", "se/cr?e#t"),
        ("postgresql://user:two\nlines@host/db", "two\nlines"),
        ("POSTGRESQL://user:p@[::1]:5432/db", "p"),
        ("https://user@host", None),
        ("https://user:@host", None),
        ("https://host:80/a@b", None),
        ("https://[::1]:80/a@b", None),
        ("postgresql://[::1]:5432/db?x=a@b", None),
        ("sqlite:///dir/runs.db", None),
        ("mailto:a:b@c", None),
        ("see https://user:secret@host", None),
        ("user:secret@host", None),
    ],
)
def test_the_password_of_a_url_is_a_secret(url: str, password: str | None) -> None:
    """Also when no variable stands in it."""
    found = substitute({"ledger": {"url": url}}, {}, _place)
    assert found.data == {"ledger": {"url": url}}
    assert found.secrets == ({} if password is None else {"url:ledger.url": password})


def test_a_password_that_a_variable_brought_is_known_by_both_names() -> None:
    """The variable's value and the URL's password are each fingerprinted."""
    found = substitute({"a": [{"url": "db://u:${PW}@h"}]}, {"PW": "s3"}, _place)
    assert found == ({"a": [{"url": "db://u:s3@h"}]}, {"PW": "s3", "url:a.0.url": "s3"})


def test_no_two_key_paths_are_called_the_same() -> None:
    """A key that holds a dot is quoted; else one password would hide the other."""
    data = {"a.b": "x://u:one@h", "a": {"b": "x://u:two@h"}, '"a': {'b"': "x://u:three@h"}}
    assert len(substitute(data, {}, _place).secrets) == 3


@given(text=st.text(st.sampled_from("${}:-A $b"), max_size=20))
def test_any_text_is_filled_in_or_refused(text: str) -> None:
    """Without `${` nothing changes; with it, what stands there is gone, escaped, or refused."""
    try:
        found = substitute(text, {"A": "value", "b": "$"}, _place)
    except SettingsInvalid as error:
        assert error.code in {"VARIABLE_UNSET", "VARIABLE_MALFORMED"}
        assert "${" in text
        return
    assert "${" in text or found == (text, {})
    assert set(found.secrets) <= {"A", "b"}


@given(value=st.text(max_size=20))
def test_a_variable_s_value_comes_out_as_it_is(value: str) -> None:
    """Whatever it holds: braces, dollars, backslashes, group references."""
    found = substitute("<${A}>", {"A": value}, _place)
    assert found.data == f"<{value}>"
    assert found.secrets.get("A", "") == value
