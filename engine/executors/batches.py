"""The batch executor: members are buffered, a batch that is due is computed, and what came of it is said.

Judged here like a step's answer: a value that raises when it is looked at fails its batch, never the run.

Invariants: the outputs' parents are places of members that were not rejected (G11); a `BatchCalled` holds plain rows with
their bytes, and nothing of the plugin's own is touched after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, cast

from engine.bound import BoundAggregation
from engine.codes import code_of, text_of
from engine.executors.calls import (
    BAD_OUTPUT,
    LIMIT_EXCEEDED,
    Failure,
    Limits,
    Made,
    Refused,
    failure_of,
    made_of,
    settled,
    taken,
)
from engine.executors.keeper import Keeper
from engine.plugin_api import BatchResult, Derived, Rejected
from engine.rows import FrozenList, FrozenRow, freeze
from ledger import ids
from ledger.events import (
    BatchFailed,
    BatchFlushed,
    BatchOutput,
    BatchStarted,
    BatchTrigger,
    Output,
    RejectedMember,
    TokenBuffered,
)
from ledger.fold import State
from ledger.fold.state import Batch, Token

OUTPUT_COUNT = "output_count"
LINKS_MAX = 1_000_000
"""Rows without named parents have every member as one, so that a batch of n rows of n members would have n * n links."""

Parents = Literal["all"] | tuple[int, ...]


class FromMembers(NamedTuple):
    """A row that a batch made, its bytes unless they are a member's, and its parents."""

    made: Made
    parents: Parents


class NotTaken(NamedTuple):
    """A member that was rejected: its place, a code, a text."""

    ordinal: int
    code: str
    text: str


class BatchCalled(NamedTuple):
    """What a call came to: rows and rejected members, or a failure."""

    made: tuple[FromMembers, ...]
    rejected: tuple[NotTaken, ...]
    failure: Failure | None
    duration_us: int


def buffer(state: State, token: Token) -> TokenBuffered:
    """The token becomes the next member of its aggregation's batch, or the first of a new one."""
    batch = state.batches.get(token.node)
    number = batch.number if batch is not None else state.batch_numbers.get(token.node, 0) + 1
    return TokenBuffered(token=token.id, aggregation=token.node, batch=number,
                         ordinal=len(batch.members) if batch is not None else 0)


def begun(batch: Batch, trigger: BatchTrigger) -> BatchStarted:
    """An attempt to compute the batch is about to begin."""
    return BatchStarted(aggregation=batch.node.id, batch=batch.number, attempt=batch.attempt, members=len(batch.members),
                        trigger=trigger)


