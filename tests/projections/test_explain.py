"""Explain: one token's whole story, both ways, and as of an event; the plain questions beside it."""

from __future__ import annotations

from typing import Any

import pytest

from ledger import events as e
from ledger.errors import UsageError
from ledger.graph import DISCARD, SOURCE, CoalesceRule
from ledger.store import Payload
from projections import answers
from projections.explain import explain, explain_row
from tests.kit import graphs
from tests.kit.log import Log, arrived, diverted, facts, failed, forked, merged
from tests.kit.tamper import edit_payload
from tests.ledger import lawful, lawful_groups, lawful_many
from tests.ledger.folding import place
from tests.ledger.lawful_many import LAWFUL
from tests.projections.reading import told


def story(log: Log, token: str, until: int | None = None) -> dict[str, Any]:
    """What explain answers, as of an event."""
    with told(log, until) as found:
        return explain(found.tables, found.store, found.run, token)


def ids(briefs: list[dict[str, Any]]) -> list[str]:
    """The tokens of a list."""
    return [one["token_id"] for one in briefs]


def groups(log: Log, token: str) -> list[str]:
    """The groups that explain lists of a token."""
    return [one["group_id"] for one in story(log, token)["coalesce_groups"]]


def summary(kind: str, from_node: str, to_sink: str | None, label: str | None, reason: str | None) -> dict[str, object]:
    """A divert summary in the promised form."""
    return {"diverted": True, "divert_type": kind, "from_node": from_node, "to_sink": to_sink, "edge_label": label,
            "reason_hash": reason}


def hash_of(log: Log, n: int) -> str:
    """The commitment to the payload that the diverts of a log refer to."""
    with told(log) as found:
        return str(found.told("token_outcomes", "error_hash", "error_hash IS NOT NULL")[n][0])


def test_ancestors_and_descendants_are_told_both_ways() -> None:
    """A4, F6: nearest first, each once, with what became of them."""
    log = lawful_groups.nested_joins()
    inner = story(log, "0.x+inner")
    assert ids(inner["ancestors"]) == ["0.x.b", "0.x.a", "0.x", "0"]
    assert ids(inner["descendants"]) == ["0+outer"]
    assert inner["descendants"][0]["outcome"] == "completed" and inner["descendants"][0]["sink_name"] == "out"
    assert ids(story(log, "0")["descendants"]) == ["0.x", "0.y", "0.x.a", "0.x.b", "0+outer", "0.x+inner"]
    assert story(log, "0")["ancestors"] == [] and story(log, "0+outer")["descendants"] == []


def test_the_source_row_of_a_descendant_is_its_own() -> None:
    """A4: with its data; a batch's output has none, but ancestors."""
    log = lawful_groups.two_groups_a_row()
    row = story(log, "0:1+join")["source_row"]
    assert (row["row_index"], row["data"]) == (0, {"id": 7})
    output = story(lawful_many.batch_totals(), "totals@1:0")
    assert output["source_row"] is None and ids(output["ancestors"]) == ["0", "1"]
    assert output["token"]["data"] == {"sum": 1}


def test_a_members_story_has_its_batch_and_what_became_of_it() -> None:
    """A4: a rejected one has the batch, and no descendant."""
    log = lawful_many.batch_rejected()
    member, rejected = story(log, "0"), story(log, "1")
    assert [one["batch_id"] for one in member["batches"]] == [one["batch_id"] for one in rejected["batches"]] == ["totals@1"]
    assert ids(member["descendants"]) == ["totals@1:0"] and rejected["descendants"] == []


def test_a_story_has_every_state_call_and_write_in_the_order_of_the_log() -> None:
    """A4: each with the seq that made it."""
    found = story(lawful.effect_retried(), "0")
    assert [(one["node_id"], one["attempt"], one["status"]) for one in found["node_states"]] == [
        ("source", 1, "completed"), ("step", 1, "failed"), ("step", 2, "completed"), ("out", 1, "completed")]
    assert [(one["attempt"], one["call_index"]) for one in found["calls"]] == [(1, 0), (2, 0), (2, 1)]
    assert [one["status"] for one in story(lawful.write_repeated(), "0")["sink_writes"]] == ["failed", "confirmed"]
    assert [one["write_id"] for one in story(lawful.three_rows(), "2")["sink_writes"]] == ["hand-made/out/2"]


