"""The conformance kit: our own sinks keep every promise, and whoever breaks one is found by that promise."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from counterfoil.conformance import PROMISES, Beginning, Fence, SinkBroken, Target, check_sink, examine_sink, file_target
from engine.plugin_api import Prepared, Sink
from engine.plugins import Catalog, bind, schema_of
from tests.doors import broken_sinks
from tests.doors.broken_tapes import ForgetsToCut
from tests.doors.own_sinks import GOOD, REFUSED, Lines, LooseTape, Post, Shelf, Table, Tape, target_of
from tests.house.tree import ROOT

FIXED = {"mode": "fixed", "fields": ["id: int", "name: str"]}
WRONG = ({"id": "x", "name": "no number"}, {"id": 1, "other": 2})


def sink(plugin: str, **options: Any) -> Sink:
    """A built-in sink, its options checked as those of a pipeline file are."""
    if "schema" in options:
        options["schema"] = schema_of(options["schema"])
    made: Sink = bind(Catalog().find("sink", plugin), options)
    return made


# --- our own sinks -----------------------------------------------------------------------------------------------

FILES: Sequence[tuple[str, str, Mapping[str, Any], Beginning]] = (
    ("csv", "out.csv", {}, "replaces"),
    ("csv", "out.csv", {"schema": FIXED, "mode": "append", "encoding": "utf-16"}, "keeps"),
    ("json", "out.json", {"schema": FIXED, "indent": 2}, "replaces"),
    ("json", "out.jsonl", {"schema": FIXED}, "replaces"),
    ("json", "out.jsonl", {"mode": "append"}, "keeps"),
)


@pytest.mark.parametrize(("plugin", "name", "options", "beginning"), FILES)
def test_our_file_sinks_conform(plugin: str, name: str, options: Mapping[str, Any], beginning: Beginning, folder: Path
                                ) -> None:
    """W5: truncatable, held by a lock, also against a writer that comes late; a new run replaces, or appends."""
    path = folder / name
    refused = WRONG if "schema" in options else ()
    report = check_sink(lambda: sink(plugin, path=str(path), **options), file_target(path), refused=refused)
    assert (report.delivery, report.fence, report.fence_late) == ("truncatable", "lock", True)
    assert report.beginning == beginning


DATABASES: Sequence[tuple[Mapping[str, Any], Sequence[str], Sequence[Mapping[str, object]], Beginning]] = (
    ({"primary_key": "id"}, ("CREATE TABLE t (id INTEGER PRIMARY KEY CHECK (id >= 0), name TEXT)",),
     ({"id": -1, "name": "no"}, *WRONG), "keeps"),
    ({"if_exists": "replace"}, (), (), "replaces"),
    ({"schema": FIXED, "if_exists": "fail"}, (), WRONG, "refuses"),
)


@pytest.mark.parametrize(("options", "made", "refused", "beginning"), DATABASES)
def test_our_database_sink_conforms(options: Mapping[str, Any], made: Sequence[str], refused: Sequence[Mapping[str, object]],
                                    beginning: Beginning, folder: Path) -> None:
    """W5: transactional, fenced by the epoch, also against a writer that comes late; rows it rejects are told."""
    path = folder / "out.db"

    def read() -> list[object]:
        if not path.exists():
            return []
        with closing(sqlite3.connect(path)) as connection:
            there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 't'").fetchone()
            return connection.execute("SELECT * FROM t ORDER BY rowid").fetchall() if there else []

    def empty() -> None:
        for file in folder.glob("out.db*"):
            file.unlink()
        with closing(sqlite3.connect(path)) as connection:
            for statement in made:
                connection.execute(statement)

    target = Target(read, empty, distinct="primary_key" in options)
    report = check_sink(lambda: sink("database", url=f"sqlite:///{path}", table="t", **options), target, refused=refused)
    assert (report.delivery, report.beginning) == ("transactional", beginning)
    assert (report.fence, report.fence_late) == ("epoch", True)


@pytest.mark.parametrize(("kind", "fence", "late", "beginning"), GOOD)
def test_a_sink_of_each_class_conforms(kind: type[Tape | Table], fence: Fence, late: bool, beginning: Beginning) -> None:
    """W2, W5: whoever keeps the promises passes, and is told how it is fenced and how a new run begins."""
    shelf = Shelf()
    report = check_sink(lambda: kind(shelf), target_of(kind, shelf), refused=REFUSED)
    assert (report.delivery, report.fence, report.fence_late, report.beginning) == (kind.delivery, fence, late, beginning)
    assert (shelf.data, shelf.records) == (b"", [])


# --- broken ones -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", broken_sinks.SINKS)
def test_a_broken_sink_is_found_by_the_promise_it_breaks(kind: Callable[[Shelf], Any]) -> None:
    """Each slip by its name, with what was expected and found; and the target is empty afterwards."""
    shelf, promise = Shelf(), kind.BREAKS  # type: ignore[attr-defined]
    report = examine_sink(lambda: kind(shelf), target_of(kind, shelf), refused=REFUSED)  # type: ignore[arg-type]
    found = [finding for finding in report.findings if finding.promise == promise]
    assert found, [finding[:3] for finding in report.findings]
    assert all(finding.expected and finding.found for finding in found)
    assert (shelf.data, shelf.records) == (b"", [])


def test_every_promise_is_broken_by_somebody() -> None:
    """A promise that no sink of these breaks could be one that the kit does not look at."""
    assert {kind.BREAKS for kind in broken_sinks.SINKS} == set(PROMISES)  # type: ignore[attr-defined]


def test_the_error_tells_the_first_finding_of_each_promise_and_the_steps_to_it() -> None:
    """It is an AssertionError, so that any framework takes it for a test that fails."""
    shelf = Shelf()
    with pytest.raises(AssertionError) as caught:
        check_sink(lambda: ForgetsToCut(shelf), target_of(Tape, shelf))
    assert isinstance(caught.value, SinkBroken)
    text = str(caught.value)
    assert "expected a sink that keeps its promises, found 2 of them broken" in text
    assert f"unconfirmed-is-cut: {PROMISES['unconfirmed-is-cut']}\n  expected an end at 0\n  found offset " in text
    assert re.search(r"    3\. write 1 is made under key [0-9a-f]{32}\n    4\. the process dies after write 1", text)
    assert "more of this promise" in text


class PutsInFront(Table):
    """Once it was resumed it writes before what is there."""

    def insert(self, prepared: Prepared, key: str) -> None:
        """Turn it round."""
        before = self.shelf.records
        self.shelf.records = []
        super().insert(prepared, key)
        self.shelf.records = [*self.shelf.records, *before] if self.claim.begun else [*before, *self.shelf.records]


def test_the_same_records_in_another_order_are_another_target() -> None:
    """Whoever reads a queue reads it in order."""
    shelf = Shelf()
    report = examine_sink(lambda: PutsInFront(shelf), shelf.table())
    (found,) = {finding[:3] for finding in report.findings}
    assert found == ("resume-equals-uncut", "the records in the order of a run that was not cut", "them in another")


# --- what could not be looked at, and what it is given -----------------------------------------------------------


@pytest.mark.parametrize(("kind", "target", "said"), [
    (LooseTape, lambda shelf: Target(lambda: shelf.data, shelf.empty), "torn writes"),
    (Post, lambda shelf: Target(lambda: shelf.records, shelf.empty), "key_of"),
    (Tape, Shelf.tape, "close(False)"),
    (Table, Shelf.table, "in part"),
    (Table, lambda shelf: Target(lambda: shelf.records, shelf.empty, distinct=True), "each row once"),
    (Table, Shelf.table, "rows that the sink refuses"),
    (Table, Shelf.table, "loss of power"),
])
def test_what_could_not_be_looked_at_is_said(kind: type[Lines], target: Callable[[Shelf], Target], said: str) -> None:
    """A pass says how far it goes."""
    shelf = Shelf()
    report = examine_sink(lambda: kind(shelf), target(shelf))  # type: ignore[arg-type,return-value]
    assert not report.findings
    assert any(said in one for one in report.not_checked)


def test_rows_that_are_none_are_an_error_of_the_caller() -> None:
    """Too few of them, or what no pipeline carries."""
    shelf = Shelf()
    with pytest.raises(ValueError, match="at least 6 rows, found 1"):
        examine_sink(lambda: Table(shelf), shelf.table(), rows=[{}])
    with pytest.raises(ValueError, match="expected a finite number"):
        examine_sink(lambda: Table(shelf), shelf.table(), rows=[{"n": float("nan")}] * 6)


def test_the_example_of_the_page_conforms(folder: Path) -> None:
    """What docs/plugins.md shows runs, from its first line to its test."""
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page[page.index("\n## Sinks\n"):], re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, Any] = {}
    exec("\n".join(blocks), names)
    assert names["json"] is json
    names["test_drawers"](folder)
