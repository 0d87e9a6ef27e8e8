"""Attempts that nobody knows the end of: they are abandoned, made again under their keys, and not for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from engine.attempts import Attempt
from engine.loop import Hooks
from engine.plugin_api import RetryableError
from ledger import events as e
from ledger.errors import RunIncomplete
from ledger.fold.state import Stage
from ledger.replay import replay
from tests.kit.deaths import MortalStore, killed
from tests.kit.effects import asking
from tests.kit.forks import Row
from tests.kit.pipelines import Ran, Sketch, Trial, trial
from tests.kit.small_runs import numbered
from tests.kit.twins import InlineWorkers


class Mortal:
    """A trial whose plugins may kill the process; `lives` says how often it was resumed until it no longer died."""

    def __init__(self, text: str, rows: Sequence[object]) -> None:
        self.store = MortalStore()
        self.deadly: Counter[object] = Counter()
        self.asked: list[tuple[object, int, str]] = []
        built = trial(text, rows)
        calls = {name: self._effect if step.node.effect else self._step for name, step in built.bound.steps.items()}
        self.made = trial(text, rows, {**calls, **dict.fromkeys(built.bound.aggregations, self._batch)}, store=self.store)
        self.deaths = 0

    def _effect(self, row: Row, attempt: Attempt) -> Row:
        self.asked.append((row["n"], attempt.number, attempt.key))
        return self._step(row)

    def _step(self, row: Row) -> Row:
        if self.deadly[row["n"]]:
            self.deadly[row["n"]] -= 1
            self.store.die()
        return row

    def _batch(self, rows: Sequence[Row]) -> list[Row]:
        return [self._step(row) for row in rows]

    def to_its_end(self, deaths_max: int = 20) -> Ran:
        """Start it, and resume it as often as it dies."""
        try:
            self.made.start()
        except KeyboardInterrupt:
            self.deaths += 1
        while not self.made.left().verdict.sealed:
            assert self.deaths <= deaths_max
            self.store.revive()
            try:
                self.made.resume()
            except KeyboardInterrupt:
                self.deaths += 1
        return self.made.left()


def steps_of(ran: Ran, token: str) -> list[str]:
    """What is said of a token's attempts."""
    kinds = (e.StepStarted, e.StepAbandoned, e.StepCompleted, e.StepFailed)
    return [f"{type(event).__name__} {event.node} #{event.attempt}" for event in ran.events
            if isinstance(event, kinds) and event.token == token]


# --- effects in doubt ------------------------------------------------------------------------------------------------


def test_an_effect_whose_process_died_is_abandoned_and_made_again_under_its_key() -> None:
    """G13, law T10: the attempt number goes on, the key is the same, and the row completes."""
    run = Mortal(asking(), numbered(3))
    run.deadly[1] = 2
    ran = run.to_its_end()
    assert run.deaths == 2
    assert steps_of(ran, "1") == ["StepStarted ask #1", "StepAbandoned ask #1", "StepStarted ask #2", "StepAbandoned ask #2",
                                  "StepStarted ask #3", "StepCompleted ask #3"]
    assert [(one.attempt, one.code) for one in ran.of(e.StepAbandoned)] == [(1, "process_died"), (2, "process_died")]
    keys = {n: {key for row, _, key in run.asked if row == n} for n in range(3)}
    assert all(len(found) == 1 for found in keys.values())
    assert len(set().union(*keys.values())) == 3
    assert [(row, number) for row, number, _ in run.asked] == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]
    assert ran.rows("out") == numbered(3)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(("on_error", "outcome"), [("errors", "routed"), ("discard", "quarantined")])
def test_after_three_deaths_an_effect_has_failed_and_the_rest_complete(on_error: str, outcome: str, workers: int) -> None:
    """W8, E1, law T10: `process_died`, by the error route or discarded; the other rows are not touched by it."""
    run = Mortal(asking(on_error, workers=workers), numbered(6))
    run.deadly[2] = 99
    ran = run.to_its_end()
    assert run.deaths == 3
    assert ran.outcomes == {str(n): outcome if n == 2 else "completed" for n in range(6)}
    divert = ran.one(e.Diverted)
    assert (divert.token, divert.kind, divert.code, divert.to) == ("2", "error", "process_died", on_error)
    assert (divert.edge is None) == (on_error == "discard")
    assert ran.rows("errors") == ([{"n": 2}] if on_error == "errors" else [])


@pytest.mark.parametrize("deadly", [0, 1, 2, 3])
def test_deaths_and_failures_have_limits_of_their_own(deadly: int) -> None:
    """law T10: deaths do not use up the attempts that a step has, nor failures those that a process has."""
    run = Mortal(asking(attempts=3), numbered(1))
    failing, step = [1, 1], run._effect

    def effect(row: Row, attempt: Attempt) -> Row:
        if run.deadly[0] < deadly and failing:
            failing.pop()
            raise RetryableError("later")
        return step(row, attempt)

    run.made = trial(asking(attempts=3), numbered(1), {"ask": effect}, store=run.store)
    run.deadly[0] = deadly
    ran = run.to_its_end()
    assert ran.outcomes == {"0": "completed" if deadly < 3 else "routed"}
    attempts = [line.partition("#")[2] for line in ran.told("0") if line.startswith("StepStarted")]
    assert attempts == [str(n + 1) for n in range(len(attempts))]


