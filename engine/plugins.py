"""Plugins: found by name, by entry point or as `module:attribute`, their options checked against their own type hints.

Why type hints: a plugin is ten lines; what it accepts is said once, in its signature.

Invariants: a built-in name cannot be taken over; nothing is imported before it is named; the recorded version is that of
the distribution and the hash of the module's source.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib import import_module, metadata
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from engine.plugin_api import DEADLINE_SECONDS
from engine.schema import RowSchema

GROUP = "counterfoil.plugins"
DISTRIBUTION = "counterfoil"
BUILT_IN_ORIGIN = "built in"
ATTEMPT = "attempt"
"""The parameter by which an effect takes its attempt."""

Kind = Literal["source", "transform", "sink", "aggregation"]

BUILT_IN: Mapping[tuple[Kind, str], str] = {
    ("source", "csv"): "engine.sources.csv_file:CsvSource",
    ("source", "json"): "engine.sources.json_file:JsonSource",
    ("source", "text"): "engine.sources.text_file:TextSource",
    ("source", "database"): "engine.sources.database:DatabaseSource",
    ("source", "null"): "engine.sources.null:NullSource",
    ("transform", "passthrough"): "engine.transforms.passthrough:passthrough",
    ("transform", "field_mapper"): "engine.transforms.field_mapper:FieldMapper",
    ("transform", "truncate"): "engine.transforms.truncate:Truncate",
    ("transform", "keyword_filter"): "engine.transforms.keyword_filter:KeywordFilter",
    ("transform", "type_coerce"): "engine.transforms.type_coerce:TypeCoerce",
    ("transform", "value_transform"): "engine.transforms.value_transform:ValueTransform",
    ("transform", "json_explode"): "engine.transforms.json_explode:JsonExplode",
    ("transform", "line_explode"): "engine.transforms.line_explode:LineExplode",
    ("transform", "http"): "engine.transforms.http:Http",
    ("aggregation", "batch_stats"): "engine.aggregations.batch_stats:BatchStats",
    ("aggregation", "batch_replicate"): "engine.aggregations.batch_replicate:BatchReplicate",
    ("sink", "csv"): "engine.sinks.csv_file:CsvSink",
    ("sink", "json"): "engine.sinks.json_file:JsonSink",
    ("sink", "database"): "engine.sinks.database:DatabaseSink",
}


_PREFIX = "option_"
"""Keeps options from meeting the names that pydantic's models have themselves."""


class PluginUnknown(LookupError):
    """No such plugin: `known` lists the names there are."""

    def __init__(self, kind: Kind, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"expected {_a(kind)} plugin, found no {name!r}")
        self.known = known


class PluginBroken(Exception):
    """The plugin is named, and cannot be imported or is not what its place needs."""


class OptionsInvalid(ValueError):
    """The options do not fit the plugin: `errors` are pydantic's, or one text that the plugin itself raised."""

    def __init__(self, errors: tuple[Mapping[str, Any], ...], model: type[BaseModel]) -> None:
        super().__init__(str(errors))
        self.errors = errors
        self.model = model


@dataclass(frozen=True)
class Plugin:
    """One plugin: `target` is the function or class, `origin` where it was found.

    An effect may take its attempt beside the row, and has `deadline_seconds`.
    """

    name: str
    kind: Kind
    target: Callable[..., Any]
    origin: str
    version: str
    code_hash: str
    expands: bool
    effect: bool
    takes_attempt: bool
    deadline_seconds: float
    options: type[BaseModel]


