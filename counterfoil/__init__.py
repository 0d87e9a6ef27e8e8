"""counterfoil: row pipelines whose every token leaves a counterfoil, and the ledger that keeps them.

The public Python API; everything else may change.
"""

from __future__ import annotations

from counterfoil.api import Verified, explain, rebuild, replay, run, verify
from counterfoil.carrying_on import abandon, resume
from counterfoil.ledgers import Ledger
from engine.attempts import Attempt
from engine.plugin_api import (
    BatchResult,
    Claim,
    Derived,
    Piece,
    Prepared,
    Refusal,
    Rejected,
    RetryableError,
    RowError,
    RowFault,
    Sink,
    Source,
    SourceIdentity,
    SourceRow,
    Written,
    aggregation,
    effect,
    transform,
)
from engine.run import Receipt
from ledger.errors import CounterfoilError
from ledger.replay import Verdict

__all__ = [
    "Attempt",
    "BatchResult",
    "Claim",
    "CounterfoilError",
    "Derived",
    "Ledger",
    "Piece",
    "Prepared",
    "Receipt",
    "Refusal",
    "Rejected",
    "RetryableError",
    "RowError",
    "RowFault",
    "Sink",
    "Source",
    "SourceIdentity",
    "SourceRow",
    "Verdict",
    "Verified",
    "Written",
    "abandon",
    "aggregation",
    "effect",
    "explain",
    "rebuild",
    "replay",
    "resume",
    "run",
    "transform",
    "verify",
]
