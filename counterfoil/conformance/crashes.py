"""Crash windows: an uncut run, then the same run cut at every window of every write, and what the target holds then."""

from __future__ import annotations

from collections.abc import Sequence

from counterfoil.conformance.log import Flushes, Write
from counterfoil.conformance.process import Process, Stop, live
from counterfoil.conformance.story import Bench, Reference, Story, outcome, told
from counterfoil.conformance.targets import Held, counted, differing, same
from engine.rows import FrozenRow

_OF_A_WRITE = ("intended", "written", "confirmed")
_TORN = ("torn", "garbled")
_OF_A_FLUSH = ("prepared", "stopped")
_BEHIND_ANOTHER = ("unheard",)


def uncut(bench: Bench, flushes: Flushes) -> Reference | None:
    """A run from its beginning to its end, closely watched; None when it does not go through."""
    references: list[Reference] = []

    def play(story: Story) -> None:
        story.watched = True
        live(story)
        references.append(story.reference())

    bench.tell(flushes, play)
    return references[0] if references else None


def examine_preparing(bench: Bench, flushes: Flushes, rows: Sequence[FrozenRow], reference: Reference) -> None:
    """The same rows again by other instances: in the same writes, all in one, and each alone."""

    def again(story: Story) -> None:
        live(story)
        for number, content in story.reference().contents.items():
            if content != reference.contents[number]:
                story.broken("prepare-is-deterministic", f"write {number} as another instance has prepared it, "
                             f"{reference.contents[number]}", content)

    bench.tell(flushes, again)
    found: list[set[int]] = []

    def together(story: Story) -> None:
        process = Process(story)
        process.open()
        found.append({refusal.ordinal for refusal in process.prepare(Write(1, tuple(rows))).refused})

    def alone(story: Story) -> None:
        process = Process(story)
        process.open()
        each = [process.prepare(Write(number, (row,))) for number, row in enumerate(rows)]
        refused = {place for place, prepared in enumerate(each) if prepared.refused}
        if found and refused != found[0]:
            story.broken("refusals-are-stable", f"rows {sorted(found[0])} refused, as when all are in one write",
                         f"{sorted(refused)}, each in a write of its own")

    bench.tell((), together)
    bench.tell((), alone)


def examine_crashes(bench: Bench, flushes: Flushes, reference: Reference) -> None:
    """Every window of every write; a second death amid the same write made again; and the end of the run."""
    tears = bench.truncatable and bench.target.put is not None and isinstance(reference.held, bytes)
    for number, is_first in ((write.number, write is flush[0]) for flush in flushes for write in flush):
        windows = _OF_A_WRITE + (_TORN if tears else ()) + (_OF_A_FLUSH if is_first else _BEHIND_ANOTHER)
        for window in windows:
            _cut(bench, flushes, reference, Stop(number, window))
        _cut(bench, flushes, reference, Stop(number, "written"), Stop(number, "written"))
    _cut(bench, flushes, reference, Stop(0, "opened"))
    _cut(bench, flushes, reference, Stop(0, "opened"), Stop(0, "opened"))
    bench.tell(flushes, lambda story: _finished(story, reference))


def _cut(bench: Bench, flushes: Flushes, reference: Reference, *stops: Stop) -> None:
    def play(story: Story) -> None:
        for stop in stops:
            live(story, stop)
        live(story)
        story.ends_as(reference)

    bench.tell(flushes, play)


def _finished(story: Story, reference: Reference) -> None:
    """Finished, and killed before the run was sealed: there is nothing to do, and it is done again."""
    live(story)
    story.steps.append("the process dies before the run is sealed")
    live(story)
    story.ends_as(reference)


def examine_empty(bench: Bench) -> None:
    """A run without rows, finished and killed before its seal."""

    def play(story: Story) -> None:
        live(story)
        held = story.target.read()
        story.steps.append("the process dies before the run is sealed")
        live(story)
        if not same(held, story.target.read()):
            story.broken("resume-equals-uncut", *differing(held, story.target.read()))

    bench.tell((), play)


def examine_keys(bench: Bench, rows: Sequence[FrozenRow]) -> None:
    """The same rows again, under another key."""
    if bench.target.distinct:
        return
    first = Write(1, tuple(rows[:2]))

    def play(story: Story) -> None:
        process = Process(story)
        process.open()
        process.perform(process.plan([first]))
        once = counted(story.target.read()).total()
        process.perform(process.plan([first._replace(number=2)]))
        twice = counted(story.target.read()).total()
        if not bench.truncatable and twice != 2 * once:
            story.broken("key-is-the-write", f"{2 * once} records after the same rows under another key (unless the "
                         "target is said to be `distinct`)", str(twice))

    bench.tell(((first,),), play)


def examine_beginning(bench: Bench, earlier: Flushes, later: Flushes) -> tuple[str, Reference | None]:
    """What a new run does with what an earlier one, resumed once, has left; and what the two come to together."""
    alone = uncut(bench, later)
    answers: list[tuple[str, Reference | None]] = []

    def play(story: Story) -> None:
        base = _leave(story)
        new = Story(bench, later, run="later", steps=tuple(story.steps))
        new.watched = True
        process = Process(new)
        if _is_refused(process, new, base):
            answers.append(("refuses", None))
            return
        process.go_on()
        answers.append((_beginning(new, base, alone), new.reference()))

    bench.tell(earlier, play)
    return answers[0] if answers else ("replaces", None)


def _leave(story: Story) -> Held:
    """What the earlier run leaves: it was cut once and resumed, so its epoch is 2."""
    live(story, Stop(1, "written"))
    live(story)
    story.bench.bury()
    return story.target.read()


def _is_refused(process: Process, new: Story, base: Held) -> bool:
    """Whether the new run is not let in; then it is not under any other epoch either, and changes nothing."""
    for _ in range(3):
        claim = process.claim()
        refusal = outcome(lambda claim=claim: process.sink.open(claim))  # type: ignore[misc]
        if refusal is None and claim.epoch > 1:
            new.broken("new-runs-begin", "a new run to be let in, or not, whatever its epoch", f"it let in at {claim.epoch}")
        if refusal is None:
            return False
        new.steps.append(f"it is refused: {told(refusal)}")
        if not same(base, new.target.read()):
            new.broken("new-runs-begin", "a refused run to change nothing", "another target")
    return True


def _beginning(new: Story, base: Held, alone: Reference | None) -> str:
    held = new.target.read()
    if alone is not None and same(held, alone.held):
        return "replaces"
    kept = isinstance(held, bytes) and isinstance(base, bytes) and held.startswith(base) and len(held) > len(base)
    before, after = counted(base), counted(held)
    taken = sum(len(write.rows) for flush in new.flushes for write in flush)
    if not kept and (before - after or after.total() != before.total() + taken or isinstance(held, bytes)):
        new.broken("new-runs-begin", "only its own rows, or these after what was there before",
                   f"{before.total()} records before, {after.total()} after {taken} rows more")
    return "keeps"


def examine_crashes_over(bench: Bench, earlier: Flushes, later: Flushes, reference: Reference) -> None:
    """The later run is cut, over what the earlier one has left."""
    numbers = [write.number for flush in later[:2] for write in flush]
    for stop in [Stop(0, "opened"), *(Stop(n, window) for n in numbers for window in ("intended", "written"))]:
        def play(story: Story, stop: Stop = stop) -> None:
            _leave(story)
            new = Story(bench, later, run="later", steps=tuple(story.steps))
            live(new, stop)
            live(new)
            new.ends_as(reference)

        bench.tell(earlier, play)

