"""Every tiny pipeline whole, and a part of them cut at every commit and at every sink."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from random import Random

import pytest

from tests.simulation.drawn import DELIVERIES, Delivery
from tests.simulation.simulated_examination import Examination, Report
from tests.simulation.tiny import all_tiny, case_of, cut_at_every_place, delivered, numbers, single

WHOLE = {"fork": 60, "gather": 16, "nested": 20, "batch": 200, "sink": 25}
CUT = {"fork": 45, "gather": 30, "nested": 25, "batch": 40, "sink": 0}
"""How many of each kind are run in full, and how many rows are cut: chosen once, by a seed."""


@lru_cache(maxsize=1)
def by_kind() -> dict[str, list[int]]:
    """The numbers of all tiny cases, by their kind."""
    kinds = [tiny.name.split()[0] for tiny in all_tiny() for _ in tiny.runs]
    return {kind: [n for n in numbers() if kinds[n] == kind] for kind in WHOLE}


def _chosen(kind: str, count: int) -> list[int]:
    return sorted(Random(f"tiny {kind} {count}").sample(by_kind()[kind], min(count, len(by_kind()[kind]))))


def _whole(number: int) -> Report:
    examination = Examination(case_of(number))
    examination.begin()
    return examination.report()


def _wrong(report: Report) -> list[str]:
    return [f"tiny {report.seed}: {text}" for text in report.wrong]


@pytest.mark.parametrize("kind", WHOLE)
def test_every_fate_of_every_branch_child_member_and_row_is_as_the_oracle_says(kind: str) -> None:
    """W11, A1, A2, B2, C3, E9, G1, G2, G3, G5, G8, G9, G10, G11, law C4, law C5, law C7: by every policy, merge, order."""
    reports = [_whole(number) for number in _chosen(kind, WHOLE[kind])]
    assert [text for report in reports for text in _wrong(report)] == []
    assert sum((report.seen for report in reports), Counter())


@pytest.mark.parametrize("kind", [kind for kind, count in CUT.items() if count])
def test_cut_at_every_commit_and_at_every_sink_they_come_to_the_same(kind: str) -> None:
    """W1, W2, D9, G7, G13, law P3, law P4: held branches, open batches, late ones and lost ones over a resume."""
    chance = Random(f"rows {kind}")
    cases = [case_of(chance.choice(by_kind()[kind])) for _ in range(CUT[kind])]
    alone = [case if kind == "batch" else single(case, chance.randrange(1000)) for case in cases]
    assert [text for case in alone for text in _wrong(cut_at_every_place(case))] == []


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_at_every_write_a_sink_is_struck_in_every_way_whatever_it_promises(delivery: Delivery) -> None:
    """W2, G13, law P3, law R3: refused rows and failsinks among them; what is made again carries the same key."""
    for number in by_kind()["sink"]:
        assert _wrong(cut_at_every_place(delivered(case_of(number), delivery))) == []
