"""Broken logs: replay refuses each at its first offence, naming the law, the seq and the token; what stands before holds.

Invariant: every law of `ledger.laws.LAWS` has a case, but R4, which is of the world and not of the log.
"""

from __future__ import annotations

from itertools import groupby

import pytest

from ledger.fold import State, apply
from ledger.laws import LAWS, LawBroken
from ledger.replay import replay
from tests.kit.log import Log
from tests.ledger.broken import Case
from tests.ledger.broken_batches import BATCH_CASES
from tests.ledger.broken_gathers import GATHER_CASES
from tests.ledger.broken_groups import GROUP_CASES
from tests.ledger.broken_log import LOG_CASES
from tests.ledger.broken_routes import ROUTE_CASES
from tests.ledger.broken_tokens import TOKEN_CASES

CASES = [*LOG_CASES, *TOKEN_CASES, *GROUP_CASES, *GATHER_CASES, *BATCH_CASES, *ROUTE_CASES]
DEEP = ("T7", "C6")
"""Laws that only a deep replay can see: what a fold accepts event by event."""


def check(case: Case) -> None:
    """The first finding is the case's; the log before it is lawful."""
    store, run, seq = case.made()
    verdict = replay(store, run, deep=True).verdict
    assert not verdict.lawful
    first = verdict.findings[0]
    assert (first.law, first.seq, first.token, first.run) == (case.law, seq, case.token, run), str(first)
    assert first.expected and first.found
    assert replay(store, run, deep=case.law in DEEP).verdict.findings[:1] == [first]
    if isinstance(case.build(), Log):
        before = replay(store, run, until_seq=seq - 1, deep=True).verdict
        assert before.lawful and before.events == seq - 1


def names(cases: list[Case]) -> list[str]:
    """How the cases are called."""
    return [case.name for case in cases]


@pytest.mark.parametrize("case", LOG_CASES, ids=names(LOG_CASES))
def test_a_broken_law_of_the_log_is_named_with_its_place(case: Case) -> None:
    """W12, F3, law L1, law L2, law L3, law L4, law L5, law L6, law L7: the first offending event is named."""
    check(case)


@pytest.mark.parametrize("case", TOKEN_CASES, ids=names(TOKEN_CASES))
def test_a_broken_law_of_tokens_is_named_with_its_place(case: Case) -> None:
    """F3, E4, law T1, law T2, law T3, law T4, law T5, law T6, law T7, law T8, law T9, law T10: event and token are named."""
    check(case)


@pytest.mark.parametrize("case", GROUP_CASES, ids=names(GROUP_CASES))
def test_a_broken_law_of_groups_is_named_with_its_place(case: Case) -> None:
    """F3, C2, G4, G5, law C1, law C2, law C3, law C4, law C5, law C6: event and group are named."""
    check(case)


@pytest.mark.parametrize("case", GATHER_CASES, ids=names(GATHER_CASES))
def test_a_broken_law_of_gathers_is_named_with_its_place(case: Case) -> None:
    """F3, C1, C2, law C1, law C2, law C3, law C4, law C5, law C6, law T5, law T6, law T7, law T8, law T9: each named."""
    check(case)


@pytest.mark.parametrize("case", BATCH_CASES, ids=names(BATCH_CASES))
def test_a_broken_law_of_batches_is_named_with_its_place(case: Case) -> None:
    """F3, law C7, law T10: members, trigger, parents and attempts are held to the log."""
    check(case)


@pytest.mark.parametrize("case", ROUTE_CASES, ids=names(ROUTE_CASES))
def test_a_broken_law_of_ways_and_sinks_is_named_with_its_place(case: Case) -> None:
    """F3, E1, E2, law R1, law R2, law R3, law R5: the event and, where there is one, the token are named."""
    check(case)


def test_every_law_has_a_broken_log() -> None:
    """F3: no law is a mere sentence; R4 alone is of the world."""
    assert {case.law for case in CASES} == set(LAWS) - {"R4"}


def test_no_two_cases_are_one() -> None:
    """A case that is there twice hides one that is missing."""
    assert [name for name, same in groupby(sorted(names(CASES))) if len(list(same)) > 1] == []


@pytest.mark.parametrize("case", [case for case in CASES if case.law not in ("L5", "L6", *DEEP)],
                         ids=lambda case: case.name)
def test_the_live_fold_refuses_what_replay_refuses(case: Case) -> None:
    """F3: the same law, from the same fold, before anything is stored: there is no second state machine."""
    made = case.build()
    if not isinstance(made, Log):
        return
    state = State(made.run)
    events = made.stamped()
    for event in events[:-1]:
        apply(state, event)
    with pytest.raises(LawBroken) as raised:
        apply(state, events[-1])
    finding = raised.value.finding
    assert (finding.law, finding.seq, finding.token) == (case.law, len(events), case.token)
    assert raised.value.code == "LAW_BROKEN" and case.law in str(raised.value)
