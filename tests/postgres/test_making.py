"""A ledger is there whole or not at all: whoever makes one may die at it, and the next one makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from counterfoil.ledgers import Ledger, keeping_of
from counterfoil.postgres_ledger import PostgresKeeping
from ledger import ids
from ledger.errors import LedgerUnavailable
from ledger.postgres_url import parsed
from tests.doors.story import PIPELINE, ROWS
from tests.doors.told import ask, done, tell, write


@pytest.fixture
def half_made(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tables of a ledger, and not its first event: what a process leaves that is killed in between."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COUNTERFOIL_LEDGER", raising=False)
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})
    PostgresKeeping(parsed(postgres_url), postgres_url)._migrate()
    return postgres_url


def test_what_was_not_finished_is_no_ledger_yet(half_made: str) -> None:
    """W6, W1: whoever reads finds none."""
    with pytest.raises(LedgerUnavailable, match="LEDGER_MISSING"):
        Ledger(half_made)
    for command in (("runs",), ("verify",), ("db", "check"), ("db", "current"), ("rebuild",)):
        told = tell(*command, ledger=half_made)
        assert (told.code, told.error.split(":")[0]) == (6, "LEDGER_MISSING")


@pytest.mark.parametrize("command", [("db", "upgrade"), ("run", "pipeline.yaml", "--run-id", "x")])
def test_what_was_not_finished_is_finished_by_the_next_who_writes(half_made: str, command: tuple[str, ...]) -> None:
    """W6, W1: its first event is that it was made; it is a ledger like any other."""
    done(*command, ledger=half_made)
    done("run", "pipeline.yaml", "--run-id", "y", ledger=half_made)
    assert keeping_of(half_made).exists()
    with Ledger(half_made) as ledger:
        assert [stored.type for stored in ledger.store.read(ids.LEDGER_STREAM, 0, 1)] == ["LedgerCreated"]
    assert tell("verify", ledger=half_made).code == 0
    assert ask("db", "check", ledger=half_made)["guards"] == []
