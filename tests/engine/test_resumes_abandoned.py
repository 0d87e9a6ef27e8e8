"""A run that is given up: every token ends, every group and batch is resolved, nothing outside is touched."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from engine.bound import Transform
from engine.loop import Hooks
from ledger import events as e
from ledger.errors import LedgerUnavailable
from tests.kit.deaths import Killed, MortalStore, cuts, died_at
from tests.kit.forks import nested
from tests.kit.pipelines import Ran, Sketch, Trial, trial
from tests.kit.small_runs import LONG_SECONDS, SMALL, numbered
from tests.kit.twins import ListSink


class Untouchable:
    """In place of what is outside: whatever is asked of it fails the test."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} is touched")

    def __call__(self, *given: object, **named: object) -> object:
        raise AssertionError("a plugin is called")


def given_up(made: Trial) -> Ran:
    """Abandon it, with nothing of the pipeline at hand."""
    bound = made.bound
    steps = {name: replace(step, call=Untouchable()) for name, step in bound.steps.items()}
    batches = {name: replace(one, call=Untouchable()) for name, one in bound.aggregations.items()}
    sinks = dict.fromkeys(made.sinks, Untouchable())
    rows = {name: list(sink.rows) for name, sink in made.sinks.items()}
    made.bound = replace(bound, steps=steps, aggregations=batches, sinks=sinks, source=Untouchable())  # type: ignore[arg-type]
    receipt = made.abandon("no use")
    ran = made.left(receipt)
    assert (receipt.status, ran.verdict.sealed, ran.told()[-1]) == ("failed", True, "RunSealed failed")
    assert {name: list(sink.rows) for name, sink in made.sinks.items()} == rows
    return ran


@pytest.mark.parametrize("name", SMALL)
def test_a_run_that_died_anywhere_can_be_given_up(name: str) -> None:
    """law T1, C2, law P4: lawful deep, each token with one end, sealed `failed`; once, and never again."""
    whole = SMALL[name](MortalStore())
    uncut = whole.go()
    assert isinstance(whole.store, MortalStore)
    for cut in cuts(len(whole.store.appends) - 1, 3):
        made = died_at(SMALL[name], cut)
        before = made.left()
        ran = given_up(made)
        assert isinstance(made.store, MortalStore)
        appends = len(made.store.appends)
        assert made.abandon() == made.resume() == ran.receipt
        assert len(made.store.appends) == appends
        assert {token: ran.outcomes[token] for token in before.outcomes} == before.outcomes
        assert len(ran.of(e.RowRead)) == len(before.of(e.RowRead))
        assert set(ran.outcomes) <= set(uncut.outcomes) | {group for group in ran.outcomes if "+" in group}


def test_a_run_in_which_nothing_happened_yet_can_be_given_up() -> None:
    """law T1: no row, no token: the reason is on record all the same."""
    made = trial(Sketch("rows").step("one", "rows", "out").sink("out").text(), numbered(3))
    made.hooks = Hooks(stopping=lambda: "at once")
    made.go()
    ran = given_up(made)
    abandoned = ran.one(e.TokensAbandoned)
    assert (abandoned.tokens, abandoned.code, ran.payload(abandoned.reason)) == ((), "abandoned", "no use")
    assert ran.outcomes == {}


def test_open_writes_are_said_to_have_failed_and_their_tokens_end() -> None:
    """law R3: what the target took of it stays there, unconfirmed."""
    store = MortalStore()
    made = trial(Sketch("rows").step("one", "rows", "out").sink("out").text(), numbered(2), store=store)
    made.sinks["out"].while_writing = store.die
    with pytest.raises(Killed):
        made.start()
    store.revive()
    ran = given_up(made)
    assert ran.told()[-5:] == ["RunClaimed", "SinkWriteFailed out abandoned", "TokensAbandoned", "TokensAbandoned",
                               "RunSealed failed"]
    assert ran.outcomes == {"0": "failed", "1": "failed"}


def test_a_write_that_failed_before_can_be_given_up() -> None:
    """law R3: its tokens stand before the sink."""
    made = trial(Sketch("rows").step("one", "rows", "out").sink("out").text(), numbered(2))
    made.sinks["out"].broken = OSError(28, "No space left on device")
    assert made.go().fault is not None
    assert given_up(made).outcomes == {"0": "failed", "1": "failed"}


def held_in_a_nest(outer: str) -> Trial:
    """A stop while the inner group holds one branch and the outer one the other."""
    text = nested({"policy": "require_all"}, {"policy": outer, "timeout_seconds": LONG_SECONDS}).text()
    assert '"max_attempts": 1' in text
    made = trial(text.replace('"max_attempts": 1', '"max_attempts": 3'), numbered(2))
    stop: list[str] = []
    step = made.bound.steps["step_b"]

    def late(row: object) -> object:
        stop.append("enough")
        raise TimeoutError("later")

    made.bound = replace(made.bound, steps={**made.bound.steps, "step_b": replace(step, call=late)})
    made.hooks = Hooks(stopping=lambda: stop[0] if stop else None)
    assert made.go().verdict.open_groups == 2
    return made


