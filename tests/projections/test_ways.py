"""Routing events, outcomes, tokens and rows, case by case."""

from __future__ import annotations

import pytest

from ledger import events as e
from ledger.graph import DISCARD
from tests.kit import graphs
from tests.kit.log import Log, diverted, failed
from tests.ledger import lawful, lawful_groups, lawful_many
from tests.ledger.folding import place
from tests.ledger.lawful_many import LAWFUL
from tests.projections.reading import told

OUTCOME = "token_id, outcome, sink_name, reason"


def outcomes(log: Log, columns: str = OUTCOME, where: str = "") -> list[tuple[object, ...]]:
    """The outcomes, by token."""
    with told(log) as found:
        return found.told("token_outcomes", columns, where, "token_id")


def routing(log: Log, columns: str) -> list[tuple[object, ...]]:
    """The routing events, in log order."""
    with told(log) as found:
        return found.told("routing_events", columns, order="seq, ordinal")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one_row", ("0", "completed", "out", None)),
        ("error_routed", ("0", "routed", "errors", "bad: no good")),
        ("error_discarded", ("0", "quarantined", None, "bad: no good")),
        ("row_quarantined", ("0", "quarantined", "errors", "ragged: bad row")),
        ("row_discarded", ("0", "quarantined", None, "ragged: bad row")),
        ("refused_to_failsink", ("1", "diverted", "errors", "refused: too long")),
        ("refused_by_failsink_too", ("0", "diverted", None, "refused_again")),
        ("row_filtered", ("0", "dropped_by_filter", None, None)),
        ("gate_failed", ("0", "failed", None, "bad: no such column")),
        ("gate_chose", ("1", "routed", "side", None)),
        ("abandoned", ("0", "failed", None, "abandoned: the customer left")),
        ("branch_lost", ("0.a", "failed", None, "branch_lost:c")),
        ("branch_lost", ("0.b", "failed", None, "branch_lost:c")),
        ("branch_lost", ("0.c", "routed", "errors", "bad: no good")),
        ("quorum_impossible", ("0.a", "failed", None, "quorum_impossible:need=2,max_possible=1")),
        ("quorum_timed_out", ("0.b", "failed", None, "quorum_not_met_at_timeout")),
        ("collided", ("0.a", "failed", None, "union_collision")),
        ("abandoned_while_held", ("0.b", "failed", None, "abandoned")),
        ("batch_rejected", ("1", "routed", "errors", "negative: negative")),
        ("batch_rejected", ("2", "dropped_by_filter", None, None)),
        ("batch_passed_through", ("1", "quarantined", None, "negative")),
        ("batch_timed_out", ("2", "routed", "errors", "bad_batch: no again")),
    ],
)
def test_an_outcome_says_what_where_and_why(name: str, expected: tuple[object, ...]) -> None:
    """E1, E2, A3, G5: the sink that has the row, if any has; the reason, wherever the row left the normal path."""
    assert expected in outcomes(LAWFUL[name]())


def test_the_error_of_an_outcome_is_the_payload_that_the_failure_introduced() -> None:
    """E2, E6: `error_hash` is its commitment; a reason without a text has none."""
    log = lawful.error_discarded()
    error = next(event.error for event in log.said if isinstance(event, e.StepFailed))
    assert error is not None and outcomes(log, "error_hash") == [(error.sha256,)]
    assert outcomes(lawful.refused_by_failsink_too(), "error_hash") == [(None,)]


def test_a_row_given_up_on_its_way_to_the_error_sink_ends_as_abandoned() -> None:
    """E1: what ended it is its reason; what had made it leave stands in its routing event."""
    log = Log(graphs.linear(attempts_max=1))
    row, error = log.row(), log.keep("no good")
    log.say(failed("0", "step", row, error), diverted("0", "step", "errors", edge=lawful.ERROR_EDGE, reason=error.n))
    log.interrupt().resume().say(e.TokensAbandoned(tokens=("0",), code="abandoned")).seal(status="failed", failed=1)
    assert outcomes(log) == [("0", "failed", None, "abandoned")]
    assert routing(log, "mode, reason") == [("divert", "bad: no good")]


def test_consumed_tokens_carry_the_join_group_and_the_merged_token_its_own_outcome() -> None:
    """B1, law C1: in nested joins the inner merged token is consumed by the outer one, under that group."""
    assert outcomes(lawful_groups.nested_joins(), "token_id, outcome, join_group_id, sink_name") == [
        ("0", "forked", None, None), ("0+outer", "completed", None, "out"),
        ("0.x", "forked", None, None), ("0.x+inner", "coalesced", "0+outer", None),
        ("0.x.a", "coalesced", "0.x+inner", None), ("0.x.b", "coalesced", "0.x+inner", None),
        ("0.y", "coalesced", "0+outer", None)]


