"""A rebuild on PostgreSQL is killed: readers see whole tables, and the next one goes on and doubles nothing.

Why forked children that kill themselves: a kill before, after or within any statement, as often as there are statements, and
without the seconds that a new interpreter takes. The real command is killed from outside too.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import pytest

from counterfoil.ledgers import keeping_of
from ledger.errors import LedgerUnavailable
from projections import catch_up as catching
from projections import project as projecting
from projections.projectors import run_projector
from projections.rebuild import Progress, Rebuild, rebuild
from tests.house.tree import ROOT
from tests.kit.log import Log
from tests.kit.postgres import Postgres
from tests.kit.postgres_databases import connected
from tests.ledger import lawful, lawful_groups, lawful_many
from tests.projections import apart
from tests.projections.shelves import Dump, Kept, dump_of, named

KILLS = 10
STATEMENTS = 250
"""About as many as a rebuild of these runs makes."""
RUNS = ("small", "middle", "large", "last")


def logs() -> list[Log]:
    """Runs of different sizes."""
    made = [lawful.one_row(), lawful_groups.two_groups_a_row(), lawful.many_rows(30), lawful_many.batch_rejected()]
    return [named(log, run) for log, run in zip(made, RUNS, strict=True)]


@pytest.fixture
def url(postgres_url: str) -> str:
    """A ledger with these runs and with read tables."""
    return ledger_of(postgres_url)


def ledger_of(database: str) -> str:
    """The same in an empty database."""
    found = apart.real(ROOT, database, logs())
    store, shelf = apart.opened(found)
    with closing(store):
        rebuild(store, shelf, Rebuild(run_projector()))
    return found


def seen(url: str) -> tuple[str | None, Dump]:
    """The generation that readers take, and every row of it."""
    store, shelf = apart.opened(url)
    store.close()
    name = shelf.generation()
    assert name is not None
    with shelf.open(name) as tables:
        return name, dump_of(tables)


def gone_on_with(url: str, processes: int = 1) -> int:
    """A rebuild that nothing happens to; gives how many events there were to project."""
    told: list[Progress] = []
    store, shelf = apart.opened(url)
    with closing(store):
        helpers = apart.processes(url, processes) if processes > 1 else None
        rebuild(store, shelf, Rebuild(run_projector(), told.append, helpers))
        assert catching.differences(store, shelf) == []
    return told[0].total


def left(url: str) -> list[str]:
    """What there is beside generations."""
    return Kept(keeping_of(url).shelf(), url, [lawful.one_row()]).left()


def in_a_child(url: str, at: int, where: str, wait_ms: float, run: str | None = None) -> bool:
    """A rebuild in a process of its own that is killed at its statement number `at`; gives whether it was."""
    child = os.fork()
    if child == 0:
        try:
            _dying(at, where, wait_ms)
            projecting.EVENTS_PER_BATCH = 25
            store, shelf = apart.opened(url)
            rebuild(store, shelf, Rebuild(run_projector()), run)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def _dying(at: int, where: str, wait_ms: float) -> None:
    """Kill this process before its statement number `at`, after it, or some time after it was sent."""
    execute: Callable[..., Any] = psycopg.Connection.execute
    done = 0

    def counting(*given: Any, **named: Any) -> Any:
        nonlocal done
        done += 1
        if done == at and where == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if done == at and where == "within":
            threading.Timer(wait_ms / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()
        found = execute(*given, **named)
        if done == at and where == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    psycopg.Connection.execute = counting  # type: ignore[method-assign]


def killed(url: str, seed: str, number: int, last: int) -> list[str]:
    """One kill, and what was wrong with what came of it; `last` is about how many statements there are."""
    drawn = random.Random(f"{seed}/{number}")
    run = drawn.choice((None, None, "middle"))
    where, at = drawn.choice(("before", "after", "within")), drawn.randint(1, last)
    old, before = seen(url)
    whole = sum(len(log.said) for log in logs())
    struck = in_a_child(url, at, where, drawn.random() * 3, run)
    now, after = seen(url)
    wrong = [] if after == before else ["readers saw other rows"]
    if not struck and now == old:
        wrong.append("it was not killed, and swapped nothing in")
    if gone_on_with(url) > whole:
        wrong.append("more was projected than there is")
    if seen(url)[1] != before:
        wrong.append("the next one made other rows")
    return [f"{one}: {where} {at} of run {run}, seed {seed}/{number}" for one in [*wrong, *(f"left {x}" for x in left(url))]]


def test_killed_at_any_statement_readers_see_whole_tables_and_the_next_one_goes_on(url: str) -> None:
    """W13, F5: before it, after it or while the server is at it; of one run or all; nothing of it is left in the end."""
    assert not in_a_child(url, 10**9, "before", 0)
    assert [one for number in range(KILLS) for one in killed(url, "1", number, STATEMENTS)] == []


def test_a_rebuild_that_was_killed_late_is_gone_on_with_from_its_last_transaction(url: str) -> None:
    """W13: the later it was killed, the less there is to do; at the end there is nothing."""
    whole = sum(len(log.said) for log in logs())
    totals = []
    for at in (20, 150, 200):
        assert in_a_child(url, at, "before", 0)
        totals.append(gone_on_with(url))
    assert totals == sorted(totals, reverse=True)
    assert (totals[0], totals[-1] < whole // 2) == (whole, True)


def test_a_server_that_is_killed_under_a_rebuild_leaves_whole_tables_and_what_was_done(
    postgres_server: Postgres, url: str
) -> None:
    """W13, F5: in the middle of the filling and before the swap; what it forgot is projected again."""
    _, before = seen(url)
    whole = sum(len(log.said) for log in logs())
    for events in (40, whole):

        def kill(progress: Progress, events: int = events) -> None:
            if progress.done >= events:
                postgres_server.kill()
                raise KeyboardInterrupt

        store, shelf = apart.opened(url)
        with closing(store), pytest.raises((KeyboardInterrupt, LedgerUnavailable)):
            rebuild(store, shelf, Rebuild(run_projector(), kill))
        postgres_server.start()
        assert seen(url)[1] == before
        assert gone_on_with(url) <= whole
        assert seen(url)[1] == before
        assert left(url) == []


@pytest.mark.parametrize("victim", ["parent", "child"])
def test_the_command_with_two_processes_killed_from_outside_leaves_whole_tables(url: str, victim: str) -> None:
    """W13, F5: an orphan ends by itself, and whoever rebuilds next waits for it; a dead child is told."""
    _, before = seen(url)
    whole = sum(len(log.said) for log in logs())
    command = [sys.executable, "-m", "counterfoil", "rebuild", "--processes", "2", "--ledger", url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        child = writing(url)
        os.kill(parent.pid if victim == "parent" else child, signal.SIGKILL)
        _, said = parent.communicate(timeout=60)
    if victim == "child" and parent.returncode:  # else it was done when it was killed
        assert "REBUILD_STOPPED" in said and "Traceback" not in said
        assert parent.returncode == 6
    assert seen(url)[1] == before
    assert gone_on_with(url, 2) <= whole
    assert seen(url)[1] == before
    assert left(url) == []


def writing(url: str) -> int:
    """The process id of one that shares in writing the shadow, as soon as there is one."""
    with connected(url) as raw:
        for _ in range(100_000):
            found = raw.execute(
                "SELECT split_part(a.application_name, ':', 2) FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
                "WHERE l.locktype = 'advisory' AND l.mode = 'ShareLock' GROUP BY 1").fetchall()
            if len(found) > 1:
                return max(int(pid) for (pid,) in found)
    raise AssertionError("no process shares in the writing")
