"""The cases of the campaign: each is drawn from its seed and its number alone, and tallies what it came to.

Invariant: a case that fails says what was wrong and the one command that makes it again.
"""

from __future__ import annotations

import pickle
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.kit.postgres import Postgres, given
from tests.simulation import crashes, interposer, power, rebuilds, windows, zombies
from tests.simulation.child import Broken, Knobs
from tests.simulation.children import RUNNING, Place, killed_after
from tests.simulation.crashes import Cut, Uncut
from tests.simulation.interposer import Plan
from tests.simulation.pipelines import ALL, Pipeline

COUNTS: Mapping[str, int] = {"kills": 500, "power": 10_000, "full": 200, "eio": 50, "readonly": 50, "zombies": 200,
                             "rebuilds": 12}
CUTS_PER_STORY = 200
OUTSIDE_SECONDS_MAX = 0.15
CONTROLS: tuple[Broken, ...] = ("synchronous_normal", "synchronous_off", "sink_not_synced", "directory_not_synced")
CONTROL_CUTS = 200
KILLS_PER_REBUILD = 25


@dataclass
class Tally:
    """What cases came to: figures, windows reached, and what failed with the command that repeats it."""

    figures: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in another's."""
        self.figures.update(other.figures)
        self.reached.update(other.reached)
        self.failed += other.failed

    def cut(self, cut: Cut, command: str) -> None:
        """Take in one run that was cut."""
        self.figures.update(runs=1, without=cut.without, twice=cut.twice, differing=cut.differing_sinks,
                            unnoticed=cut.unnoticed, faults=len(cut.reached), died=int(cut.died))
        self.figures.update([f"said {error}" for error in cut.errors])
        self.reached.update(cut.reached)
        if cut.wrong:
            self.failed.append(f"{command}\n    " + "\n    ".join(cut.wrong[:5]))


class Bench:
    """Where one process of the campaign works: its folder, its library, and the uncut runs it has made."""

    def __init__(self, base: Path, *, keep: bool = False) -> None:
        self.base = base
        self.keep = keep
        self.library = interposer.compiled(base)
        self._uncut: dict[str, Uncut] = {}
        self._server: Postgres | None = None

    @property
    def server(self) -> Postgres:
        """The server of this process, started when it is first asked for."""
        if self._server is None:
            self._server = given().__enter__()
        return self._server

    def close(self) -> None:
        """End the server, if there is one."""
        if self._server is not None:
            self._server.close()

    def uncut(self, pipeline: Pipeline) -> Uncut:
        """The run that nothing happens to, made once, also for benches beside this one."""
        if pipeline.name not in self._uncut:
            shared = self.base.parent / f"uncut-{pipeline.name}.pickle"
            if not shared.exists():
                made = crashes.uncut(self.base / f"uncut-{pipeline.name}", pipeline, self.library)
                (self.base / shared.name).write_bytes(pickle.dumps(made))
                (self.base / shared.name).rename(shared)
            self._uncut[pipeline.name] = pickle.loads(shared.read_bytes())
        return self._uncut[pipeline.name]

    @contextmanager
    def place(self, name: str, pipeline: Pipeline, knobs: Knobs | None) -> Iterator[Place]:
        """A folder for one case."""
        place = Place(self.base / name, pipeline, self.library, knobs).made()
        try:
            yield place
        finally:
            if not self.keep:
                shutil.rmtree(place.base)


def drawn(number: int) -> Pipeline:
    """The pipeline of a case: one after the other."""
    return list(ALL.values())[number % len(ALL)]


def _plan(kind: interposer.Kind, known: Uncut, pipeline: Pipeline, chance: Random) -> Plan:
    """A window first, then a call in it."""
    places = windows.places(known.calls, known.sinks(pipeline))
    number, where = chance.choice(places[chance.choice(sorted(places))])
    return interposer.at(kind, known.calls, number, where)


