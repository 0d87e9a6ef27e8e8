"""Makes `experiments.jsonl`: synthetic experiments, the same ones each time, with as many trials as each one needs.

Why invented: the example shows what becomes of trials, not a result. No instrument, laboratory or question is real.

Usage: python examples/experiment/make_experiments.py > examples/experiment/experiments.jsonl
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from typing import NamedTuple

SEED = 20130206
READINGS = 4


class Design(NamedTuple):
    """How many trials an experiment has, and what is wrong with which of them."""

    trials: int
    flaky: tuple[int, ...] = ()
    slow: tuple[int, ...] = ()
    broken: tuple[int, ...] = ()
    uncontrolled: tuple[int, ...] = ()


DESIGNS: Mapping[str, Design] = {
    "dry_run": Design(0),
    "first_light": Design(1),
    "pair": Design(2, flaky=(1,)),
    "overnight": Design(5, slow=(0,)),
    "spill": Design(5, broken=(2,)),
    "survey": Design(40, flaky=(7, 19, 31), slow=(2,), broken=(13, 26)),
    "flood": Design(2, broken=(0, 1)),
    "hasty": Design(3, uncontrolled=(1,)),
}


def experiments(chance: random.Random) -> list[dict[str, object]]:
    """The experiments, in the order of `DESIGNS`."""
    return [
        {
            "experiment": name,
            "question": f"Does the treatment of {name} make a difference?",
            "trials": [_trial(number, design, chance) for number in range(design.trials)],
        }
        for name, design in DESIGNS.items()
    ]


def _trial(number: int, design: Design, chance: random.Random) -> dict[str, object]:
    """Readings of a control and of a treated group; a broken instrument left a gap, a flaky or slow one answers late."""
    control = [chance.randint(90, 110) for _ in range(READINGS)]
    treated: list[int | None] = [chance.randint(95, 120) for _ in range(READINGS)]
    if number in design.broken:
        treated[-1] = None
    return {
        "trial": number,
        "control": [] if number in design.uncontrolled else control,
        "treated": treated,
        "answers_at": 2 if number in design.flaky else 3 if number in design.slow else 1,
    }


def main() -> None:
    """Print the file."""
    for experiment in experiments(random.Random(SEED)):
        sys.stdout.write(json.dumps(experiment) + "\n")


if __name__ == "__main__":
    main()
