"""Makes `orders.jsonl`: synthetic orders, the same ones each time; some state a total that their items do not come to.

Why invented: the example shows what becomes of orders and items. No shop, customer or price is real.

Usage: python -m examples.orders.make_orders > examples/orders/orders.jsonl
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence

from examples.orders.prices import CENTS

SEED = 20130207
ORDERS = 60
FIRST = 1001
ITEMS_MAX = 6
REGIONS = ("coast", "hills", "plain")
DISCONTINUED = "lard"
CENTS_ONCE = 230
"""What the discontinued article cost; customers still count with it."""

Item = dict[str, object]


def orders(chance: random.Random) -> list[dict[str, object]]:
    """`ORDERS` orders; the last three: one counts a discontinued item as nothing, one has no other, one is on paper."""
    gone: Item = {"sku": DISCONTINUED, "quantity": 3}
    made = [_order(FIRST + number, _items(chance), chance) for number in range(ORDERS - 3)]
    both: list[Item] = [{"sku": "bread", "quantity": 2}, gone]
    made.append({**_order(FIRST + ORDERS - 3, both, chance), "total_cents": 2 * CENTS["bread"]})
    made.append(_order(FIRST + ORDERS - 2, [gone], chance))
    made.append({**_order(FIRST + ORDERS - 1, [], chance), "items": "see the paper enclosed"})
    return made


def _items(chance: random.Random) -> list[Item]:
    articles = [*CENTS, DISCONTINUED]
    skus = chance.sample(articles, chance.randint(1, ITEMS_MAX))
    return [{"sku": sku, "quantity": chance.randint(1, 5)} for sku in skus]


def _order(number: int, items: Sequence[Item], chance: random.Random) -> dict[str, object]:
    """An order whose customer is right about the total, eleven times out of twelve."""
    cents = {**CENTS, DISCONTINUED: CENTS_ONCE}
    total = sum(cents[str(item["sku"])] * int(str(item["quantity"])) for item in items)
    wrong = chance.choice((-100, 45, 300)) if chance.random() < 1 / 12 else 0
    return {"order": number, "region": chance.choice(REGIONS), "total_cents": total + wrong, "items": items}


def main() -> None:
    """Print the file."""
    for order in orders(random.Random(SEED)):
        sys.stdout.write(json.dumps(order) + "\n")


if __name__ == "__main__":
    main()
