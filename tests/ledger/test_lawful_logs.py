"""Lawful logs fold to a lawful verdict; those without a join show what a fold makes of rows, steps, diverts and sinks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import events as e
from ledger import ids, verify
from ledger.fold.state import OwedDivert, Stage
from ledger.graph import SOURCE
from ledger.replay import Replayed, replay
from ledger.sqlite_store import SqliteStore
from tests.kit.log import Log
from tests.ledger import lawful, lawful_many
from tests.ledger.files import written
from tests.ledger.folding import before, ends, fold, said, steps
from tests.ledger.lawful_many import LAWFUL, UNSEALED


def replayed(log: Log) -> Replayed:
    """The deep replay of a log, as it was stored."""
    return replay(log.store(), log.run, deep=True)


@pytest.mark.parametrize("name", [name for name in LAWFUL if name not in UNSEALED])
def test_a_lawful_log_replays_to_a_sealed_verdict_with_nothing_open(name: str) -> None:
    """F3, F4, C2: one terminal state per token, no group open, and the counts are those that the seal states."""
    log = LAWFUL[name]()
    verdict, state = replayed(log)
    assert verdict.findings == [] and verdict.lawful and verdict.sealed
    assert (verdict.open_tokens, verdict.open_groups, verdict.events) == (0, 0, len(log.said))
    seal = said(log, e.RunSealed)[0]
    assert (verdict.outcomes, verdict.rows, verdict.tokens) == (seal.outcomes, seal.rows, seal.tokens)
    assert (verdict.status, verdict.late_arrivals, verdict.unverifiable) == (seal.status, seal.late_arrivals, 0)
    assert len(ends(log)) == seal.tokens and not state.owed


@pytest.mark.parametrize("name", sorted(UNSEALED))
def test_a_log_that_stopped_with_work_open_is_lawful_and_not_sealed(name: str) -> None:
    """F3, D8: what is open is counted; an interrupted run is no broken one."""
    verdict, state = replayed(LAWFUL[name]())
    assert verdict.lawful and not verdict.sealed and verdict.status == "interrupted"
    assert verdict.open_tokens == sum(token.outcome is None for token in state.tokens.values()) > 0
    assert verdict.open_groups == sum(group.status == "open" for group in state.groups.values())


@pytest.mark.parametrize("name", LAWFUL)
def test_a_lawful_log_holds_byte_for_byte(name: str, tmp_path: Path) -> None:
    """L6, law L5: columns, bodies, payloads, tree, seal and the ledger's own stream agree in a file as written."""
    log = LAWFUL[name]()
    store = SqliteStore(written(tmp_path, log), write=False)
    try:
        assert [str(fault) for fault in verify.integrity(store, log.run)] == []
        assert [str(fault) for fault in verify.integrity(store, ids.LEDGER_STREAM)] == []
        assert verify.guards(store) == []
    finally:
        store.close()


@pytest.mark.parametrize("name", LAWFUL)
def test_a_log_can_be_replayed_as_of_any_event(name: str) -> None:
    """F4, F6: up to every seq it is lawful, and tells what was known there."""
    log = LAWFUL[name]()
    store = log.store()
    for seq in range(1, len(log.said) + 1):
        verdict = replay(store, log.run, until_seq=seq, deep=True).verdict
        assert verdict.lawful and verdict.events == seq
        assert verdict.sealed == (name not in UNSEALED and seq == len(log.said))


def test_a_log_can_be_replayed_as_of_a_time() -> None:
    """F6: nothing that happened later is known."""
    log = lawful.effect_retried()
    first = log.stamped()[0]
    verdict = replay(log.store(), log.run, until_at=first.at).verdict
    assert verdict.lawful and verdict.events == max(event.seq for event in log.stamped() if event.at == first.at)
    assert verdict.open_tokens == 1 and not verdict.sealed


def owed_divert(log: Log) -> OwedDivert:
    """The divert that the log owes just before its first `Diverted`."""
    owed = before(log, e.Diverted).owed[0]
    assert isinstance(owed, OwedDivert)
    return owed


