"""A world in which processes run a case and die: what they leave behind is the store and the artifacts.

A process has at most one fault. However it ends (it dies, it stops, its store or a sink or its source fails), the next one
finds what was durable and nothing else.

Invariants: a process that died changes nothing any more; time goes on while nobody runs, and run time does not count it;
what the store holds is folded, and followed by the oracle, after every append.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import lru_cache
from io import StringIO
from typing import NamedTuple

from engine import binding, pipeline_file
from engine import graph as graphs
from engine import run as running
from engine.executors.calls import Called
from engine.feed import Broken, Exhausted
from engine.loop import Hooks
from engine.plugin_api import RowFault, SourceRow
from engine.plugins import Catalog
from engine.workers import Workers
from ledger import events as e
from ledger import ids, reader, registry
from ledger.errors import LedgerUnavailable, RunIncomplete
from ledger.fold import State, apply
from ledger.laws import LawBroken
from ledger.memory_store import MemoryStore
from ledger.store import Part, Store
from tests.kit.pipelines import PATH
from tests.kit.ports import EPOCH_US, SimulatedTime
from tests.kit.shuffled import Fate, ShuffledWorkers
from tests.kit.twins import InlineWorkers, ListSource, Pause, StepFeed
from tests.simulation.drawn import Case, Item
from tests.simulation.drawn_text import text_of
from tests.simulation.predicted_by_log import Follower, deadline_of
from tests.simulation.simulated_plugins import LEDGER, RUN, Plugins
from tests.simulation.simulated_sinks import Artifact, SimulatedSink

DOWN_MS = 600_000
SETTINGS = "name: simulated"
"""What the record keeps as the file's text, and a resume reads again to compare: short, for there are very many resumes."""
LOOKS_MAX = 20_000


class Died(KeyboardInterrupt):
    """The process is gone. (No plugin's failure: the engine lets a KeyboardInterrupt through.)"""


class Fault(NamedTuple):
    """What goes wrong in a process, at the `at`-th occasion (from 1).

    `append_*`: the store; `write_*`: the process dies at a sink; `sink_*`: the sink fails there, and the process does not
    (before, amid or after a write, at open or close);
    `call`: it dies in a plugin; `stop`: it is asked to stop at a look; `key`, `tick`: it is interrupted where it draws
    random bytes or reads the clock, in the midst of whatever it does, and lives on to say so.
    """

    kind: str
    at: int


NO_FAULT = Fault("none", 0)


class Stuck(Exception):
    """A run that does not end."""


@lru_cache(maxsize=4)
def prepared(text: str) -> binding.Prepared:
    """A pipeline file, built by the product."""
    file = pipeline_file.parse(text, PATH, {})
    return binding.Prepared(file, graphs.build(file, _catalog()))


@lru_cache(maxsize=1)
def _catalog() -> Catalog:
    """One for all: to list what is installed takes longer than a run."""
    return Catalog()


class World:
    """A store, artifacts, a clock, and one oracle that follows the log. `stored` is asked after every append; `mended`: the
    source does not fail. `opened` gives each process its store, without it there is one in memory; `run` is new there.
    """

    def __init__(self, case: Case, *, mended: bool = False, stored: Callable[[World], None] = lambda world: None,
                 opened: Callable[[], Store] | None = None, run: str = RUN) -> None:
        self.case = case
        self.run = run
        self._look_at_what_is_stored = stored
        self.text = text_of(case.pipeline)
        self.time = SimulatedTime()
        self.random_bytes = self.time.ports().random_bytes
        self.store = WatchedStore(opened or _in_memory(), run, self._stored)
        if self.store.head(ids.LEDGER_STREAM) is None:
            registry.create(self.store, LEDGER, EPOCH_US)
        self.artifacts = {sink.name: Artifact(sink.name, case.deliveries[sink.name])
                          for sink in case.pipeline.sinks}
        self.follower = Follower(case.pipeline, case.answers, case.rows, troubled=case.troubled)
        self.state = State(run)
        self.events: list[e.Event] = []
        self.mended = mended
        self.down_ns = 0
        self.idle_ms: list[tuple[float, float]] = []
        self.broken: str | None = None
        self.lives: list[Process] = []

    def _stored(self) -> None:
        """Every law after every commit: what is stored is folded (by one state that never saw the run live)."""
        new = [event for _, event in reader.events(self.store, self.run, after=len(self.events))]
        self.events += new
        if new and new[-1].active_ms * 1_000_000 > self.time.now_ns - self.down_ns:
            self.complain(f"seq {new[-1].seq}: {new[-1].active_ms} ms of run time, while nobody ran for some of it")
        try:
            for event in new:
                apply(self.state, event)
        except LawBroken as broken:
            self.complain(str(broken))
        self.follower.follow(new)
        self._look_at_what_is_stored(self)

    def complain(self, text: str) -> None:
        """Something in the world saw what must not be."""
        self.broken = self.broken or text

    @property
    def sealed(self) -> bool:
        """Whether the run is closed."""
        return self.state.status in ("completed", "failed")

    @property
    def wrong(self) -> str | None:
        """What the laws or the oracle say against what is stored."""
        return self.broken or self.follower.wrong

    def overslept(self) -> list[str]:
        """What timed out later than it could have: the run was idle when its deadline passed. (Shuffled workers let time
        pass while they are asked, so nothing is said of them.)"""
        return [f"{name} was due at {deadline_ms}, and nobody woke from {asleep} to {awake}"
                for name, deadline_ms in self.follower.deadlines_ms for asleep, awake in self.idle_ms
                if asleep < deadline_ms < awake and self.case.workers == 1]

    def live(self, fault: Fault = NO_FAULT) -> Process:
        """One process: it starts the run, or carries it on, and ends in some way."""
        if self.lives:
            self.store.renew()
            self.time.advance_ms(DOWN_MS)
            self.down_ns += DOWN_MS * 1_000_000
            known_ms = self.state.active_ms  # run time that a dead process had beyond that is lived again
            self.idle_ms = [(asleep, min(awake, known_ms)) for asleep, awake in self.idle_ms if asleep < known_ms]
        process = Process(self, fault)
        self.lives.append(process)
        process.run()
        if process.ended == "stopped":
            self._look_at_a_stop()
        return process

    def _look_at_a_stop(self) -> None:
        """A run that was asked to stop has finished what it had in hand, and says that it stopped."""
        begun = [token.id for token in self.follower.machine.live.values() if token.state == "started"]
        if begun or self.follower.writes or not isinstance(self.events[-1], e.RunInterrupted):
            self.complain(f"stopped with attempts {begun} and writes {sorted(self.follower.writes)} in doubt")


