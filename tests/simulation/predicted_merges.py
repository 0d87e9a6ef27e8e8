"""What row a coalesce makes, by the contract (section 5) alone, and how two JSON values are told apart.

Invariant: imports nothing of the engine, and nothing of the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tests.simulation.predicted_plan import Join, Row

Collisions = dict[str, tuple[str, ...]]

row_key = msgspec.json.Encoder(order="sorted").encode
"""A JSON value as bytes that equal those of an equal one, whatever the order of its fields."""


def merged_row(join: Join, rows: Mapping[str, Row], parent: Row | None) -> tuple[dict[str, Any] | None, Collisions]:
    """The merged row (None: a collision that may not be) and the fields that collided, each with its branches, the winner
    last. `rows` are those that arrived, in declared order."""
    if join.gathers:
        return {**(parent or {}), join.into: [*rows.values()]}, {}
    if join.merge == "nested":
        return dict(rows), {}
    if join.merge == "select":
        return dict(rows[join.select] if join.policy != "first" else next(iter(rows.values()))), {}
    return _union(join, rows)


def _union(join: Join, rows: Mapping[str, Row]) -> tuple[dict[str, Any] | None, Collisions]:
    merged: dict[str, Any] = {}
    carriers: dict[str, list[str]] = {}
    for branch, row in rows.items():
        for field, value in row.items():
            carriers.setdefault(field, []).append(branch)
            if field not in merged or join.collision == "last_wins":
                merged[field] = value
    collisions: Collisions = {}
    for field, branches in carriers.items():
        if len({row_key(rows[branch][field]) for branch in branches}) > 1:
            first, rest = branches[0], branches[1:]
            collisions[field] = (*rest, first) if join.collision == "first_wins" else (first, *rest)
    return (None if collisions and join.collision == "fail" else merged), collisions
