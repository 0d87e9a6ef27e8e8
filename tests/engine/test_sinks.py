"""CSV and JSON sinks: the text that they write, and the rows that they refuse."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.plugin_api import Claim, Refusal, Sink
from engine.rows import freeze
from engine.schema import RowSchema
from engine.sinks.csv_file import CsvSink
from engine.sinks.json_file import JsonSink
from engine.sources.csv_file import CsvSource
from tests.engine.reading import TEXTS_WITHOUT_NUL
from tests.engine.writing import Make, Rows, put, refusals, whole

FIXED = RowSchema.parse("fixed", ["id: int", "note: str?"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is not there yet, in directories that are not either."""
    return tmp_path / "made" / "for" / "out"


# --- csv ---------------------------------------------------------------------------------------------------------


def test_a_csv_sink_writes_one_header_and_then_records(path: Path) -> None:
    """Writes that were prepared together are one file; the header is the first row's fields."""
    whole(CsvSink(path=str(path)), [{"a": 1, "b": "x"}], [{"a": 2, "b": "y"}], [{"b": "z", "a": 3}])
    assert path.read_bytes() == b"a,b\n1,x\n2,y\n3,z\n"


def test_csv_cells_are_written_so_that_they_can_be_read_back(path: Path) -> None:
    """None is empty, booleans are words, what is nested is JSON; delimiters, quotes and line ends are quoted."""
    row: dict[str, object] = {"n": None, "t": True, "f": False, "x": -0.0, "l": [1, {"a": None}], "o": {},
                              "s": 'a,"b"', "r": "1\r2", "e": ""}
    whole(CsvSink(path=str(path)), [row])
    assert path.read_bytes() == (
        b'n,t,f,x,l,o,s,r,e\n,true,false,-0.0,"[1,{""a"":null}]",{},"a,""b""","1\r2",\n'
    )


def test_a_csv_sink_refuses_rows_with_other_fields(path: Path) -> None:
    """A value without a column would be lost, a column without a value was never said to be optional."""
    sink = CsvSink(path=str(path))
    sink.open(Claim())
    assert refusals(sink, [{}, {"a": 1, "b": 2}, {"a": 1}, {"a": 1, "b": 2, "c": 3}, {"b": 1, "a": 2}]) == [
        (0, "columns"), (2, "columns"), (3, "columns"),
    ]
    assert sink.prepare([{"c": 1}]).refused == (
        Refusal(0, "columns", "field 'c': expected only the columns of the file, found one more"),
    )
    sink.close(False)


def test_a_csv_sink_with_a_schema_writes_its_columns_and_refuses_what_breaks_it(path: Path) -> None:
    """Missing optional fields are empty cells; the header does not wait for the first row."""
    sink = CsvSink(path=str(path), schema=FIXED)
    sink.open(Claim())
    bad: Rows = [{"id": "1"}, {"note": "x"}, {"id": 1, "more": 2}]
    assert refusals(sink, bad) == [(0, "schema"), (1, "schema"), (2, "schema")]
    put(sink, [{"id": "x"}], [{"id": 1}, {"note": "n", "id": 2}])
    sink.close(True)
    assert path.read_bytes() == b"id,note\n1,\n2,n\n"


def test_the_columns_of_a_flexible_schema_are_its_fields_and_the_first_rows_others(path: Path) -> None:
    """Declared ones first, also where the first row leaves an optional one out."""
    schema = RowSchema.parse("flexible", ["id: int", "note: str?"])
    whole(CsvSink(path=str(path), schema=schema), [{"z": 1, "id": 2}, {"id": 3, "note": "n", "z": 4}])
    assert path.read_bytes() == b"id,note,z\n2,,1\n3,n,4\n"


def test_only_a_taken_row_decides_the_columns(path: Path) -> None:
    """A row that is refused leaves no header behind."""
    sink = CsvSink(path=str(path), encoding="latin-1")
    whole(sink, [{"€": "x"}, {"b": "€"}], [{"c": "é"}])
    assert path.read_bytes() == b"c\n\xe9\n"


