"""Small stories of expansions, effects side by side and batches in a corridor, told event by event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from engine.plugin_api import BatchResult, Rejected
from ledger import events as e
from tests.kit.pipelines import Sketch, tried

GATHERED = Sketch("rows").step("parts", "rows", "each", expands=True).gather("all", "parts", "each", "require_all", "out")


@pytest.mark.parametrize("made", [lambda row: row, lambda row: {"n": 9}])
def test_one_row_of_a_step_that_expands_is_a_list_of_one(made: Any) -> None:
    """C1, G12: a plugin that forgets the brackets does not stop the run; an unchanged row is referred to, not copied."""
    ran = tried(GATHERED.sink("out").text(), [{"n": 9}], {"parts": made})
    assert ran.rows("out") == [{"n": 9, "items": [{"n": 9}]}]
    assert ran.one(e.TokenExpanded).count == 1
    assert ran.of(e.StepFailed) == []


def test_effects_that_end_together_arrive_in_the_order_in_which_they_were_heard() -> None:
    """C1: what one pass of the loop hears goes on one after the other, so `first` takes the one that ended first."""
    sketch = Sketch("rows", workers=3).step("parts", "rows", "each", expands=True).effect("ask", "each", "asked")
    sketch.gather("all", "parts", "asked", "first", "out").sink("out")
    ran = tried(sketch.text(), [{}], {"parts": lambda row: [{"n": n} for n in range(3)], "ask": lambda row, attempt: row})
    assert ran.rows("out") == [{"items": [{"n": 0}]}]
    assert ran.one(e.TokensCoalesced).group == "0+all"
    assert [event.token for event in ran.of(e.BranchArrivedLate)] == ["0:1", "0:2"]


def test_the_first_of_two_losses_of_one_batch_decides_its_group_at_once() -> None:
    """E9, G2: between two members that a batch rejects the group of the first has failed, and hears of no second loss."""
    sketch = Sketch("rows").step("parts", "rows", "each", expands=True)
    sketch.batch("look", "each", "seen", trigger={"count": 3}, output_mode="passthrough")
    sketch.gather("all", "parts", "seen", "require_all", "out").sink("out")

    def look(rows: Sequence[Any]) -> BatchResult:
        return BatchResult([rows[1]], [Rejected(0, "no", "bad"), Rejected(2, "no", "bad")])

    ran = tried(sketch.text(), [{}], {"parts": lambda row: [{"n": n} for n in range(3)], "look": look})
    assert ran.told()[5:11] == [
        "BatchFlushed look@1 #1 count 1 rejected 0:bad,2:bad",
        "Diverted 0:0 error look > discard by None bad",
        "BranchLost 0:0 0+all 0 discarded:look:bad",
        "CoalesceFailed 0+all branch_lost branch_lost:0",
        "Diverted 0:2 error look > discard by None bad",
        "BranchArrivedLate 0:1 0+all 1 failed",
    ]
    assert ran.outcomes == {"0": "expanded", "0:0": "quarantined", "0:1": "failed", "0:2": "quarantined"}
