"""What the oracle knows of a run while it goes: tokens, groups, batches, and what is owed next.

Invariant: plain data; imports nothing of the engine, and nothing of the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.kit.oracle import Decision, Table
from tests.simulation.predicted_plan import Batch, Join


class Frame(NamedTuple):
    """One level of a lineage: `token` was forked, or expanded, and `join` ("": none) gathers its branches."""

    token: str
    join: str
    branch: str

    @property
    def group(self) -> str:
        """The group that waits for the branch."""
        return f"{self.token}+{self.join}"


@dataclass(eq=False, slots=True)
class Token:
    """`state`: ready, started, held, buffered, writing, failed (a divert is owed), ended."""

    id: str
    row: dict[str, Any]
    frames: tuple[Frame, ...]
    node: str
    via: str = "normal"
    state: str = "ready"
    failures: int = 0
    deaths: int = 0
    due_ms: int = 0
    outcome: str | None = None
    reason: str = ""
    sink: str = ""


@dataclass(eq=False, slots=True)
class Group:
    """One group of a coalesce. `below` are the frames that the merged token keeps."""

    id: str
    join: Join
    table: Table
    below: tuple[Frame, ...]
    parent: dict[str, Any] | None = None
    arrived: dict[str, Token] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    closed: Decision | None = None
    collisions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    opened_ms: int = 0
    offsets: list[int] = field(default_factory=list)

    @property
    def token(self) -> str:
        """The token that was forked or expanded."""
        return self.id.rpartition("+")[0]


@dataclass(eq=False, slots=True)
class Members:
    """The open batch of an aggregation."""

    node: Batch
    number: int
    members: list[Token] = field(default_factory=list)
    failures: int = 0
    deaths: int = 0
    begun: bool = False
    trigger: str | None = None
    opened_ms: int = 0
    due_ms: int = 0

    @property
    def id(self) -> str:
        """`aggregation@number`."""
        return f"{self.node.name}@{self.number}"

    @property
    def attempt(self) -> str:
        """The attempt that runs or comes next, by its number."""
        return f"{self.id} #{self.failures + self.deaths + 1}"


class Divert(NamedTuple):
    """A token has to leave the normal path."""

    token: Token
    kind: str
    node: str
    to: str
    code: str


class Loss(NamedTuple):
    """The group ahead of a token has to hear that it will never come."""

    token: Token
    cause: str
    node: str
    code: str | None


class Resolve(NamedTuple):
    """A group has to be decided."""

    group: Group
    decision: Decision


Owed = Divert | Loss | Resolve