def call(bound: BoundAggregation, rows: Sequence[FrozenRow], limits: Limits, now_ns: Callable[[], int]) -> BatchCalled:
    """Compute a batch once. Whatever the plugin raises fails this attempt; only a KeyboardInterrupt is not its own."""
    began_ns = now_ns()
    try:
        given = cast("Sequence[FrozenRow]", FrozenList(map(freeze, rows)))
        made, rejected = _judged(bound, rows, bound.call(given), limits)
    except KeyboardInterrupt:
        raise
    except Refused as refused:
        return BatchCalled((), (), refused.failure, (now_ns() - began_ns) // 1000)
    except BaseException as error:
        return BatchCalled((), (), failure_of(error), (now_ns() - began_ns) // 1000)
    return BatchCalled(made, rejected, None, (now_ns() - began_ns) // 1000)


def _judged(bound: BoundAggregation, rows: Sequence[FrozenRow], result: object, limits: Limits
            ) -> tuple[tuple[FromMembers, ...], tuple[NotTaken, ...]]:
    given, refused = (result.rows, result.rejected) if isinstance(result, BatchResult) else (result, ())
    if not isinstance(given, (list, tuple, Iterator)):
        raise Refused(BAD_OUTPUT, f"expected a list of rows or a BatchResult, found {type(given).__name__}")
    outputs = taken(given, limits.batch_rows_max, "rows of a batch")
    rejected = _rejected(refused, len(rows))
    kept = frozenset(range(len(rows))) - {one.ordinal for one in rejected}
    accepted = sorted(kept)
    if bound.passes_through:
        made = _passed(rows, outputs, accepted, limits)
    else:
        made = tuple([_derived(rows, one, kept, limits) for one in outputs])
    links = sum(len(accepted) if one.parents == "all" else len(one.parents) for one in made)
    if links > LINKS_MAX:
        raise Refused(LIMIT_EXCEEDED, f"expected at most {LINKS_MAX} links from rows of a batch to their parents, found "
                      f"{links}: name the parents of each row with Derived")
    expected = bound.outputs_expected
    if expected is not None and accepted and len(made) != expected:
        raise Refused(OUTPUT_COUNT, f"expected {expected} rows of each batch, found {len(made)}")
    return made, rejected


def _rejected(given: object, members: int) -> tuple[NotTaken, ...]:
    """The rejected members in their order. Each value is looked at once: what is judged is what is recorded."""
    if not isinstance(given, (list, tuple)):
        raise Refused(BAD_OUTPUT, f"expected rejected members as a list of Rejected, found {type(given).__name__}")
    found: dict[int, NotTaken] = {}
    for one in tuple(given):
        if type(one) is not Rejected:
            raise Refused(BAD_OUTPUT, f"expected rejected members as Rejected, found {type(one).__name__}")
        place, reason, code = one
        if type(place) is not int or not 0 <= place < members or place in found:
            raise Refused(BAD_OUTPUT, f"expected rejected members by their places from 0 to {members - 1}, each once, found "
                          f"{place!r:.80}")
        found[place] = NotTaken(place, code_of(code), text_of(reason))
    return tuple([found[place] for place in sorted(found)])


def _derived(rows: Sequence[FrozenRow], given: object, kept: frozenset[int], limits: Limits) -> FromMembers:
    """One output and its parents: those it names, else all that were not rejected."""
    if not isinstance(given, Derived):
        if not kept:
            raise Refused(BAD_OUTPUT, "expected no row of a batch whose members were all rejected, found one")
        return FromMembers(made_of(given, limits), "all")
    row, parents = _named(given)
    if not parents or not kept.issuperset(parents) or len(set(parents)) < len(parents):
        raise Refused(BAD_OUTPUT, "expected parents among the members that were not rejected, each once, found "
                      f"{parents!r:.200}")
    made = made_of(row, limits)
    return FromMembers(made.like(rows[parents[0]]) if len(parents) == 1 else made, parents)


def _named(given: Derived) -> tuple[object, tuple[int, ...]]:
    """The row and the parents that it names, looked at once."""
    row, parents = tuple(given)
    places = tuple(parents) if isinstance(parents, (list, tuple)) else ()
    if not places or any(type(place) is not int for place in places):
        raise Refused(BAD_OUTPUT, f"expected the places of a row's parents, found {parents!r:.200}")
    return row, places


def _passed(rows: Sequence[FrozenRow], given: Sequence[object], accepted: Sequence[int], limits: Limits
            ) -> tuple[FromMembers, ...]:
    """In passthrough mode the same tokens go on: one row for each, in their order."""
    if len(given) != len(accepted):
        raise Refused(BAD_OUTPUT, f"expected one row for each of the {len(accepted)} members that were not rejected, for "
                      f"output_mode is passthrough, found {len(given)}")
    made = []
    for place, one in zip(accepted, given, strict=True):
        row, parents = _named(one) if isinstance(one, Derived) else (one, (place,))
        if parents != (place,):
            raise Refused(BAD_OUTPUT, f"expected member {place} as the parent of its own row, found {parents!r:.200}")
        made.append(FromMembers(made_of(row, limits).like(rows[place]), (place,)))
    return tuple(made)


def flushed(batch: Batch, trigger: BatchTrigger, called: BatchCalled, keeper: Keeper) -> BatchFlushed:
    """The batch was computed. Payloads are introduced as the rejected members' reasons, then the outputs."""
    rejected = tuple([RejectedMember(one.ordinal, keeper.code(one.code), keeper.keep_text(one.text))
                      for one in called.rejected])
    outputs = tuple([BatchOutput(_output(batch, one, keeper), one.parents) for one in called.made])
    return BatchFlushed(aggregation=batch.node.id, batch=batch.number, attempt=batch.attempt, trigger=trigger,
                        members=len(batch.members), rejected=rejected, outputs=outputs, duration_us=called.duration_us)


def _output(batch: Batch, one: FromMembers, keeper: Keeper) -> Output:
    """A new payload; of a row that is its one parent's, the parent's."""
    if one.made.data is None and one.parents != "all":
        return batch.members[one.parents[0]].payload
    return keeper.keep(one.made.data or b"")


def failed(bound: BoundAggregation, batch: Batch, trigger: BatchTrigger, failure: Failure, duration_us: int, keeper: Keeper,
           seed: int) -> BatchFailed:
    """The batch could not be computed: another attempt follows, or each member leaves by `on_error`."""
    name = ids.batch_id(batch.node.id, batch.number)
    left = batch.failures + 1 < batch.node.attempts_max
    code, retry, delay_ms = settled(failure, bound.retry, seed, name, batch.node.id, batch.failures + 1 if left else None)
    return BatchFailed(
        aggregation=batch.node.id,
        batch=batch.number,
        attempt=batch.attempt,
        trigger=trigger,
        members=len(batch.members),
        code=keeper.code(code),
        error=keeper.keep_text(failure.text),
        retry=retry,
        delay_ms=delay_ms,
        duration_us=duration_us,
    )
