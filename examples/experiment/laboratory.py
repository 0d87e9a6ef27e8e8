"""The example's own plugins: check a design and make its trials, analyse one trial, bring the analyses together.

What they show: `pre_test` says how many tokens there will be, and only the data knew; `analyse` touches the outside world
(a made-up laboratory), so its attempts and calls are on record; `synthesise` knows nothing of waiting: it gets a list.

Invariant: what an attempt comes to depends on the trial and the number of the attempt alone, never on time or threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean, pstdev
from typing import Any

from counterfoil import Attempt, RetryableError, RowError, effect, transform

Row = Mapping[str, Any]


@transform
def pre_test(row: Row, *, readings_min: int = 2) -> list[dict[str, object]]:
    """The trials of a sound design, each a row of its own; there may be none. Raises RowError for any other design."""
    for trial in row["trials"]:
        for side in ("control", "treated"):
            found = len(trial[side])
            if found < readings_min:
                where = f"{side} of trial {trial['trial']}"
                raise RowError(f"expected {readings_min} readings or more in {where}, found {found}", "bad_design")
    return [{"experiment": row["experiment"], **trial} for trial in row["trials"]]


@effect(deadline_seconds=30)
def analyse(row: Row, attempt: Attempt) -> dict[str, object]:
    """The difference that the treatment made in one trial.

    Raises RowError for a reading that is missing, RetryableError before the attempt at which the laboratory answers.
    """
    with attempt.calling("laboratory", {"control": row["control"], "treated": row["treated"]}) as call:
        if None in row["treated"]:
            raise RowError("expected a value for each reading, found a gap", "reading_missing")
        if attempt.number < row["answers_at"]:
            raise RetryableError("the laboratory is busy")
        difference = fmean(row["treated"]) - fmean(row["control"])
        call.answered("done", {"difference": difference})
    return {"trial": row["trial"], "difference": difference}


@transform
def synthesise(row: Row) -> dict[str, object]:
    """What the analyses that came say together, and which trials are lost to it; an experiment may have none at all."""
    differences = [analysis["difference"] for analysis in row["analyses"]]
    come = {analysis["trial"] for analysis in row["analyses"]}
    return {
        "experiment": row["experiment"],
        "question": row["question"],
        "planned": len(row["trials"]),
        "analysed": len(come),
        "lost": [trial["trial"] for trial in row["trials"] if trial["trial"] not in come],
        "mean": fmean(differences) if differences else None,
        "spread": pstdev(differences) if differences else None,
    }
