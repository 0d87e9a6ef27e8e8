"""Nothing in the tests waits on its own: no sleep, no loop that looks again and again until something has happened (C5).

Why: an orchestrator once had the waiting logic that it needed in its test harness alone. What a test waits for is the
product's to wait for; what another process does is waited for with a timeout, by the system.

Invariant: `ALLOWED` names each exception with its reason, and every one of them is used.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from tests.house.tree import Parsed

NAPS = frozenset({"sleep", "nanosleep", "usleep"})
LOOKS = frozenset({*NAPS, "wait", "wait_for", "poll", "pause", "select", "sched_yield", "is_alive"})
ENDLESS = frozenset({"range", "count", "cycle", "repeat", "iter"})
"""What a `for` goes through when it counts its turns and not somebody's things."""

Loop = ast.While | ast.For | ast.AsyncFor

ALLOWED: Mapping[str, str] = {
    "tests/kit/loopback.py": "a server that tests ask: to be slow is what it is asked for",
    "tests/doors/processes.py:until": "another process, which is to be stopped at a certain point of its work",
    "tests/simulation/cases_postgres.py:outage": "another process, which is let run for a while between two outages",
    "tests/doors/test_bad_ledgers.py:_until_someone_waits": "another process, which waits for a lock that the test holds",
}
"""A file, or `file:function`."""


def sleeps(file: Parsed) -> list[str]:
    """Every mention of a sleep: called, handed on, or imported under another name."""
    return [] if file.path in ALLOWED else [f"{file.path}:{line}: sleep" for line in _naps(file)]


def waiting_loops(file: Parsed) -> list[str]:
    """Loops that do nothing, and loops that look, wait and look again; each by its function and its line."""
    return [f"{where}:{loop.lineno}: waits in a loop" for where, loop in _loops(file)
            if not {where, file.path} & ALLOWED.keys() and _waits(loop)]


def stale(files: list[Parsed]) -> list[str]:
    """Exceptions that nothing needs: a function that does not wait, a file that neither waits nor sleeps."""
    waiting = {place for file in files for where, loop in _loops(file) if _waits(loop) for place in (where, file.path)}
    sleeping = {file.path for file in files if _naps(file)}
    return [place for place in ALLOWED if place not in waiting | sleeping]


def _naps(file: Parsed) -> list[int]:
    return [
        node.lineno for node in ast.walk(file.tree)
        if (isinstance(node, ast.Name | ast.Attribute) and _name(node) in NAPS)
        or (isinstance(node, ast.ImportFrom) and any(alias.name in NAPS for alias in node.names))
    ]


def _loops(file: Parsed) -> Iterator[tuple[str, Loop]]:
    """Every loop, with `file:function` for the outermost function it stands in (methods by their own name)."""
    owners: dict[ast.AST, str] = {}
    for node in ast.walk(file.tree):
        for child in ast.iter_child_nodes(node):
            own = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ""
            owners[child] = owners.get(node) or own
        if isinstance(node, Loop):
            yield f"{file.path}:{owners[node]}", node


def _waits(loop: Loop) -> bool:
    """A `while` that is empty or looks again, a `for` over mere turns that does."""
    if isinstance(loop, ast.While):
        return all(map(_does_nothing, loop.body)) or bool(_calls(loop) & LOOKS)
    return isinstance(loop.iter, ast.Call) and _name(loop.iter.func) in ENDLESS and bool(_calls(loop) & LOOKS)


def _calls(loop: Loop) -> set[str]:
    return {_name(node.func) for node in ast.walk(loop) if isinstance(node, ast.Call)}


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass | ast.Continue)


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
