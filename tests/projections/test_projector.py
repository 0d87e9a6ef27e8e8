"""What the projector makes of every lawful log there is: rows that agree with the log, and cite it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
import pytest

from ledger import events as e
from ledger.fold import APPLY
from projections.projector import RunProjector
from tests.ledger.folding import ends, said, steps
from tests.ledger.lawful_many import LAWFUL, UNSEALED
from tests.projections.reading import event_at, told

SEALED = [name for name in LAWFUL if name not in UNSEALED]

STEP_ENDS = (e.StepCompleted, e.StepFailed, e.StepAbandoned, e.TokenFiltered, e.TokenExpanded, e.TokensAbandoned)
RESOLVED = (e.TokensCoalesced, e.CoalesceFailed, e.BranchArrivedLate)
FLUSHED = (e.BatchFlushed, e.BatchFailed, e.BatchAbandoned)
WRITTEN = (e.SinkWriteConfirmed, e.SinkWriteFailed)

OPENS: Mapping[str, tuple[type[e.Event], ...]] = {
    "source": (e.RowRead,),
    "transform": (e.StepStarted, *STEP_ENDS),
    "gate": (e.StepStarted, e.Routed, e.TokenForked, e.StepFailed),
    "coalesce": (e.BranchArrived, e.BranchArrivedLate),
    "aggregation": (e.TokenBuffered,),
    "sink": (e.SinkWriteIntended,),
}
CLOSES: Mapping[str, tuple[type[e.Event], ...]] = {
    "source": (e.RowRead,),
    "transform": STEP_ENDS,
    "gate": (e.Routed, e.TokenForked, e.StepFailed),
    "coalesce": RESOLVED,
    "aggregation": FLUSHED,
    "sink": WRITTEN,
}
"""By the kind of its node: the events that may open a state, and those that may close it."""

ROUTES = (e.Routed, e.TokenForked, e.Diverted)


def test_the_projector_handles_exactly_the_events_that_the_fold_does() -> None:
    """F2: an event that the fold knows and the projector does not would vanish from the read tables."""
    assert set(RunProjector("any")._handlers) == set(APPLY)


def test_every_event_of_a_run_is_in_some_lawful_log() -> None:
    """F2: so each handler is run by the tests below."""
    assert {type(event) for build in LAWFUL.values() for event in build().said} == set(APPLY)


@pytest.mark.parametrize("name", LAWFUL)
def test_each_ended_token_has_one_outcome_and_no_other_has_any(name: str) -> None:
    """B1, F3, law T1: one row a token, the outcome that the fold gave, at the event that ended it."""
    log = LAWFUL[name]()
    ended = {token: event.seq for event, _, tokens in steps(log) for token, _ in tokens}
    with told(log) as found:
        outcomes = found.told("token_outcomes", "token_id, outcome, seq")
        assert len(outcomes) == len(ended)
        assert {token: outcome for token, outcome, _ in outcomes} == ends(log)
        assert {token: seq for token, _, seq in outcomes} == ended


@pytest.mark.parametrize("name", SEALED)
def test_a_sealed_runs_own_row_and_its_outcomes_say_what_the_seal_says(name: str) -> None:
    """F3: counts of rows, tokens, late arrivals and of each outcome; the root is that of the whole stream."""
    log = LAWFUL[name]()
    seal = said(log, e.RunSealed)[0]
    with told(log) as found:
        run = found.one("runs")
        assert (run["status"], run["rows_read"], run["tokens"]) == (seal.status, seal.rows, seal.tokens)
        assert (run["late_arrivals"], run["events"], run["unreadable_from_seq"]) == (seal.late_arrivals, len(log.said), None)
        head = found.store.head(log.run)
        assert head is not None and run["root"] == head.root.hex() and run["sealed_at"] is not None
        assert Counter(one for (one,) in found.told("token_outcomes", "outcome")) == seal.outcomes
        assert found.rows("violations") == []


@pytest.mark.parametrize("name", SEALED)
def test_a_sealed_run_has_nothing_open(name: str) -> None:
    """A1, C2: no state, group, batch or write without its end."""
    with told(LAWFUL[name]()) as found:
        assert found.rows("node_states", where="status = 'open' OR closed_seq IS NULL") == []
        assert found.rows("coalesce_groups", where="status = 'open' OR closed_seq IS NULL") == []
        assert found.rows("batches", where="status = 'open' OR closed_seq IS NULL") == []
        assert found.rows("sink_writes", where="status = 'intended'") == []


@pytest.mark.parametrize("name", LAWFUL)
def test_each_state_opens_and_closes_by_the_events_of_its_kind_of_node(name: str) -> None:
    """F2: a gate by its choice, a held token by its group's resolution, a member by the flush, a sink by confirmation."""
    log = LAWFUL[name]()
    with told(log) as found:
        kinds = dict(found.told("nodes", "node_id, kind"))
        states = found.rows("node_states")
        assert states or not said(log, e.RowRead)
        for state in states:
            kind = kinds[state["node_id"]]
            assert isinstance(event_at(log, state["opened_seq"]), OPENS[kind]), state
            assert (state["closed_seq"] is None) == (state["status"] == "open"), state
            if state["closed_seq"] is not None:
                assert isinstance(event_at(log, state["closed_seq"]), (*CLOSES[kind], e.TokensAbandoned)), state
                assert state["closed_seq"] >= state["opened_seq"] and state["duration_ms"] >= 0, state


