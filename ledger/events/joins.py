"""Coalesce groups: arrivals, losses, merges, failures."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from ledger.events.header import CoalesceTrigger, Commitment, Count, Event, LossCause, Output


class Arrival(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """A branch that arrived, `offset_ms` of run time after its group opened."""

    branch: str
    token: str
    offset_ms: Count


class Loss(Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """A branch that will never arrive, and why: `cause[:node[:code]]`."""

    branch: str
    reason: str


class GroupFacts(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """What was known of a group when it closed. `branches_missing`: neither arrived nor lost."""

    policy: str
    merge_strategy: str
    expected_branches: tuple[str, ...]
    arrival_order: tuple[Arrival, ...]
    branches_lost: tuple[Loss, ...]
    branches_missing: tuple[str, ...]
    wait_duration_ms: Count


class BranchArrived(Event, tag="BranchArrived", frozen=True, kw_only=True):
    """A carrier is held at its coalesce."""

    token: str
    coalesce: str
    group: str
    branch: str


class BranchLost(Event, tag="BranchLost", frozen=True, kw_only=True):
    """A branch will never arrive: `token` was its carrier; what became of it is `cause`, at `node`, with `code`."""

    token: str
    coalesce: str
    group: str
    branch: str
    cause: LossCause
    node: str
    code: str | None = None


class BranchArrivedLate(Event, tag="BranchArrivedLate", frozen=True, kw_only=True):
    """A carrier came after its group closed; the token ends `failed`.

    After a merge it was late (`late_arrival`); after a failure it shares the group's `reason` (G9).
    """

    token: str
    coalesce: str
    group: str
    branch: str
    closed_as: Literal["merged", "failed"]
    reason: str | None = None


class TokensCoalesced(Event, tag="TokensCoalesced", frozen=True, kw_only=True):
    """A group merged: the tokens of `arrival_order` ended, `merged` exists and goes on.

    `collisions` maps a field to the branches whose values differed, the winner last; the values themselves are the
    payload `collided`.
    """

    coalesce: str
    group: str
    merged: str
    trigger: CoalesceTrigger
    facts: GroupFacts | None
    output: Output
    collisions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    collided: Commitment | None = None
    facts_list: Commitment | None = None
    collisions_list: Commitment | None = None


class CoalesceFailed(Event, tag="CoalesceFailed", frozen=True, kw_only=True):
    """A group closed without a merge: each held token (those of `arrival_order`) fails with `reason`."""

    coalesce: str
    group: str
    trigger: CoalesceTrigger
    reason: str
    facts: GroupFacts | None
    collisions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    collided: Commitment | None = None
    facts_list: Commitment | None = None
    collisions_list: Commitment | None = None