class WatchedFeed(StepFeed):
    """The feed without a thread that tells when the run was idle."""

    def __init__(self, rows: Iterator[SourceRow | Pause], time: SimulatedTime, idled: Callable[[int, int], None]) -> None:
        super().__init__(rows, time)
        self._clock = time
        self._idled = idled

    def take(self, timeout_seconds: float | None) -> SourceRow | Exhausted | Broken | None:
        """See `engine.feed.Feed`."""
        before_ns = self._clock.now_ns
        item = super().take(timeout_seconds)
        self._idled(before_ns, self._clock.now_ns)
        return item

    def pause(self, timeout_seconds: float) -> None:
        """See `engine.feed.Feed`."""
        before_ns = self._clock.now_ns
        super().pause(timeout_seconds)
        self._idled(before_ns, self._clock.now_ns)


def _in_memory() -> Callable[[], Store]:
    store = MemoryStore()
    return lambda: store


class WatchedStore:
    """The store of one process, and then the next one's; a fault stands in `before` and `after`, what was stored of the run
    is told to `stored`."""

    def __init__(self, opened: Callable[[], Store], run: str, stored: Callable[[], None]) -> None:
        self._opened = opened
        self._run = run
        self._stored = stored
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.appends = 0
        self._use(opened())

    def renew(self) -> None:
        """The process is gone, and its store with it; the next one opens its own."""
        self.close()
        self._use(self._opened())

    def _use(self, store: Store) -> None:
        self.url = store.url
        self._append = store.append
        self.head, self.heads = store.head, store.heads
        self.read, self.payloads, self.payloads_between = store.read, store.payloads, store.payloads_between
        self.kinds, self.guards, self.snapshot = store.kinds, store.guards, store.snapshot
        self.hold, self.wait, self.close = store.hold, store.wait, store.close

    def append(self, parts: Sequence[Part]) -> None:
        """See `ledger.store.Store`."""
        self.before()
        self._append(parts)
        self.appends += 1
        if any(part.head.run == self._run for part in parts):
            self._stored()
        self.after()


