"""The simulator: cases from seeds, run by the production code in worlds where things fail, held against the oracle.

    python -m tests.simulation.simulated --seed 17             one case, told
    python -m tests.simulation.simulated --seeds 100000        a campaign (`--jobs 2`: two processes; `--first`: from where)
    python -m tests.simulation.simulated --tiny                every tiny pipeline, cut at every commit
    python -m tests.simulation.simulated --store postgres      over the store on PostgreSQL (with --seed or --seeds)

A seed that fails is kept in `kept_seeds.txt`, which the tests run every time.

Invariant: a seed says everything; nothing here asks a clock or a random source of the machine.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from counterfoil.ledgers import keeping_of
from ledger.store import Store
from tests.kit import both
from tests.kit.postgres import given
from tests.simulation.drawn import drawn
from tests.simulation.simulated_examination import Examination, Report, Script, drawn_script, every_commit
from tests.simulation.simulated_plugins import LEDGER
from tests.simulation.simulated_world import World
from tests.simulation.tiny import examine_tiny, numbers

KEPT = Path(__file__).with_name("kept_seeds.txt")
SMALL_APPENDS = 14
TOLD_CHARS_MAX = 800
EVERY_COMMIT_OF = 8
"""Of so many seeds one is replayed after every commit and, when its run is small, cut at every commit."""


def examine(seed: int, *, thorough: bool = False, opened: Callable[[], Store] | None = None) -> Report:
    """Run a seed's case uncut and cut; `thorough`: with more faults, and at every commit. `opened`: see `Examination`."""
    examination = Examination(drawn(seed), opened)
    often = thorough or seed % EVERY_COMMIT_OF == 0
    uncut = examination.begin(replaying=often)
    if uncut is not None:
        if any(item.kind == "raises" for item in uncut.case.items):
            examination.cut([()], again=False)
        small = sum(one.appends for one in uncut.lives) <= SMALL_APPENDS
        if thorough or (small and often):
            examination.seen["cut at every commit"] += 1
            examination.cut(every_commit(uncut), again=False)
        examination.cut(_scripts(uncut, 10 if thorough else 2))
    return examination.report()


def _scripts(uncut: World, count: int) -> Iterator[Script]:
    chance = Random(f"faults {uncut.case.seed}")
    return (drawn_script(uncut, chance) for _ in range(count))


def kept_seeds() -> list[int]:
    """Seeds that failed once."""
    lines = KEPT.read_text(encoding="utf-8").splitlines() if KEPT.exists() else []
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def keep(seed: int) -> None:
    """Keep a seed that failed, for every time to come."""
    if seed not in kept_seeds():
        with KEPT.open("a", encoding="utf-8") as file:
            file.write(f"{seed}\n")


def shortened(text: str) -> str:
    """What went wrong in some lines: with which faults, and how it ends."""
    return text if len(text) <= TOLD_CHARS_MAX else f"{text[: TOLD_CHARS_MAX // 4]} ... {text[-TOLD_CHARS_MAX * 3 // 4 :]}"


def command(seed: int) -> str:
    """What repeats a seed."""
    return f"python -m tests.simulation.simulated --seed {seed}"


# --- campaigns -------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.simulated")
    parser.add_argument("--seed", type=int, help="one case, told")
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--failures", type=int, default=20, help="stop after so many")
    parser.add_argument("--tiny", action="store_true", help="every tiny pipeline instead")
    parser.add_argument("--store", choices=["memory", "postgres"], default="memory", help="what is below")
    asked = parser.parse_args(arguments)
    if asked.tiny:
        return _campaign(examine_tiny, numbers(), asked.jobs, asked.failures, "tiny ")
    if asked.store == "memory":
        return _asked(asked, examine)
    with given() as server, TemporaryDirectory() as folder:
        url = server.fresh_database()
        both.pair(Path(folder), url, LEDGER)
        return _asked(asked, partial(examine_in, url))


def _asked(asked: argparse.Namespace, look: Callable[..., Report]) -> int:
    if asked.seed is not None:
        return _tell(look(asked.seed, thorough=True))
    return _campaign(look, range(asked.first, asked.first + asked.seeds), asked.jobs, asked.failures, "")


def examine_in(url: str, seed: int, *, thorough: bool = False) -> Report:
    """A seed over the ledger of a URL, which may have many of them, each once."""
    return examine(seed, thorough=thorough, opened=lambda: keeping_of(url).store(write=True, wait=False))


def _tell(report: Report) -> int:
    print(f"{drawn(report.seed)}\n")
    for name, count in sorted(report.seen.items()):
        print(f"{count:6}  {name}")
    for text in report.wrong:
        print(f"\n{text}")
    print(f"\nseed {report.seed}: {'fails' if report.wrong else 'holds'}")
    return bool(report.wrong)


def _campaign(look: Callable[[int], Report], seeds: range, jobs: int, failures_max: int, kind: str) -> int:
    total: Counter[str] = Counter()
    count = failed = 0
    with Pool(jobs) as pool:
        for report in pool.imap(look, seeds, chunksize=20):
            count += 1
            total += report.seen
            if report.wrong:
                failed += 1
                print(f"{kind}{report.seed}: {shortened(report.wrong[0])}", flush=True)
                if not kind:
                    keep(report.seed)
                    print(f"  {command(report.seed)}", flush=True)
            if count % 5000 == 0:
                print(f"{count} of {len(seeds)}, {failed} fail", file=sys.stderr, flush=True)
            if failed >= failures_max:
                pool.terminate()
                break
    for name, number in sorted(total.items()):
        print(f"{number:9}  {name}")
    print(f"{count} of {len(seeds)} {kind}seeds from {seeds.start}, {failed} fail")
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
