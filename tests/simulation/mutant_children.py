"""Mutants and their checks, each in a process of its own, two at a time.

Why processes: what a mutant changes is imported once. Why forked from one that has read the libraries: reading them is most
of what a small check costs.

Invariant: no process that a check runs in has imported the product before its mutant was made.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import NamedTuple

from tests.simulation.mutation import Mutant, Said, asked, stale

AT_ONCE = 2
SECONDS_MAX = 60
SECONDS_MAX_WITHOUT = 240
LIBRARIES = ["tests.simulation.mutation", "alembic.command", "hypothesis", "msgspec", "networkx", "pydantic", "pytest",
             "sqlalchemy", "sqlalchemy.dialects.sqlite", "urllib3", "yaml"]  # fmt: skip


class Tried(NamedTuple):
    """What came of one mutant: `wrong` is empty when its check noticed."""

    mutant: Mutant
    wrong: str

    def line(self) -> str:
        """For people."""
        mutant = self.mutant
        said = f"SURVIVED: {self.wrong}" if self.wrong else "killed by"
        return f"{mutant.name} ({mutant.breaks}; {mutant.file}): {said} {mutant.check}"


def without(checks: Sequence[str]) -> list[str]:
    """What is wrong with the checks themselves: those that do not pass where nothing was changed."""
    said = _in_a_child(checks, None, SECONDS_MAX_WITHOUT)
    if said is None:
        return ["the checks do not come to an end where nothing was changed"]
    passed = {name for one in said.passed for name in (one, one.partition("[")[0])}
    wrong = [f"{check} did not pass where nothing was changed" for check in checks if check not in passed]
    return [f"{said.failed} failed by {said.kinds[:1]}", *wrong] if said.failed else wrong


def tried(mutants: Sequence[Mutant]) -> Iterator[Tried]:
    """Make each mutant and ask its check, in the order of the list."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(_tried, mutants)


def _tried(mutant: Mutant) -> Tried:
    if (found := stale(mutant)) is not None:
        return Tried(mutant, found)
    said = _in_a_child([mutant.check], mutant, SECONDS_MAX)
    if said is None:
        return Tried(mutant, "came to no end:")
    if said.noticed(mutant):
        return Tried(mutant, "")
    if said.failed:
        return Tried(mutant, f"failed in {said.phase} by {said.kinds[:3]}, not in its own words:")
    if not said.passed:
        return Tried(mutant, "there is no such check as")
    return Tried(mutant, "passed:" if said.mutated else "its code is never imported by")


def _in_a_child(checks: Sequence[str], mutant: Mutant | None, seconds: float) -> Said | None:
    """What the checks said in another process; None when they came to no end in time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(there, list(checks), mutant), daemon=True)
    child.start()
    there.close()
    try:
        said: Said | None = here.recv() if here.poll(seconds) else None
    except EOFError:
        said = Said((), "all of them", ("the process ended",), "", mutated=False)
    finally:
        child.kill()
        child.join()
        here.close()
    return said


def _answer(there: Connection[Said, None], checks: list[str], mutant: Mutant | None) -> None:
    there.send(asked(checks, mutant))
