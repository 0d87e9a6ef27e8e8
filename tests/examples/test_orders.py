"""The orders keep what they promise, priced by a real server that is busy, hangs up and no longer sells everything."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from examples.orders import make_orders
from examples.orders.books import reconcile
from examples.orders.prices import BUSY_AT_FIRST, CENTS, CUT_AT_FIRST
from tests.examples.finished import Finished, expected, prepare, sinks
from tests.examples.tallies import EITHER, SOUND, asked, deeply_sound, tallies
from tests.house.tree import ROOT

PRICES = [sys.executable, str(ROOT / "examples/orders/prices.py")]
SECONDS_MAX = 60
INPUT = [json.loads(line) for line in (ROOT / "examples/orders/orders.jsonl").read_text(encoding="utf-8").splitlines()]
READABLE = [order for order in INPUT if isinstance(order["items"], list)]
ITEMS = [item for order in READABLE for item in order["items"]]
SOLD = [order for order in READABLE if any(item["sku"] in CENTS for item in order["items"])]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run for all that is asked of it, started as the README says."""
    folder = tmp_path_factory.mktemp("orders")
    ledger = prepare("orders", folder)
    command = ["counterfoil", "run", "examples/orders/pipeline.yaml", "--run-id", "orders", "--ledger", ledger, "-o", "json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COUNTERFOIL_HOME": str(folder / "home")}
    ran = subprocess.run([*PRICES, sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True,
                         text=True, timeout=SECONDS_MAX, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return Finished(json.loads(ran.stdout), sinks("orders", folder), ledger)


def test_the_orders_end_as_promised(finished: Finished) -> None:
    """C1, C3: items priced side by side come together again; an order goes on without those that have no price."""
    assert {**finished.counts(), **tallies(finished)} == expected("orders")


def test_the_run_of_the_orders_replays_deep_and_verifies(finished: Finished) -> None:
    """F4, law C6, law C7: the log alone makes every merge again, and says whose money is in which sum."""
    assert deeply_sound(finished) == SOUND


def test_the_promise_is_what_a_plain_count_of_the_input_gives() -> None:
    """The expected counts come from the input, the price table and the rules, not from a run."""
    promised = expected("orders")
    skus = Counter(item["sku"] for item in ITEMS)
    priced = sum(skus[sku] for sku in CENTS)
    whole = [order for order in SOLD if all(item["sku"] in CENTS for item in order["items"])]
    settled = [order for order in SOLD if adds_up(order)]
    regions = len({order["region"] for order in settled})
    assert promised["sinks"] == {
        "settled": len(settled), "disputed": len(SOLD) - len(settled), "revenue": regions,
        "unpriced": len(ITEMS) - priced, "unreadable": len(INPUT) - len(READABLE),
    }  # fmt: skip
    assert promised["groups"] == {"merged": {"all_arrived": len(whole), EITHER: len(SOLD) - len(whole)},
                                  "failed": {"branch_lost": len(READABLE) - len(SOLD)}}
    assert promised["batches"] == [["by_region", "end_of_source", len(settled), regions]]
    assert promised["calls"]["http"] == {"200": priced, "404": len(ITEMS) - priced, "503": skus[BUSY_AT_FIRST],
                                         "ConnectionError": skus[CUT_AT_FIRST]}
    assert promised["tokens"] == len(INPUT) + len(ITEMS) + len(SOLD) + 2 * len(settled) + regions


def test_the_revenue_of_each_region_is_that_of_its_settled_orders(finished: Finished) -> None:
    """G11, law C7: each sum has the orders of its region as its parents, and no others."""
    settled = [order for order in SOLD if adds_up(order)]
    sums = Counter({order["region"]: 0 for order in settled})
    for order in settled:
        sums[order["region"]] += order["total_cents"]
    assert {row["region"]: int(row["sum"]) for row in finished.sinks["revenue"]} == dict(sums)
    parents = asked(finished, "SELECT count(*) AS orders FROM token_parents WHERE token_id LIKE 'by_region@1:%' "
                              "GROUP BY token_id ORDER BY 1")
    assert [row["orders"] for row in parents] == sorted(Counter(order["region"] for order in settled).values())


def test_a_dispute_says_what_has_no_price_and_what_does_not_add_up(finished: Finished) -> None:
    """C3: what the lost items came to is missing from the sum, in the order of the items."""
    disputed = {row["order"]: row for row in finished.sinks["disputed"]}
    promised = {order["order"]: reconciled(order) for order in SOLD if not adds_up(order)}
    assert disputed == promised
    assert {(row["unpriced_items"] == 0, row["difference_cents"] == 0) for row in promised.values()} == {
        (True, False), (False, True), (False, False)}  # fmt: skip


def test_a_call_that_was_cut_off_is_told_beside_the_one_that_was_answered(finished: Finished) -> None:
    """E1: both attempts are on record under one intent each, and the address from the environment is in neither."""
    row = next(n for n, order in enumerate(INPUT) for item in order["items"] if item["sku"] == CUT_AT_FIRST)
    place = [item["sku"] for item in INPUT[row]["items"]].index(CUT_AT_FIRST)
    calls = finished.ask("explain", "orders", f"{row}:{place}")["calls"]
    assert [call["status"] for call in calls] == ["ConnectionError", "200"]
    assert {call["request"]["url"] for call in calls} == {f"***/prices/{CUT_AT_FIRST}"}


def test_the_orders_can_be_made_again() -> None:
    """The committed input is the generator's."""
    assert make_orders.orders(random.Random(make_orders.SEED)) == INPUT


# --- the server ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "code"), [
    ([sys.executable, "-c", "import os; raise SystemExit(os.environ['PRICES_URL'].startswith('http://127.0.0.1:') + 6)"], 7),
    ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], 128 + 9),
    (["./no_such_command"], 127),
    ([], 2),
])  # fmt: skip
def test_the_server_ends_with_the_code_of_its_command(command: list[str], code: int, tmp_path: Path) -> None:
    """What a script asks of a run it can ask through the server as well."""
    ran = subprocess.run([*PRICES, *command], cwd=tmp_path, capture_output=True, timeout=SECONDS_MAX, check=False)
    assert ran.returncode == code


@pytest.mark.parametrize("number", [int(signal.SIGINT), int(signal.SIGTERM)])
def test_a_signal_to_the_server_goes_to_its_command(number: int) -> None:
    """So that a run that is stopped finishes what is in hand, with its server still there."""
    waiting = f"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [{number}]); print('ready', flush=True); " \
              f"raise SystemExit(signal.sigtimedwait([{number}], {SECONDS_MAX / 2}) and 40 + {number})"
    with subprocess.Popen([*PRICES, sys.executable, "-c", waiting], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(SECONDS_MAX) == 40 + number


# --- the rules, once more --------------------------------------------------------------------------------------------


def reconciled(order: dict[str, Any]) -> dict[str, object]:
    """What the books say of an order whose items were asked for one by one."""
    lines = [{**item, "cents": CENTS[item["sku"]] * item["quantity"]} for item in order["items"] if item["sku"] in CENTS]
    return reconcile({**order, "lines": lines})


def adds_up(order: dict[str, Any]) -> bool:
    """Whether every item has a price and together they come to the stated total."""
    row = reconciled(order)
    return (row["difference_cents"], row["unpriced_items"]) == (0, 0)
