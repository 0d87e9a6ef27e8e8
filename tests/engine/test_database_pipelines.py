"""From one database into another by a pipeline file: run, stopped, resumed; and what such a file may not say."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import counterfoil
from counterfoil import CounterfoilError
from engine import databases
from ledger.errors import RunIncomplete, SettingsInvalid
from tests.engine.databases import RECEIPTS, ask, do, table

URL = "sqlite:///ledger.db"
PIPELINE = """\
name: copies
source:
  plugin: database
  key: id
  on_success: rows
  options:
    url: sqlite:///in.db
    table: t
    order_by: id
    on_validation_failure: bad
    schema: {mode: fixed, fields: ["id: int", "note: str?", "paid: bool"]}
transforms:
  - {name: pass, plugin: passthrough, input: rows, on_success: out, on_error: bad}
sinks:
  out:
    plugin: database
    on_write_failure: bad
    options: {url: "sqlite:///in.db", table: copy, if_exists: replace, primary_key: id}
  bad:
    plugin: database
    options: {url: "sqlite:///bad.db", table: bad, schema: {fields: ["id: any", "note: any", "paid: any"]}}
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of 700 rows, of which the source rejects one, and a table for copies that rejects one and has one to lose."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COUNTERFOIL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("COUNTERFOIL_LEDGER", raising=False)
    Path("pipeline.yaml").write_text(PIPELINE, encoding="utf-8")
    do("in.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT, paid BOOLEAN)", "INSERT INTO t WITH RECURSIVE n(i) AS "
       "(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700) SELECT i, 'note ' || i, i % 2 FROM n")
    do("in.db", "UPDATE t SET paid = 7 WHERE id = 600", "CREATE TABLE copy (id INTEGER)", "INSERT INTO copy VALUES (-1)")


BAD = PIPELINE[PIPELINE.rindex("plugin: database"):]
EXPECTED = [(n, f"note {n}", n % 2) for n in range(1, 701) if n != 600]


def edited(*changes: tuple[str, str]) -> str:
    """The pipeline file with something else in it."""
    text = PIPELINE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path("pipeline.yaml").write_text(text, encoding="utf-8")
    return "pipeline.yaml"


def test_a_pipeline_copies_a_table_beside_itself() -> None:
    """Into the file that it reads from; truth values stay such, an invalid row is on record, a second run replaces again."""
    for run in ("one", "two"):
        receipt = counterfoil.run("pipeline.yaml", run_id=run, ledger=URL)
        assert (receipt.status, receipt.outcomes) == ("completed", {"completed": 699, "quarantined": 1})
        assert table("in.db", "copy") == EXPECTED
        assert counterfoil.verify(run, ledger=URL, world=True).ok
    assert table("bad.db", "bad") == [("600", "note 600", "7")] * 2
    assert ask("in.db", "SELECT sql FROM sqlite_master WHERE name = 'copy'") == [(
        "CREATE TABLE copy (\n\tid BIGINT NOT NULL, \n\tnote TEXT, \n\tpaid BOOLEAN, \n\tPRIMARY KEY (id)\n)",)]


@pytest.mark.parametrize("rows", [0, 1, 250, 450])
def test_a_run_that_was_stopped_goes_on_where_it_was(rows: int) -> None:
    """Nothing is read twice, nothing replaced again, nothing left out."""
    read: list[int] = []
    receipt = counterfoil.run("pipeline.yaml", run_id="one", ledger=URL, progress=read.append,
                              stopping=lambda: "enough" if sum(read) >= rows else None)
    assert receipt.status == "interrupted"
    assert len(table("in.db", "copy") if receipt.rows else []) < 699
    receipt = counterfoil.resume("one", ledger=URL)
    assert (receipt.status, receipt.outcomes) == ("completed", {"completed": 699, "quarantined": 1})
    assert table("in.db", "copy") == EXPECTED
    assert counterfoil.verify("one", ledger=URL, world=True).ok


