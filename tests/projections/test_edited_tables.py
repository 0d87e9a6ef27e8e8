"""Read tables that somebody edited, or that were made from another log: found, never added to, and made again."""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path

import msgspec
import pytest

from ledger import codec
from ledger.errors import LedgerUnavailable
from ledger.store import Stored
from projections import catch_up as catching
from projections.projectors import run_projector
from projections.read_tables import ReadTables, Shelf
from tests.ledger import lawful, lawful_groups
from tests.projections.shelves import BOTH, Kept, dump_of, kept, named

OF_B = "(SELECT run FROM p_runs WHERE run_id = 'b')"


@pytest.fixture
def ledger(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Kept:
    """Two runs, told to their ends."""
    made = kept(request, tmp_path, database, named(lawful.three_rows(), "a"), named(lawful_groups.all_arrived(), "b"))
    made.catch_up()
    return made


def later(stored: Stored, run: str) -> Stored:
    """The same event, said a microsecond later."""
    event = codec.decode(stored.body, stored.type, stored.v, run=run, seq=stored.seq)
    event = msgspec.structs.replace(event, at=event.at + 1)
    return stored._replace(at=event.at, body=codec.encode(event))


def standing(ledger: Kept) -> catching.Standing:
    """How the tables that are read stand to the log."""
    return catching.standing(ledger.store, ledger.shelf, run_projector(), ledger.shelf.generation())


@BOTH
def test_tables_of_another_log_of_the_same_length_are_not_taken_for_this_ones(ledger: Kept, database: str) -> None:
    """law P1, W13: a ledger that was removed and made anew under its name: only the root tells."""
    ledger.say("a", [later(stored, "a") for stored in ledger.whole["a"]])
    found = standing(ledger)
    assert found.state == "ahead" and "run a" in found.why
    before = ledger.shelf.generation()
    assert ledger.catch_up() != before and ledger.differences() == []
    assert standing(ledger).state == "current"


@BOTH
def test_a_run_whose_beginning_is_another_is_told_again_from_its_beginning(ledger: Kept, database: str) -> None:
    """law P1, W13: a backup that was restored and carried on, beyond where the tables had come to."""
    ledger.grow("a", 5)
    ledger.rebuild()
    ledger.say("a", [later(stored, "a") for stored in ledger.whole["a"]])
    assert standing(ledger).state == "behind"
    ledger.catch_up()
    assert (ledger.differences(), standing(ledger).state) == ([], "current")


EDITS = {
    "the row of a run": ("DELETE FROM p_runs WHERE run_id = 'b'", "stale"),
    "the row of the first run": ("DELETE FROM p_runs WHERE run_id = 'a'", "stale"),
    "every run's row": ("DELETE FROM p_runs", "stale"),
    "a place": (f"DELETE FROM p_places WHERE run = {OF_B}", "stale"),
    "every place": ("DELETE FROM p_places", "stale"),
    "the number of a run": ("UPDATE p_runs SET run = 77 WHERE run_id = 'b'", "stale"),
    "a place, put back": (f"UPDATE p_places SET seq = 3 WHERE run = {OF_B}", "behind"),
    "a place and the root, put back": ("UPDATE p_places SET seq = 3; UPDATE p_runs SET root = NULL", "behind"),
    "a root": ("UPDATE p_runs SET root = NULL WHERE run_id = 'b'", "behind"),
}


@BOTH
@pytest.mark.parametrize("what", EDITS)
def test_an_edit_of_what_tells_the_runs_apart_is_found_and_mended(ledger: Kept, database: str, what: str) -> None:
    """W13, F5: it is a difference; nothing is added to such tables, and nobody is refused for them."""
    statement, state = EDITS[what]
    whole = ledger.dump()
    ledger.edit(*statement.split("; "), name=ledger.shelf.generation())
    found = ledger.differences()
    assert found and {one.row["run_id"] for one in found} <= {"a", "b", None}
    assert standing(ledger).state == state
    ledger.catch_up()
    assert (ledger.differences(), ledger.dump(), standing(ledger).state) == ([], whole, "current")


@BOTH
def test_a_run_whose_row_was_deleted_is_missed_also_when_it_alone_is_asked_for(ledger: Kept, database: str) -> None:
    """W13, F5: its rows are there and have no name any more; the other run's are as they should be."""
    ledger.edit("DELETE FROM p_runs WHERE run_id = 'b'", name=ledger.shelf.generation())
    assert ledger.differences("a") == []
    assert {one.row["run_id"] for one in ledger.differences("b")} == {"b"}
    ledger.rebuild(run="a")
    assert ledger.differences() == [] and standing(ledger).state == "current"


SHAPES = ["DROP INDEX p_tokens_open", "ALTER TABLE p_tokens ADD COLUMN x TEXT", "DROP TABLE p_nodes CASCADE",
          "DROP VIEW tokens CASCADE"]


@BOTH
@pytest.mark.parametrize("statement", SHAPES)
def test_an_edit_of_the_tables_themselves_is_found_and_mended(ledger: Kept, database: str, statement: str) -> None:
    """W13, F7: of another schema, whatever their revision says; also when only one run is to be made again."""
    whole = ledger.dump()
    for mend in (ledger.catch_up, partial(ledger.rebuild, run="a")):
        ledger.edit(statement.removesuffix(" CASCADE" if database == "sqlite" else ""), name=ledger.shelf.generation())
        assert standing(ledger).state == "stale"
        mend()
        assert (ledger.differences(), ledger.dump(), standing(ledger).state) == ([], whole, "current")


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_trigger_on_the_tables_is_found(ledger: Kept, database: str) -> None:
    """W13: it would come between them and whoever adds to them."""
    trigger = "CREATE TRIGGER more AFTER INSERT ON p_states BEGIN DELETE FROM p_states; END"
    ledger.edit(trigger, name=ledger.shelf.generation())
    assert standing(ledger).state == "stale"
    ledger.catch_up()
    assert standing(ledger).state == "current"


@BOTH
@pytest.mark.parametrize("statement", ["CREATE INDEX more ON p_tokens (run)", "CREATE VIEW more AS SELECT 1 AS one"])
def test_an_index_or_a_view_of_ones_own_disturbs_nobody(ledger: Kept, database: str, statement: str) -> None:
    """W13: who reads is answered as before; they go with the generation."""
    ledger.edit(statement, name=ledger.shelf.generation())
    assert standing(ledger).state == "current"


@BOTH
def test_a_log_without_its_last_event_is_told_as_far_as_it_goes_and_once(ledger: Kept, database: str) -> None:
    """law L1, W13: the head tells of more than there is: that is where the run is stuck, and nobody tells it again."""
    events = ledger.store._streams["a"].events  # type: ignore[attr-defined]
    gone = events.pop()
    ledger.rebuild()
    found = standing(ledger)
    assert found.state == "incomplete" and "run a" in found.why
    with ledger.reading() as tables:
        assert tables.select("SELECT events, root, unreadable_from_seq FROM runs WHERE run_id = 'a'") == [
            (gone.seq - 1, None, gone.seq)]
        assert tables.select("SELECT law, seq FROM violations WHERE run_id = 'a'") == [("L1", gone.seq)]
    before = ledger.shelf.generation(), ledger.dump()
    ledger.catch_up()
    assert (ledger.shelf.generation(), ledger.dump(), ledger.differences()) == (*before, [])


@BOTH
@pytest.mark.parametrize("at", [1, 2, 3])
def test_who_finds_his_tables_dropped_for_newer_ones_takes_those(
    ledger: Kept, database: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W13: nobody holds a lock between looking for the newest and opening it, be it to look at them or to hand them out."""
    turns, whole = count(1), ledger.dump()
    opened = type(ledger.shelf).open

    def late(shelf: Shelf, name: str, **how: bool) -> ReadTables:
        if next(turns) == at:
            with monkeypatch.context() as patch:
                patch.setattr(type(ledger.shelf), "open", opened)
                ledger.rebuild()
                ledger.rebuild()
        found: ReadTables = opened(shelf, name, **how)
        return found

    monkeypatch.setattr(type(ledger.shelf), "open", late)
    with catching.caught_up(ledger.store, ledger.shelf) as tables:
        assert dump_of(tables) == whole


@pytest.mark.parametrize("database", ["sqlite"])
@pytest.mark.parametrize("statement", [
    f"UPDATE p_places SET seq = 'abc' WHERE run = {OF_B}", "UPDATE p_places SET seq = NULL",
    "UPDATE p_runs SET root = 'abc' WHERE run_id = 'b'", "UPDATE p_runs SET unreadable_from_seq = 'x'",
    "UPDATE p_places SET fingerprint = NULL", "UPDATE p_runs SET run_id = x'ff00' WHERE run_id = 'b'"])
def test_values_that_no_projector_writes_are_said_to_be_that(ledger: Kept, database: str, statement: str) -> None:
    """W13, F7: a column of SQLite takes anything; typed, with the command that helps, and that command does help."""
    for mend in (ledger.rebuild, partial(ledger.rebuild, run="a")):
        ledger.edit(statement, name=ledger.shelf.generation())
        for act in (ledger.catch_up, ledger.differences, lambda: standing(ledger)):
            with pytest.raises(LedgerUnavailable, match=r"READ_TABLES_UNREADABLE.*counterfoil rebuild"):
                act()
        mend()
        assert (ledger.differences(), standing(ledger).state) == ([], "current")
