"""The standard pipelines over made-up rows, in a directory of their own: two over rows of six fields and about 80 bytes, one
that explodes orders into items and gathers them again."""

from __future__ import annotations

import csv
import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SEED = 20131101

SOURCE = """
source:
  plugin: csv
  on_success: rows
  options:
    path: {directory}/rows.csv
    on_validation_failure: discard
    schema:
      mode: fixed
      fields: ["id: int", "name: str", "city: str", "amount: float", "count: int", "note: str"]
sinks:
  out:
    plugin: csv
    options: {{path: "{directory}/out.csv"}}
"""

LINEAR = SOURCE + """
transforms:
  - name: first
    plugin: value_transform
    input: rows
    on_success: priced
    on_error: discard
    options: {{operations: [{{target: amount, expression: "row['amount'] * row['count']"}}]}}
  - name: second
    plugin: truncate
    input: priced
    on_success: out
    on_error: discard
    options: {{fields: {{note: 10}}}}
"""

FORK = SOURCE + """
gates:
  - name: both
    input: rows
    condition: "True"
    routes: {{"true": fork}}
    fork_to: [left, right]
coalesce:
  - name: merge
    branches: [left, right]
    policy: require_all
    merge: union
    on_success: out
"""

ITEMS = 4
GATHER = """
source:
  plugin: json
  on_success: orders
  options: {{path: "{directory}/orders.jsonl", format: jsonl, on_validation_failure: discard}}
transforms:
  - name: items
    plugin: json_explode
    input: orders
    on_success: each
    on_error: discard
    options: {{array_field: items}}
  - name: cost
    plugin: value_transform
    input: each
    on_success: priced
    on_error: discard
    options: {{operations: [{{target: cost, expression: "row['item']['count'] * row['item']['price']"}}]}}
coalesce:
  - name: order
    gathers: items
    input: priced
    policy: require_all
    merge: list
    on_success: out
sinks:
  out:
    plugin: json
    options: {{path: "{directory}/out.jsonl"}}
"""

KINDS = {"linear": LINEAR, "fork": FORK, "gather": GATHER}


@contextmanager
def made(kind: str, rows: int) -> Iterator[Path]:
    """A directory with `pipeline.yaml` and what it reads: `rows.csv`, or `orders.jsonl`."""
    with tempfile.TemporaryDirectory(prefix="counterfoil-bench-") as name:
        directory = Path(name)
        (directory / "pipeline.yaml").write_text(f"name: {kind}\n" + KINDS[kind].format(directory=name), encoding="utf-8")
        if kind == "gather":
            write_orders(directory / "orders.jsonl", rows)
        else:
            write_rows(directory / "rows.csv", rows)
        yield directory


def write_rows(path: Path, rows: int) -> None:
    """Seeded rows; the same for the same number."""
    chance = random.Random(SEED)
    cities = ("Utrecht", "Lagos", "Quito", "Osaka", "Tromso", "Dakar")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "name", "city", "amount", "count", "note"])
        for row in range(rows):
            writer.writerow([row, f"customer {chance.randrange(10**6):06}", chance.choice(cities),
                             round(chance.uniform(1, 500), 2), chance.randrange(1, 9), f"note {chance.randrange(10**9):09}"])


def write_orders(path: Path, rows: int) -> None:
    """Seeded orders of `ITEMS` items; the same for the same number."""
    chance = random.Random(SEED)
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            items = [{"sku": f"s{chance.randrange(10**5):05}", "count": chance.randrange(1, 9),
                      "price": round(chance.uniform(1, 500), 2)} for _ in range(ITEMS)]
            file.write(json.dumps({"id": row, "customer": f"customer {chance.randrange(10**6):06}", "items": items}) + "\n")
