"""What a rebuild makes is held against what was projected before anybody reads it; what a writer adds meanwhile is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.errors import LedgerUnavailable
from projections import project as projecting
from projections.rebuild import Progress
from projections.tables import metadata
from projections.tally import SUMMED
from tests.kit.log import Log
from tests.kit.tamper import edit_head, remove_run
from tests.ledger import lawful, lawful_groups, lawful_many
from tests.projections.shelves import BOTH, Asking, Kept, kept, named, rebuilt

WITH: dict[str, Callable[[], Log]] = {
    "p_calls": lawful.effect_retried, "p_batches": lawful_many.batch_rejected, "p_batch_members": lawful_many.batch_rejected,
    "p_violations": lawful.three_rows,
}
"""A log that makes rows of a table; the others are all in one."""


def with_rows(table: str) -> Log:
    """A log that makes rows of the table."""
    return named(WITH.get(table, lawful_groups.all_arrived)(), "run")


def one_row(ask: Asking, table: str) -> tuple[dict[str, object], str]:
    """A row of the shadow's table, and the condition that means it."""
    columns = metadata.tables[table].c.keys()
    row = dict(zip(columns, ask(f"SELECT * FROM {table} LIMIT 1")[0], strict=True))
    keys = [column.name for column in metadata.tables[table].primary_key]
    return row, " AND ".join(f"{key} = {literal(row[key])}" for key in keys)


def literal(value: object) -> str:
    """A number or a text in SQL."""
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def lose(ask: Asking, table: str) -> None:
    """A row that was stored is gone."""
    ask(f"DELETE FROM {table} WHERE {one_row(ask, table)[1]}")


def double(ask: Asking, table: str) -> None:
    """A row is there twice; where a key forbids it, the other has the next one."""
    row, where = one_row(ask, table)
    last = [column.name for column in metadata.tables[table].primary_key][-1]
    columns = [column for column in row if column != last]
    new = f"{last} + 1000000" if isinstance(row[last], int) else f"{last} || '?'"
    ask(f"INSERT INTO {table} ({last}, {', '.join(columns)}) SELECT {new}, {', '.join(columns)} FROM {table} WHERE {where}")


def move(ask: Asking, table: str) -> None:
    """A row cites another event, or stands at another place."""
    column = SUMMED[table]
    ask(f"UPDATE {table} SET {column} = coalesce({column}, 0) + 500000 WHERE {one_row(ask, table)[1]}")


def spoiling(ledger: Kept, spoil: Callable[[Asking], object]) -> Callable[[Progress], None]:
    """Do it to the shadow once, when the rows of the first run have been stored and not yet been looked at."""
    done: list[bool] = []

    def told(progress: Progress) -> None:
        if progress.done and not done:
            done.append(True)
            with ledger.session() as ask:
                spoil(ask)

    return told


def refused(ledger: Kept, spoil: Callable[[Asking], object], match: str) -> None:
    """A rebuild whose shadow is spoilt is not swapped in, and leaves nothing."""
    old = ledger.shelf.generation()
    with pytest.raises(LedgerUnavailable, match=match) as told:
        ledger.rebuild(spoiling(ledger, spoil))
    assert told.value.code == "READ_TABLES_NOT_MADE"
    assert ledger.shelf.generation() == old
    assert ledger.left() == []


@pytest.mark.parametrize(("database", "spoil"), [
    ("sqlite", lose), ("sqlite", double), ("sqlite", move), ("postgresql", lose), ("postgresql", double),
])
def test_a_row_that_is_lost_doubled_or_of_another_event_is_found_before_the_swap(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, spoil: Callable[[Asking, str], None]
) -> None:
    """W13, F5: in each table; the old tables are read on, and the next rebuild makes new ones."""
    ledger = kept(request, tmp_path, database, with_rows("p_tokens"))
    ledger.catch_up()
    for table in SUMMED:
        if spoil is move and SUMMED[table] is None:
            continue
        again = Kept(ledger.shelf, ledger.where, [with_rows(table)])
        if table == "p_violations":
            torn = again.whole["run"][5]
            again.say("run", [*again.whole["run"][:5], torn._replace(body=torn.body[:9])])
        refused(again, lambda ask, table=table: spoil(ask, table), table)  # type: ignore[misc]
    assert ledger.differences() == []
    ledger.rebuild()
    assert ledger.dump() == rebuilt(tmp_path, with_rows("p_tokens"))


