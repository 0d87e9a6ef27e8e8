"""What a pipeline file says of plugins, options, expressions, variables and paths, said wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doors.refused import INPUT, Bad, bad, check, refused
from tests.doors.told import JOINED, done, lines, tell, write

MODULES = {
    "own_fine.py": "def keep(row, *, factor: int = 1):\n    return row\n\nNUMBER = 3\n",
    "own_raises.py": "raise RuntimeError('not today\\nnor tomorrow')\n",
    "own_leaves.py": "raise SystemExit(3)\n",
    "own_needs.py": "import a_package_that_is_not_there\n",
    "own_wrong.py": "def broken(:\n",
    "own_hints.py": "def keep(row, *, factor: Nowhere):\n    return row\n",
}
PLUGIN = "plugin: passthrough"
VALUES = "plugin: value_transform\n    options:\n      operations: "

PLUGINS = [
    bad("PLUGIN_UNKNOWN", ("transforms[0].plugin", "'passthru'", "did you mean passthrough?"),
        (PLUGIN, "plugin: passthru #!")),
    bad("PLUGIN_UNKNOWN", ("source.plugin", "'cvs'", "did you mean csv?"), ("plugin: csv", "plugin: cvs #!")),
    bad("PLUGIN_UNKNOWN", ("sinks.good.plugin", "'parquet'", "known: csv, database, json"),
        ("  plugin: json", "  plugin: parquet #!")),
    bad("PLUGIN_UNKNOWN", ("transforms[0].plugin", "transform", "'csv'"), (PLUGIN, "plugin: csv #!")),
    bad("PLUGIN_BROKEN", ("own_missing:keep", "ModuleNotFoundError"), (PLUGIN, "plugin: own_missing:keep #!")),
    bad("PLUGIN_BROKEN", ("own_fine:kept", "AttributeError"), (PLUGIN, "plugin: own_fine:kept #!")),
    bad("PLUGIN_BROKEN", ("own_fine:NUMBER", "int"), (PLUGIN, "plugin: own_fine:NUMBER #!")),
    bad("PLUGIN_BROKEN", ("own_raises:keep", "RuntimeError: not today"), (PLUGIN, "plugin: own_raises:keep #!")),
    bad("PLUGIN_BROKEN", ("own_leaves:keep", "SystemExit: 3"), (PLUGIN, "plugin: own_leaves:keep #!")),
    bad("PLUGIN_BROKEN", ("own_needs:keep", "a_package_that_is_not_there"), (PLUGIN, "plugin: own_needs:keep #!")),
    bad("PLUGIN_BROKEN", ("own_wrong:broken", "SyntaxError"), (PLUGIN, "plugin: own_wrong:broken #!")),
    bad("PLUGIN_BROKEN", ("own_hints:keep", "Nowhere"), (PLUGIN, "plugin: own_hints:keep #!")),
    bad("PLUGIN_BROKEN", ("engine.sinks.csv_file:CsvSink", "transform", "sink"),
        (PLUGIN, "plugin: engine.sinks.csv_file:CsvSink #!")),
    bad("PLUGIN_BROKEN", ("transforms[0].plugin", "import :"), (PLUGIN, "plugin: ':' #!")),
    bad("KEY_MISSING", "transforms[0].plugin", ("- name: lefty", "- name: lefty #!"), (PLUGIN + "\n    ", "")),
]

OPTIONS = [
    bad("KEY_UNKNOWN", ("source.options.pth", "did you mean path?"), ("path: in.csv", "pth: in.csv #!"),
        (QUARANTINE := "on_validation_failure: bad", "path: in.csv\n    " + QUARANTINE)),
    bad("KEY_MISSING", ("source.options.path", "add path"), ("  options:\n", "  options: #!\n"), ("path: in.csv\n    ", "")),
    bad("VALUE_INVALID", "source.options.skip_rows", ("path: in.csv", "path: in.csv\n    skip_rows: many #!")),
    bad("VALUE_INVALID", ("source.options", "skip_rows of 0 or more, found -1"),
        ("path: in.csv", "path: in.csv\n    skip_rows: -1"),
        ("  options:\n", "  options: #!\n")),
    bad("VALUE_INVALID", ("source.options", "delimiter", "';;'"), ("path: in.csv", "path: in.csv\n    delimiter: ;;"),
        ("  options:\n", "  options: #!\n")),
    bad("VALUE_INVALID", ("source.options", "encoding", "'utf-9'"), ("path: in.csv", "path: in.csv\n    encoding: utf-9"),
        ("  options:\n", "  options: #!\n")),
    bad("KEY_UNKNOWN", ("transforms[0].options.fields", "no key is known here"),
        (PLUGIN, PLUGIN + "\n    options: {fields: [a]} #!")),
    bad("KEY_UNKNOWN", ("transforms[0].options.factr", "did you mean factor?"),
        (PLUGIN, "plugin: own_fine:keep\n    options: {factr: 2} #!")),
    bad("VALUE_INVALID", ("transforms[0].options.factor", "'two'"),
        (PLUGIN, "plugin: own_fine:keep\n    options: {factor: two} #!")),
    bad("KEY_UNKNOWN", ("sinks.good.options.mod", "did you mean mode?"),
        ("{path: good.jsonl}", "{path: good.jsonl, mod: append} #!")),
    bad("VALUE_INVALID", ("sinks.good.options.mode", "'write' or 'append'", "'wipe'"),
        ("{path: good.jsonl}", "{path: good.jsonl, mode: wipe} #!")),
    bad("VALUE_INVALID", ("source.options.path", "string, found 7"), ("path: in.csv", "path: 7 #!")),
    bad("SCHEMA_INVALID", ("source.options.schema", "'strict'"),
        ("path: in.csv", "path: in.csv\n    schema: {mode: strict} #!")),
    bad("SCHEMA_INVALID", ("source.options.schema", "'number'"),
        ("path: in.csv", "path: in.csv\n    schema: {mode: fixed, fields: ['id: number']} #!")),
    bad("SCHEMA_INVALID", ("source.options.schema", "mode and fields"),
        ("path: in.csv", "path: in.csv\n    schema: [id] #!")),
    bad("SCHEMA_INVALID", ("source.options.schema", "'id' twice"),
        ("path: in.csv", "path: in.csv\n    schema: {mode: fixed, fields: ['id: int', 'id: str']} #!")),
    bad("SCHEMA_INVALID", "sinks.good.options.schema",
        ("{path: good.jsonl}", "{path: good.jsonl, schema: {mode: fixed}} #!")),
]

KEYS = [
    bad("KEY_UNKNOWN", ("'transform'", "did you mean transforms?"), ("transforms:", "transform: #!")),
    bad("KEY_UNKNOWN", ("gates[0].conditions", "did you mean condition?"), ("condition:", "conditions: #!\n     ")),
    bad("KEY_UNKNOWN", ("coalesce[0].quorum", "did you mean quorum_count?"), ("merge:", "quorum: 2 #!\n    merge:")),
    bad("KEY_UNKNOWN", ("sinks.good.on_write_failre", "did you mean on_write_failure?"),
        ("on_write_failure:", "on_write_failre: #!\n     ")),
    bad("KEY_UNKNOWN", ("retry.attempts", "did you mean max_attempts?"), ("sinks:", "retry:\n  attempts: 3 #!\nsinks:")),
    bad("KEY_UNKNOWN", ("limits.row_byte", "did you mean row_bytes?"), ("sinks:", "limits:\n  row_byte: 3 #!\nsinks:")),
    bad("KEY_UNKNOWN", ("ledger.uri", "did you mean url?"),
        ("sinks:", "ledger:\n  url: sqlite:///x.db\n  uri: x #!\nsinks:")),
    bad("KEY_MISSING", "source", ("source:\n  plugin: csv\n  on_success: rows\n  options:\n    path: in.csv\n    "
                                  "on_validation_failure: bad\ngates:", "gates: #!")),
    bad("VALUE_INVALID", ("aggregations", "list, found a mapping"), ("sinks:", "aggregations: {} #!\nsinks:")),
    bad("VALUE_INVALID", ("retry.max_attempts", "found 0"), ("sinks:", "retry:\n  max_attempts: 0 #!\nsinks:")),
    bad("VALUE_INVALID", ("retry.max_attempts", "found -1"), ("sinks:", "retry:\n  max_attempts: -1 #!\nsinks:")),
    bad("VALUE_INVALID", ("retry.max_attempts", "found True"), ("sinks:", "retry:\n  max_attempts: true #!\nsinks:")),
    bad("VALUE_INVALID", ("retry.max_attempts", "found 1.5"), ("sinks:", "retry:\n  max_attempts: 1.5 #!\nsinks:")),
    bad("VALUE_INVALID", ("retry.initial_delay_seconds", "found -1"),
        ("sinks:", "retry:\n  initial_delay_seconds: -1 #!\nsinks:")),
    bad("VALUE_INVALID", ("retry", "max_delay_seconds of at least initial_delay_seconds"),
        ("sinks:", "retry: #!\n  initial_delay_seconds: 3\n  max_delay_seconds: 2\nsinks:")),
    bad("VALUE_INVALID", ("concurrency.max_workers", "found 0"), ("sinks:", "concurrency:\n  max_workers: 0 #!\nsinks:")),
    bad("VALUE_INVALID", ("limits.open_groups", "found 0"), ("sinks:", "limits:\n  open_groups: 0 #!\nsinks:")),
    bad("VALUE_INVALID", ("limits.step_seconds", "found 0"), ("sinks:", "limits:\n  step_seconds: 0 #!\nsinks:")),
    bad("KEY_REFUSED", ("landscape.encryption_key_env", "protect"),
        ("sinks:", "landscape:\n  url: sqlite:///x.db\n  encryption_key_env: KEY #!\nsinks:")),
    bad("KEY_REFUSED", ("landscape.export", "export"), ("sinks:", "landscape:\n  export: {enabled: true} #!\nsinks:")),
]

VARIABLES = [
    bad("VARIABLE_UNSET", ("NOT_SET_HERE", "source.options.path", "set NOT_SET_HERE"),
        ("path: in.csv", "path: ${NOT_SET_HERE} #!")),
    bad("VARIABLE_MALFORMED", ("${NAME}", "source.options.path"), ("path: in.csv", "path: ${1X} #!")),
    bad("VARIABLE_MALFORMED", "source.options.path", ("path: in.csv", "path: '${' #!")),
]

EXPRESSIONS = [
    bad("EXPRESSION_INVALID", "gates[0].condition", ('condition: "True"', f'condition: "{text}" #!'))
    for text in ("row['x'] ==", "row.x", "__import__('os')", "[x for x in row]", "row['x'] ** 9", "other['x']",
                 "lambda: 1", "row.get('x', *row)", "f'{row}'", "1 << 9")
] + [
    bad("VALUE_INVALID", ("transforms[0].options", "an attribute"), (PLUGIN, VALUES + "[{target: x, expression: 'row.x'}]"),
        ("options:\n      operations", "options: #!\n      operations")),
    bad("VALUE_INVALID", ("transforms[0].options", "pattern of RE2 syntax"),
        (PLUGIN, "plugin: keyword_filter\n    options: #!\n      fields: [text]\n"
                                                     "      blocked_patterns: ['(']")),
]

PATHS = [
    bad("PATH_TAKEN", ("sinks.bad.options.path", "sink good"), ("{path: bad.jsonl}", "{path: good.jsonl} #!")),
    bad("PATH_TAKEN", ("sinks.bad.options.path", "sink good"), ("{path: bad.jsonl}", "{path: ./x/../good.jsonl} #!")),
    bad("PATH_TAKEN", ("sinks.good.options.path", "the source"), ("{path: good.jsonl}", "{path: in.csv} #!")),
]

CASES = [*PLUGINS, *OPTIONS, *KEYS, *VARIABLES, *EXPRESSIONS, *PATHS]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.says[0]}")
def test_what_a_file_says_wrongly_is_one_line_with_its_place(case: Bad) -> None:
    """A code, the key, file:line, what was expected, the nearest known name; exit 3 and nothing made."""
    check(case, MODULES)


def test_two_names_for_one_file_are_one_path(folder: Path) -> None:
    """A link to a sink's file is that file."""
    (folder / "link.jsonl").symlink_to(folder / "good.jsonl")
    check(bad("PATH_TAKEN", "sink good", ("{path: bad.jsonl}", "{path: link.jsonl} #!")))


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        ("a: &a [x, x]\nb: [*a, *a]\n", "YAML_ALIAS", 1),
        ("[" * 5000, "YAML_TOO_DEEP", 1),
        ("name: !!python/object/apply:os.getcwd []\n", "YAML_TAG", 1),
        (JOINED + "---\n" + JOINED, "YAML_DOCUMENTS", len(JOINED.splitlines()) + 1),
        ("source:\n  plugin: csv\n plugin: x\n", "YAML_INVALID", 3),
        ("", "YAML_INVALID", 1),
        ("- a\n- b\n", "SETTINGS_EMPTY", 1),
        ("just text\n", "SETTINGS_EMPTY", 1),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_refused_at_its_line(content: str, code: str, line: int) -> None:
    """Bombs, depth, tags, two documents, no mapping."""
    error = refused(content)
    assert error.startswith(f"{code}: ")
    assert f"; pipeline.yaml:{line}; " in error


