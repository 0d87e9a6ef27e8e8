"""One case, examined: run uncut, then with faults, each time carried on until it is sealed; then held against the oracle.

What must hold: every event is one that the oracle allows there; the ends are those it predicts where no order decides; a
cut run comes to what the uncut one came to (law P3): the very same where one worker did the work and no timer fired, the
same ends where no order decides; sinks have the rows of confirmed writes, each once; nothing finished is done again (G13).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from random import Random
from traceback import format_exc
from typing import NamedTuple

from ledger.replay import replay
from ledger.store import Store
from tests.ledger.dump import dump
from tests.simulation.drawn import Case
from tests.simulation.predicted_alone import Prediction, predict, settled, told
from tests.simulation.predicted_merges import row_key
from tests.simulation.simulated_world import NO_FAULT, RUN, Fault, World
from tests.simulation.sometimes import seen

LIVES_MAX = 80

Script = tuple[Fault, ...]
"""The faults of the first processes, one each."""


class Report(NamedTuple):
    """What came of a case: what is wrong, and how often each interesting case was seen."""

    seed: int
    wrong: list[str]
    seen: Counter[str]


class Examination:
    """Of one case. `opened` gives each process its store, when that is not in memory."""

    def __init__(self, case: Case, opened: Callable[[], Store] | None = None) -> None:
        self._case = case
        self._opened = opened
        self._runs = count(1)
        self._last: World | None = None
        self._no_order = settled(case.pipeline) and not case.troubled
        self.wrong: list[str] = []
        self.seen: Counter[str] = Counter()
        self.uncut: World | None = None

    def report(self) -> Report:
        """What it came to; no store is needed any more."""
        for world in (self.uncut, self._last):
            if world is not None:
                world.store.close()
        return Report(self._case.seed, self.wrong, self.seen)

    def begin(self, *, replaying: bool = False) -> World | None:
        """The uncut run; None where it is wrong already. `replaying`: what is stored is folded from scratch every time."""
        uncut = self._run((), mended=True, stored=self._replay if replaying else None)
        if not self.wrong:
            self.uncut = uncut
            self._predict(uncut)
            self._again(uncut)
        return self.uncut

    def cut(self, scripts: Iterable[Script], *, again: bool = True) -> None:
        """The same with faults; `again`: the last of these runs is folded from scratch, too."""
        uncut, last = self.uncut, None
        if uncut is None:
            return
        for script in scripts:
            last = self._run(script)
            if not last.wrong and last.sealed:
                self._compare(uncut, last, script)
        if again and last is not None and last.sealed:
            self._again(last)

    # --- runs ----------------------------------------------------------------------------------------------------

    def _run(self, script: Script, *, mended: bool = False, stored: Callable[[World], None] | None = None) -> World:
        """One process after the other until the run is sealed: first those with a fault, then others."""
        if self._last is not None and self._last is not self.uncut:
            self._last.store.close()
        run = RUN if self._opened is None else f"{self._case.seed}-{next(self._runs)}"
        world = World(self._case, mended=mended, stored=stored or (lambda world: None), opened=self._opened, run=run)
        self._last = world
        faults = list(reversed(script))
        while not world.sealed and not world.wrong and len(world.lives) < LIVES_MAX:
            try:
                world.live(faults.pop() if faults else NO_FAULT)
            except Exception:
                world.complain(format_exc())
        self.seen.update(seen(world))
        self._ended(world, script)
        return world

    def _ended(self, world: World, script: Script) -> None:
        """What holds of every run that came to its end."""
        if world.wrong:
            self._say(script, world.wrong)
        elif not world.sealed or not world.follower.sealed:
            self._say(script, f"not sealed after {len(world.lives)} processes: {[life.ended for life in world.lives]}")
        else:
            for name, artifact in world.artifacts.items():
                right = world.follower.written[name]
                if artifact.rows() != right:
                    self._say(script, f"sink {name} has {artifact.rows()}, expected {right}")
            for text in world.overslept():
                self._say(script, text)

    def _say(self, script: Script, text: str) -> None:
        told_script = " ".join(f"{fault.kind}@{fault.at}" for fault in script) or "uncut"
        self.wrong.append(f"[{told_script}] {text.strip()}")

    # --- what must hold ------------------------------------------------------------------------------------------

    def _predict(self, uncut: World) -> None:
        """Where no order decides, the oracle knows the ends without the log."""
        case = self._case
        if self._no_order and (case.workers == 1 or not case.kills):
            self.seen["predicted without the log"] += 1
            machine = predict(case.pipeline, case.answers, case.rows, case.seed)
            self._expect(told(machine), told(uncut.follower.machine), ())

    def _expect(self, right: Prediction, found: Prediction, script: Script) -> None:
        for name in right._fields:
            if getattr(right, name) != getattr(found, name):
                self._say(script, f"{name}: expected {getattr(right, name)}, found {getattr(found, name)}")

    def _again(self, world: World) -> None:
        """P4: to resume a sealed run is nothing. P2: folded from scratch, by every law and deep, it is the state that was
        folded commit by commit."""
        appends = world.store.appends
        if world.live().receipt is None or world.store.appends != appends or world.wrong:
            self._say((), f"P4: resuming a sealed run is not nothing: {world.lives[-1].ended}")
        self._replay(world)

    def _replay(self, world: World) -> None:
        replayed = replay(world.store, world.run, deep=True)
        if not replayed.verdict.lawful:
            self._say((), str(replayed.verdict.findings[0]))
        if dump(replayed.state) != dump(world.state):
            self._say((), "P2: folded from scratch is not folded step by step")

    def _compare(self, uncut: World, world: World, script: Script) -> None:
        """P3: a run that was cut comes to what the uncut one came to."""
        case = self._case
        if world.follower.given_up and not case.kills:
            self.seen["three processes died in a step that was not at fault"] += 1
        elif case.workers == 1 and not case.kills and not (timed(uncut) or timed(world) or torn(world)):
            self.seen["compared exactly"] += 1
            self._same(uncut, world, script)
        elif self._no_order and not case.kills:
            self.seen["compared without order"] += 1
            self._expect(told(uncut.follower.machine), told(world.follower.machine), script)

    def _same(self, uncut: World, world: World, script: Script) -> None:
        ends, expected = ends_of(world), ends_of(uncut)
        if ends != expected:
            differing = [(token, expected.get(token), ends.get(token)) for token in sorted(ends.keys() | expected.keys())
                         if ends.get(token) != expected.get(token)]
            self._say(script, f"P3: ends differ (token, uncut, cut): {differing[:6]}")
        for name, artifact in world.artifacts.items():
            rows, expected_rows = artifact.rows(), uncut.artifacts[name].rows()
            if name in refused_into(world):
                rows, expected_rows = sorted(rows, key=row_key), sorted(expected_rows, key=row_key)
            if rows != expected_rows:
                self._say(script, f"P3: sink {name} has {rows}, uncut {expected_rows}")


def ends_of(world: World) -> dict[str, tuple[str | None, str, str]]:
    """Each token's outcome, its sink, its reason."""
    return {token.id: (token.outcome, token.sink, token.reason) for token in world.follower.machine.tokens.values()}


