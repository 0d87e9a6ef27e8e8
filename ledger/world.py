"""The world: do the artifacts of file sinks still hold what the log says was written? (law R4, when asked)

Why apart: a file can be moved, read by others, or replaced by the next run without any fault of the record; so this is asked
for by name, and its findings are told apart from those of the record.

Invariant: reads only through the `read` it is handed; a write is checked where its intent says it began.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from ledger import reader
from ledger.codec import Undecodable
from ledger.laws import Finding
from ledger.store import Store

Read = Callable[[str, int, int], bytes]
"""(uri, offset, length) to the bytes that are there now; raises OSError."""


def artifacts(store: Store, run: str, read: Read) -> list[Finding]:
    """A finding for each confirmed write whose bytes are not in its file any more; behind one that cannot be read, none."""
    findings: list[Finding] = []
    try:
        for intent, write in reader.confirmed_writes(store, run):
            if intent.offset is None:
                continue
            found = _look(read, write.uri, intent.offset, write.size_bytes - intent.offset, write.content_hash)
            if found is not None:
                findings.append(Finding(law="R4", run=run, seq=write.seq, token=None, found=found,
                                        expected=f"the bytes of write {write.write} at {intent.offset} of {write.uri}"))
    except Undecodable as unreadable:
        findings.append(Finding(law="R4", run=run, seq=unreadable.seq, token=None, expected="an event that says what was "
                                "written", found=unreadable.found))
    return findings


def _look(read: Read, uri: str, offset: int, length: int, content_hash: str) -> str | None:
    try:
        data = read(uri, offset, length)
    except OSError as error:
        return f"{error.strerror or error}"
    if len(data) < length:
        return f"{len(data)} of {length} bytes"
    return None if sha256(data).hexdigest() == content_hash else "other bytes"
