"""The sink executor: tokens that wait at a sink, as writes. Intent first, then the effect, then the confirmation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from engine.executors.keeper import Keeper, describe
from engine.plugin_api import Prepared, Sink, Written
from ledger import events as e
from ledger.fold.state import Token, Write

SINK_UNWRITABLE = "sink_unwritable"
CONTENT_CHANGED = "content_changed"
ID_BYTES_MAX = 40_000
TOKENS_PER_WRITE = 500
"""So many that their refusals, each with its commitment, fit a body too."""


class Planned(NamedTuple):
    """One write: its intent, and what will be handed to the sink."""

    intent: e.SinkWriteIntended
    prepared: Prepared


def chunks(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Split what waits into writes whose ids and refusals fit a body."""
    chunk: list[Token] = []
    size = 0
    for token in tokens:
        size += len(token.id) + 3
        if chunk and (len(chunk) == TOKENS_PER_WRITE or size > ID_BYTES_MAX):
            yield chunk
            chunk, size = [], len(token.id) + 3
        chunk.append(token)
    if chunk:
        yield chunk


def plan(number: int, name: str, tokens: Sequence[Token], prepared: Prepared, key: str, offset: int | None) -> Planned:
    """State the intent of one write; `offset` is where it will begin."""
    intent = e.SinkWriteIntended(
        sink=name,
        write=number,
        tokens=tuple([token.id for token in tokens]),
        content_hash=prepared.content_sha256,
        key=key,
        offset=offset,
    )
    return Planned(intent, prepared)


def is_same(write: Write, prepared: Prepared, offset: int | None) -> bool:
    """Whether an open write, encoded again, is what was intended: the same bytes at the same place."""
    return (write.content_hash, write.offset) == (prepared.content_sha256, offset)


def superseded(number: int, write: Write, keeper: Keeper) -> e.SinkWriteFailed:
    """An open write that would not be the same any more: it gives way to another under its key."""
    text = "expected the content that was intended, found another: the pipeline was changed since"
    return e.SinkWriteFailed(sink=write.sink, write=number, code=CONTENT_CHANGED, error=keeper.keep_text(text))


class Performed(NamedTuple):
    """What the sink gave back: what it wrote, or what it raised instead."""

    written: Written | None
    error: BaseException | None
    duration_us: int


def perform(planned: Planned, sink: Sink, now_ns: Callable[[], int]) -> Performed:
    """Write under the intent's key."""
    began_ns = now_ns()
    try:
        written = checked(sink.write(planned.prepared, planned.intent.key), planned.prepared)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Performed(None, error, (now_ns() - began_ns) // 1000)
    return Performed(written, None, (now_ns() - began_ns) // 1000)


def checked(written: Written, prepared: Prepared) -> Written:
    """What a sink gave back, if it can be put on record. Raises TypeError or ValueError where it cannot."""
    given: object = written
    kinds = (str, int, str)
    if not isinstance(given, Written) or any(type(value) is not kind for value, kind in zip(given, kinds, strict=False)):
        raise TypeError(f"expected Written(uri, size_bytes, content_sha256, refused), found {given!r:.200}")
    places = [refusal.ordinal for refusal in written.refused]
    if len(set(places)) < len(places) or not set(places) <= set(range(len(prepared.ordinals))):
        raise ValueError(f"expected refusals of {len(prepared.ordinals)} rows, each once, found places {places!r:.200}")
    return written


def confirm(planned: Planned, performed: Performed, keeper: Keeper) -> e.SinkWriteConfirmed | e.SinkWriteFailed:
    """Say what the target took, and what it refused."""
    intent, prepared = planned
    written = performed.written
    if written is None:
        text = describe(performed.error) if performed.error else ""
        return e.SinkWriteFailed(sink=intent.sink, write=intent.write, code=SINK_UNWRITABLE,
                                 error=keeper.keep_text(text))
    refused = [*prepared.refused, *((prepared.ordinals[r.ordinal], r.code, r.text) for r in written.refused)]
    refusals = tuple([e.Refusal(ordinal, keeper.code(code), keeper.keep_text(str(text)))
                      for ordinal, code, text in sorted(refused, key=itemgetter(0))])
    return e.SinkWriteConfirmed(
        sink=intent.sink,
        write=intent.write,
        uri=written.uri,
        size_bytes=written.size_bytes,
        content_hash=written.content_sha256,
        accepted=len(intent.tokens) - len(refusals),
        refused=refusals,
        duration_us=performed.duration_us,
    )
