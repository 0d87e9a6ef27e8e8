"""Which events there are, under what names they are stored, and the version that is written of each.

Invariants: a name is said in the class and never derived from where it stands; a version is only ever raised, together with
an upcaster (`ledger.upcasters`) from the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from ledger.events import Event, LedgerEvent, RunEvent

RUN_EVENTS: tuple[type[Event], ...] = get_args(RunEvent)
LEDGER_EVENTS: tuple[type[Event], ...] = get_args(LedgerEvent)

TYPE_OF: dict[type[Event], str] = {cls: str(cls.__struct_config__.tag) for cls in (*RUN_EVENTS, *LEDGER_EVENTS)}

RAISED: Mapping[str, int] = {"RunStarted": 2}
"""The types that are no longer at their first version."""

VERSIONS: dict[str, int] = {type_: RAISED.get(type_, 1) for type_ in TYPE_OF.values()}
VERSION_OF: dict[type[Event], int] = {cls: VERSIONS[type_] for cls, type_ in TYPE_OF.items()}