@BOTH
@pytest.mark.parametrize(("statement", "told"), [
    ("UPDATE p_tokens SET outcome = NULL WHERE outcome = 'completed'", "outcomes"),
    ("UPDATE p_tokens SET outcome = 'failed' WHERE outcome = 'completed'", "outcomes"),
    ("UPDATE p_runs SET root = NULL", "root"),
    ("UPDATE p_runs SET root = p.hashes FROM p_payloads p", "root"),
])
def test_a_lost_or_other_outcome_and_another_root_are_found_before_the_swap(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, statement: str, told: str
) -> None:
    """W13, F5: though there are as many rows as there should be."""
    ledger = kept(request, tmp_path, database, with_rows("p_tokens"))
    ledger.catch_up()
    refused(ledger, lambda ask: ask(statement), told)
    assert ledger.differences() == []


def stopping_at_the_end(progress: Progress) -> None:
    """A Ctrl-C when everything is stored, and not yet looked at."""
    if progress.done and progress.done == progress.total:
        raise KeyboardInterrupt


# --- a log that is edited, a log that grows ----------------------------------------------------------------------------


def at(progress_done: int, do: Callable[[], object]) -> Callable[[Progress], None]:
    """Do something once, when so many events were projected."""
    done: list[object] = []

    def told(progress: Progress) -> None:
        if progress.done >= progress_done and not done:
            done.append(True)
            do()

    return told


A, B = "a", "b"


