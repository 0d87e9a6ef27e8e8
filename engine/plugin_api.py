"""What plugins are written against: sources, transforms, sinks, and what they may raise.

Why small: a transform is a typed function from a row to a row; ten lines and one test make one.

    from counterfoil import transform, RowError

    @transform
    def add_vat(row, *, rate: float = 0.2):
        if row["net"] < 0:
            raise RowError("a negative amount")
        return {**row, "gross": row["net"] * (1 + rate)}

A transform gets a frozen row and returns a row, None (filtered out) or, when its return annotation is `list[...]` or
`Iterator[...]`, any number of rows (it expands; it may `yield` them). `RowError` is final; `RetryableError` and any
`OSError` are tried again; anything else fails the row as `plugin_raised`. A class whose instances are callable is bound
once per run; its options are the keyword parameters of its `__init__`, and its `close`, when it has one, is called at the
end.

An effect may take the `Attempt` it is (a second parameter named `attempt`): the idempotency key, the time that is left, and
a recorder for its calls. A batch plugin (`@aggregation`) gets a list of rows and returns rows, or a `BatchResult`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar, overload

from engine.rows import Row

Plugin = TypeVar("Plugin", bound=Callable[..., object])

DEADLINE_SECONDS = 60.0
"""How long an effect may take when it does not say otherwise."""
DEADLINE_SECONDS_MAX = 1e6

Delivery = Literal["transactional", "idempotent", "truncatable", "at_least_once"]


class RowError(Exception):
    """This row is at fault, for good: it leaves by the step's `on_error`. `code` is a short stable word for the tables."""

    def __init__(self, reason: str, code: str = "row_error") -> None:
        super().__init__(reason)
        self.code = code


class RetryableError(Exception):
    """It may work later: tried again up to `retry.max_attempts`."""


def transform(function: Plugin) -> Plugin:
    """Mark a function (or a class with `__call__`) as a transform; it changes nothing else about it."""
    function.__counterfoil_kind__ = "transform"  # type: ignore[attr-defined]
    return function


@overload
def effect(function: Plugin) -> Plugin: ...
@overload
def effect(*, deadline_seconds: float = DEADLINE_SECONDS) -> Callable[[Plugin], Plugin]: ...


def effect(
    function: Plugin | None = None, *, deadline_seconds: float = DEADLINE_SECONDS
) -> Plugin | Callable[[Plugin], Plugin]:
    """Mark a transform that touches the outside world: its intent is on record before it runs.

    It runs beside others on a thread of its own, so it must not share what threads may not share. An attempt that takes
    longer than `deadline_seconds` has failed with a timeout, and its late answer is not heard; an instance of a class may
    have its own `deadline_seconds`.
    """

    def mark(marked: Plugin) -> Plugin:
        marked.__counterfoil_kind__ = "transform"  # type: ignore[attr-defined]
        marked.__counterfoil_effect__ = True  # type: ignore[attr-defined]
        marked.__counterfoil_deadline_seconds__ = deadline_seconds  # type: ignore[attr-defined]
        return marked

    if not 0 < deadline_seconds <= DEADLINE_SECONDS_MAX:
        raise ValueError(f"expected deadline_seconds above 0, found {deadline_seconds}")
    return mark if function is None else mark(function)


# --- batches -----------------------------------------------------------------------------------------------------


class Derived(NamedTuple):
    """A row that a batch made, and the places (from 0) of the members it was made of."""

    row: Row
    parents: tuple[int, ...]


class Rejected(NamedTuple):
    """A member, by its place from 0, that a batch plugin does not take: it leaves by `on_error` and is nobody's parent."""

    ordinal: int
    reason: str
    code: str = "rejected"


class BatchResult(NamedTuple):
    """What a batch plugin made. A plain row has every member that was not rejected as its parent.

    In `output_mode: passthrough` there is one row for each member that was not rejected, in their order.
    """

    rows: Iterable[Row | Derived]
    rejected: Sequence[Rejected] = ()


def aggregation(function: Plugin) -> Plugin:
    """Mark a function (or a class with `__call__`) from a list of rows to a list of rows or a `BatchResult`.

    `RowError` fails the whole batch for good, and each member leaves by `on_error`; what may pass is tried again.
    """
    function.__counterfoil_kind__ = "aggregation"  # type: ignore[attr-defined]
    return function


