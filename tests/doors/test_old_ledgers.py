"""Ledgers that an earlier version wrote, behind the doors of this one: asked, verified, carried on. See `tests.museum`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.program import PROGRAM
from ledger import reader
from ledger.events import RunStarted
from ledger.sqlite_store import SqliteStore
from tests.doors.kept import on_files
from tests.doors.told import LEDGER, ask, done, lines, tell, write
from tests.house.tree import ROOT
from tests.ledger.files import new_file
from tests.museum import exhibits, logs

ERAS = sorted(exhibits.eras())


def placed(name: str) -> logs.Log:
    """A golden log in a ledger file of today's tables, its own files beside it."""
    log = logs.load(name)
    store = SqliteStore(new_file(Path.cwd(), LEDGER), write=True)
    logs.put(log, store)
    store.close()
    write(log.files)
    return log


def stored() -> logs.Log:
    """What the ledger file holds."""
    store = SqliteStore(Path.cwd() / LEDGER, write=False)
    try:
        return logs.taken(store)
    finally:
        store.close()


@on_files
@pytest.mark.parametrize("era", ERAS)
def test_a_stopped_run_of_an_earlier_version_is_carried_on_to_its_end(era: str) -> None:
    """W12, G7, G13, law P3: rows that were read are not read again; old events stay byte for byte; all of it verifies."""
    before = placed(f"{era}/stopped")
    told = logs.told(f"{era}/stopped")["stopped"]
    assert ask("show", "stopped")["status"] == "interrupted"
    receipt = ask("resume", "stopped", "--accept-changes")
    assert (receipt["status"], receipt["rows"]) == ("completed", 6) and told["rows"] < 6
    assert receipt["outcomes"] == {"coalesced": 10, "completed": 5, "forked": 5, "quarantined": 1}
    assert [row["left"]["id"] for row in lines("good.jsonl")] == [0, 1, 3, 4, 5]
    assert [row["id"] for row in lines("bad.jsonl")] == ["x"]
    after = stored()
    for was, now in zip(before.streams, after.streams, strict=True):
        assert now.events[: len(was.events)] == was.events and now.payloads[: len(was.payloads)] == was.payloads
    kept = f"{receipt['size']}:{receipt['root']}"
    assert done("verify", "stopped", "--expect", kept).code == 0


@on_files
@pytest.mark.parametrize("name", logs.names())
def test_every_kept_ledger_is_verified_and_answers(name: str) -> None:
    """W12, F4, F6, A4: bytes, laws, read tables; every token's story has the end that it had."""
    log = placed(name)
    for run in log.runs:
        assert done("verify", run).code == 0
        assert ask("replay", run)["lawful"] is True
        for token, outcome in list(logs.told(name)[run]["ends"].items())[:3]:
            story = ask("explain", run, token)
            assert (story["complete"], (story["outcome"] or {}).get("outcome")) == (True, outcome)
    assert stored() == logs.Log(log.streams)


@on_files
def test_a_run_says_by_what_it_was_written() -> None:
    """W12: since version 2 of `RunStarted`; the name and the version are those of the package."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = dict(re.findall(r'^(name|version) = "([^"]+)"', pyproject, re.MULTILINE))
    assert f"{found['name']} {found['version']}" == PROGRAM
    write(logs.load(f"{ERAS[0]}/stopped").files)
    ask("run", "pipeline.yaml", "--run-id", "fresh")
    store = SqliteStore(Path.cwd() / LEDGER, write=False)
    (_, started), *_ = reader.events(store, "fresh")
    store.close()
    assert isinstance(started, RunStarted) and (started.program, started.v) == (PROGRAM, 2)


@on_files
def test_an_event_that_no_path_covers_is_named_by_the_doors() -> None:
    """W12, law L5: one line with its seq; the part before it is still told."""
    log = placed(f"{ERAS[0]}/gated")
    (run,) = log.runs
    seq = next(one.seq for one in log.streams[1].events if one.type == "RowRead")
    unknown = [one._replace(type="RowSeen", body=one.body.replace(b"RowRead", b"RowSeen", 1)) if one.seq == seq else one
               for one in log.streams[1].events]
    (Path.cwd() / LEDGER).unlink()
    store = SqliteStore(new_file(Path.cwd(), LEDGER), write=True)
    other = logs.Stream(log.streams[1].head, unknown, log.streams[1].payloads)
    logs.put(logs.Log([log.streams[0], other]), store)
    store.close()
    told = tell("replay", run, "-o", "json")
    assert told.code == 5 and f"seq {seq}" in told.err + told.out and "RowSeen version 1" in told.err + told.out
    assert ask("show", run)["unreadable_from_seq"] == seq
