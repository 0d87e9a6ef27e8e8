"""A run of `pre_test > analyse x N > synthesise` that is cut at each of its commits: what stands is whole as far as it goes.

`acknowledged <= recovered <= attempted`: nothing of a group is lost or doubled, and whatever touched the outside world was
intended on record before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from engine.attempts import Attempt
from engine.plugin_api import RowError
from ledger import events as e
from tests.kit.pipelines import Sketch, Trial, trial
from tests.kit.twins import TrialStore

Row = Mapping[str, Any]

SIZES = (0, 1, 2, 5)


class Outside:
    """What the outside world saw: each attempt that reached it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def analyse(self, row: Row, attempt: Attempt) -> Row:
        """One analysis; the second of five is poisoned."""
        self.seen.append(attempt.key)
        if (row["of"], row["n"]) == (5, 1):
            raise RowError("poisoned")
        return row


def experiment(store: TrialStore, outside: Outside) -> Trial:
    """The pipeline over experiments of every size."""
    sketch = Sketch("rows").step("pre_test", "rows", "trials", expands=True).effect("analyse", "trials", "done", "bad")
    sketch.gather("join", "pre_test", "done", "best_effort", "whole", timeout_seconds=60).step("synthesise", "whole", "out")
    return trial(sketch.sink("out", "bad").text(), [{"of": size} for size in SIZES],
                 {"pre_test": lambda row: [{"n": n, "of": row["of"]} for n in range(row["of"])],
                  "analyse": outside.analyse}, store=store)  # fmt: skip


def commits() -> int:
    """How often a whole run appends, the ledger's creation included."""
    store = TrialStore()
    experiment(store, Outside()).go()
    return len(store.appends)


@pytest.mark.parametrize("cut", range(3, commits() + 1))
def test_a_run_that_is_cut_at_any_commit_leaves_its_groups_open_or_resolved_once(cut: int) -> None:
    """C2, C4, law C2: no group is half made, no next stage is started twice, none is called done that is not."""
    store, outside = TrialStore(fail_at=cut), Outside()
    made = experiment(store, outside)
    with pytest.raises(OSError, match="No space left"):
        made.start()
    ran = made.left()
    assert not ran.verdict.sealed
    joined = Counter(event.group for event in ran.of(e.TokensCoalesced))
    assert set(joined.values()) <= {1}
    expanded = {event.token: event.count for event in ran.of(e.TokenExpanded)}
    assert {group.removesuffix("+join") for group in joined} <= set(expanded)
    assert ran.verdict.open_groups == len(expanded) - len(joined)
    started = Counter(event.node for event in ran.of(e.StepCompleted))
    assert started["synthesise"] <= len(joined)
    assert set(outside.seen) <= {event.key for event in ran.of(e.StepStarted)}


def test_the_run_that_is_not_cut_starts_each_synthesis_once() -> None:
    """C1, C4: N = 0, 1 and many, a poisoned member among them."""
    ran = experiment(TrialStore(), Outside()).go()
    assert [[item["n"] for item in row["items"]] for row in ran.rows("out")] == [[], [0], [0, 1], [0, 2, 3, 4]]
    assert ran.rows("bad") == [{"n": 1, "of": 5}]
    assert Counter(event.node for event in ran.of(e.StepCompleted))["synthesise"] == len(SIZES)
