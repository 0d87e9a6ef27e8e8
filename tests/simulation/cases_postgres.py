"""The campaign's cases with a ledger on PostgreSQL, and those of the laws of the read tables.

Invariant: as in `cases`: a case is drawn from its seed and its number alone, and says the one command that makes it again.
What a server that is not ours does not allow is counted as skipped.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from signal import SIGCONT
from subprocess import TimeoutExpired
from typing import get_args

from _pytest.outcomes import Skipped

from counterfoil.ledgers import Ledger
from ledger.errors import LedgerUnavailable
from tests.kit import both
from tests.simulation import cases, crashes, interposer, journal, windows, zombies
from tests.simulation.cases import Bench, Tally, command
from tests.simulation.child import At, Knobs
from tests.simulation.children import RESUMING, RUN, RUNNING, Place, ended, killed_after
from tests.simulation.crashes import Cut, Uncut
from tests.simulation.interposer import Plan
from tests.simulation.pipelines import ALL, Pipeline
from tests.simulation.simulated import examine_in, shortened
from tests.simulation.simulated_examination import Report
from tests.simulation.simulated_ledgers import cut_off, grown, in_memory, kept

OUTAGES_MAX = 6
SEEDS, SEEDS_CUT, SEEDS_ON_BOTH, SEEDS_FOLLOWED = 25, 10, 40, 200
CUTS = 8


@contextmanager
def _place(bench: Bench, name: str, pipeline: Pipeline) -> Iterator[Place]:
    """A folder for one case, and a database."""
    url = bench.server.fresh_database()
    try:
        with bench.place(name, pipeline, crashes.OFTEN) as place:
            yield replace(place, database=url)
    finally:
        bench.server.settle()
        if not bench.keep:
            bench.server.give_back(url)


def kill(bench: Bench, seed: str, number: int) -> Tally:
    """One run that is killed: at an append, at a call of a sink, or at any time from outside; at times more than once."""
    chance, pipeline, tally = Random(f"postgres_kills/{seed}/{number}"), cases.drawn(number), Tally()
    known, cut = bench.uncut(pipeline), Cut()
    with _place(bench, f"postgres-kill-{number}", pipeline) as place:
        for turn in range(chance.choice((1, 1, 1, 2, 3))):
            way = chance.choice((_at_append, _at_sink, _outside))
            tally.figures[way.__name__.strip("_")] += 1
            way(place, known, chance, cut, RUNNING if turn == 0 or not _begun(place) else RESUMING)
        crashes.finish(place, known, cut)
    tally.cut(cut, command("postgres_kills", seed, number))
    return tally


def _begun(place: Place) -> bool:
    """Whether there is something to resume."""
    try:
        with Ledger(place.url) as ledger:
            return ledger.store.head(RUN) is not None
    except LedgerUnavailable:
        return False


def _sealed(place: Place) -> bool:
    with Ledger(place.url) as ledger:
        head = ledger.store.head(RUN)
    return head is not None and head.status == "completed"


def _at_append(place: Place, known: Uncut, chance: Random, cut: Cut, words: Sequence[str]) -> None:
    appends = sum(journal.acknowledged(call, RUN) > 0 for call in known.calls)
    at: At = chance.choice(get_args(At))
    knobs = Knobs(crashes.OFTEN.rows_per_commit, marks=True, dies=(chance.randint(1, appends + 1), at))
    crashes.killed(place, ended(replace(place, knobs=knobs).start(*words)), cut)


def _at_sink(place: Place, known: Uncut, chance: Random, cut: Cut, words: Sequence[str]) -> None:
    told = ended(place.start(*words, plan=_of_sinks("kill", known, place.pipeline, chance)))
    calls = place.calls()
    if calls and calls[-1].op == "killed":
        crashes.killed(place, told, cut)


def _outside(place: Place, known: Uncut, chance: Random, cut: Cut, words: Sequence[str]) -> None:
    crashes.killed(place, killed_after(place.start(*words), chance.uniform(0.3, 1.2)), cut)


def _of_sinks(kind: interposer.Kind, known: Uncut, pipeline: Pipeline, chance: Random) -> Plan:
    """A plan for a call that has nothing to do with a ledger in a file."""
    places = windows.places(known.calls, known.sinks(pipeline))
    plans = [interposer.at(kind, known.calls, number, "after" if kind == "stop" and where == "half" else where)
             for window in sorted(places) for number, where in places[window]]
    return chance.choice([plan for plan in plans if ":out/" in plan.of])


def outage(bench: Bench, seed: str, number: int) -> Tally:
    """One run under which the server is killed: first while it stands at a sink, then again and again at any time."""
    chance, pipeline, tally = Random(f"postgres_outages/{seed}/{number}"), cases.drawn(number), Tally()
    known, cut = bench.uncut(pipeline), Cut()
    with _place(bench, f"outage-{number}", pipeline) as place:
        process = place.start(*RUNNING, plan=_of_sinks("stop", known, pipeline, chance))
        running = zombies.stopped(process)
        for _ in range(chance.randint(1, OUTAGES_MAX) if running else 0):
            bench.server.kill()
            process.send_signal(SIGCONT)
            bench.server.start()
            tally.figures["outages"] += 1
            with suppress(TimeoutExpired):
                process.wait(chance.uniform(0.02, 0.3))
                break
        told = ended(process)
        cut.wrong += told.faults()
        sealed = "sealed" if _sealed(place) else "not sealed"
        tally.figures["went on by itself" if told.code == 0 else f"said {told.error} of a run that was {sealed}"] += 1
        if told.code not in crashes.TYPED:
            cut.wrong.append(f"exit {told.code}: {told.err[-300:]}")
        crashes.finish(place, known, cut)
    tally.cut(cut, command("postgres_outages", seed, number))
    return tally


def zombie(bench: Bench, seed: str, number: int) -> Tally:
    """One process that is stopped at a sink, loses its session, and wakes."""
    chance, tally = Random(f"postgres_zombies/{seed}/{number}"), Tally()
    pipeline = ALL["loose"] if number % 2 == 0 else cases.drawn(number)
    known = bench.uncut(pipeline)
    with _place(bench, f"postgres-zombie-{number}", pipeline) as place:
        found = zombies.woken(place, _of_sinks("stop", known, pipeline, chance), known)
    tally.cut(found.cut, command("postgres_zombies", seed, number))
    tally.figures.update(found.said)
    return tally


# --- the simulator -----------------------------------------------------------------------------------------------------


def seeds(bench: Bench, seed: str, number: int) -> Tally:
    """A block of the simulator's seeds over the store on PostgreSQL."""
    with _database(bench) as url, tempfile.TemporaryDirectory() as folder:
        both.pair(Path(folder), url, "simulated")
        return _told([examine_in(url, one) for one in _block(number, SEEDS)], "postgres_seeds", seed, number)


