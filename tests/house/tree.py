"""The project's files: which there are, and their parsed trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ledger", "engine", "projections", "migrations", "counterfoil")
PYTHON = (*PACKAGES, "tests", "examples", "bench")
MADE = {".git", ".venv", "out", "build", "dist", "__pycache__"}
MADE_ENDINGS = ("_cache", ".egg-info", ".hypothesis", ".db", ".db-wal", ".db-shm", ".db.lock", ".db.key")


class Parsed(NamedTuple):
    """One Python file: its path from the root with forward slashes, its text, its tree."""

    path: str
    text: str
    tree: ast.Module


def parse(path: str, text: str) -> Parsed:
    """A file that need not exist: how counter-examples are made."""
    return Parsed(path, text, ast.parse(text))


def python_files(folders: tuple[str, ...]) -> list[Parsed]:
    """Every Python file below these folders, in the order of their names."""
    paths = [path for folder in folders for path in _walk(ROOT / folder) if path.suffix == ".py"]
    return [parse(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def text_files() -> Iterator[tuple[str, str]]:
    """(path, text) of every file that belongs to the project; bytes that are no UTF-8 read as such."""
    for path in _walk(ROOT):
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8", errors="replace")


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name in MADE or path.name.endswith(MADE_ENDINGS):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path
