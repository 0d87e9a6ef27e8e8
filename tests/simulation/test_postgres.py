"""The real program with its ledger on PostgreSQL: killed, robbed, interrupted, its server killed under it; and in the end
what the uncut run left, which was made on SQLite."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest

import counterfoil
from counterfoil import api
from counterfoil.ledgers import Ledger
from tests.kit.postgres import Postgres
from tests.simulation import crashes, interposer, left, windows, zombies
from tests.simulation.child import At, Knobs
from tests.simulation.children import RESUMING, RUN, RUNNING, Place, ended
from tests.simulation.conftest import UncutOf
from tests.simulation.crashes import Cut
from tests.simulation.interposer import Plan
from tests.simulation.pipelines import ALL, FILE
from tests.simulation.windows import Window

DEATHS: Sequence[tuple[At, int, str]] = (("within", 6, "appends"), ("sent", 5, "everything"), ("after", 4, "array"))
AT_SINKS: Sequence[tuple[Window, str]] = (("between write and confirmation", "everything"),)


@pytest.mark.parametrize(("at", "number", "name"), DEATHS)
def test_a_process_that_dies_at_a_commit_loses_nothing_that_was_acknowledged(
        at: At, number: int, name: str, tmp_path: Path, library: Path, uncut: UncutOf, postgres_url: str) -> None:
    """W1, W6, G13, law P3, law P5: amid its transaction, with the COMMIT sent and unheard, before the ack."""
    place = Place(tmp_path, ALL[name], library, crashes.OFTEN, database=postgres_url).made()
    cut = Cut()
    died = replace(place, knobs=Knobs(crashes.OFTEN.rows_per_commit, marks=True, dies=(number, at))).run()
    assert died.code == -signal.SIGKILL, died.err
    crashes.killed(place, died, cut)
    crashes.finish(place, uncut(name), cut)
    assert (cut.wrong, cut.without, cut.twice, cut.differing_sinks, cut.died) == ([], 0, 0, 0, False)


@pytest.mark.parametrize(("window", "name"), AT_SINKS)
def test_a_process_that_dies_at_a_sink_is_carried_on_from_the_server(
        window: Window, name: str, tmp_path: Path, library: Path, uncut: UncutOf, postgres_url: str) -> None:
    """W2, W6, G7, law P3: what a sink holds is squared with a log that another machine keeps."""
    known = uncut(name)
    places = windows.places(known.calls, known.sinks(ALL[name]))[window]
    plans = [interposer.at("kill", known.calls, number, where) for number, where in places]
    plan = Random(window).choice([plan for plan in plans if ":out/" in plan.of])
    place = Place(tmp_path, ALL[name], library, crashes.OFTEN, database=postgres_url).made()
    cut = crashes.crash(place, [plan], known)
    assert (cut.wrong, cut.without, cut.twice, cut.differing_sinks, len(cut.reached)) == ([], 0, 0, 0, 1)


def test_of_two_resumes_one_wins_and_the_process_that_wakes_is_fenced(
        tmp_path: Path, library: Path, uncut: UncutOf, postgres_url: str) -> None:
    """W5, W6, G13, law L3: a stopped process loses its session and its lock; it wakes, connects again, and is fenced."""
    known = uncut("loose")
    place = Place(tmp_path, ALL["loose"], library, crashes.OFTEN, database=postgres_url).made()
    found = zombies.woken(place, Plan("stop", 4, "after", f"sync:{ALL['loose'].sinks['good']}"), known)
    assert found.cut.wrong == []
    assert (found.said["overtaken"], found.said["zombie FENCED"]) == (1, 1)


def test_a_run_that_lives_is_held_and_ctrl_c_leaves_it_resumable(
        tmp_path: Path, library: Path, uncut: UncutOf, postgres_url: str) -> None:
    """W5, W14: RUN_HELD while its process is there, though that stands still; a signal ends it in order; then it goes on."""
    known = uncut("loose")
    place = Place(tmp_path, ALL["loose"], library, crashes.OFTEN, database=postgres_url).made()
    process = place.start(*RUNNING, plan=Plan("stop", 2, "after", f"sync:{ALL['loose'].sinks['good']}"))
    assert zombies.stopped(process)
    rival = ended(place.start(*RESUMING, watched=False))
    assert (rival.code, rival.error) == (6, "RUN_HELD"), rival.err
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    told = ended(process)
    assert (told.code, told.error, told.faults()) == (130, "STOPPED", []), told.err
    cut = Cut()
    crashes.finish(place, known, cut)
    assert cut.wrong == []


KILLS = 4


@pytest.mark.parametrize("name", ["everything", "gathers"])
def test_a_server_that_is_killed_again_and_again_under_a_run_does_not_show_in_what_it_leaves(
        name: str, tmp_path: Path, library: Path, uncut: UncutOf, postgres_server: Postgres, postgres_url: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """W6, law P3: it connects again by itself, knows what was stored, and sends again what was not."""
    known, place = uncut(name), Place(tmp_path, ALL[name], library, database=postgres_url).made()
    monkeypatch.chdir(place.folder)
    due, looks = set(Random(name).sample(range(2, ALL[name].rows), KILLS)), count()

    def stopping() -> None:
        look = next(looks)
        if look in due:
            due.remove(look)
            postgres_server.kill()
            postgres_server.start()

    assert counterfoil.run(FILE, run_id=RUN, ledger=place.url, stopping=stopping).status == "completed"
    assert due == set()
    cut = Cut()
    crashes.compare(place, known, cut)
    assert cut.wrong == []
    with Ledger(place.url) as ledger:
        head = ledger.store.head(RUN)
        assert head is not None and head.epoch == 1  # one process, from the beginning to the end


def test_a_server_that_stays_away_ends_the_run_and_the_next_one_carries_it_on(
        tmp_path: Path, library: Path, uncut: UncutOf, postgres_server: Postgres, postgres_url: str) -> None:
    """W6, W14: it is waited for, but not for ever: exit 6 and where it should be; when it is back the run is resumed."""
    known, name = uncut("appends"), "appends"
    patience = Knobs(crashes.OFTEN.rows_per_commit, marks=True, patience_seconds=0.3)
    place = Place(tmp_path, ALL[name], library, patience, database=postgres_url).made()
    process = place.start(*RUNNING, plan=Plan("stop", 2, "after", f"sync:{ALL[name].sinks['good']}"))
    assert zombies.stopped(process)
    postgres_server.kill()
    process.send_signal(signal.SIGCONT)
    told = ended(process)
    assert (told.code, told.error, told.faults()) == (6, "LEDGER_UNREACHABLE", []), told.err
    refused = ended(place.start(*RESUMING, watched=False))
    assert (refused.code, refused.error) == (6, "LEDGER_UNREACHABLE"), refused.err
    postgres_server.start()
    cut = Cut()
    crashes.finish(place, known, cut)
    assert cut.wrong == []


RUNS = 16


def _one_of_many(folder: str, url: str, number: int) -> None:
    os.chdir(folder)
    counterfoil.run(FILE, run_id=f"run-{number}", ledger=url)
    os._exit(0)


def test_many_processes_write_one_ledger_at_once(tmp_path: Path, library: Path, uncut: UncutOf, postgres_url: str) -> None:
    """W5, G6, law T1: sixteen runs side by side, which also make the ledger itself: all complete, all verify."""
    known, pipeline = uncut("require_all_lost"), ALL["require_all_lost"]
    folders = [tmp_path / str(number) for number in range(RUNS)]
    for folder in folders:
        folder.mkdir()
        pipeline.put(folder)
        (folder / "out").mkdir(exist_ok=True)
    context = get_context("fork")
    processes = [context.Process(target=_one_of_many, args=(str(folder), postgres_url, number))
                 for number, folder in enumerate(folders)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * RUNS
    with Ledger(postgres_url) as ledger:
        verified = api.verify_all(ledger, world=False)
    assert [one.run for one in verified if one.ok] == sorted((f"run-{n}" for n in range(RUNS)), key=[
        one.run for one in verified].index)
    for number, folder in enumerate(folders):
        assert left.differences(pipeline, left.left(folder, pipeline, postgres_url, f"run-{number}"), known.left) == []
