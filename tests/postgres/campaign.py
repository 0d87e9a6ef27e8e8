"""The long campaign on a real PostgreSQL: `python -m tests.postgres.campaign cuts|writers|kills|all`.

    cuts     a session of 50 commits, cut before, within and after every message, by each kind of cut (`--how`, `--every N`)
    writers  16 writers in several processes on 16 runs, 100 000 events in all, followed by one reader (`--events N`)
    kills    the server killed and started again under writers, at moments drawn by a seed (`--kills N`)

Each thing that is wrong is printed with its place or seed; each kind closes with its figures. Exit code 1 when anything is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from tests.kit.cutting import How, points
from tests.kit.postgres import Postgres, given
from tests.ledger.files import postgres_store
from tests.postgres import cuts, following, kills

KINDS = ("cuts", "writers", "kills")
HOWS: Sequence[How] = ("rst", "orderly", "client_only")
RUNS = 16
CASES_PER_DATABASE = 500


def main(arguments: list[str]) -> int:
    """Run what was asked for."""
    asked = _parser().parse_args(arguments)
    failed = 0
    with given() as server:
        for kind in KINDS if asked.kind == "all" else [asked.kind]:
            for figures, faults in {"cuts": _cuts, "writers": _writers, "kills": _kills}[kind](server, asked):
                for fault in faults:
                    print(f"FAILED {fault}")
                print(f"{figures}; {len(faults)} failed", flush=True)
                failed += len(faults)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.postgres.campaign", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=[*KINDS, "all"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commits", type=int, default=50, help="of the session that is cut")
    parser.add_argument("--how", choices=HOWS, action="append", help="one kind of cut, or several; without it, each")
    parser.add_argument("--every", type=int, default=1, help="only each so-manyth place")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--kills", type=int, default=100)
    return parser


def _cuts(server: Postgres, asked: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Every place of a session, by each kind of cut."""
    for how in asked.how or HOWS:
        began, faults, made, acknowledged = time.monotonic(), list[str](), 0, 0
        with _log(server) as url:
            messages = cuts.recorded(url, cuts.story(0, asked.commits))
            opened = cuts.opening(url)
        places = points(messages, how)[:: asked.every]
        opening = set(points(messages[:opened], how))
        for first in range(0, len(places), CASES_PER_DATABASE):
            with _log(server) as url, closing(PostgresStore(parsed(url), write=False)) as reading:
                for case, place in enumerate(places[first:first + CASES_PER_DATABASE], start=1):
                    told = cuts.story(case, asked.commits)
                    result = cuts.told_through(url, told, [place])
                    found = [*cuts.faults(reading, told, result), *_unfit(result, asked.commits, place in opening)]
                    faults += [f"{place}: {fault}" for fault in found]
                    made += len(result.made)
                    acknowledged += result.acknowledged
        yield (f"cuts {how}: {len(messages)} messages, {opened} of them to open; {len(places)} places, {made} cuts made, "
               f"{acknowledged} commits acknowledged, {time.monotonic() - began:.0f} s"), faults


def _unfit(result: cuts.Told, commits: int, opening: bool) -> list[str]:
    """A cut while a store is opened is told; after any other, all is acknowledged in the end."""
    if not result.made:
        return ["no cut took place"]
    if result.acknowledged == commits and not result.code:
        return []
    return [] if opening and result[:2] == (0, "LEDGER_UNREACHABLE") else [f"{result}"]


def _writers(server: Postgres, asked: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Many writers, one follower."""
    began = time.monotonic()
    with _log(server) as url:
        tally = following.followed(url, runs=RUNS, events=asked.events, seed=asked.seed, processes=asked.processes)
    faults = [*tally.faults, *([] if tally.events == asked.events // RUNS * RUNS else [f"{tally.events} events"])]
    yield (f"writers: seed {asked.seed}, {tally.runs} runs, {tally.events} events followed in {tally.pieces} pieces, "
           f"{time.monotonic() - began:.0f} s"), faults


def _kills(server: Postgres, asked: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """A server that is killed again and again."""
    began = time.monotonic()
    with _log(server) as url:
        tally = kills.campaign(server, url, asked.seed, asked.kills, writing=4)
    yield (f"kills: seed {asked.seed}, {tally.kills} kills, {tally.commits} commits of {tally.events} events acknowledged, "
           f"{time.monotonic() - began:.0f} s"), tally.faults


@contextmanager
def _log(server: Postgres) -> Iterator[str]:
    """The URL of a new log."""
    url = server.fresh_database()
    postgres_store(url).close()
    yield url
    server.settle()
    server.give_back(url)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
