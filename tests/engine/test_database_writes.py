"""The database sink's writes: a crash anywhere leaves what an uncut run leaves, and an older writer leaves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest

from engine.plugin_api import Claim, Prepared, Written
from engine.schema import RowSchema
from engine.sinks.database import DatabaseSink
from engine.sinks.database_receipts import Fenced
from tests.engine.databases import EPOCHS, RECEIPTS, ask, claim, do, prepare, sink, table, write
from tests.engine.writing import Rows

FIXED = RowSchema.parse("fixed", ["id: int", "note: str?"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that is not there yet."""
    return tmp_path / "out.db"


WRITES: tuple[Rows, ...] = (
    [{"id": 1, "note": "a"}, {"id": 2, "note": "b"}, {"id": 3, "note": 4}, {"id": 1, "note": "twice"}],
    [{"id": 4, "note": "x" * 9}, {"id": 5, "note": "e"}, {"id": 6, "note": None}],
    [{"id": 2, "note": "again"}, {"id": 7, "note": "g"}, {"other": 1}],
)
MAKERS: Mapping[str, tuple[str, dict[str, object]]] = {
    "unique": ("CREATE TABLE t (id INTEGER UNIQUE, note TEXT NOT NULL CHECK (length(note) < 9))", {}),
    "upsert": ("CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT NOT NULL CHECK (length(note) < 9))",
               {"primary_key": "id"}),
    "new": ("SELECT 1", {}),
    "new upsert": ("SELECT 1", {"primary_key": ["id"], "if_exists": "replace"}),
    "fixed": ("SELECT 1", {"schema": FIXED, "if_exists": "fail", "primary_key": "id"}),
}


class Crash(BaseException):
    """The process dies here."""


def told(made: DatabaseSink, places: range, cut: tuple[int, str] | None = None) -> list[tuple[Prepared, Written]]:
    """What the writes at these places came to. With a cut it dies there: `before` a write, or `after` it was made."""
    answers: list[tuple[Prepared, Written]] = []
    for place in places:
        prepared = prepare(made, WRITES[place])
        if cut == (place, "before"):
            raise Crash
        written = made.write(prepared, f"key {place}")
        if cut == (place, "after"):
            raise Crash
        answers.append((prepared, written))
    return answers


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(("place", "when", "begun"), list(product(range(3), ("before", "after"), (False, True))))
def test_a_run_cut_anywhere_leaves_exactly_the_rows_of_the_uncut_one(
    path: Path, kind: str, place: int, when: str, begun: bool
) -> None:
    """W2: writes that were not confirmed are made again under their keys by a newer epoch; refusals repeat too."""
    make, options = MAKERS[kind]
    uncut = path.with_name("uncut.db")
    for target in (path, uncut):
        do(target, make)
    one = sink(uncut, **options)
    one.open(claim())
    expected = told(one, range(3))
    dying = sink(path, **options)
    dying.open(claim())
    with pytest.raises(Crash):
        told(dying, range(3), (place, when))
    again = sink(path, **options)
    again.open(claim(2, begun=begun and place > 0))
    answers = told(again, range(place, 3))
    assert [answer[0] for answer in answers] == [answer[0] for answer in expected[place:]]
    assert [answer[1][1:] for answer in answers] == [answer[1][1:] for answer in expected[place:]]
    assert table(path) == table(uncut)
    assert told(again, range(3)) == [*told(again, range(place)), *answers]
    assert table(path) == table(uncut)
    assert ask(path, f"SELECT key, refused, inserted FROM {RECEIPTS} ORDER BY key") == (
        ask(uncut, f"SELECT key, refused, inserted FROM {RECEIPTS} ORDER BY key"))


@pytest.mark.parametrize("statement", [1, 2, 3, 4])
def test_a_write_that_dies_at_any_statement_leaves_neither_rows_nor_a_receipt(path: Path, statement: int) -> None:
    """W2: rows and receipt are one transaction: a trigger breaks the n-th insertion."""
    do(path, "CREATE TABLE t (id INTEGER)", "CREATE TABLE n (n INTEGER)", "INSERT INTO n VALUES (0)")
    made = sink(path)
    made.open(claim())
    for name in ("t", RECEIPTS):
        do(path, f"CREATE TRIGGER stop_{name} BEFORE INSERT ON {name} BEGIN UPDATE n SET n = n + 1; "
                 f"SELECT CASE WHEN n = {statement} THEN abs(-9223372036854775807 - 1) END FROM n; END")
    rows = [{"id": 1}, {"id": 2}, {"id": 3}]
    with pytest.raises(OSError, match="integer overflow"):
        write(made, rows)
    assert (table(path), table(path, RECEIPTS)) == ([], [])
    do(path, "DROP TRIGGER stop_t", f"DROP TRIGGER stop_{RECEIPTS}")
    write(made, rows)
    assert table(path) == [(1,), (2,), (3,)]


