"""What a sink has to refuse: an artifact that is not as it was confirmed, an older writer, a write after the close."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from counterfoil.conformance.findings import Fence
from counterfoil.conformance.log import Flushes, Planned
from counterfoil.conformance.process import Process, Stop, live
from counterfoil.conformance.story import Bench, Reference, Story, outcome, told
from counterfoil.conformance.targets import Held, same

_TAIL = b"\0 past the end"


def examine_fence(bench: Bench, flushes: Flushes, reference: Reference) -> tuple[Fence, bool]:
    """An instance of an older epoch that writes while a newer has the sink open, and one that opens it too late."""
    answers: list[Fence] = []
    late: list[bool] = []

    def play(story: Story) -> None:
        older = Process(story)
        older.open()
        older.perform(older.plan(flushes[0]))
        stale = older.plan(flushes[1])
        newer = Process(story)
        claim = newer.claim()
        before = story.target.read()
        refusal = outcome(lambda: newer.sink.open(claim))
        if refusal is None:
            answers.append("epoch" if _shut_out(story, older, newer, stale[0], reference) else "none")
            return
        bench.locks = True
        answers.append("lock")
        story.steps.append(f"it is refused: {told(refusal)}")
        _unchanged(story, before, "a second writer")
        _locked(story, older, stale, reference)

    bench.tell(flushes, play)
    bench.tell(flushes, lambda story: late.append(_late(story)))
    return answers[0] if answers else "none", late == [True]


def _locked(story: Story, older: Process, stale: list[Planned], reference: Reference) -> None:
    """Who holds the lock goes on; when it is gone the next one does."""
    story.steps.append("the one that has it open goes on")
    older.perform(stale)
    story.bench.kill(older.sink)
    story.steps.append("it dies")
    live(story)
    story.ends_as(reference)


def _shut_out(story: Story, older: Process, newer: Process, stale: Planned, reference: Reference) -> bool:
    """Whether the older one's writes are refused, before the newer one has written and after."""
    if not _refused(story, older, stale):
        return False
    newer.go_on()
    story.ends_as(reference)
    return _refused(story, older, stale)


def _refused(story: Story, older: Process, stale: Planned) -> bool:
    """Whether the older one's write raises; if it does it has to change nothing."""
    before = story.target.read()
    story.steps.append(f"the instance of epoch 1 makes write {stale.intent.write.number}")
    refusal = outcome(lambda: older.sink.write(stale.prepared, stale.intent.key))
    if refusal is None:
        return False
    story.steps.append(f"it is refused: {told(refusal)}")
    _unchanged(story, before, "an older writer")
    return True


def _late(story: Story) -> bool:
    """Whether an instance is refused that opens the sink as of epoch 1 when epoch 2 has come and gone."""
    number = story.flushes[0][-1].number
    live(story, Stop(number, "confirmed"))
    known = story.log.claim()
    known = known._replace(pieces=tuple(known.pieces), is_held=lambda: False)
    live(story)
    story.bench.bury()
    before = story.target.read()
    late = Process(story)
    planned = story.flushes[1][0]

    def write() -> None:
        late.sink.open(known)
        late.sink.write(late.sink.prepare([*planned.rows]), story.log.key(planned.number))

    return outcome(write) is not None and same(before, story.target.read())


def _unchanged(story: Story, before: Held, who: str) -> None:
    if not same(before, story.target.read()):
        story.broken("shut-out-changes-nothing", f"{who} that is refused to change nothing", "another target")


def examine_changed(bench: Bench, flushes: Flushes, reference: Reference) -> None:
    """Confirmed bytes that were changed, or are gone, when a resume opens the sink."""
    number = flushes[1][0].number
    damages: Mapping[str, Callable[[bytes], bytes]] = {
        "its first byte is changed": lambda good: bytes([good[0] ^ 1]) + good[1:],
        "its last confirmed byte is changed": lambda good: good[:-1] + bytes([good[-1] ^ 1]),
        "its last confirmed byte is changed, and there is more past the end":
            lambda good: good[:-1] + bytes([good[-1] ^ 1]) + _TAIL,
        "its last confirmed byte is cut off": lambda good: good[:-1],
        "it is emptied": lambda good: b"",
    }
    for what, damage in damages.items():
        bench.tell(flushes, lambda story, what=what, damage=damage:  # type: ignore[misc]
                   _damaged(story, Stop(number, "confirmed"), what, damage, reference))


def _damaged(story: Story, stop: Stop, what: str, damage: Callable[[bytes], bytes], reference: Reference) -> None:
    live(story, stop)
    story.bench.bury()
    good, put = story.target.read(), story.target.put
    if put is None or not isinstance(good, bytes) or not good:
        return
    bad = damage(good)
    put(bad)
    story.steps.append(f"the target is changed: {what}")
    process = Process(story)
    claim = process.claim()
    refusal = outcome(lambda: process.sink.open(claim))
    if not isinstance(refusal, OSError):
        story.broken("changed-is-refused", "an OSError", "none" if refusal is None else told(refusal))
        return
    story.steps.append(f"it is refused: {told(refusal)}")
    if not same(bad, story.target.read()):
        story.broken("changed-is-refused", "the target to be left as it is", "another")
    story.steps.append("the target is put right again")
    put(good)
    _goes_on(story, process, reference)


def _goes_on(story: Story, failed: Process, reference: Reference) -> None:
    """The next one opens and goes on, though nobody has closed the one that failed; to close that one is harmless too."""
    next_one = Process(story)
    claim = next_one.claim()
    refusal = outcome(lambda: next_one.sink.open(claim))
    if refusal is not None:
        story.broken("failed-open-lets-go", "the next instance to open it", told(refusal))
        return
    next_one.go_on()
    story.ends_as(reference)
    refusal = outcome(lambda: failed.sink.close(False))
    if refusal is not None:
        story.broken("closing-again", "`close(False)` after a failed `open` to return", told(refusal))


def examine_closing(bench: Bench, flushes: Flushes) -> None:
    """`close(False)` after `close(True)` and after itself; a write after either."""
    for finished in (True, False):
        def play(story: Story, finished: bool = finished) -> None:
            process = Process(story)
            process.open()
            process.perform(process.plan(flushes[0]))
            (planned, *_) = process.plan(flushes[1])
            story.steps.append(f"`close({finished})`")
            story.ask("goes-through", f"`close({finished})` to return", lambda: process.sink.close(finished))
            before = story.target.read()
            story.steps.append("`close(False)`")
            story.ask("closing-again", "`close(False)` to return", lambda: process.sink.close(False))
            if not same(before, story.target.read()):
                story.broken("closing-again", "the target as it was", "another")
            story.steps.append(f"write {planned.intent.write.number} is made")
            if outcome(lambda: process.sink.write(planned.prepared, planned.intent.key)) is None:
                story.broken("closed-takes-nothing", "an error", "none")
            elif not same(before, story.target.read()):
                story.broken("closed-takes-nothing", "the target as it was", "another")

        bench.tell(flushes, play)
