"""What a broken log is: a lawful beginning and the one event that the law refuses, with how the finding must read."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ledger.store import Store
from tests.kit.log import RUN, Log

Build = Callable[[], Log | Store]


class Case(NamedTuple):
    """`build` gives a log whose last event is the offence, or a store with the offence at `seq`."""

    what: str
    law: str
    token: str | None
    build: Build
    seq: int | None = None

    def made(self) -> tuple[Store, str, int]:
        """The store, the run, and the seq of the first offence."""
        made = self.build()
        if isinstance(made, Log):
            return made.store(), made.run, len(made.said) if self.seq is None else self.seq
        if self.seq is None:
            raise ValueError(f"{self.what}: a store needs the seq of its offence")
        return made, RUN, self.seq

    @property
    def name(self) -> str:
        """How the case is called in a report."""
        return f"{self.law}-{self.what.replace(' ', '_')}"
