"""Makes `applications.csv`: invented loan applications, the same ones each time.

Why invented: the example shows routes, not people. Nothing here comes from, or resembles, any real applicant.

Usage: python examples/loans/make_applications.py > examples/loans/applications.csv
"""

from __future__ import annotations

import csv
import random
import sys

SEED = 20130101
ROWS = 400
HEADER = ("id", "monthly_income", "amount", "term_months", "credit_score", "purpose", "note")
PURPOSES = ("car", "kitchen", "roof", "studies", "wedding", "machine tool", "bakery oven")
TERMS = (12, 18, 24, 36, 48, 60)


def applications(chance: random.Random) -> list[tuple[object, ...]]:
    """`ROWS` applications; about one in twenty cannot be read, a few ask for what must not be decided by rule."""
    return [_application(number, chance) for number in range(1, ROWS + 1)]


def _application(number: int, chance: random.Random) -> tuple[object, ...]:
    income: object = round(chance.lognormvariate(7.9, 0.4))
    amount = round(chance.lognormvariate(9.2, 0.9), -2)
    score: object = min(850, max(300, round(chance.gauss(680, 75))))
    fate = chance.random()
    if fate < 0.03:
        income = "n/a"
    elif fate < 0.05:
        score = ""
    elif fate < 0.07:
        income = 0
    note = chance.choice(("test application, please ignore", "TEST APPLICATION")) if 0.07 <= fate < 0.09 else ""
    return number, income, f"{amount:.0f}", chance.choice(TERMS), score, chance.choice(PURPOSES), note


def main() -> None:
    """Print the file."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(applications(random.Random(SEED)))


if __name__ == "__main__":
    main()
