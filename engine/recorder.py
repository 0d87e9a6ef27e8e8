"""The recorder: stamps what executors say, applies it, buffers it, commits it.

Why: decide, apply, append. An event that the laws do not allow raises in `apply`, before anything is stored.

Invariants: one stamp serves a whole decision, so that a due timer is decided before anything that happened after it;
stamps never fall; after an exception the recorder is spoilt and must be dropped with its state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from engine.codes import code_of
from engine.executors.keeper import TEXT_CHARS_MAX
from engine.long_lists import LISTED, shortened, with_lists
from engine.masking import Masking
from engine.ports import Ports
from ledger import events as e
from ledger.codec import VERSION_OF
from ledger.errors import RunIncomplete
from ledger.events import Change, Commitment, Event, RunClaimed, RunStarted
from ledger.fold import State, apply
from ledger.graph import Graph
from ledger.store import PAYLOAD_BYTES_MAX, Part, StreamStatus
from ledger.writer import Writer

SALT_BYTES = 16
DETAIL_CHARS_MAX = 1000

EventT = TypeVar("EventT", bound=Event)

encode_row = msgspec.json.Encoder().encode
"""A row to payload bytes: JSON in the row's own field order."""


class TooLarge(RunIncomplete):
    """Nobody can keep what a decision has to say: the run stops in its midst, and nothing more is said with this state."""


class Recorder:
    """Writes one run's stream. `at` and `active_ms` are the current stamp, renewed by `tick`."""

    def __init__(self, state: State, writer: Writer, ports: Ports, masking: Masking | None = None) -> None:
        self.state = state
        self.ports = ports
        self.masking = masking or Masking()
        self.at = state.at
        self.active_ms = state.active_ms
        self._writer = writer
        self._active_from_ns = ports.monotonic_ns() - state.active_ms * 1_000_000
        self.tick()

    def tick(self) -> int:
        """Renew the stamp; gives the run time in milliseconds."""
        self.at = max(self.at, self.ports.wall_us())
        self.active_ms = max(self.active_ms, (self.ports.monotonic_ns() - self._active_from_ns) // 1_000_000)
        return self.active_ms

    def record(self, event: Event) -> None:
        """Stamp, apply and buffer one event, its long lists put aside. Raises `LawBroken` and then stores nothing of it."""
        stamped = self._stamp(event, self.state.epoch)
        if type(event) in LISTED:
            short = shortened(stamped, self._keep_list)
            if short is not stamped:
                apply(self.state, with_lists(stamped, short))
                self._writer.add(short)
                return
        apply(self.state, stamped)
        self._writer.add(stamped)

    def _keep_list(self, data: bytes) -> Commitment:
        return self.keep(data, permanent=True)

    def start(self, event: RunStarted, graph: Graph) -> None:
        """Record `RunStarted`; the fold needs its graph also when the body only commits to it."""
        stamped = self._stamp(event, 1)
        apply(self.state, replace(stamped, graph=graph))
        self._writer.add(stamped)

    def claim(self, changes: Sequence[Change] = ()) -> None:
        """Record that this process takes the next epoch: no writer of an older one can store anything any more."""
        epoch = self.state.epoch + (self.state.seq > 1)
        stamped = self._stamp(RunClaimed(process=self.ports.process, changes=tuple(changes)), epoch)
        apply(self.state, stamped)
        self._writer.add(stamped)

    def _stamp(self, event: EventT, epoch: int) -> EventT:
        return replace(
            event,
            run=self.state.run,
            seq=self.state.seq + 1,
            epoch=epoch,
            v=VERSION_OF[type(event)],
            at=self.at,
            active_ms=self.active_ms,
        )

    def keep(self, data: bytes, *, permanent: bool = False) -> Commitment:
        """Buffer a payload; the event that carries the commitment must be recorded next.

        Raises `TooLarge` for more than a store holds: a merged row has no other bound.
        """
        if len(data) > PAYLOAD_BYTES_MAX:
            raise TooLarge("LIMIT_EXCEEDED", f"expected a row of at most {PAYLOAD_BYTES_MAX} bytes, found {len(data)}",
                           where="ledger", next_step="run again with smaller rows or groups")
        return self._writer.keep(self.ports.random_bytes(SALT_BYTES), data, permanent=permanent)

    def keep_text(self, text: str) -> Commitment:
        """Buffer a text as a JSON string payload, as it is `shown`."""
        return self.keep(encode_row(self.shown(text).encode("utf-8", "backslashreplace").decode()))

    def shown(self, text: str) -> str:
        """See `Keeper`: masked before it is cut, so that no beginning of a secret stands at the cut."""
        return self.masking.text(text)[:TEXT_CHARS_MAX]

    def code(self, given: object) -> str:
        """See `Keeper`."""
        code = code_of(given)
        return code_of(self.masking.text(code))

    def interrupt(self, code: str, detail: str) -> None:
        """Record that the run stops here, also when the state is spoilt: whatever was lawful before is kept with it.

        A run whose seal was said is not interrupted any more.
        An interruption changes nothing in the state but that a claim must follow, so it needs no fold to be lawful.
        """
        if self.state.status in ("completed", "failed"):
            return
        self._writer.forget_unsaid()
        event = e.RunInterrupted(code=code, detail=detail[:DETAIL_CHARS_MAX], run=self.state.run, seq=self._writer.size + 1,
                                 epoch=self._writer.epoch, v=VERSION_OF[e.RunInterrupted], at=self.at,
                                 active_ms=self.active_ms)
        self._writer.add(event)
        self.state.status = "interrupted"
        self._writer.commit("interrupted")

    def root(self) -> str:
        """Root over everything recorded so far."""
        return self._writer.root()

    @property
    def size(self) -> int:
        """Events of the stream so far, those that are not committed yet included: what `root` is over."""
        return self._writer.size

    @property
    def buffered(self) -> int:
        """Events recorded and not yet committed."""
        return self._writer.buffered

    def part(self) -> Part:
        """What the next commit adds to the stream."""
        return self._writer.part(self.status())

    def commit(self, also: Callable[[], Sequence[Part]] = tuple) -> None:
        """Make everything recorded so far durable, in one transaction with the parts that `also` makes."""
        self._writer.commit(self.status(), also)

    def status(self) -> StreamStatus:
        """The stream's status, from the fold."""
        return "running" if self.state.status == "new" else self.state.status