def test_the_parent_of_a_fork_ends_forked_in_the_event_that_made_its_children() -> None:
    """B3: one group id on the parent's outcome, on its children and on their routing events."""
    log = lawful_groups.all_arrived()
    seq = place(log, e.TokenForked)
    assert outcomes(log, "token_id, outcome, fork_group_id, seq", "outcome = 'forked'") == [("0", "forked", "0/fork", seq)]
    with told(log) as found:
        children = found.told("tokens", "token_id, branch_name, fork_group_id, seq", "fork_group_id IS NOT NULL", "token_id")
        assert children == [
            ("0.a", "a", "0/fork", seq), ("0.b", "b", "0/fork", seq)]
    assert routing(log, "seq, ordinal, token_id, node_id, edge_id, mode, routing_group_id")[:2] == [
        (seq, 0, "0", "fork", "fork:a", "copy", "0/fork"), (seq, 1, "0", "fork", "fork:b", "copy", "0/fork")]


def test_an_expanded_token_and_its_children_share_a_group() -> None:
    """F2: an empty expansion that nothing gathers is a filter."""
    log = lawful.row_expanded()
    assert outcomes(log, "token_id, outcome, expand_group_id", "token_id IN ('0', '1')") == [
        ("0", "expanded", "0/step"), ("1", "dropped_by_filter", None)]
    with told(log) as found:
        assert found.told("tokens", "token_id, row_index, expand_group_id", "expand_group_id IS NOT NULL", "token_id") == [
            (f"0:{ordinal}", 0, "0/step") for ordinal in range(3)]


def test_a_merged_token_stands_on_the_branch_of_its_ancestor() -> None:
    """B2, G6: the inner one on branch x, the outer one on none; both name the group that made them."""
    with told(lawful_groups.nested_joins()) as found:
        assert found.told("tokens", "token_id, branch_name, join_group_id, row_index", "join_group_id IS NOT NULL",
                          "token_id") == [("0+outer", None, "0+outer", 0), ("0.x+inner", "x", "0.x+inner", 0)]
        assert found.told("token_parents", "parent_token_id", "token_id = '0.x+inner'", "ordinal") == [
            ("0.x.b",), ("0.x.a",)]


def test_the_merged_token_of_an_empty_gather_descends_from_the_expanded_one() -> None:
    """law C1: nobody was consumed, so the expanded token is its parent."""
    with told(lawful_many.gathered_none()) as found:
        assert found.told("token_parents", "token_id, parent_token_id, ordinal") == [("0+gather", "0", 0)]


def test_a_batchs_members_and_outputs_name_it() -> None:
    """F2, F6: outputs have no row; their parents are the members they name, never a rejected one."""
    log = lawful_many.batch_rejected()
    assert outcomes(log, "token_id, outcome, batch_id", "outcome = 'consumed_in_batch'") == [
        ("0", "consumed_in_batch", "totals@1"), ("3", "consumed_in_batch", "totals@1")]
    with told(log) as found:
        assert found.told("tokens", "token_id, row_index, batch_id", "batch_id IS NOT NULL", "token_id") == [
            ("totals@1:0", None, "totals@1"), ("totals@1:1", None, "totals@1")]
        assert found.told("token_parents", "token_id, parent_token_id", order="token_id, ordinal") == [
            ("totals@1:0", "0"), ("totals@1:0", "3"), ("totals@1:1", "3")]


def test_a_quarantined_row_has_a_divert_from_the_sources_state() -> None:
    """E5: on `__quarantine__`, with the reason."""
    log = lawful.row_quarantined()
    seq = place(log, e.Diverted)
    assert routing(log, "seq, token_id, node_id, edge_id, mode, routing_group_id, reason") == [
        (seq, "0", "source", lawful.QUARANTINE_EDGE, "divert", None, "ragged: bad row")]


def test_a_discarded_source_row_keeps_its_row_its_token_its_reason_and_its_end() -> None:
    """E6, E2: and has no routing event."""
    log = lawful.row_discarded()
    with told(log) as found:
        assert found.told("rows", "row_index, token_id, valid, source_position") == [(0, "0", 0, 0)]
        assert found.told("tokens", "token_id, row_index") == [("0", 0)]
        assert found.rows("routing_events") == []
    assert outcomes(log) == [("0", "quarantined", None, "ragged: bad row")]


