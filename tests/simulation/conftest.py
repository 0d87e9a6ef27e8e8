"""What the tests of faults share: the library, and runs that nothing happened to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation import crashes, interposer, power
from tests.simulation.crashes import Uncut
from tests.simulation.pipelines import ALL

UncutOf = Callable[[str], Uncut]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that stands between a child and its files."""
    return interposer.compiled(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="session")
def uncut(tmp_path_factory: pytest.TempPathFactory, library: Path) -> UncutOf:
    """A pipeline's run that nothing happens to, made once."""
    made: dict[str, Uncut] = {}

    def one(name: str) -> Uncut:
        if name not in made:
            made[name] = crashes.uncut(tmp_path_factory.mktemp("uncut") / name, ALL[name], library)
        return made[name]

    return one


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory, library: Path) -> power.Story:
    """One run of the pipeline that has everything, every call of it known."""
    return power.told(tmp_path_factory.mktemp("story"), ALL["everything"], library)
