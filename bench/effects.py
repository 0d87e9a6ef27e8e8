"""Effects side by side: wall time of rows that each wait 50 ms for the outside world, against what is possible.

Run: python -m bench.effects [ROWS [WORKERS]]. The ledger is SQLite FULL; every attempt's intent is committed before it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from bench.pipelines import write_rows
from counterfoil import effect
from counterfoil.ledgers import Ledger
from engine import binding
from engine.loop import Hooks
from engine.ports import system
from engine.rows import Row
from engine.run import start

DEFAULT_ROWS, DEFAULT_WORKERS = 1000, 32
WAIT_SECONDS = 0.05

PIPELINE = """
name: effects
source:
  plugin: csv
  on_success: rows
  options: {{path: "{directory}/rows.csv", on_validation_failure: discard}}
transforms:
  - {{name: ask, plugin: "bench.effects:ask", input: rows, on_success: out, on_error: discard}}
sinks:
  out: {{plugin: csv, options: {{path: "{directory}/out.csv"}}}}
concurrency: {{max_workers: {workers}}}
"""


@effect
def ask(row: Row) -> dict[str, object]:
    """Wait, as for an answer."""
    time.sleep(WAIT_SECONDS)
    return {**row, "answer": 1}


def main(rows: int = DEFAULT_ROWS, workers: int = DEFAULT_WORKERS) -> None:
    """Print wall time and CPU time of one run."""
    with tempfile.TemporaryDirectory(prefix="counterfoil-bench-") as name:
        directory = Path(name)
        write_rows(directory / "rows.csv", rows)
        (directory / "pipeline.yaml").write_text(PIPELINE.format(directory=name, workers=workers), encoding="utf-8")
        prepared = binding.prepare(str(directory / "pipeline.yaml"), system())
        pipeline = binding.bound(prepared)
        with Ledger.create(f"sqlite:///{directory / 'bench.db'}") as ledger:
            opening = binding.opening(prepared, pipeline, system(), "bench")
            began, cpu = time.perf_counter(), time.process_time()
            receipt = start(ledger.store, opening, pipeline, system(), Hooks())
            wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    possible_s = WAIT_SECONDS * -(-rows // workers)
    print(f"effects {receipt.rows} rows of {WAIT_SECONDS * 1000:g} ms, {workers} workers: {wall_s:.2f} s by the clock, "
          f"{wall_s / possible_s:.2f} of the {possible_s:.2f} s that are possible; {cpu_s:.2f} CPU s", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
