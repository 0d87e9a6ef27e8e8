"""The flights example keeps what it promises, and what it promises is what its input says."""

from __future__ import annotations

import csv
from collections import Counter

import pytest

from tests.examples.finished import Finished, expected, run
from tests.house.tree import ROOT

ISLANDS = {"BQN", "PSE", "SJU", "STT", "HNL"}
MEASURED = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run for all that is asked of it."""
    return run("flights", tmp_path_factory.mktemp("flights"))


def test_flights_end_as_promised(finished: Finished) -> None:
    """B1, E5: on real rows every branch ends coalesced and every unreadable row is quarantined."""
    assert finished.counts() == expected("flights")


def test_the_run_of_the_flights_replays_without_a_finding(finished: Finished) -> None:
    """F4: the log alone says that every token has one end."""
    assert finished.ask("replay", "flights")["ok"] is True


def test_late_flights_carry_the_scores_of_both_branches(finished: Finished) -> None:
    """D1: a union holds the fields of both branches."""
    late = finished.sinks["late"]
    assert len(late) > 0
    for row in late:
        assert row["arr_delay"] >= 15
        assert row["minutes_made_up"] == row["dep_delay"] - row["arr_delay"]
        assert row["miles_per_hour"] == row["distance"] * 60 // row["air_time"]


def test_the_promise_is_what_a_plain_count_of_the_input_gives() -> None:
    """The expected counts come from the input and the rules, not from a run."""
    with (ROOT / "examples/flights/flights.csv").open(encoding="utf-8", newline="") as lines:
        fates = Counter(_fate(flight) for flight in csv.DictReader(lines))
    promised = expected("flights")
    scored = fates["late"] + fates["on_time"]
    assert dict(fates) == promised["sinks"]
    assert promised["outcomes"] == {
        "completed": fates["on_time"],
        "routed": fates["late"] + fates["islands"],
        "forked": scored,
        "coalesced": 2 * scored,
        "quarantined": fates["cancelled"],
    }


def _fate(flight: dict[str, str]) -> str:
    if "NA" in {flight[field] for field in MEASURED}:
        return "cancelled"
    if flight["dest"] in ISLANDS:
        return "islands"
    return "late" if int(flight["arr_delay"]) >= 15 else "on_time"
