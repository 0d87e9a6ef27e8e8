"""From a pipeline file to something that can run: its graph, and its plugins bound.

Invariant: everything that can be refused is refused by `prepare`, before the run has an event; `bind` makes the plugins,
which may then hold something open, and nothing is opened at its target before the run has started.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine import graph as graphs
from engine import pipeline_file
from engine.bound import BoundAggregation, BoundGate, BoundPipeline, BoundStep, RetryPolicy, Transform
from engine.checked_source import CheckedSource
from engine.fingerprints import fingerprints
from engine.masking import Masking
from engine.plugin_api import DEADLINE_SECONDS, DEADLINE_SECONDS_MAX, Source, SourceIdentity
from engine.plugins import BUILT_IN_ORIGIN, Catalog, OptionsInvalid, bind
from engine.ports import Ports
from engine.problems import PipelineRefused, hushed
from engine.redaction import RedactedSource
from engine.run import Opening
from engine.schema import shown
from engine.watchdog import Watchdog
from engine.wiring import sections
from ledger.errors import RunIncomplete, UsageError
from ledger.expressions import compile_expression
from ledger.graph import SOURCE, Node
from ledger.ids import is_run_id, is_text


@dataclass(frozen=True)
class Prepared:
    """A pipeline file that is known to be runnable."""

    file: pipeline_file.PipelineFile
    pipeline: graphs.Pipeline

    @property
    def notices(self) -> tuple[str, ...]:
        """What the file says that has no effect, one line each."""
        return (*self.file.notices, *self.pipeline.notices)


def prepare(path: str, ports: Ports, *, strict: bool = False) -> Prepared:
    """Read a pipeline file and build its graph. Raises `UsageError` and `SettingsInvalid` with what has to be mended."""
    file = pipeline_file.load(path, ports.environment)
    return Prepared(file, graphs.build(file, Catalog(), strict=strict))


def bound(prepared: Prepared) -> BoundPipeline:
    """Make the plugins. Raises `SettingsInvalid` when one of them does not take its options."""
    settings = prepared.file.settings
    pipeline = prepared.pipeline
    nodes = {node.id: node for node in pipeline.graph.nodes}
    retry = RetryPolicy(
        initial_delay_ms=round(settings.retry.initial_delay_seconds * 1000),
        max_delay_ms=round(settings.retry.max_delay_seconds * 1000),
        exponential_base=settings.retry.exponential_base,
    )
    made = {node: _made(prepared, node) for node in pipeline.plugins}
    watch = None if settings.limits.step_seconds is None else Watchdog(settings.limits.step_seconds)
    source: Source = made[SOURCE]
    if pipeline.plugins[SOURCE].origin != BUILT_IN_ORIGIN:
        source = CheckedSource(source)
    if settings.source.redact:
        source = RedactedSource(source, settings.source.redact)
    return BoundPipeline(
        source=source,
        key_field=settings.source.key,
        steps={one.name: _step(prepared, nodes[one.name], made[one.name], retry, watch) for one in settings.transforms},
        gates={one.name: BoundGate(nodes[one.name], compile_expression(one.condition), dict(one.routes))
               for one in settings.gates},
        sinks={name: made[name] for name in settings.sinks},
        aggregations={one.name: BoundAggregation(nodes[one.name], _watched(watch, nodes[one.name], made[one.name]), retry)
                      for one in settings.aggregations},
        open_groups_max=settings.limits.open_groups,
        row_bytes_max=settings.limits.row_bytes,
        children_max=settings.limits.expand_children,
        batch_rows_max=settings.limits.batch_rows,
        workers_max=settings.concurrency.max_workers,
        masking=Masking(prepared.file.secrets.values()),
        closers=(*(_closer(made[node.id]) for node in pipeline.graph.nodes if node.kind in ("transform", "aggregation")),
                 *([] if watch is None else [watch.close])),
    )


def opening(prepared: Prepared, pipeline: BoundPipeline, ports: Ports, run: str | None = None, *, resumed: bool = False
            ) -> Opening:
    """What the run will say of itself.

    Raises `RunIncomplete` (SOURCE_UNREADABLE) when there is nothing to read; one that is resumed may not need to.
    """
    file = prepared.file
    if run is not None and not is_run_id(run):
        raise UsageError("RUN_ID_INVALID", f"expected 1 to 128 letters, digits, '.', '_' or '-', found {run!r:.140}",
                         where="--run-id", next_step="choose another")
    settings_path = str(Path(ports.directory) / file.path)
    for where, path in (("FILE", settings_path), ("working directory", ports.directory)):
        if not is_text(path):
            raise UsageError("PATH_NOT_TEXT", f"expected a path in UTF-8, that the record can name, found {path!a:.200}",
                             where=where, next_step="rename it")
    try:
        identity: SourceIdentity | RunIncomplete = pipeline.source.identity()
    except Exception as error:
        found = pipeline.masking.text(str(error))
        identity = RunIncomplete("SOURCE_UNREADABLE", f"expected a source that can be read, found {found}",
                                 where=file.where("source", "options"), next_step="mend source.options, then "
                                 f"{'resume' if resumed else 'run'} again")
        if not resumed:
            raise identity from error
    return Opening(
        run=run or default_run_id(file.name, ports),
        pipeline=file.name,
        graph=prepared.pipeline.graph,
        settings_text=file.text,
        settings_path=settings_path,
        settings_hash=file.settings_hash,
        secrets=fingerprints(file.secrets, ports),
        directory=ports.directory,
        source=identity,
    )


def default_run_id(pipeline: str, ports: Ports) -> str:
    """`<pipeline>-<UTC time>-<4 hex>`."""
    now = datetime.fromtimestamp(ports.wall_us() / 1_000_000, tz=UTC)
    return f"{pipeline}-{now:%Y%m%dT%H%M%SZ}-{ports.random_bytes(2).hex()}"


def _made(prepared: Prepared, node: str) -> Any:
    plugin = prepared.pipeline.plugins[node]
    try:
        return bind(plugin, prepared.pipeline.options[node])
    except OptionsInvalid as invalid:
        raise _refused(prepared, node, "; ".join(str(found["msg"]) for found in invalid.errors)) from invalid


def _refused(prepared: Prepared, node: str, text: str) -> PipelineRefused:
    """A plugin does not take its options, or is not what its place needs."""
    places = {SOURCE: ("source",), **{name: path for _, name, path in sections(prepared.file)}}
    found = prepared.file.problem("PLUGIN_REFUSED", (*places[node], "options"),
                                  f"{prepared.pipeline.plugins[node].origin}: {text}", "mend its options, or the plugin")
    return PipelineRefused(hushed([found], prepared.file.secrets.values()))


def _step(prepared: Prepared, node: Node, call: Transform, retry: RetryPolicy, watch: Watchdog | None) -> BoundStep:
    plugin = prepared.pipeline.plugins[node.id]
    seconds = getattr(call, "deadline_seconds", plugin.deadline_seconds) if plugin.effect else DEADLINE_SECONDS
    if type(seconds) not in (int, float) or not 0 < seconds <= DEADLINE_SECONDS_MAX:
        raise _refused(prepared, node.id, f"expected deadline_seconds above 0 and at most {DEADLINE_SECONDS_MAX:g}, found "
                       f"{shown(seconds)}")
    return BoundStep(node, call if plugin.effect else _watched(watch, node, call), retry, plugin.takes_attempt, seconds)


def _watched(watch: Watchdog | None, node: Node, call: Transform) -> Transform:
    """A plugin that runs on the loop's own thread, watched where the file asks for it."""
    return call if watch is None else watch.watching(f"step {node.id}", call)


def _closer(made: object) -> Callable[[], None]:
    close = getattr(made, "close", None)
    return close if callable(close) else _nothing


def _nothing() -> None:
    """A plugin that holds nothing open."""
