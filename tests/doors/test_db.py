"""`counterfoil db`: what is said of a ledger's schema, its guards, its events and its read tables, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import migrations
from counterfoil.ledgers import Ledger
from projections.read_tables import ReadTables
from tests.doors.kept import on_files
from tests.doors.story import PIPELINE, ROWS
from tests.doors.told import Told, ask, done, tell, write
from tests.kit import both
from tests.ledger.revisions import Place

CURRENT = {"revision": migrations.HEADS["log"], "head": migrations.HEADS["log"], "current": True}


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, folder: Path) -> Place:
    """Where nothing is kept yet, on each database, and something to run."""
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})
    return Place(f"sqlite:///{folder}/ledger.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url"))


@pytest.fixture
def ledger(place: Place) -> Place:
    """A ledger with one run, whose read tables are current."""
    done("run", "pipeline.yaml", "--run-id", "x", ledger=place.url)
    return place


def check(place: Place) -> Told:
    """What `db check` says; looking changes nothing."""
    before = place.everything()
    told = tell("db", "check", "-o", "json", ledger=place.url)
    assert place.everything() == before
    assert "Traceback" not in told.err
    return told


def test_each_command_answers_as_a_table_and_as_json(place: Place) -> None:
    """F7: the revision, the head, whether they are one; `db check` also what it looked for."""
    for command in ("upgrade", "current"):
        answer = ask("db", command, ledger=place.url)
        assert answer.pop("ledger") == place.shown
        assert answer == {"schema": "counterfoil/db/1", **CURRENT}
        table = done("db", command, ledger=place.url).out.splitlines()
        assert table[0].split() == ["ledger", "revision", "head", "current"]
        assert table[1].split()[1:] == [CURRENT["head"], CURRENT["head"], "true"]
    done("runs", ledger=place.url)
    answer = ask("db", "check", ledger=place.url)
    assert {name: answer[name] for name in ("guards", "unreadable_events", "read_tables")} == {
        "guards": [], "unreadable_events": [], "read_tables": "current"}
    table = done("db", "check", ledger=place.url).out.splitlines()
    assert table[0].split()[-3:] == ["guards", "unreadable_events", "read_tables"]
    assert table[1].split()[-3:] == ["0", "0", "current"]


def test_a_ledger_that_is_not_there_is_made_by_upgrade_alone(place: Place) -> None:
    """F7: the others say where they looked, and what makes one."""
    for command in ("current", "check"):
        told = tell("db", command, ledger=place.url)
        assert (told.code, told.error.split(":")[0], told.out) == (6, "LEDGER_MISSING", "")
        assert "db upgrade" in told.error
    assert not (place.file and place.file.exists())


# --- events that nobody can read -----------------------------------------------------------------------------------------


def add(place: Place, seq: int, type_: str, version: int) -> None:
    """An event behind the run's last one, as a later version would have written it."""
    body = f'{{"type":"{type_}","run":"x"}}'.encode().hex()
    literal = f"X'{body}'" if place.file else f"'\\x{body}'"
    (stream,), = place.query("SELECT stream FROM streams WHERE run_id = 'x'")
    place.execute(f"INSERT INTO events (stream, seq, type, v, at, body) VALUES ({stream}, {seq}, '{type_}', {version}, 1, "
                  f"{literal})")


def test_an_event_of_an_unknown_type_or_version_is_named_with_its_count_and_first_place(ledger: Place) -> None:
    """F7, W12: one kind on one line; of several each on a line of its own; all of it in JSON."""
    (size,), = ledger.query("SELECT size FROM streams WHERE run_id = 'x'")
    add(ledger, size + 1, "RowSeen", 1)
    add(ledger, size + 2, "RowSeen", 1)
    told = check(ledger)
    assert told.code == 6
    assert told.error.startswith("LEDGER_EVENTS: ")
    assert f"2 of RowSeen version 1, the first in run x seq {size + 1};" in told.error
    seen = {"type": "RowSeen", "version": 1, "known": False, "count": 2, "run": "x", "seq": size + 1,
            "found": "RowSeen version 1 (no such type is known)"}
    assert told.answer["unreadable_events"] == [seen]
    add(ledger, size + 3, "RowRead", 99)
    told = check(ledger)
    first, last = told.err.splitlines()
    assert told.code == 6 and first.startswith("LEDGER_EVENTS: 2 of RowSeen") and "1 of RowRead version 99" in last
    assert told.answer["unreadable_events"][0]["seq"] == size + 3
    table = tell("db", "check", ledger=ledger.url)
    assert table.code == 6 and table.out.splitlines()[1].split()[-2] == "2"


