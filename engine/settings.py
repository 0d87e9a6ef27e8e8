"""The pipeline file's shape: what each section may say, checked by pydantic, frozen, nothing unknown accepted.

Why here and not in the graph: these are rules about one section at a time (D2); what names refer to is the graph's.

Units: `*_seconds` are seconds of run time, `row_bytes` bytes of a row's JSON.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ledger.graph import CollisionPolicy, MergeName, PolicyName
from ledger.ids import NAME_PATTERN, RESERVED_NAMES
from ledger.postgres_url import is_postgres

_NUMERAL = re.compile(r"[+-]?\d{1,15}(\.\d{1,15})?")


def _number(value: object) -> object:
    """A number, or its plain numeral from the environment; `true`, NaN and infinity are none."""
    if isinstance(value, str) and _NUMERAL.fullmatch(value):
        return float(value) if "." in value else int(value)
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"expected a number, found {value!r}")
    return value


def _name(value: str) -> str:
    if NAME_PATTERN.fullmatch(value) is None:
        raise ValueError(f"expected a name (a letter, then up to 62 letters, digits, '_' or '-'), found {value!r:.80}")
    return value


def _own_name(value: str) -> str:
    if value in RESERVED_NAMES or value.startswith("__"):
        raise ValueError(f"expected another name: {value!r} is reserved")
    return _name(value)


Name = Annotated[str, BeforeValidator(lambda value: _name(value) if isinstance(value, str) else value)]
OwnName = Annotated[str, BeforeValidator(lambda value: _own_name(value) if isinstance(value, str) else value)]
Seconds = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1e9)]
PositiveSeconds = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1e9)]
Count = Annotated[int, BeforeValidator(_number), Field(ge=1, le=10**12)]
Options = dict[str, object]


class Section(BaseModel):
    """A part of the pipeline file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SourceSettings(Section):
    """Where rows come from. `redact` fields never reach the pipeline or the record."""

    plugin: Annotated[str, BeforeValidator(lambda value: "null" if value is None else value)]
    on_success: Name
    key: str | None = None
    redact: Annotated[tuple[str, ...], Field(strict=False)] = ()
    options: Options = {}


class TransformSettings(Section):
    """One step. `on_error` is a sink or `discard` and has to be said."""

    name: OwnName
    plugin: str
    input: Name
    on_success: Name
    on_error: Name
    options: Options = {}


class GateSettings(Section):
    """One choice. A boolean condition answers to the labels `"true"` and `"false"`, a string to itself."""

    name: OwnName
    input: Name
    condition: str
    routes: dict[str, Name] = Field(min_length=1)
    fork_to: Annotated[tuple[OwnName, ...], Field(strict=False)] = ()
    on_error: Name | None = None

    @field_validator("routes")
    @classmethod
    def _labels(cls, routes: dict[str, str]) -> dict[str, str]:
        for label in routes:
            if not label or label.startswith("__") or label == "continue" or len(label) > 64:
                raise ValueError(f"expected a label that is not reserved, found {label!r:.80}")
        return routes

    @model_validator(mode="after")
    def _fork(self) -> Self:
        if len(set(self.fork_to)) != len(self.fork_to):
            raise ValueError("expected each branch of fork_to once")
        forks = "fork" in self.routes.values()
        if forks and len(self.fork_to) < 2:
            raise ValueError(f"expected fork_to with two branches or more for a route to fork, found {list(self.fork_to)}")
        if self.fork_to and not forks:
            raise ValueError("expected a route to fork where fork_to names branches")
        clash = sorted(set(self.fork_to) & set(self.routes))
        if clash:
            raise ValueError(f"expected branches and labels of different names, found {clash[0]!r} as both")
        return self


class TriggerSettings(Section):
    """When a batch is due; the first condition wins, the end of the source always flushes."""

    count: Count | None = None
    timeout_seconds: PositiveSeconds | None = None
    condition: str | None = None


class AggregationSettings(Section):
    """Many rows to some."""

    name: OwnName
    plugin: str
    input: Name
    on_success: Name
    on_error: Name
    trigger: TriggerSettings = TriggerSettings()
    output_mode: Literal["transform", "passthrough"] = "transform"
    expected_output_count: Count | None = None
    options: Options = {}


