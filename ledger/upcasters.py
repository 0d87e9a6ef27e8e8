"""Upcasters: how an event that was stored in an earlier shape is read in today's.

Why: events once written are never rewritten. A type whose shape changes gets the next version and one upcaster, from the
version before to it; a type that is retired or renamed gets one to what says the same today. Whatever was ever stored is
read along its one path of upcasters, and nothing behind the codec knows of it.

An upcaster is a pure function of an event's own fields, as decoded JSON: names, texts, numbers, lists. The header stays as
it is. What is written down in `lists` does the same for the long lists that stand in payloads. Every rule for them is in
docs/events.md.

Invariants: `UPCASTERS` holds all of them and is complete: exactly one path leads from every version that was ever written to
one that is written now. It is checked (`ledger.upcaster_graph`) before the first earlier event of a process is read; a run
that meets none pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from math import inf
from typing import Any, NamedTuple

from ledger.errors import LedgerBroken
from ledger.versions import VERSIONS

Kind = tuple[str, int]
"""A stored type and its version."""

Fields = dict[str, Any]
"""An event's own fields as decoded JSON."""

_NO_LISTS: Mapping[str, Callable[[Any], Any]] = {}


class Upcaster(NamedTuple):
    """One step: from `of`, which was stored once, to `to`, the next version or what took the type's place.

    `edition` is raised with every change of what the functions make, so that read tables made by an earlier one are made
    again. `lists` has a function for each list in a payload (by its field's name today) whose shape changed too. `token`
    is the field that the index column `token` was made of, where it was neither `token` nor `group`.
    """

    of: Kind
    to: Kind
    fields: Callable[[Fields], Fields]
    edition: int = 1
    lists: Mapping[str, Callable[[Any], Any]] = _NO_LISTS
    token: str | None = None


class Upcasters:
    """All upcasters, over the versions that are written now."""

    def __init__(self, table: Sequence[Upcaster], versions: Mapping[str, int]) -> None:
        self.table = tuple(table)
        self.versions = versions

    @property
    def fingerprint(self) -> str:
        """Another one whenever what is read of an earlier event may be another."""
        return ";".join(f"{one.of[0]}.{one.of[1]}>{one.to[0]}.{one.to[1]}#{one.edition}" for one in sorted(self.table))

    def path(self, kind: Kind) -> tuple[Upcaster, ...] | None:
        """The steps from a stored kind to a current one: none for a current one, None where no path leads.

        Raises `LedgerBroken` (UPCASTERS_INVALID) when the table is not what it has to be.
        """
        if self.versions.get(kind[0]) == kind[1]:
            return ()
        return self._paths.get(kind)

    def becomes(self, kind: Kind) -> str | None:
        """The type as which a stored kind is read today, None where no path leads."""
        path = self.path(kind)
        return None if path is None else path[-1].to[0] if path else kind[0]

    def uncovered(self, kinds: Iterable[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
        """Of the kinds that a store holds (type, version, number of events), those that cannot be read."""
        return sorted((one for one in kinds if self.path((one[0], one[1])) is None), key=_place_of)

    @cached_property
    def _paths(self) -> dict[Kind, tuple[Upcaster, ...]]:
        from ledger.upcaster_graph import flaws

        found = flaws([(one.of, one.to) for one in self.table], self.versions)
        if found:
            raise LedgerBroken("UPCASTERS_INVALID", f"expected one path to a current version, found {found[0]}",
                               where="ledger.upcasters", next_step="this is a defect: mend the table")
        steps = {one.of: one for one in self.table}
        return {kind: _path(steps, kind) for kind in steps}


def _place_of(kind: tuple[object, object, int]) -> tuple[str, float, str]:
    """Where a stored kind stands in a list: by its type, then by its version; what is no number comes last."""
    type_, version, _ = kind
    return str(type_), version if isinstance(version, int | float) else inf, repr(version)


def _path(steps: Mapping[Kind, Upcaster], kind: Kind) -> tuple[Upcaster, ...]:
    step = steps.get(kind)
    return () if step is None else (step, *_path(steps, step.to))


def _run_started_2(fields: Fields) -> Fields:
    """Since version 2 a run says by what it was written."""
    return {**fields, "program": ""}


UPCASTERS = Upcasters((
    Upcaster(("RunStarted", 1), ("RunStarted", 2), _run_started_2),
), VERSIONS)  # fmt: skip
"""What production knows: the one table."""

FINGERPRINT = UPCASTERS.fingerprint
