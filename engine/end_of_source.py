"""The end of the source: what is still open is decided, node by node in topological order (D6).

Invariant: so many groups at a time as rows in a commit, so that memory stays bounded and a stop is heard.
"""

from __future__ import annotations

from engine.desk import Desk
from engine.open_batches import Aggregations
from engine.wary import ROWS_PER_COMMIT
from ledger import coalesce as rules
from ledger.fold.state import Group


class EndOfSource:
    """Flushes the groups and batches of a desk."""

    def __init__(self, desk: Desk, aggregations: Aggregations) -> None:
        self._desk = desk
        self._aggregations = aggregations
        self._closing: list[Group] = []

    def flush_next(self) -> bool:
        """Decide the batch, or some open groups, of the first node that has any; False when none has."""
        if not self._closing:
            state = self._desk.state
            groups = [group for group in state.groups.values() if group.status == "open"]
            batch = min(state.batches.values(), key=lambda batch: batch.node.step, default=None)
            step = min((group.node.step for group in groups), default=None)
            if batch is not None and (step is None or batch.node.step < step):
                self._aggregations.flush(batch, "end_of_source")
                return True
            if step is None:
                return False
            self._closing = [group for group in reversed(groups) if group.node.step == step]
        for _ in range(min(len(self._closing), ROWS_PER_COMMIT)):
            group = self._closing.pop()
            if group.status == "open":
                self._desk.close(group, rules.Cause.END_OF_SOURCE)
        return True
