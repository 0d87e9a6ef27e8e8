"""What only files have: pages that are damaged, names that are odd, what is left beside a file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ledger.errors import LedgerUnavailable
from projections.project import Target
from projections.projectors import run_projector
from projections.rebuild import into
from projections.sqlite_shelf import SqliteShelf
from projections.sqlite_tables import SqliteTables
from projections.tally import Tally
from tests.ledger import lawful, lawful_groups
from tests.projections.reading import make
from tests.projections.shelves import Kept, kept, named
from tests.projections.test_rebuild import A, B, pair, stopping_at_the_end

LEAVES = (0x0A, 0x0D)
"""What a page of rows begins with; how many there are stands three bytes further on."""


def test_a_damaged_page_is_found_before_the_swap(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """W13, F5: whatever page of the tables it is, overwritten or with a row less; pages that are free matter not."""
    ledger = kept(request, tmp_path, "sqlite", named(lawful_groups.all_arrived(), A))
    ledger.catch_up()
    shadow, said = (tmp_path / f"ledger.db.read.new{suffix}" for suffix in ("", ".of"))
    with pytest.raises(KeyboardInterrupt):
        ledger.rebuild(stopping_at_the_end)
    whole, purpose = shadow.read_bytes(), said.read_bytes()
    page, refused = int.from_bytes(whole[16:18], "big"), 0
    overwritten = [(place, b"\xff" * 64) for place in range(page, len(whole), page)]
    shortened = [(place + 3, (int.from_bytes(whole[place + 3:place + 5], "big") - 1).to_bytes(2, "big"))
                 for place in range(page, len(whole), page) if whole[place] in LEAVES and whole[place + 4] > 1]
    for place, damage in (*overwritten, *shortened):
        said.write_bytes(purpose)
        shadow.write_bytes(whole[:place] + damage + whole[place + len(damage):])
        old = ledger.shelf.generation()
        try:
            ledger.rebuild()
        except LedgerUnavailable as error:
            assert error.code in ("READ_TABLES_NOT_MADE", "READ_TABLES_UNREADABLE")
            assert (ledger.shelf.generation(), ledger.left()) == (old, [])
            refused += 1
        else:
            assert ledger.differences() == []
    assert refused > 20
    assert ledger.differences() == []


def test_a_name_as_odd_as_a_file_can_have_does(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """W13: blanks, quotes, signs of URLs, of SQL and of patterns, and other letters."""
    for name in ("a b.db", "it's.db", 'say "x".db', "a?mode=ro&b#c%20.db", "*[a]?.db", "-rf", "grün.数据", "file:x", "a\nb",
                 "x.read.1.db", "ledger.db.read.new"):
        folder = tmp_path / f"in {name}"
        folder.mkdir()
        path = folder / name
        ledger = Kept(SqliteShelf(path, make), path, [named(lawful.three_rows(), A), named(lawful.one_row(), B)])
        ledger.catch_up()
        with pytest.raises(KeyboardInterrupt):
            ledger.rebuild(stopping_at_the_end)
        ledger.rebuild()
        ledger.rebuild(run=A)
        with ledger.shelf.part(0):
            pass
        ledger.rebuild()
        assert ledger.differences() == []
        assert sorted(one.name.removeprefix(f"{name}.read.") for one in folder.iterdir()
                      if not one.name.endswith(("-shm", "-wal"))) == ["3.db", "4.db", "lock", "rebuild.lock"]


def test_a_write_ahead_log_left_under_the_next_name_is_not_taken_for_its_own(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """W13, F5: of a generation that somebody removed without it."""
    ledger = pair(request, tmp_path, "sqlite")
    first = Path(ledger.catch_up())
    with ledger.session(str(first)) as ask:
        ask("PRAGMA wal_autocheckpoint = 0")
        ask("UPDATE p_nodes SET kind = 'edited'")
        log = first.with_name(f"{first.name}-wal").read_bytes()
    for one in tmp_path.glob("*.read.*"):
        one.unlink()
    first.with_name(f"{first.name}-wal").write_bytes(log)
    assert len(log) > 1000
    assert ledger.catch_up() == str(first)
    assert ledger.differences() == []


def test_what_a_rebuild_has_filled_is_known_by_its_projector(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """W13: tables that another projector was stopped at are not gone on with, nor are its parts."""
    ledger = pair(request, tmp_path, "sqlite")
    with pytest.raises(KeyboardInterrupt):
        ledger.rebuild(stopping_at_the_end, projector=run_projector()._replace(fingerprint="other"))
    with ledger.shelf.part(3) as part, part.transaction():
        part.begin_run("another", 9)
    totals: list[int] = []
    ledger.rebuild(lambda progress: totals.append(progress.total))
    assert totals[0] == sum(map(len, ledger.whole.values()))
    assert ledger.differences() == []
    assert ledger.left() == []


def test_a_run_that_a_part_still_holds_is_not_taken_twice(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """W13: a rebuild was killed between taking it in and removing the part."""
    ledger = pair(request, tmp_path, "sqlite")
    with pytest.raises(KeyboardInterrupt):
        ledger.rebuild(stopping_at_the_end)
    head = ledger.store.head(A)
    assert head is not None
    with ledger.shelf.part(0) as part:
        into(ledger.store, head, Target(part, run_projector(), Tally(), run=1))
    totals: list[int] = []
    ledger.rebuild(lambda progress: totals.append(progress.total))
    assert totals[0] == 0
    assert (ledger.differences(), ledger.left()) == ([], [])


def test_a_copy_that_the_disk_does_not_take_leaves_nothing(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W11, W13: of the tables that one run was to be made again beside; what is read stays, and next time there is room."""
    ledger = pair(request, tmp_path, "sqlite")
    ledger.catch_up()
    before = ledger.dump()

    def full(tables: SqliteTables, path: Path) -> None:
        path.write_bytes(b"half of it")
        path.with_name(f"{path.name}-journal").write_bytes(b"and its journal")
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch, pytest.raises(sqlite3.OperationalError):
        patch.setattr(SqliteTables, "copy_to", full)
        ledger.rebuild(run=A)
    assert ([name for name in ledger.left() if "lock" not in name], ledger.dump()) == ([], before)
    ledger.rebuild(run=A)
    assert ledger.dump() == before
