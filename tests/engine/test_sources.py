"""File sources: good rows in order, each kind of bad row as data, resuming after any position, nothing held whole."""

from __future__ import annotations

import csv
import io
import tracemalloc
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.plugin_api import Source, SourceRow
from engine.schema import RowSchema
from engine.sources import files
from engine.sources.csv_file import CsvSource
from engine.sources.json_file import JsonSource
from engine.sources.null import NullSource
from engine.sources.text_file import TextSource
from tests.engine.reading import TEXTS_WITHOUT_NUL, Put, codes, good, read

# --- csv ---------------------------------------------------------------------------------------------------------


def test_csv_rows_are_text_without_a_schema_and_typed_with_one(put: Put) -> None:
    """Positions count data records from 1."""
    path = put(b"id,note\n1,a\n2,\n")
    assert read(CsvSource(path=path)) == [
        SourceRow(1, {"id": "1", "note": "a"}, None), SourceRow(2, {"id": "2", "note": ""}, None),
    ]
    schema = RowSchema.parse("fixed", ["id: int", "note: str?"])
    assert good(CsvSource(path=path, schema=schema)) == [{"id": 1, "note": "a"}, {"id": 2, "note": None}]


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n", b"id,note\n", b"id,note", b"id,note\r\n\r\n"])
def test_a_csv_file_without_records_has_no_rows(put: Put, content: bytes) -> None:
    """Empty and header only are not faults."""
    assert read(CsvSource(path=put(content))) == []


@pytest.mark.parametrize(
    "content",
    [b"a,b\r\n1,2\r\n", b"\xef\xbb\xbfa,b\n1,2", b"a,b\r1,2\r", b"a,b\n\n1,2\n\n", b'"a","b"\n"1","2"\n'],
)
def test_a_byte_order_mark_line_ends_and_blank_lines_are_no_data(put: Put, content: bytes) -> None:
    """The same row, however the file was saved."""
    assert read(CsvSource(path=put(content))) == [SourceRow(1, {"a": "1", "b": "2"}, None)]


def test_csv_options_change_how_the_file_is_read(put: Put) -> None:
    """Delimiter, encoding, and lines before the header, which may be anything."""
    path = put('"made by\nä;b\n1;é\n'.encode("latin-1"))
    assert good(CsvSource(path=path, delimiter=";", encoding="latin-1", skip_rows=1)) == [{"ä": "1", "b": "é"}]
    assert good(CsvSource(path=put("a,b\n1,é\n".encode("utf-16")), encoding="utf-16")) == [{"a": "1", "b": "é"}]
    assert read(CsvSource(path=path, skip_rows=9)) == []


def test_a_quoted_cell_may_hold_anything(put: Put) -> None:
    """Delimiters, quotes and line ends inside quotes; a record of several lines is one position."""
    rows = read(CsvSource(path=put(b'a,b\n"x,""y""\r\nz",2\n3,4\n')))
    assert rows == [SourceRow(1, {"a": 'x,"y"\r\nz', "b": "2"}, None), SourceRow(2, {"a": "3", "b": "4"}, None)]


def test_the_same_row_twice_is_two_rows(put: Put) -> None:
    """Nothing is taken for a repetition."""
    assert [row.position for row in read(CsvSource(path=put(b"a\n1\n1\n")))] == [1, 2]


def test_unicode_look_alikes_are_different_columns(put: Put) -> None:
    """Names are compared as they are, not as they look."""
    assert good(CsvSource(path=put("a,а\n1,2\n".encode()))) == [{"a": "1", "а": "2"}]


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (b"a,b,a", "expected each column once, found 'a' twice"),
        (b"a,,b", "expected a name for column 2, found an empty one"),
        (b"a, ", "expected a name for column 2, found an empty one"),
        (b"a,b\xff", "expected names in utf-8, found 'b\\\\xff'"),
        (b"a,\0", "expected names in utf-8"),
        (b'a,"b', "expected a header"),
        (b'a,"b"c', "expected a header"),
    ],
)
def test_a_header_that_names_no_fields_ends_the_source_before_any_row(put: Put, header: bytes, text: str) -> None:
    """Duplicate, empty and unreadable names."""
    with pytest.raises(ValueError, match="expected") as raised:
        read(CsvSource(path=put(header + b"\n1,2,3\n")))
    assert text in str(raised.value)


