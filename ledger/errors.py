"""Broken requests and broken worlds, as typed exceptions that print on one line.

Why: three kinds of error are never mixed. What happened to a row is an *event*. A fault found by checking is a
*finding*, returned in a list. Everything else is one of these: `CODE: what, where, what to do next`.

Invariant: every exception a door may print derives from `CounterfoilError` and carries the command's exit code.
"""

from __future__ import annotations

from typing import ClassVar


class CounterfoilError(Exception):
    """Something the caller has to act on.

    `code` is stable upper-case text, `what` says what was expected and found, `where` names the place (file:line, run,
    seq), `next_step` what to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, what: str, *, where: str = "", next_step: str = "") -> None:
        super().__init__(code, what, where, next_step)
        self.code = code
        self.what = what
        self.where = where
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [part for part in (self.what, self.where, self.next_step) if part]
        return f"{self.code}: {'; '.join(parts)}"


class UsageError(CounterfoilError):
    """The command cannot mean anything: an unknown run, an ambiguous id, a directory for a file."""

    exit_code = 2


class SettingsInvalid(CounterfoilError):
    """The pipeline file, or a plugin it names, cannot be run."""

    exit_code = 3


class RunIncomplete(CounterfoilError):
    """The run stopped with work open through a fault of a source, a sink or the machine; it can be resumed."""

    exit_code = 4


class LedgerBroken(CounterfoilError):
    """The record does not hold: a body, an index column, a chain or a law."""

    exit_code = 5


class LedgerUnavailable(CounterfoilError):
    """The ledger cannot be opened or written: busy, foreign, at another schema, fenced, out of space."""

    exit_code = 6
