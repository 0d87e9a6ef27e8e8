"""The laws by name, and what a fault against one looks like.

Why: a verdict has to name the law, the place and the token, in the same words wherever it is found: live, in `replay`,
in `verify`, at the seal.

Invariant: `LAWS` lists every law that a check in this package may name; a test holds each to a broken log.
"""

from __future__ import annotations

from msgspec import Struct

from ledger.errors import LedgerBroken

LAWS: dict[str, str] = {
    "L1": "seq per run is 1..n without a gap",
    "L2": "one RunStarted, first; at most one RunSealed, last",
    "L3": "epochs never fall, and only a claim raises one",
    "L4": "every reference points to an earlier event or to the graph",
    "L5": "every event decodes at its version and encodes to the same bytes",
    "L6": "index columns equal the body",
    "L7": "at and active_ms never fall",
    "T1": "exactly one terminal outcome per token",
    "T2": "nothing happens to a token after its end",
    "T3": "each source row has exactly one root",
    "T4": "a root has exactly one step-0 state; no other token has one",
    "T5": "tokens form a DAG, parents first",
    "T6": "leaves end in leaf outcomes, inner tokens in forked, expanded, coalesced or consumed_in_batch",
    "T7": "mass is conserved",
    "T8": "a forked token has exactly the configured branches",
    "T9": "a token's path is one of the graph's, with rising step indices",
    "T10": "attempts count from 1 to their limit and only the last succeeds; each started one ends",
    "C1": "coalesced tokens share a join group with one merged token, whose parents are exactly they",
    "C2": "at most one resolution per group; none open at the seal",
    "C3": "arrived, lost and missing branches are disjoint and together the expected ones",
    "C4": "a resolution is what the policy says for the log's order; a timeout only when active_ms says so",
    "C5": "a failed group fails each arrived token and names lost and missing",
    "C6": "merged data is the strategy applied to the arrived",
    "C7": "batches partition the tokens that arrived; the trigger is true; every output names its parents",
    "R1": "a DIVERT routing event if and only if the token left by a divert edge; a discard leaves a reason and none",
    "R2": "every routing event uses an edge of the graph from the node that holds the state",
    "R3": "confirmed at a sink if and only if in exactly one confirmed write",
    "R4": "a file sink, read again, equals its confirmed writes",
    "R5": "rows read = RowRead events = source cursor",
}


class Finding(Struct, frozen=True, kw_only=True):
    """One fault found by checking."""

    law: str
    run: str
    seq: int
    token: str | None
    expected: str
    found: str

    def __str__(self) -> str:
        token = f" token {self.token}" if self.token else ""
        return f"{self.law} at run {self.run} seq {self.seq}{token}: expected {self.expected}; found {self.found}"


class LawBroken(LedgerBroken):
    """An event that the law does not allow; raised before anything is stored, or by a replay at the first offence."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(
            "LAW_BROKEN",
            f"{finding.law} ({LAWS[finding.law]}): expected {finding.expected}; found {finding.found}",
            where=f"run {finding.run} seq {finding.seq}" + (f" token {finding.token}" if finding.token else ""),
            next_step="replay the run for the verdict",
        )
        self.finding = finding
