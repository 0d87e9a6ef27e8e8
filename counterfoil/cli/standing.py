"""How the read tables stand to the log, said on stderr: of which making they are, and how far they tell.

Why one place: whoever looks at them without bringing them up to date says it in the same words.

Invariant: it is said and nothing is done about it; it is no fault of the record.
"""

from __future__ import annotations

from collections.abc import Sequence

from counterfoil.cli import output
from counterfoil.ledgers import Ledger
from ledger.errors import LedgerUnavailable
from projections.catch_up import Standing
from projections.read_tables import UNREADABLE, places

RUNS_NAMED_MAX = 5

_NEXT = {
    "none": "the next command that reads them makes them",
    "behind": "the next command that reads them brings them up to date",
    "stale": "the next command that reads them, or `counterfoil rebuild`, makes them again",
    "ahead": "`counterfoil verify` says whether the log was cut; the next command that reads them makes them again",
    "incomplete": "they tell what stands before it",
}


def say(standing: Standing) -> None:
    """A line unless they are current: how they stand, why, and what brings them up."""
    if standing.state != "current":
        output.note(f"READ_TABLES_{standing.state.upper()}: {standing.why}; {_NEXT[standing.state]}")


def announce(ledger: Ledger) -> None:
    """Say it before they are compared with the log: tables that are merely behind, or not there, tell nothing wrong.

    Tables that cannot be read as such, or not by this login, are what the comparison finds.
    """
    try:
        found = ledger.standing()
        left = stopped(ledger) if found.state == "behind" else []
    except LedgerUnavailable as error:
        if error.code not in (UNREADABLE, "LEDGER_DENIED"):
            raise
        return
    if found.state in ("stale", "ahead", "incomplete"):
        say(found)
    say_stopped(left)


def stopped(ledger: Ledger, run: str | None = None) -> list[str]:
    """The runs (or the one asked for) that the read tables, as they are, do not tell to their end."""
    shelf = ledger.keeping.shelf()
    name = shelf.generation()
    if name is None or not shelf.is_of_this_schema(name):
        return []
    with shelf.open(name) as tables:
        return sorted(told for told, place in places(tables).items() if place.stuck is not None and run in (None, told))


def say_stopped(runs: Sequence[str]) -> None:
    """A line that names runs which are not told to their end, if there are any."""
    if len(runs) == 1:
        say(Standing("incomplete", f"run {runs[0]} cannot be told to its end; `counterfoil show {runs[0]}` says why"))
    elif runs:
        more = f" and {len(runs) - RUNS_NAMED_MAX} more" if len(runs) > RUNS_NAMED_MAX else ""
        say(Standing("incomplete", f"runs {', '.join(runs[:RUNS_NAMED_MAX])}{more} cannot be told to their end; "
                                   f"`counterfoil show {runs[0]}` says why"))
