"""Texts with `{field}` in them, filled in from a row: the url and the body of a request.

Why so strict a url: a row's value must never choose whom to ask, or reach another path than the one that was written.

Invariants: scheme, host and port are those of the settings; a value fills the inside of one path segment or of the query,
percent-encoded; it never makes a segment empty, `.` or `..`; what was filled in is not searched for fields again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import quote

from urllib3.exceptions import LocationValueError
from urllib3.util import parse_url

from engine.plugin_api import RowError
from engine.rows import Row, check_row, thaw
from engine.schema import shown

_BRACE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ORIGIN = re.compile(r"https?://[^/?#@\s\\{}]+", re.IGNORECASE)

_Fill = Callable[[Row], object]


class Template:
    """A text and its fields; `{{` and `}}` are plain braces. Raises ValueError for a brace that stands alone."""

    def __init__(self, text: str) -> None:
        self._parts: list[tuple[str, str | None]] = []
        plain, at = "", 0
        for match in _BRACE.finditer(text):
            plain, at = plain + text[at : match.start()], match.end()
            if match[1] is not None:
                self._parts.append((plain, match[1]))
                plain = ""
            elif len(match[0]) == 2:
                plain += match[0][0]
            else:
                raise ValueError("expected {field}, or {{ and }} for plain braces, found a brace that stands alone")
        self._rest = plain + text[at:]

    @property
    def before(self) -> str:
        """The text before the first field: all of it when there is none."""
        return self._parts[0][0] if self._parts else self._rest

    @property
    def only_field(self) -> str | None:
        """The field, when the text is nothing but one."""
        if len(self._parts) == 1 and not self._parts[0][0] and not self._rest:
            return self._parts[0][1]
        return None

    def fill(self, value_of: Callable[[str], str]) -> str:
        """The text with each field replaced by what `value_of` says of it."""
        return "".join(plain + value_of(field or "") for plain, field in self._parts) + self._rest


class UrlTemplate:
    """The url of a request. Raises ValueError for one that cannot be asked, without quoting it: it may hold secrets."""

    def __init__(self, url: str) -> None:
        self._template = Template(url)
        origin = _ORIGIN.match(self._template.before)
        shape = self._template.fill(lambda field: "x")
        if origin is None or shape[origin.end() : origin.end() + 1] not in ("", "/", "?"):  # a field there is an x
            raise ValueError("expected url as http:// or https://, a host without fields or user, and a path")
        if "#" in shape:
            raise ValueError("expected url without a fragment, which is never sent")
        if _LONE_PERCENT.search(shape):
            raise ValueError("expected %25 in url for a plain %")
        _check_host(shape)
        self._shape = _segments(shape)
        if not {".", ".."}.isdisjoint(self._shape):
            raise ValueError("expected url with a path without . and ..")

    def fill(self, row: Row) -> str:
        """The url for one row. Left as it was written, so that secrets in it are found where it is recorded."""
        url = self._template.fill(lambda field: quote(_text(row, field), safe=""))
        for made, shape in zip(_segments(url), self._shape, strict=True):
            if made in (".", "..") or (shape and not made):
                raise RowError(f"expected a value for a path, found {shown(made)}", "bad_url")
        return url


class BodyTemplate:
    """A JSON value whose texts are templates; the keys of its objects are not. Raises ValueError for what is no JSON."""

    def __init__(self, body: object) -> None:
        fault = check_row({"body": body})
        if fault is not None:
            raise ValueError(fault)
        self._fill = _compiled(body)

    def fill(self, row: Row) -> object:
        """The body for one row, a value of its own."""
        body = self._fill(row)
        fault = check_row({"body": body})
        if fault is not None:
            raise RowError(fault, "bad_body")
        return body


def _compiled(body: object) -> _Fill:
    if isinstance(body, Mapping):
        entries = [(key, _compiled(value)) for key, value in body.items()]
        return lambda row: {key: fill(row) for key, fill in entries}
    if isinstance(body, list):
        items = [_compiled(value) for value in body]
        return lambda row: [fill(row) for fill in items]
    if not isinstance(body, str):
        return lambda row: body
    template = Template(body)
    only = template.only_field
    if only is not None:
        return lambda row: thaw(_value(row, only))
    return lambda row: template.fill(lambda field: _text(row, field))


def _check_host(url: str) -> None:
    try:
        host = parse_url(url).host or ""
        host.encode("idna")
    except (LocationValueError, UnicodeError):
        host = ""
    if not host:
        raise ValueError("expected url with a host and a port that can be asked")


def _segments(url: str) -> list[str]:
    """The path's segments, behind scheme and host."""
    return url.partition("?")[0].split("/")[3:]


def _value(row: Row, field: str) -> object:
    if field not in row:
        raise RowError(f"expected field {field!r}, found none", "field_missing")
    return row[field]


def _text(row: Row, field: str) -> str:
    """A field's value within a text, as JSON would write it."""
    value = _value(row, field)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise RowError(f"expected a text, a number or a bool in field {field!r}, found {shown(value)}", "bad_value")
