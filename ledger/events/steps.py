"""Steps and ways: attempts and calls, gates, forks, expansions, diverts."""

from __future__ import annotations

from ledger.events.header import Commitment, Count, DivertKind, Event, Output


class StepStarted(Event, tag="StepStarted", frozen=True, kw_only=True):
    """An attempt is about to begin: written before an outside effect, and before every step after an unclean stop."""

    token: str
    node: str
    attempt: int
    input: int
    key: str | None = None


class StepCompleted(Event, tag="StepCompleted", frozen=True, kw_only=True):
    """An attempt succeeded; the token goes on with `output`."""

    token: str
    node: str
    attempt: int
    input: int
    output: Output
    duration_us: Count


class StepFailed(Event, tag="StepFailed", frozen=True, kw_only=True):
    """An attempt failed. With `retry` another follows no earlier than `delay_ms` of run time later."""

    token: str
    node: str
    attempt: int
    input: int
    code: str
    error: Commitment | None
    retry: bool
    delay_ms: Count = 0
    duration_us: Count


class StepAbandoned(Event, tag="StepAbandoned", frozen=True, kw_only=True):
    """The process died in this attempt."""

    token: str
    node: str
    attempt: int
    code: str


class CallRecorded(Event, tag="CallRecorded", frozen=True, kw_only=True):
    """One outside call inside an attempt; `call` counts from 0."""

    token: str
    node: str
    attempt: int
    call: int
    kind: str
    status: str
    request: Commitment
    response: Commitment | None
    latency_us: Count


class TokenFiltered(Event, tag="TokenFiltered", frozen=True, kw_only=True):
    """A 1 to 0 step: the token ended by rule."""

    token: str
    node: str
    attempt: int
    input: int
    duration_us: Count


class Routed(Event, tag="Routed", frozen=True, kw_only=True):
    """A gate chose `label`, and with it `edge`."""

    token: str
    node: str
    label: str
    edge: str
    duration_us: Count = 0


class TokenForked(Event, tag="TokenForked", frozen=True, kw_only=True):
    """A gate's fork: the parent ended, one child per branch exists, in this one event."""

    token: str
    node: str
    label: str
    branches: tuple[str, ...]
    duration_us: Count = 0


class TokenExpanded(Event, tag="TokenExpanded", frozen=True, kw_only=True):
    """A 1 to N step: the parent ended, `count` children exist. Long lists of outputs are in `outputs_list`."""

    token: str
    node: str
    attempt: int
    input: int
    count: int
    outputs: tuple[Output, ...] | None
    outputs_list: Commitment | None = None
    duration_us: Count


class Diverted(Event, tag="Diverted", frozen=True, kw_only=True):
    """A token left the normal path: along a divert edge `to` a sink, or to `discard` (then there is no edge).

    `reason` refers to the payload that the failure, the invalid row or the refusal introduced.
    """

    token: str
    kind: DivertKind
    node: str
    edge: str | None
    to: str
    code: str
    reason: int | None
