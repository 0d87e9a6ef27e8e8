"""Rebuild of all read tables in events per CPU second, against replay alone and against a loop written by hand for the same
events (`bench.by_hand`: no laws, no checks); `explain` of one token, small and large.

Run: python -m bench.rebuild [ROWS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from bench import by_hand
from bench.pipelines import KINDS, made
from counterfoil.api import explain_in
from counterfoil.collector import quiet_collector
from counterfoil.ledgers import Ledger
from engine import binding
from engine.loop import Hooks
from engine.ports import system
from engine.run import start
from ledger.replay import replay

SMALL_ROWS = 1_500
ASKED = 50
REPEATS = 3
BY_HAND = ("linear", "fork")


def main(rows: int = 50_000) -> None:
    """Print a line for each pipeline's rebuild and one for `explain`."""
    quiet_collector()
    for kind in KINDS:
        with _ran(kind, rows) as (ledger, events):
            replays, rebuilds, loops = [], [], []
            for _ in range(REPEATS):
                replays.append(_cpu(partial(replay, ledger.store, "bench")))
                rebuilds.append(_cpu(partial(ledger.rebuild, processes=1)))
                loops.append(_by_hand(ledger) if kind in BY_HAND else 0.0)
            rebuild_s, replay_s, loop_s = median(rebuilds), median(replays), median(loops)
            hand = f"; by hand {events / loop_s:,.0f}, ratio {loop_s / rebuild_s:.2f}" if loop_s else ""
            print(f"rebuild {kind}: {events / rebuild_s:,.0f} events/CPU s of {events}; replay alone "
                  f"{events / replay_s:,.0f}, ratio {replay_s / rebuild_s:.2f}{hand}", flush=True)
    small, large = _explain(SMALL_ROWS), _explain(rows)
    print(f"explain: {large * 1000:.2f} ms at {rows} rows, {small * 1000:.2f} ms at {SMALL_ROWS} rows; "
          f"ratio {large / small:.2f}")


@contextmanager
def _ran(kind: str, rows: int) -> Iterator[tuple[Ledger, int]]:
    """A ledger with one run, and how many events it has."""
    with made(kind, rows) as directory:
        prepared = binding.prepare(str(directory / "pipeline.yaml"), system())
        pipeline = binding.bound(prepared)
        with Ledger.create(f"sqlite:///{directory / 'bench.db'}") as ledger:
            opening = binding.opening(prepared, pipeline, system(), "bench")
            yield ledger, start(ledger.store, opening, pipeline, system(), Hooks()).size


def _explain(rows: int) -> float:
    """Median CPU seconds of explaining one token."""
    with _ran("fork", rows) as (ledger, _):
        ledger.catch_up().close()
        asked = range(0, rows, max(1, rows // ASKED))
        return median([_cpu(partial(explain_in, ledger, "bench", f"{row}.left", None, None)) for row in asked])


def _by_hand(ledger: Ledger) -> float:
    with tempfile.TemporaryDirectory(prefix="counterfoil-bench-") as name:
        return _cpu(partial(by_hand.rebuild, Path(ledger.shown), Path(name) / "tables.db"))


def _cpu(what: Callable[[], object]) -> float:
    began = time.process_time()
    what()
    return time.process_time() - began


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