class CoalesceSettings(Section):
    """Where the branches of a fork, or the children of an expansion, meet again."""

    name: OwnName
    branches: dict[str, Name] = {}
    gathers: Name | None = None
    input: Name | None = None
    into: str = "items"
    policy: PolicyName = "require_all"
    quorum_count: Count | None = None
    timeout_seconds: PositiveSeconds | None = None
    merge: MergeName = "union"
    select_branch: str | None = None
    union_collision_policy: CollisionPolicy = "last_wins"
    on_success: Name | None = None

    @field_validator("branches", mode="before")
    @classmethod
    def _listed(cls, branches: object) -> object:
        """A list of branches is a map of each to itself."""
        if not isinstance(branches, list):
            return branches
        if any(not isinstance(branch, str) for branch in branches):
            raise ValueError("expected names of branches")
        twice = next((branch for n, branch in enumerate(branches) if branch in branches[:n]), None)
        if twice is not None:
            raise ValueError(f"expected each branch once, found {twice!r} twice")
        return {branch: branch for branch in branches}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        """D2: what could never merge, or would have to guess, is refused."""
        fault = self._shape_fault() or self._policy_fault() or self._merge_fault()
        if fault:
            raise ValueError(fault)
        return self

    def _shape_fault(self) -> str | None:
        if self.gathers is not None:
            if self.branches:
                return "expected branches or gathers, found both"
            if self.merge != "list" and "merge" in self.model_fields_set:
                return f"expected merge: list for a coalesce that gathers, found {self.merge}"
            return None if self.input else "expected the input that carries what is gathered"
        if len(self.branches) < 2:
            return f"expected two branches or more, found {len(self.branches)}"
        if self.merge == "list":
            return "expected merge: union, nested or select for branches, found list"
        return "expected no input: branches say what carries them" if self.input else None

    def _policy_fault(self) -> str | None:
        if self.policy == "quorum":
            if self.quorum_count is None:
                return "expected quorum_count for policy quorum"
            if not self.gathers and self.quorum_count > len(self.branches):
                return f"expected quorum_count of at most {len(self.branches)} branches, found {self.quorum_count}"
        elif self.quorum_count is not None:
            return f"expected quorum_count only for policy quorum, found it for {self.policy}"
        if self.policy == "best_effort" and self.timeout_seconds is None:
            return "expected timeout_seconds for policy best_effort"
        if self.policy == "first" and self.timeout_seconds is not None:
            return "expected no timeout_seconds for policy first: the first arrival decides"
        return None

    def _merge_fault(self) -> str | None:
        if self.merge == "select":
            if self.select_branch not in self.branches:
                return f"expected select_branch to be one of {list(self.branches)}, found {self.select_branch}"
        elif self.select_branch is not None:
            return f"expected select_branch only for merge select, found it for {self.merge}"
        if self.merge != "union" and "union_collision_policy" in self.model_fields_set:
            return f"expected union_collision_policy only for merge union, found it for {self.merge}"
        if self.gathers is None and "into" in self.model_fields_set:
            return "expected into only for a coalesce that gathers"
        return None


class SinkSettings(Section):
    """Where rows go. What the sink refuses goes to `on_write_failure`."""

    plugin: str
    on_write_failure: Name = "discard"
    options: Options = {}


def is_kept_here(url: object) -> bool:
    """Whether a ledger can be kept at that URL: in a SQLite file, or in a PostgreSQL database."""
    if not isinstance(url, str):
        return False
    return (url.startswith("sqlite:///") and len(url) > len("sqlite:///")) or is_postgres(url)


class LedgerSettings(Section):
    """Where the record is kept."""

    url: str

    @field_validator("url")
    @classmethod
    def _kept_here(cls, url: str) -> str:
        if not is_kept_here(url):
            raise ValueError("expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME")
        return url


class RetrySettings(Section):
    """How often and how soon a step is tried again."""

    max_attempts: Annotated[int, BeforeValidator(_number), Field(ge=1, le=1000)] = 3
    initial_delay_seconds: Seconds = 0.1
    max_delay_seconds: Seconds = 10.0
    exponential_base: Annotated[float, BeforeValidator(_number), Field(ge=1, le=100)] = 2.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if "max_delay_seconds" in self.model_fields_set and self.max_delay_seconds < self.initial_delay_seconds:
            raise ValueError("expected max_delay_seconds of at least initial_delay_seconds")
        return self


class ConcurrencySettings(Section):
    """How many steps with outside effects may run at once."""

    max_workers: Annotated[int, BeforeValidator(_number), Field(ge=1, le=1024)] = 1


class LimitsSettings(Section):
    """What keeps memory bounded."""

    row_bytes: Count = 4 * 2**20
    open_groups: Count = 100_000
    expand_children: Count = 10_000
    batch_rows: Count = 10_000
    step_seconds: PositiveSeconds | None = None


class PipelineSettings(Section):
    """A whole pipeline file. The last five keys are the predecessor's: accepted, and each answered with a notice."""

    name: Name | None = None
    source: SourceSettings
    transforms: list[TransformSettings] = []
    gates: list[GateSettings] = []
    aggregations: list[AggregationSettings] = []
    coalesce: list[CoalesceSettings] = []
    sinks: dict[OwnName, SinkSettings] = Field(min_length=1)
    ledger: LedgerSettings | None = None
    retry: RetrySettings = RetrySettings()
    concurrency: ConcurrencySettings = ConcurrencySettings()
    limits: LimitsSettings = LimitsSettings()
    landscape: object = None
    payload_store: object = None
    checkpoint: object = None
    telemetry: object = None
    rate_limit: object = None
