"""Rebuild of all read tables in events per CPU second, against folding alone; `explain` of one token in a small and a large
ledger. Run: python -m bench.rebuild [ROWS]"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

from bench.pipelines import made
from counterfoil.api import explain_in
from counterfoil.ledgers import Ledger
from engine import binding
from engine.loop import Hooks
from engine.ports import system
from engine.run import start
from ledger.replay import replay

SMALL_ROWS = 1_500
ASKED = 50


def main(rows: int = 50_000) -> None:
    """Print a line for the rebuild and one for `explain`."""
    small, _ = _measure(SMALL_ROWS)
    large, line = _measure(rows)
    print(line)
    print(f"explain: {large * 1000:.2f} ms at {rows} rows, {small * 1000:.2f} ms at {SMALL_ROWS} rows; "
          f"ratio {large / small:.2f}")


def _measure(rows: int) -> tuple[float, str]:
    with made("fork", rows) as directory:
        prepared = binding.prepare(str(directory / "pipeline.yaml"), system())
        pipeline = binding.bound(prepared)
        with Ledger.create(f"sqlite:///{directory / 'bench.db'}") as ledger:
            opening = binding.opening(prepared, pipeline, system(), "bench")
            receipt = start(ledger.store, opening, pipeline, system(), Hooks())
            fold_s = _cpu(lambda: replay(ledger.store, "bench"))
            rebuild_s = _cpu(ledger.rebuild)
            with ledger.catch_up():
                pass
            asked = [_cpu(lambda row=row: explain_in(ledger, "bench", f"{row}.left", None, None))  # type: ignore[misc]
                     for row in range(0, rows, max(1, rows // ASKED))]
    return median(asked), (f"rebuild: {receipt.size / rebuild_s:,.0f} events/CPU s of {receipt.size}, fold alone "
                           f"{receipt.size / fold_s:,.0f}; ratio {fold_s / rebuild_s:.2f}")


def _cpu(what: Callable[[], object]) -> float:
    began = time.process_time()
    what()
    return time.process_time() - began


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
