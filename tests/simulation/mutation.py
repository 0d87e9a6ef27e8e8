"""One change of the product's code, made in memory alone, and the check that has to notice it.

Why in memory: the tree is never touched, so that a run that is cut leaves nothing behind, and several go on at once.

Invariants: the text that is changed stands exactly once in its file; a check counts as one that noticed only if it passes
without the change, and fails with it in its own words: an assertion, a law, an error of the product. A module that cannot be
imported any more, or a test that cannot be collected, is no kill.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Collection, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
_OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "--tb=no", "--no-header", "--no-summary", "--hypothesis-seed=1",
            "-W", "ignore::pytest.PytestAssertRewriteWarning")
_WORDS = ("AssertionError", "Failed", "CounterfoilError")
"""What a check says of a broken product: its own assertion, an error that did not come, an error of the product."""


class Mutant(NamedTuple):
    """A defect that somebody could make: in `file`, `old` becomes `new`; `check` has to notice."""

    name: str
    breaks: str
    """The requirement, the law, or the trap."""
    file: str
    old: str
    new: str
    check: str
    """A pytest node id."""
    fails_by: str = ""
    """An error of another kind by which the check fails, where that is how one notices."""

    @property
    def module(self) -> str:
        """The name under which the file is imported."""
        return self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class Said(NamedTuple):
    """What pytest said of some checks: those that passed, and by what the first one failed, if one did."""

    passed: tuple[str, ...]
    failed: str
    kinds: tuple[str, ...]
    """The failure's type and those that it is one of, by name."""
    phase: str
    """Where it failed: `call`, or before or after it."""
    mutated: bool
    """Whether the changed code was imported."""

    def noticed(self, mutant: Mutant) -> bool:
        """Whether this is how a check fails that has noticed."""
        words = (mutant.fails_by,) if mutant.fails_by else _WORDS
        return self.mutated and self.phase == "call" and any(kind in words for kind in self.kinds)


def stale(mutant: Mutant) -> str | None:
    """Why the change cannot be made any more, if so."""
    count = _source(mutant.file).count(mutant.old)
    if mutant.old == mutant.new or count != 1:
        return f"{mutant.name}: expected its text once in {mutant.file}, found it {count} times"
    return None


def asked(checks: Sequence[str], mutant: Mutant | None) -> Said:
    """Run the checks in this process, which must not have imported the product; in it the change stays made."""
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    finder = _Finder(mutant) if mutant is not None else None
    if finder is not None:
        sys.meta_path.insert(0, finder)
    listener = _Listener()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        pytest.main([*_OPTIONS, *checks], plugins=[listener])
    return Said(tuple(listener.passed), listener.failed, listener.kinds, listener.phase, finder is not None and finder.used)


def _source(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the one module that is changed."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self.used = False

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
                  ) -> importlib.machinery.ModuleSpec | None:
        """The spec of the module, with a loader that changes its source."""
        mutant = self._mutant
        if fullname != mutant.module:
            return None
        self.used = True
        file = str(ROOT / mutant.file)
        loader = _Loader(fullname, file, _source(mutant.file).replace(mutant.old, mutant.new))
        places = [str(Path(file).parent)] if file.endswith("__init__.py") else None
        return importlib.util.spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=places)


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a source that is not the file's; nothing of it is kept."""

    def __init__(self, fullname: str, path: str, source: str) -> None:
        super().__init__(fullname, path)
        self._text = source

    def get_code(self, fullname: str) -> CodeType:
        """The code of the changed source."""
        return compile(self._text, self.path, "exec", dont_inherit=True)


class _Listener:
    """Hears what pytest says."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failed = ""
        self.kinds: tuple[str, ...] = ()
        self.phase = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a test is over."""
        if report.passed and report.when == "call":
            self.passed.append(report.nodeid)

    def pytest_exception_interact(self, node: pytest.Item | pytest.Collector, call: pytest.CallInfo[object]) -> None:
        """A test failed, or could not be collected."""
        if self.failed or call.excinfo is None:
            return
        self.failed = node.nodeid
        self.phase = call.when
        self.kinds = tuple([kind.__name__ for kind in _causes(call.excinfo.value)])


def _causes(error: BaseException) -> list[type[BaseException]]:
    """The types of an error, of each of those that it groups too."""
    inner: Collection[BaseException] = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return [*type(error).__mro__, *(kind for one in inner for kind in _causes(one))]
