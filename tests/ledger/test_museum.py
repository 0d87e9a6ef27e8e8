"""The museum: every shape that was ever written is read by this build, and nothing has been taken out or changed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ledger import ids, reader
from ledger.codec import TYPE_OF, VERSIONS, Undecodable, decode, encode, is_canonical
from ledger.events import RunStarted
from ledger.replay import replay
from ledger.upcasters import UPCASTERS, Kind
from ledger.verify import integrity, registry
from tests.kit.tamper import as_stored
from tests.museum import examples, exhibits, logs
from tests.museum.collect import made_of, telling
from tests.projections.projected import projected

KINDS = exhibits.kinds()
NAMES = logs.names()
EXHIBITS_MIN = 123
"""As many as there were when the museum was opened."""


def test_nothing_was_taken_out_changed_or_put_in_without_being_listed() -> None:
    """W12, law L5: every exhibit is the one in the manifest, and the manifest has no other; `tests.museum.collect` adds."""
    assert exhibits.digests() == exhibits.manifest()
    assert len(exhibits.manifest()) >= EXHIBITS_MIN


def test_every_version_that_can_be_read_is_on_show_and_every_one_on_show_can_be_read() -> None:
    """W12, law L5: each node of production's graph has bodies; a retired type cannot be forgotten with its upcasters."""
    nodes = {kind for one in UPCASTERS.table for kind in (one.of, one.to)} | set(VERSIONS.items())
    assert set(KINDS) == nodes
    assert [kind for kind in KINDS if UPCASTERS.path(kind) is None] == []
    assert {(type_, version) for type_, version in KINDS if not exhibits.bodies(type_, version)} == set()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}.{kind[1]}")
def test_every_kept_body_is_read(kind: Kind) -> None:
    """W12, law L5: of a current version to the same bytes; of an earlier one to an event of today's version."""
    for seq, body in enumerate(exhibits.bodies(*kind), start=1):
        event = decode(body, *kind, run="example", seq=seq)
        assert (TYPE_OF[type(event)], event.v) == (UPCASTERS.becomes(kind), VERSIONS[TYPE_OF[type(event)]])
        assert (event.run, event.seq, event.epoch, event.at, event.active_ms) == ("example", seq, 1, examples.AT, 0)
        assert is_canonical(body, *kind, event)
        if VERSIONS.get(kind[0]) == kind[1]:
            assert encode(event) == body


@pytest.mark.parametrize("kind", TYPE_OF, ids=lambda kind: kind.__name__)
def test_examples_of_todays_shapes_are_the_bodies_that_were_kept(kind: Any) -> None:
    """law L5: an edit of a shape at its version shows here too, in the bytes of every form that its fields can have."""
    type_ = TYPE_OF[kind]
    said = [encode(event) for event in examples.of_kind(kind, VERSIONS[type_])]
    assert said == exhibits.bodies(type_, VERSIONS[type_])
    assert [as_stored(event).v for event in examples.of_kind(kind, VERSIONS[type_])] == [VERSIONS[type_]] * len(said)


@pytest.mark.parametrize("one", UPCASTERS.table, ids=lambda one: f"{one.of[0]}.{one.of[1]}")
def test_an_upcaster_makes_what_its_edition_always_made(one: Any) -> None:
    """W12, F5: who changes what one makes raises its `edition`, so that read tables are made again, and collects."""
    kept = exhibits.STEPS / f"{one.of[0]}.{one.of[1]}.{one.edition}.jsonl"
    assert kept.read_bytes() == made_of(one)
    assert len(kept.read_bytes().splitlines()) == len(exhibits.bodies(*one.of)) > 0


def test_a_run_of_the_first_version_does_not_say_its_program() -> None:
    """W12: what was not on record then is not made up now."""
    for version, programs in ((1, {""}), (2, {"", "program"})):
        events = [decode(body, "RunStarted", version, run="", seq=1) for body in exhibits.bodies("RunStarted", version)]
        assert {event.program for event in events if isinstance(event, RunStarted)} - {""} == programs - {""}


