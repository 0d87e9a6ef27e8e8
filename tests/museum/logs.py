"""Ledgers as text: streams with their heads, their events and their payloads, one thing a line.

Why text: a log that was written once is read by every version after it, whatever a store's tables look like then. Whoever
needs one in a database takes `load(name)`, and either `put`s it there or writes its rows as that database had them.

Lines of a file: `{"stream": ...}` begins a stream, `{"event": [...]}` and `{"payload": [...]}` are of the stream before
them, `{"file": [name, text]}` is what lay beside the ledger. Bodies and payloads are texts as they stand; digests are hex.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger import ids
from ledger.memory_store import MemoryStore
from ledger.store import Part, Payload, Store, Stored, StreamHead

MUSEUM = Path(__file__).resolve().parent
LOGS = MUSEUM / "logs"


@dataclass(frozen=True)
class Stream:
    """One stream: everything that table `streams` says of it, and all that it holds."""

    head: StreamHead
    events: list[Stored] = field(default_factory=list)
    payloads: list[Payload] = field(default_factory=list)


@dataclass(frozen=True)
class Log:
    """A whole ledger, its own stream first; `files` lay beside it."""

    streams: list[Stream]
    files: dict[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> list[str]:
        """The names of its runs."""
        return [stream.head.run for stream in self.streams if stream.head.run != ids.LEDGER_STREAM]

    def kinds(self) -> set[tuple[str, int]]:
        """Each (type, version) that is stored in it."""
        return {(one.type, one.v) for stream in self.streams for one in stream.events}


def names() -> list[str]:
    """Every golden log: `<era>/<name>`."""
    return sorted(path.relative_to(LOGS).with_suffix("").as_posix() for path in LOGS.glob("*/*.jsonl"))


def load(name: str) -> Log:
    """One golden log."""
    return parse((LOGS / f"{name}.jsonl").read_text(encoding="utf-8"))


def told(name: str) -> dict[str, Any]:
    """What each run of a golden log told when it was put in."""
    found: dict[str, Any] = json.loads((LOGS / f"{name}.told.json").read_text(encoding="utf-8"))
    return found


def put(log: Log, store: Store | None = None) -> Store:
    """The log in a store, which must be empty (none given: one in memory)."""
    store = MemoryStore() if store is None else store
    store.append([Part(None, 0, stream.head, stream.events, stream.payloads) for stream in log.streams])
    return store


def taken(store: Store, files: dict[str, str] | None = None) -> Log:
    """A whole store as a log, the ledger's own stream first."""
    streams = [Stream(head, list(store.read(head.run)), list(store.payloads_between(head.run, 1, 2**62)))
               for head in store.heads()]
    return Log(sorted(streams, key=lambda stream: stream.head.run != ids.LEDGER_STREAM), dict(files or {}))


def text(log: Log) -> str:
    """The log as lines."""
    return "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in _lines(log))


def parse(content: str) -> Log:
    """Lines as the log that they are."""
    streams: list[Stream] = []
    files: dict[str, str] = {}
    for line in content.split("\n")[:-1]:
        ((kind, value),) = json.loads(line).items()
        if kind == "stream":
            digests = {name: bytes.fromhex(value[name]) for name in ("root", "frontier")}
            streams.append(Stream(StreamHead(**(value | digests))))
        elif kind == "event":
            streams[-1].events.append(Stored._make([*value[:-1], value[-1].encode()]))
        elif kind == "payload":
            n, salt, data, permanent = value
            streams[-1].payloads.append(Payload(n, salt if salt is None else bytes.fromhex(salt),
                                                data if data is None else data.encode(), permanent))
        else:
            files[value[0]] = value[1]
    return Log(streams, files)


def _lines(log: Log) -> Iterator[dict[str, Any]]:
    for stream in log.streams:
        yield {"stream": stream.head._asdict() | {"root": stream.head.root.hex(), "frontier": stream.head.frontier.hex()}}
        for one in stream.events:
            yield {"event": [*one[:-1], one.body.decode()]}
        for payload in stream.payloads:
            yield {"payload": [payload.n, payload.salt.hex() if payload.salt is not None else None,
                               payload.bytes.decode() if payload.bytes is not None else None, payload.permanent]}
    for name, content in log.files.items():
        yield {"file": [name, content]}
