"""Effects in a run: their intent first, under one key, then what they came to; and everything else a transform may do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from engine.attempts import Attempt
from engine.bound import Transform
from engine.plugin_api import RetryableError, RowError
from ledger import events as e
from ledger import registry
from tests.kit.effects import POSTING, Row, asking, echo, expanding_by_effect, numbered, raising, stored, threaded, within
from tests.kit.pipelines import EFFECT, Ran, Sketch, trial
from tests.kit.ports import EPOCH_US, SimulatedTime
from tests.kit.shuffled import Fate, ShuffledWorkers
from tests.kit.stories import said
from tests.kit.twins import TrialStore

# --- the intent ----------------------------------------------------------------------------------------------------


class Witness:
    """An effect that looks at what is committed while it runs, and fails its first `failing` attempts at each row."""

    def __init__(self, failing: int = 0) -> None:
        self.store = TrialStore()
        self.seen: list[tuple[Attempt, list[str]]] = []
        self.appends: list[int] = []
        self._failing = failing

    def __call__(self, row: Row, attempt: Attempt) -> dict[str, object]:
        self.appends.append(len(self.store.appends))
        self.seen.append((attempt, [said(event) for event in stored(self.trial)]))
        if attempt.number <= self._failing:
            raise RetryableError("once more")
        return dict(row)

    def run(self, rows: int, workers: int = 1) -> Ran:
        """A run in which it is asked."""
        self.trial = trial(asking(attempts=3, workers=workers), numbered(rows), {"ask": self}, store=self.store)
        return self.trial.go()


def test_the_intent_is_committed_before_the_effect_begins() -> None:
    """law T10: from inside the effect the log ends with its own `StepStarted`: the row, the intent, and no result."""
    witness = Witness()
    ran = witness.run(2)
    assert [seen[2:] for _, seen in witness.seen] == [
        ["RowRead 0", "StepStarted 0 ask #1"],
        ["RowRead 0", "StepStarted 0 ask #1", "StepCompleted 0 ask #1", "RowRead 1", "StepStarted 1 ask #1"],
    ]
    assert ran.outcomes == {"0": "completed", "1": "completed"}


def test_each_attempt_has_its_own_intent_with_the_failure_before_it_on_record() -> None:
    """law T10: the second attempt begins when the first has failed, and says so, in the log, before it touches anything."""
    witness = Witness(failing=2)
    witness.run(1)
    assert [attempt.number for attempt, _ in witness.seen] == [1, 2, 3]
    for attempt, seen in witness.seen:
        assert seen[-1] == f"StepStarted 0 ask #{attempt.number}"
        assert [line for line in seen if "retry" in line] == [
            f"StepFailed 0 ask #{number} retryable retry" for number in range(1, attempt.number)
        ]


@pytest.mark.parametrize(("rows", "workers"), [(4, 4), (8, 4), (5, 3), (3, 8)])
def test_one_commit_covers_the_intents_of_all_attempts_that_begin_together(rows: int, workers: int) -> None:
    """law L1: as many commits as times that attempts began; each attempt sees the intents of its whole company."""
    witness = Witness()
    witness.run(rows, workers)
    company = [min(workers, rows - first) for first in range(0, rows, workers)]
    assert [witness.appends.count(number) for number in dict.fromkeys(witness.appends)] == company
    for place, (_, seen) in enumerate(witness.seen):
        started = [line for line in seen if line.startswith("StepStarted")]
        assert len(started) == min(rows, (place // workers + 1) * workers)


@pytest.mark.parametrize(("fail_at", "called"), [(2, 0), (3, 0), (4, 1), (5, 1)])
def test_nothing_begins_when_its_intent_cannot_be_committed(fail_at: int, called: int) -> None:
    """law T10: the third commit, after the ledger's and the run's first, is the intent's; without it nobody is asked."""
    calls: list[object] = []
    store = TrialStore(fail_at)
    made = trial(asking(), numbered(1), {"ask": lambda row, attempt: calls.append(row)}, store=store)
    with pytest.raises(OSError, match="No space left"):
        made.start()
    begun = [event for event in stored(made) if isinstance(event, e.StepStarted)] if fail_at > 2 else []
    assert len(begun) == len(calls) == called


