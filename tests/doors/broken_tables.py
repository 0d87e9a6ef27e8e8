"""Slips of sinks that know their writes by a key: sinks that break a promise each, which they name."""

from __future__ import annotations

from engine.plugin_api import Claim, Prepared, Refusal, Written
from tests.doors.own_sinks import Cabinet, Post, Table


class HasAnOffset(Table):
    """Transactional, and says where it ends."""

    BREAKS = "offset"

    def offset(self) -> int:
        """Count records."""
        return len(self.shelf.records)


class ForgetsTheKey(Table):
    """No receipt is found again."""

    BREAKS = "resume-equals-uncut"

    def known_by(self, prepared: Prepared, key: str) -> str:
        """Know every write by another name."""
        self.shelf.counter += 1
        return str(self.shelf.counter)


class RemembersInMemory(Table):
    """The receipts die with the process."""

    BREAKS = "resume-equals-uncut"

    def open(self, claim: Claim) -> None:
        """Begin without receipts."""
        super().open(claim)
        self.shelf.receipts.clear()


class RemembersTheLast(Table):
    """There is room for one receipt."""

    BREAKS = "resume-equals-uncut"

    def insert(self, prepared: Prepared, key: str) -> None:
        """Make room for the next one."""
        self.shelf.receipts.clear()
        super().insert(prepared, key)


class FailsIfThere(Table):
    """It makes its table, and fails when it is there: also when it was itself that made it a moment ago."""

    BREAKS = "goes-through"

    def open(self, claim: Claim) -> None:
        """Do not begin twice."""
        if not claim.begun and claim.run in self.shelf.epochs:
            raise FileExistsError(17, "there already")
        super().open(claim)


class ExpectsAWrite(Table):
    """What was begun has to have rows; but the first write may not have come to its target yet."""

    BREAKS = "goes-through"

    def open(self, claim: Claim) -> None:
        """Look for them."""
        if claim.begun and not self.shelf.records:
            raise OSError(5, "expected the table that this run has written to")
        super().open(claim)


class KnowsByContent(Table):
    """The same rows are never written twice."""

    BREAKS = "key-is-the-write"

    def known_by(self, prepared: Prepared, key: str) -> str:
        """Take the content for the write."""
        return prepared.content_sha256


class DrawersByContent(Cabinet):
    """Another write of the same rows goes into the same drawer."""

    BREAKS = "key-is-the-write"

    def write(self, prepared: Prepared, key: str) -> Written:
        """Name the drawer after the content."""
        drawers = self.shelf.receipts.items()
        drawer = next((one for one, held in drawers if held.content_sha256 == prepared.content_sha256), key)
        return self.shelf.receipts.setdefault(drawer, super().write(prepared, drawer))


class RefusesWhatIsThere(Cabinet):
    """A record that is there already is a duplicate, and refused."""

    BREAKS = "answer-again"

    def again(self, receipt: Written, prepared: Prepared) -> Written:
        """Refuse all of it."""
        return receipt._replace(refused=tuple(Refusal(n, "duplicate", "") for n in range(len(prepared.ordinals))))


class ReplacesWhenItOpens(Table):
    """The table is made anew by every process."""

    BREAKS = "begun-is-kept"

    def open(self, claim: Claim) -> None:
        """Drop it."""
        super().open(claim)
        self.shelf.records.clear()


class SendsAllAgain(Post):
    """Opened again it sends what it has sent before."""

    BREAKS = "begun-is-kept"

    def open(self, claim: Claim) -> None:
        """Send it all."""
        super().open(claim)
        if claim.begun:
            self.shelf.records += list(self.shelf.records)


class SendsTwiceAfterResume(Post):
    """Once it was resumed each write is sent twice."""

    BREAKS = "repeats-are-those-made-again"

    def insert(self, prepared: Prepared, key: str) -> None:
        """Send it once more."""
        super().insert(prepared, key)
        if self.claim.begun:
            super().insert(prepared, key)


class LosesWhatWasBegun(Post):
    """A resumed process thinks that what it makes again was taken."""

    BREAKS = "repeats-are-those-made-again"

    def insert(self, prepared: Prepared, key: str) -> None:
        """Leave out the first write after a resume."""
        if self.claim.begun:
            self.claim = Claim()
        else:
            super().insert(prepared, key)


class NewKeys(Post):
    """Each sending has a key of its own."""

    BREAKS = "repeats-carry-their-key"

    def insert(self, prepared: Prepared, key: str) -> None:
        """Make one up."""
        self.shelf.counter += 1
        super().insert(prepared, str(self.shelf.counter))


class WritesThenLooks(Table):
    """The epoch is looked at when the rows are in."""

    BREAKS = "shut-out-changes-nothing"

    def write(self, prepared: Prepared, key: str) -> Written:
        """Look last."""
        if key not in self.shelf.receipts:
            self.must_be_open()
            self.insert(prepared, key)
            self.fence()
            self.shelf.receipts[key] = Written("table", len(prepared.content), prepared.content_sha256, ())
        return self.shelf.receipts[key]
