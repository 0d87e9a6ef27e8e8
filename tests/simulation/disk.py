"""A disk that loses power: what may be on it, after a journal was cut off at some point.

What is modelled, and no more than this may be relied on:
- What was written to a file before a sync of that file succeeded is there. Of what was written since, any part may be: each
  write whole, not at all, or torn at sectors; where a file was to grow, there may be zeros.
- A sync that failed makes nothing durable, and none that follows makes up for it, in no process: the program still sees what
  was to be synced, and the disk may never have it, until it is written again and synced (so do Linux's file systems).
- Names (made, renamed, removed) are durable once their directory was synced. Of the others a beginning, or any subset, may
  be. A sync of a file is none of its name.
- SQLite's shared memory is never there.

Invariant: the same journal, cut and seed give the same disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from posixpath import dirname
from random import Random
from typing import NamedTuple

from tests.simulation.journal import Call

SECTORS = (512, 4096)
SHARED_MEMORY = "-shm"


class Change(NamedTuple):
    """One change of a file's bytes: `data` at `offset`, or (None) a new size of `offset`."""

    offset: int
    data: bytes | None

    def on(self, content: bytearray) -> None:
        """Make it."""
        if self.data is None:
            grown = self.offset - len(content)
            if grown > 0:
                content.extend(bytes(grown))
            del content[self.offset:]
            return
        if self.offset > len(content):
            content.extend(bytes(self.offset - len(content)))
        content[self.offset:self.offset + len(self.data)] = self.data


class Inode:
    """A file's bytes: what is durable, and what was changed since."""

    def __init__(self, content: bytes = b"") -> None:
        self.durable = bytearray(content)
        self.changes: list[Change] = []
        self._synced = 0
        self._lost: set[int] = set()

    def synced(self, *, failed: bool) -> None:
        """A sync: from here on the changes so far are durable, or may be lost whatever is still synced."""
        if failed:
            self._lost |= set(range(self._synced, len(self.changes)))
        self._synced = len(self.changes)
        if not self._lost:
            for change in self.changes:
                change.on(self.durable)
            self.changes, self._synced = [], 0

    def whole(self) -> bytes:
        """Its bytes as the program sees them."""
        content = bytearray(self.durable)
        for change in self.changes:
            change.on(content)
        return bytes(content)

    def left(self, chance: Random, keep: float) -> bytes:
        """What a power cut leaves: each change that is not durable is kept by chance."""
        content = bytearray(self.durable)
        for place, change in enumerate(self.changes):
            if place < self._synced and place not in self._lost:
                change.on(content)
            else:
                for part in _parts(change, len(content), chance, keep):
                    part.on(content)
        return bytes(content)


def _parts(change: Change, size: int, chance: Random, keep: float) -> Iterator[Change]:
    """What is left of one change."""
    drawn = chance.random()
    if drawn < keep:
        yield change
    elif change.data is not None and drawn < keep + (1 - keep) * 0.4:
        sector = chance.choice(SECTORS)
        end = change.offset + len(change.data)
        for begin in range(change.offset - change.offset % sector, end, sector):
            if chance.random() < 0.5:
                low, high = max(begin, change.offset), min(begin + sector, end)
                yield Change(low, change.data[low - change.offset:high - change.offset])
    elif change.data is not None and size < change.offset + len(change.data) and chance.random() < 0.3:
        yield Change(change.offset + len(change.data), None)


class Entry(NamedTuple):
    """A name that came or went, not durable yet: `gone` and `made` are paths ("" for none), in these directories."""

    gone: str
    made: str
    inode: Inode | None
    """None for a directory."""

    @property
    def directories(self) -> set[str]:
        """Whose sync makes it durable."""
        return {dirname(path) for path in (self.gone, self.made) if path}

    def on(self, names: dict[str, Inode | None]) -> None:
        """Make it."""
        if self.gone and names.get(self.gone, self.inode) is self.inode:
            names.pop(self.gone, None)
        if self.made:
            names[self.made] = self.inode


class Disk:
    """The disk under a program whose journal is played to it, call by call."""

    def __init__(self, files: Mapping[str, bytes], inodes: Mapping[str, int]) -> None:
        """With these files, and their directories, all of it durable."""
        found = {name: Inode(content) for name, content in files.items()}
        self._inodes = {inodes[name]: inode for name, inode in found.items()}
        self._names: dict[str, Inode | None] = {**{above: None for name in files for above in _above(name)}, **found}
        self._entries: list[Entry] = []

    def play(self, call: Call) -> None:
        """One more call of the program."""
        if not call.is_call or (call.error and call.op != "sync"):
            return
        match call.op:
            case "write":
                self._inodes[call.inode].changes.append(Change(call.offset, call.data))
            case "truncate":
                self._inodes[call.inode].changes.append(Change(call.length, None))
            case "sync":
                self._inodes[call.inode].synced(failed=bool(call.error))
            case "sync_directory":
                self._sync_directory(call.path)
            case _:
                self._rename(call)

    def _rename(self, call: Call) -> None:
        """A name that comes or goes."""
        match call.op:
            case "create":
                inode = self._inodes[call.inode] = Inode()
                self._entries.append(Entry("", call.path, inode))
            case "mkdir":
                self._entries.append(Entry("", call.path, None))
            case "rename":
                self._entries.append(Entry(call.path, call.other, self._inodes[call.inode]))
            case "link":
                self._entries.append(Entry("", call.other, self._inodes[call.inode]))
            case "unlink":
                self._entries.append(Entry(call.path, "", self._inodes[call.inode]))
            case _:
                self._entries.append(Entry(call.path, "", None))

    def _sync_directory(self, path: str) -> None:
        left = []
        for entry in self._entries:
            if path in entry.directories:
                entry.on(self._names)
            else:
                left.append(entry)
        self._entries = left

    def whole(self) -> dict[str, bytes]:
        """Every file as the program sees it: what a kill leaves."""
        names = dict(self._names)
        for entry in self._entries:
            entry.on(names)
        return {name: inode.whole() for name, inode in names.items() if inode is not None}

    def left(self, chance: Random) -> dict[str, bytes | None]:
        """What a power cut now leaves: files by their path, None for a directory."""
        names = dict(self._names)
        for entry in self._kept(chance):
            entry.on(names)
        keep = chance.choice((0.0, 0.0, 0.2, 0.5, 0.9, 1.0))
        reachable = {name: inode for name, inode in names.items() if all(above in names for above in _above(name))}
        return {name: None if inode is None else inode.left(chance, keep) for name, inode in reachable.items()
                if not name.endswith(SHARED_MEMORY)}

    def _kept(self, chance: Random) -> list[Entry]:
        """Of the names that are not durable: a beginning (so do journalling file systems), or any subset."""
        if chance.random() < 0.5:
            return self._entries[:chance.randint(0, len(self._entries))]
        keep = chance.choice((0.0, 0.5, 1.0))
        return [entry for entry in self._entries if chance.random() < keep]


def _above(name: str) -> Iterator[str]:
    while name := dirname(name):
        yield name


def put(files: Mapping[str, bytes | None], folder: Path) -> None:
    """Make the folder hold exactly these files."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for name, content in sorted(files.items()):
        path = folder / name
        if content is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(content)
