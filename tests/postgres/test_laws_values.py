"""Law P5 for the values that databases disagree about: what one of them sorts, cuts, refuses or rounds in its own way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from counterfoil import Attempt, RowError, aggregation, effect
from counterfoil.ledgers import Ledger
from tests.kit import both

LONG = "key " * 3000
"""Longer than a page of PostgreSQL, and than what a B-tree on it takes."""
TEXTS: Sequence[str] = (
    "", " ", "a", "B", "_", "~", "Z", "z", "\u00e4", "e\u0301", "\u00e9", "\u0130", "\u00df", "ss", "\uff21", "\U0001f600",
    "\uffff", "\ue000", "\u0000", "nul\u0000nul", "\ud800", "half \udfff", "\u001f\u007f\u0080\u2028", "\\u0000", "\\", '"',
    "a\tb\nc\rd", "'; DROP TABLE x; --", "%s ? $1 %%", LONG, "\u00e9" * 5000, "null", "NaN", "1e999",
)
NUMBERS: Sequence[object] = (0, -0.0, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 10**400, 0.1, 5e-324, 1.7976931348623157e308,
                             1e15, 1e16, 123456789.123456789, True, False, None)
MODULE = "tests.postgres.test_laws_values"
PIPELINE: Mapping[str, Any] = {
    "name": "odd_values", "source": {"plugin": "json", "key": "text", "on_success": "rows", "options": {
        "path": "in.jsonl", "on_validation_failure": "odd"}},
    "retry": {"max_attempts": 2, "initial_delay_seconds": 0.0015, "max_delay_seconds": 0.0015},
    "transforms": [
        {"name": "asks", "plugin": f"{MODULE}:asks", "input": "rows", "on_success": "asked", "on_error": "odd"},
        {"name": "parts", "plugin": f"{MODULE}:parts", "input": "apart", "on_success": "part", "on_error": "odd"},
        {"name": "refuses", "plugin": f"{MODULE}:refuses", "input": "b", "on_success": "b_done", "on_error": "odd"}],
    "gates": [{"name": "split", "input": "asked", "condition": "True", "routes": {"true": "fork"},
               "fork_to": ["b", "B", "apart", "batch"]}],
    "aggregations": [{"name": "all", "plugin": f"{MODULE}:joined", "input": "batch", "on_success": "good",
                      "on_error": "odd", "trigger": {"count": 7}}],
    "coalesce": [{"name": "join", "branches": {"b": "b_done", "B": "B"}, "policy": "require_all", "merge": "nested",
                  "on_success": "good"},
                 {"name": "gather", "gathers": "parts", "input": "part", "policy": "best_effort", "timeout_seconds": 0.01,
                  "merge": "list", "on_success": "good"}],
    "sinks": {"good": {"plugin": "json", "options": {"path": "good.jsonl"}},
              "odd": {"plugin": "json", "options": {"path": "odd.jsonl"}}},
}


@effect
def asks(row: Mapping[str, Any], attempt: Attempt) -> dict[str, object]:
    """Calls with the row, and is answered with it; every fifth time it raises with the row's text."""
    with attempt.calling("echo", dict(row)) as call:
        call.answered(row["text"][:40] or "empty", dict(row))
    if row["n"] % 5 == 4:
        raise RowError(f"not {row['text']}", "odd_text")
    return dict(row)


def parts(row: Mapping[str, Any]) -> list[dict[str, object]]:
    """As many as its number says, up to three."""
    return [{**row, "part": part} for part in range(row["n"] % 4)]


def refuses(row: Mapping[str, Any]) -> dict[str, object]:
    """Some fail without a code of their own, with the row's text as the error's."""
    if row["n"] % 3 == 1:
        raise ValueError(row["text"])
    return dict(row)


@aggregation
def joined(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Every other batch fails with all of its texts."""
    if rows[0]["n"] % 2:
        raise ValueError("".join(str(row["text"]) for row in rows))
    return [{"texts": [row["text"] for row in rows]}]


def test_values_that_databases_disagree_about_are_the_same_on_both(
        tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F5, law P5, law P1: NUL, half characters, empty and huge keys and errors, letters in any order, any number."""
    monkeypatch.chdir(tmp_path)
    pair = both.pair(tmp_path, postgres_url)
    rows = [{"n": n, "text": text, "value": NUMBERS[n % len(NUMBERS)]} for n, text in enumerate(TEXTS)]
    Path("in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    Path("pipeline.yaml").write_text(json.dumps(PIPELINE), encoding="utf-8")
    for url in pair:
        both.run(url, "pipeline.yaml", "odd", lambda ledger: ledger.catch_up().close())
        with Ledger(url) as ledger:
            assert ledger.differences() == []
    sqlite, postgres = (_all(url) for url in pair)
    assert both.differing(sqlite, postgres) == []
    outcomes = {row["outcome"] for row in sqlite["answers"]["odd"]["tokens"]}
    assert outcomes >= {"completed", "routed", "coalesced", "expanded", "consumed_in_batch", "failed"}


def _all(url: str) -> dict[str, Any]:
    with Ledger(url) as ledger:
        log = both.stored(ledger.store)
    return {"log": log, "tables": both.tables(url), "answers": both.answered(url), "commands": both.asked(url, "odd")}
