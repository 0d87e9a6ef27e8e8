"""Between a fork and its coalesce each branch has one carrier: whatever would break that is refused when it is built.

Beside each pipeline that is refused stands the nearest one that is good.
"""

from __future__ import annotations

import pytest

from tests.doors.refused import INPUT, Bad, bad, check
from tests.doors.told import JOINED as BASE
from tests.doors.told import done, write

MODULES = {
    "own_steps.py": """\
def explode(row) -> list[dict]:
    return [{**row, "n": n} for n in range(2)]

def totals(rows):
    return rows
totals.__counterfoil_kind__ = "aggregation"
""",
}

LEFTY = """\
transforms:
  - name: lefty
    plugin: passthrough
    input: left
    on_success: left_done
    on_error: bad
"""
JOIN = "- name: join"
EXPLODED = LEFTY.replace("plugin: passthrough", "plugin: own_steps:explode").replace("- name: lefty", "- name: lefty #!")
GATE = """\
  - name: inner{mark}
    input: left
    condition: "True"
    routes: {{"true": fork}}
    fork_to: [one, two]
transforms:
"""
BRANCHES = "branches: {left: left_done, right: right}"
GATHERED = """\
  - name: items{mark}
    gathers: {step}
    input: {input}
    policy: require_all
    merge: list
    on_success: {to}
"""
TO_ITEMS = EXPLODED.replace("left_done", "exploded").replace(" #!", "")


def aggregated(mode: str, mark: str) -> tuple[str, str]:
    """An aggregation instead of the step on the left branch."""
    return (LEFTY, f"aggregations:\n  - name: lefty{mark}\n    plugin: own_steps:totals\n    input: left\n"
                   f"    on_success: left_done\n    on_error: bad\n    output_mode: {mode}\n")


def gathered(step: str, source: str, to: str, mark: str = "") -> tuple[str, str]:
    """One more coalesce, before the one that is there."""
    return ("coalesce:\n", "coalesce:\n" + GATHERED.format(step=step, input=source, to=to, mark=mark))


def stepped(name: str, source: str, to: str) -> tuple[str, str]:
    """One more step."""
    return ("transforms:\n", f"transforms:\n  - {{name: {name}, plugin: passthrough, input: {source}, on_success: {to}, "
                             "on_error: discard}\n")


def chosen(name: str, source: str, yes: str, no: str, mark: str = "") -> tuple[str, str]:
    """One more gate, of two ways."""
    return ("gates:\n", f"gates:\n  - name: {name}{mark}\n    input: {source}\n    condition: \"row['id'] == '1'\"\n"
                        f"    routes: {{\"true\": {yes}, \"false\": {no}}}\n")


INNER_JOIN = ("coalesce:\n", "coalesce:\n  - {name: inner_join, branches: [one, two], policy: first, merge: union, "
                             "on_success: left_done}\n")
NO_LEFTY = (LEFTY, "transforms: []\n")
SPLIT = ("- name: split\n    input: rows", "- name: split\n    input: more")

