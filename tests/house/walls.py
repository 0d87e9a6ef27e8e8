"""Which room may import from which, and where the outside world may come in.

Imports run one way: `counterfoil -> engine, projections -> ledger`; `engine` and `projections` never import each other;
`ledger` imports nothing of ours; `migrations` knows only the schema it makes.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import NamedTuple

from tests.house.tree import PACKAGES, Parsed

MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "ledger": frozenset(),
    "engine": frozenset({"ledger"}),
    "projections": frozenset({"ledger"}),
    "migrations": frozenset({"ledger", "projections"}),
    "counterfoil": frozenset({"ledger", "engine", "projections", "migrations"}),
}

OUTSIDE = frozenset({
    "asyncio", "concurrent", "ctypes", "fcntl", "getpass", "http", "io", "logging", "multiprocessing", "os", "platform",
    "random", "requests", "secrets", "select", "shutil", "signal", "socket", "sqlalchemy", "sqlite3", "ssl",
    "subprocess", "sys", "tempfile", "threading", "time", "urllib", "urllib3", "uuid",
    "warnings",
})  # fmt: skip
CALLS = frozenset({"open", "print", "input", "exec", "eval", "breakpoint"})
METHODS = frozenset({"now", "utcnow", "today", "read_text", "write_text", "read_bytes", "write_bytes", "mkdir",
                     "unlink", "rename", "cwd", "getcwd", "getenv"})  # fmt: skip


class Import(NamedTuple):
    """One imported module, and where."""

    module: str
    line: int


def imports(file: Parsed) -> list[Import]:
    """Every module that the file imports, at the top or inside a function; relative ones made absolute."""
    found: list[Import] = []
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.append(Import(_absolute(file, node), node.lineno))
    return found


def broken_walls(file: Parsed) -> list[str]:
    """Imports that run the wrong way."""
    room = file.path.split("/")[0]
    if room not in MAY_IMPORT:
        return []
    allowed = MAY_IMPORT[room] | {room}
    return [
        f"{file.path}:{found.line}: {room} imports {found.module}"
        for found in imports(file)
        if _top(found.module) in {*PACKAGES, "tests", "examples", "bench"} - allowed
    ]


def outside(file: Parsed) -> dict[str, int]:
    """What the file takes from the outside world: an import, a call, a method; each with its first line."""
    uses: dict[str, int] = {}
    for found in imports(file):
        if _top(found.module) in OUTSIDE:
            uses.setdefault(_top(found.module), found.line)
    for node in ast.walk(file.tree):
        name = _called(node)
        if name is not None:
            uses.setdefault(name, getattr(node, "lineno", 0))
    return uses


def uninvited(file: Parsed, allowed: frozenset[str]) -> list[str]:
    """What comes in from outside without being allowed to."""
    return [f"{file.path}:{line}: {name}" for name, line in outside(file).items() if name not in allowed]


def _called(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Name) and node.func.id in CALLS:
        return f"{node.func.id}()"
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        return f".{node.func.attr}()"
    return None


def _top(module: str) -> str:
    return module.split(".")[0]


def _absolute(file: Parsed, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = file.path.removesuffix("/__init__.py").removesuffix(".py").split("/")
    depth = node.level - (1 if file.path.endswith("/__init__.py") else 0)
    return ".".join([*package[: len(package) - depth], *([node.module] if node.module else [])])
