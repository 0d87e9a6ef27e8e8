"""Writing through sinks in tests: as a flush does it, from the beginning of a run to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from engine.plugin_api import Claim, Sink, Written
from engine.rows import freeze

Rows = Sequence[Mapping[str, object]]
Make = Callable[[str], Sink]


def put(sink: Sink, *writes: Rows) -> list[Written]:
    """Prepare all, then write all, as a flush does; the offsets that the record would state are true."""
    offset = sink.offset()
    assert offset is not None
    prepared = []
    for rows in writes:
        prepared.append(sink.prepare([freeze(row) for row in rows]))
    written = []
    for one in prepared:
        assert sink.offset() == offset
        assert one.content_sha256 == sha256(one.content).hexdigest()
        written.append(sink.write(one, "key"))
        offset += len(one.content)
        assert written[-1][1:] == (offset, one.content_sha256, ())
    return written


def whole(sink: Sink, *writes: Rows) -> None:
    """A run from its beginning to its end."""
    sink.open(Claim())
    put(sink, *writes)
    sink.close(True)


def refusals(sink: Sink, rows: Rows) -> list[tuple[int, str]]:
    """Places and codes of what the sink does not take."""
    prepared = sink.prepare([freeze(row) for row in rows])
    assert sorted([*prepared.ordinals, *(refusal.ordinal for refusal in prepared.refused)]) == list(range(len(rows)))
    return [(refusal.ordinal, refusal.code) for refusal in prepared.refused]
