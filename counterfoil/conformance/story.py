"""A story: one run against the target, through as many processes as it takes, told in steps.

Why instances for processes: what a process knew dies with it, and only the target and the ledger remain; an instance that
is not used any more, and not closed, leaves behind what a killed process leaves.

Invariants: a finding carries the steps that led to it; when a story is over everything is closed and the target empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from counterfoil.conformance.findings import Finding
from counterfoil.conformance.log import Flushes, Log
from counterfoil.conformance.targets import Held, Target, counted, differing, same
from engine.plugin_api import Delivery, Sink

T = TypeVar("T")


class StoryEnds(Exception):
    """What was found makes it senseless to go on."""


class Bench:
    """The sink's factory and its target, and what was found so far.

    `locks` is set once it is known that an instance that is not closed keeps the next one out.
    """

    def __init__(self, make: Callable[[], Sink], target: Target, delivery: Delivery) -> None:
        self.target = target
        self.delivery = delivery
        self.locks = False
        self.findings: list[Finding] = []
        self._make = make
        self._living: list[Sink] = []

    @property
    def truncatable(self) -> bool:
        """Whether the sink knows offsets."""
        return self.delivery == "truncatable"

    def instance(self) -> Sink:
        """The sink of a new process."""
        sink = self._make()
        self._living.append(sink)
        return sink

    def kill(self, sink: Sink) -> None:
        """End a process: it closes nothing. Only a lock has to be let go of, which here would outlive it."""
        if not self.locks:
            return
        held = self.target.read()
        outcome(lambda: sink.close(False))
        if self.target.put is not None and isinstance(held, bytes):
            self.target.put(held)

    def bury(self) -> None:
        """Close whatever is still open."""
        for sink in self._living:
            outcome(lambda sink=sink: sink.close(False))  # type: ignore[misc]
        self._living.clear()

    def tell(self, flushes: Flushes, play: Callable[[Story], None]) -> None:
        """Play a story against an empty target."""
        self.target.empty()
        try:
            play(Story(self, flushes))
        except StoryEnds:
            return
        finally:
            self.bury()
            self.target.empty()


class Reference(NamedTuple):
    """What an uncut run comes to: what the target holds, what each write added to it, what each was prepared as."""

    held: Held
    segments: Mapping[int, Counter[bytes]]
    contents: Mapping[int, str]


class Story:
    """One run, its record, and the steps so far. `segments` is filled as long as it is `watched`."""

    def __init__(self, bench: Bench, flushes: Flushes, *, run: str = "run", steps: tuple[str, ...] = ()) -> None:
        self.bench = bench
        self.target = bench.target
        self.flushes = flushes
        self.log = Log(run)
        self.watched = False
        self.segments: dict[int, Counter[bytes]] = {}
        self.steps: list[str] = [*steps]

    def broken(self, promise: str, expected: str, found: str) -> None:
        """Note a finding."""
        self.bench.findings.append(Finding(promise, expected, found, tuple(self.steps)))

    def ask(self, promise: str, expected: str, call: Callable[[], T]) -> T:
        """What the sink gives; what it raises instead is a finding and the end of the story."""
        try:
            return call()
        except (Exception, SystemExit) as error:
            self.broken(promise, expected, told(error))
            raise StoryEnds from error

    def reference(self) -> Reference:
        """What this story has come to."""
        contents = {number: intent.content_sha256 for number, intent in self.log.intents.items()}
        return Reference(self.target.read(), dict(self.segments), contents)

    def ends_as(self, uncut: Reference) -> None:
        """Compare with what an uncut run has come to, as far as the delivery promises it."""
        held = self.target.read()
        if self.bench.delivery == "at_least_once":
            self._repeats(counted(uncut.held), counted(held), uncut)
        elif not same(uncut.held, held):
            self.broken("resume-equals-uncut", *differing(uncut.held, held))

    def _repeats(self, expected: Counter[bytes], found: Counter[bytes], uncut: Reference) -> None:
        again: Counter[bytes] = Counter()
        for number, times in self.log.made.items():
            for _ in range(times - 1):
                again += uncut.segments.get(number, Counter())
        missing, more = expected - found, found - expected - again
        if missing or more:
            shown = [one.decode(errors="replace")[:100] for one in [*missing, *more][:3]]
            self.broken("repeats-are-those-made-again",
                        f"{expected.total()} records, and at most the {again.total()} of writes that were made again",
                        f"{found.total()}: {missing.total()} missing, {more.total()} too many, such as {', '.join(shown)}")


def outcome(call: Callable[[], object]) -> BaseException | None:
    """What a call raises, if it does."""
    try:
        call()
    except (Exception, SystemExit) as error:
        return error
    return None


def told(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}"
