"""Batches that kill their process: after an unclean stop attempts say that they begin, and a third death is the last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ledger import events as e
from tests.kit import stories
from tests.kit.batches import Rows, batched, numbered, told, total
from tests.kit.deaths import Killed, MortalStore, killed
from tests.kit.pipelines import Ran, Sketch, Trial, trial
from tests.kit.ports import SimulatedTime
from tests.kit.twins import Pause

LATE = Pause(6000)


def deadly(store: MortalStore, plugin: Callable[[Rows], object] = total) -> Callable[[Rows], object]:
    """A plugin that kills its process when row 2 is among its members."""

    def call(rows: Rows) -> object:
        if any(row["n"] == 2 for row in rows):
            store.die()
        return plugin(rows)

    return call


def dying(text: str, rows: list[object], plugin: Callable[[Rows], object] = total) -> Trial:
    """A run of these rows whose batch plugin is deadly."""
    store = MortalStore()
    return trial(text, rows, {"totals": deadly(store, plugin)}, store=store)


def again(made: Trial) -> None:
    """Another process takes the run up, and dies as well."""
    assert isinstance(made.store, MortalStore)
    made.store.revive()
    killed(made.resume)


def revived(made: Trial) -> Ran:
    """Another process takes it up, and comes to an end."""
    assert isinstance(made.store, MortalStore)
    made.store.revive()
    try:
        return made.again()
    except Killed as death:
        raise AssertionError("expected an end, found another death") from death


def attempts(ran: Ran, batch: str) -> list[str]:
    """What is said of the attempts at a batch."""
    return [line for line in map(stories.said, ran.events) if line.startswith("Batch") and f" {batch} " in line]


def paused(*pauses: int) -> list[object]:
    """Six rows; the source has nothing for six seconds before these."""
    return [one for n in range(6) for one in ([LATE] if n in pauses else []) + [{"n": n}]]


SETTINGS: Mapping[str, tuple[Mapping[str, Any], list[object], str]] = {
    "count": ({"trigger": {"count": 2}}, numbered(6), "count"),
    "condition": ({"trigger": {"condition": "batch_count >= 2"}}, numbered(6), "condition"),
    "timeout": ({"trigger": {"timeout_seconds": 5}}, paused(2, 4), "timeout"),
    "age": ({"trigger": {"condition": "batch_age_seconds >= 5"}}, paused(2, 4), "condition"),
    "end_of_source": ({}, numbered(6), "end_of_source"),
    "passthrough": ({"trigger": {"count": 2}, "output_mode": "passthrough"}, numbered(6), "count"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_batch_that_kills_its_process_fails_at_the_third_death_that_is_on_record(name: str) -> None:
    """E1, law T10, law C7: the run dies, three resumes die, the fourth completes; its members leave by `on_error`."""
    settings, rows, trigger = SETTINGS[name]
    made = dying(batched(**settings), rows, list if name == "passthrough" else total)
    killed(made.start)
    for death in range(3):
        again(made)
        last = stories.said(made.left().events[-1])
        assert last == f"BatchStarted totals@{1 if name == 'end_of_source' else 2} #{death + 1} {trigger}"
    ran = revived(made)
    batch = "totals@1" if name == "end_of_source" else "totals@2"
    assert attempts(ran, batch) == [
        f"{kind} {batch} #{attempt}{said}" for attempt in (1, 2, 3)
        for kind, said in (("BatchStarted", f" {trigger}"), ("BatchAbandoned", ""))]  # fmt: skip
    died = numbered(6) if name == "end_of_source" else numbered(6)[2:4]
    assert ran.rows("errors") == died
    assert [(event.token, event.code, event.reason) for event in ran.of(e.Diverted)] == [
        (str(row["n"]), "process_died", None) for row in died]  # type: ignore[index]
    fine = {"end_of_source": [], "passthrough": [*numbered(2), *numbered(6)[4:]]}.get(name, [{"of": [0, 1]}, {"of": [4, 5]}])
    assert ran.rows("out") == fine
    assert ran.verdict.status == "completed"


def test_a_run_that_was_not_killed_says_of_no_batch_that_it_begins() -> None:
    """E1: the intent costs a commit; only a run that was left without a word pays for it."""
    made = trial(batched(trigger={"count": 2}), numbered(5))
    assert made.go().of(e.BatchStarted) == []


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_batch_that_kills_its_process_less_often_is_computed(deaths: int) -> None:
    """law T10, law C7: the same members, by the same trigger, and a number for each attempt; nothing is lost."""
    left = iter(range(deaths + 1))
    store = MortalStore()

    def plugin(rows: Rows) -> object:
        if any(row["n"] == 2 for row in rows) and next(left, None) is not None:
            store.die()
        return total(rows)

    made = trial(batched(trigger={"count": 2}), numbered(6), {"totals": plugin}, store=store)
    killed(made.start)
    for _ in range(deaths):
        again(made)
    ran = revived(made)
    assert attempts(ran, "totals@2")[-2:] == [f"BatchStarted totals@2 #{deaths + 1} count",
                                              f"BatchFlushed totals@2 #{deaths + 1} count all"]  # fmt: skip
    assert ran.rows("out") == [{"of": [0, 1]}, {"of": [2, 3]}, {"of": [4, 5]}]
    assert told(ran) == [("totals@1", "count", ["0", "1"]), ("totals@2", "count", ["2", "3"]),
                         ("totals@3", "count", ["4", "5"])]  # fmt: skip


def test_deaths_count_to_their_own_limit() -> None:
    """law T10: with two attempts a batch may fail once, kill a process, and be computed then."""
    store = MortalStore()
    does = iter([OSError("busy"), None, None])

    def plugin(rows: Rows) -> object:
        now = next(does, "answer")
        if now is None:
            store.die()
        if isinstance(now, OSError):
            raise now
        return total(rows)

    made = trial(batched(attempts=2), numbered(2), {"totals": plugin}, store=store)
    killed(made.start)
    again(made)
    ran = revived(made)
    assert attempts(ran, "totals@1") == [
        "BatchFailed totals@1 #1 end_of_source retryable retry", "BatchStarted totals@1 #2 end_of_source",
        "BatchAbandoned totals@1 #2", "BatchStarted totals@1 #3 end_of_source", "BatchFlushed totals@1 #3 end_of_source all"]


def test_after_a_death_a_batch_may_fail_as_often_as_before() -> None:
    """law T10: the delays and the limit of failures are those of failures; the last one is final."""
    store = MortalStore()
    does = iter([None, None])

    def plugin(rows: Rows) -> object:
        if next(does, "answer") is None:
            store.die()
        raise OSError("busy")

    made = trial(batched(attempts=2, delay_seconds=60), numbered(2), {"totals": plugin}, store=store)
    killed(made.start)
    again(made)
    ran = revived(made)
    assert [line.partition(" end")[0] for line in attempts(ran, "totals@1")] == [
        "BatchStarted totals@1 #1", "BatchAbandoned totals@1 #1", "BatchStarted totals@1 #2", "BatchFailed totals@1 #2",
        "BatchStarted totals@1 #3", "BatchFailed totals@1 #3"]
    assert [event.retry for event in ran.of(e.BatchFailed)] == [True, False]
    assert ran.rows("errors") == numbered(2)


def test_a_batch_that_is_computed_again_comes_before_what_came_after_it() -> None:
    """law P3: of a row's two branches the first one's batch dies, and still its output is the first to be written."""
    left = iter(range(2))
    store = MortalStore()

    def plugin(rows: Rows) -> object:
        if next(left, None) is not None:
            store.die()
        return [{"by": "first"}]

    sketch = Sketch("rows").fork("split", "rows", "a", "b").batch("first", "a", "out", "errors", trigger={"count": 1})
    text = sketch.batch("second", "b", "out", "errors", trigger={"count": 1}).sink("out", "errors").text()
    made = trial(text, numbered(1), {"first": plugin, "second": lambda rows: [{"by": "second"}]}, store=store)
    killed(made.start)
    again(made)
    ran = revived(made)
    assert attempts(ran, "first@1")[-1] == "BatchFlushed first@1 #2 count all"
    assert ran.rows("out") == [{"by": "first"}, {"by": "second"}]


def test_several_batches_whose_deadlines_have_passed_begin_one_after_the_other() -> None:
    """law C4, law T10: a step that took its time has let both pass; the one that was due first is computed before."""
    time = SimulatedTime()
    store = MortalStore()
    left = iter(range(1))

    def slow(row: Mapping[str, Any]) -> object:
        if row["n"] == 2:
            time.advance_ms(9000)
            if next(left, None) is not None:
                store.die()
        return row

    sketch = Sketch("rows").gate("gate", "rows", "'one' if row['n'] == 0 else 'two' if row['n'] == 1 else 'step'",
                                 {"one": "one", "two": "two", "step": "three"})
    sketch.batch("first", "one", "out", trigger={"timeout_seconds": 5}).batch("second", "two", "out", trigger={
        "timeout_seconds": 6})
    text = sketch.step("slow", "three", "out").sink("out").text()
    made = trial(text, numbered(3), {"slow": slow}, store=store, time=time)
    killed(made.start)
    ran = revived(made)
    assert attempts(ran, "first@1") + attempts(ran, "second@1") == [
        f"{kind} {name}@1 #1 timeout{said}" for name in ("first", "second")
        for kind, said in (("BatchStarted", ""), ("BatchFlushed", " all"))]  # fmt: skip
    assert ran.rows("out") == numbered(3)


# --- how long a run is wary ------------------------------------------------------------------------------------------


def parted(batch: str, attempts: int = 1, delay_seconds: float = 1.0, **settings: object) -> str:
    """Rows of which `batch` holds go to `totals`, the others through the step `one`."""
    sketch = Sketch("rows", attempts=attempts, delay_seconds=delay_seconds)
    sketch.gate("gate", "rows", batch, {"true": "few", "false": "many"}).batch("totals", "few", "out", "errors", **settings)
    return sketch.step("one", "many", "out").sink("out", "errors").text()


def test_a_batch_that_waits_for_another_attempt_keeps_the_run_wary() -> None:
    """E1, law T10: five hundred rows later the attempt says that it begins, and its death is found."""
    store = MortalStore()
    does = iter([None, OSError("busy"), None])

    def plugin(rows: Rows) -> object:
        now = next(does, "answer")
        if now is None:
            store.die()
        if isinstance(now, OSError):
            raise now
        return total(rows)

    text = parted("row['n'] < 2", attempts=2, delay_seconds=60, trigger={"count": 2})
    made = trial(text, [*numbered(500), Pause(90_000), {"n": 500}], {"totals": plugin}, store=store)
    killed(made.start)
    again(made)
    found = made.left()
    assert (len(found.of(e.RowRead)), stories.said(found.events[-1])) == (500, "BatchStarted totals@1 #2 count")
    ran = revived(made)
    assert attempts(ran, "totals@1")[-1] == "BatchFlushed totals@1 #3 count all"


def test_a_batch_that_is_not_due_does_not_keep_the_run_wary() -> None:
    """A member may be held for very long: after the next 200 rows steps begin unsaid again."""
    store = MortalStore(5)
    made = trial(parted("row['n'] == 0"), numbered(700), {"totals": total}, store=store)
    killed(made.start)
    read = len(made.left().of(e.RowRead))
    ran = revived(made)
    assert read > 0
    assert [int(event.token) for event in ran.of(e.StepStarted)] == list(range(read, read + 200))
    assert ran.of(e.BatchStarted) == []
    assert ran.rows("out")[-1] == {"of": [0]}


def test_with_the_end_of_the_source_the_members_of_a_batch_keep_the_run_wary() -> None:
    """E1, law T10: every batch falls due then, so its first death is on record, whatever was committed before."""
    made = dying(batched(), [*numbered(6), LATE])
    assert isinstance(made.store, MortalStore)
    made.store.revive(3, stored=True)
    killed(made.start)
    assert len(made.left().of(e.TokenBuffered)) == 6
    again(made)
    assert [stories.said(event) for event in made.left().events[-2:]] == [
        "SourceExhausted 6", "BatchStarted totals@1 #1 end_of_source"]


# --- giving up -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("deaths", "code"), [(1, "abandoned"), (2, "abandoned"), (3, "process_died")])
def test_a_run_is_given_up_with_a_batch_that_killed_its_process(deaths: int, code: str) -> None:
    """D8, law T10: the death is said first; a third one is the reason why its members leave."""
    made = dying(batched(trigger={"count": 2}), numbered(6))
    killed(made.start)
    for _ in range(deaths):
        again(made)
    assert isinstance(made.store, MortalStore)
    made.store.revive()
    made.abandon()
    ran = made.left()
    ends = [f"BatchFailed totals@2 #{deaths + 1} abandoned abandoned"] if deaths < 3 else []
    assert attempts(ran, "totals@2")[-1 - len(ends):] == [f"BatchAbandoned totals@2 #{deaths}", *ends]
    assert {event.code for event in ran.of(e.Diverted)} == {code}
    assert ran.verdict.status == "failed"
    assert {ran.outcomes[token] for token in "23"} == {"failed"}
