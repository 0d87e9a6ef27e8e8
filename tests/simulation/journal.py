"""The journal that `interpose.c` writes: every call of a process that changed a file, in order, with its data.

Invariants: a record stands here only when its call had returned, or had been refused (then `error` says with what); paths
are told relative to the directory that was watched.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

Op = Literal["create", "write", "truncate", "sync", "sync_directory", "rename", "unlink", "mkdir", "rmdir", "link", "mark",
             "killed", "stopped"]

OPS: tuple[Op, ...] = ("create", "write", "truncate", "sync", "sync_directory", "rename", "unlink", "mkdir", "rmdir", "link",
                       "mark", "killed", "stopped")
TOLD: frozenset[Op] = frozenset({"mark", "killed", "stopped"})
"""Records that are no calls."""

_RECORD = struct.Struct("=IIQQqqiiIIII")
_MAGIC = 0x4C4E524A
_DELETED = " (deleted)"


class Call(NamedTuple):
    """One record. `number` counts the calls of its process from 1; `length` is a write's bytes or a truncation's size.

    Where a process was killed or stopped, `offset` says before (0), in (1) or after (2) which call; `length` which op.
    """

    op: Op
    number: int
    inode: int
    offset: int
    length: int
    error: int
    process: int
    path: str
    other: str
    data: bytes

    @property
    def is_call(self) -> bool:
        """Whether it is one that a plan can name."""
        return self.op not in TOLD


def read(path: Path, root: Path) -> list[Call]:
    """Every record of a journal, by the order of the calls; `root` is the directory that was watched."""
    return list(_records(path.read_bytes(), f"{root}/")) if path.exists() else []


def acknowledged(call: Call, run: str) -> int:
    """How many events of a run a commit had just returned for, when the record is such a mark (else 0)."""
    word, _, rest = call.path.partition(" ")
    size, _, of = rest.partition(" ")
    return int(size) if call.op == "mark" and word == "ack" and of == run else 0


def _records(text: bytes, root: str) -> Iterator[Call]:
    place = 0
    while place < len(text):
        magic, op, number, inode, offset, length, error, process, path, other, data, _ = _RECORD.unpack_from(text, place)
        if magic != _MAGIC:
            raise ValueError(f"no record at byte {place} of the journal")
        place += _RECORD.size
        names = []
        for size in (path, other):
            names.append(text[place:place + size].decode("utf-8", "surrogateescape"))
            place += size
        kind = OPS[op - 1]
        if kind != "mark":
            names = [f"{name}/".removeprefix(root).removesuffix("/").removesuffix(_DELETED) for name in names]
        yield Call(kind, number, inode, offset, length, error, process, names[0], names[1], text[place:place + data])
        place += data
