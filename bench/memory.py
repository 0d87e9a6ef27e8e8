"""Peak memory of a run at 10 k, 100 k and 1 M rows: what is open decides, not what is read. Run: python -m bench.memory"""

from __future__ import annotations

import sys

from bench.rows import in_process

DEFAULT_ROWS = (10_000, 100_000, 1_000_000)


def main(sizes: tuple[int, ...] = DEFAULT_ROWS, kind: str = "fork") -> None:
    """Print a line for each size, with its ratio to the smallest."""
    first = 0.0
    for rows in sizes:
        peak = in_process(kind, rows)["peak_kib"] / 1024
        first = first or peak
        print(f"memory {kind} {rows} rows: peak {peak:.1f} MiB, {peak / first:.2f} of {sizes[0]} rows", flush=True)


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or DEFAULT_ROWS)
