"""Peak memory of a run by its rows, and by its finished groups: what is open decides, not what is read.

Run: python -m bench.memory [KIND ROWS ...]
"""

from __future__ import annotations

import sys

from bench.rows import in_process

DEFAULTS = {"fork": (10_000, 100_000, 1_000_000), "gather": (1_000, 10_000, 100_000)}


def main() -> None:
    """The lines of every kind."""
    for kind, sizes in DEFAULTS.items():
        measure(kind, sizes)


def measure(kind: str, sizes: tuple[int, ...]) -> None:
    """Print a line for each size, with its ratio to the smallest."""
    first = 0.0
    for rows in sizes:
        peak = in_process(kind, rows)["peak_kib"] / 1024
        first = first or peak
        print(f"memory {kind} {rows} rows: peak {peak:.1f} MiB, {peak / first:.2f} of {sizes[0]} rows", flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(sys.argv[1], tuple(map(int, sys.argv[2:])))
    else:
        main()
