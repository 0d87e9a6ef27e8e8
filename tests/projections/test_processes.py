"""Several processes fill the shadow side by side: the same rows as one makes, and one that ends is told by name."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

from counterfoil.ledgers import opened_apart
from ledger.errors import LedgerUnavailable
from projections import catch_up as catching
from projections.processes import Processes, _started
from projections.projectors import Projector, run_projector
from projections.rebuild import Progress, Rebuild, rebuild
from tests.kit.log import Log
from tests.ledger import lawful, lawful_groups, lawful_many
from tests.projections import apart
from tests.projections.shelves import BOTH, Dump, dump_of, named, rebuilt

RUNS = ("small", "middle", "large", "last", "few")


def logs() -> list[Log]:
    """Runs of different sizes."""
    made = [lawful.one_row(), lawful_groups.two_groups_a_row(), lawful.many_rows(40), lawful_many.batch_rejected(),
            lawful.no_rows()]
    return [named(log, run) for log, run in zip(made, RUNS, strict=True)]


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Iterator[str]:
    """A ledger with these runs."""
    found = request.getfixturevalue("postgres_url") if database == "postgresql" else None
    with nothing_left():
        yield apart.real(tmp_path, found, logs())


@contextmanager
def nothing_left() -> Iterator[None]:
    """No process, no pipe, no file of it."""
    resource_tracker.ensure_running()
    before = open_descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        yield
        gc.collect()
    assert multiprocessing.active_children() == []
    assert len(open_descriptors()) <= len(before)


def open_descriptors() -> list[str]:
    """What this process has open."""
    gc.collect()
    return os.listdir("/proc/self/fd")


def rebuilt_by(url: str, count: int, projector: Projector | None = None, progress: list[Progress] | None = None) -> Dump:
    """What so many processes make."""
    store, shelf = apart.opened(url)
    with closing(store):
        told = progress.append if progress is not None else lambda one: None
        helpers = apart.processes(url, count) if count > 1 else None
        name = rebuild(store, shelf, Rebuild(projector or run_projector(), told, helpers))
        with shelf.open(name) as tables:
            return dump_of(tables)


def generation(url: str) -> str | None:
    """What readers take."""
    store, shelf = apart.opened(url)
    store.close()
    return shelf.generation()


@BOTH
def test_two_and_three_processes_make_what_one_makes(url: str, tmp_path: Path) -> None:
    """W13, law P1: of runs of different sizes; every event is counted once."""
    wanted = rebuilt(tmp_path, *logs())
    for count in (2, 3) if url.startswith("sqlite") else (2,):
        progress: list[Progress] = []
        assert rebuilt_by(url, count, progress=progress) == wanted
        total = sum(len(log.said) for log in logs())
        assert (progress[0], progress[-1]) == (Progress(0, total), Progress(total, total))
    store, shelf = apart.opened(url)
    with closing(store):
        assert catching.differences(store, shelf) == []
    assert left(tmp_path) == []


def left(folder: Path) -> list[str]:
    """What a rebuild left beside the generations."""
    return [one.name for one in folder.iterdir() if ".new" in one.name]


@pytest.mark.parametrize(("database", "how", "code"), [
    ("sqlite", "killed", "REBUILD_STOPPED"), ("postgresql", "leaves", "REBUILD_STOPPED"),
    ("sqlite", "raises", "READ_TABLES_NOT_MADE"),
])
def test_a_process_that_dies_or_raises_fails_the_rebuild_and_the_old_tables_stay(
    url: str, how: str, code: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """W13, F5: by name; the next rebuild goes on from what the others had done, where nothing was wrong with it."""
    wanted = rebuilt_by(url, 1)
    old = generation(url)
    projector = apart.ending(how, "large")
    with pytest.raises(LedgerUnavailable, match=code) as told:
        rebuilt_by(url, 2, projector)
    assert told.value.next_step
    assert generation(url) == old
    assert "Traceback" not in capfd.readouterr().err
    progress: list[Progress] = []
    assert {**rebuilt_by(url, 1, projector, progress), "projection_places": []} == {**wanted, "projection_places": []}
    assert progress[0].total <= sum(len(log.said) for log in logs())
    assert left(tmp_path) == []


@pytest.mark.parametrize("database", ["sqlite"])
def test_what_a_process_says_is_what_the_rebuild_says(url: str) -> None:
    """W13: with its code, its place and what to do."""
    store, shelf = apart.opened(url)
    with closing(store), pytest.raises(LedgerUnavailable, match=r"LEDGER_MISSING: .*found none; there; look again"):
        rebuild(store, shelf, Rebuild(run_projector(), helpers=Processes(2, apart.broken_opening)))


@BOTH
def test_an_interrupted_parent_ends_its_processes_and_leaves_what_is_done(url: str, tmp_path: Path) -> None:
    """W13: a Ctrl-C when something of it is done; then another rebuild goes on with the rest."""
    wanted = rebuilt(tmp_path, *logs())
    total = sum(len(log.said) for log in logs())
    progress: list[Progress] = []

    def interrupt(one: Progress) -> None:
        progress.append(one)
        if one.done > 10:
            raise KeyboardInterrupt

    store, shelf = apart.opened(url)
    with closing(store), pytest.raises(KeyboardInterrupt):
        rebuild(store, shelf, Rebuild(run_projector(), interrupt, apart.processes(url, 2)))
    assert multiprocessing.active_children() == []
    again: list[Progress] = []
    assert rebuilt_by(url, 1, progress=again) == wanted
    assert again[0].total < total
    assert left(tmp_path) == []


def test_a_process_hears_no_interrupt(tmp_path: Path) -> None:
    """W13: of a terminal, which sends it to all of them; it ends with its parent's pipe."""
    url = apart.real(tmp_path, None, logs())
    with nothing_left():
        process, ours = _started(partial(opened_apart, url), run_projector(), 0)
        with ours:
            os.kill(process.pid or 0, signal.SIGINT)
            assert ours.recv() == 0
            os.kill(process.pid or 0, signal.SIGINT)
            assert ours.recv() is None
        process.join(60)
        assert process.exitcode == 0
        process.close()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    assert rebuilt_by(url, 1) == rebuilt(tmp_path, *logs())


def test_a_process_whose_parent_is_gone_takes_no_run(tmp_path: Path) -> None:
    """W13: it was starting when its parent was killed, and makes no part of the shadow then."""
    url = apart.real(tmp_path, None, logs())
    with nothing_left():
        process, ours = _started(partial(opened_apart, url), run_projector(), 0)
        ours.close()
        process.join(60)
        assert process.exitcode == 0
        process.close()
    assert left(tmp_path) == []
