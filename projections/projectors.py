"""What projects: the tables it fills, its version, and how it begins a run. Live catch-up, rebuild and *as of* use this one.

Why a fingerprint: tables made by another projector, over another schema, or from events that were read otherwise, are stale.
Nobody has to remember that: the fingerprint is of the very code and schema that make the rows.

Invariant: whatever can change a row changes the fingerprint; a comment may change it too, and costs a rebuild.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ledger import upcasters
from ledger.versions import VERSIONS
from projections.projector import RunProjector
from projections.tables import metadata
from projections.views import statements

_PROJECTOR = ("project", "projector", "records", "group_rows", "output", "tables")
_RECORD = ("batch", "coalesce", "codec", "expressions", "graph", "ids", "laws", "reader", "tree", "upcaster_graph",
           "upcasters", "versions")
"""What reads and folds, beside all of `ledger/events` and `ledger/fold`. A test follows the imports."""


class Projector(NamedTuple):
    """`begin` makes the projector of one run, from its first event on; raise `version` when the meaning of a row changes."""

    name: str
    version: int
    tables: tuple[str, ...]
    begin: Callable[[str], RunProjector]
    fingerprint: str


def run_projector() -> Projector:
    """The projector that makes every read table."""
    version = 1
    made = [str(version), _code(), str(sorted(VERSIONS.items())), upcasters.UPCASTERS.fingerprint]
    fingerprint = sha256("\0".join(made).encode()).hexdigest()[:16]
    return Projector("run", version, tuple(metadata.tables), RunProjector, fingerprint)


@cache
def _code() -> str:
    """Of the projector's code and of what reads and folds events, of tables and views."""
    here, record = Path(__file__).parent, Path(upcasters.__file__).parent
    code = [*(here / f"{name}.py" for name in _PROJECTOR), *(record / f"{name}.py" for name in _RECORD)]
    code += [file for folder in ("events", "fold") for file in sorted((record / folder).glob("*.py"))]
    views = [*statements("sqlite"), *statements("postgresql")]
    texts = [*views, *(file.read_text(encoding="utf-8") for file in code)]
    return sha256("\0".join(texts).encode()).hexdigest()
