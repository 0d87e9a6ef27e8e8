"""What a long log costs: append, rebuild, `explain` and memory at 10 k, 100 k, 1 M and 10 M events, as ratios to the first.

Run: python -m bench.growth [EVENTS ...]. The linear pipeline's events, made up and folded, without payloads; each size in a
process of its own, for its peak memory. The largest takes some ten minutes and 6 GB of disk.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

from bench import logs
from bench.rebuild import ASKED, _cpu
from counterfoil.api import explain_in
from counterfoil.collector import quiet_collector
from counterfoil.ledgers import Ledger
from ledger import registry
from ledger.events import RunClosed, RunOpened
from ledger.writer import Writer

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
ROWS_AT_ONCE = 1_000


def main(*sizes: int) -> None:
    """Print a line for each size."""
    first: dict[str, float] = {}
    for events in sizes or SIZES:
        ran = subprocess.run([sys.executable, "-m", "bench.growth", "--one", str(events)], capture_output=True, text=True,
                             check=True)
        found: dict[str, float] = json.loads(ran.stdout)
        first = first or found
        told = ", ".join(f"{name} {found[name]:,.2f} ({found[name] / first[name]:.2f})" for name in found)
        print(f"growth {events} events: {told}", flush=True)


def one(events: int) -> dict[str, float]:
    """The figures of one size: microseconds of CPU time for an event, milliseconds, MiB, bytes."""
    quiet_collector()
    with tempfile.TemporaryDirectory(prefix="counterfoil-bench-") as name:
        path = Path(name) / "growth.db"
        with Ledger.create(f"sqlite:///{path}") as ledger:
            rows = max(events // 3, 1)
            append_s = _cpu(partial(_append, ledger, rows))
            size = ledger.heads()[-1].size
            rebuild_s = _cpu(partial(ledger.rebuild, processes=1))
            asked = range(0, rows, max(1, rows // ASKED))
            explain_s = median([_cpu(partial(explain_in, ledger, "bench", str(row), None, None)) for row in asked])
            kept = sum(file.stat().st_size for file in Path(name).iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"append us": append_s / size * 1e6, "rebuild us": rebuild_s / size * 1e6, "explain ms": explain_s * 1e3,
            "peak MiB": peak, "bytes": kept / size}


def _append(ledger: Ledger, rows: int) -> None:
    """The log of the linear pipeline, committed a thousand rows at a time."""
    store = ledger.store
    writer = Writer(store, "bench")
    for some in logs.linear_by_rows(rows, ROWS_AT_ONCE):
        for event in some:
            writer.add(event)
        writer.commit("running")
    said = [RunOpened(opened="bench", pipeline="bench"),
            RunClosed(closed="bench", status="completed", size=writer.size, root=writer.root())]
    store.append([registry.entries(store, said, time.time_ns() // 1000)])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(int(sys.argv[2]))))
    else:
        main(*map(int, sys.argv[1:]))