def test_effects_that_ran_beside_the_deadly_one_are_in_doubt_once_and_no_more() -> None:
    """G13, law T10: while wary they run one at a time, so only the first death is laid to its neighbours."""
    run = Mortal(asking(workers=4), numbered(8))
    run.deadly[2] = 99
    ran = run.to_its_end()
    abandoned = Counter(event.token for event in ran.of(e.StepAbandoned))
    assert abandoned == {"0": 1, "1": 1, "2": 3, "3": 1}
    assert ran.outcomes["2"] == "routed"


def test_effects_run_one_at_a_time_while_wary_and_side_by_side_again_after() -> None:
    """law T10: 260 rows behind the death; the first 200 are asked alone."""
    store = MortalStore()
    made = trial(asking(workers=4), numbered(300), store=store)
    store.revive(3, stored=True)
    killed(made.start)
    store.revive()
    events = made.again().events
    claimed = max(n for n, event in enumerate(events) if isinstance(event, e.RunClaimed))
    out = most = 0
    most_of: dict[bool, int] = {True: 0, False: 0}
    for event in events[claimed:]:
        out += isinstance(event, e.StepStarted) - isinstance(event, e.StepCompleted)
        if isinstance(event, e.StepStarted):
            most = max(most, out)
            most_of[int(event.token) < 200] = max(most_of[int(event.token) < 200], out)
    assert most_of == {True: 1, False: 4}


# --- pure steps that kill the process --------------------------------------------------------------------------------

PURE = Sketch("rows").step("one", "rows", "c", "errors").step("two", "c", "out", "errors").sink("out", "errors").text()


def test_a_pure_step_that_kills_the_process_is_found_and_the_other_rows_complete() -> None:
    """W8, E1, G13, law T10: nothing was on record the first time; then it is watched, and after three it is put aside."""
    run = Mortal(PURE, numbered(30))
    run.deadly[17] = 99
    ran = run.to_its_end()
    assert run.deaths == 4
    assert ran.outcomes == {str(n): "routed" if n == 17 else "completed" for n in range(30)}
    assert [(one.token, one.node, one.attempt) for one in ran.of(e.StepAbandoned)] == [("17", "one", n) for n in (1, 2, 3)]
    assert ran.one(e.Diverted).code == "process_died"
    assert ran.rows("errors") == [{"n": 17}]
    assert sorted(row["n"] for row in ran.rows("out")) == [n for n in range(30) if n != 17]


def test_two_rows_that_kill_are_both_found() -> None:
    """G13, law T10: 1 death that nobody saw, and three for each."""
    run = Mortal(PURE, numbered(300))
    run.deadly.update({3: 99, 150: 99})
    ran = run.to_its_end()
    assert run.deaths <= 8
    assert {token for token, outcome in ran.outcomes.items() if outcome == "routed"} == {"3", "150"}


def test_a_row_that_kills_far_behind_is_found_too() -> None:
    """G13, law T10: row 470 of 500, whose commits hold 200 rows."""
    run = Mortal(PURE, numbered(500))
    run.deadly[470] = 99
    ran = run.to_its_end()
    assert {token for token, outcome in ran.outcomes.items() if outcome == "routed"} == {"470"}
    assert run.deaths == 4


def test_a_step_of_a_branch_that_kills_is_a_lost_branch() -> None:
    """E9, E10, law T10: its group is told, with the code; the sibling is not lost with it."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b").step("one", "a", "c", "errors").step("two", "b", "d", "errors")
    sketch.join("join", {"a": "c", "b": "d"}, "best_effort", "out", timeout_seconds=1000)
    run = Mortal(sketch.sink("out", "errors").text(), numbered(2))
    step = run.made.bound.steps["two"]
    object.__setattr__(step, "call", lambda row: row)
    run.deadly[1] = 99
    ran = run.to_its_end()
    assert ran.outcomes == {"0": "forked", "0.a": "coalesced", "0.b": "coalesced", "0+join": "completed", "1": "forked",
                            "1.a": "routed", "1.b": "coalesced", "1+join": "completed"}
    assert ran.one(e.BranchLost).code == "process_died"


def test_an_expanding_step_that_kills_leaves_by_its_route() -> None:
    """law T10: a gathered expansion; no group was opened, so none is left behind."""
    sketch = Sketch("rows").step("parts", "rows", "c", "errors", expands=True)
    sketch.gather("join", "parts", "c", "require_all", "out")
    run = Mortal(sketch.sink("out", "errors").text(), numbered(3))
    run.deadly[1] = 99
    ran = run.to_its_end()
    assert ran.outcomes["1"] == "routed"
    assert {token for token in ran.outcomes if token.startswith("1")} == {"1"}


# --- wariness --------------------------------------------------------------------------------------------------------


def watched(made: Trial) -> list[tuple[str, object, bool]]:
    """Has each pure step look, when it is called, whether its beginning is stored; gives what they see."""
    seen: list[tuple[str, object, bool]] = []

    def look(name: str) -> Any:
        def step(row: Row) -> Row:
            state = replay(made.store, made.run).state
            begun = any(token.stage is Stage.STARTED and token.node == name for token in state.tokens.values())
            seen.append((name, row["n"], begun))
            return row

        return step

    for name, step in made.bound.steps.items():
        object.__setattr__(step, "call", look(name))
    return seen


def died_in(made: Trial, row: int) -> None:
    """The run, up to its death in that row's first step; nobody said a word about it."""
    store = made.store
    assert isinstance(store, MortalStore)
    step = made.bound.steps["one"]
    call = step.call

    def one(given: Row) -> object:
        return store.die() if given["n"] == row else call(given)

    object.__setattr__(step, "call", one)
    killed(made.start)
    object.__setattr__(step, "call", call)
    store.revive()


