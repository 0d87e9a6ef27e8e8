"""The tests of the commands, the very same ones, with every ledger on PostgreSQL.

    COUNTERFOIL_TEST_LEDGER=postgres python -m pytest tests/doors        all of them; here are some, every time

Why in a process of its own: which database the doors' tests use is decided when they are collected.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.doors.kept import ON_POSTGRES, VARIABLE
from tests.house.tree import ROOT

SECONDS_MAX = 400
CHOSEN: Mapping[str, int] = {"test_commands.py": 60, "test_explain.py": 10, "test_explain_batches.py": 5,
                             "test_explain_gathers.py": 2, "test_graphs.py": 5}
"""Files, and how many tests of each have to have passed, so that none is skipped by an oversight."""


@pytest.mark.skipif(ON_POSTGRES, reason="they are run already")
def test_the_commands_hold_on_postgresql() -> None:
    """F5, F6, law P5: what was promised of the doors, asked of a ledger on a server."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-vv", "--durations=25", *(f"tests/doors/{file}" for file in CHOSEN)]
    told = subprocess.run(command, cwd=ROOT, env={**os.environ, VARIABLE: "postgres"}, capture_output=True, text=True,
                          timeout=SECONDS_MAX, check=False)
    assert told.returncode == 0, told.stdout[-4000:] + told.stderr[-1000:]
    for file, least in CHOSEN.items():
        assert len(re.findall(rf"^tests/doors/{file}::.* PASSED", told.stdout, re.M)) >= least, (file, told.stdout[-2000:])
