"""A ledger's password is never repeated, whatever is suggested to be typed next."""

from __future__ import annotations

import pytest

from counterfoil.cli.options import resuming


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "postgresql", "postgres"])
def test_what_is_suggested_after_a_stop_hides_the_password(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """W14, W6: stderr and scroll-back are no place for it; user, host and schema are there."""
    monkeypatch.delenv("COUNTERFOIL_LEDGER", raising=False)
    said = resuming(f"{scheme}://me:hunter2@host:5433/db?schema=audit", "x")
    assert "hunter2" not in said and "me:***@host:5433/db?schema=audit" in said


def test_a_file_is_suggested_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """W14: what was typed can be typed again."""
    monkeypatch.delenv("COUNTERFOIL_LEDGER", raising=False)
    assert resuming("sqlite:///a b.db", "x") == "`counterfoil resume x --ledger 'sqlite:///a b.db'` carries it on"
