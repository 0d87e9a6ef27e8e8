"""The program as a process of its own, in a folder of its own, with or without a fault to come.

Invariants: a child is waited for, with a limit; only children started here are ended, by their handle; whatever one says
on stderr is one line and no traceback.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.house.tree import ROOT
from tests.simulation import interposer, journal
from tests.simulation.child import Knobs
from tests.simulation.interposer import Plan
from tests.simulation.journal import Call
from tests.simulation.pipelines import FILE, Pipeline

LEDGER = "ledger.db"
RUN = "cut"
SECONDS_MAX = 120.0
UNKNOWN = ("RUN_UNKNOWN", "LEDGER_MISSING")
"""What a resume says when the run had not begun: then it is run."""

_LINE = re.compile(r"([A-Z][A-Z_]+): .+")


class Ended(NamedTuple):
    """How a child ended: its exit code (negative: the signal) and what it said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The code word of its last line on stderr, "" without one."""
        lines = self.err.splitlines()
        found = _LINE.fullmatch(lines[-1]) if lines else None
        return found[1] if found else ""

    def faults(self) -> list[str]:
        """What no command may do, however it fails."""
        wrong = []
        if "Traceback" in self.err:
            wrong.append(f"a traceback: {self.err[-600:]}")
        if self.code == 1 or (self.code > 0 and not self.error):
            wrong.append(f"exit {self.code} with {self.err[-300:]!r}")
        return wrong


@dataclass(frozen=True)
class Place:
    """A folder with a pipeline in it, the ledger and the sinks to be; `base` holds what is the harness's own.

    `database` is the URL of a ledger that is kept elsewhere; without it, it lies in a file of the folder.
    """

    base: Path
    pipeline: Pipeline
    library: Path
    knobs: Knobs | None = None
    data: bool = False
    database: str | None = None

    @property
    def folder(self) -> Path:
        """Where the program works: what is watched."""
        return self.base / "run"

    @property
    def journal(self) -> Path:
        """Where its calls are written down; one process after the other appends."""
        return self.base / "journal"

    @property
    def url(self) -> str:
        """The ledger's, for this process."""
        return self.database or f"sqlite:///{self.folder / LEDGER}"

    def made(self) -> Place:
        """The place with its files in it."""
        self.folder.mkdir(parents=True)
        self.pipeline.put(self.folder)
        return self

    def calls(self) -> list[Call]:
        """What the journal holds."""
        return journal.read(self.journal, self.folder.resolve())

    def start(self, *arguments: str, plan: Plan | None = None, watched: bool = True) -> subprocess.Popen[str]:
        """Begin a command."""
        told = interposer.environment(self.library, self.folder, self.journal, plan, data=self.data) if watched else {}
        home = {"PYTHONPATH": str(ROOT), "COUNTERFOIL_HOME": str(self.base / "home"), "NO_COLOR": "1"}
        program = ["-m", "counterfoil"]
        if self.knobs is not None:
            program = ["-m", "tests.simulation.child", msgspec.json.encode(self.knobs).decode()]
        given = [sys.executable, *program, *arguments, "--ledger", self.database or f"sqlite:///{LEDGER}"]
        return subprocess.Popen(given, cwd=self.folder, env={**os.environ, **home, **told}, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def run(self, plan: Plan | None = None) -> Ended:
        """`run` the pipeline, as a new run."""
        return ended(self.start(*RUNNING, plan=plan))

    def resume(self, plan: Plan | None = None) -> Ended:
        """`resume` the run, or `run` it when it had not begun."""
        told = ended(self.start(*RESUMING, plan=plan))
        return self.run(plan) if told.error in UNKNOWN else told


RUNNING: Sequence[str] = ("run", FILE, "--run-id", RUN)
RESUMING: Sequence[str] = ("resume", RUN)


def ended(child: subprocess.Popen[str], seconds: float = SECONDS_MAX) -> Ended:
    """Wait for a child; one that does not end in time is killed, which is a failure."""
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
        return Ended(child.returncode, out, f"{err}\nTraceback: it did not end within {seconds} s")
    return Ended(child.returncode, out, err)


def killed_after(child: subprocess.Popen[str], seconds: float) -> Ended:
    """Kill a child after so long, wherever it then is."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
    return ended(child)
