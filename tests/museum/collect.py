"""Puts into the museum what a new version needs, and never changes what is there.

    python -m tests.museum.collect

Run it in the commit that raises a version or adds an upcaster: bodies and shapes of versions that have none, what each new
edition of an upcaster makes of the kept bodies, and a new era of logs when the versions in force are not the last one's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ledger import reader, schemas
from ledger.codec import HEADER, TYPE_OF, VERSIONS, encode
from ledger.events import RunStarted
from ledger.replay import replay
from ledger.store import Store
from ledger.upcasters import UPCASTERS, Upcaster
from tests.kit import stories
from tests.museum import examples, exhibits, logs, made_logs


def main() -> None:
    """Put in what is missing, and say what it was."""
    gone = sorted(exhibits.manifest().keys() - exhibits.digests().keys())
    if gone:
        raise SystemExit(f"taken out: {gone}")
    added = [path for path, content in (*_shapes(), *_steps(), *_era()) if _put(path, content)]
    known = exhibits.manifest()
    exhibits.MANIFEST.write_text(json.dumps({**exhibits.digests(), **known}, indent=0, sort_keys=True) + "\n",
                                 encoding="utf-8")
    print("\n".join(path.relative_to(logs.MUSEUM).as_posix() for path in added) or "nothing to add")


def _put(path: Path, content: bytes) -> bool:
    """Write an exhibit that is not there yet."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
    return True


def _shapes() -> Iterator[tuple[Path, bytes]]:
    for kind, type_ in TYPE_OF.items():
        version = VERSIONS[type_]
        said = [encode(event) for event in examples.of_kind(kind, version)]
        yield exhibits.BODIES / f"{type_}.{version}.jsonl", b"".join(body + b"\n" for body in said)
        yield exhibits.SCHEMAS / f"{type_}.{version}.json", schemas.text(schemas.shape(kind)).encode()


def _steps() -> Iterator[tuple[Path, bytes]]:
    for one in UPCASTERS.table:
        yield exhibits.STEPS / f"{one.of[0]}.{one.of[1]}.{one.edition}.jsonl", made_of(one)


def made_of(one: Upcaster) -> bytes:
    """What an upcaster makes of each kept body of the version that it is from: its fields, a line each."""
    lines = []
    for body in exhibits.bodies(*one.of):
        raw = json.loads(body)
        made = one.fields({name: value for name, value in raw.items() if name not in HEADER})
        lines.append(msgspec.json.encode(made) + b"\n")
    return b"".join(lines)


def _era() -> Iterator[tuple[Path, bytes]]:
    eras = exhibits.eras()
    if eras and list(eras.values())[-1] == VERSIONS:
        return
    folder = logs.LOGS / f"{len(eras) + 1:03}"
    yield folder / "versions.json", (json.dumps(VERSIONS, indent=0, sort_keys=True) + "\n").encode()
    for name, make in made_logs.MAKE.items():
        log = make()
        yield folder / f"{name}.jsonl", logs.text(log).encode()
        told = {run: telling(logs.put(log), run) for run in log.runs}
        yield folder / f"{name}.told.json", (json.dumps(told, indent=0, sort_keys=True) + "\n").encode()


def telling(store: Store, run: str) -> dict[str, Any]:
    """What a run's log tells, whatever its events look like: counts, and every token with its end (None: it has none)."""
    verdict = replay(store, run).verdict
    events = [event for _, event in reader.events(store, run)]
    started = events[0]
    if not isinstance(started, RunStarted) or started.graph is None:
        raise ValueError(f"{run} does not begin with its graph")
    ends = {token: found[0] if found else None for token, found in stories.ends(events, started.graph).items()}
    return {"status": verdict.status, "sealed": verdict.sealed, "events": verdict.events, "rows": verdict.rows,
            "tokens": verdict.tokens, "open_tokens": verdict.open_tokens, "open_groups": verdict.open_groups,
            "late_arrivals": verdict.late_arrivals, "outcomes": verdict.outcomes, "ends": ends}


if __name__ == "__main__":
    main()
