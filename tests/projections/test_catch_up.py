"""Catching up and rebuilding are one thing: the same rows in whatever pieces, and readers see whole tables or old ones."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import events as e
from ledger.errors import LedgerUnavailable
from ledger.store import Payload
from projections import project as projecting
from projections.projectors import run_projector
from projections.rebuild import Progress, Rebuild, rebuild
from projections.sqlite_tables import SqliteTables
from tests.kit import graphs
from tests.kit.log import RUN, Log, diverted
from tests.kit.tamper import edit_payload, remove_run
from tests.ledger import lawful, lawful_groups
from tests.ledger.folding import place
from tests.ledger.lawful_many import LAWFUL
from tests.projections.growing import Ledger
from tests.projections.reading import dump, make, told


def named(log: Log, run: str) -> Log:
    """The same log as another run's."""
    log.run = run
    return log


@contextmanager
def ledger_of(*logs: Log) -> Iterator[Ledger]:
    """A ledger in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        yield Ledger(Path(folder), *logs)


def rebuilt(*logs: Log) -> object:
    """What one rebuild makes of these logs."""
    with ledger_of(*logs) as ledger:
        ledger.rebuild()
        return ledger.dump()


@pytest.mark.parametrize("name", LAWFUL)
def test_catching_up_after_every_event_gives_what_one_rebuild_gives(name: str) -> None:
    """law P1, F5: for each kind of event, with something open or not, also where a batch of rows was stored in between."""
    log = LAWFUL[name]()
    with ledger_of(log) as ledger:
        for size in range(1, len(log.said) + 1):
            ledger.grow(RUN, size)
            ledger.catch_up()
            assert ledger.differences() == []
        assert ledger.dump() == rebuilt(LAWFUL[name]())


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_catching_up_in_any_pieces_gives_what_one_rebuild_gives(data: st.DataObject) -> None:
    """law P1: two runs cut at any places, growing in any order, and any number of events to a transaction."""
    logs = [build(data.draw(st.sampled_from(list(LAWFUL))), run) for run in "ab"]
    batch = data.draw(st.integers(1, 12))
    with pytest.MonkeyPatch.context() as patch, ledger_of(*logs) as ledger:
        patch.setattr(projecting, "EVENTS_PER_BATCH", batch)
        sizes = {log.run: 1 for log in logs}
        for _ in range(data.draw(st.integers(0, 8))):
            for log in logs:
                sizes[log.run] = data.draw(st.integers(sizes[log.run], len(log.said)))
                ledger.grow(log.run, sizes[log.run])
            ledger.catch_up()
        for log in logs:
            ledger.grow(log.run, len(log.said))
        ledger.catch_up()
        assert ledger.differences() == []
        found = ledger.dump()
    assert found == rebuilt(*logs)


def build(name: str, run: str) -> Log:
    """A lawful log as that run's."""
    return named(LAWFUL[name](), run)


def test_a_run_as_of_an_event_is_the_run_that_had_only_come_so_far() -> None:
    """F6, law P1: the root of the log at that place included."""
    log = lawful_groups.nested_failure()
    for size in range(1, len(log.said) + 1):
        with ledger_of(lawful_groups.nested_failure()) as ledger, told(log, size) as as_of:
            ledger.grow(RUN, size)
            ledger.rebuild()
            assert dump(as_of.path) == ledger.dump()


def test_tables_made_by_another_projector_are_said_to_be_stale_and_made_again() -> None:
    """W13, F5: nobody has to ask; the new generation stands beside the old one."""
    with ledger_of(lawful.three_rows()) as ledger:
        old = ledger.catch_up(run_projector()._replace(fingerprint="of an earlier version"))
        ledger.edit("UPDATE p_states SET error = 'as it was told then'")
        assert ledger.said == []
        new = ledger.catch_up()
        assert [line.partition(":")[0] for line in ledger.said] == ["READ_TABLES_STALE"]
        assert "earlier version" in ledger.said[0] and run_projector().fingerprint in ledger.said[0]
        assert new != old and ledger.generation() == new
        assert ledger.differences() == [] and ledger.dump() == rebuilt(lawful.three_rows())


