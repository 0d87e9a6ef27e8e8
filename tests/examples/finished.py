"""An example, run through the command line in a folder of its own, with what it left there."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from counterfoil.cli import main
from tests.house.tree import ROOT


class Finished(NamedTuple):
    """What `run` printed, the rows in each sink's file, and the ledger to ask."""

    receipt: Mapping[str, Any]
    sinks: Mapping[str, list[dict[str, Any]]]
    ledger: str

    def counts(self) -> dict[str, Any]:
        """The facts that `expected.json` states."""
        stated = {key: self.receipt[key] for key in ("rows", "tokens", "outcomes", "late_arrivals")}
        return {**stated, "sinks": {name: len(rows) for name, rows in self.sinks.items()}}

    def ask(self, *arguments: str) -> dict[str, Any]:
        """What a command answers about the run."""
        return _command(*arguments, "--ledger", self.ledger)


def expected(name: str) -> dict[str, Any]:
    """What the example promises."""
    promised: dict[str, Any] = json.loads((ROOT / "examples" / name / "expected.json").read_text(encoding="utf-8"))
    return promised


def run(name: str, folder: Path, file: str = "pipeline.yaml") -> Finished:
    """Run the example in `folder`."""
    ledger = prepare(name, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        receipt = _command("run", f"examples/{name}/{file}", "--run-id", name, "--ledger", ledger)
    return Finished(receipt, sinks(name, folder, file), ledger)


def prepare(name: str, folder: Path) -> str:
    """Let `folder` see the project's `examples` and have an `out` of its own; gives the url of its ledger."""
    (folder / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    (folder / "out" / name).mkdir(parents=True)
    return f"sqlite:///{folder}/out/ledger.db"


def sinks(name: str, folder: Path, file: str = "pipeline.yaml") -> dict[str, list[dict[str, Any]]]:
    """The rows in the file of each sink."""
    pipeline = yaml.safe_load((ROOT / "examples" / name / file).read_text(encoding="utf-8"))
    return {sink: _rows(folder / settings["options"]["path"]) for sink, settings in pipeline["sinks"].items()}


def _command(*arguments: str) -> dict[str, Any]:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([*arguments, "-o", "json"])
    if ended.value.code != 0:
        pytest.fail(f"counterfoil {' '.join(arguments)} exited {ended.value.code}: {err.getvalue()}")
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as lines:
        if path.suffix == ".csv":
            return list(csv.DictReader(lines))
        return [json.loads(line) for line in lines]
