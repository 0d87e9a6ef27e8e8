"""The shapes of events as JSON Schema: what `docs/events.schema.json` says to programs that read a log on their own.

    python -m ledger.schemas > docs/events.schema.json

Why exported: a shape once written is never edited. Kept beside the exhibits of every released version, it tells an edit
from a new version; a test compares them.

Invariants: the same events give the same text; fields stand in the order in which bodies have them.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from ledger.codec import TYPE_OF, VERSIONS
from ledger.events import Event

_TEXTS = frozenset({"title", "description"})
_OF_NAMES = frozenset({"properties", "$defs"})
"""Where the keys of a schema are names, not words of JSON Schema."""


def export() -> dict[str, Any]:
    """Every type with its current version, and the schemas that they refer to."""
    kinds = sorted(TYPE_OF, key=TYPE_OF.__getitem__)
    schemas, parts = msgspec.json.schema_components(kinds)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Events of counterfoil",
        "description": "Each type with the version that is written now. Bodies of earlier versions are read too.",
        "events": {TYPE_OF[kind]: {"v": VERSIONS[TYPE_OF[kind]], **schema}
                   for kind, schema in zip(kinds, schemas, strict=True)},
        "oneOf": list(schemas),
        "$defs": dict(sorted(parts.items())),
    }


def shape(kind: type[Event]) -> dict[str, Any]:
    """One type's shape on its own, without the texts that say what it means."""
    found: dict[str, Any] = _bare(msgspec.json.schema(kind))
    return found


def text(schema: dict[str, Any]) -> str:
    """A schema as a file holds it."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=1).decode() + "\n"


def _bare(schema: Any) -> Any:
    if isinstance(schema, (list, tuple)):
        return [_bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: {key: _bare(one) for key, one in value.items()} if name in _OF_NAMES else _bare(value)
            for name, value in schema.items() if name not in _TEXTS}


if __name__ == "__main__":
    sys.stdout.write(text(export()))
