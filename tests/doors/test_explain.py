"""`explain`, `replay --until` and the like: one token's story, the way it left, and what was known when."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.doors import story
from tests.doors.story import Story
from tests.examples import finished

SAME = ("policy", "status", "trigger", "failure_reason", "merged_token_id", "opened_seq", "closed_seq")
STATES = ("step_index", "node_id", "status")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """One story for the whole file."""
    return story.told(tmp_path_factory.mktemp("story"))


@pytest.fixture(scope="module")
def branches(tmp_path_factory: pytest.TempPathFactory) -> finished.Finished:
    """The example of the policies."""
    return finished.run("branches", tmp_path_factory.mktemp("branches"))


def summary(told: Story, token: str, run: str = "story") -> dict[str, Any] | None:
    """How a token left the normal path, its hash aside, which has to be one."""
    found: dict[str, Any] | None = told.ask("explain", run, token)["divert_summary"]
    if found is None:
        return None
    assert len(bytes.fromhex(found["reason_hash"])) == 32
    return {key: value for key, value in found.items() if key != "reason_hash"}


DIVERTED = [
    ("1", "error", "no_bad", "rejects", "__error_no_bad__"),
    ("2", "quarantine", "source", "rejects", "__quarantine__"),
    ("3", "sink_refused", "strict", "rejects", "__failsink__"),
    ("5.b", "error", "no_half", None, None),
    ("6", "error", "no_drop", None, None),
    ("7", "sink_refused", "void", None, None),
]


@pytest.mark.parametrize(("token", "kind", "node", "sink", "label"), DIVERTED)
def test_a_token_that_left_the_normal_path_says_how(told: Story, token: str, kind: str, node: str, sink: str | None,
                                                    label: str | None) -> None:
    """E11, E1, E2, E5: by an edge to a sink, or discarded: then there is no edge and no routing event, but a reason."""
    assert summary(told, token) == {"diverted": True, "divert_type": kind, "from_node": node, "to_sink": sink,
                                    "edge_label": label}
    answer = told.ask("explain", "story", token)
    diverts = [one for one in answer["routing"] if one["flow_type"] == "divert"]
    assert [(one["label"], one["to_node"], one["mode"]) for one in diverts] == ([(label, sink, "divert")] if label else [])
    assert answer["outcome"]["reason"]
    assert answer["outcome"]["sink_name"] == sink


def test_a_discarded_source_row_says_how_too(told: Story) -> None:
    """E6, E11: its row, its token, its reason and its end are there; only the edge is not."""
    assert summary(told, "2", "discards") == {"diverted": True, "divert_type": "quarantine", "from_node": "source",
                                              "to_sink": None, "edge_label": None}
    answer = told.ask("explain", "discards", "--row", "2")
    assert answer["source_row"]["data"] == {"id": "x", "text": "fine", "to": "store"}
    assert (answer["source_row"]["valid"], answer["outcome"]["outcome"]) == (0, "quarantined")
    assert [tuple(state[name] for name in STATES) for state in answer["node_states"]] == [(0, "source", "failed")]
    assert "expected an int of 64 bits, found 'x'" in answer["outcome"]["reason"]


@pytest.mark.parametrize("token", ["0", "0.a", "0+join", "4", "5", "5.a", "8+join"])
def test_a_token_that_did_not_leave_it_has_no_summary(told: Story, token: str) -> None:
    """E11: null for what was stored, forked, merged, or failed; every routing event is marked."""
    answer = told.ask("explain", "story", token)
    assert answer["divert_summary"] is None
    assert {one["flow_type"] for one in answer["routing"]} <= {"normal"}


def test_a_story_goes_both_ways(told: Story) -> None:
    """F6: from a stored row back to its source row, and from the source row forward to what was stored."""
    stored = told.ask("explain", "story", "0+join")
    assert [one["token_id"] for one in stored["ancestors"]] == ["0.a", "0.b", "0"]
    assert stored["source_row"]["row_index"] == 0
    assert stored["outcome"]["sink_name"] == "store"
    assert [write["uri"] for write in stored["sink_writes"]] == ["store.csv"]
    read = told.ask("explain", "story", "--row", "0")
    assert [one["token_id"] for one in read["descendants"]] == ["0.a", "0.b", "0+join"]
    assert [tuple(state[name] for name in STATES) for state in read["node_states"]] == [
        (0, "source", "completed"), (1, "no_bad", "completed"), (2, "no_drop", "completed"), (3, "route", "completed")]
    table = told.done("explain", "story", "0+join").out
    assert "0+join < 0.a, 0.b < 0" in table


def test_explain_says_why_a_coalesce_failed(told: Story) -> None:
    """A3, A4, E10: the policy, who was expected, who came, who was lost and why, who was missing, the decision."""
    answer = told.ask("explain", "story", "5.a")
    group = answer["coalesce_groups"][0]
    assert (group["policy"], group["status"], group["trigger"]) == ("require_all", "failed", "branch_lost")
    assert (group["expected_branches"], group["branches_arrived"], group["branches_missing"]) == (["a", "b"], ["a"], [])
    assert group["branches_lost"] == {"b": "discarded:no_half:blocked"}
    assert (answer["outcome"]["outcome"], answer["outcome"]["reason"]) == ("failed", group["failure_reason"])
    lost = told.ask("explain", "story", "5.b")
    assert [one["group_id"] for one in lost["coalesce_groups"]] == [group["group_id"]]
    table = told.done("explain", "story", "5.a").out
    assert "coalesce join (require_all, union), group 5+join" in table
    assert "failed: branch_lost:b on branch_lost" in table
    assert "lost     b (discarded:no_half:blocked)" in table


def test_replay_counts_what_failed_and_names_no_offence(told: Story) -> None:
    """A4, F3, F4: from the log alone."""
    verdict = told.ask("replay", "story", "--deep")
    assert (verdict["ok"], verdict["findings"], verdict["open_groups"]) == (True, [], 0)
    assert verdict["outcomes"] == told.receipt["outcomes"]
    assert "every one of 17 tokens has exactly one terminal state" in told.done("replay", "story").out


def test_replay_until_shows_the_run_as_it_was(told: Story) -> None:
    """F4: after each event: counts only rise, and at the end they are the verdict's; a group was open once."""
    size = told.receipt["size"]
    verdicts = [told.ask("replay", "story", "--until", str(seq)) for seq in range(size + 1)]
    assert [verdict["events"] for verdict in verdicts] == list(range(size + 1))
    assert all(verdict["ok"] for verdict in verdicts)
    ends = [sum(verdict["outcomes"].values()) for verdict in verdicts]
    assert ends == sorted(ends)
    assert any(verdict["open_groups"] for verdict in verdicts)
    assert all(len(verdict["open"]) == verdict["open_tokens"] for verdict in verdicts)
    assert verdicts[-1] == told.ask("replay", "story")
    assert told.ask("replay", "story", "--until", "99999") == verdicts[-1]