@pytest.mark.parametrize("name", LAWFUL)
def test_each_source_row_has_one_step_0_and_no_other_token_has_one(name: str) -> None:
    """E4, law T4: the source's state is step 0, at the token that the row made, in the event that read it."""
    log = LAWFUL[name]()
    with told(log) as found:
        read = [(event.token, event.seq) for event in log.stamped() if isinstance(event, e.RowRead)]
        firsts = found.told("node_states", "token_id, opened_seq", "step_index = 0", "opened_seq")
        assert firsts == read
        assert found.told("rows", "token_id, seq", order="row_index") == read
        assert found.told("node_states", "DISTINCT node_id", "step_index = 0") == ([("source",)] if read else [])


@pytest.mark.parametrize("name", LAWFUL)
def test_routing_events_are_one_a_route_one_a_branch_and_one_a_divert_with_an_edge(name: str) -> None:
    """E1, E2, law R1: and none for `continue`, none for a discard; each uses an edge from the node of its state."""
    log = LAWFUL[name]()
    expected: list[tuple[int, str, str]] = []
    for event in log.stamped():
        if isinstance(event, e.Routed):
            expected.append((event.seq, event.edge, "move"))
        elif isinstance(event, e.TokenForked):
            expected += [(event.seq, f"{event.node}:{branch}", "copy") for branch in event.branches]
        elif isinstance(event, e.Diverted) and event.edge is not None:
            expected.append((event.seq, event.edge, "divert"))
    with told(log) as found:
        assert found.told("routing_events", "seq, edge_id, mode", order="seq, ordinal") == expected
        edges = {row["edge_id"]: row for row in found.rows("edges")}
        for one in found.rows("routing_events"):
            edge = edges[one["edge_id"]]
            assert (edge["from_node"], edge["mode"]) == (one["node_id"], one["mode"]), one
            assert (edge["flow_type"] == "divert") == (edge["mode"] == "divert")
            assert isinstance(event_at(log, one["seq"]), ROUTES)
            held = f"token_id = '{one['token_id']}' AND node_id = '{one['node_id']}' AND closed_seq <= {one['seq']}"
            assert found.rows("node_states", where=held), one


@pytest.mark.parametrize("name", LAWFUL)
def test_tokens_and_parents_are_those_that_the_events_made(name: str) -> None:
    """B3, law T5, law C1: every token in the event that made it; every one but a root has parents, born before it."""
    log = LAWFUL[name]()
    with told(log) as found:
        tokens = dict(found.told("tokens", "token_id, seq"))
        assert tokens == {token: event.seq for event, made, _ in steps(log) for token in made}
        roots = {token for (token,) in found.told("rows", "token_id")}
        parents: dict[str, list[str]] = {}
        for token, parent, ordinal in found.told("token_parents", "token_id, parent_token_id, ordinal",
                                                 order="token_id, ordinal"):
            assert ordinal == len(parents.setdefault(token, []))
            parents[token].append(parent)
            assert tokens[parent] < tokens[token]
        assert set(parents) == set(tokens) - roots