@pytest.mark.parametrize(
    ("name", "token", "expected"),
    [
        ("error_routed", "0", ("error", "step", "errors", "__error_step__")),
        ("error_discarded", "0", ("error", "step", None, None)),
        ("row_quarantined", "0", ("quarantine", "source", "errors", "__quarantine__")),
        ("row_discarded", "0", ("quarantine", "source", None, None)),
        ("refused_to_failsink", "1", ("sink_refused", "out", "errors", "__failsink__")),
        ("branch_lost", "0.c", ("error", "step_c", "errors", "__error_step_c__")),
        ("batch_rejected", "1", ("error", "totals", "errors", "__error_totals__")),
        ("batch_timed_out", "2", ("error", "totals", "errors", "__error_totals__")),
    ],
)
def test_the_divert_summary_says_how_a_token_left_the_normal_path(
    name: str, token: str, expected: tuple[str, str, str | None, str | None]
) -> None:
    """E11: its kind, from where, to which sink by which edge (none when it was discarded), and the reason's hash."""
    log = LAWFUL[name]()
    found = story(log, token)
    assert found["divert_summary"] == summary(*expected, hash_of(log, 0))
    assert found["divert_summary"]["reason_hash"] == found["outcome"]["error_hash"]


def test_a_reason_without_a_text_has_no_hash() -> None:
    """E11: a process that died says nothing, a member may be rejected without a word."""
    died = story(lawful.process_died_thrice(), "0")["divert_summary"]
    assert died == summary("error", "step", "errors", "__error_step__", None)
    rejected = story(lawful_many.batch_passed_through(), "1")["divert_summary"]
    assert rejected == summary("error", "totals", None, None, None)


def test_the_last_sink_to_refuse_decides() -> None:
    """E11, E2: the failsink never had the row: it left from there, to nowhere."""
    found = story(lawful.refused_by_failsink_too(), "0")
    assert found["divert_summary"] == summary("sink_refused", "errors", None, None, None)
    assert [one["flow_type"] for one in found["routing"]] == ["divert"]


def test_a_row_that_is_on_its_way_to_the_error_sink_is_diverted_already() -> None:
    """E11, D8: before it has an outcome."""
    log = lawful.error_routed()
    found = story(log, "0", place(log, e.Diverted))
    assert found["outcome"] is None and found["divert_summary"]["to_sink"] == "errors"


@pytest.mark.parametrize(
    ("name", "token"),
    [("one_row", "0"), ("row_filtered", "0"), ("gate_chose", "1"), ("gate_failed", "0"), ("branch_lost", "0.a"),
     ("branch_lost", "0"), ("quorum_met", "0.d"), ("abandoned", "0"), ("all_arrived", "0+join")],
)
def test_a_token_that_never_left_the_normal_path_has_no_divert_summary(name: str, token: str) -> None:
    """E11: a filter, a gate's choice, a failure without a route, a failed group are no diverts."""
    assert story(LAWFUL[name](), token)["divert_summary"] is None


def test_each_routing_event_is_marked_as_normal_or_divert() -> None:
    """E11: with the ends and the label of its edge."""
    found = story(lawful_groups.branch_lost(), "0.c")["routing"]
    assert [(one["mode"], one["flow_type"], one["from_node"], one["to_node"], one["label"]) for one in found] == [
        ("move", "normal", "gate_c", "step_c", "go"), ("divert", "divert", "step_c", "errors", "__error_step_c__")]
    forks = story(lawful_groups.branch_lost(), "0")["routing"]
    assert {(one["mode"], one["flow_type"]) for one in forks} == {("copy", "normal")}
    assert [one["ordinal"] for one in forks] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "token", "expected"),
    [
        ("branch_lost", "0.a", ["0+join"]),
        ("branch_lost", "0.b", ["0+join"]),
        ("branch_lost", "0.c", ["0+join"]),
        ("branch_lost", "0", ["0+join"]),
        ("quorum_met", "0+join", ["0+join"]),
        ("quorum_met", "0.b", ["0+join"]),
        ("held", "0.b", ["0+join"]),
        ("nested_joins", "0.x", ["0.x+inner", "0+outer"]),
        ("nested_joins", "0.x.a", ["0.x+inner"]),
        ("nested_joins", "0.x+inner", ["0.x+inner", "0+outer"]),
        ("nested_joins", "0+outer", ["0+outer"]),
        ("nested_failure", "0.x", ["0.x+inner", "0+outer"]),
        ("nested_failure", "0.x.b", ["0.x+inner"]),
        ("two_groups_a_row", "0:1.a", ["0:1+join"]),
        ("two_groups_a_row", "0:1", ["0:1+join"]),
        ("gathered_late", "0:1", ["0+gather"]),
        ("gathered_quorum", "0:0", ["0+gather"]),
        ("one_row", "0", []),
        ("batch_totals", "totals@1:0", []),
    ],
)
def test_a_story_has_the_groups_that_wait_for_its_token_held_it_or_made_it(
    name: str, token: str, expected: list[str]
) -> None:
    """A4, A3: also a group that it came too late for, was lost to, or opened by its fork."""
    assert groups(LAWFUL[name](), token) == expected


