"""Any small pipeline at all: lawful, sealed, every token with one end, every decision one that the table allows.

A failure prints the pipeline file, the rows and the seed of the plugins' answers; `Wild(text, rows, seed).trial().go()`
runs it again.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, note, settings

from ledger import events as e
from ledger.fold import State, apply
from ledger.graph import Graph
from tests.kit.admissible import inadmissible
from tests.kit.pipelines import Ran
from tests.kit.stories import said
from tests.kit.wild import Wild, wild

AT_SINKS = {"completed", "routed"}
SOMETIMES = {
    "all_arrived", "quorum_met", "first_arrival", "merged branch_lost", "merged timeout", "branch_lost", "quorum_impossible",
    "all_branches_lost", "incomplete_branches", "quorum_not_met_at_timeout", "best_effort_timeout_no_arrivals",
    "union_collision", "error_routed", "discarded", "failed", "filtered", "routed_away", "group_failed", "late merged",
    "late failed", "retried", "sink_refused", "quarantine", "gathered none", "joined twice",
}  # fmt: skip
unhurried = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
slow = settings(max_examples=100, deadline=None, print_blob=True, suppress_health_check=unhurried)


def go(made: Wild) -> Ran:
    """Run it, saying what would be needed to run it again."""
    note(f"seed {made.seed}\nrows {made.rows}\n{made.text}")
    return made.trial().go()


def written(ran: Ran) -> Counter[str]:
    """Accepted tokens by sink, counted from the confirmations."""
    found: Counter[str] = Counter()
    for event in ran.of(e.SinkWriteConfirmed):
        found[event.sink] += event.accepted
    return found


@slow
@given(wild())
def test_every_token_of_any_pipeline_has_exactly_one_end(made: Wild) -> None:
    """B1, B2, C2, F3, law T1, law T6, law T7, law C2: deep replay, integrity and an independent count agree."""
    ran = go(made)
    assert ran.receipt.status == "completed"
    assert ran.verdict.sealed
    assert (ran.verdict.open_tokens, ran.verdict.open_groups, ran.verdict.unverifiable) == (0, 0, 0)
    assert ran.receipt.outcomes == ran.verdict.outcomes == Counter(ran.outcomes.values())


@slow
@given(wild())
def test_every_row_that_came_out_is_accounted_for(made: Wild) -> None:
    """E1, E2, law R1, law R3: what stands in a sink was confirmed there, once, and is the end of that many tokens."""
    ran = go(made)
    counts = written(ran)
    assert {name: len(sink.rows) for name, sink in ran.sinks.items()} == {name: counts[name] for name in ran.sinks}
    discarded = Counter(event.token for event in ran.of(e.Diverted) if event.edge is None)
    assert max(discarded.values(), default=1) == 1
    at_sinks = sum(outcome in AT_SINKS or outcome in ("quarantined", "diverted") for outcome in ran.outcomes.values())
    assert counts.total() == at_sinks - len(discarded)
    assert len(ran.of(e.RowRead)) == ran.receipt.rows == sum(token.isdecimal() for token in ran.ends)


@slow
@given(wild())
def test_every_decision_is_one_that_the_table_allows(made: Wild) -> None:
    """D1, E9, law C4: the groups of any log, decided again by the oracle from the log's own order."""
    ran = go(made)
    assert inadmissible(ran.events, ran.graph) == []


@slow
@given(wild())
def test_a_run_is_the_same_run_when_it_is_run_again(made: Wild) -> None:
    """law P2: nothing depends on hash order or on what ran before: the same events and bytes; and folding is stepwise."""
    one, other = go(made), go(made)
    assert [said(event) for event in one.events] == [said(event) for event in other.events]
    assert one.receipt.root == other.receipt.root
    assert {name: sink.rows for name, sink in one.sinks.items()} == {name: sink.rows for name, sink in other.sinks.items()}
    assert folded(one.events, one.graph) == one.receipt.outcomes


def test_the_interesting_cases_occur_among_them() -> None:
    """D1, E9: a property that never meets a case says nothing of it: each of these is met by the pipelines drawn here."""
    met: set[str] = set()

    @settings(max_examples=250, derandomize=True, database=None, deadline=None, suppress_health_check=unhurried)
    @given(wild())
    def meet(made: Wild) -> None:
        for event in made.trial().go().events:
            met.update(cases(event))

    meet()
    assert SOMETIMES - met == set()


def cases(event: e.Event) -> list[str]:
    """The names of what happened here, as `SOMETIMES` has them."""
    match event:
        case e.TokensCoalesced():
            lone = event.trigger in ("branch_lost", "timeout")
            names = [f"merged {event.trigger}" if lone else event.trigger]
            return [*names, "joined twice"] if event.group.count("+") > 1 or event.group.count(".") > 0 else names
        case e.CoalesceFailed():
            return [event.reason.partition(":")[0]]
        case e.BranchLost():
            return [event.cause]
        case e.BranchArrivedLate():
            return [f"late {event.closed_as}"]
        case e.StepFailed():
            return ["retried"] if event.retry else []
        case e.Diverted():
            return [event.kind]
        case e.TokenExpanded():
            return ["gathered none"] if event.count == 0 else []
        case _:
            return []


def folded(events: list[e.Event], graph: Graph) -> dict[str, int]:
    """The outcomes that the fold comes to, one event after the other; nothing stays behind."""
    state = State(events[0].run)
    for event in events:
        apply(state, event)
        assert all(token.family.live for token in state.tokens.values() if token.outcome is None)
    assert (state.tokens, state.groups, state.families) == ({}, {}, {})
    return state.outcomes
