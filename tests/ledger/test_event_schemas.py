"""The shapes of events: exported as they are, kept as they were, and never edited at a version."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from typing import Any

import pytest

from ledger import schemas
from ledger.codec import TYPE_OF, VERSIONS
from ledger.upcasters import Kind
from tests.house.tree import ROOT
from tests.museum import exhibits
from tests.museum.shapes import differences, faults

KINDS = exhibits.kinds()
EXPORTED = ROOT / "docs" / "events.schema.json"


def test_the_exported_schemas_are_those_of_the_events() -> None:
    """W12: `python -m ledger.schemas > docs/events.schema.json` makes the file anew."""
    assert EXPORTED.read_text(encoding="utf-8") == schemas.text(schemas.export())


def test_the_command_writes_the_same_text_each_time() -> None:
    """As a process of its own, whatever the order in which its sets come."""
    for seed in ("1", "2"):
        done = subprocess.run([sys.executable, "-m", "ledger.schemas"], cwd=ROOT, env={"PYTHONHASHSEED": seed},
                              capture_output=True, timeout=60, check=True)
        assert done.stdout == EXPORTED.read_bytes()


def test_every_type_has_an_entry_with_its_version() -> None:
    """W12: one entry a type, which refers to a schema that is there."""
    found = json.loads(EXPORTED.read_text(encoding="utf-8"))
    assert {type_: one["v"] for type_, one in found["events"].items()} == VERSIONS
    assert {one["$ref"].removeprefix("#/$defs/") for one in found["events"].values()} <= found["$defs"].keys()


@pytest.mark.parametrize("kind", TYPE_OF, ids=lambda kind: kind.__name__)
def test_a_shape_is_never_edited_at_its_version(kind: Any) -> None:
    """W12, law L5: who changes a shape raises its version (`ledger.versions.RAISED`) and adds an upcaster."""
    type_ = TYPE_OF[kind]
    found = differences(exhibits.schema(type_, VERSIONS[type_]), schemas.shape(kind))
    assert found == [], (f"{type_} is not what version {VERSIONS[type_]} of it was: {'; '.join(found)}. Raise its `v` in "
                         "ledger/versions.py, add an upcaster in ledger/upcasters.py, then run tests.museum.collect")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}.{kind[1]}")
def test_every_kept_body_has_the_shape_of_its_version(kind: Kind) -> None:
    """W12, law L5: the schema that was kept and the bytes that were kept speak of the same thing."""
    for body in exhibits.bodies(*kind):
        assert faults(exhibits.schema(*kind), json.loads(body)) == []


def test_every_kind_on_show_has_its_schema() -> None:
    """W12: and there is no schema of anything else."""
    kept = {path.stem.rpartition(".")[::2] for path in exhibits.SCHEMAS.glob("*.json")}
    assert {(type_, int(version)) for type_, version in kept} == set(KINDS)


# --- what a difference is --------------------------------------------------------------------------------------------

SCHEMA = exhibits.schema("Diverted", 1)


def edited(*path: str, **fields: object) -> dict[str, Any]:
    """The shape of `Diverted` with something else in it."""
    found = deepcopy(SCHEMA)
    at: Any = found["$defs"]
    for name in path:
        at = at[name]
    at.update(fields)
    return found


def without(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """The shape without a field."""
    found = deepcopy(schema)
    del found["$defs"]["Diverted"]["properties"][name]
    return found


def test_every_edit_of_a_shape_is_named_with_its_field() -> None:
    """W12: a field added, gone, of another type, with another default, required or not, elsewhere; a part that is new."""
    properties = SCHEMA["$defs"]["Diverted"]["properties"]
    required = SCHEMA["$defs"]["Diverted"]["required"]
    edits = {
        "Diverted.why: is new": edited("Diverted", "properties", why={"type": "string"}),
        "Diverted.code: is gone": without(SCHEMA, "code"),
        "Diverted.code: was {'type': 'string'}, is {'type': 'integer'}": edited("Diverted", "properties",
                                                                                code={"type": "integer"}),
        "Diverted.code: was {'type': 'string'}, is {'type': 'string', 'default': ''}": edited(
            "Diverted", "properties", "code", default=""),
        "Diverted.code: was required": edited("Diverted", required=[name for name in required if name != "code"]),
        "Diverted.run: was not required": edited("Diverted", required=[*required, "run"]),
        "Diverted: its fields stood in the order": edited("Diverted", properties=dict(sorted(properties.items()))),
        "Diverted: was {'type': 'object'": edited("Diverted", additionalProperties=True),
        "More: is new": edited(More={}),
    }
    for text, schema in edits.items():
        found = differences(SCHEMA, schema)
        assert len(found) == 1 and found[0].startswith(text), (text, found)
    assert differences(SCHEMA, deepcopy(SCHEMA)) == []


def test_a_text_that_says_what_a_shape_means_is_no_part_of_it() -> None:
    """Docstrings may be mended; a field that is named like such a text stays."""
    assert '"description"' not in json.dumps(SCHEMA) and '"title"' not in json.dumps(SCHEMA)
    raw = {"title": "x", "properties": {"title": {"title": "x", "type": "string"}}}
    assert schemas._bare(raw) == {"properties": {"title": {"type": "string"}}}


BODY = json.loads(exhibits.bodies("BatchFlushed", 1)[0])


@pytest.mark.parametrize(("edit", "text"), [
    ({"members": "3"}, ".members: no integer: '3'"),
    ({"members": True}, ".members: no integer: True"),
    ({"trigger": "whim"}, ".trigger: none of ["),
    ({"more": 1}, ".more: is not known"),
    ({"duration_us": -1}, ".duration_us: below 0: -1"),
    ({"rejected": [[1, "code"]]}, ".rejected[0]: minItems 3"),
    ({"rejected": [[1, "code", None, 4]]}, ".rejected[0]: maxItems 3"),
    ({"rejected": [["1", "code", None]]}, ".rejected[0][0]: no integer"),
    ({"outputs": [[1, "some"]]}, ".outputs: none of the forms allowed"),
    ({"outputs_list": {}}, ".outputs_list: none of the forms allowed"),
], ids=range(10))  # fmt: skip
def test_a_body_that_does_not_have_the_shape_is_found(edit: dict[str, object], text: str) -> None:
    """The twin of the check of the kept bodies: each word of the schemas is looked at."""
    schema = exhibits.schema("BatchFlushed", 1)
    assert faults(schema, BODY) == []
    assert [found for found in faults(schema, {**BODY, **edit}) if found.startswith(text)], faults(schema, {**BODY, **edit})


def test_a_body_without_a_field_or_in_another_order_is_found() -> None:
    """The same for what is missing."""
    schema = exhibits.schema("BatchFlushed", 1)
    assert faults(schema, {name: value for name, value in BODY.items() if name != "batch"}) == [".batch: is missing"]
    assert "fields in the order" in str(faults(schema, dict(sorted(BODY.items()))))
    with pytest.raises(ValueError, match="a word that nobody checks: pattern"):
        faults({"pattern": "x", "$defs": {}}, "x")
