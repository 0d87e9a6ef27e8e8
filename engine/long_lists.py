"""Lists that are too long for an event's body: they stand in a payload that is never erased, and the body commits to it.

Why: a body stays under 65 535 bytes, and a row may have any number of fields that collide.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from ledger.codec import BODY_BYTES_MAX
from ledger.events import BatchFlushed, CoalesceFailed, Commitment, Event, TokenExpanded, TokensCoalesced

LIST_BYTES_MAX = BODY_BYTES_MAX // 3
SHORT_ITEMS = 64
"""Up to so many items a list is not even measured: names and ids are bounded."""


LISTED = frozenset({TokenExpanded, BatchFlushed, TokensCoalesced, CoalesceFailed})
"""The events whose lists can be long."""


def with_lists(whole: Event, short: Event) -> Event:
    """The event as the fold applies it: with its lists, and with the commitments to them."""
    if isinstance(short, TokenExpanded):
        return replace(whole, outputs_list=short.outputs_list)
    if isinstance(short, BatchFlushed):
        return replace(whole, outputs_list=short.outputs_list, rejected_list=short.rejected_list)
    if not isinstance(short, (TokensCoalesced, CoalesceFailed)):
        return whole
    return replace(whole, facts_list=short.facts_list, collisions_list=short.collisions_list)


def shortened(event: Event, keep: Callable[[bytes], Commitment]) -> Event:
    """The event as it is stored: its long lists put aside by `keep`, in the order in which the fold introduces them."""
    if isinstance(event, TokenExpanded):
        return _short_expansion(event, keep)
    if isinstance(event, BatchFlushed):
        return _short_flush(event, keep)
    if not isinstance(event, (TokensCoalesced, CoalesceFailed)):
        return event
    facts, collisions = event.facts, event.collisions
    if facts is not None and len(facts.expected_branches) > SHORT_ITEMS:
        encoded = msgspec.json.encode(facts)
        if len(encoded) > LIST_BYTES_MAX:
            event = replace(event, facts=None, facts_list=keep(encoded))
    if collisions and len(encoded := msgspec.json.encode(collisions)) > LIST_BYTES_MAX:
        event = replace(event, collisions={}, collisions_list=keep(encoded))
    return event


def _short_expansion(event: TokenExpanded, keep: Callable[[bytes], Commitment]) -> TokenExpanded:
    if event.outputs is None or event.count <= SHORT_ITEMS:
        return event
    encoded = msgspec.json.encode(event.outputs)
    if len(encoded) <= LIST_BYTES_MAX:
        return event
    return replace(event, outputs=None, outputs_list=keep(encoded))


def _short_flush(event: BatchFlushed, keep: Callable[[bytes], Commitment]) -> BatchFlushed:
    if event.outputs and len(encoded := msgspec.json.encode(event.outputs)) > LIST_BYTES_MAX:
        event = replace(event, outputs=None, outputs_list=keep(encoded))
    if event.rejected and len(encoded := msgspec.json.encode(event.rejected)) > LIST_BYTES_MAX:
        event = replace(event, rejected=(), rejected_list=keep(encoded))
    return event
