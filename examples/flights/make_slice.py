"""Cuts `flights.csv` out of the full table: the flights planned for 6 to 10 February 2013, in the table's order.

Why these days: a blizzard closed the airports on the 8th and 9th, so nearly a thousand flights have no arrival time.

Usage: python examples/flights/make_slice.py FLIGHTS_CSV_ZIP > examples/flights/flights.csv
"""

from __future__ import annotations

import io
import sys
import zipfile

MONTH, DAYS = "2", {"6", "7", "8", "9", "10"}


def main(archive: str) -> None:
    """Print the header and the lines of these days, byte for byte."""
    with zipfile.ZipFile(archive) as zipped, zipped.open("flights.csv") as raw:
        lines = io.TextIOWrapper(raw, encoding="utf-8", newline="")
        sys.stdout.write(next(lines))
        for line in lines:
            _, month, day, _ = line.split(",", 3)
            if month == MONTH and day in DAYS:
                sys.stdout.write(line)


if __name__ == "__main__":
    main(sys.argv[1])