def test_a_target_that_is_locked_interrupts_the_run_and_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The write that failed is made again under its key; rows that a constraint rejects leave by `on_write_failure`."""
    monkeypatch.setattr(databases, "BUSY_SECONDS", 0.01)
    edited(("in.db\", table: copy, if_exists: replace", "out.db\", table: copy, if_exists: append"))
    do("out.db", "CREATE TABLE copy (id INTEGER PRIMARY KEY, note TEXT CHECK (note NOT LIKE '%7'), paid BOOLEAN)")
    read: list[int] = []
    other = sqlite3.connect("out.db", isolation_level=None, check_same_thread=False)

    def progress(rows: int) -> None:
        read.append(rows)
        if sum(read) >= 300 and not other.in_transaction:
            other.execute("BEGIN IMMEDIATE")

    with closing(other), pytest.raises(RunIncomplete, match=r"SINK_FAILED.*out\.db: database is locked"):
        counterfoil.run("pipeline.yaml", run_id="one", ledger=URL, progress=progress)
    receipt = counterfoil.resume("one", ledger=URL)
    assert (receipt.status, receipt.outcomes) == ("completed", {"completed": 629, "quarantined": 1, "diverted": 70})
    assert table("out.db", "copy") == [row for row in EXPECTED if row[0] % 10 != 7]
    assert sorted(int(str(row[0])) for row in table("bad.db", "bad")) == [*range(7, 600, 10), 600, *range(607, 700, 10)]
    assert ask("out.db", f"SELECT sum(inserted), count(DISTINCT epoch) FROM {RECEIPTS}") == [(629, 2)]


def test_a_place_that_is_there_twice_interrupts_the_run() -> None:
    """What came before it is written; a resume does not pass it by."""
    edited(("    table: t\n", "    query: SELECT iif(id = 500, 499, id) AS id, note, paid FROM t\n"))
    for begins in (True, False):
        with pytest.raises(RunIncomplete, match="column 'id', which order_by names, found 499 after 499"):
            if begins:
                counterfoil.run("pipeline.yaml", run_id="one", ledger=URL)
            else:
                counterfoil.resume("one", ledger=URL)
        assert table("in.db", "copy") == EXPECTED[:499]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("table: bad", "table: T", None),
        ("bad.db\", table: bad", "./in.db\", table: COPY", r"sinks\.bad\.options\.table.*that of sink out"),
        ("table: copy", "table: T", r"sinks\.out\.options\.table: .*that of the source"),
        ("table: t\n", "query: SELECT 1 AS id\n", None),
        ("sqlite:///bad.db", "sqlite:///ledger.db", r"sinks\.bad\.options\.url: .*that of the ledger"),
        ("sqlite:///bad.db", "sqlite:///ledger.db-wal", r"sinks\.bad\.options\.url: .*that of the ledger"),
        ("sqlite:///bad.db", "sqlite:///pipeline.yaml", r"sinks\.bad.*that of the pipeline file"),
        (BAD, "plugin: json\n    options: {path: in.db}\n",
         r"sinks\.bad\.options\.path: expected a path of its own for sink bad, found that of the source"),
    ],
)
def test_no_two_sinks_write_one_table_and_none_the_ledger(old: str, new: str, text: str | None) -> None:
    """Refused before anything is made; tables of one database are places of their own."""
    edited((old, new))
    if text is None:
        assert counterfoil.run("pipeline.yaml", run_id="one", ledger=URL).status == "completed"
        return
    with pytest.raises(SettingsInvalid, match=f"PATH_TAKEN: .*{text}"):
        counterfoil.run("pipeline.yaml", run_id="one", ledger=URL)
    assert not Path("ledger.db").exists()
    assert table("in.db", "copy") == [(-1,)]


@pytest.mark.parametrize("options", ["", "?connect_timeout=2"])
def test_a_password_is_in_no_message_and_in_no_file(options: str) -> None:
    """Whether its driver is missing, or nobody answers there: neither as it is written nor as it is meant."""
    file = edited(("sqlite:///bad.db", f"postgresql+psycopg://user:hunter%402@127.0.0.1:1/none{options}"))
    with pytest.raises(CounterfoilError) as error:
        counterfoil.run(file, run_id="one", ledger=URL)
    for path in Path().rglob("*"):
        content = path.read_bytes() if path.is_file() and path.name != file else b""
        assert b"hunter" not in content, path
    assert "hunter" not in str(error.value)
