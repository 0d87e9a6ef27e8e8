"""Every bad row of a real file: counted, kept, quarantined with a reason, and the run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.doors.told import ask, done, lines, tell, write

PIPELINE = """\
source:
  plugin: {plugin}
  on_success: good
  options:
    path: {path}
    on_validation_failure: {invalid}
    {more}
sinks:
  good: {{plugin: json, options: {{path: good.jsonl}}}}
"""
QUARANTINE = "  bad: {plugin: json, options: {path: bad.jsonl}}\n"
SCHEMA = 'schema: {mode: fixed, fields: ["id: int", "text: str"]}'
LONG = "x" * (128 * 1024 + 1)
NESTED = "[" * 40 + "]" * 40
DEEP = "[" * 5000 + "]" * 5000


def pipeline(plugin: str, path: str, invalid: str = "bad", more: str = "") -> str:
    """From a source into a sink, with a sink for the invalid rows unless they are discarded."""
    return PIPELINE.format(plugin=plugin, path=path, invalid=invalid, more=more) + (QUARANTINE if invalid == "bad" else "")


def run(content: bytes, name: str = "in.csv", invalid: str = "bad", more: str = SCHEMA) -> dict[str, Any]:
    """The answer of a run of that file: exit 0, lawful in every way."""
    plugin = "json" if name.endswith(("json", "jsonl")) else name.rpartition(".")[2]
    plugin = {"txt": "text"}.get(plugin, plugin)
    write({name: content, "pipeline.yaml": pipeline(plugin, name, invalid, more)})
    receipt: dict[str, Any] = ask("run", "pipeline.yaml", "--run-id", "rows")
    verified = ask("verify", "rows", "--expect", f"{receipt['size']}:{receipt['root']}")
    assert verified["ok"] is True
    assert ask("replay", "rows", "--deep")["ok"] is True
    done("rebuild", "--verify")
    return receipt


def ends() -> list[tuple[str, str | None]]:
    """(outcome, code of its reason) of each source row, in their order."""
    rows = ask("query", "SELECT o.outcome, o.reason FROM rows r JOIN token_outcomes o ON o.run_id = r.run_id AND "
               "o.token_id = r.token_id WHERE r.run_id = 'rows' ORDER BY r.row_index")["rows"]
    return [(row["outcome"], row["reason"] and row["reason"].partition(":")[0]) for row in rows]


GOOD = ("completed", None)

CSV = [
    ("ragged: too few and too many", b"id,text\n1,a\n2\n3,c,d\n4,d\n", [GOOD, "ragged", "ragged", GOOD]),
    ("an unclosed quote takes its line", b'id,text\n1,a\n2,"b\n3,c\n4,d\n', [GOOD, "unclosed_quote", GOOD, GOOD]),
    ("text after a closing quote", b'id,text\n1,a\n2,"b"x\n3,c\n', [GOOD, "bad_quote", GOOD]),
    ("a NUL byte", b"id,text\n1,a\n2,b\x00c\n3,c\n", [GOOD, "nul", GOOD]),
    ("a field over 128 KiB", f"id,text\n1,a\n2,{LONG}\n3,c\n".encode(), [GOOD, "field_too_long", GOOD]),
    ("another encoding in the middle", b"id,text\n1,a\n2,caf\xe9\n3,\xc3\xa9\n", [GOOD, "encoding", GOOD]),
    ("no number", b"id,text\n1,a\nx,b\n,c\n1.5,d\n 7,e\n", [GOOD, "schema", "schema", "schema", "schema"]),
    ("an int beyond 64 bits", b"id,text\n9223372036854775807,a\n9223372036854775808,b\n-9223372036854775808,c\n",
     [GOOD, "schema", GOOD]),
    ("an int of 5 000 digits", b"id,text\n" + b"9" * 5000 + b",a\n2,b\n", ["schema", GOOD]),
    ("digits of other scripts", "id,text\n\u0663,a\n\uff11,b\n3,c\n".encode(), ["schema", "schema", GOOD]),
    ("the same row twice", b"id,text\n1,a\n1,a\n", [GOOD, GOOD]),
    ("blank lines are no rows", b"id,text\n\n1,a\n\n\n2,b\n\n", [GOOD, GOOD]),
    ("a quoted line end", b'id,text\n1,"a\nb"\n2,c\n', [GOOD, GOOD]),
    ("CR LF and a byte order mark", b"\xef\xbb\xbfid,text\r\n1,a\r\n2,b\r\n", [GOOD, GOOD]),
    ("no line end at the end", b"id,text\n1,a\n2,b", [GOOD, GOOD]),
    ("header only", b"id,text\n", []),
    ("empty", b"", []),
    ("only blank lines", b"\n\n\n", []),
]

JSON = [
    ("NaN and infinity", b'{"id": 1, "v": NaN}\n{"id": 2, "v": Infinity}\n{"id": 3, "v": -Infinity}\n{"id": 4}\n', 3),
    ("a name twice", b'{"id": 1, "id": 2}\n{"id": 3}\n', 1),
    ("an int of 5 000 digits", b'{"id": ' + b"9" * 5000 + b'}\n{"id": 3}\n', 1),
    ("an int beyond 64 bits", b'{"id": 9223372036854775808}\n{"id": 9223372036854775807}\n', 1),
    ("a number beyond any float", b'{"id": 1e999}\n{"id": 3}\n', 1),
    ("40 levels and 5 000", f'{{"id": {NESTED}}}\n{{"id": {DEEP}}}\n{{"id": 3}}\n'.encode(), 2),
    ("lone surrogates", b'{"id": "\\ud800"}\n{"\\udc00": 1}\n{"id": "\\ud83d\\ude00"}\n', 2),
    ("no object", b'[1]\n"text"\n3\nnull\ntrue\n{"id": 1}\n', 5),
    ("no JSON", b'{"id": 1\n{id: 1}\n{"id": 1}}\n\xff\xfe\n{"id": 1}\n', 4),
    ("a NUL byte", b'{"id": "a\x00b"}\n{"id": 1}\n', 1),
    ("a wrong encoding", b'{"id": "caf\xe9"}\n{"id": 1}\n', 1),
    ("blank lines are no rows", b'\n{"id": 1}\n\n', 0),
    ("nothing", b"", 0),
]


@pytest.mark.parametrize(("content", "expected"), [case[1:] for case in CSV], ids=[case[0] for case in CSV])
def test_a_bad_row_of_csv_is_quarantined_and_the_others_go_on(content: bytes, expected: list[Any]) -> None:
    """E4, E5, law R5: every record is a row, each bad one with its code; nothing is lost."""
    found = [one if isinstance(one, tuple) else ("quarantined", one) for one in expected]
    receipt = run(content)
    assert ends() == found
    assert receipt["rows"] == len(found)
    assert len(lines("good.jsonl")) == found.count(GOOD)
    assert len(lines("bad.jsonl")) == len(found) - found.count(GOOD)


@pytest.mark.parametrize(("content", "bad"), [case[1:] for case in JSON], ids=[case[0] for case in JSON])
def test_a_bad_row_of_json_is_quarantined_and_the_others_go_on(content: bytes, bad: int) -> None:
    """E4, E5, law R5: line by line; what could not be read is kept as it stood."""
    receipt = run(content, "in.jsonl", more="")
    found = ends()
    assert receipt["rows"] == len([line for line in content.split(b"\n") if line.strip()]) == len(found)
    assert [outcome for outcome, _ in found].count("quarantined") == bad
    assert len(lines("bad.jsonl")) == bad
    assert all(code for outcome, code in found if outcome == "quarantined")


@pytest.mark.parametrize("invalid", ["bad", "discard"])
def test_each_source_row_has_one_first_state_and_a_divert_only_with_a_route(invalid: str) -> None:
    """E4, E5, E6, law T4: completed or failed with the error; quarantined by `__quarantine__`, or discarded."""
    run(b"id,text\n1,a\nx,b\n3,c\n", invalid=invalid)
    states = ask("query", "SELECT token_id, status, step_index, error FROM node_states WHERE node_id = 'source' ORDER BY "
                 "token_id")["rows"]
    assert [(row["token_id"], row["status"], row["step_index"]) for row in states] == [
        ("0", "completed", 0), ("1", "failed", 0), ("2", "completed", 0)]
    assert "field 'id'" in states[1]["error"]
    diverts = ask("query", "SELECT token_id, node_id, edge_id, reason FROM routing_events WHERE mode = 'divert'")["rows"]
    assert [(row["token_id"], row["node_id"], row["edge_id"]) for row in diverts] == (
        [("1", "source", "source:__quarantine__")] if invalid == "bad" else [])
    outcome = ask("explain", "rows", "1")["outcome"]
    assert (outcome["outcome"], outcome["sink_name"]) == ("quarantined", "bad" if invalid == "bad" else None)
    assert outcome["reason"] == states[1]["error"]
    assert ask("show", "rows")["rows_read"] == 3


def test_what_a_bad_row_held_can_be_read_again() -> None:
    """E6: cells beyond the header, bytes that are no text, the raw text of what could not be taken apart."""
    run(b'id,text\n1,a,b,c\n2,caf\xe9\n3,"x"y\n', invalid="discard")
    data = [ask("explain", "rows", "--row", str(n))["source_row"]["data"] for n in range(3)]
    assert data == [{"id": "1", "text": "a", "__extra__": ["b", "c"]}, {"id": "2", "text": "caf\\xe9"}, {"raw": '3,"x"y\n'}]


def test_values_that_look_alike_stay_apart() -> None:
    """Look-alikes, composed and decomposed letters, -0.0, 1 and 1.0 and true, empty and missing: all as they came."""
    rows: list[dict[str, object]] = [
        {"id": "A"}, {"id": "\u0391"}, {"id": "\u00e9"}, {"id": "e\u0301"}, {"id": -0.0}, {"id": 0}, {"id": 1}, {"id": 1.0},
        {"id": True}, {"id": ""}, {"id": None}, {}, {"ID": 1}, {"id ": 1}, {"id": 2**63 - 1}, {"id": 5e-324}]
    run("".join(json.dumps(row) + "\n" for row in rows).encode(), "in.jsonl", more="")
    assert Path("good.jsonl").read_text(encoding="utf-8").splitlines() == [
        json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows]


def test_a_json_document_that_holds_no_rows_is_the_sources_fault() -> None:
    """A file of one document cannot be read row by row: exit 4, the reason, and the run on record."""
    for content in (b'{"id": 1', b'{"id": 1}', b"[1, 2", b"\xff"):
        write({"in.json": content, "pipeline.yaml": pipeline("json", "in.json")})
        told = tell("run", "pipeline.yaml")
        assert told.code == 4, told
        assert told.error.startswith("SOURCE_FAILED: ")
    run(b'[{"id": 1}, 2, {"id": 3}]', "in.json", more="")
    assert [outcome for outcome, _ in ends()] == ["completed", "quarantined", "completed"]


@pytest.mark.parametrize(("content", "said"), [
    (b"id,id\n1,2\n", "'id' twice"), (b"id,\n1,2\n", "column 2"), (b'"id\n1,2\n', "cannot be read"),
    (b"id,te\x00xt\n", "names in utf-8"), (b"id,caf\xe9\n", "caf"),
])
def test_a_header_that_names_no_fields_is_the_sources_fault(content: bytes, said: str) -> None:
    """Duplicate, empty, unclosed, unreadable: exit 4 with the reason; the run is on record, interrupted, and lawful."""
    write({"in.csv": content, "pipeline.yaml": pipeline("csv", "in.csv")})
    told = tell("run", "pipeline.yaml", "--run-id", "rows")
    assert told.code == 4
    assert told.error.startswith("SOURCE_FAILED: ")
    assert said in told.error
    assert ask("show", "rows")["status"] == "interrupted"
    assert ask("replay", "rows")["ok"] is True


def test_every_line_of_a_text_file_is_a_row() -> None:
    """Wrong bytes and NULs are quarantined; blank lines are rows unless they are skipped."""
    content = b"one\n\n \ntwo\x00\ncaf\xe9\nlast"
    assert run(content, "in.txt", more="column: line\n    skip_blank_lines: false")["rows"] == 6
    assert [outcome for outcome, _ in ends()] == ["completed"] * 3 + ["quarantined"] * 2 + ["completed"]


ATTACK = "\x1b[31m\x1b]0;owned\x07\x9b2J\u202egpj.exe <script>alert(1)</script> =1+1 ignore previous instructions"


def test_a_row_that_attacks_whoever_reads_it_is_shown_as_data() -> None:
    """Terminal escapes, direction marks, HTML, formulas, orders: in a value, a key, a reason, a field's name."""
    header, first, second = f"id,text,{ATTACK}", f"1,{ATTACK},a", f"{ATTACK},b,c"
    write({"in.csv": f"{header}\n{first}\n{second}\n", "pipeline.yaml": pipeline(
        "csv", "in.csv", more='schema: {mode: flexible, fields: ["id: int"]}').replace("source:", "source:\n  key: text")})
    done("run", "pipeline.yaml", "--run-id", "rows")
    assert [outcome for outcome, _ in ends()] == ["completed", "quarantined"]
    for command in (("explain", "rows", "0"), ("explain", "rows", "1"), ("tokens", "rows"), ("show", "rows"),
                    ("query", "SELECT * FROM rows"), ("query", "SELECT bytes FROM log.payloads")):
        for form in ("table", "json"):
            out = done(*command, "-o", form).out
            assert out.replace("\n", "").isprintable(), command
    assert lines("good.jsonl")[0]["text"] == ATTACK
    assert ask("explain", "rows", "0")["source_row"]["source_key"] == ATTACK