# --- the key -------------------------------------------------------------------------------------------------------


class Keys:
    """Effects that note under which key they are asked; each token is tried twice."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, object], list[str]] = {}

    def at(self, node: str) -> Transform:
        """The effect of that node."""

        def ask(row: Row, attempt: Attempt) -> Row:
            keys = self.seen.setdefault((node, row["n"]), [])
            keys.append(attempt.key)
            if len(keys) < 3:
                raise OSError("once more")
            return row

        return ask

    def run(self, run: str = "tried", ledger: str = "trial") -> Ran:
        """Three rows through two effects, in a ledger of that id."""
        text = Sketch("rows", attempts=3, workers=2).effect("one", "rows", "c").effect("two", "c", "out").sink("out").text()
        store = TrialStore()
        registry.create(store, ledger, EPOCH_US)
        return trial(text, numbered(3), {"one": self.at("one"), "two": self.at("two")}, run=run, store=store).go()


def test_the_key_is_the_same_over_all_attempts_and_differs_between_tokens_nodes_runs_and_ledgers() -> None:
    """law T10: what the world hears a second time it can know again; what is something else never looks like it."""
    every: list[str] = []
    for run, ledger in (("one", "here"), ("other", "here"), ("one", "there")):
        keys = Keys()
        ran = keys.run(run, ledger)
        assert all(len(seen) == 3 and len(set(seen)) == 1 for seen in keys.seen.values())
        recorded = {(started.node, int(started.token)): started.key for started in ran.of(e.StepStarted)}
        assert recorded == {place: seen[0] for place, seen in keys.seen.items()}
        every += [seen[0] for seen in keys.seen.values()]
    assert len(set(every)) == len(every) == 3 * 6
    assert all(re.fullmatch("[0-9a-f]{32}", key) for key in every)


def test_the_same_run_asks_again_under_the_same_keys() -> None:
    """law T10: no clock and no draw is in a key."""
    one, other = Keys(), Keys()
    one.run()
    other.run()
    assert one.seen == other.seen


def test_tokens_of_one_row_have_keys_of_their_own() -> None:
    """G6: branches, children and merged tokens are each asked for apart, at the same node too."""
    sketch = Sketch("rows", workers=4).step("parts", "rows", "c", expands=True).fork("split", "c", "a", "b")
    sketch.effect("ask_a", "a", "done_a").effect("ask_b", "b", "done_b")
    sketch.join("join", {"a": "done_a", "b": "done_b"}, "require_all", "merged").effect("ask", "merged", "out").sink("out")
    effects = {"ask_a": echo, "ask_b": echo, "ask": echo}
    ran = trial(sketch.text(), numbered(2), {"parts": lambda row: [row, row], **effects}).go()
    keys = [started.key for started in ran.of(e.StepStarted)]
    assert len(set(keys)) == len(keys) == 2 * 2 * 3
    assert {started.token for started in ran.of(e.StepStarted) if started.node == "ask"} == {
        "0:0+join", "0:1+join", "1:0+join", "1:1+join"}  # fmt: skip


# --- what an effect may answer -------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """What an effect answers, the events of the attempt, and what becomes of its token."""

    effect: Transform
    told: list[str]
    outcome: str


ANSWERS: Mapping[str, Answer] = {
    "a row": Answer(lambda row, attempt: {**row, "more": 1}, ["StepCompleted 0 ask #1"], "completed"),
    "the same row": Answer(lambda row, attempt: row, ["StepCompleted 0 ask #1"], "completed"),
    "None": Answer(lambda row, attempt: None, ["TokenFiltered 0 ask #1"], "dropped_by_filter"),
    "RowError": Answer(raising(lambda: RowError("no", "no")), ["StepFailed 0 ask #1 no"], "routed"),
    "an exit": Answer(raising(lambda: SystemExit(3)), ["StepFailed 0 ask #1 plugin_raised"], "routed"),
    "a list": Answer(lambda row, attempt: [row], ["StepFailed 0 ask #1 bad_output"], "routed"),
    "a changed input": Answer(lambda row, attempt: row.update(n=1), ["StepFailed 0 ask #1 plugin_raised"], "routed"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_an_effect_may_answer_what_any_transform_may(what: str) -> None:
    """W8, E1, law T1: a row, the same, none (filtered), a final error, nonsense: its events and the token's end."""
    effect, told, outcome = ANSWERS[what]
    ran = trial(asking(), numbered(1), {"ask": effect}).go()
    assert [line for line in ran.told() if " 0 ask #" in line] == ["StepStarted 0 ask #1", *told]
    assert ran.outcomes == {"0": outcome}