# --- sources -----------------------------------------------------------------------------------------------------


PIPE = " pipe"
"""Ends the kind of a source that cannot be read again: a resume is told that nobody knows what it holds now."""


class SourceIdentity(NamedTuple):
    """What a source reads: enough to tell that it changed since. Unknown size and hash are None; the hash is hex."""

    kind: str
    path: str
    size_bytes: int | None
    sha256: str | None


class RowFault(NamedTuple):
    """Why a source row is invalid: a short stable code, and a text for people (which may quote the row)."""

    code: str
    text: str


class SourceRow(NamedTuple):
    """One row as read. `position` rises from row to row and is where a resume goes on *after*.

    `row` is a JSON value: an object for a valid row; whatever could be read of an invalid one.
    """

    position: int
    row: object
    fault: RowFault | None


class Source(Protocol):
    """Reads rows in a fixed order."""

    def identity(self) -> SourceIdentity:
        """What will be read. Raises OSError when it cannot be."""
        ...

    def rows(self, after: int | None) -> Iterator[SourceRow]:
        """The rows past position `after` (None: all). Bad rows are yielded with a fault; raising ends the source."""
        ...

    def close(self) -> None:
        """Let go of what is held open."""
        ...


# --- sinks -------------------------------------------------------------------------------------------------------


class Refusal(NamedTuple):
    """A row (by its place) that a sink does not take."""

    ordinal: int
    code: str
    text: str


class Prepared(NamedTuple):
    """Rows encoded for a sink: `ordinals` are the places of the accepted rows, `refused` the others."""

    content: bytes
    content_sha256: str
    ordinals: tuple[int, ...]
    refused: tuple[Refusal, ...]


class Written(NamedTuple):
    """What a write came to: the artifact as it is now, and what the target itself refused (places within `ordinals`)."""

    uri: str
    size_bytes: int
    content_sha256: str
    refused: tuple[Refusal, ...]


class Piece(NamedTuple):
    """What one confirmed write put into an artifact: where it begins, its length, its SHA-256 (lower-case hex)."""

    offset: int
    size_bytes: int
    content_sha256: str


def _held() -> bool:
    """A claim that nobody can contest."""
    return True


class Claim(NamedTuple):
    """What a sink is told when it is opened: for whom it writes, and what it has taken from this run before.

    `epoch` rises with every resume; a target that can compare it lets in no writer of an older one. Until the run has
    `begun` to write here, the sink is opened as for a new run (`mode: write` replaces), from then on never.

    A truncatable artifact that was begun has to end at `offset`: what stands past it was never confirmed, and is cut off
    once `pieces`, in order, have been found to be what is kept. They are read from the log as they are asked for, and so are
    `keys`, those of all confirmed writes. `in_doubt` says that writes were begun and not confirmed: only they can have put
    anything past `offset`.

    `is_held` asks the ledger whether this is still the run's writer. A target with a lock of its own asks once it has the
    lock, before it changes anything: who comes too late has lost nothing and spoils nothing.
    """

    ledger: str = ""
    run: str = ""
    sink: str = ""
    epoch: int = 1
    begun: bool = False
    offset: int | None = None
    pieces: Iterable[Piece] = ()
    keys: Iterable[str] = ()
    in_doubt: bool = False
    is_held: Callable[[], bool] = _held


class Sink(Protocol):
    """Takes rows. A row it cannot take is refused; a target that cannot be reached or written raises OSError.

    What `delivery` promises when a write is made again under its key, after a crash between the write and its
    confirmation: `transactional` (rows and a receipt of the key are one transaction: it is not made twice), `idempotent`
    (made again, it changes nothing), `truncatable` (what was not confirmed is cut off first), `at_least_once` (it may be
    there twice, under the same key).
    """

    delivery: Delivery

    def open(self, claim: Claim) -> None:
        """Begin, or go on where the confirmed writes end."""
        ...

    def offset(self) -> int | None:
        """Where the next write begins, for sinks that can be cut back."""
        ...

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Encode rows. Touches nothing outside."""
        ...

    def write(self, prepared: Prepared, key: str) -> Written:
        """Write what was prepared, under an idempotency key; returns when it is durable."""
        ...

    def close(self, finished: bool) -> None:
        """End the artifact when the run is `finished`; let go of it in any case."""
        ...
