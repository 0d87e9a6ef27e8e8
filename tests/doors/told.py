"""Commands told to the program in this process, and what they answered; a small pipeline to tell them of."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from counterfoil.cli import main
from tests.doors.kept import LEDGER, URL

JOINED = """\
source:
  plugin: csv
  on_success: rows
  options:
    path: in.csv
    on_validation_failure: bad
gates:
  - name: split
    input: rows
    condition: "True"
    routes: {"true": fork}
    fork_to: [left, right]
transforms:
  - name: lefty
    plugin: passthrough
    input: left
    on_success: left_done
    on_error: bad
coalesce:
  - name: join
    branches: {left: left_done, right: right}
    policy: require_all
    merge: union
    on_success: good
sinks:
  good:
    plugin: json
    on_write_failure: discard
    options: {path: good.jsonl}
  bad:
    plugin: json
    options: {path: bad.jsonl}
"""
"""A fork, one step on its left branch, a coalesce that wants both, and a sink for what fails."""


class Told(NamedTuple):
    """How a command ended: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> Any:
        """stdout as one JSON document."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of a list."""
        found: list[dict[str, Any]] = self.answer["rows"]
        return found

    @property
    def error(self) -> str:
        """The one line on stderr; more than one is a failure, and so is a traceback."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert self.err.endswith("\n")
        assert "Traceback" not in self.err
        return lines[0]


def tell(*arguments: str, ledger: str | None = URL) -> Told:
    """Run the program in this process; what it does to the search path and the modules is undone."""
    given = [*arguments, *(["--ledger", ledger] if ledger is not None else [])]
    out, err = StringIO(), StringIO()
    path, modules = list(sys.path), set(sys.modules)
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main(given)
    finally:
        here = str(Path.cwd())
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(here):
                del sys.modules[name]
        sys.path[:] = path
    code = ended.value.code
    assert isinstance(code, int)
    return Told(code, out.getvalue(), err.getvalue())


def done(*arguments: str, ledger: str | None = URL) -> Told:
    """The same for a command that has to succeed."""
    told = tell(*arguments, ledger=ledger)
    assert told.code == 0, told.err
    return told


def ask(*arguments: str, ledger: str | None = URL) -> Any:
    """The JSON answer of a command that has to succeed."""
    return done(*arguments, "-o", "json", ledger=ledger).answer


def write(files: Mapping[str, str | bytes]) -> None:
    """Put files into the working directory."""
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def lines(path: str) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    with Path(path).open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


__all__ = ["JOINED", "LEDGER", "URL", "Told", "ask", "done", "lines", "tell", "write"]