def test_tables_of_another_schema_are_made_again() -> None:
    """F5: a view that is not there yet is as good as a stale projector."""
    with ledger_of(lawful.three_rows()) as ledger:
        old = ledger.catch_up()
        ledger.edit("DROP VIEW violations")
        assert ledger.catch_up() != old and ledger.dump() == rebuilt(lawful.three_rows())


def test_tables_ahead_of_the_log_are_named_and_made_again() -> None:
    """W13, F5: a log that was rolled back takes its tables with it."""
    log = lawful.three_rows()
    with ledger_of(log) as ledger:
        old = ledger.catch_up()
        ledger.grow(RUN, place(log, e.SourceExhausted) - 1)
        assert {"runs", "token_outcomes", "node_states"} <= {one.table for one in ledger.differences() if one.side == "here"}
        assert ledger.catch_up() != old and ledger.differences() == []
        remove_run(ledger.store, RUN)
        assert {one.table for one in ledger.differences()} >= {"runs", "tokens"}
        ledger.catch_up()
        assert ledger.told(RUN).rows("runs") == []


@pytest.mark.parametrize(
    ("statement", "table", "column", "here", "there"),
    [
        ("UPDATE p_states SET status = 'completed' WHERE status = 'failed'", "node_states", "status", "completed", "failed"),
        ("UPDATE p_groups SET trigger = 'timeout'", "coalesce_groups", "trigger", "timeout", "branch_lost"),
        ("UPDATE p_edges SET to_node = 'out' WHERE edge_id = 'gate_a:away'", "edges", "to_node", "out", "side"),
    ],
)
def test_an_edit_by_hand_is_named_with_its_table_and_both_rows(
    statement: str, table: str, column: str, here: str, there: str
) -> None:
    """W13, F5: what the tables say and the log does not, and the other way round; nothing is changed by asking."""
    with ledger_of(lawful_groups.lost_first()) as ledger:
        ledger.catch_up()
        ledger.edit(statement)
        before = ledger.dump()
        found = [one for one in ledger.differences() if one.table == table]
        assert {(one.side, one.row[column]) for one in found} == {("here", here), ("there", there)}
        assert all(one.row["run_id"] == RUN for one in found)
        assert ledger.dump() == before
        ledger.rebuild()
        assert ledger.differences() == []


def test_a_row_that_was_removed_or_added_by_hand_is_named() -> None:
    """F5: on the side that has it."""
    with ledger_of(lawful.three_rows()) as ledger:
        ledger.catch_up()
        ledger.edit("DELETE FROM p_rows WHERE row_index = 1")
        ledger.edit("INSERT INTO p_violations (run, seq, law) SELECT run, 3, 'T1' FROM p_runs")
        found = [(one.table, one.side, one.row["seq"]) for one in ledger.differences()]
        assert sorted(found) == [("rows", "there", 4), ("violations", "here", 3)]


def test_tables_that_are_only_behind_do_not_differ() -> None:
    """W13, F5: they are compared where they stand; what the log has since is no difference."""
    log = lawful_groups.nested_joins()
    with ledger_of(log) as ledger:
        for size in range(1, len(log.said)):
            ledger.grow(RUN, size)
            ledger.rebuild()
            ledger.grow(RUN, len(log.said))
            assert ledger.differences() == [], size