class Catalog:
    """What can be named here."""

    def __init__(self) -> None:
        self._packages: Mapping[str, list[str]] | None = None

    def _version_of_module(self, place: str) -> str:
        """The version of the distribution that a module is of; the list of them takes long to make, so it is made once."""
        if self._packages is None:
            self._packages = metadata.packages_distributions()
        names = self._packages.get(place.partition(":")[0].partition(".")[0], [])
        return _version(names[0]) if names else ""

    def find(self, kind: Kind, name: str) -> Plugin:
        """The plugin of that kind and name. Raises `PluginUnknown` or `PluginBroken`."""
        place = BUILT_IN.get((kind, name))
        if place is not None:
            return _described(kind, name, _load(place), BUILT_IN_ORIGIN, _version(DISTRIBUTION))
        if ":" in name:
            return _described(kind, name, _load(name), name, self._version_of_module(name))
        for entry in metadata.entry_points(group=GROUP, name=name):
            target = _imported(entry.load, entry.value)
            if kind_of(target) == kind:
                return _of_entry(entry, target)
        raise PluginUnknown(kind, name, tuple(sorted(known for of, known in self.names() if of == kind)))

    def names(self) -> list[tuple[Kind, str]]:
        """(kind, name) of every plugin that has a name here; entry points that cannot be used are left out."""
        return sorted({(plugin.kind, plugin.name) for plugin in self.installed()[0]})

    def installed(self) -> tuple[list[Plugin], list[str]]:
        """Every plugin that has a name here, and why each entry point that cannot be used cannot."""
        found = [self.find(kind, name) for kind, name in BUILT_IN]
        broken: list[str] = []
        for entry in metadata.entry_points(group=GROUP):
            try:
                plugin = _of_entry(entry, _imported(entry.load, entry.value))
            except PluginBroken as error:
                broken.append(f"{entry.name}: {error}")
                continue
            if (plugin.kind, plugin.name) in BUILT_IN:
                broken.append(f"{entry.name}: expected a name that is not built in, found one at {entry.value}")
            else:
                found.append(plugin)
        return sorted(found, key=lambda plugin: (plugin.kind, plugin.name)), broken


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind == "aggregation" else f"a {kind}"


def kind_of(target: object) -> Kind:
    """What a plugin is, by its shape."""
    marked = getattr(target, "__counterfoil_kind__", None)
    if marked is not None:
        return marked  # type: ignore[no-any-return]
    if hasattr(target, "rows") and hasattr(target, "identity"):
        return "source"
    if hasattr(target, "prepare") and hasattr(target, "write"):
        return "sink"
    return "transform"


def check_options(plugin: Plugin, options: Mapping[str, object]) -> dict[str, object]:
    """The options as the plugin takes them. Raises `OptionsInvalid`."""
    try:
        checked = plugin.options.model_validate(options)
    except ValidationError as error:
        raise OptionsInvalid(tuple(error.errors()), plugin.options) from None
    return {name.removeprefix(_PREFIX): getattr(checked, name) for name in checked.model_fields_set}


def bind(plugin: Plugin, options: Mapping[str, object]) -> Any:
    """The plugin ready for use: a class's instance, or the function with its options filled in.

    Raises `OptionsInvalid`, whatever the plugin itself raised.
    """
    checked = check_options(plugin, options)
    try:
        if inspect.isclass(plugin.target):
            return plugin.target(**checked)
        return partial(plugin.target, **checked) if checked else plugin.target
    except (Exception, SystemExit) as error:
        text = str(error) if isinstance(error, ValueError) else f"it raised {type(error).__name__}: {error}"
        raise OptionsInvalid(({"type": "value_error", "loc": (), "msg": text, "input": None},), plugin.options) from error


def _of_entry(entry: metadata.EntryPoint, target: Callable[..., Any]) -> Plugin:
    return _described(kind_of(target), entry.name, target, entry.value, entry.dist.version if entry.dist else "")


def _load(place: str) -> Callable[..., Any]:
    module, _, attribute = place.partition(":")
    return _imported(lambda: getattr(import_module(module), attribute), place)


