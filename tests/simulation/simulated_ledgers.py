"""The simulator over databases: its worlds store in a ledger of the product, and the read tables follow while they do.

What must hold: in a ledger on PostgreSQL a world comes to what it comes to in memory, also when its connection is cut at any
commit; the same seeds are the same bytes and the same tables on both databases (law P5); and tables that were caught up in
any pieces are those of a rebuild, and of a fresh projection (law P1).

Invariant: many worlds share a ledger, each with runs of its own; what is cut is said by message, so that a seed repeats it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from sqlalchemy.engine import make_url

from counterfoil.ledgers import keeping_of
from ledger import registry
from ledger.memory_store import MemoryStore
from ledger.postgres_session import Patience
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from ledger.store import Store
from migrations import upgrade
from projections.catch_up import catch_up, differences
from projections.projectors import run_projector
from projections.read_tables import Shelf
from projections.rebuild import Rebuild, rebuild
from projections.sqlite_shelf import SqliteShelf
from tests.kit import both
from tests.kit.cutting import Cut, How, Message, cutting, points
from tests.kit.ports import EPOCH_US
from tests.projections.reading import make
from tests.simulation.drawn import drawn
from tests.simulation.simulated_examination import Report, drawn_script
from tests.simulation.simulated_plugins import LEDGER
from tests.simulation.simulated_world import NO_FAULT, Fault, World

PATIENT = Patience(seconds=60, pause_seconds=0.01)
HOWS: Sequence[How] = ("rst", "orderly", "client_only")
LIVES_MAX = 40
COMPARED_EVERY = 4
"""Of so many catch-ups one is followed by a comparison while the run is open; at the end every run is compared."""


def opened(url: str) -> Callable[[], Store]:
    """Gives each process of a world its own way to a ledger."""
    keeping = keeping_of(url)
    return lambda: keeping.store(write=True, wait=False)


# --- cut at commits ----------------------------------------------------------------------------------------------------


def cut_off(url: str, seed: int, cuts: int) -> Report:
    """A seed's world uncut, then with its connection cut at so many of the places around its commits: the very same log.

    A seed whose process dies by itself says nothing of it.
    """
    chance, seen, wrong = Random(f"cuts {seed}"), Counter[str](), list[str]()
    uncut, messages = _through(url, seed, 0, ())
    if uncut.lives[0].ended != "sealed":
        return Report(seed, wrong, seen)
    places = [cut for how in HOWS for cut in points(_around_commits(messages), how)]
    for number, cut in enumerate(chance.sample(places, min(cuts, len(places))), start=1):
        world, made = _through(url, seed, number, (cut,))
        seen[f"cut {cut.how}"] += 1
        seen["a connection was cut and made again"] += len({message.connection for message in made}) > 1
        if world.wrong or world.lives[0].ended != "sealed":
            wrong.append(f"seed {seed} [{cut}] {world.wrong or world.lives[0].ended}")
        elif world.events != uncut.events:
            wrong.append(f"seed {seed} [{cut}] {len(world.events)} events, uncut {len(uncut.events)}, or others")
    return Report(seed, wrong, seen)


def _through(url: str, seed: int, number: int, cuts: Sequence[Cut]) -> tuple[World, list[Message]]:
    """One life in a ledger of its own, for what a run's name is goes into its keys and its waits."""
    apart = parsed(_in_schema(url, f"seed_{seed}_{number:03}"))
    upgrade(apart.sqlalchemy(), "log", schema=apart.schema)
    with cutting(url, *cuts) as proxy:
        through = parsed(_in_schema(proxy.url, apart.schema))
        world = World(drawn(seed), mended=True, opened=lambda: PostgresStore(through, write=True, patience=PATIENT))
        with closing(world.store):
            world.live()
        if not cuts:
            proxy.await_ends()
        return world, proxy.messages


def _in_schema(url: str, schema: str) -> str:
    return make_url(url).update_query_dict({"schema": schema}).render_as_string(hide_password=False)


def _around_commits(messages: Sequence[Message]) -> list[Message]:
    """What the client says to end each transaction, and the answers to it."""
    commits = [place for place, message in enumerate(messages)
               if message.direction == "client" and b"COMMIT" in message.head]
    answers = [next(message for message in messages[place:] if message.direction == "server") for place in commits]
    return [messages[place] for place in commits] + answers


# --- the laws of projections -------------------------------------------------------------------------------------------


class Grown(NamedTuple):
    """What a ledger holds of some seeds, how its tables grew, what they are when made again; and what differs."""

    log: dict[str, list[Any]]
    tables: dict[str, list[Any]]
    wrong: list[str]
    catch_ups: int


class Kept(NamedTuple):
    """A ledger for many worlds: how a process opens it, how it is read, where its tables stand."""

    opened: Callable[[], Store]
    store: Store
    shelf: Shelf


def kept(url: str) -> Kept:
    """One of the product's."""
    keeping = keeping_of(url)
    return Kept(opened(url), keeping.store(write=False, wait=False), keeping.shelf())


def in_memory(folder: Path) -> Kept:
    """One whose log is in memory, and whose tables are files."""
    store = MemoryStore()
    registry.create(store, LEDGER, EPOCH_US)
    return Kept(lambda: store, store, SqliteShelf(folder / "ledger.db", make))


def grown(ledger: Kept, seeds: Sequence[int], often: float) -> Grown:
    """Each seed's world uncut, and once with faults, in one ledger, whose tables are caught up after some of the commits."""
    chance, catch_ups, wrong = Random(f"pieces {seeds}"), 0, list[str]()
    store, shelf, how = ledger.store, ledger.shelf, Rebuild(run_projector())

    def follow(world: World) -> None:
        nonlocal catch_ups
        if chance.random() < often:
            catch_ups += 1
            catch_up(store, shelf)
            if catch_ups % COMPARED_EVERY == 0:
                compare(world.run)

    def compare(run: str | None) -> None:
        wrong.extend(f"law P1: {one.row.get('run_id')}: {one.side} alone {one.table} {one.row}"
                     for one in differences(store, shelf, run))

    for seed in seeds:
        wrong += _lived(ledger, seed, follow)
    with shelf.open(catch_up(store, shelf)) as tables:
        found = both.rows(tables)
    compare(None)
    with shelf.open(rebuild(store, shelf, how)) as tables:
        again = both.rows(tables)
    wrong += [f"law P1: {text}" for text in both.differing(found, again)]
    return Grown(both.stored(store), again, wrong, catch_ups)


def _lived(ledger: Kept, seed: int, follow: Callable[[World], None]) -> Iterator[str]:
    faults: list[Fault] = []
    for name in ("uncut", "cut"):
        world = World(drawn(seed), mended=name == "uncut", stored=follow, opened=ledger.opened, run=f"{seed}-{name}")
        while not world.sealed and not world.wrong and len(world.lives) < LIVES_MAX:
            world.live(faults.pop() if faults else NO_FAULT)
        world.store.close()
        if world.wrong or not world.sealed:
            yield f"{world.run}: {world.wrong or 'not sealed'}"
        faults = list(drawn_script(world, Random(f"faults {seed}")))
