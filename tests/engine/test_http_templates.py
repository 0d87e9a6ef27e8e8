"""What a row's values can do to a request: fill its places, and nothing else."""

from __future__ import annotations

import json
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.plugin_api import RowError
from engine.rows import freeze
from engine.transforms.http_template import BodyTemplate, UrlTemplate

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8,
)  # fmt: skip


@given(TEXTS, TEXTS)
def test_a_value_stays_within_its_place_in_the_url(path: str, query: str) -> None:
    """Host, the other segments and the other parameters are those of the template; the value can be read back."""
    template = UrlTemplate("https://user.example:8443/a/{p}/delete?x=1&q={q}&y=2")
    row = {"p": path, "q": query}
    if path in ("", ".", ".."):
        with pytest.raises(RowError) as raised:
            template.fill(row)
        assert raised.value.code == "bad_url"
        return
    parts = urlsplit(template.fill(row))
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "user.example:8443", "")
    before, segment, after = parts.path.removeprefix("/").split("/")
    first, second, last = parts.query.split("&")
    assert (before, after, first, last) == ("a", "delete", "x=1", "y=2")
    assert (unquote(segment), unquote(second.removeprefix("q="))) == (path, query)


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (-7, "-7"), (1.5, "1.5"), ("", ""), ("{q} %41", "%7Bq%7D%20%2541")]
)
def test_a_value_is_written_as_json_writes_it_and_filled_in_once(value: object, text: str) -> None:
    """What was filled in is not searched for fields, nor decoded."""
    assert UrlTemplate("http://h/?q={q}&{{}}").fill({"q": value}) == f"http://h/?q={text}&{{}}"


@pytest.mark.parametrize(
    ("row", "code"), [({}, "field_missing"), ({"q": None}, "bad_value"), ({"q": []}, "bad_value"), ({"q": {}}, "bad_value")]
)
def test_a_value_that_no_text_can_hold_fails_the_row(row: dict[str, object], code: str) -> None:
    """In a url as within a text of the body."""
    for fill in (UrlTemplate("http://h/{q}").fill, BodyTemplate({"a": "is {q}"}).fill):
        with pytest.raises(RowError) as raised:
            fill(row)
        assert raised.value.code == code


@pytest.mark.parametrize(("p", "url"), [("..", "http://h/{p}"), (".", "http://h/a/.{p}?x"), ("", "http://h/a/{p}/b")])
def test_a_value_cannot_make_another_path(p: str, url: str) -> None:
    """Nor a segment vanish: DELETE /users/ is not DELETE /users/7."""
    with pytest.raises(RowError) as raised:
        UrlTemplate(url).fill({"p": p})
    assert raised.value.code == "bad_url"


@pytest.mark.parametrize(
    "url",
    [
        "", "h", "//h/", "ftp://h/", "file:///etc/passwd", "http://", "http:///x", "http://:80/", "http:h",
        "{s}://h/", "http://{h}/", "http://a{h}/", "http://h{x}", "http://h:{p}/", "http://h:99999/", "http://h:x/",
        "http://u:p@h/", "http://u@h/", "http://{u}@h/", "http://h\\@g/", "http://h g/", " http://h/", "http://h\n/",
        "http://h/#f", "http://h/{a}#{b}", "http://h/../x", "http://h/./{x}", "http://h/..", "http://h/{", "http://h/}x{",
        "http://h/{}", "http://h/{a{b}}", "http://h/100%/{x}", "http://h/%{x}", "http://h/%4{x}", "http://h/%zz",
        "http://" + "a" * 64 + "/", "http://a..b/", "http://[::1/", "http://{{h}}/",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_asked_is_refused(url: str) -> None:
    """Whom to ask is said in the settings: no row can change it, and nothing secret stands there."""
    with pytest.raises(ValueError, match="expected"):
        UrlTemplate(url)


@pytest.mark.parametrize("url", ["http://h", "HTTPS://H:1/", "http://h?x={x}", "http://[::1]:8080/{x}", "http://h/a@b:c;d/%41"])
def test_other_urls_are_left_as_they_were_written(url: str) -> None:
    """The record then shows what the pipeline file says."""
    assert UrlTemplate(url).fill({"x": "1"}) == url.replace("{x}", "1")


@given(VALUES)
def test_a_body_that_is_one_field_becomes_its_value(value: object) -> None:
    """With its type, wherever it stands, and as a value of its own."""
    row = freeze({"v": value})
    filled = BodyTemplate(["{v}", {"k": "{v}"}]).fill(row)
    assert json.dumps(filled) == json.dumps([value, {"k": value}])


def _doubled(value: object) -> object:
    """The value with the braces of its texts doubled; keys stand for themselves."""
    if isinstance(value, dict):
        return {key: _doubled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_doubled(inner) for inner in value]
    return value.replace("{", "{{").replace("}", "}}") if isinstance(value, str) else value


@given(VALUES)
def test_a_body_without_fields_is_sent_as_it_was_written(value: object) -> None:
    """Doubled braces are plain ones, so every value can be said."""
    assert json.dumps(BodyTemplate(_doubled(value)).fill({})) == json.dumps(value)


def test_a_filled_body_shares_nothing_with_its_row() -> None:
    """It is a plain value, not the frozen one."""
    row = freeze({"v": {"a": [1]}})
    body = BodyTemplate("{v}").fill(row)
    assert isinstance(body, dict)
    body["a"].append(2)
    assert row == {"v": {"a": [1]}}


def test_a_body_that_becomes_too_deep_fails_the_row() -> None:
    """The record could not hold it."""
    deep: object = 1
    for _ in range(30):
        deep = [deep]
    with pytest.raises(RowError) as raised:
        BodyTemplate([["{v}"]]).fill(freeze({"v": deep}))
    assert raised.value.code == "bad_body"


@pytest.mark.parametrize(
    "body", ["{", "a } b", {"a": ["{x"]}, {1: "a"}, {"a": 2**64}, {"a": {1, 2}}, float("nan"), "\ud800"]
)
def test_a_body_that_is_no_template_is_refused(body: object) -> None:
    """When the pipeline is built."""
    with pytest.raises(ValueError, match="expected"):
        BodyTemplate(body)
