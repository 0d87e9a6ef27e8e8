"""The example's own plugin: what an order's priced items come to, beside the total that the order states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from counterfoil import transform


@transform
def reconcile(row: Mapping[str, Any]) -> dict[str, object]:
    """The order with the sum of its lines, the difference from its stated total, and how many items have no price."""
    lines = row["lines"]
    priced_cents = sum(line["cents"] for line in lines)
    return {
        "order": row["order"],
        "region": row["region"],
        "total_cents": row["total_cents"],
        "priced_cents": priced_cents,
        "difference_cents": row["total_cents"] - priced_cents,
        "unpriced_items": len(row["items"]) - len(lines),
        "lines": lines,
    }
