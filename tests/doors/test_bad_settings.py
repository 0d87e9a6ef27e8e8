"""Every bad setting is one line with a code, file:line, the key, what was expected, and what to do; nothing is made.

A case is the good pipeline with some text replaced; `#!` marks the line that the error has to name.
"""

from __future__ import annotations

import pytest

from tests.doors.refused import INPUT, Bad, bad, check
from tests.doors.told import JOINED, done, write

POLICY, MERGE, BRANCHES = "policy: require_all", "merge: union", "branches: {left: left_done, right: right}"
ERROR, QUARANTINE, WRITE = "on_error: bad", "on_validation_failure: bad", "on_write_failure: discard"
OK_BRANCHES = "left: left_done, right: right"
JOIN = ("- name: join", "- name: join #!")
TAIL = "  bad:\n    plugin: json\n    options: {path: bad.jsonl}\n"

POLICIES = [
    bad("VALUE_INVALID", ("coalesce[0]", "two branches or more, found 1"), JOIN, (BRANCHES, "branches: [left]")),
    bad("VALUE_INVALID", ("coalesce[0]", "two branches or more, found 0"), JOIN, (BRANCHES + "\n    ", "")),
    bad("VALUE_INVALID", ("coalesce[0].branches", "each branch once, found 'left' twice"),
        (BRANCHES, "branches: [left, left] #!")),
    bad("VALUE_INVALID", ("coalesce[0].branches",), (BRANCHES, "branches: [left, 1] #!")),
    bad("VALUE_INVALID", ("coalesce[0].branches",), (BRANCHES, "branches: left #!")),
    bad("VALUE_INVALID", "expected quorum_count for policy quorum", JOIN, (POLICY, "policy: quorum")),
    bad("VALUE_INVALID", "at most 2 branches, found 3", JOIN, (POLICY, "policy: quorum\n    quorum_count: 3")),
    bad("VALUE_INVALID", "coalesce[0].quorum_count", (POLICY, "policy: quorum\n    quorum_count: 0 #!")),
    bad("VALUE_INVALID", "coalesce[0].quorum_count", (POLICY, "policy: quorum\n    quorum_count: 1.5 #!")),
    bad("VALUE_INVALID", "coalesce[0].quorum_count", (POLICY, "policy: quorum\n    quorum_count: most #!")),
    bad("VALUE_INVALID", "coalesce[0].quorum_count", (POLICY, "policy: quorum\n    quorum_count: true #!")),
    bad("VALUE_INVALID", "quorum_count only for policy quorum", JOIN, (POLICY, f"{POLICY}\n    quorum_count: 2")),
    bad("VALUE_INVALID", "timeout_seconds for policy best_effort", JOIN, (POLICY, "policy: best_effort")),
    bad("VALUE_INVALID", "no timeout_seconds for policy first", JOIN, (POLICY, "policy: first\n    timeout_seconds: 1")),
    bad("VALUE_INVALID", "'require_all', 'quorum', 'best_effort' or 'first', found 'most'", (POLICY, "policy: most #!")),
    bad("VALUE_INVALID", "coalesce[0].merge", (MERGE, "merge: zip #!")),
    bad("VALUE_INVALID", "select_branch to be one of ['left', 'right'], found None", JOIN, (MERGE, "merge: select")),
    bad("VALUE_INVALID", "select_branch to be one of ['left', 'right'], found middle", JOIN,
        (MERGE, "merge: select\n    select_branch: middle")),
    bad("VALUE_INVALID", "select_branch only for merge select", JOIN, (MERGE, f"{MERGE}\n    select_branch: left")),
    bad("VALUE_INVALID", "union_collision_policy only for merge union", JOIN,
        (MERGE, "merge: nested\n    union_collision_policy: fail")),
    bad("VALUE_INVALID", "coalesce[0].union_collision_policy", (MERGE, f"{MERGE}\n    union_collision_policy: best #!")),
    bad("VALUE_INVALID", "union, nested or select for branches, found list", JOIN, (MERGE, "merge: list")),
    bad("VALUE_INVALID", "expected no input", JOIN, (MERGE, f"{MERGE}\n    input: rows")),
    bad("VALUE_INVALID", "into only for a coalesce that gathers", JOIN, (MERGE, f"{MERGE}\n    into: items")),
    bad("VALUE_INVALID", "branches or gathers, found both", JOIN, (MERGE, f"{MERGE}\n    gathers: lefty")),
    bad("VALUE_INVALID", "merge: list for a coalesce that gathers, found union", JOIN, (BRANCHES, "gathers: lefty")),
    bad("VALUE_INVALID", "the input that carries what is gathered", JOIN, (BRANCHES, "gathers: lefty"),
        (MERGE, "merge: list")),
]