# --- logs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_kept_log_tells_what_it_told_when_it_was_written(name: str) -> None:
    """W12, F4, law L5: lawful, deep; every count, and the end of every token; the bytes hold, the columns, the payloads."""
    log, told = logs.load(name), logs.told(name)
    store = logs.put(log)
    assert set(told) == set(log.runs) != set()
    assert registry(store) == [] and UPCASTERS.uncovered(store.kinds()) == []
    for run in (ids.LEDGER_STREAM, *log.runs):
        assert [str(fault) for fault in integrity(store, run)] == []
    for run in log.runs:
        assert replay(store, run, deep=True).verdict.findings == []
        assert telling(store, run) == told[run]
    assert logs.taken(store, log.files) == log, "reading changes nothing"


@pytest.mark.parametrize("name", NAMES)
def test_every_kept_log_is_projected(name: str, tmp_path: Path) -> None:
    """W12, F5: the read tables tell every row, and of every token the end that it had."""
    log, told = logs.load(name), logs.told(name)
    with projected(logs.put(log), tmp_path / "tables.db") as tables:
        for run in log.runs:
            (row,) = tables.records("SELECT * FROM runs WHERE run_id = ?", (run,))
            assert (row["unreadable_from_seq"], row["events"]) == (None, told[run]["events"])
            assert row["status"] == told[run]["status"]
            assert tables.records("SELECT * FROM violations WHERE run_id = ?", (run,)) == []
            tokens = [one["token_id"] for one in tables.records("SELECT token_id FROM tokens WHERE run_id = ?", (run,))]
            ended = tables.records("SELECT token_id, outcome FROM token_outcomes WHERE run_id = ?", (run,))
            assert {**dict.fromkeys(tokens), **{one["token_id"]: one["outcome"] for one in ended}} == told[run]["ends"]
            assert Counter(one["outcome"] for one in ended) == told[run]["outcomes"]


def test_the_logs_of_an_era_have_every_event_that_was_written_then() -> None:
    """W12: and the last era is today's: who raises a version collects (`python -m tests.museum.collect`)."""
    eras = exhibits.eras()
    assert list(eras.values())[-1] == VERSIONS and list(eras) == sorted(eras)
    for era, versions in eras.items():
        of_era = [name for name in NAMES if name.startswith(f"{era}/")]
        assert {kind for name in of_era for kind in logs.load(name).kinds()} == set(versions.items())


def test_lists_in_payloads_stand_in_a_log_of_every_era() -> None:
    """law L4: each kind of list that can be put aside."""
    for era in exhibits.eras():
        store = logs.put(logs.load(f"{era}/lists"))
        whole = b"".join(stored.body for stored, _ in reader.events(store, "tried"))
        for name in ("graph_list", "outputs_list", "rejected_list", "facts_list", "collisions_list"):
            assert f'"{name}":['.encode() in whole, name


def test_a_log_is_read_from_its_text_as_it_was_put_into_it() -> None:
    """Bodies, salts, digests, erased payloads, files: nothing is lost on the way."""
    for name in NAMES:
        log = logs.load(name)
        assert logs.parse(logs.text(log)) == log
    heads = [stream.head for name in NAMES for stream in logs.load(name).streams]
    assert {type(value) for head in heads for value in head} == {str, int, bytes}
    assert any(payload.bytes is None for name in NAMES for stream in logs.load(name).streams for payload in stream.payloads)
    assert logs.load("001/stopped").files.keys() >= {"pipeline.yaml", "in.csv", "good.jsonl"}


def test_an_exhibit_with_one_other_byte_is_not_the_one_in_the_manifest() -> None:
    """The twin of the first test: a body that was edited decodes to another event, or to none."""
    (body, *_) = exhibits.bodies("RowRead", 1)
    event = decode(body, "RowRead", 1, run="", seq=1)
    other = body.replace(b'"position":8', b'"position":9')
    assert other != body and decode(other, "RowRead", 1, run="", seq=1) != event
    with pytest.raises(Undecodable):
        decode(body.replace(b'"position"', b'"offset"'), "RowRead", 1, run="", seq=1)
    assert json.loads(body) == msgspec.json.decode(body)
