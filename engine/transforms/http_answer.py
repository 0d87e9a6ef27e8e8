"""What came back from a server: kept for the record, then judged.

Why the content decides and not its declared type: servers say `text/html` of JSON and JSON of an error page.

Invariants: what is recorded is always JSON; no more is unpacked than may be held; a packed body that ends early is
a broken answer, never a short one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from engine.plugin_api import RetryableError, RowError
from engine.rows import check_row
from engine.sources.strict_json import StrictJson, skip_blank

MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that say: try again."""

RECORDED_HEADERS = ("content-type", "retry-after")

_CODINGS = frozenset({"identity", "gzip", "x-gzip", "deflate"})
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_MEMBERS_MAX = 100


class Answer(NamedTuple):
    """A status, the headers that are recorded, and the body: `fault` (code and text) says why a row cannot take it."""

    status: int
    headers: dict[str, str]
    body: object
    fault: tuple[str, str] | None

    @classmethod
    def heard(cls, status: int, headers: Mapping[str, str], content: bytes, whole: bool, bytes_max: int) -> Answer:
        """An answer of raw `content`, all of it or not. Raises ConnectionError for a packed body that is broken."""
        recorded = {name: headers[name] for name in RECORDED_HEADERS if name in headers}
        coding = headers.get("content-encoding", "identity").strip().lower() or "identity"
        if content and coding not in _CODINGS:
            fault = ("bad_response", f"expected gzip, deflate or no coding, found {coding!r:.60}")
            return cls(status, recorded, None, fault)
        if content and whole and coding != "identity":
            content, whole = _unpacked(content, bytes_max)
        if not whole:
            fault = ("response_too_long", f"expected a body of at most {bytes_max} bytes, found a longer one")
            return cls(status, recorded, None, fault)
        value, wrong = _value(content)
        return cls(status, recorded, value, None if wrong is None else ("bad_response", wrong))

    def as_recorded(self) -> dict[str, object]:
        """The answer as JSON. A body that was too long is left out: where it is cut, half a secret could stand unmasked."""
        return {"status": self.status, "headers": self.headers, "body": self.body}

    def value(self) -> object:
        """The body as the row gets it. Raises RetryableError or RowError for every answer that is no success."""
        if self.status in MAY_PASS:
            raise RetryableError(f"expected status 2xx, found {self.status}")
        if not 200 <= self.status < 300:
            raise RowError(f"expected status 2xx, found {self.status}", f"http_{self.status}")
        if self.fault is not None:
            raise RowError(self.fault[1], self.fault[0])
        return self.body


def _value(content: bytes) -> tuple[object, str | None]:
    """The JSON value or the text, and what keeps it from being a row's field; then it is the text in any case."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("utf-8", errors="replace"), "expected UTF-8, found other bytes"
    start = skip_blank(text, 0)
    try:
        found = StrictJson().read(text, start)
    except json.JSONDecodeError:
        return text, None
    if skip_blank(text, found.end) < len(text):
        return text, None
    wrong = found.fault.text if found.fault is not None else check_row({"body": found.value})
    return (found.value, None) if wrong is None else (text, wrong)


def _unpacked(content: bytes, bytes_max: int) -> tuple[bytes, bool]:
    """The plain body, or as much of it as may be held, and whether that is all."""
    plain = bytearray()
    for _ in range(_MEMBERS_MAX):
        member = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            plain += member.decompress(content, bytes_max + 1 - len(plain))
        except zlib.error as error:
            raise ConnectionError(f"expected a packed body, found {error}") from error
        if len(plain) > bytes_max:
            return bytes(plain[:bytes_max]), False
        if not member.eof:
            raise ConnectionError("expected a packed body, found one that ends early")
        content = member.unused_data
        if not content:
            return bytes(plain), True
    raise ConnectionError(f"expected a packed body of at most {_MEMBERS_MAX} parts, found more")
