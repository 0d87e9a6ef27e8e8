"""Laws P5 and P1: runs of every kind, told into SQLite and into PostgreSQL, are one record; and the tables of each, caught
up in any pieces while it was written, are the tables that are made of its log at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from counterfoil.ledgers import Ledger
from examples.orders import prices
from projections.views import VIEW_NAMES
from tests.house.tree import ROOT
from tests.kit import both
from tests.kit.postgres import Postgres
from tests.ledger.lawful_many import LAWFUL
from tests.simulation.pipelines import ALL, FILE

WHOLE = "COUNTERFOIL_TEST_WHOLE_EXAMPLES"
"""Set for the examples as they are; otherwise the long one is cut short, for every row of it is like the others."""
ROWS_MAX = 100
PIECES: Mapping[str, float] = {"sqlite": 0.05, "postgresql": 0.01}
"""After how many of the commits the tables are caught up."""
SOME = ("branches_pipeline", "experiment_strict", "everything", "batches", "nested", "made_held")
"""Of which runs the tables are compared with fresh ones on PostgreSQL, where that takes longer; elsewhere of all."""


class Told(NamedTuple):
    """What one ledger holds: every run's bytes, the tables as they grew and as they are made again, and what was written."""

    url: str
    log: dict[str, list[Any]]
    grown: dict[str, list[Any]]
    differences: list[Any]
    rebuilt: dict[str, list[Any]]
    sinks: dict[str, bytes]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, _postgres: Postgres) -> Iterator[tuple[Told, Told]]:
    """Every example, every simulated pipeline and every hand-made log in each of two ledgers."""
    folder = tmp_path_factory.mktemp("laws")
    _postgres.settle()
    url = _postgres.fresh_database()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COUNTERFOIL_LEDGER", raising=False)
        pair = both.pair(folder, url)
        with prices.serving() as server:  # one for both, for where it answers is on record
            sqlite, postgres = (_told(url, folder / "work", patch, server) for url in pair)
        yield sqlite, postgres
    _postgres.give_back(url)


def _told(url: str, folder: Path, patch: pytest.MonkeyPatch, server: prices.Prices) -> Told:
    folder.mkdir()
    chance = Random("pieces")
    often = PIECES[url.partition("://")[0].partition("+")[0]]

    def appended(ledger: Ledger) -> None:
        if chance.random() < often:
            ledger.catch_up().close()

    patch.chdir(folder)
    server._seen.clear()
    _examples(url, appended, server)
    for name, pipeline in ALL.items():
        (folder / name / "out").mkdir(parents=True)
        patch.chdir(folder / name)
        pipeline.put(Path())
        both.run(url, FILE, name, appended)
    patch.chdir(folder.parent)
    sinks = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("**/out/**/*"))
             if path.is_file() and path.suffix != ".db"}
    shutil.rmtree(folder)
    some = None if url.startswith("sqlite") else SOME
    with Ledger(url, write=True) as ledger:
        for name, build in LAWFUL.items():
            log = build()
            log.run = f"made_{name}"
            log.store(ledger.store)
            appended(ledger)
        grown = both.tables(url)
        differences = [one for run in some or [None] for one in ledger.differences(run)]
        ledger.rebuild()
        return Told(url, both.stored(ledger.store), grown, differences, both.tables(url), sinks)


def _examples(url: str, appended: Callable[[Ledger], None], server: prices.Prices) -> None:
    """Every pipeline file of every example."""
    shutil.copytree(ROOT / "examples", "examples")
    if not os.environ.get(WHOLE):
        rows = Path("examples/flights/flights.csv")
        rows.write_text("".join(rows.read_text(encoding="utf-8").splitlines(keepends=True)[:ROWS_MAX]), encoding="utf-8")
    for file in sorted(Path("examples").glob("*/*.yaml")):
        Path("out", file.parent.name).mkdir(parents=True, exist_ok=True)
        both.run(url, str(file), f"{file.parent.name}_{file.stem}", appended, {prices.VARIABLE: server.url})


def test_every_run_is_the_same_bytes_on_both_databases(told: tuple[Told, Told]) -> None:
    """F5, law P5: events with their index columns, payloads, sizes, epochs, roots; and what the sinks wrote."""
    sqlite, postgres = told
    assert len(sqlite.log) > 90
    assert both.differing(sqlite.log, postgres.log) == []
    assert sqlite.sinks == postgres.sinks


def test_every_read_table_is_the_same_on_both_databases(told: tuple[Told, Told]) -> None:
    """F5, law P5: every column of every row of every view, each value of the same type; every view has rows."""
    sqlite, postgres = told
    assert both.differing(sqlite.rebuilt, postgres.rebuilt) == []
    assert [view for view, rows in sqlite.rebuilt.items() if not rows and not view.endswith("violations")] == []
    types = {kind for view in VIEW_NAMES for row in sqlite.rebuilt[view] for kind, _ in row}
    assert types == {"str", "int", "float", "NoneType"}


@pytest.mark.parametrize("ledger", [0, 1], ids=list(PIECES))
def test_tables_that_were_caught_up_in_pieces_are_those_of_a_rebuild(told: tuple[Told, Told], ledger: int) -> None:
    """F5, law P1: every example, every pipeline; also what a fresh projection beside them gives."""
    one = told[ledger]
    assert both.differing(one.grown, one.rebuilt) == []
    assert one.differences == []


def test_every_answer_is_the_same_on_both_databases(told: tuple[Told, Told]) -> None:
    """F5, law P5: runs, show, tokens, pending, replay --deep, verify of each; explain of every so-many-th token."""
    sqlite, postgres = (both.answered(one.url, every=61) for one in told)
    assert both.differing(sqlite, postgres) == []


@pytest.mark.parametrize("run", ["branches_pipeline", "made_held"])
def test_every_command_says_the_same_on_both_databases(told: tuple[Told, Told], run: str) -> None:
    """F5, law P5: the commands themselves, with their exit codes."""
    sqlite, postgres = (both.asked(one.url, run) for one in told)
    assert both.differing(sqlite, postgres) == []
    assert {code for code, _, _ in sqlite.values()} <= {0, 2}