def test_replay_until_a_time_shows_the_run_as_it_was_then(told: Story) -> None:
    """F4: with or without a zone (then UTC); before the run there is nothing."""
    run = told.ask("show", "story")
    sealed = run["sealed_at"]
    assert told.ask("replay", "story", "--until", sealed)["sealed"] is True
    assert told.ask("replay", "story", "--until", sealed.removesuffix("Z")) == told.ask("replay", "story", "--until", sealed)
    earlier = sealed[:20] + f"{int(sealed[20:26]) - 1:06d}Z" if int(sealed[20:26]) else sealed
    assert earlier == sealed or told.ask("replay", "story", "--until", earlier)["sealed"] is False
    assert told.ask("replay", "story", "--until", "2000-01-01")["events"] == 0
    for wrong in ("tomorrow", "2026-13-01", "", "-1", "1e3", "9" * 30):
        told_of = told.tell("replay", "story", f"--until={wrong}")
        assert (told_of.code, told_of.error.split(":")[0]) == (2, "USAGE"), wrong


def test_explain_at_tells_what_was_known_then(told: Story) -> None:
    """F6: while it was held there was no end and an open group; before it was born it was unknown."""
    whole = told.ask("explain", "story", "5.a")
    born, ended = whole["token"]["seq"], whole["outcome"]["seq"]
    then = told.ask("explain", "story", "5.a", "--at", str(ended - 1))
    assert then["as_of_seq"] == ended - 1
    assert then["outcome"] is None
    assert [group["status"] for group in then["coalesce_groups"]] == ["open"]
    early = told.tell("explain", "story", "5.a", "--at", str(born - 1))
    assert (early.code, early.error.split(":")[0]) == (2, "TOKEN_UNKNOWN")
    late = told.ask("explain", "story", "5.a", "--at", "99999")
    assert {key: value for key, value in late.items() if key != "as_of_seq"} == whole


def test_what_names_no_token_or_row_is_said(told: Story) -> None:
    """Exit 2, with what there is."""
    for arguments, code in ((("zz",), "TOKEN_UNKNOWN"), (("0.c",), "TOKEN_UNKNOWN"), (("",), "TOKEN_UNKNOWN"),
                            (("--row", "9"), "ROW_UNKNOWN"), ((), "USAGE"), (("0", "--row", "0"), "USAGE"),
                            (("0", "--at", "0"), "USAGE"), (("\x1b]0;x\x07",), "TOKEN_UNKNOWN")):
        wrong = told.tell("explain", "story", *arguments)
        assert (wrong.code, wrong.error.split(":")[0]) == (2, code), arguments
        assert wrong.error.isprintable()
    assert "a row from 0 to 8, found 9" in told.tell("explain", "story", "--row", "9").error


def test_late_and_lost_branches_of_every_policy_can_be_explained(branches: finished.Finished) -> None:
    """A3, A4, E10, D7: each group of the example is told by its own tokens as the tables have it."""
    groups = branches.ask("query", "SELECT * FROM coalesce_groups")["rows"]
    assert {group["policy"] for group in groups} == {"require_all", "quorum", "best_effort", "first"}
    tokens = branches.ask("query", "SELECT token_id, outcome, join_group_id FROM token_outcomes")["rows"]
    for group in groups:
        for token in [one["token_id"] for one in tokens if one["join_group_id"] == group["group_id"]][:2]:
            told = branches.ask("explain", "branches", token)["coalesce_groups"]
            found = next(one for one in told if one["group_id"] == group["group_id"])
            assert {key: found[key] for key in SAME} == {key: group[key] for key in SAME}
            assert list(found["branches_lost"]) == list(json.loads(group["branches_lost"]))
