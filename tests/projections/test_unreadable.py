"""An event that cannot be read, or that breaks a law, stops its own run's tables only, and they say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ledger import events as e
from ledger.store import Stored
from projections.explain import explain
from projections.projectors import run_projector
from tests.ledger import lawful, lawful_groups
from tests.ledger.folding import place
from tests.projections.growing import Ledger

BAD, GOOD = "bad", "good"
AT = place(lawful.three_rows(), e.StepCompleted)
"""The seq at which the bad run is stopped: at the end of its first step."""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Two runs, of which one will be spoilt."""
    bad, good = lawful.three_rows(), lawful_groups.all_arrived()
    bad.run, good.run = BAD, GOOD
    return Ledger(tmp_path, bad, good)


def of_another_version(stored: Stored) -> Stored:
    """Written by a program that knows more than this one."""
    return stored._replace(type="TokenTeleported", body=stored.body.replace(stored.type.encode(), b"TokenTeleported"))


def columns_differ(stored: Stored) -> Stored:
    """With another token than its body has."""
    return stored._replace(token="7")


def torn(stored: Stored) -> Stored:
    """Half of the body."""
    return stored._replace(body=stored.body[: len(stored.body) // 2])


def unlawful(stored: Stored) -> Stored:
    """Stands where it should, and refers to a node that is none."""
    return stored._replace(body=stored.body.replace(b'"node":"step"', b'"node":"stop"'))


FAULTS: Mapping[str, tuple[Callable[[Stored], Stored], str]] = {
    "of another version": (of_another_version, "L5"),
    "torn": (torn, "L5"),
    "columns differ": (columns_differ, "L6"),
    "unlawful": (unlawful, "T9"),
}
"""What is wrong with the event, and the law that says so."""


def spoil(ledger: Ledger, fault: Callable[[Stored], Stored], seq: int = AT) -> None:
    """Let the bad run have the fault at `seq`."""
    whole = ledger.whole[BAD]
    assert fault(whole[seq - 1]) != whole[seq - 1]
    ledger.say(BAD, [fault(one) if one.seq == seq else one for one in whole])


@pytest.fixture(params=["caught up", "rebuilt", "caught up over"])
def way(request: pytest.FixtureRequest, ledger: Ledger) -> str:
    """How the tables come to meet the fault: from zero, by a rebuild, or with a part told before."""
    if request.param == "caught up over":
        ledger.grow(BAD, 3)
        ledger.catch_up()
    return str(request.param)


@pytest.mark.parametrize("name", FAULTS)
def test_the_run_is_told_up_to_the_event_that_cannot_be_told(ledger: Ledger, way: str, name: str) -> None:
    """W12, F5: `unreadable_from_seq` is that event, a violation names it, and nothing of what follows is in the tables."""
    fault, law = FAULTS[name]
    spoil(ledger, fault)
    ledger.rebuild() if way == "rebuilt" else ledger.catch_up()
    found = ledger.told(BAD)
    run = found.one("runs")
    assert (run["unreadable_from_seq"], run["status"], run["events"], run["root"]) == (AT, "running", AT - 1, None)
    assert found.told("violations", "law, seq") == [(law, AT)]
    assert found.rows("node_states", where=f"opened_seq >= {AT} OR closed_seq >= {AT}") == []
    assert found.rows("node_states") and found.rows("token_outcomes") == []


@pytest.mark.parametrize("name", FAULTS)
def test_other_runs_are_complete(ledger: Ledger, way: str, name: str) -> None:
    """W12, F5: the fault stops its stream only."""
    spoil(ledger, FAULTS[name][0])
    ledger.rebuild() if way == "rebuilt" else ledger.catch_up()
    run = ledger.told(GOOD).one("runs")
    assert (run["status"], run["unreadable_from_seq"], run["events"]) == ("completed", None, len(ledger.whole[GOOD]))
    assert ledger.told(GOOD).rows("violations") == []
    assert len(ledger.told(GOOD).rows("token_outcomes")) == 4


def test_tables_of_a_stopped_run_do_not_differ_from_the_log(ledger: Ledger, way: str) -> None:
    """F5: they tell what can be told; asking again changes nothing and makes no new generation."""
    spoil(ledger, torn)
    first = ledger.catch_up()
    assert ledger.differences() == []
    before = ledger.dump()
    assert ledger.catch_up() == first and ledger.dump() == before
    ledger.rebuild(GOOD)
    assert ledger.differences() == []


def test_what_is_told_of_a_stopped_run_says_that_it_is_not_complete(ledger: Ledger) -> None:
    """F5, A4: an answer about it has `complete: false`; one about another run has not."""
    spoil(ledger, torn)
    ledger.catch_up()
    found = ledger.told(BAD)
    assert explain(found.tables, ledger.store, BAD, "0")["complete"] is False
    assert explain(found.tables, ledger.store, GOOD, "0")["complete"] is True


def test_a_fault_behind_what_was_told_takes_the_run_back_to_it(ledger: Ledger) -> None:
    """law P1: a log that was changed where it had been read is told again from zero, as a rebuild would."""
    whole = ledger.whole[BAD]
    ledger.grow(BAD, len(whole) - 1)
    ledger.catch_up()
    spoil(ledger, torn)
    ledger.catch_up()
    assert ledger.told(BAD).one("runs")["unreadable_from_seq"] == AT
    assert ledger.differences() == []
    before = ledger.dump()
    ledger.rebuild()
    assert ledger.dump() == before


def test_a_run_stopped_by_an_unknown_event_is_read_again_by_a_version_that_knows_it(
    ledger: Ledger
) -> None:
    """F5: what can be read belongs to the fingerprint, so the tables are stale then."""
    spoil(ledger, of_another_version)
    ledger.catch_up(run_projector()._replace(fingerprint="of a version that knows less"))
    ledger.say(BAD, ledger.whole[BAD])
    ledger.catch_up()
    run = ledger.told(BAD).one("runs")
    assert (run["unreadable_from_seq"], run["events"]) == (None, len(ledger.whole[BAD]))


def test_a_run_whose_first_event_cannot_be_read_is_there_by_its_name(ledger: Ledger) -> None:
    """F5: and stopped at 1."""
    spoil(ledger, torn, 1)
    ledger.catch_up()
    assert ledger.told(BAD).told("runs", "pipeline, events, unreadable_from_seq") == [(None, 0, 1)]
    assert ledger.differences() == []
