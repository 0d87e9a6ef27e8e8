"""Inside a commit: whatever a kill leaves of its writes, the log is what it was before, or what it is after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ledger.sqlite_store import SqliteStore
from tests.simulation import journal, power, windows
from tests.simulation.children import LEDGER, RUN
from tests.simulation.disk import put
from tests.simulation.journal import Call


def moments(story: power.Story) -> Iterator[tuple[dict[str, bytes], int]]:
    """At each write to the ledger, its log or its pages: the files a kill leaves, and how many calls had returned.

    Of the write half is there; of the last one before a sync also all but a byte, and the whole.
    """
    disk = story.disk()
    for place, call in enumerate(story.calls):
        if call.op == "write" and call.path in (windows.WAL, LEDGER):
            files = {name: content for name, content in disk.whole().items() if name in (windows.WAL, LEDGER)}
            last = story.calls[place + 1].op != "write"
            for length in (call.length // 2, *((call.length - 1, call.length) if last else ())):
                yield {**files, call.path: _torn(files.get(call.path, b""), call, length)}, place
        disk.play(call)


def _torn(content: bytes, call: Call, length: int) -> bytes:
    """The file with the first `length` bytes of the write in it."""
    grown = content.ljust(call.offset, b"\0")
    return grown[:call.offset] + call.data[:length] + grown[call.offset + length:]


def found(folder: Path) -> int:
    """How many events of the run the next process finds."""
    store = SqliteStore(folder / LEDGER, write=False)
    try:
        head = store.head(RUN)
        return head.size if head is not None else 0
    finally:
        store.close()


def test_a_kill_inside_a_commit_leaves_all_of_it_or_nothing(everything: power.Story, tmp_path: Path) -> None:
    """W1, G13, law L1: at every write of a commit or checkpoint: what was acknowledged, or the next commit too, whole."""
    acks = {journal.acknowledged(call, RUN): place for place, call in reversed(list(enumerate(everything.calls)))}
    sizes, begun = sorted(acks), min(place for size, place in acks.items() if size)
    seen = {"before": 0, "after": 0}
    for files, place in moments(everything):
        if place > begun:
            put(files, tmp_path)
            before = everything.acknowledged(place)
            size = found(tmp_path)
            assert size in (before, next((size for size in sizes if size > before), before)), everything.calls[place]
            seen["before" if size == before else "after"] += 1
    assert min(seen.values()) > 100
