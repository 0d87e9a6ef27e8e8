"""E8: building warns of an error edge between a fork and its `require_all` coalesce, there and nowhere else."""

from __future__ import annotations

import pytest

from tests.doors.refused import INPUT
from tests.doors.told import JOINED, ask, done, lines, tell, write

CODE = "DIVERT_COALESCE_REQUIRE_ALL"
POLICY = "policy: require_all"
DISCARDING = ("on_success: left_done\n    on_error: bad", "on_success: left_done\n    on_error: discard")
OTHERS = ("policy: quorum\n    quorum_count: 1", "policy: quorum\n    quorum_count: 2",
          "policy: best_effort\n    timeout_seconds: 60", "policy: first")


def step(name: str, source: str, to: str, on_error: str = "bad") -> tuple[str, str]:
    """One more step."""
    return ("transforms:\n", f"transforms:\n  - {{name: {name}, plugin: passthrough, input: {source}, on_success: {to}, "
                             f"on_error: {on_error}}}\n")


def gate(name: str, source: str, to: str, on_error: str = "bad") -> tuple[str, str]:
    """One more gate, of one way."""
    return ("gates:\n", f"gates:\n  - {{name: {name}, input: {source}, condition: \"True\", routes: {{\"true\": {to}}}, "
                        f"on_error: {on_error}}}\n")


def inner(policy: str) -> tuple[tuple[str, str], ...]:
    """A fork and its coalesce on the left branch, with a step `deep` between them."""
    return (
        ("transforms:\n", "  - name: again\n    input: left\n    condition: \"True\"\n    routes: {\"true\": fork}\n"
                          "    fork_to: [one, two]\ntransforms:\n"),
        ("input: left\n    on_success: left_done", "input: again_done\n    on_success: left_done"),
        step("deep", "one", "one_done"),
        ("coalesce:\n", f"coalesce:\n  - {{name: again_join, branches: {{one: one_done, two: two}}, {policy}, merge: union, "
                        "on_success: again_done}\n"),
    )


def built(*changes: tuple[str, str]) -> str:
    """The pipeline, changed; nothing warns in it but what the changes bring."""
    text = JOINED
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    write({"pipeline.yaml": text, "in.csv": INPUT})
    return text


def warned() -> list[tuple[str, str]]:
    """(node, line) of every warning."""
    answer = ask("validate", "pipeline.yaml", ledger=None)
    assert {one["code"] for one in answer["warnings"]} <= {CODE}
    return [(one["what"].removeprefix("an error at ").split(" ")[0], one["where"].rpartition(":")[2])
            for one in answer["warnings"]]


IN_THE_CORRIDOR = [
    ("the step of a branch", (), ["lefty"]),
    ("a step after it", (step("more", "left", "left_now"), ("input: left\n", "input: left_now\n")), ["lefty", "more"]),
    ("a step on the other branch", (DISCARDING, step("righty", "right", "right_done"),
                                    ("right: right}", "right: right_done}")), ["righty"]),
    ("a gate", (DISCARDING, gate("choose", "left", "left_now"), ("input: left\n", "input: left_now\n")), ["choose"]),
    ("an inner corridor of the same policy", (DISCARDING, *inner("policy: require_all")), ["deep"]),
    ("between an inner join and the outer", inner("policy: first"), ["lefty"]),
]


@pytest.mark.parametrize(("changes", "nodes"), [case[1:] for case in IN_THE_CORRIDOR],
                         ids=[case[0] for case in IN_THE_CORRIDOR])
def test_an_error_edge_in_the_corridor_is_warned_of(changes: tuple[tuple[str, str], ...], nodes: list[str]) -> None:
    """E8: each step and each gate that has one, once, at its own line."""
    text = built(*changes)
    found = warned()
    assert sorted(node for node, _ in found) == sorted(nodes)
    for node, line in found:
        assert f"name: {node}" in text.splitlines()[int(line) - 1]


ELSEWHERE = [
    ("discard", (DISCARDING,)),
    *((policy.split("\n")[0], ((POLICY, policy),)) for policy in OTHERS),
    ("before the fork", (DISCARDING, step("early", "rows", "ready"), ("input: rows\n", "input: ready\n"))),
    ("after the join", (DISCARDING, step("late", "joined", "good"), ("    on_success: good\nsinks",
                                                                     "    on_success: joined\nsinks"))),
    ("a gate after the join", (DISCARDING, gate("late", "join", "good"), ("    on_success: good\nsinks", "sinks"))),
    ("a branch that joins nowhere", (DISCARDING, ("[left, right]", "[left, right, third]"),
                                     step("thirdly", "third", "good"))),
    ("an inner corridor of another policy", (DISCARDING, *inner("policy: first"))),
    ("no fork", (DISCARDING, ("gates:\n", "gates:\n  - {name: early, input: rows, condition: \"True\", routes: {\"true\": "
                                         "more, \"false\": alone}}\n"), ("name: split\n    input: rows", "name: split\n    "
                                         "input: more"), step("lone", "alone", "good"))),
]


@pytest.mark.parametrize("changes", [changes for _, changes in ELSEWHERE], ids=[name for name, _ in ELSEWHERE])
def test_an_error_edge_elsewhere_is_not(changes: tuple[tuple[str, str], ...]) -> None:
    """E8: not for other policies, nor for `discard`, nor before the fork, nor after the join."""
    built(*changes)
    assert warned() == []
    assert done("validate", "pipeline.yaml", "--strict", ledger=None).err == ""


def test_a_warning_is_said_and_the_run_goes_on() -> None:
    """E8: a warning stops nothing; what it warns of is what happens."""
    built(("plugin: passthrough", "plugin: keyword_filter\n    options: {fields: [text], blocked_patterns: [bad]}"))
    write({"in.csv": "id,text\n1,fine\n2,bad\n"})
    told = done("run", "pipeline.yaml", "--run-id", "warned")
    assert told.error.startswith(f"warning: {CODE}: an error at lefty fails the whole group at join")
    assert "pipeline.yaml:14" in told.error
    assert [row["id"] for row in lines("good.jsonl")] == ["1"]
    assert [group["status"] for group in ask("query", "SELECT status FROM coalesce_groups ORDER BY row_index")["rows"]] == [
        "merged", "failed"]


def test_strict_takes_a_warning_for_an_error() -> None:
    """E8: exit 3, in `run` and in `validate`, and nothing is made."""
    built()
    for command in ("run", "validate"):
        told = tell(command, "pipeline.yaml", "--strict", ledger=None)
        assert (told.code, told.error.split(":")[0]) == (3, CODE)
    told = tell("run", "pipeline.yaml", "--strict")
    assert told.code == 3
    assert tell("runs").error.startswith("LEDGER_MISSING")