def test_a_group_after_the_merge_is_not_one_of_the_branch_before_it() -> None:
    """A4, G6: the same branch names in two forks, one after the other: each carrier has its own group alone."""
    log = two_forks()
    assert groups(log, "0.a") == ["0+one"]
    assert groups(log, "0+one") == ["0+one", "0+one+two"]
    assert groups(log, "0+one.a") == groups(log, "0+one+two") == ["0+one+two"]


def two_forks() -> Log:
    """A row forked and joined twice, into branches of the same names."""
    draft = graphs.Draft().node(SOURCE, "source", on_error=DISCARD).node("fork_one", "gate", fork_to="ab")
    draft.node("one", "coalesce", coalesce=graphs.rule(2, gate="fork_one")).node("fork_two", "gate", fork_to="ab")
    draft.node("two", "coalesce", coalesce=graphs.rule(2, gate="fork_two")).node("out", "sink", on_error=DISCARD)
    draft.edge(SOURCE, "fork_one").edge("one", "fork_two").edge("two", "out")
    for branch in "ab":
        draft.edge("fork_one", "one", branch, "copy").edge("fork_two", "two", branch, "copy")
    log = Log(draft.graph())
    row = log.row()
    for token, name in (("0", "one"), ("0+one", "two")):
        group = f"{token}+{name}"
        log.say(forked(token, f"fork_{name}", "ab"), arrived(f"{token}.a", group), arrived(f"{token}.b", group))
        known = facts(group, "require_all", "ab", [("a", f"{token}.a", 0), ("b", f"{token}.b", 0)])
        log.say(merged(group, "all_arrived", known, row))
    return log.write("out", "0+one+two").exhaust().seal(forked=2, coalesced=4, completed=1)


def test_a_merged_token_that_is_lost_has_the_outer_group_in_its_story() -> None:
    """A4, E9: it carried the branch of the token that was forked."""
    outer = CoalesceRule(branches=("x", "y"), gate="outer_fork", policy="require_all", merge="union")
    draft = graphs.Draft().node(SOURCE, "source", on_error=DISCARD).node("outer_fork", "gate", fork_to=("x", "y"))
    draft.node("inner_fork", "gate", fork_to="ab").node("inner", "coalesce", coalesce=graphs.rule(2, gate="inner_fork"))
    draft.node("after", "transform", on_error=DISCARD).node("outer", "coalesce", coalesce=outer)
    draft.node("out", "sink", on_error=DISCARD).edge(SOURCE, "outer_fork").edge("outer", "out")
    draft.edge("outer_fork", "inner_fork", "x", "copy").edge("outer_fork", "outer", "y", "copy")
    draft.edge("inner_fork", "inner", "a", "copy").edge("inner_fork", "inner", "b", "copy")
    log = Log(draft.edge("inner", "after").edge("after", "outer").graph())
    row = log.row()
    log.say(forked("0", "outer_fork", "xy"), forked("0.x", "inner_fork", "ab"))
    log.say(arrived("0.x.a", "0.x+inner"), arrived("0.x.b", "0.x+inner"))
    known = facts("0.x+inner", "require_all", "ab", [("a", "0.x.a", 0), ("b", "0.x.b", 0)])
    log.say(merged("0.x+inner", "all_arrived", known, row), failed("0.x+inner", "after", row, None))
    log.say(diverted("0.x+inner", "after", DISCARD))
    log.say(e.BranchLost(token="0.x+inner", coalesce="outer", group="0+outer", branch="x", cause="discarded", node="after",
                         code="bad"))
    assert groups(log, "0.x+inner") == ["0.x+inner", "0+outer"]
    lost = story(log, "0.x+inner")["coalesce_groups"][1]
    assert (lost["status"], lost["branches_lost"]) == ("open", {"x": "discarded:after:bad"})