def test_an_effect_that_takes_no_attempt_is_called_with_its_row_alone() -> None:
    """law T10: it still has its intent and its key."""
    text = asking().replace(EFFECT, POSTING)
    ran = trial(text, numbered(1), {"ask": lambda row: {**row, "posted": True}}).go()
    assert ran.one(e.StepStarted).key
    assert ran.rows("out") == [{"n": 0, "posted": True}]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_effect_that_expands_is_gathered_downstream(count: int) -> None:
    """C1, law C1, law T7: its children go on, through another effect, and are merged once, in their order."""
    sketch = Sketch("rows", workers=3).step("ask", "rows", "parts", expands=True).effect("each", "parts", "done")
    sketch.gather("join", "ask", "done", "require_all", "out").sink("out")
    made = trial(expanding_by_effect(sketch.text(), "ask"), numbered(2),
                 {"ask": lambda row, attempt: [{"part": part} for part in range(count)], "each": echo})  # fmt: skip
    made.workers = ShuffledWorkers(count, made.time)
    ran = made.go()
    assert {started.node for started in ran.of(e.StepStarted)} == ({"ask", "each"} if count else {"ask"})
    assert sorted(map(str, ran.rows("out"))) == [str({"n": n, "items": [{"part": part} for part in range(count)]})
                                                 for n in range(2)]
    children = {f"{n}:{part}": "coalesced" for n in range(2) for part in range(count)}
    assert ran.outcomes == {"0": "expanded", "1": "expanded", "0+join": "completed", "1+join": "completed", **children}


# --- deadlines and lost workers ------------------------------------------------------------------------------------


def test_the_time_left_is_that_of_this_attempt() -> None:
    """D5: it counts down from the deadline, stands at 0 after it, and begins anew with the next attempt."""
    time = SimulatedTime()
    left: list[float] = []

    def ask(row: Row, attempt: Attempt) -> Row:
        for _ in range(4):
            left.append(attempt.seconds_left())
            time.advance_ms(2000)
        return row

    within(trial(asking(attempts=2), numbered(1), {"ask": ask}, time=time), 5).go()
    assert left == [5, 3, 1, 0] * 2


@pytest.mark.parametrize("fates", [("hangs",), ("silent",), ("lost",), ("hangs", "lost"), ("lost", "silent")])
def test_an_attempt_that_never_answers_is_tried_again_under_the_same_key(fates: tuple[Fate, ...]) -> None:
    """law T10: hung or lost, its failure is on record, and what then succeeds is the next attempt of the same effect."""
    time = SimulatedTime()
    made = within(trial(asking(attempts=3), numbered(1), {"ask": echo}, time=time), 5)
    made.workers = ShuffledWorkers(1, time, lambda ticket: (*fates, "answers")[ticket - 1])
    ran = made.go()
    codes = {"hangs": "deadline_passed", "silent": "deadline_passed", "lost": "worker_lost"}
    failed = [f"StepFailed 0 ask #{number} {codes[fate]} retry" for number, fate in enumerate(fates, start=1)]
    assert [line for line in ran.told() if line.startswith("StepFailed")] == failed
    assert ran.one(e.StepCompleted).attempt == len(fates) + 1
    assert len({started.key for started in ran.of(e.StepStarted)}) == 1
    assert ran.outcomes == {"0": "completed"}