@pytest.mark.parametrize("outer", ["require_all", "best_effort"])
def test_nested_groups_are_decided_inside_out(outer: str) -> None:
    """C2, B2, law C5: the inner one fails, the outer one is told or flushed; every held token ends with its group."""
    ran = given_up(held_in_a_nest(outer))
    kinds = Counter(type(event).__name__ for event in ran.events)
    assert kinds["TokensCoalesced"] + kinds["CoalesceFailed"] == len({event.group for event in ran.events
                                                                      if isinstance(event, (e.BranchArrived, e.BranchLost))})
    assert set(ran.outcomes.values()) <= {"forked", "failed", "coalesced", "quarantined"}


def test_what_only_waits_is_decided_though_nothing_stands_before_a_node() -> None:
    """C2, law C7: a batch with two members and the groups they are missing from; the source had failed."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b").batch("slow", "b", "c", output_mode="passthrough")
    sketch.join("join", {"a": "a", "b": "c"}, "require_all", "out")
    made = trial(sketch.sink("out").text(), [*numbered(2), OSError(5, "EIO")])
    assert made.go().verdict.open_groups == 2
    ran = given_up(made)
    assert {event.trigger for event in ran.of(e.BatchFailed)} == {"abandoned"}
    assert ran.outcomes == {"0": "forked", "0.a": "failed", "0.b": "quarantined",
                            "1": "forked", "1.a": "failed", "1.b": "quarantined"}


def test_a_very_large_line_of_tokens_is_given_up_in_events_that_fit() -> None:
    """law L5: 3 000 children before a step that was never called."""
    sketch = Sketch("rows").step("parts", "rows", "c", expands=True).effect("ask", "c", "d", "discard")
    sketch.gather("join", "parts", "d", "require_all", "out")
    store = MortalStore()
    made = trial(sketch.sink("out").text(), numbered(1), {"parts": lambda row: numbered(3000), "ask": _dying(store)},
                 store=store)
    with pytest.raises(Killed):
        made.start()
    store.revive()
    ran = given_up(made)
    assert Counter(ran.outcomes.values()) == {"expanded": 1, "failed": 3000}
    assert [len(event.tokens) for event in ran.of(e.TokensAbandoned)][:2] == [0, 500]


def _dying(store: MortalStore) -> Transform:
    def ask(row: object, attempt: object) -> object:
        return store.die()

    return ask


def test_an_effect_in_doubt_is_said_to_be_abandoned_before_its_token_ends() -> None:
    """law T10: each started attempt ends; after the third death it leaves by its route first."""
    for deaths in (1, 2, 3):
        store = MortalStore()
        sketch = Sketch("rows").effect("ask", "rows", "out", "errors").sink("out", "errors")
        made = trial(sketch.text(), numbered(1), {"ask": _dying(store)}, store=store)
        for way in (made.start, made.resume, made.resume)[:deaths]:
            store.revive()
            with pytest.raises(Killed):
                way()
        store.revive()
        ran = given_up(made)
        assert len(ran.of(e.StepAbandoned)) == len(ran.of(e.StepStarted)) == deaths
        assert [event.code for event in ran.of(e.Diverted)] == (["process_died"] if deaths == 3 else [])
        assert ran.outcomes == {"0": "failed"}


def test_giving_up_is_cut_like_anything_else_and_done_again() -> None:
    """law L3, law T1: a death at each of its appends; the next abandons what is left."""
    for at in (1, 2):
        for stored in (False, True):
            made = held_in_a_nest("best_effort")
            store = made.store
            before = len(store.appends)  # type: ignore[attr-defined]
            mortal = _Mortal(made, before + at, stored=stored)
            with pytest.raises(Killed):
                mortal.abandon()
            made.abandon()
            assert made.left().verdict.sealed


class _Mortal:
    def __init__(self, made: Trial, at: int, *, stored: bool) -> None:
        self._made = made
        self._store = made.store
        self._left = at - len(made.store.appends)  # type: ignore[attr-defined]
        self._stored = stored

    def abandon(self) -> object:
        """Abandon over a store that dies."""
        return replace(self._made, store=self).abandon()  # type: ignore[arg-type]

    def append(self, parts: object) -> None:
        """Die at the append."""
        self._left -= 1
        if self._left or self._stored:
            self._store.append(parts)  # type: ignore[arg-type]
        if not self._left:
            raise Killed

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


def test_giving_up_a_run_that_another_carries_on_is_fenced() -> None:
    """law L3: the one that claims later wins; the run that was abandoned under it stores nothing more."""
    store = MortalStore()
    made = trial(Sketch("rows").step("one", "rows", "out").sink("out").text(), numbered(2), store=store)
    other = trial(Sketch("rows").step("one", "rows", "out").sink("out").text(), numbered(2), store=store)
    step = made.bound.steps["one"]
    made.bound = replace(made.bound, steps={"one": replace(step, call=lambda row: (other.abandon(), row)[1])})
    with pytest.raises(LedgerUnavailable, match="FENCED"):
        made.start()
    assert other.left().told()[-1] == "RunSealed failed"
    assert made.sinks["out"].rows == []
    assert isinstance(made.sinks["out"], ListSink)
