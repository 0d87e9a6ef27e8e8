"""Sinks of the four classes that keep their promises, in memory, each step of theirs a method that a broken one replaces."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import msgspec

from counterfoil.conformance import Beginning, Fence, Target
from engine.plugin_api import Claim, Delivery, Piece, Prepared, Refusal, Written
from engine.rows import Row

REFUSED: Sequence[Row] = ({"refuse": 1}, {"refuse": 2})


class Shelf:
    """The world: what outlives a sink. A tape is bytes, a table has records, each with its key."""

    def __init__(self) -> None:
        self.empty()

    def empty(self) -> None:
        """Nothing was ever written."""
        self.data = b""
        self.records: list[tuple[str, object]] = []
        self.receipts: dict[str, Written] = {}
        self.epochs: dict[str, int] = {}
        self.holder: object = None
        self.counter = 0

    def put(self, data: bytes) -> None:
        """Tamper."""
        self.data = data

    def tape(self) -> Target:
        """The bytes."""
        return Target(lambda: self.data, self.empty, self.put)

    def table(self) -> Target:
        """The records, each with its key."""
        return Target(lambda: list(self.records), self.empty, key_of=lambda record: record[0])


class Lines:
    """Rows as lines; a row with the field `refuse` is refused."""

    delivery: Delivery

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.claim = Claim()
        self.is_open = False

    def refuses(self, row: Row, ordinal: int) -> bool:
        """Whether the row is not taken."""
        return "refuse" in row

    def encode(self, rows: Sequence[Row]) -> bytes:
        """The rows that are taken, as bytes."""
        return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """See `engine.plugin_api.Sink`."""
        refused = tuple(Refusal(n, "it_said_so", "refused") for n, row in enumerate(rows) if self.refuses(row, n))
        out = {refusal.ordinal for refusal in refused}
        ordinals = tuple(n for n in range(len(rows)) if n not in out)
        content = self.encode([rows[n] for n in ordinals])
        return Prepared(content, sha256(content).hexdigest(), ordinals, refused)

    def must_be_open(self) -> None:
        """Raises OSError."""
        if not self.is_open:
            raise OSError(9, "closed")

    def close(self, finished: bool) -> None:
        """See `engine.plugin_api.Sink`."""
        self.is_open = False


class Tape(Lines):
    """Truncatable: bytes that grow at their end, under a lock."""

    delivery: Delivery = "truncatable"

    def open(self, claim: Claim) -> None:
        """See `engine.plugin_api.Sink`."""
        self.lock()
        try:
            self.check(claim)
            self.cut(claim)
        except BaseException:
            self.let_go()
            raise
        self.claim, self.is_open = claim, True

    def lock(self) -> None:
        """Keep others out."""
        if self.shelf.holder is not None:
            raise BlockingIOError(11, "held")
        self.shelf.holder = self

    def let_go(self) -> None:
        """Let others in."""
        if self.shelf.holder is self:
            self.shelf.holder = None

    def check(self, claim: Claim) -> None:
        """What was confirmed is there."""
        if len(self.shelf.data) < (claim.offset or 0):
            raise OSError(5, "shorter")
        for piece in claim.pieces:
            self.check_piece(piece)

    def check_piece(self, piece: Piece) -> None:
        """One piece of it."""
        found = self.shelf.data[piece.offset : piece.offset + piece.size_bytes]
        if sha256(found).hexdigest() != piece.content_sha256:
            raise OSError(5, "changed")

    def cut(self, claim: Claim) -> None:
        """What was not confirmed goes; a new run begins with nothing."""
        self.shelf.data = self.shelf.data[: claim.offset if claim.begun else 0]

    def offset(self) -> int | None:
        """See `engine.plugin_api.Sink`."""
        return len(self.shelf.data)

    def append(self, content: bytes) -> None:
        """Put bytes at the end."""
        self.shelf.data += content

    def write(self, prepared: Prepared, key: str) -> Written:
        """See `engine.plugin_api.Sink`."""
        self.must_be_open()
        self.append(prepared.content)
        return Written("tape", len(self.shelf.data), prepared.content_sha256, ())

    def close(self, finished: bool) -> None:
        """See `engine.plugin_api.Sink`."""
        super().close(finished)
        self.let_go()


class LooseTape(Tape):
    """The same without a lock."""

    def lock(self) -> None:
        """Let everybody in."""


class LongTape(Tape):
    """A new run writes behind what is there."""

    def cut(self, claim: Claim) -> None:
        """What was not confirmed goes."""
        if claim.begun:
            super().cut(claim)


class Table(Lines):
    """Transactional: a write and its receipt at once, and no writer of an older epoch."""

    delivery: Delivery = "transactional"

    def open(self, claim: Claim) -> None:
        """See `engine.plugin_api.Sink`."""
        if self.shelf.epochs.get(self.epoch_of(claim), 0) > claim.epoch:
            raise PermissionError(1, "fenced")
        self.shelf.epochs[self.epoch_of(claim)] = claim.epoch
        self.claim, self.is_open = claim, True

    def epoch_of(self, claim: Claim) -> str:
        """Whose epochs are compared."""
        return claim.run

    def offset(self) -> int | None:
        """See `engine.plugin_api.Sink`."""
        return None

    def fence(self) -> None:
        """Raises OSError to an older writer."""
        if self.shelf.epochs.get(self.epoch_of(self.claim)) != self.claim.epoch:
            raise PermissionError(1, "fenced")

    def known_by(self, prepared: Prepared, key: str) -> str:
        """What a receipt is kept under."""
        return key

    def write(self, prepared: Prepared, key: str) -> Written:
        """See `engine.plugin_api.Sink`."""
        self.must_be_open()
        self.fence()
        known = self.known_by(prepared, key)
        receipt = self.shelf.receipts.get(known)
        if receipt is not None:
            return self.again(receipt, prepared)
        self.insert(prepared, key)
        return self.shelf.receipts.setdefault(known, Written("table", len(prepared.content), prepared.content_sha256, ()))

    def again(self, receipt: Written, prepared: Prepared) -> Written:
        """The answer to a write that was made before."""
        return receipt

    def insert(self, prepared: Prepared, key: str) -> None:
        """The rows, each with its key."""
        self.shelf.records += [(key, msgspec.json.decode(line)) for line in prepared.content.splitlines()]


class Cabinet(Table):
    """Idempotent: a drawer for each write, which is filled again with the same. Nothing keeps an older writer out."""

    delivery: Delivery = "idempotent"

    def open(self, claim: Claim) -> None:
        """See `engine.plugin_api.Sink`."""
        self.claim, self.is_open = claim, True

    def write(self, prepared: Prepared, key: str) -> Written:
        """See `engine.plugin_api.Sink`."""
        self.must_be_open()
        if any(known == key for known, _ in self.shelf.records):
            return self.again(Written("cabinet", len(prepared.content), prepared.content_sha256, ()), prepared)
        self.insert(prepared, key)
        return Written("cabinet", len(prepared.content), prepared.content_sha256, ())


class Post(Cabinet):
    """At least once: whatever is sent arrives, with its key."""

    delivery: Delivery = "at_least_once"

    def write(self, prepared: Prepared, key: str) -> Written:
        """See `engine.plugin_api.Sink`."""
        self.must_be_open()
        self.insert(prepared, key)
        return Written("post", len(prepared.content), prepared.content_sha256, ())


GOOD: Sequence[tuple[type[Tape | Table], Fence, bool, Beginning]] = (
    (Tape, "lock", False, "replaces"),
    (LooseTape, "none", False, "replaces"),
    (LongTape, "lock", False, "keeps"),
    (Table, "epoch", True, "keeps"),
    (Cabinet, "none", False, "keeps"),
    (Post, "none", False, "keeps"),
)
"""Each of them, and what the kit has to answer: its fence, also against one that comes late, and how a new run begins."""


def target_of(kind: type[Lines], shelf: Shelf) -> Target:
    """What a kind of sink writes to."""
    return shelf.tape() if issubclass(kind, Tape) else shelf.table()