TIMES = [
    bad("VALUE_INVALID", ("coalesce[0].timeout_seconds", f"found {found}"),
        (POLICY, f"policy: best_effort\n    timeout_seconds: {text} #!"))
    for text, found in (("0", "0"), ("-1", "-1"), ("1:30", "'1:30'"), ("soon", "'soon'"), ("true", "True"),
                        ("'nan'", "'nan'"), ("'inf'", "'inf'"), ("1e12", "1000000000000.0"), ("[1]", "a list"))
] + [
    bad("YAML_NUMBER", f"found '{text}'", (POLICY, f"policy: best_effort\n    timeout_seconds: {text} #!"))
    for text in (".nan", ".inf", "-.inf", "1e999")
]

DIVERTS = [
    bad("KEY_MISSING", ("transforms[0].on_error", "add on_error"), ("- name: lefty", "- name: lefty #!"), (ERROR, "")),
    bad("ERROR_EDGE_MISSING", ("lefty", "'bda'", "did you mean bad?"), (ERROR, "on_error: bda #!")),
    bad("ERROR_EDGE_MISSING", ("lefty", "'rows'", "discard"), (ERROR, "on_error: rows #!")),
    bad("VALUE_INVALID", ("transforms[0].on_error", "'__quarantine__'"), (ERROR, "on_error: __quarantine__ #!")),
    bad("ERROR_EDGE_MISSING", ("source", "'bda'", "did you mean bad?"), (QUARANTINE, "on_validation_failure: bda #!")),
    bad("VALUE_INVALID", "on_validation_failure", (QUARANTINE, "on_validation_failure: [bad] #!")),
    bad("ERROR_EDGE_MISSING", ("good", "'bda'", "did you mean bad?"), (WRITE, "on_write_failure: bda #!")),
    bad("FAILSINK_OWN", "good", (WRITE, "on_write_failure: good #!")),
    bad("ERROR_EDGE_MISSING", ("split", "'bda'"), ("condition:", "on_error: bda #!\n    condition:")),
]

NAMES = [
    bad("VALUE_INVALID", ("transforms[0].name", "'discard' is reserved"), ("- name: lefty", "- name: discard #!")),
    bad("VALUE_INVALID", ("gates[0].name", "'source' is reserved"), ("- name: split", "- name: source #!")),
    bad("VALUE_INVALID", ("coalesce[0].name", "'continue' is reserved"), ("- name: join", "- name: continue #!")),
    bad("VALUE_INVALID", ("sinks", "'fork' is reserved"), ("  good:", "  fork: #!")),
    bad("VALUE_INVALID", ("transforms[0].name", "'__x' is reserved"), ("- name: lefty", "- name: __x #!")),
    bad("VALUE_INVALID", ("gates[0].fork_to[0]", "'discard' is reserved"), ("[left,", "[discard, #!\n   ")),
    bad("VALUE_INVALID", ("gates[0].routes", "'__x'"), ('"true": fork}', '"true": fork, __x: good} #!')),
    bad("VALUE_INVALID", ("gates[0].routes", "'continue'"), ('"true": fork}', '"true": fork, continue: good} #!')),
    bad("VALUE_INVALID", ("transforms[0].name", "found 'a b'"), ("- name: lefty", "- name: a b #!")),
    bad("VALUE_INVALID", ("transforms[0].name", "found 'a.b'"), ("- name: lefty", "- name: a.b #!")),
    bad("VALUE_INVALID", ("transforms[0].name", "found 1"), ("- name: lefty", "- name: 1 #!")),
    bad("VALUE_INVALID", ("name", "expected a name"), ("source:\n", "name: my pipeline #!\nsource:\n")),
    bad("NAME_TWICE", ("'good'", "sink"), ("- name: lefty", "- name: good"), ("  good:", "  good: #!")),
    bad("NAME_TWICE", ("'split'", "gate", "transform"), ("- name: lefty", "- name: split"), ("- name: split\n    input",
        "- name: split #!\n    input")),
    bad("NAME_TWICE", ("'lefty'", "coalesce"), ("- name: join", "- name: lefty #!")),
    bad("YAML_DUPLICATE_KEY", "'good'", (TAIL, "  good: {plugin: json} #!\n")),
]