def test_a_csv_sink_without_rows_writes_the_header_that_it_knows(path: Path) -> None:
    """Or nothing, where nobody said what the columns are."""
    whole(CsvSink(path=str(path), schema=FIXED))
    assert path.read_bytes() == b"id,note\n"
    whole(CsvSink(path=str(path), schema=FIXED), [{"id": "refused"}])
    assert path.read_bytes() == b"id,note\n"
    whole(CsvSink(path=str(path)))
    assert path.read_bytes() == b""


def test_a_csv_sink_appends_to_the_columns_that_are_there(path: Path) -> None:
    """The header is not repeated; an unfinished last line is ended first; the order is the file's."""
    path.parent.mkdir(parents=True)
    path.write_bytes(b'"a",b\r\n1,2')
    whole(CsvSink(path=str(path), mode="append"), [{"b": 4, "a": 3}, {"c": 1}], [{"a": 5, "b": 6}])
    assert path.read_bytes() == b'"a",b\r\n1,2\n3,4\n5,6\n'


@pytest.mark.parametrize("content", [b"\n", b"a,a\n", b'"a"b\n', b'"a\n'])
def test_a_csv_sink_does_not_append_to_what_has_no_header(path: Path, content: bytes) -> None:
    """The file is left as it was, and let go of."""
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(OSError, match="begins with a header"):
            CsvSink(path=str(path), mode="append").open(Claim())
    assert path.read_bytes() == content


@given(st.lists(TEXTS_WITHOUT_NUL.map(lambda name: f"c{name}"), min_size=1, max_size=4, unique=True), st.data(),
       st.sampled_from((",", ";", "\t")), st.sampled_from(("utf-8", "utf-8-sig", "utf-16")))
def test_a_csv_source_reads_what_a_csv_sink_wrote(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject, delimiter: str, encoding: str
) -> None:
    """law R4: whatever the texts hold, a file of confirmed writes re-read is those rows."""
    target = str(tmp_path_factory.getbasetemp() / "round.csv")
    records = st.lists(st.lists(TEXTS_WITHOUT_NUL, min_size=len(names), max_size=len(names)), max_size=4)
    rows = [dict(zip(names, cells, strict=True)) for cells in data.draw(records)]
    cut = data.draw(st.integers(0, len(rows)))
    whole(CsvSink(path=target, delimiter=delimiter, encoding=encoding), rows[:cut], rows[cut:])
    again = list(CsvSource(path=target, delimiter=delimiter, encoding=encoding).rows(None))
    assert [(row.row, row.fault) for row in again] == [(row, None) for row in rows]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"delimiter": "::"}, "delimiter"),
        ({"encoding": "nonsense"}, "encoding"),
        ({"encoding": "ascii", "schema": RowSchema.parse("fixed", ["é: int"])}, "U\\+00E9"),
    ],
)
def test_csv_sink_options_that_cannot_work_are_refused(options: dict[str, object], text: str) -> None:
    """D2: before the run, in one line."""
    with pytest.raises(ValueError, match=text):
        CsvSink(path="out.csv", **options)  # type: ignore[arg-type]


# --- json --------------------------------------------------------------------------------------------------------


def test_json_lines_are_one_row_each(path: Path) -> None:
    """Nothing is repeated, nothing ends the file."""
    whole(JsonSink(path=f"{path}.jsonl"), [{"a": 1, "b": [{"c": None}]}], [{"b": "é\n", "a": -0.0}])
    assert Path(f"{path}.jsonl").read_text(encoding="utf-8") == '{"a":1,"b":[{"c":null}]}\n{"b":"é\\n","a":-0.0}\n'


def test_a_json_array_is_json_once_it_is_closed(path: Path) -> None:
    """Over several writes, of which some hold no row."""
    whole(JsonSink(path=str(path), schema=FIXED), [{"id": "x"}], [{"id": 1}, {"id": 2}], [], [{"id": 3}])
    assert path.read_bytes() == b'[\n{"id":1},\n{"id":2},\n{"id":3}\n]\n'


def test_an_indented_array_is_what_everyone_else_writes(path: Path) -> None:
    """`indent` is that of the standard library's `json.dumps`."""
    rows: list[dict[str, object]] = [{"a": [1, {"b": "x\ny"}], "c": {}}, {"d": None}]
    whole(JsonSink(path=str(path), indent=2), *[[row] for row in rows])
    assert path.read_text(encoding="utf-8") == json.dumps(rows, indent=2) + "\n"