@pytest.mark.parametrize("took_ms", [4999, 5000, 5001, 60_000])
@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_that_took_longer_than_the_deadline_is_none(what: str, took_ms: int) -> None:
    """law T10: a row, an error, or nothing at all: after the deadline it is not heard, and the attempt may be made again."""
    time = SimulatedTime()

    def ask(row: Row, attempt: Attempt) -> object:
        if attempt.number == 2:
            return row
        time.advance_ms(took_ms)
        return ANSWERS[what].effect(row, attempt)

    ran = within(trial(asking(attempts=2), numbered(1), {"ask": ask}, time=time), 5).go()
    heard = ANSWERS[what].told if took_ms <= 5000 else [
        "StepFailed 0 ask #1 deadline_passed retry", "StepStarted 0 ask #2", "StepCompleted 0 ask #2"]  # fmt: skip
    assert [line for line in ran.told() if " 0 ask #" in line] == ["StepStarted 0 ask #1", *heard]
    assert ran.outcomes == {"0": ANSWERS[what].outcome if took_ms <= 5000 else "completed"}


def test_a_hung_effect_ends_at_its_deadline_and_not_before() -> None:
    """W8, D5: also on an idle run; its duration is the deadline."""
    time = SimulatedTime()
    made = within(trial(asking(), numbered(1), {"ask": echo}, time=time), 5)
    made.workers = ShuffledWorkers(1, time, lambda ticket: "hangs")
    ran = made.go()
    started, failed = ran.one(e.StepStarted), ran.one(e.StepFailed)
    assert (failed.active_ms - started.active_ms, failed.duration_us) == (5000, 5_000_000)


def test_with_threads_of_its_own_a_run_does_the_same() -> None:
    """law T1: real threads, many rows, three attempts each: every token with its end, and the log lawful."""
    seen: dict[str, int] = {}

    def ask(row: Row, attempt: Attempt) -> Row:
        seen[attempt.key] = attempt.number
        if attempt.number < 3:
            raise OSError("once more")
        return row

    ran = threaded(trial(asking(attempts=3, workers=8, delay_seconds=0), numbered(200), {"ask": ask}))
    assert ran.receipt.outcomes == {"completed": 200}
    assert len(ran.of(e.StepStarted)) == 600
    assert (len(seen), set(seen.values())) == (200, {3})


class Odd(BaseException):
    """What nobody catches by its name."""


def recurse(row: Row, attempt: Attempt) -> object:
    """Never ends by itself."""
    return recurse(row, attempt)


RAISED: Mapping[str, tuple[Transform, str]] = {
    "SystemExit": (raising(lambda: SystemExit(3)), "plugin_raised"),
    "RecursionError": (recurse, "plugin_raised"),
    "GeneratorExit": (raising(GeneratorExit), "plugin_raised"),
    "MemoryError": (raising(MemoryError), "plugin_raised"),
    "BaseException": (raising(Odd), "plugin_raised"),
    "KeyboardInterrupt": (raising(KeyboardInterrupt), "retries_exhausted"),
}


@pytest.mark.parametrize("what", RAISED)
def test_on_threads_of_its_own_whatever_an_effect_raises_fails_its_row_alone(what: str) -> None:
    """W8, E1, law T10: no thread, no process and no other row goes with it (an interrupt there is a worker that is lost)."""
    effect, code = RAISED[what]
    ran = threaded(trial(asking(workers=2), numbered(5), {"ask": lambda row, attempt: effect(row, attempt) if row["n"] == 2
                                                          else row}))
    failure = ran.one(e.StepFailed)
    assert (failure.token, failure.code) == ("2", code)
    assert ran.outcomes == {str(n): "routed" if n == 2 else "completed" for n in range(5)}
    assert ran.rows("errors") == [{"n": 2}]
