"""The long campaign: `python -m tests.simulation.campaign KIND|all --count N --seed S`; `--help` names the kinds.

Why so many: a window that is reached once in a thousand runs is reached every day by someone.

Each case that fails is printed with what was wrong and the one command that makes it again; the closing line of each kind
has its figures. Exit code 1 when anything failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.simulation import cases, cases_postgres
from tests.simulation.cases import CUTS_PER_STORY, Bench, Tally

CHUNKS_PER_JOB = 1
COUNTS = {**cases.COUNTS, **cases_postgres.COUNTS}
KINDS = {**cases.KINDS, **cases_postgres.KINDS}


def main(arguments: list[str]) -> int:
    """Run what was asked for."""
    asked = _parser().parse_args(arguments)
    failed = 0
    for kind in COUNTS if asked.kind == "all" else [asked.kind]:
        began = time.monotonic()
        tally = _one(kind, asked) if asked.case is not None else _many(kind, asked)
        for text in tally.failed:
            print(f"FAILED {text}")
        print(f"{kind}: {_closing(tally)}; {len(tally.failed)} failed; seed {asked.seed}, "
              f"{time.monotonic() - began:.0f} s", flush=True)
        failed += len(tally.failed)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.campaign", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=[*COUNTS, "all"])
    parser.add_argument("--count", type=int, help="so many cases (of power: cuts); without it, that of the full campaign")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--case", type=int, help="only this one, its folder kept")
    parser.add_argument("--cut", type=int, help="of a case of power only this cut")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", help="where to work; without it, a temporary folder that is removed")
    return parser


def _one(kind: str, asked: argparse.Namespace) -> Tally:
    """One case again; what it leaves stays."""
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=asked.folder)) / "bench"
    folder.mkdir()
    bench = Bench(folder, keep=True)
    print(f"in {bench.base}")
    try:
        if asked.cut is not None:
            return cases.power_cuts(bench, asked.seed, asked.case, asked.cut)
        return KINDS[kind](bench, asked.seed, asked.case)
    finally:
        bench.close()


def _many(kind: str, asked: argparse.Namespace) -> Tally:
    """Every case of a kind, some at a time."""
    count = asked.count if asked.count is not None else COUNTS[kind]
    numbers = range(-(-count // CUTS_PER_STORY) if kind == "power" else count)
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="campaign-", dir=asked.folder) as folder, \
            ProcessPoolExecutor(asked.jobs) as pool:
        parts = asked.jobs * CHUNKS_PER_JOB
        tasks = [pool.submit(_chunk, kind, asked.seed, list(numbers[part::parts]), folder)
                 for part in range(parts) if numbers[part::parts]]
        if kind == "power":
            tasks.append(pool.submit(_controls, asked.seed, folder))
        for task in tasks:
            tally.add(task.result())
    return tally


def _chunk(kind: str, seed: str, numbers: list[int], folder: str) -> Tally:
    tally = Tally()
    bench = Bench(Path(tempfile.mkdtemp(dir=folder)))
    for number in numbers:
        try:
            tally.add(KINDS[kind](bench, seed, number))
        except Exception as error:
            tally.failed.append(f"{cases.command(kind, seed, number)}\n    {type(error).__name__}: {error}")
    bench.close()
    return tally


def _controls(seed: str, folder: str) -> Tally:
    return cases.controls(Bench(Path(tempfile.mkdtemp(dir=folder))), seed)


def _closing(tally: Tally) -> str:
    return ", ".join(_figures(tally))


def _figures(tally: Tally) -> Iterator[str]:
    names = {"without": "tokens without an end", "twice": "tokens with two", "differing": "sinks with other bytes",
             "unnoticed": "faults that no exit code told",
             "died": "with a step that three died in", "faults": "faults that struck", "empty": "before the run began",
             "more": "with more than was acknowledged", "whole": "of the whole log"}
    for key, count in tally.figures.items():
        yield f"{count} {names.get(key, key)}"
    for window, count in sorted(tally.reached.items(), key=lambda one: -one[1]):
        yield f"{window} {count}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
