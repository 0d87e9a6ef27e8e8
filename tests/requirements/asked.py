"""Every requirement, law and crash window by id, in a phrase, and which of them wait for a later issue."""

from __future__ import annotations

from collections.abc import Mapping

REQUIREMENTS: Mapping[str, str] = {
    "A1": "at end of source a group that cannot merge fails on record, and so does each token it held",
    "A2": "a quorum whose timeout passes unmet is resolved then",
    "A3": "the record names missing branches, lost ones with reasons, the policy, the decision",
    "A4": "`explain` and `replay` show why a coalesce failed",
    "B1": "consumed tokens end `coalesced` with the group's join id; the merged token earns its own outcome",
    "B2": "that holds with any policy and in nested joins",
    "B3": "the parent of a fork ends `forked` in the event that makes its children",
    "C1": "a step may make any number of tokens; when that group is complete the next token is made exactly once",
    "C2": "a run cannot end with a group open",
    "C3": "a member that fails, is filtered or diverted resolves its group by policy",
    "C4": "pre-test, analyse N, synthesise: an example that runs, N from the data, with crashes between steps",
    "C5": "tests drive production code and wait with no loop of their own",
    "D1": "four policies, three merges",
    "D2": "settings refuse what cannot work",
    "D3": "no branch, an unknown coalesce, an unexpected branch: errors that name what was expected",
    "D4": "a token is held until its group resolves",
    "D5": "timeouts follow an injected monotonic clock",
    "D6": "end of source flushes what is pending, by policy",
    "D7": "every merge carries its metadata",
    "D8": "what is pending can be counted and listed at any time",
    "D9": "a crash while tokens are held loses nothing",
    "E1": "every way to fail with a route records a DIVERT at its own state and error edge, in one place of the code",
    "E2": "a discard leaves no routing event, but an outcome and a reason",
    "E3": "a missing error edge is a build-time error",
    "E4": "every source row has one step-0 state; nothing else has",
    "E5": "a quarantined row has a DIVERT event on `__quarantine__` from the source's state",
    "E6": "a discarded source row keeps its row, token, reason and end",
    "E7": "Mermaid dashes divert edges; edge lists carry `mode` and `flow_type`",
    "E8": "building warns of a divert between a fork and its `require_all` coalesce, and only of that",
    "E9": "a branch that will never arrive is told to its group at once, for every cause",
    "E10": "lost branches and reasons are in the merge's metadata and in the failure's",
    "E11": "`explain` marks `flow_type` and gives a `divert_summary`; the MCP server offers the same",
    "F1": "executors only append immutable events",
    "F2": "states, routing and outcomes are built by projections alone",
    "F3": "exactly one terminal state per token is checked during replay, with the first offending event",
    "F4": "a run is replayed from its log",
    "F5": "projections are rebuilt after schema changes",
    "F6": "forensic queries",
    "F7": "built on sqlalchemy, alembic, pydantic, msgspec, networkx",
    "F8": "the rooms stand at the top level",
    "G1": "an impossible quorum does not count arrivals twice",
    "G2": "a loss after the merge opens no ghost group",
    "G3": "`first` with all branches lost resolves",
    "G4": "a duplicate arrival does not overwrite the held token",
    "G5": "a late arrival does not merge again",
    "G6": "groups are keyed by lineage, not by row",
    "G7": "resume makes no new root tokens",
    "G8": "`select` never falls back silently",
    "G9": "a loss before the first arrival names the lost branch",
    "G10": "all branches lost leaves a record at the join",
    "G11": "a batch output has its real parents, never a rejected member",
    "G12": "one bad label or one collision does not stop the run",
    "G13": "after a stop or a kill unread rows are read and finished ones are not redone",
}

