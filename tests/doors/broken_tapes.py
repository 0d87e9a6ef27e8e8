"""Slips of sinks that can be cut back: sinks that break a promise each, which they name."""

from __future__ import annotations

from engine.plugin_api import Claim, Piece, Prepared, Written
from tests.doors.own_sinks import LongTape, Tape


class ForgetsToCut(Tape):
    """What was not confirmed stays."""

    BREAKS = "unconfirmed-is-cut"

    def cut(self, claim: Claim) -> None:
        """Cut only what a new run replaces."""
        if not claim.begun:
            super().cut(claim)


class CutsWholeLines(Tape):
    """What was torn within a line stays."""

    BREAKS = "unconfirmed-is-cut"

    def cut(self, claim: Claim) -> None:
        """Look for the ends of lines only."""
        torn = self.shelf.data.rpartition(b"\n")[2] if claim.begun else b""
        super().cut(claim)
        self.shelf.data += torn


class NoRowsTwice(LongTape):
    """A run without rows leaves a note, and another one when it is finished again."""

    BREAKS = "resume-equals-uncut"

    def close(self, finished: bool) -> None:
        """Leave a note."""
        if finished and self.is_open and not self.claim.begun and not self.wrote:
            self.shelf.data += b"no rows\n"
        super().close(finished)

    wrote = False

    def append(self, content: bytes) -> None:
        """Note that there are rows."""
        super().append(content)
        self.wrote = True


class CutsTooMuch(Tape):
    """One byte of what was confirmed goes."""

    BREAKS = "begun-is-kept"

    def cut(self, claim: Claim) -> None:
        """Cut before the end."""
        super().cut(claim._replace(offset=max(0, (claim.offset or 0) - 1)))


class ReplacesOnResume(Tape):
    """Every start is a new one."""

    BREAKS = "begun-is-kept"

    def cut(self, claim: Claim) -> None:
        """Cut it all."""
        self.shelf.data = b""


class OffByOne(Tape):
    """The next write begins a byte later than it says."""

    BREAKS = "offset"

    def offset(self) -> int:
        """Count one less."""
        return max(0, len(self.shelf.data) - 1)


class KnowsNoOffset(Tape):
    """Truncatable, and does not say where it ends."""

    BREAKS = "offset"

    def offset(self) -> None:
        """Say nothing."""
        return


class SizeOfTheWrite(Tape):
    """It answers with the size of what was written."""

    BREAKS = "size"

    def write(self, prepared: Prepared, key: str) -> Written:
        """Forget what was there before."""
        return super().write(prepared, key)._replace(size_bytes=len(prepared.content))


class NewWithoutPieces(LongTape):
    """Nothing was confirmed, so it takes itself for new, and what earlier runs have left for its own."""

    BREAKS = "begun-is-kept"

    def cut(self, claim: Claim) -> None:
        """Take everything away."""
        super().cut(claim)
        if claim.begun and not self.pieces:
            self.shelf.data = b""

    pieces = 0

    def check_piece(self, piece: Piece) -> None:
        """Count them."""
        super().check_piece(piece)
        self.pieces += 1


class EndsTwice(LongTape):
    """What ends the artifact stays when there is an end already, and another follows."""

    BREAKS = "unconfirmed-is-cut"

    def cut(self, claim: Claim) -> None:
        """Cut what has no end."""
        if not self.shelf.data.endswith(b"end\n"):
            super().cut(claim)

    def close(self, finished: bool) -> None:
        """Put an end to it."""
        if finished and self.is_open:
            self.append(b"end\n")
        super().close(finished)


class LooksTwice(Tape):
    """It counts the pieces first, and then there are none any more."""

    BREAKS = "changed-is-refused"

    def check(self, claim: Claim) -> None:
        """Count them."""
        if sum(1 for _ in claim.pieces) >= 0:
            super().check(claim)


class NeverLooks(Tape):
    """What was confirmed is taken on trust."""

    BREAKS = "changed-is-refused"

    def check_piece(self, piece: Piece) -> None:
        """Do not look."""


class FillsUp(Tape):
    """What is missing is filled up with zeros."""

    BREAKS = "changed-is-refused"

    def check(self, claim: Claim) -> None:
        """Make it as long as it has to be."""
        if len(self.shelf.data) < (claim.offset or 0):
            self.shelf.data = self.shelf.data.ljust(claim.offset or 0, b"\0")
        else:
            super().check(claim)


class CutsThenLooks(Tape):
    """It looks at what was confirmed when the rest is gone already."""

    BREAKS = "changed-is-refused"

    def check(self, claim: Claim) -> None:
        """Cut first."""
        self.cut(claim)
        super().check(claim)


class RaisesItsOwn(Tape):
    """Its error is none of the target."""

    BREAKS = "changed-is-refused"

    def check_piece(self, piece: Piece) -> None:
        """Raise something else."""
        try:
            super().check_piece(piece)
        except OSError as error:
            raise ValueError(str(error)) from error


class KeepsTheLock(Tape):
    """When it cannot be opened, nobody else can open it either."""

    BREAKS = "failed-open-lets-go"

    def let_go(self) -> None:
        """Let go of what was opened only."""
        if self.is_open or self.claim.run:
            super().let_go()

    def close(self, finished: bool) -> None:
        """Let go of it."""
        if self.is_open:
            self.let_go()
        self.is_open = False


class CutsBeforeItLocks(Tape):
    """A second writer empties what the first one has open, then finds the lock."""

    BREAKS = "shut-out-changes-nothing"

    def lock(self) -> None:
        """Cut too early."""
        self.shelf.data = self.shelf.data[:5]
        super().lock()