def pair(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Kept:
    """Two runs, of which the first one is projected first."""
    return kept(request, tmp_path, database, named(lawful.three_rows(), A), named(lawful_groups.all_arrived(), B))


@pytest.mark.parametrize(("database", "kind", "stopped"), [
    *[("sqlite", kind, stopped) for kind in ("begun again", "cut back", "removed", "torn") for stopped in (False, True)],
    ("postgresql", "begun again", False), ("postgresql", "cut back", True), ("postgresql", "removed", True),
])
def test_a_run_whose_log_is_another_in_the_end_is_told_as_the_log_has_it(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, kind: str, stopped: bool
) -> None:
    """W13, F5, law P1: edited while it is rebuilt, or between a rebuild that was stopped and the next one."""
    ledger = pair(request, tmp_path, database)
    events = ledger.whole[A][:-1]  # without the seal, which says the root of what stands before it
    ledger.say(A, events)
    ledger.catch_up()

    def edit() -> None:
        if kind == "begun again":
            later = [one._replace(body=one.body.replace(b'"duration_us":5', b'"duration_us":6')) for one in events]
            assert later != events
            ledger.say(A, later)
        elif kind == "cut back":
            ledger.grow(A, len(events) - 4)
        elif kind == "removed":
            remove_run(ledger.store, A)
        else:
            ledger.say(A, [*events[:7], events[7]._replace(body=b"{"), *events[8:-1]])

    if stopped:
        with pytest.raises(KeyboardInterrupt):
            ledger.rebuild(stopping_at_the_end)
        edit()
        ledger.rebuild()
    else:
        ledger.rebuild(at(len(events), edit))
    if kind == "removed":
        with ledger.reading() as tables:
            assert tables.select("SELECT run_id FROM runs") == [(B,)]
    found = ledger.dump()
    ledger.rebuild()
    assert ledger.dump() == found
    assert ledger.differences() == []


@BOTH
def test_a_head_that_says_another_root_in_the_end_is_believed_and_no_row_is_doubled(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """W13: a head is what the log is held against; whether it is that of the bytes is for `verify`."""
    ledger = pair(request, tmp_path, database)

    def edit() -> None:
        edit_head(ledger.store, A, lambda head: head._replace(root=bytes(32)))

    ledger.rebuild(at(len(ledger.whole[A]), edit))
    with ledger.reading() as tables:
        assert tables.select("SELECT run_id FROM runs WHERE root = ?", ("00" * 32,)) == [(A,)]
        assert tables.select("SELECT count(*) FROM rows WHERE run_id = ?", (A,)) == [(3,)]


@BOTH
def test_whoever_reads_while_a_rebuild_is_at_work_reads_on_and_catches_up(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """W13, F5: nobody waits for it; what was read is in the new tables too, also of runs that are not made again."""
    for run in (None, A, B):
        ledger = pair(request, tmp_path, database)
        for name in (A, B):
            ledger.grow(name, 4)
        ledger.catch_up()
        seen: list[object] = []

        def read(ledger: Kept = ledger, seen: list[object] = seen) -> None:
            for name in (A, B):
                ledger.grow(name, 9)
            ledger.catch_up()
            seen.append(ledger.dump())

        old = ledger.shelf.generation()
        new = ledger.rebuild(at(1, read), run=run)
        assert new != old
        assert [ledger.dump()] == seen
        ledger.grow(A)
        ledger.grow(B)
        ledger.catch_up()
        assert ledger.dump() == rebuilt(tmp_path, named(lawful.three_rows(), A), named(lawful_groups.all_arrived(), B))


@BOTH
def test_what_was_read_just_before_the_swap_is_in_the_new_tables(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """W13, F5: whoever has read it does not find it gone; the last catch-up keeps others out until the swap is done."""
    for run in (None, A):
        ledger = pair(request, tmp_path, database)
        for name in (A, B):
            ledger.grow(name, 7)
        ledger.catch_up()
        seen: list[object] = []
        full: list[Progress] = []

        def read(progress: Progress, ledger: Kept = ledger, seen: list[object] = seen, full: list[Progress] = full) -> None:
            if progress.done and progress.done == progress.total:
                full.append(progress)
                if len(full) == 2:  # where it has found nothing more to catch up
                    ledger.grow(A)
                    ledger.grow(B)
                    ledger.catch_up()
                    seen.append(ledger.dump())

        ledger.rebuild(read, run=run)
        assert [ledger.dump()] == seen


@BOTH
def test_a_run_that_begins_meanwhile_is_in_the_new_tables(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """W13, F5: whatever number its stream has among the others, and also where one run alone is made again."""
    for run in (None, B):
        ledger = pair(request, tmp_path, database)
        heads = dict(ledger.store._streams)  # type: ignore[attr-defined]
        remove_run(ledger.store, A)
        ledger.catch_up()

        def begin(ledger: Kept = ledger, heads: dict[str, object] = heads) -> None:
            ledger.store._streams.clear()  # type: ignore[attr-defined]
            ledger.store._streams.update(heads)  # type: ignore[attr-defined]

        ledger.rebuild(at(1, begin), run=run)
        assert ledger.dump() == rebuilt(tmp_path, named(lawful.three_rows(), A), named(lawful_groups.all_arrived(), B))


# --- stopped and gone on with ------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("run", [None, A])
def test_a_rebuild_stopped_after_any_batch_is_gone_on_with_and_doubles_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, run: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W13, F5, law P1: also while what a writer added meanwhile is caught up; what was edited by hand is gone in the end."""
    monkeypatch.setattr(projecting, "EVENTS_PER_BATCH", 3)
    ledger = pair(request, tmp_path, database)
    ledger.grow(A, 8)
    ledger.catch_up()
    old = ledger.shelf.generation()
    ledger.edit("UPDATE p_nodes SET kind = 'edited'", name=old)
    wholes = [ledger.dump()]
    goal = rebuilt(tmp_path, named(lawful.three_rows(), A), named(lawful_groups.all_arrived(), B))
    stops, totals = 0, []
    while stops < 30:
        counted: list[Progress] = []

        def stop(progress: Progress, counted: list[Progress] = counted) -> None:
            counted.append(progress)
            if progress.done >= 8:
                ledger.grow(A)
            if len(counted) > 1 and progress.done:
                raise KeyboardInterrupt

        try:
            ledger.rebuild(stop, run=run)
            break
        except KeyboardInterrupt:
            stops += 1
            totals.append(counted[0].total)
            ledger.grow(A)
            assert ledger.shelf.generation() == old
            assert ledger.dump() == wholes[0]
    assert 2 < stops < 30
    assert totals[1:] == sorted(totals[1:], reverse=True)
    found = ledger.dump()
    if run is not None:
        assert all([row for row in goal[view] if A in row] == [row for row in found[view] if A in row] for view in goal)
        ledger.rebuild()
        found = ledger.dump()
    assert found == goal
    assert ledger.left() == []


def test_one_run_is_forgotten_before_its_shadow_can_be_gone_on_with(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """W13, F5: a rebuild of one run that was stopped before its first batch does not keep what the run said before."""
    ledger = pair(request, tmp_path, "sqlite")
    old = ledger.catch_up()
    ledger.edit("UPDATE p_nodes SET kind = 'edited'", name=old)
    with pytest.raises(KeyboardInterrupt):
        ledger.rebuild(lambda progress: stop(), run=A)
    ledger.rebuild(run=A)
    assert {one.row["run_id"] for one in ledger.differences()} == {B}


def stop() -> None:
    """As a Ctrl-C does."""
    raise KeyboardInterrupt


@BOTH
def test_what_stops_a_rebuild_and_says_nothing_against_its_tables_leaves_them_for_the_next(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """W13: a server that cannot be reached, a lock that is held, a process that died; anything else begins again."""
    ledger = pair(request, tmp_path, database)
    whole = sum(map(len, ledger.whole.values()))
    for code, left in (("LEDGER_BUSY", 0), ("LEDGER_UNREACHABLE", 0), ("REBUILD_STOPPED", 0), ("LEDGER_FULL", whole)):

        def fail(progress: Progress, code: str = code) -> None:
            if progress.done and progress.done == progress.total:
                raise LedgerUnavailable(code, "expected nothing, found this")

        with pytest.raises(LedgerUnavailable, match=code):
            ledger.rebuild(fail)
        totals: list[int] = []
        ledger.rebuild(lambda progress, totals=totals: totals.append(progress.total))  # type: ignore[misc]
        assert totals[0] == left
