"""A process of a played run: what the engine does with one instance of a sink, until it ends or dies.

Why played: the engine itself cannot be stopped between any two calls, and sees nothing of the target.

Invariants: calls come in the engine's order (open, make again what was not confirmed, flush by flush, close), and whatever
is seen on the way is compared with what the sink promises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from counterfoil.conformance import look
from counterfoil.conformance.log import Intent, Planned, Write
from counterfoil.conformance.story import Story, StoryEnds
from counterfoil.conformance.targets import same
from counterfoil.conformance.wellformed import answer_faults, prepared_faults
from engine.plugin_api import Claim, Prepared, Written


class Stop(NamedTuple):
    """Where a process ends: at a `window` of the write of this number (0: before any)."""

    number: int
    window: str


WINDOWS = {
    "opened": "the process dies with the sink open, before anything is on record",
    "prepared": "the process dies with write {0} prepared, before its intent is on record",
    "intended": "the process dies before write {0}, its intent on record",
    "torn": "the process dies amid write {0}: half of its bytes are there",
    "garbled": "the process dies amid write {0}: as many bytes are there, but not those",
    "written": "the process dies after write {0}, before its confirmation is on record",
    "unheard": "the process dies after write {0}, before any confirmation of its flush is on record",
    "confirmed": "the process dies after the confirmation of write {0}",
    "stopped": "the process is asked to stop after write {0}: `close(False)`",
}


class Died(Exception):
    """The process has come to where it had to stop."""


def live(story: Story, stop: Stop | None = None) -> None:
    """One process of the story, to the run's end or to its own."""
    process = Process(story, stop)
    try:
        process.open()
        process.go_on()
    except Died:
        story.bench.kill(process.sink)
        if stop is not None and stop.window in ("torn", "garbled"):
            process.tear(garbled=stop.window == "garbled")


