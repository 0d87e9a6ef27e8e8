"""Sinks of simulated processes, and what outlives them: the artifacts.

Why four: what a crash between a write and its confirmation leaves behind depends on what the sink can promise.

Invariants: an artifact changes only while its process lives; a writer of an older epoch is not let in; every write that is
made again under its key has the same rows (another is complained of).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from engine.plugin_api import Claim, Delivery, Prepared, Refusal, Written
from tests.simulation.drawn_answers import REFUSED_LATE
from tests.simulation.predicted_plan import Answers

Rows = Sequence[Mapping[str, object]]

_lines = msgspec.json.Encoder().encode_lines


class Artifact:
    """What a sink has made in the world. `data` is a truncatable one's; the others keep rows by key and place."""

    def __init__(self, name: str, delivery: Delivery) -> None:
        self.name = name
        self.delivery = delivery
        self.data = b""
        self.taken: list[tuple[str, int, Any]] = []
        self.receipts: dict[str, tuple[bytes, Written]] = {}
        self.epoch = 0
        self.remade = 0
        self.cut = 0

    def rows(self) -> list[Any]:
        """The rows that are there; one that is there twice under its key counts once."""
        if self.delivery == "truncatable":
            return [msgspec.json.decode(line) for line in self.data.splitlines()]
        return [row for _, _, row in {(key, n): (key, n, row) for key, n, row in self.taken}.values()]



class SimulatedSink:
    """One process's way to an artifact. `gate` is asked before, amid and after a write, at open and at close,
    and may raise."""

    def __init__(self, artifact: Artifact, answers: Answers, gate: Callable[[str], None],
                 complain: Callable[[str], None]) -> None:
        self.delivery: Delivery = artifact.delivery
        self._artifact = artifact
        self._answers = answers
        self._gate = gate
        self._complain = complain

    def open(self, claim: Claim) -> None:
        """See `engine.plugin_api.Sink`."""
        self._gate("open")
        artifact = self._artifact
        if claim.epoch <= artifact.epoch:
            self._complain(f"epoch {claim.epoch} opens {artifact.name} after {artifact.epoch}")
        artifact.epoch = claim.epoch
        if artifact.delivery != "truncatable":
            return
        for piece in claim.pieces:
            found = artifact.data[piece.offset : piece.offset + piece.size_bytes]
            if sha256(found).hexdigest() != piece.content_sha256:
                self._complain(f"{artifact.name} at {piece.offset} is not what was confirmed")
        end = (claim.offset or 0) if claim.begun else 0
        if len(artifact.data) < end:
            self._complain(f"{artifact.name} ends before {end}")
        artifact.cut += len(artifact.data) > end
        artifact.data = artifact.data[:end]

    def offset(self) -> int | None:
        """See `engine.plugin_api.Sink`."""
        return len(self._artifact.data) if self.delivery == "truncatable" else None

    def prepare(self, rows: Rows) -> Prepared:
        """See `engine.plugin_api.Sink`. A file refuses here; a target refuses some of the rows only when it gets them."""
        codes = [self._answers.refuses(self._artifact.name, row) for row in rows]
        early = self.delivery == "truncatable"
        accepted = tuple(n for n, code in enumerate(codes) if code is None or (code == REFUSED_LATE and not early))
        refused = tuple(Refusal(n, code, "it said so") for n, code in enumerate(codes)
                        if code is not None and n not in accepted)
        content = _lines([rows[n] for n in accepted])
        return Prepared(content, sha256(content).hexdigest(), accepted, refused)

    def write(self, prepared: Prepared, key: str) -> Written:
        """See `engine.plugin_api.Sink`."""
        self._gate("lost")
        artifact, content = self._artifact, prepared.content
        content_before, before = artifact.receipts.get(key, (content, None))
        if content_before != content:
            self._complain(f"{artifact.name} is given other rows under {key}")
        artifact.remade += before is not None
        if before is not None and artifact.delivery == "transactional":
            return before
        written = self._append(content) if artifact.delivery == "truncatable" else self._take(content, key)
        artifact.receipts[key] = (content, written)
        self._gate("unheard")
        return written

    def _append(self, content: bytes) -> Written:
        artifact = self._artifact
        half = artifact.data + content[: len(content) // 2]
        whole = artifact.data + content
        artifact.data = half
        self._gate("half")
        artifact.data = whole
        return Written("memory:", len(whole), sha256(content).hexdigest(), ())

    def _take(self, content: bytes, key: str) -> Written:
        artifact = self._artifact
        rows = [msgspec.json.decode(line) for line in content.splitlines()]
        late = [n for n, row in enumerate(rows) if self._answers.refuses(artifact.name, row) is not None]
        taken = [(key, n, row) for n, row in enumerate(rows) if n not in late]
        half = 0 if artifact.delivery == "transactional" else len(taken) // 2
        artifact.taken += taken[:half]
        self._gate("half")
        artifact.taken += taken[half:]
        if artifact.delivery == "idempotent":
            artifact.taken = [*{(k, n): (k, n, row) for k, n, row in artifact.taken}.values()]
        return Written("memory:", len(artifact.taken), sha256(content).hexdigest(),
                       tuple(Refusal(n, REFUSED_LATE, "the target said so") for n in late))

    def close(self, finished: bool) -> None:
        """See `engine.plugin_api.Sink`: what is durable stays as it is."""
        if finished:
            self._gate("close")
