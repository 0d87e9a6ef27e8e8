"""The shapes of events that were kept: in what two of them differ, and whether a body has one.

Why a check of our own: what the exported schemas use of JSON Schema is little. A word of it that is not known here is an
error, so that nothing is held by a check that does not look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_IS: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def differences(kept: Schema, now: Schema) -> list[str]:
    """Each field in which the shape is not the one that was kept, by its path from the event's type."""
    return [f"{path}: {what}" for path, what in _differ(_parts(kept), _parts(now))]


def faults(schema: Schema, value: Any) -> list[str]:
    """Where a value does not have the shape."""
    return [f"{path or 'body'}: {what}" for path, what in _faults(schema, schema, value, "")]


def _parts(schema: Schema) -> dict[str, Any]:
    parts: dict[str, Any] = schema["$defs"]
    return parts


def _differ(kept: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in kept | now:
        if name not in now or name not in kept:
            yield name, "is gone" if name not in now else "is new"
            continue
        was, is_ = kept[name], now[name]
        before, after = was.get("properties", {}), is_.get("properties", {})
        for field in before | after:
            if field not in after or field not in before:
                yield f"{name}.{field}", "is gone" if field not in after else "is new"
            elif before[field] != after[field]:
                yield f"{name}.{field}", f"was {before[field]}, is {after[field]}"
            elif (field in was["required"]) != (field in is_["required"]):
                yield f"{name}.{field}", f"was {'' if field in was['required'] else 'not '}required"
        if list(before) != list(after) and set(before) == set(after):
            yield name, f"its fields stood in the order {list(before)}"
        rest = [{word: value for word, value in side.items() if word not in ("properties", "required")}
                for side in (was, is_)]
        if rest[0] != rest[1]:
            yield name, f"was {rest[0]}, is {rest[1]}"


def _faults(root: Schema, schema: Schema, value: Any, path: str) -> Iterator[tuple[str, str]]:
    for word, rule in schema.items():
        match word:
            case "$ref":
                yield from _faults(root, root["$defs"][rule.removeprefix("#/$defs/")], value, path)
            case "anyOf":
                if all(any(_faults(root, one, value, path)) for one in rule):
                    yield path, f"none of the forms allowed: {value!r}"
            case "type":
                if not _IS[rule](value):
                    yield path, f"no {rule}: {value!r}"
            case "enum":
                if value not in rule:
                    yield path, f"none of {rule}: {value!r}"
            case "minimum":
                if isinstance(value, int) and value < rule:
                    yield path, f"below {rule}: {value}"
            case "properties" | "required" | "additionalProperties":
                yield from _fields(root, schema, word, value, path)
            case "items" | "prefixItems" | "minItems" | "maxItems":
                yield from _items(root, schema, word, value, path)
            case "$defs" | "default":
                pass
            case _:
                raise ValueError(f"{path}: a word that nobody checks: {word}")


def _fields(root: Schema, schema: Schema, word: str, value: Any, path: str) -> Iterator[tuple[str, str]]:
    known, fields = schema.get("properties", {}), value if isinstance(value, dict) else {}
    if word == "required":
        yield from ((f"{path}.{name}", "is missing") for name in schema[word] if name not in fields)
    elif word == "properties":
        for name in known.keys() & fields.keys():
            yield from _faults(root, known[name], fields[name], f"{path}.{name}")
        if [name for name in fields if name in known] != [name for name in known if name in fields]:
            yield path, f"fields in the order {list(fields)}"
    else:
        for name in fields.keys() - known.keys():
            if schema[word] is False:
                yield f"{path}.{name}", "is not known"
            elif schema[word] is not True:
                yield from _faults(root, schema[word], fields[name], f"{path}.{name}")


def _items(root: Schema, schema: Schema, word: str, value: Any, path: str) -> Iterator[tuple[str, str]]:
    items, first = value if isinstance(value, list) else [], schema.get("prefixItems", ())
    if word == "prefixItems":
        for place, (one, item) in enumerate(zip(first, items, strict=False)):
            yield from _faults(root, one, item, f"{path}[{place}]")
    elif word == "items":
        for place, item in list(enumerate(items))[len(first):]:
            yield from _faults(root, schema[word], item, f"{path}[{place}]")
    elif isinstance(value, list) and (len(items) < schema[word] if word == "minItems" else len(items) > schema[word]):
        yield path, f"{word} {schema[word]}: {items!r}"
