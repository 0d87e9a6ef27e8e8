"""What is in the museum: bodies, shapes, what upcasters made of them, and the list of all of it with its digests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.museum.logs import LOGS, MUSEUM

BODIES, SCHEMAS, STEPS = MUSEUM / "bodies", MUSEUM / "schemas", MUSEUM / "steps"
MANIFEST = MUSEUM / "manifest.json"

Kind = tuple[str, int]


def kinds() -> list[Kind]:
    """Each (type, version) that has bodies here."""
    return sorted((type_, int(v)) for type_, _, v in (path.stem.rpartition(".") for path in BODIES.glob("*.jsonl")))


def bodies(type_: str, version: int) -> list[bytes]:
    """The bodies of one version of a type."""
    return (BODIES / f"{type_}.{version}.jsonl").read_bytes().split(b"\n")[:-1]


def schema(type_: str, version: int) -> dict[str, Any]:
    """The shape of one version of a type."""
    found: dict[str, Any] = json.loads((SCHEMAS / f"{type_}.{version}.json").read_text(encoding="utf-8"))
    return found


def eras() -> dict[str, dict[str, int]]:
    """The versions in force in each era, in order."""
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(LOGS.glob("*/versions.json"))}


def on_show() -> Iterator[Path]:
    """Every file that is an exhibit."""
    for folder in (BODIES, SCHEMAS, STEPS, LOGS):
        yield from sorted(path for path in folder.rglob("*") if path.is_file())


def digests() -> dict[str, str]:
    """Every exhibit with the sha256 of its bytes."""
    return {path.relative_to(MUSEUM).as_posix(): sha256(path.read_bytes()).hexdigest() for path in on_show()}


def manifest() -> dict[str, str]:
    """Every exhibit that was ever put in, with its sha256."""
    found: dict[str, str] = json.loads(MANIFEST.read_text(encoding="utf-8")) if MANIFEST.exists() else {}
    return found