@pytest.mark.parametrize("seq", range(1, 14))
def test_a_rebuild_that_is_stopped_leaves_readers_the_old_tables_and_is_gone_on_with(
    seq: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W13, F5: whole and as they were; the next one begins where it ended, and leaves nothing of it."""
    with ledger_of(named(lawful.three_rows(), "a"), named(lawful_groups.all_arrived(), "b")) as ledger:
        old = ledger.catch_up()
        before = ledger.dump()
        monkeypatch.setattr(projecting, "EVENTS_PER_BATCH", 2)
        with monkeypatch.context() as patch:
            patch.setattr(projecting, "apply", dying_at(seq))
            with pytest.raises(KeyboardInterrupt):
                ledger.rebuild()
        assert (ledger.generation(), ledger.dump()) == (old, before)
        stored: list[Progress] = []
        rebuild(ledger.store, ledger.shelf, Rebuild(run_projector(), stored.append))
        total = sum(len(events) for events in ledger.whole.values())
        assert stored[0].total == total - (seq - 1) // 2 * 2
        assert ledger.generation() != old and ledger.dump() == before
        assert not [name for name in ledger.beside() if ".new" in name]


@pytest.mark.parametrize("left", ["of another projector", "of no start of this machine", "without what it is for", "torn"])
def test_what_cannot_be_gone_on_with_is_begun_again(left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """W13: tables of another making, and such as a power cut may have torn."""
    with ledger_of(lawful.three_rows()) as ledger, monkeypatch.context() as patch:
        patch.setattr(projecting, "EVENTS_PER_BATCH", 2)
        patch.setattr(projecting, "apply", dying_at(9))
        projector = run_projector()._replace(fingerprint="other") if left == "of another projector" else run_projector()
        with pytest.raises(KeyboardInterrupt):
            rebuild(ledger.store, ledger.shelf, Rebuild(projector))
        said = ledger.path.with_name("ledger.db.read.new.of")
        if left == "of no start of this machine":
            said.write_bytes(re.sub(rb'"boot":"[^"]+"', b'"boot":"another"', said.read_bytes()))
        elif left == "without what it is for":
            said.unlink()
        elif left == "torn":
            said.write_bytes(said.read_bytes()[:9])
        patch.undo()
        ledger.rebuild()
        assert ledger.dump() == rebuilt(lawful.three_rows())


def dying_at(seq: int) -> object:
    """An `apply` under which the process is interrupted at that event."""
    from ledger.fold import State, apply

    def applied(state: State, event: e.Event) -> None:
        if event.seq == seq:
            raise KeyboardInterrupt
        apply(state, event)

    return applied


def test_a_catch_up_that_is_killed_goes_on_from_its_last_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """W13, law P1: effect and place were stored together."""
    log = lawful_groups.branch_lost()
    with ledger_of(log) as ledger:
        ledger.grow(RUN, 2)
        ledger.catch_up()
        ledger.grow(RUN, len(log.said))
        for seq in range(3, len(log.said) + 1):
            with monkeypatch.context() as patch:
                patch.setattr(projecting, "EVENTS_PER_BATCH", 3)
                patch.setattr(projecting, "apply", dying_at(seq))
                with pytest.raises(KeyboardInterrupt):
                    ledger.catch_up()
            assert ledger.differences() == []
        ledger.catch_up()
        assert ledger.dump() == rebuilt(lawful_groups.branch_lost())


def test_a_reader_of_an_old_generation_reads_on_while_new_ones_are_swapped_in() -> None:
    """W13, F5: no file that is open is written over; only the last two generations are kept."""
    with ledger_of(lawful.three_rows()) as ledger:
        first = ledger.catch_up()
        with SqliteTables(first, write=False) as reader:
            before = reader.records("SELECT * FROM token_outcomes")
            second, third = ledger.rebuild(), ledger.rebuild()
            assert [one.name for one in (first, second, third)] == [f"ledger.db.read.{n}.db" for n in (1, 2, 3)]
            assert not first.exists() and second.exists() and ledger.generation() == third
            assert reader.records("SELECT * FROM token_outcomes") == before
            assert reader.records("SELECT * FROM node_states ORDER BY opened_seq")


def test_generations_are_counted_and_not_spelled() -> None:
    """F5: the tenth comes after the ninth; a file with another name is none."""
    with ledger_of(lawful.one_row()) as ledger:
        for n in (9, 10):
            make(ledger.path.with_name(f"ledger.db.read.{n}.db"))
        for name in ("ledger.db.read.11.db-wal", "ledger.db.read.x.db", "another.db.read.12.db"):
            ledger.path.with_name(name).touch()
        assert ledger.generation().name == "ledger.db.read.10.db"
        assert ledger.rebuild().name == "ledger.db.read.11.db"


def test_one_run_is_made_again_beside_the_others_as_they_are() -> None:
    """F5: what was edited in another run stays for its own rebuild."""
    with ledger_of(named(lawful.three_rows(), "a"), named(lawful_groups.all_arrived(), "b")) as ledger:
        ledger.catch_up()
        ledger.edit("UPDATE p_states SET status = 'open'")
        ledger.rebuild("b")
        assert {one.row["run_id"] for one in ledger.differences()} == {"a"}
        ledger.rebuild("a")
        assert ledger.differences() == []


def test_one_run_can_be_made_again_while_another_is_behind() -> None:
    """F5: another run's writer may be at work meanwhile."""
    logs = named(lawful.three_rows(), "a"), named(lawful_groups.all_arrived(), "b")
    with ledger_of(*logs) as ledger:
        ledger.grow("b", 5)
        ledger.catch_up()
        ledger.grow("b", len(logs[1].said))
        ledger.rebuild("a")
        ledger.catch_up()
        assert ledger.differences() == []


@pytest.mark.parametrize("name", LAWFUL)
def test_what_a_writer_adds_meanwhile_is_caught_up_before_the_swap(name: str) -> None:
    """F5, law P1: whatever was open when the rebuild first came to the end of the run."""
    log = LAWFUL[name]()
    for size in range(1, len(log.said)):
        with ledger_of(log) as ledger:
            ledger.grow(RUN, size)

            def growing(progress: Progress, ledger: Ledger = ledger) -> None:
                if progress.done == progress.total:
                    ledger.grow(RUN, len(log.said))

            rebuild(ledger.store, ledger.shelf, Rebuild(run_projector(), growing))
            assert ledger.dump() == rebuilt(LAWFUL[name]())


def test_tables_that_are_no_database_say_so_and_a_rebuild_replaces_them() -> None:
    """F5: they can be thrown away."""
    with ledger_of(lawful.one_row()) as ledger:
        ledger.catch_up().write_bytes(b"no database at all" * 100)
        with pytest.raises(LedgerUnavailable, match="READ_TABLES_UNREADABLE"):
            ledger.catch_up()
        ledger.rebuild()
        assert ledger.dump() == rebuilt(lawful.one_row())


def test_what_was_erased_reads_erased() -> None:
    """F2: its code and its hash stay, its text is gone; a key as well."""
    log = Log(graphs.linear())
    data, key = log.keep({"id": 7}), log.keep("order-7")
    error = log.keep("no good")
    log.say(e.RowRead(token="0", row=0, valid=False, position=0, data=data, key=key, code="bad", error=error))
    log.say(diverted("0", "source", "errors", kind="quarantine", edge=lawful.QUARANTINE_EDGE, reason=error.n))
    log.write("errors", "0").exhaust().seal(quarantined=1)
    with ledger_of(log) as ledger:
        ledger.catch_up()
        for n in (key.n, error.n):
            edit_payload(ledger.store, RUN, n, Payload(n, None, None))
        ledger.rebuild()
        found = ledger.told(RUN)
        assert found.told("rows", "source_key, data_hash") == [("erased", data.sha256)]
        for view, columns in (("node_states", "error"), ("routing_events", "reason"), ("token_outcomes", "reason")):
            assert found.told(view, columns, order="1 DESC")[0] == ("bad: erased",)
        assert found.told("token_outcomes", "error_hash") == [(error.sha256,)]
