"""One change of each kind, walked through: a log in the old shape is read, told, explained and carried on as one in today's.

The old shapes are invented and their upcasters handed to production's own machinery; what is stored stays as it was stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ledger import ids, reader, upcasters
from ledger.codec import Undecodable
from ledger.errors import CounterfoilError
from ledger.events import SinkWriteConfirmed
from ledger.replay import replay
from ledger.store import Store
from ledger.verify import integrity, registry
from projections.explain import explain
from projections.views import TOLD
from tests.kit.aged import aged
from tests.kit.changes import CHANGES
from tests.kit.deaths import Cut, MortalStore, died_at, facts
from tests.kit.pipelines import RUN, Ran, Trial
from tests.kit.small_runs import SMALL
from tests.projections.projected import projected


@pytest.fixture(params=CHANGES)
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A change, its upcasters in force."""
    known(monkeypatch, request.param)
    return str(request.param)


def known(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Put the upcasters of a change in force."""
    monkeypatch.setattr(upcasters, "UPCASTERS", CHANGES[name].change.upcasters)


@cache
def whole(run: str) -> Ran:
    """One of the small runs, to its end, in today's shapes."""
    return SMALL[run](MortalStore()).go()


def appends(run: str) -> int:
    """In how many transactions it is written."""
    store = whole(run).store
    assert isinstance(store, MortalStore)
    return len(store.appends)


class Old(NamedTuple):
    """A log as it was said before the change, and the seqs that are other than today's."""

    store: MortalStore
    touched: list[int]


def old(store: Store, name: str) -> Old:
    """The same log before the change."""
    into = MortalStore()
    touched = aged(store, CHANGES[name].change, into)
    assert touched, "nothing of it is about this change"
    return Old(into, touched)


def told(store: Store, folder: Path, label: str) -> tuple[dict[str, list[dict[str, Any]]], list[Any]]:
    """Every promised row, the roots of logs aside, and what `explain` says of every token."""
    with projected(store, folder / f"{label}.db") as tables:
        rows = {view: [{name: value for name, value in row.items() if name != "root"}
                       for row in tables.records(f"SELECT * FROM {view}")] for view in TOLD}
        return ({view: sorted(found, key=repr) for view, found in rows.items()},
                [explain(tables, store, RUN, row["token_id"]) for row in rows["tokens"]])


def bodies(store: Store) -> dict[str, list[object]]:
    """What is stored, column by column and byte by byte."""
    return {head.run: list(store.read(head.run)) for head in store.heads()}


def cuts_of(name: str) -> Iterator[tuple[Cut, Trial, Old]]:
    """The run cut at several commits, and its log as it was said before the change, where anything of it is about that."""
    run = CHANGES[name].run
    for at in range(3, appends(run), 3):
        made = died_at(SMALL[run], Cut(at, stored=True))
        into = MortalStore()
        touched = aged(made.store, CHANGES[name].change, into)
        if touched:
            yield Cut(at, stored=True), made, Old(into, touched)


def test_a_log_in_the_old_shape_is_lawful_and_whole(name: str) -> None:
    """W12, F4, law L5, law L6: the verdict is that of the log in today's shape, deep; its bytes, columns, seal hold."""
    ran = whole(CHANGES[name].run)
    found = old(ran.store, name).store
    before = bodies(found)
    assert replay(found, RUN, deep=True).verdict == replay(ran.store, RUN, deep=True).verdict
    assert [str(fault) for stream in (RUN, ids.LEDGER_STREAM) for fault in integrity(found, stream)] == []
    assert registry(found) == []
    assert upcasters.UPCASTERS.uncovered(found.kinds()) == []
    assert bodies(found) == before


def test_it_is_told_and_explained_as_the_log_in_todays_shape(name: str, tmp_path: Path) -> None:
    """W12, F5, law P1: every row of every table, and the story of every token."""
    ran = whole(CHANGES[name].run)
    found = told(old(ran.store, name).store, tmp_path, "old")
    assert found == told(ran.store, tmp_path, "today")
    assert found[0]["tokens"] and found[0]["runs"][0]["unreadable_from_seq"] is None


def test_its_confirmed_writes_are_those_of_the_log_in_todays_shape(name: str) -> None:
    """W12, law R3: a write is found under whatever name it was confirmed."""
    ran = whole(CHANGES[name].run)
    found = list(reader.confirmed_writes(old(ran.store, name).store, RUN))
    assert found == list(reader.confirmed_writes(ran.store, RUN))
    assert len(found) == len(ran.of(SinkWriteConfirmed)) > 0


def test_a_run_that_began_in_the_old_shape_is_carried_on_in_todays(name: str, tmp_path: Path) -> None:
    """W12, law P3: outcomes, sinks and decisions of the uncut run; what was stored stays as it was."""
    run, cut = CHANGES[name].run, None
    for cut, made, found in cuts_of(name):
        before = bodies(found.store)[RUN]
        today = made.store
        made.store = found.store
        ran = made.again()
        assert facts(ran) == facts(whole(run)), cut
        assert bodies(found.store)[RUN][: len(before)] == before
        assert [str(fault) for fault in (*integrity(found.store, RUN), *registry(found.store))] == []
        twin = died_at(SMALL[run], cut)
        assert bodies(twin.store) == bodies(today)
        twin.again()
        assert told(found.store, tmp_path, f"old{cut.at}") == told(twin.store, tmp_path, f"today{cut.at}")
    assert cut is not None, "no cut is about this change"


@pytest.mark.parametrize("name", CHANGES)
def test_without_the_upcaster_reading_stops_at_the_first_event_in_the_old_shape(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W12, law L5: by its seq and its version; what stands before is told as ever, and nothing is appended."""
    ran = whole(CHANGES[name].run)
    found = old(ran.store, name)
    first, before = found.touched[0], bodies(found.store)
    verdict = replay(found.store, RUN).verdict
    (finding,) = verdict.findings
    stored = next(iter(found.store.read(RUN, after=first - 1, until=first)))
    assert (finding.law, finding.seq, verdict.events) == ("L5", first, first - 1)
    assert finding.found.startswith(f"{stored.type} version {stored.v} (")
    earlier = replay(found.store, RUN, until_seq=first - 1).verdict
    assert earlier == replay(ran.store, RUN, until_seq=first - 1).verdict
    rows, _ = told(found.store, tmp_path, "old")
    assert (rows["runs"][0]["unreadable_from_seq"], rows["runs"][0]["events"]) == (first, first - 1)
    assert [fault.kind for fault in integrity(found.store, RUN) if fault.seq == first][:1] == ["body"]
    missing = upcasters.UPCASTERS.uncovered(found.store.kinds())
    assert {(type_, version) for type_, version, _ in missing} >= {(stored.type, stored.v)}
    assert sum(count for *_, count in missing) >= len(found.touched)
    assert bodies(found.store) == before
    known(monkeypatch, name)
    assert replay(found.store, RUN).verdict.lawful


@pytest.mark.parametrize("name", CHANGES)
def test_without_the_upcaster_no_run_is_carried_on_or_given_up(name: str) -> None:
    """W12: nobody appends to what he cannot read."""
    _, made, found = next(cuts_of(name))
    before, made.store = bodies(found.store), found.store
    for way in (made.resume, made.abandon):
        with pytest.raises(CounterfoilError) as raised:
            way()
        assert isinstance(raised.value, Undecodable) and raised.value.seq == found.touched[0]
    assert bodies(found.store) == before