LAWS: Mapping[str, str] = {
    "law L1": "seq is 1..n, gapless",
    "law L2": "one `RunStarted`, first; at most one `RunSealed`, last",
    "law L3": "epochs never fall",
    "law L4": "references point to earlier events or to the graph",
    "law L5": "every event decodes at its version and round-trips",
    "law L6": "index columns equal the body",
    "law L7": "`at` and `active_ms` never fall",
    "law T1": "exactly one terminal outcome per token",
    "law T2": "nothing happens to a token after its end",
    "law T3": "each source row has exactly one root",
    "law T4": "a root has exactly one step-0 state, no other token has one",
    "law T5": "tokens form a DAG, parents first",
    "law T6": "leaves and inner tokens end in their own kinds of outcome",
    "law T7": "mass is conserved",
    "law T8": "a forked token has exactly the configured branches",
    "law T9": "a token's path is one of the graph's, with rising steps",
    "law T10": "attempts are 1..k, only the last succeeds, each started one ends",
    "law C1": "coalesced tokens share a join group with one merged token, whose parents are they",
    "law C2": "at most one resolution per group, none open at the seal",
    "law C3": "arrived, lost and missing are disjoint and together the expected",
    "law C4": "the resolution is what the policy says for the log's order",
    "law C5": "a failed group fails each arrived token and names lost and missing",
    "law C6": "merged data is the strategy applied to the arrived",
    "law C7": "batches partition their tokens; trigger true; every output names its parents",
    "law R1": "a DIVERT routing event if and only if the token left by a divert edge",
    "law R2": "every routing event uses an edge from the node that holds the state",
    "law R3": "confirmed at a sink if and only if in exactly one confirmed write",
    "law R4": "a file sink re-read equals its confirmed writes",
    "law R5": "rows read = `RowRead` events = source cursor",
    "law P1": "live projections equal rebuilt ones",
    "law P2": "folding step by step equals folding from scratch",
    "law P3": "a run cut at any commit and resumed gives the uncut run's outcomes and bytes",
    "law P4": "resuming a sealed run appends nothing",
    "law P5": "SQLite and PostgreSQL give the same bodies and read tables",
}

WINDOWS: Mapping[str, str] = {
    "W1": "killed around a commit: what was not stored is done again, what was stored is not; never half of it",
    "W2": "killed around a sink's write: its target is that of the uncut run, or the repeat has the first one's key",
    "W3": "power goes: what was acknowledged is there, and is a beginning; synced before it is called written",
    "W4": "a disk is full, fails a sync, turns read-only: named, an exit code, resumable; that handle is done with",
    "W5": "two resumes of one run, and a stopped process that wakes: one writes, the others leave log and targets alone",
    "W6": "PostgreSQL cut off, killed or set unsafely: nothing twice, nothing missing, or refused at the start",
    "W7": "the clock set back, set forward, the machine asleep: same order, same timeouts, times never fall",
    "W8": "a plugin raises anything, hangs, kills, gives nonsense, writes into its input: an attempt that failed",
    "W9": "the last attempt fails by answer, exception, deadline or worker: each exact story, by each way out",
    "W10": "the source breaks off at any row; source, settings or plugins are others at a resume: field by field",
    "W11": "late, repeated and lost arrivals, a timeout against an arrival: the log's first decides, everyone ends once",
    "W12": "an event that cannot be read, or may not be: reading stops there by name, what stands before is still told",
    "W13": "read tables half made, of another making, behind, ahead or edited: whole ones are read, the rest is named",
    "W14": "Ctrl-C once and twice, SIGTERM, a reader that goes: stopped in good order, or at once; no traceback",
    "W15": "too many open groups, too long a row, an expansion without end: bounded, named, and the run goes on later",
}
"""What can go wrong, window by window: each is shown by the tests that name it."""

ASKED: Mapping[str, str] = {**REQUIREMENTS, **LAWS, **WINDOWS}

ISSUES = ("rebuild", "signatures", "doors")

PARTLY: Mapping[str, tuple[str, str]] = {
    "W13": ("rebuild", "that tables of an earlier projector are said to be so, and not only made again"),
}
"""What is shown but for one thing: the issue that brings it, and what it is."""

OPEN: Mapping[str, str] = {
    "law P5": "rebuild",
    "W6": "rebuild",
}
