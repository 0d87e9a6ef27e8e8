"""A run that cannot be told to its end, by an event that nobody reads or a projector that fails: each command says so of
that run, and every other run is answered for as ever.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

import counterfoil
from ledger import events as e
from ledger.fold import State
from projections.projector import RunProjector
from tests.doors.kept import on_files
from tests.doors.told import JOINED, LEDGER, URL, ask, done, tell, write

pytestmark = on_files

NESTED = b"[" * 50_000 + b"]" * 50_000
DEEP = {
    "as the type": b'{"type":' + NESTED + b"}",
    "before the type": b'{"more":' + NESTED + b"}",
    "without an end": b'{"type":' + b"[" * 50_000,
}
AT = 12
OF_BAD = "(SELECT stream FROM streams WHERE run_id = 'bad')"


@pytest.fixture(autouse=True)
def runs() -> None:
    """Two runs to their end, and one that was stopped."""
    write({"pipeline.yaml": JOINED, "in.csv": "id\n" + "".join(f"{n}\n" for n in range(5))})
    for run in ("bad", "good"):
        done("run", "pipeline.yaml", "--run-id", run)
    asked = count()
    counterfoil.run("pipeline.yaml", run_id="cut", ledger=URL, stopping=lambda: "enough" if next(asked) > 3 else None)
    assert ask("show", "cut")["status"] == "interrupted"


def edit(path: str, *statements: tuple[str, tuple[object, ...]]) -> None:
    """Change a file behind the program's back; guards are put aside and put back."""
    with closing(sqlite3.connect(path)) as connection:
        guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            connection.execute(f"DROP TRIGGER {name}")
        for statement, values in statements:
            connection.execute(statement, values)
        for _, sql in guards:
            connection.execute(sql)
        connection.commit()


def poison(body: bytes, seq: int = AT, run: str = "bad") -> None:
    """Put other bytes in place of an event of a run."""
    edit(LEDGER, ("UPDATE events SET body = ? WHERE seq = ? AND stream = (SELECT stream FROM streams WHERE run_id = ?)",
                  (body, seq, run)))


def failing(monkeypatch: pytest.MonkeyPatch, seq: int = AT) -> None:
    """A projector with a defect: it fails at an event of the bad run."""
    whole = RunProjector.event

    def event(self: RunProjector, state: State, event: e.Event) -> None:
        if (state.run, event.seq) == ("bad", seq):
            raise ZeroDivisionError("division by zero")
        whole(self, state, event)

    monkeypatch.setattr(RunProjector, "event", event)


def tables_gone() -> None:
    """As if nobody had read anything yet."""
    for path in Path().glob(f"{LEDGER}.read.*"):
        path.unlink()


