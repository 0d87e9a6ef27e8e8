"""Audited rows per CPU second, SQLite FULL, with and without projection; bytes per row; against the same work unaudited.

Run: python -m bench.rows [ROWS ...]. Each measurement is a process of its own.
"""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.pipelines import KINDS, made
from counterfoil.collector import quiet_collector
from counterfoil.ledgers import Ledger
from engine import binding
from engine.loop import Hooks
from engine.ports import system
from engine.run import start

DEFAULT_ROWS = (20_000, 200_000)


def measure(kind: str, rows: int) -> dict[str, float]:
    """One run in this process: CPU seconds of run and projection, bytes, peak memory."""
    with made(kind, rows) as directory:
        prepared = binding.prepare(str(directory / "pipeline.yaml"), system())
        pipeline = binding.bound(prepared)
        url = f"sqlite:///{directory / 'bench.db'}"
        quiet_collector()
        with Ledger.create(url) as ledger:
            opening = binding.opening(prepared, pipeline, system(), "bench")
            began, wall = time.process_time(), time.perf_counter()
            receipt = start(ledger.store, opening, pipeline, system(), Hooks())
            run_s, wall_s = time.process_time() - began, time.perf_counter() - wall
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            began = time.process_time()
            ledger.catch_up().close()
            projection_s = time.process_time() - began
        log, read = _bytes(directory, "bench.db"), _bytes(directory, "bench.db.read.1.db")
        began = time.process_time()
        _unaudited(kind, directory)
        plain_s = time.process_time() - began
    return {"rows": receipt.rows, "events": receipt.size, "run_s": run_s, "wall_s": wall_s, "projection_s": projection_s,
            "plain_s": plain_s, "log_bytes": log, "read_bytes": read, "peak_kib": peak}


def in_process(kind: str, rows: int) -> dict[str, float]:
    """The same in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "bench.rows", "--child", kind, str(rows)], check=True, capture_output=True,
                          text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _unaudited(kind: str, directory: Path) -> None:
    """The same rows through the same work, with csv or json and nothing else."""
    if kind == "gather":
        _unaudited_orders(directory)
        return
    with (directory / "rows.csv").open(encoding="utf-8", newline="") as source, \
            (directory / "plain.csv").open("w", encoding="utf-8", newline="") as sink:
        writer: Any = None
        for row in csv.DictReader(source):
            numbers = {"id": int(row["id"]), "amount": float(row["amount"]), "count": int(row["count"])}
            made_row: dict[str, Any] = {**row, **numbers}
            if kind == "linear":
                made_row["amount"] *= made_row["count"]
                made_row["note"] = made_row["note"][:10]
            else:
                made_row = {**made_row, **made_row}
            if writer is None:
                writer = csv.DictWriter(sink, list(made_row))
                writer.writeheader()
            writer.writerow(made_row)


def _unaudited_orders(directory: Path) -> None:
    with (directory / "orders.jsonl").open(encoding="utf-8") as source, \
            (directory / "plain.jsonl").open("w", encoding="utf-8") as sink:
        for line in source:
            order = json.loads(line)
            others = {name: value for name, value in order.items() if name != "items"}
            items = [{**others, "item": item, "item_index": place, "cost": item["count"] * item["price"]}
                     for place, item in enumerate(order["items"])]
            sink.write(json.dumps({**order, "items": items}) + "\n")


def _bytes(directory: Path, name: str) -> int:
    return sum(path.stat().st_size for path in directory.glob(f"{name}*") if ".read." not in path.name or ".read." in name)


def main(sizes: tuple[int, ...] = DEFAULT_ROWS) -> None:
    """Print a line for each pipeline and size."""
    for kind in KINDS:
        for rows in sizes:
            found = in_process(kind, rows)
            both = found["run_s"] + found["projection_s"]
            print(
                f"rows {kind} {rows}: {rows / found['run_s']:,.0f} rows/CPU s ({rows / found['wall_s']:,.0f} by the clock), "
                f"with projection {rows / both:,.0f}; unaudited {rows / found['plain_s']:,.0f} "
                f"(ratio {found['plain_s'] / found['run_s']:.2f}); "
                f"projection {found['events'] / found['projection_s']:,.0f} events/CPU s; "
                f"bytes per row {found['log_bytes'] / rows:,.0f} log + {found['read_bytes'] / rows:,.0f} read tables; "
                f"peak {found['peak_kib'] / 1024:.0f} MiB", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
    else:
        main(tuple(map(int, sys.argv[1:])) or DEFAULT_ROWS)
