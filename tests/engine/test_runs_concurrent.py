"""Any small pipeline with effects in it, whatever the order of their answers: lawful, whole, and the same in its outcomes.

A failure prints the pipeline file, the rows and the seed; `Crowd(...).trial().go()` runs it again.
"""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.loop import Hooks
from ledger import events as e
from ledger.fold import State
from ledger.replay import replay
from tests.kit.admissible import inadmissible
from tests.kit.pipelines import Ran
from tests.kit.shuffled import ShuffledWorkers
from tests.kit.stories import said
from tests.kit.wild_effects import Crowd, crowds
from tests.ledger.dump import dump

unhurried = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
slow = settings(max_examples=40, deadline=None, print_blob=True, suppress_health_check=unhurried)
canonical = msgspec.json.Encoder(order="sorted").encode

SOMETIMES = {"deadline_passed", "worker_lost", "retryable", "retries_exhausted", "BranchArrivedLate", "BatchFlushed",
             "TokenFiltered", "TokenExpanded", "TokensCoalesced timeout", "several at once", "answered out of order",
             "as many as may"}  # fmt: skip


@slow
@given(crowds())
def test_any_run_with_effects_is_lawful_and_every_token_has_one_end(crowd: Crowd) -> None:
    """B1, C2, F3, law T1, law T7, law T10, law C4, law C7: deep replay, integrity, own books, an oracle of decisions."""
    made = crowd.trial()
    ran = made.go()
    assert ran.receipt.status == "completed"
    assert (ran.verdict.open_tokens, ran.verdict.open_groups) == (0, 0)
    assert ran.receipt.outcomes == ran.verdict.outcomes == Counter(ran.outcomes.values())
    assert inadmissible(ran.events, ran.graph) == []
    assert isinstance(made.workers, ShuffledWorkers)
    assert made.workers.most <= crowd.capacity
    assert made.workers.closed
    assert starts_without_end(ran) == set()


@slow
@given(crowds())
def test_the_same_order_of_answers_gives_the_same_log(crowd: Crowd) -> None:
    """law P2: nothing but the order of the answers comes in: the same seed, the same root."""
    one, other = crowd.trial().go(), crowd.trial().go()
    assert [said(event) for event in one.events] == [said(event) for event in other.events]
    assert one.receipt.root == other.receipt.root


@slow
@given(crowds(), st.integers(0, 150))
def test_a_stop_anywhere_leaves_a_lawful_log_and_no_attempt_unended(crowd: Crowd, turns: int) -> None:
    """law P2, law T10: what is folded again from the log is what the run itself knew, field by field."""
    left = [turns]

    def stopping() -> str | None:
        left[0] -= 1
        return "enough" if left[0] < 0 else None

    made = crowd.trial()
    made.hooks = Hooks(stopping)
    recorder, loop = made.opened()
    loop.run()
    recorder.commit()
    ran = made.left()
    assert starts_without_end(ran) == set()
    assert plain(recorder.state) == plain(replay(made.store, made.run).state)


@slow
@given(crowds(settled=True))
def test_where_no_order_counts_many_workers_come_to_what_one_comes_to(crowd: Crowd) -> None:
    """law T1, law C6: the same end of every token, by name, and the same rows at every sink."""
    many, one = crowd.trial().go(), crowd.alone().go()
    assert many.outcomes == one.outcomes
    assert {name: sorted(map(canonical, many.rows(name))) for name in many.sinks} == {
        name: sorted(map(canonical, one.rows(name))) for name in one.sinks}  # fmt: skip
    assert starts(many) == starts(one)


def test_the_interesting_cases_occur_among_them() -> None:
    """E9: a property that never meets a case says nothing of it: each of these is met by the pipelines drawn here."""
    met: set[str] = set()

    @settings(max_examples=120, derandomize=True, database=None, deadline=None, suppress_health_check=unhurried)
    @given(crowds())
    def meet(crowd: Crowd) -> None:
        made = crowd.trial()
        ran = made.go()
        assert isinstance(made.workers, ShuffledWorkers)
        met.update(cases(ran))
        met.update(["several at once"] if made.workers.most > 1 else [])
        met.update(["as many as may"] if made.workers.most == crowd.capacity > 1 else [])

    meet()
    assert SOMETIMES - met == set()


def cases(ran: Ran) -> set[str]:
    """The names of what happened in a run, as `SOMETIMES` has them."""
    met = {type(event).__name__ for event in ran.events} | {failure.code for failure in ran.of(e.StepFailed)}
    met |= {f"TokensCoalesced {one.trigger}" for one in ran.of(e.TokensCoalesced)}
    started = [(one.token, one.node, one.attempt) for one in ran.of(e.StepStarted)]
    ended = [one for one in map(attempt_ended, ran.events) if one in started]
    return met | ({"answered out of order"} if ended != started else set())


def attempt_ended(event: e.Event) -> tuple[str, str, int] | None:
    """Token, node and attempt, when the event ends one."""
    ends = isinstance(event, (e.StepCompleted, e.StepFailed, e.TokenFiltered, e.TokenExpanded))
    return (event.token, event.node, event.attempt) if ends else None  # type: ignore[attr-defined]


def starts(ran: Ran) -> set[tuple[str, str, int, str | None]]:
    """Each attempt that was begun, with its key."""
    return {(one.token, one.node, one.attempt, one.key) for one in ran.of(e.StepStarted)}


def starts_without_end(ran: Ran) -> set[tuple[str, str, int]]:
    """Attempts that were begun and of which nothing more was said."""
    return {(token, node, attempt) for token, node, attempt, _ in starts(ran)} - {
        one for one in map(attempt_ended, ran.events) if one is not None}  # fmt: skip


def plain(state: State) -> dict[str, object]:
    """The state as data; timers of what has closed are forgotten when they are met, so only those that count."""
    found = dump(state)
    found["timers"] = sorted((deadline_ms, seq) for deadline_ms, seq, thing in state.timers if thing.status == "open")
    found.pop("_timers_max")
    return found
