"""What a run left: the end of every token, the bytes of every sink; and whether it is what the uncut run left.

Why from the log: outcomes are counted from the events alone, by a bookkeeping (`tests.kit.stories`) that shares nothing
with the fold, and then compared with the fold's and with the read tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from counterfoil import api
from counterfoil.ledgers import Ledger
from engine.sinks.database_receipts import OWN_TABLES
from ledger import events as e
from ledger import reader
from ledger.store import Store
from tests.kit import stories
from tests.simulation.pipelines import TOLD, Pipeline

End = tuple[str, str | None, str | None]
"""Outcome, sink, reason."""


class Left(NamedTuple):
    """What stands at the end: `ends` by token, `sinks` by name, `told` the (key, row) pairs that an effect told its file."""

    ends: dict[str, End]
    sinks: dict[str, bytes]
    told: list[tuple[str, str]]


class Count(NamedTuple):
    """How many tokens of a sealed run have no end, and how many have two."""

    tokens: int
    without: int
    twice: int


def left(folder: Path, pipeline: Pipeline, url: str, run: str) -> Left:
    """What a finished run left in its folder."""
    with Ledger(url) as ledger, ledger.catch_up() as tables:
        found = tables.records("SELECT token_id, outcome, sink_name, reason FROM token_outcomes WHERE run_id = ?", (run,))
    ends = {str(one["token_id"]): (one["outcome"], one["sink_name"], one["reason"]) for one in found}
    return in_files(ends, folder, pipeline)


def in_files(ends: dict[str, End], folder: Path, pipeline: Pipeline) -> Left:
    """These ends, with what stands in the files."""
    return Left(ends, {name: _bytes(folder / path) for name, path in pipeline.sinks.items()}, _told(folder / TOLD))


def ends_in_log(store: Store, run: str) -> tuple[dict[str, End], Count]:
    """The end of each token from the events alone: outcome, the sink that confirmed it, the code of its last divert."""
    log = [event for _, event in reader.events(store, run)]
    outcomes = _ends(log)
    confirmed, code = dict[str, str](), dict[str, str]()
    intents: dict[int, e.SinkWriteIntended] = {}
    for event in log:
        if isinstance(event, e.SinkWriteIntended):
            intents[event.write] = event
        elif isinstance(event, e.SinkWriteConfirmed):
            refused = {one.ordinal for one in event.refused}
            tokens = intents[event.write].tokens
            confirmed |= {token: event.sink for place, token in enumerate(tokens) if place not in refused}
        elif isinstance(event, e.Diverted):
            code[event.token] = event.code
    found = {token: (given[0] if given else "open", confirmed.get(token), code.get(token))
             for token, given in outcomes.items()}
    return found, _count(outcomes)


def _bytes(path: Path) -> bytes:
    """A sink's file; of a database the rows of its tables, but not the sink's own."""
    if not path.exists():
        return b""
    if path.suffix != ".db":
        return path.read_bytes()
    with closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
                  if name not in OWN_TABLES]
        rows = [(name, *row) for name in tables for row in database.execute(f'SELECT * FROM "{name}" ORDER BY rowid')]
    return "".join(f"{row!r}\n" for row in rows).encode()


def _told(path: Path) -> list[tuple[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(key, row) for key, _, row in (line.partition(" ") for line in lines)]


def counted(store: Store, run: str) -> Count:
    """Ends counted from the events alone."""
    return _count(_ends([event for _, event in reader.events(store, run)]))


def _ends(log: list[e.Event]) -> dict[str, list[str]]:
    started = log[0]
    assert isinstance(started, e.RunStarted)
    assert started.graph is not None
    return stories.ends(log, started.graph)


def _count(ends: dict[str, list[str]]) -> Count:
    return Count(len(ends), sum(not one for one in ends.values()), sum(len(one) > 1 for one in ends.values()))


def unsound(url: str, run: str) -> list[str]:
    """What is wrong with a run that should be closed: with its bytes, laws, tables, files, and with its tokens' ends."""
    answer = api.verify(run, ledger=url, world=True)
    wrong = [f"verify: {one}" for one in (*answer.integrity, *answer.lawfulness, *answer.projections, *(answer.world or ()))]
    verdict = api.replay(run, ledger=url, deep=True)
    if not verdict.sealed:
        wrong.append(f"the run is {verdict.status}")
    with Ledger(url) as ledger:
        count = counted(ledger.store, run)
    if count.without or count.twice or verdict.open_tokens:
        wrong.append(f"{count.without} tokens without an end, {count.twice} with two, {verdict.open_tokens} open")
    return wrong


def differences(pipeline: Pipeline, here: Left, uncut: Left) -> list[str]:
    """Where a run that was cut and carried on differs from one that was not."""
    return [*_of_ends(here.ends, uncut.ends), *_of_sinks(pipeline, here, uncut), *_of_told(here.told, uncut.told)]


def _of_ends(here: dict[str, End], uncut: dict[str, End]) -> Iterator[str]:
    for token in sorted(here.keys() | uncut.keys()):
        if here.get(token) != uncut.get(token):
            yield f"token {token}: {here.get(token)}, uncut {uncut.get(token)}"


def _of_sinks(pipeline: Pipeline, here: Left, uncut: Left) -> Iterator[str]:
    for name, content in uncut.sinks.items():
        if pipeline.loose:
            if set(_without_keys(here.sinks[name])) != set(_without_keys(content)):
                yield f"sink {name}: other rows"
        elif pipeline.sinks_in_any_order:
            if sorted(here.sinks[name].splitlines()) != sorted(content.splitlines()):
                yield f"sink {name}: other rows"
        elif here.sinks[name] != content:
            yield f"sink {name}: {len(here.sinks[name])} bytes, uncut {len(content)}, {_first(here.sinks[name], content)}"


def _first(here: bytes, uncut: bytes) -> str:
    shorter = min(len(here), len(uncut))
    place = next((n for n in range(shorter) if here[n] != uncut[n]), shorter)
    return f"at {place} {here[place:place + 60]!r}, uncut {uncut[place:place + 60]!r}"


def _without_keys(content: bytes) -> Iterable[bytes]:
    """The rows of the lines that are whole."""
    return (row for row in (line.partition(b" ")[2] for line in content.splitlines()) if _is_whole(row))


def _is_whole(row: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(row), dict)
    except msgspec.DecodeError:
        return False


def _of_told(here: list[tuple[str, str]], uncut: list[tuple[str, str]]) -> Iterator[str]:
    """An effect may be made again, under its key: every key is of one row, and every row was told."""
    rows: dict[str, str] = {}
    for key, row in here:
        if rows.setdefault(key, row) != row:
            yield f"key {key} was told of rows {rows[key]} and {row}"
    if sorted(rows.values()) != sorted({row for _, row in uncut}):
        yield "an effect told of other rows, or of one under two keys"