@pytest.mark.parametrize(
    ("name", "node", "edge", "to", "outcome"),
    [
        ("error_routed", "step", lawful.ERROR_EDGE, "errors", "routed"),
        ("process_died_thrice", "step", lawful.ERROR_EDGE, "errors", "routed"),
        ("refused_to_failsink", "out", lawful.FAILSINK_EDGE, "errors", "diverted"),
        ("row_quarantined", SOURCE, lawful.QUARANTINE_EDGE, "errors", "quarantined"),
        ("batch_rejected", "totals", lawful_many.TOTALS_EDGE, "errors", "routed"),
        ("batch_timed_out", "totals", lawful_many.TOTALS_EDGE, "errors", "routed"),
    ],
)
def test_each_way_to_fail_with_a_route_owes_a_divert_by_its_own_edge(
    name: str, node: str, edge: str, to: str, outcome: str
) -> None:
    """E1, E5, law R1: the divert leaves the node that holds the state, by the edge the graph has; then a sink ends it."""
    log = LAWFUL[name]()
    owed = owed_divert(log)
    assert (owed.node, owed.edge, owed.to) == (node, edge, to)
    assert (owed.token.stage, owed.token.node) == (Stage.FAILED, node)
    assert ends(log)[owed.token.id] == outcome


@pytest.mark.parametrize(
    ("name", "outcome"),
    [("error_discarded", "quarantined"), ("row_discarded", "quarantined"), ("batch_passed_through", "quarantined")],
)
def test_a_discard_has_a_reason_and_an_end_and_no_edge(name: str, outcome: str) -> None:
    """E2, law R1: no routing event, but an outcome and a reason, in the event of the discard itself."""
    log = LAWFUL[name]()
    owed = owed_divert(log)
    assert (owed.edge, owed.to) == (None, "discard") and owed.code
    assert [ended for event, _, ended in steps(log) if isinstance(event, e.Diverted)] == [[(owed.token.id, outcome)]]


def test_a_discarded_source_row_keeps_its_row_its_token_its_reason_and_its_end() -> None:
    """E6, law T3: it is counted like any other row."""
    log = lawful.row_discarded()
    verdict, state = replayed(log)
    assert (verdict.rows, verdict.tokens, verdict.outcomes) == (1, 1, {"quarantined": 1})
    assert ends(log) == {"0": "quarantined"} and 0 in state.closed_rows
    assert said(log, e.RowRead)[0].error == e.Commitment(3, log_commitment(log, 3))
    assert said(log, e.Diverted)[0].reason == 3


def log_commitment(log: Log, n: int) -> str:
    """What commits to payload `n` in the event that introduced it."""
    found = [one for event in log.said for one in verify.commitments(event) if one.n == n]
    return found[0].sha256


def test_a_refusal_of_a_failsink_is_discarded_and_decides() -> None:
    """E1, E2: the last sink to refuse decides; there is no third sink."""
    for log in (lawful.refused_by_failsink_too(), lawful.refused_twice_with_another_sink()):
        assert ends(log) == {"0": "diverted"}
        assert [(one.node, one.to, one.edge) for one in said(log, e.Diverted)] == [
            ("out", "errors", lawful.FAILSINK_EDGE), ("errors", "discard", None)]


def test_a_row_that_a_gate_sends_to_a_sink_ends_routed() -> None:
    """F3: `completed` is the normal path, `routed` the gate's."""
    assert ends(lawful.gate_chose()) == {"1": "routed", "0": "completed"}


def test_every_source_row_has_one_step_0_and_one_root() -> None:
    """E4, law T3, law T4: each root is born in its own `RowRead`, and nothing else is born there."""
    for name in LAWFUL:
        born = [(event.token, tokens) for event, tokens, _ in steps(LAWFUL[name]()) if isinstance(event, e.RowRead)]
        assert [token for token, _ in born] == [str(row) for row in range(len(born))]
        assert all(tokens == [token] for token, tokens in born)


def test_a_resumed_run_goes_on_with_the_rows_it_had() -> None:
    """E4: rows are numbered on from the last one; a process that comes later makes no second root."""
    log = lawful.source_failed_once()
    state = fold(log)
    assert (state.rows_read, state.position, state.epoch) == (2, 1, 2)
    assert ends(log) == {"0": "completed", "1": "completed"}


def test_an_open_row_is_as_the_log_left_it() -> None:
    """D8: what is pending can be listed, with the place where it stands."""
    state = fold(lawful.left_open())
    assert [(token.id, token.node, token.stage.name) for token in state.tokens.values()] == [
        ("1", "out", "READY"), ("2", "step", "READY")]


def test_members_that_no_output_names_end_dropped() -> None:
    """F3: a batch accounts for each of its members."""
    assert ends(lawful_many.batch_rejected()) == {
        "0": "consumed_in_batch", "2": "dropped_by_filter", "3": "consumed_in_batch", "1": "routed",
        "totals@1:1": "completed", "totals@1:0": "completed"}