def test_latin_1_is_refused_and_windows_text_is_read() -> None:
    """A byte that is no UTF-8 has its line; a byte order mark and CR LF are fine."""
    write({"in.csv": INPUT, "pipeline.yaml": JOINED.encode() + "# caf\u00e9\n".encode("latin-1")})
    told = tell("run", "pipeline.yaml")
    assert told.code == 3
    assert told.error.startswith("YAML_ENCODING: ")
    assert f"; pipeline.yaml:{len(JOINED.splitlines()) + 1}; " in told.error
    write({"windows.yaml": b"\xef\xbb\xbf" + JOINED.replace("\n", "\r\n").encode()})
    assert done("run", "windows.yaml", "--run-id", "windows").code == 0


def test_a_missing_file_and_a_directory_are_the_commands_mistake(folder: Path) -> None:
    """Exit 2, and what to do."""
    (folder / "dir.yaml").mkdir()
    for command in ("run", "validate", "graph"):
        for name, code in (("none.yaml", "FILE_MISSING"), ("dir.yaml", "FILE_IS_DIRECTORY")):
            told = tell(command, name, ledger=None)
            assert (told.code, told.error.split(":")[0]) == (2, code)
            assert name in told.error


def test_validate_lists_all_that_is_wrong_and_prints_the_first() -> None:
    """The whole list on stdout, one line on stderr; as JSON too."""
    text = JOINED.replace("on_error: bad", "on_error: bda").replace("on_success: good", "on_success: godo")
    write({"pipeline.yaml": text})
    told = tell("validate", "pipeline.yaml", ledger=None)
    assert told.code == 3
    assert "more: counterfoil validate lists them" in told.error
    assert [line.split(":")[0] for line in told.out.splitlines()] == ["CONNECTION_UNUSED", "ERROR_EDGE_MISSING"]
    answer = tell("validate", "pipeline.yaml", "-o", "json", ledger=None).answer
    assert (answer["schema"], answer["ok"]) == ("counterfoil/validate/1", False)
    assert {error["code"] for error in answer["errors"]} >= {"CONNECTION_UNUSED", "ERROR_EDGE_MISSING"}
    assert all(error["where"].startswith("pipeline.yaml:") for error in answer["errors"])