def test_an_older_writer_writes_nothing(path: Path) -> None:
    """W5: a zombie that wakes after another process took over is shut out of its writes, and of opening again."""
    zombie, heir = sink(path), sink(path)
    zombie.open(claim(1))
    write(zombie, [{"id": 1}], "1")
    prepared = prepare(zombie, [{"id": 2}])
    heir.open(claim(2, begun=True))
    for _ in range(2):
        with pytest.raises(Fenced, match=r"FENCED.*epoch 1.*epoch 2"):
            zombie.write(prepared, "2")
        with pytest.raises(Fenced, match="FENCED"):
            zombie.write(prepare(zombie, [{"id": 1}]), "1")
    with pytest.raises(Fenced, match="FENCED"):
        sink(path).open(claim(1, begun=True))
    assert table(path) == [(1,)]
    write(heir, [{"id": 2}], "2")
    assert table(path) == [(1,), (2,)]
    assert ask(path, f"SELECT epoch FROM {RECEIPTS} ORDER BY key") == [(1,), (2,)]


def test_a_writer_that_the_ledger_knows_no_more_replaces_nothing(path: Path) -> None:
    """It comes before its heir has opened the sink, so the target knows of none: it asks once it has the right to write."""
    do(path, "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (0)")
    with pytest.raises(Fenced, match="FENCED"):
        sink(path, if_exists="replace").open(claim(1)._replace(is_held=lambda: False))
    assert table(path) == [(0,)]
    heir = sink(path, if_exists="replace")
    heir.open(claim(2))
    write(heir, [{"id": 1}])
    assert table(path) == [(1,)]


def test_only_writers_of_the_same_run_sink_and_ledger_shut_each_other_out(path: Path) -> None:
    """Another run's epoch says nothing about this one's."""
    made = sink(path)
    made.open(claim(1))
    for other in (claim(9, run="other"), claim(9, sink="other"), Claim("other", "run", "out", 9)):
        sink(path).open(other)
    write(made, [{"id": 1}])
    assert table(path) == [(1,)]
    do(path, f"DELETE FROM {EPOCHS}")
    with pytest.raises(Fenced, match="no trace"):
        write(made, [{"id": 2}], "2")


def test_a_key_answers_for_the_rows_that_were_written_under_it_only(path: Path) -> None:
    """A pipeline that was changed since may offer others; those are not said to be there."""
    made = sink(path)
    made.open(claim())
    first = write(made, [{"id": 1}, {"id": 2}])
    assert write(made, [{"id": 1}, {"id": 9}]) == first
    with pytest.raises(OSError, match="written under this key before"):
        write(made, [{"id": 1}])
    with pytest.raises(OSError, match="written under this key before"):
        write(made, [{"id": 1}, {"x": 1}, {"id": 2}])
    assert table(path) == [(1,), (2,)]


def test_a_target_that_has_lost_confirmed_writes_takes_no_more(path: Path) -> None:
    """law R3: a database that was put back to an older copy has no receipts of what was written since."""
    made = sink(path)
    made.open(claim())
    keys = [f"key{n}" for n in range(1203)]
    for n, key in enumerate(keys[:3]):
        write(made, [{"id": n}], key)
    made.close(False)
    again = sink(path)
    again.open(claim(2, begun=True)._replace(keys=iter(keys[:3])))
    again.close(False)
    late = sink(path)
    with pytest.raises(OSError, match="1200 are gone"):
        late.open(claim(3, begun=True)._replace(keys=iter(keys)))
    do(path, "DELETE FROM counterfoil_receipts WHERE key = 'key1'")
    with pytest.raises(OSError, match="1 are gone"):
        sink(path).open(claim(3, begun=True)._replace(keys=iter(keys[:3])))
    assert table(path) == [(0,), (1,), (2,)]
