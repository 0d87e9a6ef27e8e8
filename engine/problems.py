"""What is wrong with a pipeline file: every problem with its place, the first of them as the error.

Why all: someone who mends a file wants the whole list, a command prints one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from engine.masking import Masking
from ledger.errors import SettingsInvalid


class Problem(NamedTuple):
    """One thing to mend: a stable code, what was expected and found, file:line, what to do."""

    code: str
    what: str
    where: str
    next_step: str = ""


class PipelineRefused(SettingsInvalid):
    """The pipeline cannot be run; `problems` has everything that was found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more: counterfoil validate lists them)" if len(problems) > 1 else ""
        super().__init__(first.code, first.what + more, where=first.where, next_step=first.next_step)
        self.problems = tuple(problems)


def hushed(problems: Iterable[Problem], secrets: Iterable[str]) -> list[Problem]:
    """The problems with secret values masked, those aside that are too short to be told from other text."""
    masked = Masking(secrets).text
    return [one._replace(what=masked(one.what), next_step=masked(one.next_step)) for one in problems]


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean …?` with the nearest known name, or the known names themselves."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(names)}" if names else ""