FORKS = [
    bad("VALUE_INVALID", ("gates[0]", "each branch of fork_to once"), ("- name: split", "- name: split #!"),
        ("[left, right]", "[left, left]")),
    bad("VALUE_INVALID", ("gates[0]", "fork_to with two branches or more"), ("- name: split", "- name: split #!"),
        ("[left, right]", "[left]")),
    bad("VALUE_INVALID", ("gates[0]", "fork_to with two branches or more"), ("- name: split", "- name: split #!"),
        ("    fork_to: [left, right]\n", "")),
    bad("VALUE_INVALID", ("gates[0]", "a route to fork"), ("- name: split", "- name: split #!"),
        ('"true": fork', '"true": good')),
    bad("VALUE_INVALID", ("gates[0]", "branches and labels of different names", "'left'"),
        ("- name: split", "- name: split #!"), ('"true": fork', '"true": fork, left: good')),
    bad("VALUE_INVALID", "gates[0].routes", ('{"true": fork}', "{} #!")),
    bad("BRANCH_TWICE", ("'left'", "split", "again"), ("transforms:", """\
  - name: again
    input: left_done
    condition: "True"
    routes: {"true": fork}
    fork_to: [left, other] #!
transforms:""")),
    bad("BRANCH_UNMADE", ("'middle'", "join"), JOIN, (OK_BRANCHES, "left: left_done, middle: right")),
    bad("BRANCH_UNMADE", ("'rite'", "join", "right"), JOIN, (OK_BRANCHES, "left: left_done, rite: right")),
]

CONNECTIONS = [
    bad("CONNECTION_UNUSED", ("'left'", "split", "did you mean lfet?"), ("input: left", "input: lfet"),
        ("right]", "right] #!")),
    bad("CONNECTION_UNKNOWN", ("'rwos'", "extra", "did you mean rows?"), ("transforms:", """\
transforms:
  - {name: extra, plugin: passthrough, input: rwos, on_success: good, on_error: discard} #!""")),
    bad("CONNECTION_UNKNOWN", ("'elsewhere'", "branch 'right' of join"), ("right: right}", "right: elsewhere} #!"),
        ("transforms:", """\
transforms:
  - {name: righty, plugin: passthrough, input: right, on_success: good, on_error: discard}""")),
    bad("CONNECTION_UNUSED", ("'rosw'", "source", "did you mean rows?"), ("on_success: rows", "on_success: rosw #!")),
    bad("CONNECTION_UNUSED", ("'godo'", "join", "did you mean good?"), ("on_success: good", "on_success: godo #!")),
    bad("CONNECTION_UNUSED", ("'join'", "join"), JOIN, ("    on_success: good\n", "")),
    bad("CONNECTION_UNUSED", ("'elsewhere'", "split"), ('"true": fork', '"true": fork, "false": elsewhere'),
        ('"false": elsewhere', '\n      "false": elsewhere #!\n    ')),
    bad("CONNECTION_UNUSED", ("'third'", "split"), ("[left, right]", "[left, right, third] #!")),
    bad("CONNECTION_SHARED", ("'rows'", "lefty", "split"), ("input: left", "input: rows"),
        ("input: rows", "input: rows #!")),
    bad("CONNECTION_IS_SINK", ("'good'", "lefty"), ("input: left", "input: good #!")),
    bad("NODE_UNREACHABLE", "spare", (TAIL, TAIL + "  spare: #!\n    plugin: json\n    options: {path: spare.jsonl}\n")),
    bad("CYCLE", ("here > there > here",), ("transforms:", """\
transforms:
  - {name: here, plugin: passthrough, input: b, on_success: a, on_error: discard} #!
  - {name: there, plugin: passthrough, input: a, on_success: b, on_error: discard}""")),
    bad("CYCLE", ("around > around",), ("transforms:", """\
transforms:
  - {name: around, plugin: passthrough, input: a, on_success: a, on_error: discard} #!""")),
]

CASES = [*POLICIES, *TIMES, *DIVERTS, *NAMES, *FORKS, *CONNECTIONS]


def test_the_pipeline_that_the_cases_spoil_is_good() -> None:
    """Without this, every case below could fail for another reason."""
    write({"pipeline.yaml": JOINED, "in.csv": INPUT})
    assert done("validate", "pipeline.yaml", ledger=None).err == ""
    assert done("run", "pipeline.yaml").code == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.says[0]}")
def test_a_bad_setting_is_one_line_that_says_where_and_what_to_do(case: Bad) -> None:
    """D2, E3: a code, what was expected, file:line, the next step; exit 3 and nothing made."""
    check(case)
