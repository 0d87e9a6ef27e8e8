"""The ledger's own stream: what is true across runs, and what happens after a seal."""

from __future__ import annotations

from typing import Literal

from ledger.events.header import Event


class LedgerCreated(Event, tag="LedgerCreated", frozen=True, kw_only=True):
    """The ledger exists; `ledger` is its random id."""

    ledger: str


class RunOpened(Event, tag="RunOpened", frozen=True, kw_only=True):
    """A run's stream exists."""

    opened: str
    pipeline: str


class RunClosed(Event, tag="RunClosed", frozen=True, kw_only=True):
    """A run was sealed at `size` and `root`: in the transaction of its `RunSealed`, which they include."""

    closed: str
    status: Literal["completed", "failed"]
    size: int
    root: str


class PayloadErased(Event, tag="PayloadErased", frozen=True, kw_only=True):
    """Payloads of a run were removed for good: by whom, why, which."""

    erased: str
    payloads: tuple[int, ...]
    who: str
    why: str


class KeyAdded(Event, tag="KeyAdded", frozen=True, kw_only=True):
    """A signing key may sign from here on."""

    key: str
    public: str


class KeyRetired(Event, tag="KeyRetired", frozen=True, kw_only=True):
    """A signing key must not sign from here on."""

    key: str
    why: str