def stop(way: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the bad run be untold from `AT` on; gives what says why."""
    tables_gone()
    if way == "a projector that fails":
        failing(monkeypatch)
        return "ZeroDivisionError"
    poison(b"{")
    return "does not decode"


WAYS = pytest.mark.parametrize("way", ["a body that is broken", "a projector that fails"])


@pytest.mark.parametrize("seq", [1, 2, AT, 0])
@pytest.mark.parametrize("what", DEEP)
def test_a_body_nested_too_deeply_stops_its_own_run_only(what: str, seq: int) -> None:
    """W12, F4, F6: at any seq, the last one too: a finding at its place for who asks for that run; others know nothing."""
    receipt = ask("replay", "bad")["events"]
    seq = seq or receipt
    poison(DEEP[what], seq)
    tables_gone()
    for command in (("runs",), ("show", "bad"), ("tokens", "bad"), ("pending", "bad"), ("graph", "bad"), ("verify",),
                    ("rebuild",), ("rebuild", "--verify"), ("resume", "bad"), ("explain", "bad", "0"), ("db", "check"),
                    ("abandon", "bad", "--reason", "broken"), ("verify", "bad"), ("query", "SELECT * FROM runs")):
        told = tell(*command)
        assert told.code in (0, 2, 5, 6) and "UNEXPECTED" not in told.err, (command, told.err)
    found = tell("replay", "bad", "-o", "json")
    assert (found.code, found.answer["findings"][0]["law"], found.answer["findings"][0]["seq"]) == (5, "L5", seq)
    assert ask("show", "bad")["unreadable_from_seq"] == seq
    assert {("body", seq), ("tree", None)} <= {
        (one["kind"], one["seq"]) for one in tell("verify", "bad", "-o", "json").answer["integrity"]["findings"]}
    for run in ("good", "cut"):
        assert ask("show", run)["complete"] is True and ask("tokens", run)["complete"] is True
        assert ask("replay", run, "--deep")["ok"] is True and ask("verify", run)["ok"] is True
        assert ask("explain", run, "0")["complete"] is True
    assert ask("resume", "cut")["status"] == "completed"
    assert ask("run", "pipeline.yaml", "--run-id", "new")["status"] == "completed"


@pytest.mark.parametrize("payload", [NESTED, b'{"a":' * 50_000, b"\xff"], ids=["lists", "objects", "no text"])
def test_a_payload_that_cannot_be_read_is_said_to_be_that_where_it_is_shown(payload: bytes) -> None:
    """W12, F6: a row, a reason or a list: every run is told, and only what stood there is not."""
    edit(LEDGER, (f"UPDATE payloads SET bytes = ? WHERE stream = {OF_BAD}", (payload,)))
    tables_gone()
    for command in (("runs",), ("show", "bad"), ("tokens", "bad"), ("explain", "bad", "0"), ("rebuild",), ("replay", "bad"),
                    ("replay", "bad", "--deep"), ("verify", "bad", "--world"), ("db", "check"), ("rebuild", "--verify")):
        told = tell(*command)
        assert told.code in (0, 5, 6) and "UNEXPECTED" not in told.err, (command, told.err)
    assert tell("verify", "bad").code == 5
    assert ask("verify", "good")["ok"] is True and ask("show", "good")["complete"] is True


def test_a_token_with_a_number_that_is_none_stops_its_own_run_only() -> None:
    """W12, F6: thousands of digits, in a list of a body."""
    with closing(sqlite3.connect(LEDGER)) as connection:
        rows = connection.execute(f"SELECT seq, body FROM events WHERE type = 'SinkWriteIntended' AND stream = {OF_BAD} "
                                  "ORDER BY seq").fetchall()
    seq, body = rows[0]
    event = json.loads(body)
    event["tokens"] = ["9" * 5000]
    poison(json.dumps(event).encode(), seq)
    tables_gone()
    for command in (("runs",), ("show", "bad"), ("replay", "bad"), ("verify",), ("rebuild",), ("resume", "bad"),
                    ("verify", "--world")):
        told = tell(*command)
        assert told.code in (0, 2, 5, 6) and "UNEXPECTED" not in told.err, (command, told.err)
    assert ask("verify", "good")["ok"] is True and ask("show", "good")["complete"] is True


@WAYS
def test_a_rebuild_says_which_runs_it_could_not_tell_to_their_end(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F5: on stderr with who says why; the answer is not complete, a comparison's neither; of another run it is."""
    stop(way, monkeypatch)
    for again in ((), ("--verify",)):
        told = done("rebuild", *again, "-o", "json")
        assert told.answer["complete"] is False
        assert told.error.startswith("READ_TABLES_INCOMPLETE: run bad cannot be told to its end")
        assert "`counterfoil show bad`" in told.error
        assert "READ_TABLES_INCOMPLETE: run bad" in done("rebuild", *again).error
    assert ask("rebuild", "--run", "bad")["complete"] is False
    told = done("rebuild", "--run", "good", "-o", "json")
    assert (told.answer["complete"], told.err) == (True, "")
    assert ask("rebuild", "--verify", "--run", "good")["complete"] is True


def test_a_rebuild_names_several_such_runs() -> None:
    """F5: the first few by name."""
    poison(b"{")
    poison(b"{", run="good")
    tables_gone()
    assert "runs bad, good cannot be told to their end" in done("rebuild").error
    poison(b"{", run="cut")
    assert "runs bad, cut, good cannot" in done("rebuild").error


@WAYS
def test_show_says_why_a_run_is_not_told_and_not_that_its_process_died(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F4, F6: of a run that is sealed: what it came to by its log, from where nothing is told, and why."""
    said = stop(way, monkeypatch)
    told = done("show", "bad")
    first, second = told.out.splitlines()[:2]
    assert f"completed, but told to event {AT - 1} only" in first
    assert second.startswith(f"incomplete: nothing can be told from seq {AT} on: ") and said in second
    assert ("`counterfoil verify bad`" in second) == (way == "a body that is broken")
    for wrong in ("running", "resume", "stopped:", "receipt"):
        assert wrong not in told.out
    found = ask("show", "bad")
    assert (found["complete"], found["unreadable_from_seq"], found["stopped"]) == (False, AT, None)
    assert said in found["violations"][0]["found"]
    whole = done("show", "good").out
    assert "receipt " in whole and "incomplete" not in whole


def test_show_says_nothing_of_a_process_where_an_interrupted_run_cannot_be_told() -> None:
    """F4, F6: it could not be carried on either; told whole it says why it was stopped."""
    assert "stopped: " in done("show", "cut").out and ask("show", "cut")["stopped"]["code"] == "stopped"
    poison(b"{", 5, "cut")
    tables_gone()
    told = done("show", "cut").out
    assert "interrupted, but told to event 4 only" in told and "stopped:" not in told


@WAYS
def test_what_is_not_found_in_a_run_that_is_not_told_may_come_later(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F6: a token, or a row, that is not there is said to be looked for in a part of the run."""
    stop(way, monkeypatch)
    for arguments, code in ((("4",), "TOKEN_UNKNOWN"), (("--row", "4"), "ROW_UNKNOWN")):
        told = tell("explain", "bad", *arguments)
        assert (told.code, told.error.split(":")[0]) == (2, code)
        assert f"nothing is told of this run from seq {AT} on" in told.error and "`counterfoil show bad`" in told.error
        assert "from seq" not in tell("explain", "good", *arguments[:-1], "9").error


STANDINGS = {
    "STALE": "UPDATE p_places SET fingerprint = 'of another making'",
    "AHEAD": "UPDATE p_places SET seq = seq + 1",
    "INCOMPLETE": "UPDATE p_runs SET unreadable_from_seq = 10 WHERE run_id = 'bad'",
    "BEHIND": "UPDATE p_places SET seq = seq - 1",
}


@pytest.mark.parametrize("state", STANDINGS)
@pytest.mark.parametrize("command", [("verify",), ("verify", "good"), ("rebuild", "--verify")], ids=" ".join)
def test_tables_that_are_not_what_they_should_be_are_announced_by_who_compares_them(command: tuple[str, ...], state: str
                                                                                    ) -> None:
    """F5, W13: on stderr, before what was found; of tables that are merely behind nothing; nothing is done to them."""
    edit(f"{LEDGER}.read.1.db", (STANDINGS[state], ()))
    before = tell("db", "check").err.splitlines()[0]
    told = tell(*command)
    lines = [line for line in told.err.splitlines() if line.startswith("READ_TABLES_")]
    assert lines == ([] if state == "BEHIND" else [before]) and before.startswith(f"READ_TABLES_{state}: ")
    assert tell(*command).err == told.err


@pytest.mark.parametrize("command", [("verify",), ("verify", "good"), ("rebuild", "--verify")], ids=" ".join)
def test_tables_that_are_current_or_not_there_need_no_word(command: tuple[str, ...]) -> None:
    """F5: nothing on stderr."""
    assert done(*command).err == ""
    tables_gone()
    assert done(*command).err == ""


def test_tables_that_are_behind_and_of_a_run_that_is_stuck_are_not_said_to_be_whole() -> None:
    """F5: what is not told is named, whatever else is to be done."""
    tables_gone()
    poison(b"{")
    ask("runs")
    edit(f"{LEDGER}.read.1.db", ("UPDATE p_places SET seq = seq - 1 WHERE run IN (SELECT run FROM p_runs WHERE run_id = "
                                 "'cut')", ()))
    told = tell("rebuild", "--verify", "-o", "json")
    assert told.answer["complete"] is False and told.err.startswith("READ_TABLES_INCOMPLETE: run bad ")


def test_a_run_says_once_that_the_read_tables_are_stale_though_they_cannot_be_made(caplog: pytest.LogCaptureFixture) -> None:
    """F5: once, whatever comes of it; the next command says it again."""
    edit(f"{LEDGER}.read.1.db", (STANDINGS["STALE"], ()))
    Path(f"{LEDGER}.read.new").mkdir()  # where they would be made
    for run in ("one", "two"):
        caplog.clear()
        told = tell("run", "pipeline.yaml", "--run-id", run)
        assert (told.code, told.err.splitlines()[-1].split(":")[0]) == (6, "READ_TABLES_FAULT")
        assert [record.getMessage().split(":")[0] for record in caplog.records] == ["READ_TABLES_STALE"]
    Path(f"{LEDGER}.read.new").rmdir()
    assert done("runs").error.startswith("READ_TABLES_STALE: ")
