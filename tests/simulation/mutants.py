"""Defects that somebody could make, each of which some check has to notice: tests are held to what they are for.

`python -m tests.simulation.mutants [NAME...]` tries them all, or those named, and says which check noticed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.simulation import mutants_of_disks, mutants_of_resumes, mutants_of_rules
from tests.simulation.mutant_children import tried, without
from tests.simulation.mutation import Mutant

MUTANTS: Sequence[Mutant] = (*mutants_of_rules.MUTANTS, *mutants_of_disks.MUTANTS, *mutants_of_resumes.MUTANTS)


def main(names: Sequence[str]) -> int:
    """Try the mutants of these names, or all; gives the exit code."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    if unknown := set(names) - {mutant.name for mutant in chosen}:
        print(f"no such mutants: {', '.join(sorted(unknown))}")
        return 2
    wrong = without(sorted({mutant.check for mutant in chosen}))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    killed = 0
    for one in tried(chosen):
        print(one.line(), flush=True)
        killed += not one.wrong
    print(f"{killed} of {len(chosen)} killed")
    return 0 if killed == len(chosen) and not wrong else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