def test_a_json_sink_without_rows_is_an_empty_list(path: Path) -> None:
    """And a file of lines is empty."""
    whole(JsonSink(path=str(path)))
    assert path.read_bytes() == b"[]\n"
    whole(JsonSink(path=str(path), format="jsonl"))
    assert path.read_bytes() == b""


def test_an_array_that_is_not_finished_stays_open(path: Path) -> None:
    """An interrupted run is not made to look complete."""
    sink = JsonSink(path=str(path))
    sink.open(Claim())
    put(sink, [{"a": 1}])
    sink.close(False)
    assert path.read_bytes() == b'[\n{"a":1}'


def test_json_lines_are_appended_on_a_line_of_their_own(path: Path) -> None:
    """Also where the file ends in the middle of one."""
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"a":0}')
    sink = JsonSink(path=str(path), format="jsonl", mode="append")
    whole(sink, [{"a": 1}], [{"a": 2}])
    whole(sink, [{"a": 3}])
    assert path.read_bytes() == b'{"a":0}\n{"a":1}\n{"a":2}\n{"a":3}\n'


@pytest.mark.parametrize("make", [lambda p: JsonSink(path=p, encoding="latin-1", format="jsonl"),
                                  lambda p: CsvSink(path=p, encoding="latin-1")])
def test_a_row_that_the_encoding_does_not_hold_is_refused(path: Path, make: Make) -> None:
    """Its neighbours are written."""
    sink = make(str(path))
    sink.open(Claim())
    prepared = sink.prepare([{"a": "é"}, {"a": "€"}, {"a": "e"}])
    assert prepared.refused == (Refusal(1, "encoding", "expected characters that latin-1 has, found U+20AC"),)
    assert prepared.ordinals == (0, 2)
    assert b"\xe9" in prepared.content
    sink.close(False)


def test_a_byte_order_mark_stands_only_where_the_file_begins(path: Path) -> None:
    """Also over several writes and after a resume."""
    sink = JsonSink(path=str(path), format="jsonl", encoding="utf-16")
    sink.open(Claim())
    written = put(sink, [{"a": 1}], [{"a": 2}])
    sink.close(False)
    sink.open(Claim(begun=True, offset=written[0].size_bytes))
    put(sink, [{"a": 3}])
    sink.close(True)
    assert path.read_bytes() == '{"a":1}\n{"a":3}\n'.encode("utf-16")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"path": "out.jsonl", "indent": 2}, "indent"),
        ({"path": "out.json", "indent": -1}, "indent"),
        ({"path": "out.json", "mode": "append"}, "jsonl for mode append"),
        ({"path": "out.json", "encoding": "hex"}, "encoding"),
    ],
)
def test_json_sink_options_that_cannot_work_are_refused(options: dict[str, object], text: str) -> None:
    """D2: before the run, in one line."""
    with pytest.raises(ValueError, match=text):
        JsonSink(**options)  # type: ignore[arg-type]


CELLS = st.none() | st.integers(0, 9) | st.sampled_from(("é", "€"))


@given(st.lists(st.lists(st.dictionaries(st.sampled_from("abé€"), CELLS), max_size=3), max_size=4),
       st.sampled_from(("utf-8", "latin-1", "utf-16")))
def test_every_row_is_written_once_or_refused_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, writes: list[list[dict[str, object]]], encoding: str
) -> None:
    """No row vanishes between `prepare` and the file."""
    target = tmp_path_factory.getbasetemp() / "counted"
    sinks: tuple[Sink, ...] = (CsvSink(path=f"{target}.csv", encoding=encoding),
                               JsonSink(path=f"{target}.jsonl", encoding=encoding))
    taken = [0, 0]
    for number, sink in enumerate(sinks):
        sink.open(Claim())
        for rows in writes:
            prepared = sink.prepare([freeze(row) for row in rows])
            assert len(prepared.ordinals) + len(prepared.refused) == len(rows)
            taken[number] += len(prepared.ordinals)
            sink.write(prepared, "key")
        sink.close(True)
    with open(f"{target}.csv", encoding=encoding, newline="") as found:
        assert len([cells for cells in csv.reader(found) if cells]) == taken[0] + (taken[0] > 0)
    assert Path(f"{target}.jsonl").read_text(encoding=encoding).count("\n") == taken[1]
