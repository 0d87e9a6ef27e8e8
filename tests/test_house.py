"""The house stands: walls between the rooms, a pure core, files that can be read, no words of any one machine.

Each rule is run over the whole project, then over the smallest text that breaks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.house import style, tree, waiting, walls, words
from tests.house.edges import DOORS, EDGES
from tests.house.tree import PACKAGES, PYTHON, Parsed, parse

Rule = Callable[[Parsed], Sequence[str]]

OURS = tree.python_files(PACKAGES)
ALL = tree.python_files(PYTHON)
TESTS = [file for file in ALL if file.path.startswith("tests/")]


def _allowed(path: str) -> frozenset[str] | None:
    """What the file may take from outside; None for a door, which may take anything."""
    if path.startswith(tuple(DOORS)):
        return None
    return EDGES[path].uses if path in EDGES else frozenset()


def _uninvited(file: Parsed) -> list[str]:
    allowed = _allowed(file.path)
    return [] if allowed is None else walls.uninvited(file, allowed)


def _words(file: Parsed) -> list[str]:
    return words.forbidden(file.path, file.text)


RULES_FOR_OURS: Sequence[Rule] = (
    walls.broken_walls,
    _uninvited,
    style.undocumented,
    style.asserts,
    style.keyword_pass_through,
    style.module_state,
)
RULES_FOR_ALL: Sequence[Rule] = (style.too_long, style.badly_named, style.star_imports, style.swallowed_errors)


def test_the_project_has_its_rooms_at_the_top_level() -> None:
    """F8: pyproject.toml, ledger, engine, projections, migrations, tests stand at the top level."""
    assert (tree.ROOT / "pyproject.toml").is_file()
    missing = [room for room in (*PACKAGES, "tests") if not (tree.ROOT / room).is_dir()]
    assert missing == []


@pytest.mark.parametrize("rule", RULES_FOR_OURS)
def test_every_file_of_the_product_keeps_the_rule(rule: Rule) -> None:
    """F1, F2: the rooms import one way and the core is pure, so that only events reach the record."""
    assert [finding for file in OURS for finding in rule(file)] == []


@pytest.mark.parametrize("rule", RULES_FOR_ALL)
def test_every_python_file_keeps_the_rule(rule: Rule) -> None:
    """Sizes, names, star imports, swallowed errors: in tests, examples and benchmarks too."""
    assert [finding for file in ALL for finding in rule(file)] == []


@pytest.mark.parametrize("rule", [waiting.sleeps, waiting.waiting_loops])
def test_no_test_waits_on_its_own(rule: Rule) -> None:
    """C5: what a run has to wait for is the product's to wait for; time is simulated, other processes have timeouts."""
    assert [finding for file in TESTS for finding in rule(file)] == []


def test_every_exception_to_waiting_is_needed() -> None:
    """C5: an excuse outlives its reason unless somebody looks."""
    assert waiting.stale(TESTS) == []
    assert waiting.stale([]) == list(waiting.ALLOWED)


def test_every_test_file_says_what_it_is_about() -> None:
    """Test modules have docstrings too."""
    assert [finding for file in TESTS for finding in style.undocumented(file)[:1] if finding.endswith(": module")] == []


def test_every_edge_that_is_allowed_is_used() -> None:
    """An allowance outlives its reason unless somebody looks."""
    by_path = {file.path: file for file in OURS}
    stale = [
        f"{path}: {name}"
        for path, edge in EDGES.items()
        for name in sorted(edge.uses - (walls.outside(by_path[path]).keys() if path in by_path else set()))
    ]
    assert stale == []


def test_no_file_names_a_registry_or_a_machine() -> None:
    """What is committed holds on every machine: lock files name versions, nothing names a place."""
    assert [finding for path, text in tree.text_files() for finding in words.forbidden(path, text)] == []


def test_the_lock_files_pin_every_package_and_agree() -> None:
    """`requirements.lock` is the part of `requirements-dev.lock` that runs; each line is `name==version`."""
    names = ("requirements.lock", "requirements-dev.lock")
    runtime, dev = ((tree.ROOT / name).read_text(encoding="utf-8").splitlines() for name in names)
    assert [line for line in dev if line.count("==") != 1 or " " in line or not line[0].isalnum()] == []
    assert set(runtime) <= set(dev)


DOC = '"""Says what."""\n'

