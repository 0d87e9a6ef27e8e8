"""The loans example keeps what it promises, and what it promises is what its input says."""

from __future__ import annotations

import csv
import random
from collections import Counter

import pytest

from examples.loans import make_applications
from tests.examples.finished import Finished, expected, run
from tests.house.tree import ROOT


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run for all that is asked of it."""
    return run("loans", tmp_path_factory.mktemp("loans"))


def test_loans_end_as_promised(finished: Finished) -> None:
    """E1, E5: nested gates, a quarantine and two error routes fill seven sinks."""
    assert finished.counts() == expected("loans")


def test_the_run_of_the_loans_replays_without_a_finding(finished: Finished) -> None:
    """F4: the log alone says that every token has one end."""
    assert finished.ask("replay", "loans")["ok"] is True


def test_the_promise_is_what_a_plain_count_of_the_input_gives() -> None:
    """The expected counts come from the input and the rules, not from a run."""
    with (ROOT / "examples/loans/applications.csv").open(encoding="utf-8", newline="") as lines:
        fates = Counter(_fate(application) for application in csv.DictReader(lines))
    promised = expected("loans")
    assert dict(fates) == promised["sinks"]
    assert promised["outcomes"] == {"routed": fates.total() - fates["unreadable"], "quarantined": fates["unreadable"]}


def test_the_applications_can_be_made_again() -> None:
    """The committed input is the generator's."""
    with (ROOT / "examples/loans/applications.csv").open(encoding="utf-8", newline="") as lines:
        committed = list(csv.reader(lines))
    made = make_applications.applications(random.Random(make_applications.SEED))
    assert committed[1:] == [[str(field) for field in application] for application in made]


def _fate(application: dict[str, str]) -> str:
    try:
        fields = ("monthly_income", "amount", "term_months", "credit_score")
        income, amount, months, score = (int(application[field]) for field in fields)
    except ValueError:
        return "unreadable"
    if "test application" in application["note"].lower() or income == 0:
        return "by_hand"
    return "committee" if amount > 40000 else _decided(amount / months / income, months, score)


def _decided(share: float, months: int, score: int) -> str:
    if score >= 720:
        return "approved" if share <= 0.4 else "referred"
    if score < 620:
        return "declined"
    if share <= 0.15:
        return "approved_with_guarantor"
    return "referred" if share <= 0.3 and months <= 36 else "declined"
