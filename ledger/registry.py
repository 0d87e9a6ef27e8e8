"""The ledger's own stream: what is true across runs.

Why: runs are discovered here, and a run's size and root stand here after its seal, in the seal's own transaction.

Invariant: an entry is stored together with what it speaks of, never alone before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ledger import ids, reader
from ledger.codec import VERSION_OF
from ledger.errors import LedgerUnavailable
from ledger.events import Event, LedgerCreated
from ledger.store import Part, Store
from ledger.writer import Writer


def create(store: Store, ledger_id: str, at: int) -> None:
    """Write the first entry of a new ledger."""
    store.append([entries(store, [LedgerCreated(ledger=ledger_id)], at)])


def ledger_id(store: Store) -> str:
    """The random id that the ledger got when it was made."""
    for _, event in reader.events(store, ids.LEDGER_STREAM, until=1):
        if isinstance(event, LedgerCreated):
            return event.ledger
    raise LedgerUnavailable("LEDGER_FOREIGN", "expected a ledger that says its id, found none", where="ledger",
                            next_step="name a ledger that this program made")


def entries(store: Store, said: Sequence[Event], at: int) -> Part:
    """The part that adds `said` to the ledger's own stream, stamped `at` or when the stream's last entry was, if later."""
    head = store.head(ids.LEDGER_STREAM)
    writer = Writer(store, ids.LEDGER_STREAM, head)
    last = 0
    if head is not None:
        last = max((stored.at for stored in store.read(ids.LEDGER_STREAM, after=head.size - 1)), default=0)
    for event in said:
        stamped = replace(event, run=ids.LEDGER_STREAM, seq=writer.size + 1, epoch=1, v=VERSION_OF[type(event)],
                          at=max(at, last), active_ms=0)
        writer.add(stamped)
    return writer.part("ledger")
