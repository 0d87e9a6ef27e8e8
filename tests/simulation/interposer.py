"""The library that stands between a process and its files: built from `interpose.c`, and what it is told by environment.

Why libc and not a file system: nothing has to be mounted, nobody has to be root, and it is the program itself that runs.

Invariant: a plan names a call by its number in the process, or among those of one kind on one path.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tests.simulation.journal import Call

SOURCE = Path(__file__).with_name("interpose.c")
COMPILE_SECONDS_MAX = 120

Kind = Literal["kill", "stop", "eio", "dies", "full", "readonly"]
Where = Literal["before", "half", "after"]


class Plan(NamedTuple):
    """What is to go wrong in one process, and at which of its calls: the one of that `number`, counted from 1.

    `of` says which calls are counted (for the kinds `eio` and `dies` only syncs); it ends with a path or is empty.
    """

    kind: Kind
    number: int
    where: Where = "before"
    of: str = ""

    def __str__(self) -> str:
        """As `INTERPOSE_PLAN` has it."""
        where = f"{self.where}:" if self.kind in ("kill", "stop") else ""
        return f"{self.kind}:{where}{self.number}{self.of and '@'}{self.of}"


def at(kind: Kind, calls: Sequence[Call], number: int, where: Where) -> Plan:
    """A plan for a call of a run that is known, told so that it is met again where pages come in other numbers."""
    place = next(place for place, call in enumerate(calls) if call.is_call and call.number == number)
    call = calls[place]
    mine = [one for one in calls[:place + 1] if one.is_call and one.path == call.path]
    if call.op in ("sync", "sync_directory") and call.path:
        syncs = sum(one.op == call.op for one in mine)
        return Plan(kind, syncs, where, f"sync:{call.path}")
    if call.op == "write" and _is_first(calls, place):
        return Plan(kind, sum(_is_first(calls, n) for n in range(place + 1) if calls[n].path == call.path), where,
                    f"first:{call.path}")
    return Plan(kind, number, where)


def _is_first(calls: Sequence[Call], place: int) -> bool:
    """Whether it is a write that follows no write on the same path."""
    before = next((one for one in reversed(calls[:place]) if one.is_call), None)
    return calls[place].op == "write" and (before is None or before.op != "write" or before.path != calls[place].path)


def compiled(folder: Path) -> Path:
    """The library, made in a folder. Raises CalledProcessError with the compiler's words in `stderr`."""
    library = folder / "interpose.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"], check=True,
                   capture_output=True, text=True, timeout=COMPILE_SECONDS_MAX)
    return library


def environment(library: Path, root: Path, journal: Path, plan: Plan | None = None, *, data: bool = False
                ) -> Mapping[str, str]:
    """What a process has to be started with: `root` is watched, `journal` is appended to (`data`: with the bytes)."""
    told = {"LD_PRELOAD": str(library), "INTERPOSE_ROOT": str(root.resolve()), "INTERPOSE_JOURNAL": str(journal),
            "INTERPOSE_LAZY": "1"}
    if data:
        told["INTERPOSE_DATA"] = "1"
    if plan is not None:
        told["INTERPOSE_PLAN"] = str(plan)
    return told