class Process:
    """One instance, and what the story has it do."""

    def __init__(self, story: Story, stop: Stop | None = None) -> None:
        self.sink = story.bench.instance()
        self._story = story
        self._log = story.log
        self._stop = stop
        self._planned: list[Planned] = []

    def open(self) -> None:
        """Open the sink under the next epoch, and look at what that did."""
        before = self._story.target.read()
        claim = self.claim()
        self._story.ask("goes-through", "`open` to return", lambda: self.sink.open(claim))
        look.opened(self._story, claim, before, self.offset())

    def claim(self) -> Claim:
        """Take the next epoch."""
        self._log.epoch += 1
        claim = self._log.claim()
        begun = f"begun=True, offset={claim.offset}" if claim.begun else "begun=False"
        self._story.steps.append(f"an instance opens the sink: run {claim.run!r}, epoch {claim.epoch}, {begun}")
        return claim

    def go_on(self) -> None:
        """Make again what was not confirmed, then what is left of the run, and close."""
        self._reach(0, "opened")
        again = self._log.unconfirmed()
        if again:
            self.perform(self.plan([intent.write for intent in again]))
        for flush in self._story.flushes:
            if flush[0].number not in self._log.intents:
                planned = self.plan(flush)
                self._reach(flush[0].number, "prepared")
                self.perform(planned)
                self._stopping(flush)
        self._story.steps.append("`close(True)`")
        self._story.ask("goes-through", "`close(True)` to return", lambda: self.sink.close(True))

    def plan(self, writes: Sequence[Write]) -> list[Planned]:
        """Prepare writes in order, and look at what that did."""
        offset, before = self.offset(), self._story.target.read() if self._story.watched else b""
        planned, at = [], offset
        for write in writes:
            prepared = self.prepare(write)
            planned.append(Planned(Intent(write, self._log.key(write.number), at, prepared.content_sha256), prepared))
            at = None if at is None else at + len(prepared.content)
        if self._story.watched and not same(before, self._story.target.read()):
            self._story.broken("prepare-touches-nothing", "the target as it was before", "it changed")
        if self.offset() != offset:
            self._story.broken("prepare-touches-nothing", f"offset {offset} as before", f"offset {self.offset()}")
        return planned

    def prepare(self, write: Write) -> Prepared:
        """One write's rows, encoded."""
        self._story.steps.append(f"write {write.number} ({len(write.rows)} rows) is prepared")
        prepared = self._story.ask("goes-through", "`prepare` to return", lambda: self.sink.prepare([*write.rows]))
        for fault in prepared_faults(prepared, len(write.rows)):
            self._story.broken("prepare-accounts", *fault)
            raise StoryEnds
        return prepared

    def offset(self) -> int | None:
        """Where the next write begins, of the type that the delivery demands."""
        given: object = self._story.ask("goes-through", "`offset` to return", self.sink.offset)
        if self._story.bench.truncatable and type(given) is int:
            return given
        if given is None and not self._story.bench.truncatable:
            return None
        kind = "an int of a sink that is" if self._story.bench.truncatable else "None of a sink that is not"
        self._story.broken("offset", f"{kind} truncatable", repr(given))
        raise StoryEnds

    def perform(self, planned: list[Planned]) -> None:
        """Put the intents on record, then make each write and confirm it."""
        for intent, _ in planned:
            self._intend(intent)
        heard = dict(self._log.confirmed)
        for intent, prepared in planned:
            number = intent.write.number
            self._reach(number, "intended")
            self._planned = [Planned(intent, prepared)]
            written = self.write(intent, prepared)
            if self._stop == (number, "unheard"):
                self._log.confirmed = heard
            self._reach(number, "torn", "garbled", "written", "unheard")
            self._log.confirmed[number] = written
            self._reach(number, "confirmed")

    def _intend(self, intent: Intent) -> None:
        """An intent goes on record; one that is there already has to be the same."""
        number = intent.write.number
        before = self._log.intents.get(number, intent)
        if before.content_sha256 != intent.content_sha256:
            self._story.broken("prepare-is-deterministic", f"write {number} prepared again with the hash that was intended, "
                               f"{before.content_sha256}", intent.content_sha256)
        self._log.intents[number] = intent

    def write(self, intent: Intent, prepared: Prepared) -> Written:
        """Make one write, and look at what that did."""
        story, number = self._story, intent.write.number
        before = story.target.read() if story.watched else b""
        story.steps.append(f"write {number} is made under key {intent.key}")
        written = story.ask("goes-through", "`write` to return", lambda: self.sink.write(prepared, intent.key))
        self._log.made[number] += 1
        for fault in answer_faults(written, prepared):
            story.broken("answer", *fault)
            raise StoryEnds
        look.refused(story, intent, prepared, written)
        if intent.offset is not None:
            look.appended(story, intent.offset, prepared, written, self.offset())
        if story.watched:
            look.added_to(story, intent, before)
        return written

    def tear(self, *, garbled: bool) -> None:
        """Make of the last write one that did not come to its end."""
        target = self._story.target
        held = target.read()
        intent, prepared = self._planned[0]
        if target.put is not None and isinstance(held, bytes) and intent.offset is not None:
            size = len(prepared.content)
            target.put(held[: intent.offset] + (b"\0" * size if garbled else prepared.content[: size // 2]))

    # --- where it ends -------------------------------------------------------------------------------------------

    def _reach(self, number: int, *windows: str) -> None:
        if self._stop is not None and self._stop.number == number and self._stop.window in windows:
            self._story.steps.append(WINDOWS[self._stop.window].format(number))
            raise Died

    def _stopping(self, flush: Sequence[Write]) -> None:
        if self._stop is None or self._stop.window != "stopped" or self._stop.number not in [one.number for one in flush]:
            return
        story = self._story
        story.steps.append(WINDOWS["stopped"].format(self._stop.number))
        before = story.target.read()
        story.ask("goes-through", "`close(False)` to return", lambda: self.sink.close(False))
        if not story.bench.truncatable and not same(before, story.target.read()):
            story.broken("stopping-adds-nothing", "the target as it was before", "it changed")
        raise Died
