"""One run told twice: into a ledger in a SQLite file and into one on PostgreSQL, and everything that either holds of it.

Why byte for byte and type for type: two databases that nearly agree (a `Decimal` for a double, a truth value for 1, another
order of letters) give two records of one run.

Invariants: both ledgers have the same id, and a run gets the same clock, the same random bytes and the same rows in both, on
one thread; what is compared is everything that is stored, and everything that the doors answer of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from counterfoil.ledgers import Ledger
from engine import binding
from engine import run as running
from engine.loop import Hooks
from ledger import registry
from ledger import verify as verifying
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from ledger.replay import replay
from ledger.sqlite_store import SqliteStore
from ledger.store import Store
from migrations import upgrade
from projections import answers
from projections.explain import explain, explain_row
from projections.read_tables import ReadTables
from projections.views import VIEW_NAMES
from tests.doors.told import tell
from tests.kit.ports import EPOCH_US, SimulatedTime
from tests.kit.twins import InlineWorkers, StepFeed
from tests.ledger.files import new_file
from tests.simulation.simulated_world import WatchedStore

ID = "one ledger, two databases"
TICK_NS = 137_419
"""What each look at the clock takes, so that durations are no round numbers."""


class Pair(NamedTuple):
    """The URLs of two ledgers with one id."""

    sqlite: str
    postgres: str


def pair(folder: Path, postgres_url: str, name: str = ID) -> Pair:
    """Two ledgers of that id without a run, each made by its migrations."""
    address = parsed(postgres_url)
    upgrade(address.sqlalchemy(), "log", schema=address.schema)
    with closing(PostgresStore(address, write=True)) as store:
        registry.create(store, name, EPOCH_US)
    return Pair(alone(folder, name), postgres_url)


def alone(folder: Path, name: str = ID) -> str:
    """The URL of such a ledger in a file."""
    path = new_file(folder)
    with closing(SqliteStore(path, write=True)) as store:
        registry.create(store, name, EPOCH_US)
    return f"sqlite:///{path}"


class TickingTime(SimulatedTime):
    """A simulated clock that goes on a little whenever it is read."""

    def read_ns(self) -> int:
        """Nanoseconds; later than the last ones."""
        self.now_ns += TICK_NS
        return self.now_ns


def run(url: str, file: str, name: str, appended: Callable[[Ledger], None] = lambda ledger: None,
        environment: Mapping[str, str] | None = None) -> running.Receipt:
    """Run a pipeline file with its own source, plugins and sinks: what time, chance and threads would do is simulated.

    `appended` is asked after every commit.
    """
    time = TickingTime()
    ports = replace(time.ports(), monotonic_ns=time.read_ns, environment=environment or {})
    prepared = binding.prepare(file, ports)
    bound = binding.bound(prepared)
    opening = binding.opening(prepared, bound, ports, name)
    with Ledger(url, write=True) as ledger:
        store = WatchedStore(lambda: ledger.store, name, lambda: appended(ledger))
        feed = StepFeed(bound.source.rows(None), time)
        return running.start(store, opening, bound, ports, Hooks(), feed, InlineWorkers())


# --- what there is -----------------------------------------------------------------------------------------------------


def stored(store: Store) -> dict[str, list[Any]]:
    """Every stream: its head, its events with their index columns, its payloads; each value with its type."""
    return {head.run: [typed(head), *map(typed, store.read(head.run)),
                       *map(typed, store.payloads_between(head.run, 1, 2**40))]
            for head in store.heads()}


def tables(url: str) -> dict[str, list[Any]]:
    """Every row of every promised read table, caught up, in one canonical order; each value with its type."""
    with Ledger(url) as ledger, ledger.catch_up() as found:
        return rows(found)


def rows(tables: ReadTables) -> dict[str, list[Any]]:
    """The same of tables that are open; of each view also its columns, once it has a row."""
    found = {view: sorted(map(typed, tables.select(f"SELECT * FROM {view}")), key=repr) for view in VIEW_NAMES}
    for view in VIEW_NAMES:
        found[f"columns of {view}"] = [tuple(one) for one in tables.records(f"SELECT * FROM {view} LIMIT 1")]
    return found


def answered(url: str, *, every: int = 1) -> dict[str, Any]:
    """What is answered of every run: as a whole, and of every so-many-th token."""
    with Ledger(url) as ledger, ledger.catch_up() as found:
        store, told = ledger.store, {"runs": answers.runs(found), "registry": plain(verifying.registry(ledger.store))}
        for one in told["runs"]:
            run = one["run_id"]
            tokens = list(answers.tokens(found, run))
            told[run] = {
                "show": answers.show(found, run), "tokens": tokens, "pending": answers.pending(found, store, run),
                "replay": plain(replay(store, run, deep=True).verdict), "integrity": plain(verifying.integrity(store, run)),
                **{f"row {row}": explain_row(found, store, run, row) for row in (0, 1) if row < (one["rows_read"] or 0)},
                **{f"token {token['token_id']}": explain(found, store, run, token["token_id"]) for token in tokens[::every]},
            }
        return told


def asked(url: str, run: str) -> dict[str, Any]:
    """What the commands answer of a run, as JSON, with their exit codes and what they say on stderr."""
    commands = [("runs",), ("show", run), ("tokens", run), ("pending", run), ("replay", run, "--deep"), ("verify", run),
                ("explain", run, "0"), ("explain", run, "--row", "1"), ("explain", run, "--row", "0", "--at", "9"),
                ("graph", run, "--format", "json"), ("rebuild", "--verify", "--run", run)]
    with Ledger(url) as ledger:
        shown = ledger.shown
    return {" ".join(words): _asked(url, shown, *words) for words in commands}


def _asked(url: str, shown: str, *words: str) -> Any:
    told = tell(*words, *(() if words[0] == "graph" else ("-o", "json")), ledger=url)
    return told.code, told.err.replace(shown, "LEDGER"), json.loads(told.out) if told.out else None


def plain(value: object) -> Any:
    """As the doors would write it."""
    return json.loads(msgspec.json.encode(value))


def typed(values: Iterable[object]) -> tuple[Any, ...]:
    """Each value with its type's name, bytes as bytes: 1, 1.0, True and Decimal(1) are four things."""
    return tuple((type(value).__name__, bytes(value)) if isinstance(value, memoryview | bytearray)
                 else (type(value).__name__, value) for value in values)


def differing(one: Mapping[str, Any], other: Mapping[str, Any], at: str = "") -> list[str]:
    """The places where two of these differ: the first one in each list, the deepest in each mapping."""
    found = []
    for key in [*one, *(key for key in other if key not in one)]:
        here, there, place = one.get(key), other.get(key), f"{at}/{key}"
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            found += differing(here, there, place)
        elif here != there:
            found.append(f"{place}: {_first(here, there)}")
    return found


def _first(here: object, there: object) -> str:
    if not isinstance(here, list) or not isinstance(there, list):
        return f"{here!r:.300} and {there!r:.300}"
    both = zip(here, there, strict=False)
    at = next((n for n, (one, other) in enumerate(both) if one != other), min(len(here), len(there)))
    return f"{len(here)} and {len(there)}, at {at}: {here[at:at + 1]!r:.700} and {there[at:at + 1]!r:.700}"