def test_after_an_unclean_stop_every_step_is_on_record_before_its_plugin_is_called() -> None:
    """law T10: committed, not only said; for as long as a row could be the one, and not after."""
    made = trial(PURE, numbered(215), store=MortalStore())
    died_in(made, 5)
    assert made.left().verdict.rows == 0
    seen = watched(made)
    made.again()
    begun = [n for name, n, was_begun in seen if was_begun]
    assert begun == sorted([*range(200), *range(200)])
    assert [n for _, n, was_begun in seen if not was_begun] == sorted([*range(200, 215), *range(200, 215)])


def test_after_a_clean_stop_no_pure_step_is_announced() -> None:
    """law T10: a stop that was asked for, and a source that failed, are no deaths."""
    rows = [*numbered(3), OSError(5, "EIO"), {"n": 3}]
    made = trial(PURE, rows)
    made.go()
    rows.pop(3)
    ran = made.again()
    assert ran.receipt.status == "completed"
    assert ran.of(e.StepStarted) == []


def test_wariness_ends_when_what_is_left_of_the_first_rows_is_only_held() -> None:
    """D9, law T10: a group that waits for a sibling that is tried again for long does not slow the rest down."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b").step("one", "a", "c").step("two", "b", "d")
    sketch.batch("slow", "d", "f", output_mode="passthrough", trigger={"count": 1000})
    sketch.join("join", {"a": "c", "b": "f"}, "require_all", "out")
    made = trial(sketch.sink("out").text(), numbered(450), store=MortalStore())
    died_in(made, 3)
    ran = made.again()
    assert {int(event.token.split(".")[0]) for event in ran.of(e.StepStarted)} == set(range(200))
    assert len(ran.rows("out")) == 450


def test_a_resume_that_is_told_to_stop_at_once_commits_what_it_took_up() -> None:
    """G13: attempts in doubt are abandoned, whatever is then stopped; nothing is asked."""
    run = Mortal(asking(), numbered(2))
    run.deadly[0] = 1
    killed(run.made.start)
    run.store.revive()
    run.made.hooks = Hooks(stopping=lambda: "no")
    run.made.workers = InlineWorkers()
    ran = run.made.again()
    assert ran.told()[-3:] == ["RunClaimed", "StepAbandoned", "RunInterrupted stopped no"]
    assert len(run.asked) == 1


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", [{"count": 3}, {"condition": "batch_count >= 3"}, {}])
def test_a_batch_that_kills_the_process_is_found(trigger: dict[str, object]) -> None:
    """W8, E1, G13, law T10: after three announced deaths its members leave by the route; other batches are computed."""
    sketch = Sketch("rows").batch("batch", "rows", "out", "errors", trigger=trigger).sink("out", "errors")
    run = Mortal(sketch.text(), numbered(7))
    run.deadly[4] = 99
    ran = run.to_its_end()
    gone = {3, 4, 5} if trigger else set(range(7))
    assert {int(token) for token, outcome in ran.outcomes.items() if outcome == "routed"} == gone
    assert {event.code for event in ran.of(e.Diverted)} == {"process_died"}
    assert [row["n"] for row in ran.rows("out")] == [n for n in range(7) if n not in gone]


class NoThreads(InlineWorkers):
    """Workers of a system that gives no thread."""

    def ready(self, count: int) -> None:
        """See `engine.workers.Workers`."""
        raise RunIncomplete("NO_THREADS", "none", where="here", next_step="free some")


def test_where_there_is_no_thread_no_attempt_is_begun_and_a_resume_makes_it() -> None:
    """law T10: the run stops, however often; nothing was announced, so nothing counts as a death."""
    made = trial(asking(), numbered(2), {"ask": lambda row, attempt: row})
    made.workers = NoThreads()
    stopped = [made.go(), *[made.again(workers=NoThreads()) for _ in range(4)]]
    assert [ran.fault.code if ran.fault else None for ran in stopped] == ["NO_THREADS"] * 5
    assert stopped[-1].of(e.StepStarted) == []
    assert made.again().outcomes == {"0": "completed", "1": "completed"}
