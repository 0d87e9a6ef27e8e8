"""What has changed between a run and the pipeline that would carry it on, field by field.

Why refused: the first rows would have been made by one pipeline and the rest by another, under one name. Who wants that
says so, and the record says it too. A graph of another shape cannot be accepted at all: the tokens that are open stand in
the one on record.

Invariant: nothing that came from the environment is in a change, only that it is another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from engine import pipeline_yaml
from engine.plugin_api import PIPE
from ledger.errors import SettingsInvalid
from ledger.events import Change, RunStarted, SourceIdentity
from ledger.graph import Graph, Node

CHANGES_MAX = 60
TEXT_CHARS_MAX = 200
NOTHING = "nothing"
ORDER = " (order)"

_as_json = msgspec.json.Encoder(order="sorted").encode


class RunChanged(SettingsInvalid):
    """The pipeline is not the one that the run began with: `changes` says in what, each with what it was and is now."""

    def __init__(self, run: str, changes: Sequence[Change], *, reshaped: bool) -> None:
        first = changes[0]
        more = f", and {len(changes) - 1} more" if len(changes) > 1 else ""
        step = ("put it back, or abandon the run and begin another: open rows stand in the graph on record" if reshaped
                else "put it back, or resume with --accept-changes")
        super().__init__("PIPELINE_RESHAPED" if reshaped else "PIPELINE_CHANGED", "expected the pipeline that the run began "
                         f"with, found {first.field} changed from {first.was} to {first.now}{more}", where=f"run {run}",
                         next_step=step)
        self.changes = tuple(changes)


def shape(started: Graph, now: Graph) -> list[Change]:
    """In what the two graphs differ, plugins and their settings aside."""
    was, is_ = _parts(started), _parts(now)
    return _differences("graph.", was, is_)


def settings(was: str, now: str) -> list[Change]:
    """In what two pipeline files differ, by key: comments and layout aside, and the order of keys outside of options."""
    if was == now:
        return []
    before, after = (dict(_flat(pipeline_yaml.load(text, "").data)) for text in (was, now))
    for field in [field for field in before if field.endswith(ORDER) and field in after]:
        if sorted(map(str, before[field])) != sorted(map(str, after[field])):  # type: ignore[call-overload]
            del before[field], after[field]  # what was added or is gone is told by itself
    return _differences("", *({field: value for field, value in side.items() if field in other or not field.endswith(ORDER)}
                              for side, other in ((before, after), (after, before))))


def plugins(started: Graph, now: Graph) -> list[Change]:
    """Which plugins are of another version, or have other code."""
    found = []
    current = {node.id: node for node in now.nodes}
    for node in started.nodes:
        other = current.get(node.id)
        if other is not None and other.plugin == node.plugin:
            found += _differences(f"plugin of {node.id}.", _code(node), _code(other))
    return found


def secrets(was: Mapping[str, str], now: Mapping[str, str]) -> list[Change]:
    """Which values from the environment are others; the values themselves are nowhere."""
    return [Change(field=f"secret {name}", was="one value" if name in was else NOTHING,
                   now=("another" if name in was else "a value") if name in now else NOTHING)
            for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]


def place(started: RunStarted, pipeline: str, directory: str) -> list[Change]:
    """Whether the pipeline has another name, or paths are relative to another directory."""
    return _differences("", {"name": started.pipeline, "working directory": started.directory},
                        {"name": pipeline, "working directory": directory})


def source(was: SourceIdentity, now: SourceIdentity) -> list[Change]:
    """In what the source is another than it was; of a pipe nobody can tell."""
    if now.kind == was.kind and now.kind.endswith(PIPE):
        return [Change(field="source", was="what came out of a pipe", now="what comes out of it now, from its first row on")]
    return _differences("source ", msgspec.structs.asdict(was), msgspec.structs.asdict(now))


def bounded(changes: Sequence[Change]) -> list[Change]:
    """As many as an event may hold; what more there is, counted."""
    if len(changes) <= CHANGES_MAX:
        return list(changes)
    rest = len(changes) - CHANGES_MAX
    return [*changes[:CHANGES_MAX], Change(field="more", was=NOTHING, now=f"{rest} more changes")]


def _differences(prefix: str, was: Mapping[str, object], now: Mapping[str, object]) -> list[Change]:
    fields = [*was, *(field for field in now if field not in was)]
    return [Change(field=_cut(f"{prefix}{field}"), was=_shown(was, field), now=_shown(now, field))
            for field in fields if _shown(was, field, whole=True) != _shown(now, field, whole=True)]


def _shown(values: Mapping[str, object], field: str, *, whole: bool = False) -> str:
    text = NOTHING if field not in values else _as_json(values[field]).decode()
    return text if whole else _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[:TEXT_CHARS_MAX]}…"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, object]]:
    """Every leaf by its path; entries of a list by their names, where each has one of its own; orders that can matter."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{_key(key)}" if path else _key(key))
        if ".options" in path:
            yield path + ORDER, list(value)
    elif isinstance(value, list) and value:
        names = [inner.get("name") if isinstance(inner, dict) else None for inner in value]
        named = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
        for place_, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{_key(names[place_]) if named else place_}]")
        if named:
            yield path + ORDER, names
    else:
        yield path, value


def _key(key: object) -> str:
    """A key as it stands in a path; one that could be taken for more than one is quoted."""
    text = str(key)
    return _as_json(text).decode() if set(text) & set('.[]" ') else text


def _parts(graph: Graph) -> dict[str, object]:
    """A graph's nodes and edges by their ids."""
    nodes = {node.id: replace(node, plugin="", plugin_version="", code_hash="", settings_hash="") for node in graph.nodes}
    return {**nodes, **{edge.id: edge for edge in graph.edges}}


def _code(node: Node) -> dict[str, object]:
    return {"version": node.plugin_version, "code": node.code_hash}