def cuts(bench: Bench, seed: str, number: int) -> Tally:
    """A block of seeds whose connection is cut at their commits."""
    with _database(bench) as url:
        return _told([cut_off(url, one, CUTS) for one in _block(number, SEEDS_CUT)], "postgres_cuts", seed, number)


def laws(bench: Bench, seed: str, number: int) -> Tally:
    """A block of seeds on both databases (law P5), caught up in pieces on each (law P1)."""
    tally = Tally()
    with _database(bench) as url, tempfile.TemporaryDirectory() as folder:
        pair = both.pair(Path(folder), url, "simulated")
        one, other = kept(pair.sqlite), kept(pair.postgres)
        with closing(one.store), closing(other.store):
            sqlite, postgres = (grown(ledger, _block(number, SEEDS_ON_BOTH), 0.1) for ledger in (one, other))
    wrong = [*sqlite.wrong, *postgres.wrong, *both.differing(sqlite.log, postgres.log),
             *both.differing(sqlite.tables, postgres.tables)]
    tally.figures.update(seeds=SEEDS_ON_BOTH, runs=len(sqlite.log) - 1, catch_ups=sqlite.catch_ups + postgres.catch_ups,
                         rows_of_tables=sum(map(len, sqlite.tables.values())))
    if wrong:
        tally.failed.append(f"{command('laws', seed, number)}\n    " + "\n    ".join(map(shortened, wrong[:5])))
    return tally


def followed(bench: Bench, seed: str, number: int) -> Tally:
    """A block of seeds whose read tables follow while they are written (law P1), on SQLite."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        found = grown(in_memory(Path(folder)), _block(number, SEEDS_FOLLOWED), 0.05)
    tally.figures.update(seeds=SEEDS_FOLLOWED, runs=len(found.log) - 1, catch_ups=found.catch_ups)
    if found.wrong:
        tally.failed.append(f"{command('followed', seed, number)}\n    " + "\n    ".join(map(shortened, found.wrong[:5])))
    return tally


def _block(number: int, size: int) -> range:
    return range(number * size, (number + 1) * size)


def _told(reports: Sequence[Report], kind: str, seed: str, number: int) -> Tally:
    tally = Tally()
    for report in reports:
        tally.figures["seeds"] += 1
        tally.figures.update({name: count for name, count in report.seen.items()
                              if name.startswith(("struck", "cut ", "a connection"))})
        if report.wrong:
            tally.failed.append(f"{command(kind, seed, number)}\n    seed {report.seed}: {shortened(report.wrong[0])}")
    return tally


@contextmanager
def _database(bench: Bench) -> Iterator[str]:
    url = bench.server.fresh_database()
    try:
        yield url
    finally:
        bench.server.give_back(url)


def _or_skipped(case: Callable[[Bench, str, int], Tally]) -> Callable[[Bench, str, int], Tally]:
    def one(bench: Bench, seed: str, number: int) -> Tally:
        try:
            return case(bench, seed, number)
        except Skipped as skipped:
            tally = Tally()
            tally.figures[f"skipped: {skipped}"] += 1
            return tally

    return one


COUNTS: Mapping[str, int] = {"postgres_kills": 200, "postgres_outages": 60, "postgres_zombies": 40, "postgres_seeds": 80,
                             "postgres_cuts": 40, "laws": 50, "followed": 100}
KINDS: Mapping[str, Callable[[Bench, str, int], Tally]] = {
    "postgres_kills": kill, "postgres_outages": _or_skipped(outage), "postgres_zombies": zombie, "postgres_seeds": seeds,
    "postgres_cuts": cuts, "laws": laws, "followed": followed,
}
