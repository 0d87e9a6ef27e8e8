"""The map from what is asked to the tests that show it: read from test docstrings, written to `docs/requirements.md`.

A test says what it shows at the start of its docstring: `D2, G8: select refuses an unknown branch.` A law whose id is
also a requirement's is written `law C1`; `law T3` and `T3` mean the same.

Run `python -m tests.requirements_map` to write the document again.

Invariants: every id of `ASKED` has a line; a line lists exactly the tests that name the id, or says `open:` and the
issue that will bring it; a test that names an unknown id is an error.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tests.house.tree import ROOT, Parsed, python_files
from tests.requirements.asked import ASKED, LAWS, OPEN, PARTLY

DOCUMENT = ROOT / "docs" / "requirements.md"

_ID = r"(?:law )?[A-Z]\d{1,2}"
_LEAD = re.compile(rf"({_ID}(?:, ?{_ID})*):")


class Shown(NamedTuple):
    """One test and an id that its docstring names."""

    test: str
    id: str


def shown(files: Iterable[Parsed]) -> Iterator[Shown]:
    """Every (test, id) of these files; tests are `file::function` or `file::Class::method`."""
    for file in files:
        for name, node in _tests(file.tree):
            for named in ids_of(ast.get_docstring(node) or ""):
                yield Shown(f"{file.path}::{name}", named)


def ids_of(docstring: str) -> list[str]:
    """The ids at the start of a docstring, laws as `law X`."""
    lead = _LEAD.match(docstring)
    return [_canonical(named.strip()) for named in lead.group(1).split(",")] if lead else []


def unknown(found: Iterable[Shown]) -> list[str]:
    """Tests that name an id nobody asked for."""
    return [f"{test}: {named}" for test, named in found if named not in ASKED]


def unshown(found: Iterable[Shown], open_ids: Mapping[str, str] = OPEN) -> list[str]:
    """Ids with neither a test nor an issue."""
    named = {entry.id for entry in found}
    return [asked for asked in ASKED if asked not in named and asked not in open_ids]


def stale(found: Iterable[Shown], open_ids: Mapping[str, str] = OPEN) -> list[str]:
    """Ids that are called open although a test shows them."""
    named = {entry.id for entry in found}
    return [asked for asked in open_ids if asked in named]


def render(found: Iterable[Shown]) -> str:
    """The document."""
    tests: dict[str, list[str]] = {}
    for test, named in sorted(set(found)):
        tests.setdefault(named, []).append(test)
    lines = [
        "# What is asked, and the tests that show it",
        "",
        "Written by `python -m tests.requirements_map` from the docstrings of the tests, and held complete and true by",
        "`tests/test_requirements_map.py`. `open:` names the issue that will bring what is missing.",
        "",
        "| id | asked | shown by |",
        "|---|---|---|",
    ]
    lines += [f"| {asked} | {text} | {_cell(asked, tests.get(asked, []))} |" for asked, text in ASKED.items()]
    return "\n".join(lines) + "\n"


def files_of_tests() -> list[Parsed]:
    """The project's test files."""
    return [file for file in python_files(("tests",)) if file.path.rsplit("/", 1)[-1].startswith("test_")]


def main() -> None:
    """Write the document."""
    found = list(shown(files_of_tests()))
    DOCUMENT.write_text(render(found), encoding="utf-8")
    for finding in [*unknown(found), *unshown(found), *stale(found)]:
        print(finding)


def _cell(asked: str, tests: list[str]) -> str:
    if tests:
        rest = [f"open: {PARTLY[asked][0]} ({PARTLY[asked][1]})"] if asked in PARTLY else []
        return "<br>".join([*(f"`{test}`" for test in tests), *rest])
    return f"open: {OPEN[asked]}" if asked in OPEN else "**nothing yet**"


def _canonical(named: str) -> str:
    return f"law {named}" if f"law {named}" in LAWS and named not in ASKED else named


def _tests(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name.startswith("test"):
                    yield f"{node.name}::{inner.name}", inner


if __name__ == "__main__":
    main()