def kill(bench: Bench, seed: str, number: int) -> Tally:
    """One run that is killed: every other time at exact calls, else at random times from outside."""
    chance, pipeline, tally = Random(f"kills/{seed}/{number}"), drawn(number // 2), Tally()
    known = bench.uncut(pipeline)
    exact = number % 2 == 0
    knobs = crashes.OFTEN if exact or chance.random() < 0.5 else None
    with bench.place(f"kill-{number}", pipeline, knobs) as place:
        if exact:
            more = chance.choice((0, 0, 0, 1, 1, 2, 3))
            plans = [_plan("kill", known, pipeline, chance)]
            plans += [Plan("kill", chance.randint(1, len(known.calls) // 2), chance.choice(windows.WHERE))
                      for _ in range(more)]
            cut = crashes.crash(place, plans, known)
        else:
            cut = _outside(place, known, chance)
    tally.cut(cut, command("kills", seed, number))
    return tally


def _outside(place: Place, known: Uncut, chance: Random) -> Cut:
    """Begin, wait until the run is about to write its first event, and kill it some time later."""
    cut = Cut()
    child = place.start(*RUNNING, plan=Plan("stop", chance.randint(1, zombies.begun_at(known)), "before"))
    if zombies.stopped(child):
        child.send_signal(signal.SIGCONT)
    crashes.killed(place, killed_after(child, chance.uniform(0, OUTSIDE_SECONDS_MAX)), cut)
    crashes.finish(place, known, cut)
    return cut


def fault(kind: interposer.Kind) -> Callable[[Bench, str, int], Tally]:
    """Cases of one kind of disk that fails."""

    def one(bench: Bench, seed: str, number: int) -> Tally:
        chance, pipeline, tally = Random(f"{kind}/{seed}/{number}"), drawn(number), Tally()
        known = bench.uncut(pipeline)
        plan = _sync(kind, known, pipeline, chance) if kind == "eio" else _plan(kind, known, pipeline, chance)
        with bench.place(f"{kind}-{number}", pipeline, crashes.OFTEN) as place:
            tally.cut(crashes.crash(place, [plan], known), command(kind, seed, number))
        return tally

    return one


def _sync(kind: interposer.Kind, known: Uncut, pipeline: Pipeline, chance: Random) -> Plan:
    """A sync of a file in a window that is drawn first, to fail."""
    by: dict[str, list[int]] = {}
    for call, at in windows.windows(known.calls, known.sinks(pipeline)):
        if call.op in ("sync", "sync_directory") and call.path:
            by.setdefault(f"{at['before']} {call.path}", []).append(call.number)
    return interposer.at(kind, known.calls, chance.choice(by[chance.choice(sorted(by))]), "before")


def zombie(bench: Bench, seed: str, number: int) -> Tally:
    """One zombie; every third time in the pipeline whose sink holds no lock."""
    chance, tally = Random(f"zombies/{seed}/{number}"), Tally()
    pipeline = ALL["loose"] if number % 3 == 0 else drawn(number)
    known = bench.uncut(pipeline)
    begun, ended = zombies.begun_at(known), zombies.sealed_at(known)
    places = windows.places([call for call in known.calls if begun < call.number <= ended], known.sinks(pipeline))
    at, where = chance.choice(places[chance.choice(sorted(places))])
    plan = interposer.at("stop", known.calls, at, "after" if where == "half" else where)
    with bench.place(f"zombie-{number}", pipeline, crashes.OFTEN) as place:
        found = zombies.woken(place, plan, known)
    tally.cut(found.cut, command("zombies", seed, number))
    tally.figures.update(found.said)
    return tally


def power_cuts(bench: Bench, seed: str, number: int, only: int | None = None) -> Tally:
    """One story and its cuts; every other story has faults of its own on the way."""
    chance, pipeline, tally = Random(f"power/{seed}/{number}"), drawn(number), Tally()
    known = bench.uncut(pipeline)
    plans: list[Plan] = []
    match number % 4:
        case 1:
            plans = [_plan("kill", known, pipeline, chance)]
        case 2:
            plans = [_plan("kill", known, pipeline, chance), Plan("kill", chance.randint(1, len(known.calls) // 2), "half")]
        case 3:
            kinds: tuple[interposer.Kind, ...] = ("eio", "dies", "full")
            kind = chance.choice(kinds)
            plans = [_plan(kind, known, pipeline, chance) if kind == "full" else _sync(kind, known, pipeline, chance)]
        case _:
            pass
    story = power.told(bench.base / f"power-{number}", pipeline, bench.library, plans=plans,
                       rows_per_commit=chance.choice((5, 10, 20)))
    places = power.positions(story, CUTS_PER_STORY, chance)
    if only is None:
        found = list(power.cut(story, places, f"{seed}/{number}"))
    else:
        found = [power.once(story, places[only], f"{seed}/{number}/{only}")]
    for place, one in enumerate(found):
        tally.figures.update(cuts=1, empty=int(one.found == 0), more=int(one.found > one.acknowledged),
                             whole=int(one.found == len(story.bodies)))
        if one.wrong:
            repeated = place if only is None else only
            tally.failed.append(f"{command('power', seed, number)} --cut {repeated}\n    " + "\n    ".join(one.wrong[:5]))
    if not bench.keep:
        shutil.rmtree(story.place.base)
    return tally


def controls(bench: Bench, seed: str) -> Tally:
    """What has to lose: with a part of what makes it durable taken away, cuts must show it."""
    tally = Tally()
    for broken in CONTROLS:
        story = power.told(bench.base / broken, ALL["linear"], bench.library, broken=broken)
        places = power.positions(story, CONTROL_CUTS, Random(f"{seed}/{broken}"))
        lost = sum(any(text.startswith("lost: ") for text in one.wrong)
                   for one in power.cut(story, places, seed, resuming=False))
        tally.figures[f"{broken} lost of {CONTROL_CUTS}"] = lost
        if not lost:
            tally.failed.append(f"{command('power', seed, 0)}: {broken} lost nothing: the harness is blind")
        shutil.rmtree(story.place.base)
    return tally


def rebuild(bench: Bench, seed: str, number: int) -> Tally:
    """So many kills of one rebuild: every other time in files, else on PostgreSQL."""
    tally, one = Tally(), command("rebuilds", seed, number)
    if number % 2 == 0:
        way = rebuilds.WAYS[number // 2 % len(rebuilds.WAYS)]
        story = rebuilds.told(bench.base / f"rebuild-{number}", bench.library, way)
        found = list(rebuilds.killed(story, rebuilds.drawn(story, KILLS_PER_REBUILD, f"{seed}/{number}")))
        names = {one.generation for one in found}
        tally.figures.update(kills=len(found), continued=sum(one.total < story.events for one in found))
        tally.figures[f"of files {' '.join(way)}".strip()] += len(found)
        wrong = [f"{one.position}: {text}" for one in found for text in one.wrong]
        wrong += [f"readers saw {sorted(names)}"] if len(names) > 2 else []
    else:
        wrong = _killed_on_postgres(f"{seed}/{number}", tally)
    tally.failed += [f"{one}\n    {text}" for text in wrong]
    return tally


def _killed_on_postgres(seed: str, tally: Tally) -> list[str]:
    from tests.kit.postgres import given
    from tests.postgres import test_rebuilds as killing

    wrong = []
    with given() as server:
        url = killing.ledger_of(server.fresh_database())
        for number in range(KILLS_PER_REBUILD):
            wrong += killing.killed(url, seed, number, killing.STATEMENTS)
    tally.figures.update({"kills": KILLS_PER_REBUILD, "on PostgreSQL": KILLS_PER_REBUILD})
    return wrong


KINDS: Mapping[str, Callable[[Bench, str, int], Tally]] = {
    "kills": kill, "power": power_cuts, "full": fault("full"), "eio": fault("eio"), "readonly": fault("readonly"),
    "zombies": zombie, "rebuilds": rebuild,
}  # fmt: skip


def command(kind: str, seed: str, number: int) -> str:
    """What makes a case again."""
    return f"python -m tests.simulation.campaign {kind} --seed {seed} --case {number}"
