"""The examination of a sink: which stories are played, in which order, and what could not be looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast, get_args

from counterfoil.conformance import crashes, guards
from counterfoil.conformance.findings import Beginning, Fence, Finding, Report, SinkBroken
from counterfoil.conformance.log import Flushes, Write
from counterfoil.conformance.story import Bench, Reference
from counterfoil.conformance.targets import Target, steady
from engine.plugin_api import Delivery, Sink
from engine.rows import FrozenRow, Row, check_row, freeze

ROWS_MIN = 6
ROWS: Sequence[Row] = tuple({"id": number, "name": f"row {number}"} for number in range(7))
"""What is written when the author gives no rows."""


def check_sink(make: Callable[[], Sink], target: Target, *, rows: Sequence[Row] = ROWS, refused: Sequence[Row] = ()
               ) -> Report:
    """Examine a sink, and raise `SinkBroken` with every finding if there is any.

    The arguments are those of `examine_sink`, and so is the report.
    """
    report = examine_sink(make, target, rows=rows, refused=refused)
    if report.findings:
        raise SinkBroken(report)
    return report


def examine_sink(make: Callable[[], Sink], target: Target, *, rows: Sequence[Row] = ROWS, refused: Sequence[Row] = ()
                 ) -> Report:
    """Play runs against a sink, cut and uncut, and report what it promises and does not keep.

    `make` is called for every process that is played, and gives a new instance that writes to the `target`. `rows` are at
    least six different rows that the sink takes, `refused` some that it refuses whatever came before them. The target is
    emptied before and after. Raises ValueError for rows that are none.
    """
    taken = [_row(row) for row in rows]
    others = [_row(row) for row in refused]
    if len(taken) < ROWS_MIN:
        raise ValueError(f"expected at least {ROWS_MIN} rows, found {len(taken)}")
    delivery: object = getattr(make(), "delivery", None)
    if delivery not in get_args(Delivery):
        finding = Finding("delivery", f"one of {', '.join(get_args(Delivery))}", repr(delivery), ())
        return Report(None, "none", False, "replaces", (finding,), ("the rest: without a class it has no meaning",))
    bench = Bench(make, steady(target), cast(Delivery, delivery))
    reference = crashes.uncut(bench, planned(taken, others))
    if reference is None or bench.findings:
        return _report(bench, "none", False, "replaces", ["the rest: a run that is not cut has findings already"])
    return _examined(bench, taken, others, reference)


def planned(taken: Sequence[FrozenRow], refused: Sequence[FrozenRow]) -> Flushes:
    """A run: three flushes, one of them of two writes; refused rows come first, among others, last and alone."""
    middle = [(taken[3], True)] if not refused else [(row, False) for row in refused]
    last = [(row, True) for row in (taken[4:] if not refused else taken[3:])]
    writes = [
        [*((row, False) for row in refused[:1]), (taken[0], True), (taken[1], True)],
        [(taken[2], True)],
        middle,
        [last[0], *((row, False) for row in refused[-1:]), *last[1:]],
    ]
    one, two, three, four = [_write(number, rows) for number, rows in enumerate(writes, start=1)]
    return (one,), (two, three), (four,)


def _write(number: int, rows: Sequence[tuple[FrozenRow, bool]]) -> Write:
    places = frozenset(place for place, (_, taken) in enumerate(rows) if not taken)
    return Write(number, tuple([row for row, _ in rows]), places)


def _examined(bench: Bench, taken: list[FrozenRow], refused: list[FrozenRow], reference: Reference) -> Report:
    flushes = planned(taken, refused)
    fence, late = guards.examine_fence(bench, flushes, reference)
    mixed = [row for pair in zip(refused, taken, strict=False) for row in pair]
    crashes.examine_preparing(bench, flushes, [*mixed, *taken[len(refused):]], reference)
    crashes.examine_keys(bench, taken)
    crashes.examine_crashes(bench, flushes, reference)
    crashes.examine_empty(bench)
    guards.examine_closing(bench, flushes)
    if bench.truncatable:
        guards.examine_changed(bench, flushes, reference)
    earlier, later = ((_write(1, [(taken[0], True)]),),), planned(taken[1:], [])
    beginning, over = crashes.examine_beginning(bench, earlier, later)
    if over is not None:
        crashes.examine_crashes_over(bench, earlier, later, over)
    return _report(bench, fence, late, cast(Beginning, beginning), [*_not_checked(bench, reference, refused)])


def _report(bench: Bench, fence: Fence, late: bool, beginning: Beginning, not_checked: Sequence[str]) -> Report:
    return Report(bench.delivery, fence, late, beginning, tuple(bench.findings), tuple(not_checked))


def _not_checked(bench: Bench, reference: Reference, refused: Sequence[Row]) -> Iterator[str]:
    yield "that what was written outlives a loss of power: no program sees whether bytes are on disk"
    if bench.truncatable and (bench.target.put is None or not isinstance(reference.held, bytes)):
        yield "torn writes, and a target that was changed: give the target as bytes, with `put`"
    if not bench.truncatable:
        yield "a write that the target took in part: the kit cannot stop a target amid a write"
    if bench.delivery == "at_least_once" and bench.target.key_of is None:
        yield "that repeats carry their key: give the target `key_of`"
    if not refused:
        yield "refusals: give rows that the sink refuses"
    if bench.target.distinct:
        yield "the same rows under another key: the target is said to keep each row once"
    if bench.locks:
        yield "what a killed process leaves beside the target: the sink's lock had to be let go of with `close(False)`"


def _row(row: Row) -> FrozenRow:
    fault = check_row(row)
    if fault is not None:
        raise ValueError(fault)
    return freeze(row)
