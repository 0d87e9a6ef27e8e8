"""Properties of the fold over hand-made logs and over runs at random: prefixes, terminals, memory, and nothing to spare."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger import events as e
from ledger import reader
from ledger.fold import State, apply
from ledger.fold.state import Family
from ledger.laws import LawBroken
from ledger.replay import replay
from tests.kit import graphs
from tests.kit.log import RUN, Log, arrived, facts, forked, merged, routed, stamp, step
from tests.ledger.dump import dump
from tests.ledger.folding import ends, fold
from tests.ledger.lawful import many_rows
from tests.ledger.lawful_many import LAWFUL, UNSEALED
from tests.ledger.walks import Plan, Walk, plans

INNER = {"forked", "expanded", "coalesced", "consumed_in_batch"}


def check_prefixes(log: Log) -> None:
    """The state kept while the log grows is, after each event, the one folded from what is stored so far."""
    store = log.store()
    kept = State(log.run)
    for event in log.stamped():
        apply(kept, event)
        scratch = State(log.run)
        for _, stored in reader.events(store, log.run, until=event.seq):
            apply(scratch, stored)
        assert dump(scratch) == dump(kept), event


@pytest.mark.parametrize("name", LAWFUL)
def test_folding_step_by_step_is_folding_from_scratch(name: str) -> None:
    """law P2: at every prefix of every hand-made log, through the stored bytes."""
    check_prefixes(LAWFUL[name]())


@settings(max_examples=40)
@given(plans(rows_max=2))
def test_folding_any_run_step_by_step_is_folding_it_from_scratch(plan: Plan) -> None:
    """law P2: at every prefix of runs at random."""
    check_prefixes(Walk(plan).log)


def test_the_comparison_of_states_sees_every_part_of_them() -> None:
    """law P2: the check above can fail: states that differ in one event differ as data."""
    seen: list[dict[str, object]] = []
    for name in LAWFUL:
        log = LAWFUL[name]()
        states = [dump(fold(log, seq)) for seq in range(len(log.said) + 1)]
        assert all(one != other for one, other in pairwise(states))
        seen += states
    fields = {field for state in seen for field, value in state.items() if value != seen[0][field]}
    assert fields == {name for name in vars(State(RUN)) if not name.startswith("_")} - {"run"}


@pytest.mark.parametrize("policy", ["require_all", "quorum", "best_effort", "first"])
@settings(max_examples=100)
@given(data=st.data())
def test_any_run_that_the_oracle_decides_is_lawful_and_ends_as_it_says(policy: str, data: st.DataObject) -> None:
    """W11, F3, B2, E9, D6, law C2, law C3, law C4, law T1: every policy, fate, order and timeout, by books of our own."""
    walk = Walk(data.draw(plans(policy)))
    verdict = replay(walk.log.store(), RUN, deep=True).verdict
    assert verdict.findings == [] and verdict.sealed
    assert (verdict.open_groups, verdict.open_tokens, verdict.late_arrivals) == (0, 0, walk.late)
    assert ends(walk.log) == walk.ends


def check_terminals(log: Log) -> None:
    """Each token is made once, ends at most once, and never before it is made; counts are kept at every prefix."""
    state, made, ended = State(log.run), set[str](), set[str]()
    for event in log.stamped():
        apply(state, event)
        for token in state.born:
            assert token.id not in made, token.id
            made.add(token.id)
        for token in state.ended:
            assert token.id in made and token.id not in ended and token.outcome, token.id
            ended.add(token.id)
        assert (len(made), len(made) - len(ended)) == (state.tokens_made, state.live)
        assert sum(state.outcomes.values()) == len(ended)
        assert {token for token, one in state.tokens.items() if one.outcome is None} == made - ended
    assert state.status == "interrupted" or made == ended


@pytest.mark.parametrize("name", LAWFUL)
def test_at_no_prefix_has_a_token_two_ends(name: str) -> None:
    """F3, law T1: made once, ended at most once, and all of them at the seal."""
    check_terminals(LAWFUL[name]())


@pytest.mark.parametrize("name", LAWFUL)
def test_a_token_ends_as_a_parent_only_where_children_are_made(name: str) -> None:
    """B3, law T5, law T6: in that event; the one child that comes later is the merge that an empty gather owes."""
    for state in prefixes(LAWFUL[name]()):
        if INNER & {token.outcome for token in state.ended}:
            assert state.born or state.owed
        else:
            assert not state.born or not state.ended


@settings(max_examples=100)
@given(plans())
def test_at_no_prefix_of_any_run_has_a_token_two_ends(plan: Plan) -> None:
    """F3, law T1: the same of runs at random."""
    check_terminals(Walk(plan).log)


def prefixes(log: Log) -> Iterator[State]:
    """One state, after each event."""
    state = State(log.run)
    for event in log.stamped():
        apply(state, event)
        yield state


def test_memory_is_what_is_open() -> None:
    """law T2: of rows that are finished one by one, at most one is in memory; all of them are one interval."""
    for state in prefixes(many_rows(200)):
        assert len(state.tokens) <= 1 and len(state.families) <= 1 and len(state.closed_rows) <= 1
    assert list(state.closed_rows) == [(0, 200)] and not state.tokens and not state.families


@pytest.mark.parametrize("name", [name for name in LAWFUL if name not in UNSEALED])
def test_a_run_that_is_over_is_forgotten(name: str) -> None:
    """law T2: no token, group, batch, write, family or debt outlives the last end; closed numbers stay."""
    state = fold(LAWFUL[name]())
    left = [state.tokens, state.groups, state.families, state.batches, state.writes, state.owed, state.closing]
    assert not any(left) and (state.live, state.open_groups) == (0, 0)
    assert [list(range(*one)) for one in state.closed_rows] == ([list(range(state.rows_read))] if state.rows_read else [])


def test_what_is_open_is_freed_with_its_state() -> None:
    """A process that looks at many runs while they go keeps none of them: rows and tokens refer to each other."""
    gc.collect()
    before = sum(isinstance(one, Family) for one in gc.get_objects())
    states = [fold(LAWFUL[name]()) for name in UNSEALED]
    assert sum(len(state.families) for state in states) > 0
    del states
    gc.collect()
    assert sum(isinstance(one, Family) for one in gc.get_objects()) == before


def joined_rows(count: int, wrong: int | None = None) -> Log:
    """Rows that are forked, merged (row `wrong` as another row) and written one by one."""
    log = Log(graphs.forked(graphs.rule(2)))
    for row in range(count):
        n, group = log.row(), f"{row}+join"
        log.say(forked(str(row), "fork", "ab"))
        for branch in "ab":
            token = f"{row}.{branch}"
            log.say(routed(token, f"gate_{branch}", "go"), step(token, f"step_{branch}", n, n), arrived(token, group))
        order = [(branch, f"{row}.{branch}", 0) for branch in "ab"]
        output = log.keep({"row": -1}) if row == wrong else n
        log.say(merged(group, "all_arrived", facts(group, "require_all", "ab", order), output)).write("out", group)
    return log.exhaust().seal(forked=count, coalesced=2 * count, completed=count)


def test_groups_that_are_closed_are_forgotten_with_their_rows() -> None:
    """law C2: rows that join one after the other never hold more than one row's tokens and one group."""
    for state in prefixes(joined_rows(50)):
        assert len(state.tokens) <= 4 and len(state.groups) <= 1 and len(state.families) <= 1
    assert state.outcomes["completed"] == 50 and list(state.closed_rows) == [(0, 50)]


