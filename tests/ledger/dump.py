"""A fold's state as plain data, so that two of them can be compared: whatever fields it has, none is left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from ledger.fold.intervals import Intervals
from ledger.fold.plan import Plan
from ledger.fold.state import Batch, Family, Group, State, Token


def dump(state: State) -> dict[str, object]:
    """Every field of the state; tokens, groups, batches and families in full once, and by name where others hold them."""
    found: dict[str, object] = {}
    for name, value in vars(state).items():
        found[name] = {key: _whole(one) for key, one in value.items()} if isinstance(value, dict) else _plain(value)
    return found


def _whole(value: object) -> object:
    if isinstance(value, Token):
        return {field: _plain(getattr(value, field)) for field in value.__struct_fields__}
    if isinstance(value, (Group, Batch, Family)):
        return {field: _plain(getattr(value, field)) for field in value.__slots__}
    return _plain(value)


def _plain(value: object) -> object:
    if isinstance(value, (Token, Group)):
        return value.id
    if isinstance(value, Family):
        return value.key
    if isinstance(value, Batch):
        return f"{value.node.id}@{value.number}"
    if isinstance(value, Plan):
        return msgspec.to_builtins(value.graph)
    if isinstance(value, Intervals):
        return list(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, deque)):
        return _list(value)
    return msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value


def _list(values: Iterable[object]) -> list[object]:
    return [_plain(value) for value in values]