def timed(world: World) -> bool:
    """Whether time decided anything."""
    return world.follower.timers_fired > 0


def torn(world: World) -> bool:
    """Whether a process was interrupted in the midst of a decision: at a place where the uncut run makes no commit."""
    return any(life.struck and life.fault.kind in ("key", "tick") for life in world.lives)


def refused_into(world: World) -> frozenset[str]:
    """Sinks that got rows which others had refused. Those come with the writes, so that the rhythm of commits says where
    they stand among rows that came by other ways."""
    return frozenset(token.sink for token in world.follower.machine.tokens.values() if token.via == "refused")


# --- faults ----------------------------------------------------------------------------------------------------------


def every_commit(uncut: World) -> Iterator[Script]:
    """Death before each append, and after it before anyone heard."""
    for at in range(1, uncut.lives[0].appends + 1):
        yield (Fault("append_lost", at),)
        yield (Fault("append_unheard", at),)


def at_sinks(uncut: World) -> Iterator[Script]:
    """Death, and a sink that fails: before each write, amid it and after it, when it is opened and when it is closed."""
    for moment, most in sorted(uncut.lives[0].moments.items()):
        for at in range(1, most + 1):
            yield from ((Fault(f"{who}_{moment}", at),) for who in ("write", "sink"))


def drawn_script(uncut: World, chance: Random) -> Script:
    """Faults of one to four processes, in any way and at any time that the uncut run had."""
    return tuple(_fault(uncut, chance) for _ in range(chance.choice((1, 1, 1, 2, 3, 4))))


def _fault(uncut: World, chance: Random) -> Fault:
    life = uncut.lives[0]
    kinds = [("append_lost", life.appends), ("append_unheard", life.appends), ("append_refused", life.appends),
             ("append_doubtful", life.appends), ("call", life.calls), ("stop", life.looks), ("stop", life.looks),
             ("key", life.keys), ("tick", life.ticks)]
    kinds += [(f"{who}_{moment}", most) for who in ("write", "sink") for moment, most in sorted(life.moments.items())]
    kind, most = chance.choice([one for one in kinds if one[1]])
    return Fault(kind, 1 + int(most * chance.random() ** 1.5))