def change(place: Place, seq: int, column: str, value: str) -> None:
    """Change a stored event of run x behind the guards' back; they stand again afterwards."""
    (stream,), = place.query("SELECT stream FROM streams WHERE run_id = 'x'")
    statement = f"UPDATE events SET {column} = {value} WHERE stream = {stream} AND seq = {seq}"
    if place.file:
        guards = [(name, sql) for name, sql in place.query("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")]
        place.execute(*(f"DROP TRIGGER {name}" for name, _ in guards), statement, *(sql for _, sql in guards))
    else:
        place.execute("ALTER TABLE events DISABLE TRIGGER USER", statement, "ALTER TABLE events ENABLE TRIGGER USER")


def as_bytes(place: Place, body: bytes) -> str:
    """Bytes as a literal."""
    return f"X'{body.hex()}'" if place.file else f"'\\x{body.hex()}'"


def seqs(place: Place, type_: str) -> list[int]:
    """Where the events of a type stand in run x."""
    return [seq for (seq,) in place.query("SELECT seq FROM events WHERE stream = (SELECT stream FROM streams WHERE run_id = "
                                          f"'x') AND type = '{type_}' ORDER BY seq")]


BROKEN = {
    "nothing": b"",
    "half": b'{"type":"RowRead","run":"x"',
    "no text": b'{"type":"RowRead","run":"\xff"}',
    "another event": b'{"type":"SourceExhausted","rows":1}',
    "nested too deeply": b'{"type":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_event_whose_bytes_do_not_decode_is_found(ledger: Place, what: str) -> None:
    """F7, W12: exit 6, of which type and where; as no version reads it `verify` is named; the rest is read too."""
    done("run", "pipeline.yaml", "--run-id", "y", ledger=ledger.url)
    second, last = seqs(ledger, "RowRead")[1], seqs(ledger, "RunSealed")[0]
    change(ledger, second, "body", as_bytes(ledger, BROKEN[what]))
    told = check(ledger)
    assert (told.code, told.answer["guards"]) == (6, [])
    assert told.err.splitlines()[-1].startswith("LEDGER_EVENTS: ")
    assert f"1 of RowRead version 1, the first in run x seq {second}: " in told.err and "`counterfoil verify`" in told.err
    (found,) = told.answer["unreadable_events"]
    assert (found["type"], found["version"], found["known"], found["count"], found["run"], found["seq"]) == (
        "RowRead", 1, True, 1, "x", second)
    change(ledger, second + 1, "body", as_bytes(ledger, b"{"))
    change(ledger, last, "body", as_bytes(ledger, b"{"))
    assert sum(one["count"] for one in check(ledger).answer["unreadable_events"]) == 3


def test_an_event_that_is_not_what_its_columns_say_is_found(ledger: Place) -> None:
    """F7, law L6: whoever reads the run stops there; an unknown kind beside it keeps its own line and its own remedy."""
    first = seqs(ledger, "RowRead")[0]
    change(ledger, first, "at", "7")
    told = check(ledger)
    assert told.code == 6 and f"1 of RowRead version 1, the first in run x seq {first}: L6 at run x" in told.err
    add(ledger, seqs(ledger, "RunSealed")[0] + 1, "RowSeen", 1)
    told = check(ledger)
    lines = [line for line in told.err.splitlines() if line.startswith("LEDGER_EVENTS")]
    assert len(lines) == 2 and "RowRead" in lines[0] and "1 of RowSeen version 1" in lines[1] and "version that" in lines[1]
    assert [one["known"] for one in told.answer["unreadable_events"]] == [False, True]


@on_files
def test_versions_that_are_no_numbers_are_named_like_others(folder: Path) -> None:
    """F7, W12: a column of a file holds anything."""
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})
    place = Place(f"sqlite:///{folder}/ledger.db")
    done("run", "pipeline.yaml", "--run-id", "x", ledger=place.url)
    for seq, version in zip(seqs(place, "RowRead"), ("9", "'zz'", "x'00ff'", "CAST(x'fffe' AS TEXT)", "1.5"), strict=False):
        change(place, seq, "v", version)
    change(place, seqs(place, "RunClaimed")[0], "type", "CAST(x'fffe' AS TEXT)")
    for form in ("json", "jsonl", "table"):
        told = tell("db", "check", "-o", form, ledger=place.url)
        assert (told.code, told.err.count("LEDGER_EVENTS: ")) == (6, 6), told.err
        assert "1 of RowRead version 9," in told.err and "1 of RowRead version zz," in told.err


# --- read tables ---------------------------------------------------------------------------------------------------------


def edit(place: Place, statement: str) -> None:
    """Change the read tables by hand."""
    with Ledger(place.url) as opened:
        shelf = opened.keeping.shelf()
        name = shelf.generation()
        assert name is not None
        tables: ReadTables = shelf.open(name, write=True)
        with tables, tables.transaction():
            tables.select(f"{statement} RETURNING 1")


