"""`rebuild --verify`: exactly the rows that differ, on both sides, and nothing is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from projections.catch_up import DIFFERENCES_MAX
from projections.tables import metadata
from tests.doors.told import tell
from tests.ledger import lawful, lawful_groups, lawful_many
from tests.projections import apart
from tests.projections.shelves import BOTH, Dump, Kept, kept, named

TABLES = [name for name in metadata.tables if name not in ("p_runs", "p_places")]


def several(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Kept:
    """Runs with rows in every table between them, one of which is behind."""
    ledger = kept(request, tmp_path, database, named(lawful.effect_retried(), "a"), named(lawful_groups.all_arrived(), "b"),
                  named(lawful_many.batch_rejected(), "c"), named(lawful.three_rows(), "stuck"))
    events = ledger.whole["stuck"]
    ledger.say("stuck", [*events[:7], events[7]._replace(body=b"{"), *events[8:]])
    ledger.grow("b", len(ledger.whole["b"]) - 3)
    ledger.catch_up()
    ledger.grow("b")
    return ledger


def changed(before: Dump, after: Dump) -> set[tuple[str, str, str]]:
    """The rows that only one of the dumps has, up to the limit for each side of each view of each run."""
    found = set()
    for view in before:
        for side, one, other in (("here", after, before), ("there", before, after)):
            found |= {(view, side, repr(row)) for row in set(one[view]) - set(other[view])}
    return found


def keys(table: str) -> list[str]:
    """The columns of a table's key after the run."""
    return [column.name for column in metadata.tables[table].primary_key if column.name != "run"]


def edits(table: str) -> dict[str, str]:
    """What a hand may do to a table: to the first row of each run, that is."""
    columns = metadata.tables[table].c
    last = keys(table)[-1]
    first = f"{last} = (SELECT min({last}) FROM {table} o WHERE o.run = {table}.run)"
    fixed = ("run", *keys(table), "reason_n")
    free = next((name for name in reversed(columns.keys()) if name not in fixed), last)
    other = "7" if columns[free].type.python_type is int else "'edited'"
    if columns[free].type.python_type is bytes:
        other = f"(SELECT {free} FROM {table} o ORDER BY length({free}) DESC LIMIT 1)"
    all_ = list(metadata.tables[table].c.keys())
    names = ", ".join(all_)
    new = f"{last} + 77" if columns[last].type.python_type is int else f"{last} || '?'"
    values = ", ".join(new if name == last else "seq + 77" if name == "seq" else name for name in all_)
    return {"update": f"UPDATE {table} SET {free} = {other} WHERE {first}", "delete": f"DELETE FROM {table} WHERE {first}",
            "insert": f"INSERT INTO {table} ({names}) SELECT {values} FROM {table} WHERE {first}"}


@BOTH
@pytest.mark.parametrize("kind", ["update", "delete", "insert"])
def test_edits_by_hand_are_named_row_by_row_on_both_sides_and_nothing_is_touched(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, kind: str
) -> None:
    """W13, F5: of every table, table by table where that is quick, else all of them at once; in a run that is whole, one
    that is behind and one that cannot be told to its end.
    """
    ledger = several(request, tmp_path, database)
    name = ledger.shelf.generation()
    assert ledger.differences() == []
    before = ledger.dump()
    for table in TABLES:
        ledger.edit(f"CREATE TABLE backup_{table} AS SELECT * FROM {table}", name=name)
    for tables in [[table] for table in TABLES] if database == "sqlite" else [TABLES]:
        for table in tables:
            ledger.edit(edits(table)[kind], name=name)
        after = ledger.dump()
        wanted = changed(before, after)
        assert wanted or tables == ["p_payloads"]
        found = ledger.differences()
        assert {(one.table, one.side, repr(tuple(one.row.values()))) for one in found} == wanted
        assert len(found) == len(wanted) < DIFFERENCES_MAX * len(before)
        assert {one.row["run_id"] for one in ledger.differences("a")} <= {"a"}
        assert (ledger.dump(), ledger.shelf.generation(), ledger.left()) == (after, name, [])
        for table in tables:
            ledger.edit(f"DELETE FROM {table}", f"INSERT INTO {table} SELECT * FROM backup_{table}", name=name)
    assert ledger.differences() == []


@BOTH
def test_the_command_says_what_differs_and_ends_with_5(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """W13, F5: of one run or of all; a run that was edited hides no other; a rebuild brings it right."""
    url = apart.real(tmp_path, request.getfixturevalue("postgres_url") if database == "postgresql" else None,
                     [named(lawful.effect_retried(), "a"), named(lawful_groups.all_arrived(), "b")])
    assert tell("rebuild", ledger=url).code == 0
    assert tell("rebuild", "--verify", "-o", "json", ledger=url).code == 0
    store, shelf = apart.opened(url)
    store.close()
    where = tmp_path / "ledger.db" if database == "sqlite" else url
    ledger = Kept(shelf, where, [lawful.one_row()])
    ledger.edit("UPDATE p_nodes SET kind = 'edited' WHERE node_id = 'source'", name=shelf.generation())
    for words, runs in ((("--verify",), {"a", "b"}), (("--verify", "--run", "b"), {"b"})):
        told = tell("rebuild", *words, "-o", "json", ledger=url)
        rows = json.loads(told.out)["rows"]
        assert told.code == 5 and "PROJECTION_DIFFERS" in told.err
        assert {(row["table"], row["side"], row["row"]["run_id"]) for row in rows} == {
            ("nodes", side, run) for side in ("here", "there") for run in runs}
    assert tell("rebuild", ledger=url).code == 0
    assert tell("rebuild", "--verify", ledger=url).code == 0