@pytest.mark.parametrize("wrong", [0, 1, 400, 449])
def test_a_wrong_merge_is_found_among_many(wrong: int) -> None:
    """F3, law C6: rows are fetched for many groups at a time; each group is checked against its own."""
    assert replay(joined_rows(450).store(), RUN, deep=True).verdict.findings == []
    findings = replay(joined_rows(450, wrong).store(), RUN, deep=True).verdict.findings
    assert [(finding.law, finding.token) for finding in findings] == [("C6", f"{wrong}+join")]


def test_a_row_that_stays_open_holds_nothing_but_itself() -> None:
    """law T2: the rows before and after it are forgotten all the same; an event on them is still refused."""
    log = Log(graphs.linear())
    inputs = [log.row() for _ in range(9)]
    for row in (0, 1, 2, 3, 5, 6, 7, 8):
        log.say(step(str(row), "step", inputs[row], inputs[row])).write("out", str(row))
    state = fold(log)
    assert list(state.tokens) == ["4"] and list(state.closed_rows) == [(0, 4), (5, 9)]
    with pytest.raises(LawBroken, match="T2"):
        fold(log.say(e.StepStarted(token="5", node="step", attempt=1, input=inputs[5])))


REDUNDANT = (e.StepStarted, e.BatchStarted, e.RunInterrupted, e.RunClaimed)
"""Events that a lawful log may lack: an attempt's start where nothing outside is touched, a stop, the start's own claim."""


def replayed(log: Log, said: list[e.Event]) -> bool:
    """Whether the log is lawful and sealed when this is said instead, numbered anew."""
    state = State(log.run)
    try:
        for event in stamp(log.run, said):
            apply(state, event)
    except LawBroken:
        return False
    return state.status in ("completed", "failed")


@pytest.mark.parametrize("name", [name for name in LAWFUL if name not in UNSEALED and "abandoned" not in name])
def test_no_event_of_a_completed_log_can_be_left_out(name: str) -> None:
    """F3, law T1, law R5: without any one of them the rest is refused, or never sealed."""
    log = LAWFUL[name]()
    spare = [event for place, event in enumerate(log.said) if replayed(log, [*log.said[:place], *log.said[place + 1:]])]
    again = [event for event in spare if isinstance(event, e.BranchArrived) and log.said.count(event) > 1]
    assert [event for event in spare if not isinstance(event, REDUNDANT) and event not in again] == []


@pytest.mark.parametrize("name", [name for name in LAWFUL if name not in UNSEALED])
def test_no_event_of_a_sealed_log_can_be_said_twice(name: str) -> None:
    """F3, G4, law T1, law T2: a repetition is refused, but of an arrival that is still held."""
    log = LAWFUL[name]()
    twice = [event for place, event in enumerate(log.said) if replayed(log, [*log.said[:place + 1], *log.said[place:]])]
    assert [event for event in twice if not isinstance(event, e.BranchArrived)] == []


@pytest.mark.parametrize("name", [name for name in LAWFUL if name not in UNSEALED])
def test_no_outcome_of_a_sealed_log_can_be_counted_otherwise(name: str) -> None:
    """F3, law T1: the seal's counts are the fold's, each of them."""
    log = LAWFUL[name]()
    seal = log.said[-1]
    assert isinstance(seal, e.RunSealed)
    for outcome in ("completed", "failed"):
        counts = {**seal.outcomes, outcome: seal.outcomes.get(outcome, 0) + 1}
        assert not replayed(log, [*log.said[:-1], replace(seal, outcomes=counts)])
    for field in ("rows", "tokens", "late_arrivals"):
        assert not replayed(log, [*log.said[:-1], replace(seal, **{field: getattr(seal, field) + 1})])