def states(place: Place) -> Iterator[str]:
    """A ledger whose read tables come to stand in every way to the log, one after the other."""
    done("db", "upgrade", ledger=place.url)
    yield "none"
    done("run", "pipeline.yaml", "--run-id", "x", ledger=place.url)
    yield "current"
    both.run(place.url, "pipeline.yaml", "y")
    yield "behind"
    done("runs", ledger=place.url)
    yield "current"
    edit(place, "UPDATE p_places SET fingerprint = 'of another making'")
    yield "stale"
    tell("runs", ledger=place.url)
    edit(place, "UPDATE p_places SET seq = seq + 1")
    yield "ahead"
    tell("runs", ledger=place.url)
    edit(place, "UPDATE p_runs SET unreadable_from_seq = 10 WHERE run_id = 'x'")
    edit(place, "UPDATE p_places SET seq = 9 WHERE run = (SELECT run FROM p_runs WHERE run_id = 'x')")
    yield "incomplete"


def test_however_the_read_tables_stand_is_said_and_is_no_fault(place: Place) -> None:
    """F5, W13: exit 0; a line on stderr, with what brings them up, unless they are current; nothing is done about it."""
    told_of = []
    for state in states(place):
        told = check(place)
        assert (told.code, told.answer["read_tables"]) == (0, state)
        if state == "current":
            assert told.err == ""
        else:
            assert told.error.startswith(f"READ_TABLES_{state.upper()}: ")
        told_of.append(state)
    assert set(told_of) == {"none", "current", "behind", "stale", "ahead", "incomplete"}


# --- guards --------------------------------------------------------------------------------------------------------------

BOTH = {
    "a dropped guard": ("DROP TRIGGER events_no_update", "events_no_update is missing"),
    "a table more": ("CREATE TABLE notes (x int)", "table notes does not belong here"),
    "a view more": ("CREATE VIEW notes AS SELECT 1", "view notes does not belong here"),
}
SQLITE = {
    "a changed guard": ("DROP TRIGGER events_no_delete; CREATE TRIGGER events_no_delete BEFORE DELETE ON events WHEN 0 "
                        "BEGIN SELECT RAISE(ABORT, 'no'); END", "events_no_delete was changed"),
}
POSTGRES = {
    "a guard switched off": ("ALTER TABLE events DISABLE TRIGGER events_no_delete", "events_no_delete was changed"),
    "a guard of replicas": ("ALTER TABLE events ENABLE REPLICA TRIGGER events_no_update", "events_no_update was changed"),
    "a changed guard": ("CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
                        "events_no_delete was changed"),
    "a trigger more": ("CREATE TRIGGER more AFTER DELETE ON events EXECUTE FUNCTION refuse('x')", "trigger more"),
    "a rule": ("CREATE RULE more AS ON INSERT TO payloads DO INSTEAD NOTHING", "payloads shows other rows"),
    "a function more": ("CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function more"),
    "a lost key": ("ALTER TABLE events DROP CONSTRAINT events_pkey", "key events (stream, seq) is missing"),
    "everybody may delete": ("GRANT DELETE ON events TO PUBLIC", "role public may DELETE events"),
    "everybody may change a column": ("GRANT UPDATE (body) ON events TO PUBLIC", "role public may UPDATE events"),
    "everybody may empty": ("GRANT TRUNCATE ON streams TO PUBLIC", "role public may TRUNCATE streams"),
}


@pytest.mark.parametrize("what", [*BOTH, *SQLITE])
def test_what_is_wrong_with_the_guards_of_a_file_is_named(what: str, folder: Path) -> None:
    """F1, F7: exit 6 and the guard; `verify` has it as a finding."""
    guards(Place(f"sqlite:///{folder}/ledger.db"), *{**BOTH, **SQLITE}[what])


@pytest.mark.parametrize("what", [*BOTH, *POSTGRES])
def test_what_is_wrong_with_the_guards_of_a_schema_is_named(what: str, folder: Path, postgres_url: str) -> None:
    """F1, F7: exit 6 and the guard, or whose right it is; `verify` has it as a finding."""
    statement, found = {**BOTH, **POSTGRES}[what]
    guards(Place(postgres_url), f"{statement} ON events" if what == "a dropped guard" else statement, found)


def guards(place: Place, statements: str, expected: str) -> None:
    """After these statements `db check` and `verify` name what is expected."""
    done("db", "upgrade", ledger=place.url)
    place.execute(*statements.split("; ", 1)) if place.file else place.execute(statements)
    told = check(place)
    assert (told.code, told.err.splitlines()[-1].split(":")[0]) == (6, "LEDGER_SCHEMA")
    assert any(expected in fault for fault in told.answer["guards"])
    assert expected in told.err
    verified = tell("verify", "-o", "json", ledger=place.url)
    assert verified.code == 5 and expected in verified.out
