"""Ids: readable, derived from structure, never from a clock or a random source.

Why: a resumed run must continue the *same* tokens, and two runs are compared token by token.

| thing                        | id                                   | example            |
|------------------------------|--------------------------------------|--------------------|
| row, root token              | source index                         | `17`               |
| fork child, expand child     | parent `.` branch, parent `:` ordinal| `17.risk`, `17:0`  |
| merged token                 | ancestor `+` coalesce                | `17+merge`         |
| batch output                 | aggregation `@` batch `:` ordinal    | `totals@3:0`       |
| frame group                  | token `/` the node that opened it    | `17/fork_gate`     |
| coalesce group, join group   | the merged token's id                | `17+merge`         |

Names never contain a separator, so every id can be parsed back to the *family* it belongs to: its source row, or the
batch that made it.
"""

from __future__ import annotations

import re
from hashlib import sha256

NAME_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
RUN_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,128}")
LEDGER_STREAM = "$ledger"
"""Run id of the ledger's own stream; `$` keeps it out of the space of run ids."""

RESERVED_NAMES = frozenset({"source", "discard", "continue", "fork"})

ROW_DIGITS_MAX = 18
"""A row's number has no more, so that every column holds it."""

_FAMILY = re.compile(rf"(?:(\d{{1,{ROW_DIGITS_MAX}}})|([A-Za-z][A-Za-z0-9_-]*@\d+):\d+)(?=[.:+/]|$)")


def is_text(text: str) -> bool:
    """Whether `text` can be stored: names and arguments that are not UTF-8 come from the system as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def is_name(text: str) -> bool:
    """Whether `text` may name a node, a branch or a pipeline."""
    return NAME_PATTERN.fullmatch(text) is not None


def is_run_id(text: str) -> bool:
    """Whether `text` may name a run."""
    return RUN_ID_PATTERN.fullmatch(text) is not None


def root_token(row_index: int) -> str:
    """The root token of a source row (0-based)."""
    return str(row_index)


def fork_child(parent: str, branch: str) -> str:
    """The token a fork makes of `parent` on `branch`."""
    return f"{parent}.{branch}"


def expand_child(parent: str, ordinal: int) -> str:
    """The `ordinal`-th (0-based) token an expansion makes of `parent`."""
    return f"{parent}:{ordinal}"


def merged_token(ancestor: str, coalesce: str) -> str:
    """The token a coalesce makes for the token that was forked or expanded; it also names the group."""
    return f"{ancestor}+{coalesce}"


def frame_group(token: str, node: str) -> str:
    """The group that a fork or a gathered expansion of `token` at `node` opens."""
    return f"{token}/{node}"


def batch_id(aggregation: str, number: int) -> str:
    """A batch; numbers count from 1 and follow log order."""
    return f"{aggregation}@{number}"


def batch_output(aggregation: str, number: int, ordinal: int) -> str:
    """The `ordinal`-th (0-based) output of a batch."""
    return f"{aggregation}@{number}:{ordinal}"


def effect_key(ledger: str, run: str, token: str, node: str) -> str:
    """The idempotency key of an effect: 32 hex digits, the same over all attempts and resumes of a token at a node."""
    return sha256(f"{ledger}/{run}/{token}/{node}".encode()).hexdigest()[:32]


def write_key(ledger: str, run: str, sink: str, write: int) -> str:
    """The idempotency key of a sink write: 32 hex digits, kept when the write has to be made again."""
    return sha256(f"{ledger}/{run}/{sink}/{write}".encode()).hexdigest()[:32]


def family(token: str) -> int | str | None:
    """The source row (int) or the batch (str) that a token, or a group, descends from; None when it is no id at all."""
    match = _FAMILY.match(token)
    if match is None:
        return None
    row, batch = match.groups()
    return int(row) if row is not None else str(batch)