def test_a_failed_group_in_a_story_says_why_it_failed() -> None:
    """A4, A3: which branch was missing, which was lost and why, decoded."""
    (group,) = story(lawful_groups.branch_lost(), "0.a")["coalesce_groups"]
    assert (group["failure_reason"], group["branches_missing"]) == ("branch_lost:c", ["b"])
    assert group["branches_lost"] == {"c": "error_routed:step_c:bad"}
    context = story(lawful_groups.branch_lost(), "0.a")["node_states"][-1]["context"]
    assert (context["failure_reason"], context["branches_lost"]) == (group["failure_reason"], group["branches_lost"])


def test_a_story_as_of_an_event_knows_nothing_of_what_came_later() -> None:
    """F6, A4: what was known then."""
    log = lawful_groups.branch_lost()
    then = story(log, "0.a", place(log, e.BranchArrived))
    assert then["outcome"] is None and then["node_states"][-1]["status"] == "open"
    assert [(one["status"], one["branches_lost"]) for one in then["coalesce_groups"]] == [("open", {})]
    assert ids(story(lawful_groups.all_arrived(), "0", place(lawful_groups.all_arrived(), e.BranchArrived))["descendants"]
               ) == ["0.a", "0.b"]


def test_a_row_is_explained_by_its_number() -> None:
    """A4: its root's story; a number that there is not is said to be none."""
    with told(lawful_groups.branch_lost()) as found:
        by_row = explain_row(found.tables, found.store, found.run, 0)
        assert by_row == explain(found.tables, found.store, found.run, "0")
        for row in (1, -1):
            with pytest.raises(UsageError, match="ROW_UNKNOWN"):
                explain_row(found.tables, found.store, found.run, row)


@pytest.mark.parametrize("token", ["1", "0.z", "", "0' OR 1=1 --"])
def test_a_token_that_there_is_not_is_said_to_be_none(token: str) -> None:
    """A4: by name."""
    with pytest.raises(UsageError, match="TOKEN_UNKNOWN"):
        story(lawful.one_row(), token)


def test_erased_data_reads_erased() -> None:
    """A4: in the token's own row and in its source row."""
    with told(lawful.one_row()) as found:
        edit_payload(found.store, found.run, 2, Payload(2, None, None))
        answer = explain(found.tables, found.store, found.run, "0")
        assert answer["token"]["data"] == answer["source_row"]["data"] == "erased"


@pytest.mark.parametrize("name", LAWFUL)
def test_every_token_of_every_lawful_log_can_be_explained(name: str) -> None:
    """A4, E11: ancestors and descendants are each other's; the divert summary is there if the token left the path."""
    with told(LAWFUL[name]()) as found:
        tokens = [token for (token,) in found.told("tokens", "token_id")]
        stories = {token: explain(found.tables, found.store, found.run, token) for token in tokens}
        for token, one in stories.items():
            assert all(token in ids(stories[other]["descendants"]) for other in ids(one["ancestors"]))
            assert all(token in ids(stories[other]["ancestors"]) for other in ids(one["descendants"]))
            left = any(way["flow_type"] == "divert" for way in one["routing"])
            discarded = one["outcome"] is not None and one["outcome"]["outcome"] in ("quarantined", "diverted")
            assert (one["divert_summary"] is not None) == (left or discarded)


def pending(log: Log, until: int | None = None) -> list[dict[str, Any]]:
    """What is waiting."""
    with told(log, until) as found:
        return answers.pending(found.tables, found.store, found.run)


def test_pending_lists_a_group_with_who_is_missing_who_is_lost_and_who_has_come() -> None:
    """D8: and since when."""
    log = lawful_groups.quorum_still_possible()
    seq = place(log, e.BranchLost)
    group = next(one for one in pending(log, seq) if one["kind"] == "coalesce_group")
    assert group == {"run_id": log.run, "kind": "coalesce_group", "what": "0+join", "node": "join", "waits_for": ["c"],
                     "has": ["a"], "lost": {"b": "filtered:step_b"}, "policy": "quorum",
                     "since_seq": place(log, e.BranchArrived), "since": "2026-09-21T14:13:20.000000Z"}