REFUSED = [
    bad("AGGREGATION_IN_CORRIDOR", ("lefty", "split", "join", "output_mode: passthrough"), aggregated("transform", " #!")),
    bad("EXPAND_IN_CORRIDOR", ("lefty", "split", "join", "gathers: lefty"), (LEFTY, EXPLODED)),
    bad("FORK_IN_CORRIDOR", ("inner", "split", "join", "['one', 'two']"),
        stepped("onesy", "one", "left_done"), stepped("twosy", "two", "good"),
        ("transforms:\n", GATE.format(mark=" #!")), (LEFTY.partition("\n")[2], "")),
    bad("COALESCE_BYPASSED", ("join", "source > early > lefty > join", "split"), (JOIN, JOIN + " #!"),
        SPLIT, chosen("early", "rows", "more", "left")),
    bad("BRANCH_CARRIER", ("'right'", "early"), (JOIN, JOIN + " #!"),
        SPLIT, chosen("early", "rows", "more", "right")),
    bad("BRANCHES_MEET", ("'left'", "'right'", "choose"), NO_LEFTY, ("transforms: []\n", "transforms:\n"),
        chosen("choose", "left", "left_done", "right_done", " #!"), stepped("righty", "right", "left"),
        ("right: right}", "right: right_done}")),
    bad("BRANCH_CARRIER", ("'right'", "choose"), (JOIN, JOIN + " #!"), NO_LEFTY,
        chosen("choose", "left", "left_done", "right")),
    bad("BRANCHES_OF_TWO_FORKS", ("join", "inner", "split"), (JOIN, JOIN + " #!"),
        ("transforms:\n", GATE.format(mark="")), (LEFTY.partition("\n")[2], ""), stepped("onesy", "one", "good"),
        (BRANCHES, "branches: {two: two, right: right}")),
    bad("BRANCH_JOINED_TWICE", ("'left'", "join", "again"), NO_LEFTY, chosen("choose", "left", "left_done", "left_again"),
        chosen("rights", "right", "right_done", "right_again"), (BRANCHES, "branches: {left: left_done, right: right_done}"),
        ("sinks:\n", "  - name: again #!\n    branches: {left: left_again, right: right_again}\n    policy: first\n"
                     "    merge: union\n    on_success: good\nsinks:\n")),
    bad("GATHERS_NOTHING", ("items", "'lefty'", "list[...]"), (LEFTY, LEFTY.replace("left_done", "exploded")),
        gathered("lefty", "exploded", "left_done", " #!")),
    bad("GATHERS_NOTHING", ("items", "'nothing'"), (LEFTY, TO_ITEMS), gathered("nothing", "exploded", "left_done", " #!")),
    bad("GATHERED_TWICE", ("lefty", "items", "join"), (LEFTY, TO_ITEMS), chosen("choose", "exploded", "a", "b"),
        gathered("lefty", "a", "left_done"), (BRANCHES, "gathers: lefty\n    input: b"), ("merge: union", "merge: list"),
        (JOIN, JOIN + " #!"), stepped("right_on", "right", "good"),
        stepped("left_on", "left_done", "good")),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.code}-{case.says[0]}")
def test_what_breaks_a_corridor_is_refused_and_its_nodes_are_named(case: Bad) -> None:
    """D2: no swallowing, no multiplying, no way round, no branch joined twice."""
    check(case, MODULES)


GOOD = [
    ("an aggregation that passes its rows through", (aggregated("passthrough", ""),)),
    ("what is expanded is gathered", ((LEFTY, TO_ITEMS), gathered("lefty", "exploded", "left_done"))),
    ("an inner fork joins whole", (NO_LEFTY, ("transforms: []\n", GATE.format(mark="") + "  []\n"), INNER_JOIN)),
    ("a choice whose both ways stay on the branch", (chosen("choose", "left", "left_now", "left_later"),
                                                     (LEFTY, LEFTY.replace("input: left", "input: left_now")),
                                                     stepped("later", "left_later", "left_done"))),
    ("a choice that leads away", (chosen("choose", "left", "left_now", "bad"),
                                  (LEFTY, LEFTY.replace("input: left", "input: left_now")))),
    ("a way past the coalesce", (SPLIT, chosen("early", "rows", "more", "good"))),
    ("a branch that joins nowhere", (("[left, right]", "[left, right, third]"), stepped("thirdly", "third", "good"))),
]


@pytest.mark.parametrize("changes", [changes for _, changes in GOOD], ids=[name for name, _ in GOOD])
def test_the_neighbouring_good_pipeline_is_built(changes: tuple[tuple[str, str], ...]) -> None:
    """A rule that refuses good pipelines would be switched off."""
    text = BASE
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    write({**MODULES, "pipeline.yaml": text, "in.csv": INPUT})
    assert "is valid" in done("validate", "pipeline.yaml", ledger=None).out
