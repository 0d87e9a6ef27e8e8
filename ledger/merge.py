"""The merges: what row a coalesce makes of the rows that arrived. Pure, so that law C6 can recompute it.

Invariants:
- `union` goes through the branches in *declared* order, whatever the order of arrival.
- A collision is one field with *different* values; equality is that of JSON, so `1`, `1.0` and `true` all differ.
- `select` never falls back to another branch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ledger.graph import CoalesceRule

Row = Mapping[str, object]

_SCALARS = (str, int, float, bool, type(None))
_canonical = msgspec.json.Encoder(order="deterministic").encode


class Merged(NamedTuple):
    """`row` is None when the collision policy is `fail` and a field collided.

    `collisions` maps a field to the branches that carry it, the winner last (declared order when there is none);
    `values` keeps each colliding value with its branch.
    """

    row: dict[str, object] | None
    collisions: dict[str, tuple[str, ...]]
    values: dict[str, dict[str, object]]


def merge(rule: CoalesceRule, rows: Mapping[str, Row], parent: Row | None = None) -> Merged:
    """Apply the rule's strategy to `rows` (branch to row; ordinal to row for a gather, with the expanded `parent`)."""
    match rule.merge:
        case "union":
            return _union(rule, {branch: rows[branch] for branch in rule.branches if branch in rows})
        case "nested":
            return Merged({branch: rows[branch] for branch in rule.branches if branch in rows}, {}, {})
        case "select":
            return Merged(dict(rows[selected(rule, rows)]), {}, {})
        case "list":
            return Merged({**(parent or {}), rule.into: [rows[branch] for branch in _in_order(rule, rows)]}, {}, {})


def _in_order(rule: CoalesceRule, rows: Mapping[str, Row]) -> list[str]:
    """Ordinals by number, branches as declared: never by arrival."""
    return [branch for branch in rule.branches if branch in rows] if rule.branches else sorted(rows, key=int)


def selected(rule: CoalesceRule, arrived: Mapping[str, object]) -> str:
    """The branch that `select` takes: under `first` the one that arrived. Raises KeyError when it has not arrived."""
    if rule.policy == "first" and len(arrived) == 1:
        return next(iter(arrived))
    if rule.select_branch is None or rule.select_branch not in arrived:
        raise KeyError(rule.select_branch)
    return rule.select_branch


def _union(rule: CoalesceRule, rows: Mapping[str, Row]) -> Merged:
    merged: dict[str, object] = {}
    collided: list[str] = []
    for row in rows.values():
        for field, value in row.items():
            if field not in merged:
                merged[field] = value
                continue
            if not same(merged[field], value):
                collided.append(field)
                if rule.collision == "last_wins":
                    merged[field] = value
    if not collided:
        return Merged(merged, {}, {})
    names = list(dict.fromkeys(collided))
    collisions = {field: _winner_last(rule, field, [branch for branch, row in rows.items() if field in row])
                  for field in names}
    values = {field: {branch: rows[branch][field] for branch in branches} for field, branches in collisions.items()}
    return Merged(None if rule.collision == "fail" else merged, collisions, values)


def _winner_last(rule: CoalesceRule, field: str, branches: Sequence[str]) -> tuple[str, ...]:
    if rule.collision == "first_wins":
        return (*branches[1:], branches[0])
    return tuple(branches)


def same(one: object, other: object) -> bool:
    """Equality of JSON values: the same type and value, through nested values too."""
    if one is other:
        return True
    if type(one) is not type(other) and (isinstance(one, _SCALARS) or isinstance(other, _SCALARS)):
        return False
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, _SCALARS):
        return one == other
    return _canonical(one) == _canonical(other)
