"""The coalesce executor and the flush, driven piece by piece where no whole run can bring them there.

In a run every loss is told at once, so that at the end of the source no group is short of a branch. What the flush does
then is shown on a loop that was handed such a state.
"""

from __future__ import annotations

import pytest

from engine.executors import coalesces
from engine.rows import freeze
from ledger import events as e
from ledger.errors import UsageError
from tests.kit.forks import nested
from tests.kit.pipelines import Trial, trial


class Piecewise:
    """A run that was opened and whose events a test says itself."""

    def __init__(self, made: Trial) -> None:
        self.made = made
        self.recorder, self.loop = made.opened()

    def row(self, token: str) -> None:
        """Read a row."""
        data = self.recorder.keep(b'{"n":0}')
        self.recorder.record(e.RowRead(token=token, row=int(token), valid=True, position=int(token) + 1, data=data))

    def say(self, *events: e.Event) -> None:
        """Say events."""
        for event in events:
            self.recorder.record(event)

    def arrive(self, token: str, coalesce: str) -> None:
        """A token that stands before a coalesce arrives there, and is held with its row."""
        state = self.recorder.state
        event = coalesces.arrive(state, state.tokens[token], coalesce)
        assert event is not None
        self.recorder.record(event)
        self.loop.desk.rows[token] = freeze({"n": 0})

    def step(self, token: str, node: str) -> None:
        """A step changes nothing."""
        payload = self.recorder.state.tokens[token].payload
        self.say(e.StepCompleted(token=token, node=node, attempt=1, input=payload, output=payload, duration_us=0))

    def flush(self) -> None:
        """What the loop does at the end of the source with what is held; what stands elsewhere it was never given."""
        while self.loop._end.flush_next():
            self.loop._drain()
        self.recorder.commit()


def opened() -> Piecewise:
    """One row, forked twice: `0.x.a`, `0.x.b` before their steps inside, `0.y` before its own."""
    text = nested({"policy": "best_effort", "timeout_seconds": 60}, {"policy": "best_effort", "timeout_seconds": 60})
    pieces = Piecewise(trial(text.text()))
    pieces.row("0")
    pieces.say(e.TokenForked(token="0", node="split", label="true", branches=("x", "y")),
               e.TokenForked(token="0.x", node="inner_split", label="true", branches=("a", "b")))  # fmt: skip
    return pieces


def test_the_flush_goes_from_the_source_down_and_drains_before_it_goes_on() -> None:
    """A1, D6: the inner group merges what came, its merge reaches the outer one, which is then whole and not cut short."""
    pieces = opened()
    pieces.step("0.y", "step_y")
    pieces.arrive("0.y", "outer")
    pieces.step("0.x.a", "step_a")
    pieces.arrive("0.x.a", "inner")
    pieces.say(e.SourceExhausted(rows=1))
    pieces.flush()
    ran = pieces.made.left()
    told = ran.told()
    assert told[told.index("SourceExhausted 1") + 1 :][:4] == [
        "TokensCoalesced 0.x+inner end_of_source",
        "StepCompleted 0.x+inner after #1",
        "BranchArrived 0.x+inner 0+outer x",
        "TokensCoalesced 0+outer all_arrived",
    ]
    facts = ran.of(e.TokensCoalesced)[0].facts
    assert facts is not None
    assert facts.branches_missing == ("b",)


def test_the_flush_fails_what_cannot_merge_with_everything_it_held() -> None:
    """A1, A3, D6: a group that has only a loss fails, and so its outer branch is lost, all by name."""
    pieces = Piecewise(trial(nested({"policy": "require_all"}, {"policy": "quorum", "quorum_count": 2}).text()))
    pieces.row("0")
    pieces.say(e.TokenForked(token="0", node="split", label="true", branches=("x", "y")),
               e.TokenForked(token="0.x", node="inner_split", label="true", branches=("a", "b")))  # fmt: skip
    pieces.step("0.x.a", "step_a")
    pieces.arrive("0.x.a", "inner")
    pieces.say(e.SourceExhausted(rows=1))
    pieces.flush()
    ran = pieces.made.left()
    assert ran.told()[-3:] == [
        "CoalesceFailed 0.x+inner end_of_source incomplete_branches",
        "BranchLost 0.x 0+outer x group_failed:inner:incomplete_branches",
        "CoalesceFailed 0+outer branch_lost quorum_impossible:need=2,max_possible=1",
    ]
    assert ran.outcomes["0.x.a"] == "failed"


def test_the_same_token_arriving_again_is_not_an_event() -> None:
    """G4: the held token is there already; nothing is said, nothing is overwritten."""
    pieces = opened()
    pieces.step("0.y", "step_y")
    pieces.arrive("0.y", "outer")
    state = pieces.recorder.state
    held = state.groups["0+outer"].arrived["y"]
    assert coalesces.arrive(state, held, "outer") is None
    assert state.groups["0+outer"].arrived == {"y": held}
    assert pieces.loop.desk.rows == {"0.y": {"n": 0}}


def test_arriving_where_there_is_no_coalesce_names_those_there_are() -> None:
    """D3: an unknown coalesce."""
    state = opened().recorder.state
    with pytest.raises(UsageError, match="COALESCE_UNKNOWN: expected one of the coalesces inner, outer, found nowhere"):
        coalesces.arrive(state, state.tokens["0.y"], "nowhere")


def test_arriving_on_no_branch_names_the_expected_ones() -> None:
    """D3: a token that was never forked."""
    pieces = opened()
    pieces.row("1")
    state = pieces.recorder.state
    with pytest.raises(UsageError, match="BRANCH_NONE: expected a token on one of the branches x, y"):
        coalesces.arrive(state, state.tokens["1"], "outer")


def test_arriving_on_a_branch_of_another_coalesce_names_the_expected_ones() -> None:
    """D3: an unexpected branch."""
    state = opened().recorder.state
    with pytest.raises(UsageError, match="BRANCH_UNEXPECTED: expected one of the branches x, y, found a"):
        coalesces.arrive(state, state.tokens["0.x.a"], "outer")
