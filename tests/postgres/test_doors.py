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
CHOSEN: Mapping[str, int] = {
    "test_commands.py::test_a_list_answers_as_a_table_as_json_and_as_lines": 5,
    "test_commands.py::test_an_object_answers_as_a_table_and_as_json": 5,
    "test_commands.py::test_the_schema_is_made_named_and_checked": 1,
    "test_explain.py::test_a_story_goes_both_ways": 1,
    "test_explain.py::test_explain_at_tells_what_was_known_then": 1,
    "test_explain_batches.py": 5,
    "test_graphs.py::test_a_run_and_its_file_have_one_graph": 1,
    "test_resuming.py::test_a_step_that_kills_the_process_is_found_and_the_rest_completes": 1,
    "test_resuming.py::test_a_sealed_run_is_left_alone": 1,
    "test_stopping.py::test_one_signal_finishes_what_is_in_hand_and_leaves_groups_open[2]": 1,
}
"""Tests, and how many of them have to have passed, so that none is skipped by an oversight."""


@pytest.mark.skipif(ON_POSTGRES, reason="they are run already")
def test_the_commands_hold_on_postgresql() -> None:
    """F5, F6, law P5: what was promised of the doors, asked of a ledger on a server."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-vv", *(f"tests/doors/{name}" for name in CHOSEN)]
    told = subprocess.run(command, cwd=ROOT, env={**os.environ, VARIABLE: "postgres"}, capture_output=True, text=True,
                          timeout=SECONDS_MAX, check=False)
    assert told.returncode == 0, told.stdout[-4000:] + told.stderr[-1000:]
    for name, least in CHOSEN.items():
        assert len(re.findall(rf"^tests/doors/{re.escape(name)}.* PASSED", told.stdout, re.M)) >= least, (name, told.stdout)