def test_pending_lists_batches_writes_attempts_and_tokens_between_two_steps() -> None:
    """D8: whatever is open is in the list once."""
    def brief(log: Log, until: int | None = None) -> list[tuple[object, ...]]:
        return [(one["kind"], one["what"], one["node"], one["has"], one["since_seq"]) for one in pending(log, until)]

    log = lawful_many.batch_open()
    assert brief(log) == [("batch", "totals@1", "totals", 1, place(log, e.TokenBuffered))]
    log = lawful.write_repeated()
    seq = place(log, e.SinkWriteIntended)
    assert brief(log, seq) == [("sink_write", "hand-made/out/1", "out", 1, seq)]
    assert brief(log, seq + 1) == [("token", "0", "out", None, seq + 1)]
    log = lawful.effect_retried()
    begins = place(log, e.StepStarted, 2)
    assert brief(log, begins) == [("attempt", "0", "step", 2, begins)]
    assert brief(log, begins - 1) == [("token", "0", "step", 1, place(log, e.StepFailed))]
    log = lawful.left_open()
    assert brief(log) == [("token", "1", "step", None, place(log, e.StepCompleted, 2)),
                          ("token", "2", "source", None, place(log, e.RowRead, 3))]


@pytest.mark.parametrize(
    ("name", "event", "token", "node"),
    [("held", e.TokenForked, "0.b", "fork"), ("gathered_all", e.TokenExpanded, "0:1", "split"),
     ("nested_joins", e.TokensCoalesced, "0.x+inner", "inner"), ("batch_totals", e.BatchFlushed, "totals@1:0", "totals")],
)
def test_a_token_that_was_only_just_made_waits_since_its_birth(
    name: str, event: type[e.Event], token: str, node: str
) -> None:
    """D8: after the node that made it."""
    log = LAWFUL[name]()
    seq = place(log, event)
    assert ("token", token, node, seq) in [(one["kind"], one["what"], one["node"], one["since_seq"])
                                           for one in pending(log, seq)]


@pytest.mark.parametrize("name", LAWFUL)
def test_pending_accounts_for_every_open_token_and_nothing_else(name: str) -> None:
    """D8: at every event; at the seal there is nothing."""
    log = LAWFUL[name]()
    for seq in range(1, len(log.said) + 1):
        with told(log, seq) as found:
            open_tokens = {row["token_id"] for row in answers.tokens(found.tables, found.run, "open")}
            waiting = answers.pending(found.tables, found.store, found.run)
            alone = [one["what"] for one in waiting if one["kind"] in ("token", "attempt")]
            held = [token for (token,) in found.told(
                "node_states", "token_id", "status = 'open' AND node_id IN (SELECT node_id FROM nodes WHERE kind IN "
                "('coalesce', 'aggregation', 'sink'))")]
            assert sorted([*alone, *held]) == sorted(open_tokens)
            assert all(one["since"] and one["node"] for one in waiting)
    assert (pending(log) == []) == (name not in lawful_many.UNSEALED)


def test_tokens_are_filtered_by_outcome_and_by_the_nodes_they_were_at() -> None:
    """F6: in the order of their birth."""
    with told(lawful_groups.branch_lost()) as found:
        def tokens(outcome: str | None = None, node: str | None = None) -> list[str]:
            return [row["token_id"] for row in answers.tokens(found.tables, found.run, outcome, node)]

        assert tokens() == ["0", "0.a", "0.b", "0.c"]
        assert tokens("failed") == ["0.a", "0.b"] and tokens("open") == []
        assert tokens(node="step_c") == ["0.c"] and tokens(node="join") == ["0.a", "0.b"]
        assert tokens("failed", "step_b") == ["0.b"] and tokens("routed", "join") == []
        assert tokens("nonsense") == []


def test_a_run_shows_its_fates_its_joins_and_its_sinks() -> None:
    """F6: with how many tokens are open."""
    with told(lawful_groups.branch_lost()) as found:
        shown = answers.show(found.tables, found.run)
        assert {(one["outcome"], one["sink_name"]): one["tokens"] for one in shown["outcomes"]} == {
            ("forked", None): 1, ("failed", None): 2, ("routed", "errors"): 1}
        assert [(one["coalesce"], one["failure_reason"], one["groups"]) for one in shown["coalesces"]] == [
            ("join", "branch_lost:c", 1)]
        assert [(one["sink"], one["writes"], one["tokens"]) for one in shown["sinks"]] == [("errors", 1, 1)]
        assert (shown["open_tokens"], shown["complete"], shown["violations"]) == (0, True, [])
    with told(lawful.left_open()) as found:
        assert answers.show(found.tables, found.run)["open_tokens"] == 2
        assert [one["run_id"] for one in answers.runs(found.tables)] == [found.run]
