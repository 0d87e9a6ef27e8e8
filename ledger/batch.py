"""The rules that say when a batch is due: pure, used alike by live runs, resume and replay.

Why here: the trigger of a flush is part of the record, and law C7 holds it to be true.

| trigger         | the batch is due                                                             |
|-----------------|------------------------------------------------------------------------------|
| `count`         | when its member number `count` has come                                      |
| `condition`     | when its condition answers True, looked at with each member and while it waits|
| `timeout`       | `timeout_ms` of run time after its first member, on an idle run too          |
| `end_of_source` | when the source has ended and everything before the aggregation is done      |
| `abandoned`     | when the run is given up                                                     |

The first wins. Where one member brings both, `count` is named. A condition that raises does not hold.
"""

from __future__ import annotations

from collections.abc import Callable

from ledger.events.header import BatchTrigger
from ledger.expressions import compile_expression
from ledger.graph import BatchRule

NAMES = ("batch_count", "batch_age_seconds")
"""What a condition sees: how many members there are, and the run time since the first one came."""

Condition = Callable[[int, int], bool]


def condition_of(text: str) -> Condition:
    """A condition's text as a function of (members, age in ms). Raises `ExpressionInvalid`."""
    expression = compile_expression(text, NAMES)

    def holds(members: int, age_ms: int) -> bool:
        try:
            return expression(members, age_ms / 1000) is True
        except (ArithmeticError, LookupError, TypeError, ValueError):
            return False

    return holds


def due(rule: BatchRule, condition: Condition | None, members: int, age_ms: int) -> BatchTrigger | None:
    """What makes a batch due now, its timer and the end of the source aside; None to go on waiting."""
    if rule.count is not None and members >= rule.count:
        return "count"
    if condition is not None and condition(members, age_ms):
        return "condition"
    return None