COUNTER_EXAMPLES: Sequence[tuple[Rule, str, str]] = (
    (walls.broken_walls, "ledger/a.py", "import engine.loop"),
    (walls.broken_walls, "engine/a.py", "from projections import rebuild"),
    (walls.broken_walls, "engine/a.py", "def f():\n    from counterfoil import cli"),
    (walls.broken_walls, "projections/a.py", "from engine.rows import Row"),
    (walls.broken_walls, "engine/steps/a.py", "from ...projections import rebuild"),
    (walls.broken_walls, "counterfoil/a.py", "from tests import given"),
    (_uninvited, "ledger/a.py", "import time"),
    (_uninvited, "ledger/a.py", "from os import environ"),
    (_uninvited, "engine/a.py", "import random"),
    (_uninvited, "engine/a.py", "from datetime import datetime\nx = datetime.now()"),
    (_uninvited, "projections/a.py", "x = open('y')"),
    (_uninvited, "engine/ports.py", "import subprocess"),
    (style.undocumented, "engine/a.py", "x = 1"),
    (style.undocumented, "engine/a.py", DOC + "def f():\n    pass"),
    (style.undocumented, "engine/a.py", DOC + "class C:\n    '''Yes.'''\n    def f(self):\n        pass"),
    (style.asserts, "engine/a.py", "assert True"),
    (style.keyword_pass_through, "engine/a.py", "def f(**rest):\n    return g(**rest)"),
    (style.module_state, "engine/a.py", "SEEN = {}\ndef f(x):\n    SEEN[x] = 1"),
    (style.module_state, "engine/a.py", "SEEN: list[int] = []\ndef f(x):\n    SEEN.append(x)"),
    (style.module_state, "engine/a.py", "n = 0\ndef f():\n    global n\n    n = 1"),
    (style.too_long, "engine/a.py", "x = 1\n" * 401),
    (style.too_long, "engine/a.py", "def f():\n" + "    x = 1\n" * 60),
    (style.badly_named, "engine/row_utils.py", "x = 1"),
    (style.badly_named, "engine/common/a.py", "x = 1"),
    (style.badly_named, "engine/a.py", "class RunManager:\n    pass"),
    (style.star_imports, "engine/a.py", "from os import *"),
    (style.swallowed_errors, "engine/a.py", "while x:\n    try:\n        f()\n    except Exception:\n        continue"),
    (style.swallowed_errors, "engine/a.py", "try:\n    f()\nexcept:\n    pass"),
    (style.swallowed_errors, "engine/a.py", "try:\n    f()\nexcept (ValueError, BaseException):\n    ..."),
    (style.swallowed_errors, "engine/a.py", "with contextlib.suppress(Exception):\n    f()"),
    (waiting.sleeps, "tests/a.py", "time.sleep(1)"),
    (waiting.sleeps, "tests/a.py", "from time import sleep\nsleep(1)"),
    (waiting.sleeps, "tests/a.py", "from time import sleep as nap"),
    (waiting.sleeps, "tests/a.py", "run(pause=time.sleep)"),
    (waiting.waiting_loops, "tests/a.py", "while not done():\n    pass"),
    (waiting.waiting_loops, "tests/a.py", "def f():\n    while not done():\n        ..."),
    (waiting.waiting_loops, "tests/a.py", "while True:\n    if done():\n        break\n    event.wait(0.1)"),
    (waiting.waiting_loops, "tests/a.py", "while not event.wait(0.1):\n    x += 1"),
    (waiting.waiting_loops, "tests/a.py", "while process.poll() is None:\n    x += 1"),
    (waiting.waiting_loops, "tests/a.py", "for _ in range(100):\n    if done():\n        break\n    time.sleep(1)"),
    (waiting.waiting_loops, "tests/a.py", "for _ in itertools.count():\n    run.pause()"),
    (waiting.waiting_loops, "tests/doors/processes.py", "def other():\n    while not done():\n        pass"),
    (_words, "docs/a.py", f"# {words.HOSTS[0]}"),
    (_words, "docs/a.py", f"# {words.PATHS[0]}x"),
    (_words, "docs/a.py", f"# {words.OPTIONS[0]}"),
)

FINE: Sequence[tuple[Rule, str, str]] = (
    (walls.broken_walls, "counterfoil/a.py", "import engine, ledger, projections"),
    (walls.broken_walls, "engine/executors/a.py", "from ..loop import Loop"),
    (_uninvited, "engine/ports.py", "import os, time"),
    (_uninvited, "counterfoil/a.py", "import sys\nprint(1)"),
    (_uninvited, "ledger/a.py", "from datetime import datetime\nx = datetime.fromtimestamp(1)"),
    (style.undocumented, "engine/a.py", DOC + "def _f():\n    pass"),
    (style.module_state, "engine/a.py", "SEEN = {}\ndef f(x):\n    SEEN = {}\n    SEEN[x] = 1"),
    (style.swallowed_errors, "engine/a.py", "try:\n    f()\nexcept Exception as error:\n    note(error)"),
    (style.swallowed_errors, "engine/a.py", "try:\n    f()\nexcept KeyError:\n    pass"),
    (style.too_long, "engine/a.py", "x = 1\n" * 400),
    (waiting.sleeps, "tests/a.py", "asleep(1)\n# sleep"),
    (waiting.sleeps, "tests/kit/loopback.py", "time.sleep(1)"),
    (waiting.waiting_loops, "tests/a.py", "assert process.wait(60) == 0\nthread.join()"),
    (waiting.waiting_loops, "tests/a.py", "while todo:\n    todo.pop()"),
    (waiting.waiting_loops, "tests/a.py", "for token in tokens:\n    log.wait(1)"),
    (waiting.waiting_loops, "tests/doors/processes.py", "def until(p):\n    for _ in range(9):\n        p.wait(1)"),
)


@pytest.mark.parametrize(("rule", "path", "text"), COUNTER_EXAMPLES)
def test_each_rule_catches_what_breaks_it(rule: Rule, path: str, text: str) -> None:
    """A rule that cannot fail holds nothing."""
    assert rule(parse(path, text))


@pytest.mark.parametrize(("rule", "path", "text"), FINE)
def test_each_rule_lets_the_neighbouring_good_case_be(rule: Rule, path: str, text: str) -> None:
    """A rule that fires on good code will be switched off."""
    assert not rule(parse(path, text))
