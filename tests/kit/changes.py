"""One change of each kind that events can undergo, as if it had been made just now: the shape before, and its upcasters.

Every change here loses nothing, so that what is told of a log in the old shape has to be what is told of it in today's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ledger.upcasters import Fields
from tests.kit.aged import Change, change


class Tried(NamedTuple):
    """A change, and the small run in which the events occur that it is about."""

    change: Change
    run: str


def _with(fields: Fields, **others: Any) -> Fields:
    return {**fields, **others}


def _without(fields: Fields, *names: str) -> Fields:
    return {name: value for name, value in fields.items() if name not in names}


def _renamed(fields: Fields, **names: str) -> Fields:
    return {names.get(name, name): value for name, value in fields.items()}


def _why(fields: Fields) -> Fields:
    parts = [fields["cause"], fields["node"], *([fields["code"]] if "code" in fields else [])]
    return _with(_without(fields, "cause", "node", "code"), why=":".join(parts))


def _parts(fields: Fields) -> Fields:
    cause, node, *code = fields["why"].split(":")
    return _with(_without(fields, "why"), cause=cause, node=node, **({"code": code[0]} if code else {}))


def _retried(fields: Fields) -> Fields | None:
    return _without(fields, "retry") if fields["retry"] else None


def _same(fields: Fields) -> Fields:
    return fields


CHANGES: Mapping[str, Tried] = {
    "field added": Tried(change((
        ("RowRead", 0), ("RowRead", 1), lambda fields: _without(fields, "valid"),
        lambda fields: _with(fields, valid="code" not in fields),
    )), "troubled"),
    "field renamed": Tried(change((
        ("StepCompleted", 0), ("StepCompleted", 1), lambda fields: _renamed(fields, node="step", token="carrier"),
        lambda fields: _renamed(fields, step="node", carrier="token"),
    ), token="carrier"), "crossed"),
    "field split": Tried(change((
        ("BranchLost", 0), ("BranchLost", 1), _why, _parts,
    )), "require_all"),
    "meaning changed": Tried(change((
        ("StepCompleted", 0), ("StepCompleted", 1),
        lambda fields: _with(fields, duration_us=fields["duration_us"] // 1000),
        lambda fields: _with(fields, duration_us=fields["duration_us"] * 1000),
    ), (
        ("TokenBuffered", 0), ("TokenBuffered", 1), lambda fields: _with(fields, ordinal=fields["ordinal"] + 1),
        lambda fields: _with(fields, ordinal=fields["ordinal"] - 1),
    )), "batch_count"),
    "type retired": Tried(change((
        ("StepRetried", 1), ("StepFailed", 1), _retried, lambda fields: _with(fields, retry=True),
    )), "asked_again"),
    "types renamed": Tried(change(
        (("SinkWritten", 1), ("SinkWriteConfirmed", 1), _same, _same),
        (("SinkMeant", 1), ("SinkWriteIntended", 1), _same, _same),
        (("RunFinished", 1), ("RunSealed", 1), _same, _same),
        (("RunEnded", 1), ("RunClosed", 1), lambda fields: _renamed(fields, closed="ended"),
         lambda fields: _renamed(fields, ended="closed")),
    ), "refusals"),
    "one after the other": Tried(change(
        (("RowRead", 0), ("RowRead", 1), lambda fields: _renamed(fields, position="offset"),
         lambda fields: _renamed(fields, offset="position")),
        (("RowSeen", 2), ("RowRead", 0), lambda fields: _without(fields, "valid"),
         lambda fields: _with(fields, valid="code" not in fields)),
        (("RowSeen", 1), ("RowSeen", 2), lambda fields: _with(fields, offset=fields["offset"] - 1),
         lambda fields: _with(fields, offset=fields["offset"] + 1)),
    ), "gathered"),
}
"""By what has changed."""
