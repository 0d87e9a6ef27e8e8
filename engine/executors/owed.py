"""What the fold owes, said: the one place where diverts and losses become events (E1, E9)."""

from __future__ import annotations

from ledger import ids
from ledger.events import BranchLost, Diverted
from ledger.fold.state import OwedDivert, OwedLoss


def divert(owed: OwedDivert) -> Diverted:
    """The token leaves the normal path, by an edge or discarded, with its code and its reason."""
    return Diverted(token=owed.token.id, kind=owed.kind, node=owed.node, edge=owed.edge, to=owed.to, code=owed.code,
                    reason=owed.reason)


def lose(owed: OwedLoss) -> BranchLost:
    """The group ahead hears that this branch will never arrive."""
    frame = owed.frames[-1]
    coalesce = frame.join or ""
    return BranchLost(token=owed.token, coalesce=coalesce, group=ids.merged_token(frame.token, coalesce),
                      branch=frame.branch, cause=owed.cause, node=owed.node, code=owed.code)
