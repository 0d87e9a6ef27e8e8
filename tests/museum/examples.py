"""Examples of an event, the same ones each time: every field in each of the forms that its type allows.

Why so: a body in which an optional field stands, and one in which it does not, are read by different ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from ledger import events as e
from ledger.events.header import Count

AT = 1_790_000_000_000_000


def of_kind(kind: type[e.Event], version: int) -> list[e.Event]:
    """Stamped events of one class: one in full, one as bare as can be, and one more for each other form of a field."""
    header: dict[str, Any] = {"run": "example", "epoch": 1, "v": version, "at": AT, "active_ms": 0}
    own = [field for field in kind.__struct_fields__ if field not in e.Event.__struct_fields__]
    return [kind(**header, seq=seq, **values) for seq, values in enumerate(_values(kind, own), start=1)]


def _values(kind: Any, names: list[str] | tuple[str, ...]) -> Iterator[dict[str, Any]]:
    hints = get_type_hints(kind, include_extras=True)
    forms = {name: list(_forms(hints[name], name)) for name in names}
    full, bare = ({name: of[place] for name, of in forms.items()} for place in (0, -1))
    defaults = {field.name: field.default for field in msgspec.structs.fields(kind)
                if field.name in forms and field.default is not msgspec.NODEFAULT}
    found = [full, bare, {**bare, **defaults}, *({**bare, name: one} for name, of in forms.items() for one in of)]
    yield from (values for place, values in enumerate(found) if values not in found[:place])


def _forms(kind: Any, name: str) -> Iterator[Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is bool:
        yield from (True, False)
    elif kind in (int, Count):
        yield len(name)
    elif kind is str:
        yield name
    elif kind is NoneType:
        yield None
    elif origin is Literal:
        yield from arguments
    elif origin in (Union, UnionType):
        for one in arguments:
            yield from _forms(one, name)
    elif origin is tuple:
        yield tuple(_forms(arguments[0], name))
        yield ()
    elif origin is dict:
        yield {f"{name}_{place}": value for place in "ab" for value in list(_forms(arguments[1], name))[:1]}
        yield {}
    elif kind is e.Commitment:
        yield e.Commitment(len(name), "0123456789abcdef" * 4)
    else:
        yield from (kind(**values) for values in _values(kind, kind.__struct_fields__))
