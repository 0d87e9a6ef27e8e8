"""What a run's record counts besides tokens: groups by status and trigger, batches, calls; and whether it is sound.

Why with `query`: anybody may ask so.

Invariant: nothing here depends on which thread was first. Of a best-effort group that lost some children and got the
others, the trigger tells which of them came last; such groups are counted under both names.
"""

from __future__ import annotations

from typing import Any

from tests.examples.finished import Finished

EITHER = "all_arrived or branch_lost"

SOUND = {"replay": True, "verify": True, "completeness": "proven"}

GROUPS = f"""
    SELECT status, CASE WHEN status = 'merged' AND branches_lost <> '{{}}' AND trigger IN ('all_arrived', 'branch_lost')
                        THEN '{EITHER}' ELSE trigger END AS decided, count(*) AS groups
    FROM coalesce_groups GROUP BY 1, 2
"""
BATCHES = "SELECT aggregation, trigger, size, outputs FROM batches ORDER BY opened_seq"
CALLS = "SELECT kind, status, count(*) AS calls FROM calls GROUP BY 1, 2"


def tallies(finished: Finished) -> dict[str, Any]:
    """The counts as `expected.json` states them; the ledger holds one run."""
    return {
        "groups": _nested(asked(finished, GROUPS)),
        "batches": [list(row.values()) for row in asked(finished, BATCHES)],
        "calls": _nested(asked(finished, CALLS)),
    }


def asked(finished: Finished, sql: str) -> list[dict[str, Any]]:
    """The rows that `counterfoil query` answers with."""
    rows: list[dict[str, Any]] = finished.ask("query", sql)["rows"]
    return rows


def deeply_sound(finished: Finished) -> dict[str, Any]:
    """`SOUND` when the run replays deep without a finding, and verifies, its receipt and its sinks' files too."""
    run, receipt = finished.receipt["run"], f"{finished.receipt['size']}:{finished.receipt['root']}"
    verified = finished.ask("verify", run, "--world", "--expect", receipt)
    return {"replay": finished.ask("replay", run, "--deep")["ok"], "verify": verified["ok"],
            "completeness": verified["completeness"]["status"]}


def _nested(rows: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """`{first column: {second column: count}}`."""
    nested: dict[str, dict[str, int]] = {}
    for row in rows:
        first, second, count = row.values()
        nested.setdefault(first, {})[second] = count
    return nested
