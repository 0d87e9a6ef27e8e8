"""Folding hand-made logs in tests: to the end, up to an event, and what every event ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from ledger import events as e
from ledger.fold import State, apply
from tests.kit.log import Log

Kind = TypeVar("Kind", bound=e.Event)


def fold(log: Log, until: int | None = None) -> State:
    """The state after the first `until` events (all of them, unless said)."""
    state = State(log.run)
    for event in log.stamped()[:until]:
        apply(state, event)
    return state


def before(log: Log, kind: type[e.Event], nth: int = 1) -> State:
    """The state just before the `nth` event of a kind."""
    return fold(log, place(log, kind, nth) - 1)


def place(log: Log, kind: type[e.Event], nth: int = 1) -> int:
    """The seq of the `nth` event of a kind."""
    return [seq for seq, event in enumerate(log.said, start=1) if isinstance(event, kind)][nth - 1]


def said(log: Log, kind: type[Kind]) -> list[Kind]:
    """The events of a kind."""
    return [event for event in log.said if isinstance(event, kind)]


def steps(log: Log) -> Iterator[tuple[e.Event, list[str], list[tuple[str, str | None]]]]:
    """Each event with the tokens it made and those it ended (with their outcomes)."""
    state = State(log.run)
    for event in log.stamped():
        apply(state, event)
        yield event, [token.id for token in state.born], [(token.id, token.outcome) for token in state.ended]


def ends(log: Log) -> dict[str, str | None]:
    """Every token that ended, and as what; two ends of one token are an error."""
    found: dict[str, str | None] = {}
    for event, _, ended in steps(log):
        for token, outcome in ended:
            if token in found:
                raise AssertionError(f"{token} ends twice: {found[token]}, and {outcome} at {event.seq}")
            found[token] = outcome
    return found
