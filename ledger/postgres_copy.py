"""Rows of the log in the binary form of `COPY … FROM STDIN` (PostgreSQL manual, COPY, "Binary Format").

Why by hand: a row has a handful of fields of known types, and packing them is a fraction of what a general adapter takes.

Invariants: integers are big-endian, a field's length stands before it, -1 is NULL; a block ends with its trailer or is
followed by more rows of the same copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from struct import Struct

from ledger.store import Payload, Stored

COPY_EVENTS = "COPY events (stream, seq, type, v, token, row_index, at, body) FROM STDIN (FORMAT binary)"
COPY_PAYLOADS = "COPY payloads (stream, n, salt, bytes, permanent) FROM STDIN (FORMAT binary)"

BLOCK_BYTES = 1 << 20

_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"

_STREAM_AND_SEQ = Struct(">hiqiq").pack
_VERSION = Struct(">ii").pack
_LENGTH = Struct(">i").pack
_ROW_AND_AT = Struct(">iqiqi").pack
_NO_ROW_AND_AT = Struct(">iiqi").pack


def event_rows(stream: int, events: Sequence[Stored]) -> bytes:
    """A whole copy of events."""
    parts = [_HEADER]
    for seq, type_, v, token, row, at, body in events:
        parts += (
            _STREAM_AND_SEQ(8, 8, stream, 8, seq),
            _kind(type_, v),
            _NULL if token is None else _text(token),
            _NO_ROW_AND_AT(-1, 8, at, len(body)) if row is None else _ROW_AND_AT(8, row, 8, at, len(body)),
            body,
        )
    parts.append(_TRAILER)
    return b"".join(parts)


def payload_rows(stream: int, payloads: Sequence[Payload]) -> Iterator[bytes]:
    """A whole copy of payloads, in blocks: one payload may be long."""
    parts, size = [_HEADER], 0
    for n, salt, data, permanent in payloads:
        parts += (_STREAM_AND_SEQ(5, 8, stream, 8, n), _bytes(salt), _bytes(data), _VERSION(4, int(permanent)))
        size += len(data or b"")
        if size >= BLOCK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    parts.append(_TRAILER)
    yield b"".join(parts)


@lru_cache(maxsize=256)
def _kind(type_: str, v: int) -> bytes:
    """Type and version: a few pairs, over and over."""
    return _text(type_) + _VERSION(4, v)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _LENGTH(len(encoded)) + encoded


def _bytes(value: bytes | None) -> bytes:
    return _NULL if value is None else _LENGTH(len(value)) + value