class Process:
    """One life of a run. `ended`: sealed, stopped, died, or the code of what it said."""

    def __init__(self, world: World, fault: Fault) -> None:
        self.world = world
        self.fault = fault
        self.alive = True
        self.struck = False
        self.ended = ""
        self.appends = self.calls = self.looks = self.keys = self.ticks = 0
        self.moments: Counter[str] = Counter()
        self.found = _found(world.follower)
        self._began_ms = self._began_ns = 0
        self.receipt: running.Receipt | None = None

    # --- where it may be struck ----------------------------------------------------------------------------------

    def _strikes(self, kind: str, count: int) -> bool:
        self.struck = self.struck or (self.fault.kind == kind and self.fault.at == count)
        return self.fault.kind == kind and self.fault.at == count

    def dies(self) -> Died:
        """It is gone from here on."""
        self.alive = False
        return Died()

    def _before_append(self) -> None:
        if not self.alive:
            raise LedgerUnavailable("GONE", "a process that died appends nothing")
        self.appends += 1
        if self._strikes("append_lost", self.appends):
            raise self.dies()
        if self._strikes("append_refused", self.appends):
            raise LedgerUnavailable("STORE_FULL", "no space left")

    def _after_append(self) -> None:
        if self._strikes("append_unheard", self.appends):
            raise self.dies()
        if self._strikes("append_doubtful", self.appends):
            raise LedgerUnavailable("STORE_CUT", "no answer")

    def _at_sink(self, moment: str) -> None:
        if not self.alive:
            self.world.complain("a process that died writes")
        self.moments[moment] += 1
        if self._strikes(f"write_{moment}", self.moments[moment]):
            raise self.dies()
        if self._strikes(f"sink_{moment}", self.moments[moment]):
            raise OSError(5, "Input/output error")

    def _at_call(self) -> None:
        if not self.alive:
            self.world.complain("a process that died calls a plugin")
        self.calls += 1
        if self._strikes("call", self.calls):
            raise self.dies()

    def _at_look(self) -> str | None:
        self.looks += 1
        if self.looks > LOOKS_MAX:
            raise Stuck(f"seed {self.world.case.seed}: the loop does not end")
        return "asked to" if self._strikes("stop", self.looks) else None

    def _random_bytes(self, count: int) -> bytes:
        self.keys += 1
        if self._strikes("key", self.keys):
            raise KeyboardInterrupt
        return self.world.random_bytes(count)

    def _monotonic_ns(self) -> int:
        self.ticks += 1
        if self._strikes("tick", self.ticks):
            raise KeyboardInterrupt
        return self.world.time.now_ns

    # --- its life ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Start the run, or carry it on."""
        world, case = self.world, self.world.case
        made = prepared(world.text)
        pipeline = binding.bound(made)
        sinks = {name: SimulatedSink(world.artifacts[name], case.answers, self._at_sink, world.complain)
                 for name in pipeline.sinks}
        plugins = Plugins(case, world.run, world.time, world.follower, self._at_call, self.dies, world.complain)
        pipeline = replace(plugins.bound(pipeline), source=ListSource(()), sinks=sinks)
        ports = replace(world.time.ports(), random_bytes=self._random_bytes, monotonic_ns=self._monotonic_ns)
        opening = replace(binding.opening(made, pipeline, ports, world.run), settings_text=SETTINGS)
        world.store.before, world.store.after = self._before_append, self._after_append
        go_on = running.start if world.store.head(world.run) is None else running.resume
        feed = WatchedFeed(_items(case.items, world), world.time, self._idled)
        self._began_ms, self._began_ns = world.state.active_ms, world.time.now_ns
        try:
            self.receipt = go_on(world.store, opening, pipeline, ports, Hooks(self._at_look), feed, self._workers())
            self.ended = "sealed" if world.sealed else "stopped"
        except Died:
            self.ended = "died"
        except KeyboardInterrupt:
            self.ended = "interrupted"
        except (LedgerUnavailable, RunIncomplete) as fault:
            self.ended = fault.code

    def _idled(self, from_ns: int, until_ns: int) -> None:
        self.world.idle_ms.append((self._run_time_ms(from_ns), self._run_time_ms(until_ns)))

    def _run_time_ms(self, now_ns: int) -> float:
        return self._began_ms + (now_ns - self._began_ns) / 1_000_000

    def _workers(self) -> Workers[Called]:
        case = self.world.case
        if case.workers == 1:
            return InlineWorkers()
        with redirect_stdout(StringIO()):
            return ShuffledWorkers(case.seed + len(self.world.lives), self.world.time, self._fate)

    def _fate(self, ticket: int) -> Fate:
        fates: dict[int, Fate] = {0: "hangs", 1: "silent", 2: "lost"}
        case = self.world.case
        return fates.get(hash((case.seed, len(self.world.lives), ticket)) % 16, "answers") if case.troubled else "answers"


def _found(follower: Follower) -> frozenset[str]:
    """What a process finds open (see `sometimes.OVER_A_RESUME`)."""
    machine, live = follower.machine, follower.machine.live.values()
    found = {
        "branches held": any(token.state == "held" for token in live),
        "a batch open": bool(machine.batches),
        "a batch waiting to be tried again": any(batch.failures for batch in machine.batches.values()),
        "a token waiting to be tried again": any(token.failures and token.state == "ready" for token in live),
        "something owed": bool(machine.owed),
        "a write in doubt": bool(follower.writes),
        "an effect in doubt": any(token.state == "started" for token in live),
        "a timer running": any(deadline_of(thing) is not None for thing in follower.waiting()),
        "the source at its end": machine.exhausted,
    }
    return frozenset(name for name, is_so in found.items() if is_so)


def _items(items: Sequence[Item], world: World) -> Iterator[SourceRow | Pause]:
    """What the source still has, past the last row on record; its fault is mended once it has been seen."""
    after = world.state.position
    for position, item in enumerate(items, start=1):
        if after is not None and position <= after:
            continue
        if item.kind == "pause":
            yield Pause(item.ms)
        elif item.kind == "raises":
            if not world.mended:
                world.mended = True
                raise ConnectionError("the source is gone")
        else:
            yield SourceRow(position, item.row, RowFault(item.code, "told to") if item.code else None)


__all__ = ["NO_FAULT", "RUN", "Died", "Fault", "Process", "Stuck", "World"]
