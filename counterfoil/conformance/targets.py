"""What a sink writes to, as its author shows it to the kit: read back, emptied, and tampered with.

Why the author's own functions: what a target holds is to be seen by others' eyes than the sink's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

Held = bytes | Sequence[object]


@dataclass(frozen=True)
class Target:
    """The world behind a sink. Each function is called at any time, also while a sink is open.

    - `read` gives what others see there: bytes, or one JSON value for each row, in an order that is always the same and
      without what no two runs have in common (times).
    - `empty` leaves it as if nothing had ever been written.
    - `put` makes the target hold exactly these bytes, which is how a torn write and a changed file are played (for
      `truncatable` sinks, shown as bytes).
    - `key_of` finds in a record (of bytes: in a line) the key under which it was written.
    - `distinct` says that the target itself keeps a row once, however often it is written (a primary key).
    """

    read: Callable[[], Held]
    empty: Callable[[], object]
    put: Callable[[bytes], object] | None = None
    key_of: Callable[[Any], object] | None = None
    distinct: bool = False


def steady(target: Target) -> Target:
    """The same, but what `read` has given does not change any more."""

    def read() -> Held:
        held = target.read()
        return bytes(held) if isinstance(held, bytes | bytearray | memoryview) else [*held]

    return replace(target, read=read)


def file_target(path: str | Path) -> Target:
    """A target that is one file."""
    file = Path(path)
    return Target(read=lambda: file.read_bytes() if file.exists() else b"", empty=lambda: file.unlink(missing_ok=True),
                  put=file.write_bytes)


def records(held: Held) -> list[object]:
    """The records that are held; those of bytes are lines."""
    return [*held.splitlines(keepends=True)] if isinstance(held, bytes) else [*held]


def counted(held: Held) -> Counter[bytes]:
    """How often each record is held, each as its JSON."""
    return Counter(map(_known, records(held)))


def added(before: Held, after: Held) -> list[object]:
    """The records that are held after, and were not before."""
    old = counted(before)
    more = []
    for record in records(after):
        known = _known(record)
        if old[known] > 0:
            old[known] -= 1
        else:
            more.append(record)
    return more


def same(one: Held, other: Held) -> bool:
    """Whether both are the same, in the same order."""
    if isinstance(one, bytes) or isinstance(other, bytes):
        return one == other
    return [*map(_known, one)] == [*map(_known, other)]


def differing(expected: Held, found: Held) -> tuple[str, str]:
    """Where the two part, as what was expected and what was found."""
    if isinstance(expected, bytes) and isinstance(found, bytes):
        return _parting(expected, found)
    before, after = counted(expected), counted(found)
    missing, more = [*(before - after).elements()], [*(after - before).elements()]
    if not missing and not more:
        return "the records in the order of a run that was not cut", "them in another"
    return (f"{before.total()} records" + (f", among them {_shown(missing)}" if missing else ""),
            f"{after.total()}" + (f", {len(more)} of them too many: {_shown(more)}" if more else ""))


def _known(record: object) -> bytes:
    """What a record is known by."""
    return record if isinstance(record, bytes) else _encode(record)


def _parting(expected: bytes, found: bytes) -> tuple[str, str]:
    pairs = enumerate(zip(expected, found, strict=False))
    at = next((place for place, (one, other) in pairs if one != other), min(len(expected), len(found)))
    return (f"{len(expected)} bytes, from byte {at} on {expected[at : at + 60]!r}",
            f"{len(found)} bytes, from byte {at} on {found[at : at + 60]!r}")


def _shown(found: list[bytes]) -> str:
    text = ", ".join(one.decode(errors="replace") for one in found[:3])
    return f"{text[:200]}{' …' if len(found) > 3 or len(text) > 200 else ''}"


_encode = msgspec.json.Encoder(order="sorted", enc_hook=repr).encode