def test_the_predecessors_keys_are_taken_with_a_notice_each() -> None:
    """What replaces them is said; `landscape.url` is used."""
    old = ("landscape:\n  url: sqlite:///old.db\n  encryption_key_env:\n  export: false\n"
           "payload_store: {path: x}\ncheckpoint: {every: 5}\ntelemetry: {on: true}\nrate_limit: {a: 1}\n")
    write({"pipeline.yaml": JOINED + old, "in.csv": INPUT})
    told = done("run", "pipeline.yaml", ledger=None)
    notices = [line for line in told.err.splitlines() if line.startswith("notice: ")]
    keys = ("landscape", "payload_store", "checkpoint", "telemetry", "rate_limit")
    assert [line.split(": ")[2].split(" ")[0] for line in notices] == list(keys)
    for notice, key in zip(notices, keys, strict=True):
        number = next(n for n, line in enumerate((JOINED + old).splitlines(), start=1) if line.startswith(key))
        assert notice.startswith(f"notice: pipeline.yaml:{number}: {key} is accepted")
    assert Path("old.db").is_file()
    assert not Path("counterfoil.db").exists()


def test_a_steps_schema_is_taken_with_a_notice() -> None:
    """The predecessor's files give every step a schema; here rows are checked where they come in and go out."""
    step = ("transforms:\n  - name: same\n    plugin: passthrough\n    input: rows\n    on_success: good\n"
            "    on_error: discard\n    options: {schema: {mode: observed}}\n")
    head = "source: {plugin: csv, on_success: rows, options: {path: in.csv, on_validation_failure: discard}}\n"
    write({"pipeline.yaml": head + step + "sinks: {good: {plugin: json, options: {path: good.jsonl}}}\n", "in.csv": INPUT})
    told = done("run", "pipeline.yaml", "--strict")
    assert [line for line in told.err.splitlines() if line.startswith("notice: ")] == [
        "notice: pipeline.yaml:8: transforms[0].options.schema is accepted and has no effect: the source's schema is "
        "checked, and a sink's"]
    assert lines("good.jsonl") != []


def test_words_that_other_yaml_readers_change_are_names_here() -> None:
    """`no` and `on` are branches, `1:30` is text."""
    text = JOINED.replace("[left, right]", "[no, on]").replace("input: left", "input: no").replace(
        "{left: left_done, right: right}", "{no: left_done, on: on}").replace("merge: union", "merge: nested")
    write({"pipeline.yaml": text, "in.csv": "id,text\n1,1:30\n"})
    done("run", "pipeline.yaml")
    assert lines("good.jsonl") == [{"no": {"id": "1", "text": "1:30"}, "on": {"id": "1", "text": "1:30"}}]


def test_a_number_from_the_environment_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable is text, and a plain numeral counts; anything else names the key."""
    text = JOINED.replace("policy: require_all", "policy: best_effort\n    timeout_seconds: ${WAIT:-5}")
    write({"pipeline.yaml": text, "in.csv": INPUT})
    done("validate", "pipeline.yaml", ledger=None)
    monkeypatch.setenv("WAIT", "1:30")
    assert "coalesce[0].timeout_seconds" in tell("validate", "pipeline.yaml", ledger=None).error
