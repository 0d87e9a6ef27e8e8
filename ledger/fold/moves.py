"""The moves that several events share: find a token, introduce a payload, end a token, owe a loss, refuse by law.

Invariants: `refuse` is the only way a law is broken aloud; `end` the only way a token gets its outcome; `owe_loss` the
only place that decides whether a group has to hear of a carrier's end.
"""

from __future__ import annotations

from typing import NoReturn

from ledger import ids
from ledger.events import Commitment, Event, LossCause, OutcomeName, Output
from ledger.fold.intervals import Intervals
from ledger.fold.state import PLACES, Family, Frame, OwedLoss, Stage, State, Token, Via
from ledger.laws import Finding, LawBroken

INNER_OUTCOMES = frozenset({"forked", "expanded", "coalesced", "consumed_in_batch"})
_LAW_OF_STAGE = {Stage.HELD: "C2", Stage.BUFFERED: "C7", Stage.WRITING: "R3", Stage.FAILED: "R1"}


def refuse(state: State, event: Event, law: str, *, token: str | None = None, expected: str, found: str) -> NoReturn:
    """Raise the finding that `event` breaks `law`."""
    raise LawBroken(
        Finding(law=law, run=state.run, seq=event.seq or state.seq + 1, token=token, expected=expected, found=found)
    )


def at_node(state: State, event: Event, token_id: str, node: str, *, ends_as: str = "", stages: int = 1) -> Token:
    """The token, which must stand at `node` in a stage up to `stages`. `ends_as` names the outcome the event would give."""
    token = state.tokens.get(token_id)
    if token is None or token.stage > stages or token.node != node:
        _misplaced(state, event, token_id, node, ends_as)
    return token


def _misplaced(state: State, event: Event, token_id: str, node: str, ends_as: str) -> NoReturn:
    """Say which law an event on this token breaks."""
    what = f"{type(event).__name__} at {node}"
    token = state.tokens.get(token_id)
    if token is None:
        if was_closed(state, token_id):
            law = "T1" if ends_as else "T2"
            refuse(state, event, law, token=token_id, expected="nothing after the token's end", found=what)
        law = "T5" if ends_as in INNER_OUTCOMES else "L4"
        refuse(state, event, law, token=token_id, expected="a token that exists", found=f"{what} on an unknown token")
    if token.outcome is not None:
        law = "T2"
        if ends_as:
            law = "T1" if (ends_as in INNER_OUTCOMES) == (token.outcome in INNER_OUTCOMES) else "T6"
        refuse(state, event, law, token=token_id, expected=f"nothing after its end ({token.outcome})", found=what)
    if token.node != node:
        law = "T4" if node == "source" else "T9"
        refuse(state, event, law, token=token_id, expected=f"the next step at {token.node}", found=what)
    refuse(state, event, _LAW_OF_STAGE.get(token.stage, "T10"), token=token_id,
           expected=f"what follows {token.stage.name.lower()}", found=what)


def was_closed(state: State, token_id: str) -> bool:
    """Whether the token's family has been evicted, which only happens after all its tokens ended."""
    family = ids.family(token_id)
    if isinstance(family, int):
        return family in state.closed_rows
    if family is None:
        return False
    aggregation, _, number = family.partition("@")
    closed = state.closed_batches.get(aggregation)
    return closed is not None and int(number) in closed


def introduce(state: State, event: Event, commitment: Commitment) -> int:
    """Take the next payload number; numbers are given without a gap (L4)."""
    if commitment.n != state.payloads + 1:
        refuse(state, event, "L4", expected=f"payload {state.payloads + 1}", found=f"payload {commitment.n}")
    state.payloads = commitment.n
    return commitment.n


def output_of(state: State, event: Event, token: Token, output: Output) -> int:
    """The payload a step's output is: a new one, or the unchanged input."""
    if isinstance(output, Commitment):
        return introduce(state, event, output)
    if output != token.payload:
        refuse(state, event, "L4", token=token.id, expected=f"its input {token.payload}, unchanged", found=str(output))
    return output


def check_input(state: State, event: Event, token: Token, input_: int) -> None:
    """An attempt reads what its token carries (L4)."""
    if token.payload != input_:
        refuse(state, event, "L4", token=token.id, expected=f"input {token.payload}", found=f"input {input_}")


def born(state: State, family: Family, token_id: str, frames: tuple[Frame, ...], payload: int, node: str) -> Token:
    """Make a token of `family`, standing at `node`."""
    token = Token(token_id, family, frames, payload, node, placed=(state.seq + 1) * PLACES + len(state.born))
    state.tokens[token_id] = token
    family.tokens.append(token)
    family.live += 1
    state.live += 1
    state.tokens_made += 1
    state.born.append(token)
    return token


def end(state: State, token: Token, outcome: OutcomeName) -> None:
    """Give the token its one terminal outcome."""
    token.stage = Stage.ENDED
    token.outcome = outcome
    state.ended.append(token)
    state.outcomes[outcome] = state.outcomes.get(outcome, 0) + 1
    state.live -= 1
    family = token.family
    family.live -= 1
    if not family.live:
        state.closing.append(family)


def move(state: State, token: Token, node: str, via: Via = "normal", nth: int = 0) -> None:
    """Put the token before its next node, with no attempt behind it; `nth` of those that the event moves."""
    token.placed = (state.seq + 1) * PLACES + nth
    token.node = node
    token.via = via
    token.stage = Stage.READY
    token.failures = token.deaths = 0
    token.key = None


def owe_loss(
    state: State, token: str, family: Family, frames: tuple[Frame, ...], cause: LossCause, node: str, code: str | None,
    *, in_turn: bool = False,
) -> None:
    """Owe the group ahead a loss, if one is ahead that still waits for this branch (G2: a closed one never reopens).

    E9: it is told next, before whatever else is owed; `in_turn` where one event loses several.
    """
    if not frames or frames[-1].join is None:
        return
    frame = frames[-1]
    group = state.groups.get(ids.merged_token(frame.token, frame.join or ""))
    if group is not None and (
        group.status != "open" or frame.branch in group.lost or frame.branch in group.arrived
    ):
        return
    state.losses_owed += 1
    loss = OwedLoss(token, family, frames, cause, node, code)
    if in_turn:
        state.owed.append(loss)
    else:
        state.owed.appendleft(loss)


def evict(state: State) -> None:
    """Forget the families that closed, once nothing is owed any more."""
    for family in state.closing:
        if family.live or family.key not in state.families:
            continue
        del state.families[family.key]
        for token in family.tokens:
            del state.tokens[token.id]
        family.tokens.clear()
        for group in family.groups or ():
            del state.groups[group]
        if isinstance(family.key, int):
            state.closed_rows.add(family.key)
        else:
            aggregation, _, number = family.key.partition("@")
            state.closed_batches.setdefault(aggregation, Intervals()).add(int(number))
    state.closing.clear()


