"""Sinks that break a promise each, which they name: small slips that real ones are made with."""

from __future__ import annotations

from collections.abc import Sequence

from engine.plugin_api import Claim, Prepared, Refusal, Written
from engine.rows import Row
from tests.doors import broken_tables, broken_tapes
from tests.doors.own_sinks import Cabinet, Lines, Post, Table, Tape


class OfNoClass(Tape):
    """A word of its own for the delivery."""

    BREAKS = "delivery"
    delivery = "exactly_once"  # type: ignore[assignment]


class CannotFinish(Tape):
    """It breaks where it should end."""

    BREAKS = "goes-through"

    def close(self, finished: bool) -> None:
        """Break."""
        super().close(finished)
        if finished:
            raise ValueError("no footer")


class OneResumeOnly(Table):
    """It cannot go on where it has begun."""

    BREAKS = "goes-through"

    def open(self, claim: Claim) -> None:
        """Compare with the wrong thing."""
        if claim.begun and claim.epoch > 2:
            raise OSError(5, "unexpected")
        super().open(claim)


class WritesWhenItPrepares(Table):
    """The rows are sent too early."""

    BREAKS = "prepare-touches-nothing"

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Prepare, and send."""
        prepared = super().prepare(rows)
        self.insert(prepared, "early")
        return prepared


class MovesWhenItPrepares(Tape):
    """The next write begins behind what was only prepared."""

    BREAKS = "prepare-touches-nothing"
    ahead = 0

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Count what is not written."""
        prepared = super().prepare(rows)
        self.ahead += len(prepared.content)
        return prepared

    def offset(self) -> int:
        """Count it in."""
        return len(self.shelf.data) + self.ahead

    def append(self, content: bytes) -> None:
        """Write what was counted."""
        super().append(content)
        self.ahead -= len(content)


class Numbers(Table):
    """Each record is numbered as it is prepared, through all processes."""

    BREAKS = "prepare-is-deterministic"

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Number them."""
        self.shelf.counter += 1
        return super().encode([{**row, "serial": self.shelf.counter} for row in rows])


class HeaderOnEveryStart(Tape):
    """An instance's first write has the header, whatever is there already: a write is another when it is made again."""

    BREAKS = "prepare-is-deterministic"
    begun = False

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Begin with a header."""
        header, self.begun = b"" if self.begun else b"# rows\n", True
        return header + super().encode(rows)


class CountsRefusedOnes(Tape):
    """Its ordinals are all the rows."""

    BREAKS = "prepare-accounts"

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Name every place."""
        return super().prepare(rows)._replace(ordinals=tuple(range(len(rows))))


class HashesSomethingElse(Post):
    """The hash is not that of the content."""

    BREAKS = "prepare-accounts"

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Give the hash of nothing."""
        return super().prepare(rows)._replace(content_sha256="0" * 64)


class GivesBytes(Cabinet):
    """What it prepares is not of the type that is asked for."""

    BREAKS = "prepare-accounts"

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Give the content alone."""
        return super().prepare(rows).content  # type: ignore[return-value]


class RefusesWithoutCode(Table):
    """Its refusals do not say why."""

    BREAKS = "prepare-accounts"

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Leave the code out."""
        prepared = super().prepare(rows)
        return prepared._replace(refused=tuple(Refusal(one.ordinal, "", one.text) for one in prepared.refused))


class RefusesTheThird(Tape):
    """It takes two rows a write."""

    BREAKS = "refusals-are-stable"

    def refuses(self, row: Row, ordinal: int) -> bool:
        """Refuse by place."""
        return super().refuses(row, ordinal) or ordinal == 2


class RefusesAtFirst(Table):
    """A write's first row is taken whatever it holds, but only where it is alone."""

    BREAKS = "refusals-are-stable"

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Refuse nothing in a write of one row."""
        return super().prepare([{"taken": True}] if len(rows) == 1 else rows)


class AnswersNothing(Table):
    """`write` gives None."""

    BREAKS = "answer"

    def write(self, prepared: Prepared, key: str) -> Written:
        """Forget to return."""
        super().write(prepared, key)
        return None  # type: ignore[return-value]


class RefusesByRow(Post):
    """Its late refusals name places among all rows, beyond those that it was given."""

    BREAKS = "answer"

    def write(self, prepared: Prepared, key: str) -> Written:
        """Refuse a row that is not there."""
        written = super().write(prepared, key)
        return written._replace(refused=(Refusal(len(prepared.ordinals), "late", "no such row"),))


class Buffers(Table):
    """What is written is sent with the close."""

    BREAKS = "written-when-it-returns"
    kept: tuple[tuple[Prepared, str], ...] = ()

    def insert(self, prepared: Prepared, key: str) -> None:
        """Keep it for later."""
        self.kept += ((prepared, key),)

    def close(self, finished: bool) -> None:
        """Send what was kept."""
        for prepared, key in self.kept:
            super().insert(prepared, key)
        self.kept = ()
        super().close(finished)


class LosesTheLast(Post):
    """A row is missing from every write of more than two."""

    BREAKS = "written-when-it-returns"

    def insert(self, prepared: Prepared, key: str) -> None:
        """Send two lines."""
        super().insert(prepared._replace(content=b"".join(prepared.content.splitlines(keepends=True)[:2])), key)


class WritesWhenClosed(Post):
    """It never looks whether it is open."""

    BREAKS = "closed-takes-nothing"

    def must_be_open(self) -> None:
        """Do not look."""


class ClosesOnce(Tape):
    """The second close is an error."""

    BREAKS = "closing-again"

    def close(self, finished: bool) -> None:
        """Close what is open."""
        self.must_be_open()
        super().close(finished)


class SaysThatItStopped(Post):
    """A record that no row is of."""

    BREAKS = "stopping-adds-nothing"

    def close(self, finished: bool) -> None:
        """Leave a note."""
        if self.is_open and not finished:
            self.shelf.records.append(("", "stopped"))
        super().close(finished)


class HalfNew(Post):
    """A new run keeps what was there, but for its first record."""

    BREAKS = "new-runs-begin"

    def open(self, claim: Claim) -> None:
        """Take the first record away."""
        if not claim.begun:
            del self.shelf.records[:1]
        super().open(claim)


class OneEpochForAll(Table):
    """The epochs of all runs are compared with each other: a new run waits until it is as old as the last one."""

    BREAKS = "new-runs-begin"

    def epoch_of(self, claim: Claim) -> str:
        """Forget the run."""
        return claim.sink


SINKS: Sequence[type[Lines]] = tuple(
    kind for kind in [*globals().values(), *vars(broken_tapes).values(), *vars(broken_tables).values()]
    if isinstance(kind, type) and issubclass(kind, Lines) and "BREAKS" in vars(kind)
)
"""All of them."""
