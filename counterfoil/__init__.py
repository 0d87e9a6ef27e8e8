"""counterfoil: row pipelines whose every token leaves a counterfoil, and the ledger that keeps them.

The public Python API; everything else may change.
"""

from __future__ import annotations

from counterfoil.api import Verified, explain, rebuild, replay, run, verify
from counterfoil.ledgers import Ledger
from engine.plugin_api import RetryableError, RowError, effect, transform
from engine.run import Receipt
from ledger.errors import CounterfoilError
from ledger.replay import Verdict

__all__ = [
    "CounterfoilError",
    "Ledger",
    "Receipt",
    "RetryableError",
    "RowError",
    "Verdict",
    "Verified",
    "effect",
    "explain",
    "rebuild",
    "replay",
    "run",
    "transform",
    "verify",
]
