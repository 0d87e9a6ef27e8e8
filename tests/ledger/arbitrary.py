"""Any event there is, as a hypothesis strategy derived from the types of its fields."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

from ledger import events as e
from ledger.events.header import Count

_INTEGERS = st.integers(-(2**63), 2**63 - 1)
_SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=8), int: _INTEGERS, bool: st.booleans(), NoneType: st.none(),
    Count: st.integers(0, 2**63 - 1),
}


def events(kind: type[e.Event]) -> st.SearchStrategy[e.Event]:
    """Events of one class, header and all."""
    return _struct(kind)


def _struct(kind: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.name: of(hints[field.name]) for field in msgspec.structs.fields(kind)}
    return st.fixed_dictionaries(fields).map(lambda values: kind(**values))


def of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type that a field of an event has."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _SCALARS:
        return _SCALARS[kind]
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, UnionType):
        return st.one_of([of(one) for one in arguments])
    if origin is tuple:
        return st.lists(of(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(of(arguments[0]), of(arguments[1]), max_size=3)
    return _struct(kind)