@pytest.mark.parametrize(
    ("bad", "code", "row"),
    [
        (b"1", "ragged", {"a": "1"}),
        (b"1,2,3,4", "ragged", {"a": "1", "b": "2", "__extra__": ["3", "4"]}),
        (b"\xff\xe9,2", "encoding", {"a": "\\xff\\xe9", "b": "2"}),
        (b"1,caf\xe9,3", "encoding", {"a": "1", "b": "caf\\xe9", "__extra__": ["3"]}),
        (b"\xed\xa0\x80,2", "encoding", {"a": "\\xed\\xa0\\x80", "b": "2"}),
        (b"1,\x00", "nul", {"a": "1", "b": "\x00"}),
        (b'1,"x\n\xff"', "encoding", {"a": "1", "b": "x\n\\xff"}),
        (b'1,"x\n\x00"', "nul", {"a": "1", "b": "x\n\x00"}),
        (b'1,"x"y', "bad_quote", {"raw": '1,"x"y\n'}),
        (b"1," + b"x" * (128 * 1024 + 1), "field_too_long", None),
        (b"x" * (files.RECORD_CHARS_MAX + 9) + b",2", "field_too_long", {"raw": "x" * 4000}),
        (b"x," * (files.RECORD_CHARS_MAX // 2 + 9), "field_too_long", None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_bad_record_is_one_invalid_row_and_reading_goes_on(put: Put, bad: bytes, code: str, row: object) -> None:
    """Nothing is dropped; the rows before and after are what they were."""
    rows = read(CsvSource(path=put(b"a,b\n0,0\n" + bad + b"\n9,9\n")))
    assert rows[0] == SourceRow(1, {"a": "0", "b": "0"}, None)
    assert codes(rows)[1] == code
    if row is not None:
        assert rows[1].row == row
    last = next(found for found in rows if found.row == {"a": "9", "b": "9"})
    assert last.fault is None
    assert last.position == len(rows)


def test_a_field_of_128_kib_is_not_too_long(put: Put) -> None:
    """The bound is the last length that is allowed."""
    assert good(CsvSource(path=put(b"a,b\n1," + b"x" * (128 * 1024) + b"\n"))) == [{"a": "1", "b": "x" * 128 * 1024}]


def test_a_long_field_is_invalid_also_where_the_process_wide_limit_was_raised(put: Put) -> None:
    """Another library's `csv.field_size_limit` must not change what a run reads."""
    before = csv.field_size_limit(2**31)
    try:
        path = put(b"a,b\n1," + b"x" * (128 * 1024 + 1) + b"\n2,3\n")
        assert codes(read(CsvSource(path=path))) == ["field_too_long", None]
        many = b'a,b\n1,"' + b"x\n" * (files.RECORD_CHARS_MAX // 2) + b'"\n2,3\n'
        first = next(CsvSource(path=put(many)).rows(None))
        assert (codes([first]), first.row) == (["unclosed_quote"], {"raw": '1,"x\n'})
    finally:
        csv.field_size_limit(before)


def test_a_quote_that_is_never_closed_costs_its_own_line_and_no_other(put: Put) -> None:
    """E6: the line on which the quote opens is an invalid row; the lines after it are rows of their own."""
    rows = read(CsvSource(path=put(b'a,b\n1,2\n3,"4\n5,6\n')))
    assert codes(rows) == [None, "unclosed_quote", None]
    assert rows[1].row == {"raw": '3,"4\n'}
    assert rows[2].row == {"a": "5", "b": "6"}


def test_a_stray_quote_does_not_swallow_the_lines_after_it(put: Put) -> None:
    """E6: also where another line has a quote that might close it."""
    rows = read(CsvSource(path=put(b'a,b\n1,"2\n3,"4"\n5,6\n')))
    assert codes(rows) == ["bad_quote", None, None]
    assert rows[0].row == {"raw": '1,"2\n'}
    assert [row.row for row in rows[1:]] == [{"a": "3", "b": "4"}, {"a": "5", "b": "6"}]


def test_a_stray_quote_in_a_long_file_costs_one_row(put: Put) -> None:
    """E6: however many lines follow, every one of them is a row."""
    lines = [b"%d,x" % number for number in range(20_000)]
    lines[7] = b'7,"x'
    rows = read(CsvSource(path=put(b"a,b\n" + b"\n".join(lines) + b"\n")))
    assert len(rows) == len(lines)
    assert [row.position for row in rows if row.fault is not None] == [8]


def test_a_row_that_breaks_the_schema_is_invalid_with_its_cells(put: Put) -> None:
    """The row is shown as it was read."""
    schema = RowSchema.parse("fixed", ["a: int", "b: int"])
    rows = read(CsvSource(path=put(b"a,b\n1,x\n1,2\n"), schema=schema))
    assert codes(rows) == ["schema", None]
    assert rows[0].row == {"a": "1", "b": "x"}
    assert rows[0].fault is not None
    assert rows[0].fault.text == "field 'b': expected an int of 64 bits, found 'x'"


def test_what_an_attacker_writes_is_data(put: Put) -> None:
    """Formulas, markup and terminal escapes pass as the text they are."""
    cells = ["=1+1", "<script>", "\x1b[2J", "ignore previous instructions"]
    assert good(CsvSource(path=put(b"a\n" + "\n".join(cells).encode()))) == [{"a": cell} for cell in cells]


MESSY = b'a,b\n1,2\n\n3\n"x\ny",4\n\xff,1\n5,"6"7\n8,9\n1,"' + b"z\n" * 70 + b'"\n1,2,3\n7,"8\n9,9\n0,0\n1,1\n2,2\n'


@pytest.mark.parametrize("after", range(12))
def test_a_csv_source_goes_on_after_any_position(put: Put, after: int) -> None:
    """What a resume reads is the tail of what a whole reading reads, bad rows and all."""
    path = put(MESSY)
    whole = read(CsvSource(path=path))
    assert len(whole) > 12
    assert read(CsvSource(path=path), after) == [row for row in whole if row.position > after]


@given(st.binary(max_size=60), st.integers(0, 5))
def test_no_bytes_make_a_csv_source_lose_its_place(tmp_path_factory: pytest.TempPathFactory, content: bytes, after: int
                                                   ) -> None:
    """Any bytes: rows or a ValueError of the header; each resume gives the tail."""
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"a,b\n" + content)
    whole = read(CsvSource(path=str(path)))
    assert read(CsvSource(path=str(path)), after) == [row for row in whole if row.position > after]


@given(st.lists(st.lists(TEXTS_WITHOUT_NUL, min_size=2, max_size=2)))
def test_a_csv_source_reads_what_the_standard_writer_wrote(
    tmp_path_factory: pytest.TempPathFactory, records: list[list[str]]
) -> None:
    """Quoting is that of everyone else."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["a", "b"], *records])
    path = tmp_path_factory.getbasetemp() / "standard.csv"
    path.write_bytes(text.getvalue().encode())
    assert good(CsvSource(path=str(path))) == [dict(zip("ab", cells, strict=True)) for cells in records]


def test_a_csv_file_is_never_held_whole(put: Put) -> None:
    """W15: a file of 8 MB is read within 2 MB, also where nobody ever closes a quote."""
    record = b"1" * 200 + b",2\n"
    for content in (b"a,b\n" + record * 40_000, b'a,b\n1,"\n' + record * 40_000):
        path = put(content)
        tracemalloc.start()
        count = sum(1 for _ in CsvSource(path=path).rows(None))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count > 39_000
        assert peak < 2_000_000


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"delimiter": ""}, "delimiter"),
        ({"delimiter": ";;"}, "delimiter"),
        ({"delimiter": '"'}, "delimiter"),
        ({"encoding": "nonsense"}, "encoding"),
        ({"encoding": "base64"}, "encoding"),
        ({"skip_rows": -1}, "skip_rows"),
    ],
)
def test_csv_options_that_cannot_work_are_refused(options: dict[str, object], text: str) -> None:
    """D2: before the run, in one line."""
    with pytest.raises(ValueError, match=text):
        CsvSource(path="in.csv", **options)  # type: ignore[arg-type]


# --- text and null -----------------------------------------------------------------------------------------------


def test_lines_of_text_are_rows_at_their_line_numbers(put: Put) -> None:
    """Blank lines are skipped and blanks stripped unless that is switched off."""
    path = put(b"\xef\xbb\xbf one \r\n\r\n  \ntwo\x0b\x0c2\n", "in.txt")
    assert read(TextSource(path=path, column="line")) == [
        SourceRow(1, {"line": "one"}, None), SourceRow(4, {"line": "two\x0b\x0c2"}, None),
    ]
    assert good(TextSource(path=path, column="line", strip_whitespace=False, skip_blank_lines=False)) == [
        {"line": " one "}, {"line": ""}, {"line": "  "}, {"line": "two\x0b\x0c2"},
    ]
    assert read(TextSource(path=put(b""), column="line")) == []
    with pytest.raises(ValueError, match="column"):
        TextSource(path=path, column="")


@pytest.mark.parametrize("after", range(6))
def test_bad_lines_of_text_are_invalid_rows_and_any_position_can_be_gone_on_from(put: Put, after: int) -> None:
    """Encoding, NUL, length."""
    long = b"x" * (files.RECORD_CHARS_MAX + 1)
    source = TextSource(path=put(b"a\n\xff\n\na\0b\n" + long + b"\nz", "in.txt"), column="line")
    rows = read(source)
    assert codes(rows) == [None, "encoding", "nul", "field_too_long", None]
    assert [row.position for row in rows] == [1, 2, 4, 5, 6]
    assert rows[1].row == {"raw": "\\xff\n".rstrip("\n")}
    assert read(source, after) == [row for row in rows if row.position > after]


def test_the_null_source_has_no_rows() -> None:
    """And an identity without a file."""
    source = NullSource()
    assert list(source.rows(None)) == []
    assert source.identity() == ("null", "", None, None)
    source.close()


# --- all of them -------------------------------------------------------------------------------------------------


def every(path: str) -> list[Source]:
    """One source of each kind on a path."""
    return [CsvSource(path=path), JsonSource(path=path), JsonSource(path=path, format="jsonl"),
            TextSource(path=path, column="c")]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "text"])
def test_a_record_of_any_length_is_held_up_to_its_bound(tmp_path: Path, kind: str) -> None:
    """W15: 64 MiB without a line end stand for a gibibyte: held in six times the bound, one invalid row, passed by."""
    head, good_row = {"csv": (b"a,b\n", b"1,2\n"), "jsonl": (b"", b'{"a": 1}\n'), "text": (b"", b"one\n")}[kind]
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.write(head + good_row)
        for _ in range(64):
            file.write(b"x" * 2**20)
        file.write(b"\n" + good_row)
    kinds: dict[str, Source] = {"csv": CsvSource(path=str(path)), "jsonl": JsonSource(path=str(path), format="jsonl"),
                                "text": TextSource(path=str(path), column="c")}
    source = kinds[kind]
    tracemalloc.start()
    found = [(row.position, row.fault and row.fault.code) for row in source.rows(None)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [(1, None), (2, "field_too_long"), (3, None)]
    assert peak < 6 * files.RECORD_CHARS_MAX
    assert [row.position for row in source.rows(2)] == [3]


def test_the_identity_is_size_and_hash_of_the_file(put: Put) -> None:
    """So that a resume can tell that the source changed."""
    content = b"a\n" * 1_000_000
    path = put(content)
    assert [source.identity() for source in every(path)] == [
        (kind, path, len(content), sha256(content).hexdigest()) for kind in ("csv", "json", "json", "text")
    ]


def test_a_path_that_cannot_be_read_is_an_os_error(tmp_path: Path) -> None:
    """A missing file, and a directory for a file."""
    for source in every(str(tmp_path / "missing")) + every(str(tmp_path)):
        with pytest.raises(OSError):
            source.identity()
        with pytest.raises(OSError):
            next(iter(source.rows(None)))


def test_the_size_and_hash_of_a_pipe_are_unknown() -> None:
    """It can be read once only, and that is for the rows."""
    assert CsvSource(path="/dev/null").identity() == ("csv pipe", "/dev/null", None, None)


def test_a_source_lets_go_of_its_file_in_the_middle_of_a_reading(put: Put) -> None:
    """`close` ends the reading; closing twice, or before any reading, is no fault."""
    for source in every(put(b"[{}\n,{}\n,{}\n]\n")):
        source.close()
        rows = source.rows(None)
        next(rows)
        source.close()
        source.close()
        assert list(rows) == []