@pytest.mark.parametrize("name", LAWFUL)
def test_each_group_is_what_its_resolution_recorded(name: str) -> None:
    """A3, D7, E10, law C3: arrived, lost and missing are the expected, in declared order; the facts are the event's."""
    log = LAWFUL[name]()
    resolved = {event.group: event for event in log.stamped()
                if isinstance(event, (e.TokensCoalesced, e.CoalesceFailed)) and event.facts}
    with told(log) as found:
        groups = found.rows("coalesce_groups")
        assert {group["group_id"] for group in groups if group["status"] != "open"} == set(resolved)
        for group in groups:
            expected, arrived, missing = (
                msgspec.json.decode(group[column])
                for column in ("expected_branches", "branches_arrived", "branches_missing"))
            lost = msgspec.json.decode(group["branches_lost"])
            assert sorted([*arrived, *lost, *missing]) == sorted(expected), group
            assert [one for one in expected if one in arrived] == arrived
            assert [one for one in expected if one in missing] == missing
            event = resolved.get(group["group_id"])
            if event is not None:
                assert_as_recorded(group, event)


def assert_as_recorded(group: Mapping[str, object], event: e.TokensCoalesced | e.CoalesceFailed) -> None:
    """The row says what its resolution says."""
    known = event.facts
    assert known is not None
    merged = isinstance(event, e.TokensCoalesced)
    assert (group["status"], group["trigger"], group["closed_seq"]) == ("merged" if merged else "failed", event.trigger,
                                                                        event.seq)
    assert group["failure_reason"] == (None if isinstance(event, e.TokensCoalesced) else event.reason)
    assert group["merged_token_id"] == (event.group if merged else None)
    assert (group["policy"], group["merge_strategy"]) == (known.policy, known.merge_strategy)
    assert group["wait_duration_ms"] == known.wait_duration_ms
    texts = {name: msgspec.json.decode(str(group[name])) for name in ("arrival_order", "branches_lost", "collisions")}
    assert texts["arrival_order"] == [{"branch": one.branch, "offset_ms": one.offset_ms} for one in known.arrival_order]
    assert texts["branches_lost"] == {one.branch: one.reason for one in known.branches_lost}
    assert texts["collisions"] == {field: list(branches) for field, branches in event.collisions.items()}


@pytest.mark.parametrize("name", LAWFUL)
def test_a_held_tokens_context_is_its_group_under_the_same_names(name: str) -> None:
    """D7, A3: whoever looks at the held token's state sees why it went on or failed, without another table."""
    with told(LAWFUL[name]()) as found:
        groups = {row["group_id"]: row for row in found.rows("coalesce_groups")}
        coalesces = {node for (node,) in found.told("nodes", "node_id", "kind = 'coalesce'")}
        json_columns = {"expected_branches", "branches_arrived", "branches_lost", "branches_missing", "arrival_order",
                        "collisions"}
        for state in found.rows("node_states"):
            if state["node_id"] not in coalesces:
                assert state["context"] is None, state
                continue
            context = msgspec.json.decode(state["context"])
            group = groups[context["group_id"]]
            for name, value in context.items():
                assert value == (msgspec.json.decode(group[name]) if name in json_columns else group[name])
            unsaid = set(group) - set(context)
            assert unsaid == {"run_id", "row_index", "opened_seq", "closed_seq"}


@pytest.mark.parametrize("name", LAWFUL)
def test_hashes_are_the_commitments_of_the_log(name: str) -> None:
    """F2: a hash in a row is one that an event committed to."""
    log = LAWFUL[name]()
    committed = {one.sha256 for event in log.said for one in commitments(event)}
    columns = {"rows": ("data_hash",), "tokens": ("data_hash",), "node_states": ("input_hash", "output_hash"),
               "routing_events": ("reason_hash",), "token_outcomes": ("error_hash",),
               "calls": ("request_hash", "response_hash")}
    with told(log) as found:
        for view, names in columns.items():
            for row in found.rows(view, ", ".join(names)):
                assert {value for value in row.values() if value is not None} <= committed, (view, row)


def commitments(event: object) -> list[e.Commitment]:
    """Every commitment anywhere in an event."""
    if isinstance(event, e.Commitment):
        return [event]
    if isinstance(event, (list, tuple)):
        return [one for part in event for one in commitments(part)]
    if isinstance(event, msgspec.Struct):
        return [one for field in event.__struct_fields__ for one in commitments(getattr(event, field))]
    return []