def _imported(load: Callable[[], Any], place: str) -> Callable[..., Any]:
    """Whatever importing other people's code raises is one error of ours, `SystemExit` too."""
    try:
        target: Callable[..., Any] = load()
    except (Exception, SystemExit) as error:
        raise PluginBroken(f"expected to import {place}, found {type(error).__name__}: {error}") from error
    if not callable(target):
        raise PluginBroken(f"expected a function or a class at {place}, found {type(target).__name__}")
    return target


def _described(kind: Kind, name: str, target: Callable[..., Any], origin: str, version: str) -> Plugin:
    found = kind_of(target)
    if found != kind:
        raise PluginBroken(f"expected {_a(kind)} plugin at {origin}, found {_a(found)}")
    called = _called(target)
    expands = kind == "transform" and _expands(target)
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        raise PluginBroken(f"expected a plain function at {origin}, found one with async: return a row or a list")
    if kind == "transform" and not expands and inspect.isgeneratorfunction(called):
        raise PluginBroken(f"expected a return annotation Iterator[...] at {origin}, for it yields rows, found none")
    effect = bool(getattr(target, "__counterfoil_effect__", False))
    if effect and kind != "transform":
        raise PluginBroken(f"expected effects only of a transform, found {_a(kind)} at {origin} that has one")
    takes_attempt = effect and ATTEMPT in inspect.signature(called).parameters
    deadline_seconds = getattr(target, "__counterfoil_deadline_seconds__", DEADLINE_SECONDS)
    return Plugin(name, kind, target, origin, version, _code_hash(target), expands,
                  effect, takes_attempt, deadline_seconds, _options_of(target, {ATTEMPT} if takes_attempt else set()))


def _code_hash(target: object) -> str:
    try:
        source = inspect.getsource(inspect.getmodule(target) or target)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ""
    return sha256(source.encode()).hexdigest()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _called(target: Callable[..., Any]) -> Callable[..., Any]:
    """What is called with a row: the function itself, or the class's `__call__`."""
    return target.__call__ if inspect.isclass(target) else target


def _expands(target: Callable[..., Any]) -> bool:
    """Whether the return annotation declares any number of rows."""
    function = _called(target)
    annotation = getattr(function, "__annotations__", {}).get("return")
    try:
        annotation = get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        if isinstance(annotation, str):
            return annotation.partition("[")[0].rpartition(".")[2] in _MANY_NAMES
    return _is_many(annotation)


_MANY = frozenset({list, Iterator, Iterable, Generator})
_MANY_NAMES = frozenset({"list", "List", "Iterator", "Iterable", "Generator"})


def _is_many(annotation: object) -> bool:
    if get_origin(annotation) in (Union, UnionType):
        return any(_is_many(argument) for argument in get_args(annotation))
    return annotation in _MANY or get_origin(annotation) in _MANY


def _options_of(target: Callable[..., Any], taken: Collection[str]) -> type[BaseModel]:
    """A model of the keyword parameters: those of `__init__`, or all but the row, and what is `taken`, of a function."""
    function: Any = target.__init__ if inspect.isclass(target) else target
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError, AttributeError) as error:
        raise PluginBroken(f"expected type hints that can be read, found {error}") from error
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or parameter.name in taken:
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[_PREFIX + parameter.name] = (hints.get(parameter.name, Any), Field(default, alias=parameter.name))
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, strict=False, protected_namespaces=())
    return create_model("Options", __config__=config, **fields)


def schema_of(declared: object) -> RowSchema:
    """The `schema` option of a source or sink. Raises ValueError saying what was expected."""
    if not isinstance(declared, dict) or set(declared) - {"mode", "fields"}:
        raise ValueError("expected schema with mode and fields")
    mode, fields = declared.get("mode", "observed"), declared.get("fields", [])
    if not isinstance(mode, str) or not isinstance(fields, list) or any(not isinstance(one, str) for one in fields):
        raise ValueError("expected schema.mode as a text and schema.fields as a list of 'name: type'")
    return RowSchema.parse(mode, fields)
