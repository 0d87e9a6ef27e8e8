"""The product's own sinks over cuts: the bytes are those of the run that nobody cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.plugin_api import Sink
from engine.sinks.csv_file import CsvSink
from engine.sinks.json_file import JsonSink
from ledger import events as e
from ledger.world import artifacts
from tests.kit.deaths import Cut, Killed, Making, MortalStore, carried_on, cuts
from tests.kit.forks import Row
from tests.kit.pipelines import Sketch, Trial
from tests.kit.small_runs import making, numbered

BEFORE = b'{"before":1}\n'


class Kind(NamedTuple):
    """A sink over one file, and what stood in the file before the run."""

    make: Callable[[str], Sink]
    ending: str
    before: bytes | None = None


KINDS: Mapping[str, Kind] = {
    "lines": Kind(lambda path: JsonSink(path=path), "jsonl"),
    "lines_over_others": Kind(lambda path: JsonSink(path=path), "jsonl", BEFORE),
    "lines_appended": Kind(lambda path: JsonSink(path=path, mode="append"), "jsonl", BEFORE),
    "lines_appended_to_a_torn_one": Kind(lambda path: JsonSink(path=path, mode="append"), "jsonl", b'{"torn":'),
    "array": Kind(lambda path: JsonSink(path=path), "json"),
    "array_indented": Kind(lambda path: JsonSink(path=path, indent=2, encoding="utf-16"), "json"),
    "csv": Kind(lambda path: CsvSink(path=path), "csv"),
    "csv_appended": Kind(lambda path: CsvSink(path=path, mode="append"), "csv", b"n,was\r\n7,8\r\n"),
    "csv_marked": Kind(lambda path: CsvSink(path=path, encoding="utf-8-sig"), "csv"),
}


def rows_of(row: Row) -> list[dict[str, Any]]:
    """Two of each; one of them has a field that csv has no column for."""
    more = {"more": 1} if row["n"] == 1 else {}
    return [{"n": row["n"], "was": 1}, {"n": row["n"], "was": row["n"], **more}]


SKETCH = Sketch("rows").step("parts", "rows", "c", expands=True).effect("tell", "c", "out")
SKETCH.sink("out", on_write_failure="bad")
PIPELINES: Mapping[str, Making] = {
    "some": making(SKETCH.sink("bad").text(), numbered(3), {"parts": rows_of}),
    "none": making(SKETCH.sink("bad").text(), [], {"parts": rows_of}),
}


class Disk:
    """One directory a run."""

    def __init__(self, directory: Path, kind: Kind, making: Making) -> None:
        directory.mkdir()
        self._kind = kind
        self._making = making
        self.paths = {"out": directory / f"out.{kind.ending}", "bad": directory / "bad.jsonl"}
        if kind.before is not None:
            self.paths["out"].write_bytes(kind.before)

    def trial(self, store: MortalStore) -> Trial:
        """The trial, whose sinks are the product's."""
        made = self._making(store)
        made.bound = replace(made.bound, sinks={"out": self._kind.make(str(self.paths["out"])),
                                                "bad": JsonSink(path=str(self.paths["bad"]))})
        return made

    def died_at(self, *places: Cut) -> Trial:
        """One process after another dies there; the next one lives. Each opens the files anew."""
        store = MortalStore()
        made = self.trial(store)
        for cut in places:
            store.revive(cut.at, stored=cut.stored)
            try:
                made.start() if store.head(made.run) is None else made.resume()
            except Killed:
                made = replace(made, bound=self.trial(store).bound)
                continue
            raise AssertionError(f"no death at {cut}")
        store.revive()
        return made

    def bytes(self) -> list[bytes]:
        """What is in the files."""
        return [path.read_bytes() for path in self.paths.values()]


@pytest.mark.parametrize("rows", PIPELINES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_the_same_to_the_byte_for_a_cut_after_every_append(kind: str, rows: str, tmp_path: Path) -> None:
    """W2, law P3, law R4: header once, one array, nothing before the run touched in append mode; for two cuts as well."""
    whole = Disk(tmp_path / "whole", KINDS[kind], PIPELINES[rows])
    made = whole.died_at()
    ran = carried_on(made)
    assert ran.verdict.sealed
    assert isinstance(made.store, MortalStore)
    places = list(cuts(len(made.store.appends)))
    pairs = [(one, Cut(other.at + 2, other.stored)) for one, other in pairwise(places[:-4])]
    for number, some in enumerate([*((one,) for one in places), *pairs]):
        disk = Disk(tmp_path / str(number), KINDS[kind], PIPELINES[rows])
        cut = disk.died_at(*some)
        again = carried_on(cut)
        assert disk.bytes() == whole.bytes(), some
        assert again.verdict.sealed
        found = artifacts(cut.store, cut.run,
                          lambda path, offset, size: Path(path).read_bytes()[offset:][:size])
        assert [str(one) for one in found] == []


def test_what_stands_behind_the_last_confirmed_write_is_cut_off(tmp_path: Path) -> None:
    """W2, law R4: half of a write that nobody confirmed, as a kill in its midst leaves it; any other bytes as well."""
    whole = Disk(tmp_path / "whole", KINDS["csv"], PIPELINES["some"])
    carried_on(whole.died_at())
    for torn in (b"2,", b"\x00" * 5000, whole.paths["out"].read_bytes()):
        disk = Disk(tmp_path / f"torn{len(torn)}", KINDS["csv"], PIPELINES["some"])
        made = disk.died_at(Cut(6, True))
        with disk.paths["out"].open("ab") as file:
            file.write(torn)
        carried_on(made)
        assert disk.bytes() == whole.bytes()


def test_a_file_that_was_changed_since_is_not_written_to(tmp_path: Path) -> None:
    """law R4: confirmed bytes that are others now, or gone: SINK_FAILED, and the run stays resumable once they are back."""
    disk = Disk(tmp_path / "changed", KINDS["lines"], LONG)
    made = disk.died_at(Cut(4, True))
    path = disk.paths["out"]
    assert len(made.left().of(e.SinkWriteConfirmed)) == 1
    kept = path.read_bytes()
    for changed in (kept.replace(b"1", b"7", 1), kept[:100], b""):
        path.write_bytes(changed)
        ran = made.again()
        assert ran.fault is not None
        assert ran.fault.code == "SINK_FAILED"
        assert path.read_bytes() == changed
    path.write_bytes(kept)
    assert made.again().verdict.sealed
    assert len(path.read_bytes().splitlines()) == 500


LONG = making(Sketch("rows").step("one", "rows", "out").sink("out", on_write_failure="bad").sink("bad").text(),
              numbered(500), takes_ms=0)