@pytest.mark.parametrize(
    ("name", "node", "edge"),
    [
        ("error_routed", "step", lawful.ERROR_EDGE),
        ("process_died_thrice", "step", lawful.ERROR_EDGE),
        ("refused_to_failsink", "out", lawful.FAILSINK_EDGE),
        ("batch_rejected", "totals", lawful_many.TOTALS_EDGE),
        ("batch_timed_out", "totals", lawful_many.TOTALS_EDGE),
        ("branch_lost", "step_c", "step_c:__error_step_c__"),
    ],
)
def test_each_way_to_fail_with_a_route_has_a_divert_at_its_own_state(name: str, node: str, edge: str) -> None:
    """E1: one routing event on the edge of the node that failed, whose state is failed or abandoned."""
    log = LAWFUL[name]()
    with told(log) as found:
        one = found.one("routing_events", where="mode = 'divert'")
        assert (one["node_id"], one["edge_id"], one["seq"]) == (node, edge, place(log, e.Diverted))
        last = found.told("node_states", "status", f"token_id = '{one['token_id']}' AND node_id = '{node}'",
                          "opened_seq DESC")[0]
        assert last in (("failed",), ("abandoned",))


def test_a_discard_leaves_no_routing_event() -> None:
    """E2, law R1: only an outcome and a reason."""
    for name in ("error_discarded", "row_discarded", "batch_passed_through"):
        assert routing(LAWFUL[name](), "edge_id") == []
    assert routing(lawful.refused_by_failsink_too(), "edge_id") == [(lawful.FAILSINK_EDGE,)]


def test_a_routes_event_has_the_edge_and_no_group() -> None:
    """law R2: one each, whether the gate sends the row on or to a sink."""
    assert routing(lawful.gate_chose(), "token_id, edge_id, mode, routing_group_id, reason, reason_hash") == [
        ("0", "gate:go", "move", None, None, None), ("1", "gate:away", "move", None, None, None)]


def test_nodes_and_edges_are_those_of_the_graph() -> None:
    """F2: with steps counted from the source, and the labels that have a meaning."""
    with told(lawful.one_row()) as found:
        assert found.told("nodes", "node_id, name, kind, plugin, step", order="step") == [
            ("source", "source", "source", "source", 0), ("step", "step", "transform", "transform", 1),
            ("out", "out", "sink", "sink", 2), ("errors", "errors", "sink", "sink", 3)]
        assert found.told("edges", "from_node, to_node, label, mode, flow_type", order="label, from_node") == [
            ("step", "errors", "__error_step__", "divert", "divert"), ("out", "errors", "__failsink__", "divert", "divert"),
            ("source", "errors", "__quarantine__", "divert", "divert"), ("source", "step", "continue", "move", "normal"),
            ("step", "out", "continue", "move", "normal")]


def test_a_rows_key_is_its_text() -> None:
    """F6: a row can be found by the key that its source names, across runs."""
    log = Log(graphs.linear(on_error=DISCARD))
    for key in ("order-7", 7):
        data, kept = log.keep({"id": key}), log.keep(key)
        log.say(e.RowRead(token=str(log.rows), row=log.rows, valid=True, position=log.rows, data=data, key=kept))
        log.rows += 1
    with told(log) as found:
        assert found.told("rows", "row_index, source_key", order="row_index") == [(0, "order-7"), (1, "7")]


@pytest.mark.parametrize("later", [0, 1, 70])
def test_the_children_of_a_long_expansion_have_the_hashes_that_its_list_commits_to(later: int) -> None:
    """F2: a list that stands in a payload tells the same as one in the body."""
    log = Log(graphs.linear(expands=True))
    row = log.row()
    children = [log.keep({"part": 0}), log.keep({"part": 1})]
    listed = log.keep(children)
    log.say(e.TokenExpanded(token="0", node="step", attempt=1, input=row, count=2, outputs=None, outputs_list=listed,
                            duration_us=1))
    for _ in range(later):
        log.row()
    with told(log) as found:
        hashes = dict(found.told("tokens", "token_id, data_hash"))
        assert [hashes["0:0"], hashes["0:1"]] == [child.sha256 for child in children]
        assert [hashes[str(row)] for row in range(later + 1)] == [
            event.data.sha256 for event in log.said if isinstance(event, e.RowRead)]
