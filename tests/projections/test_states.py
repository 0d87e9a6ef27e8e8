"""The states of tokens, case by case: attempts, gates, held tokens, members, sinks; calls; the run's own row."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ledger import events as e
from ledger.graph import DISCARD, SOURCE
from tests.kit import graphs
from tests.kit.log import Log, begun, died, forked, routed, step
from tests.ledger import lawful, lawful_groups, lawful_many
from tests.ledger.folding import place
from tests.projections.reading import told

STATE = "token_id, node_id, attempt, status, error"
SPAN = "token_id, opened_seq, closed_seq"


def states(log: Log, columns: str = STATE, where: str = "step_index > 0", until: int | None = None) -> list[tuple[Any, ...]]:
    """The states past the source, in the order in which they opened."""
    with told(log, until) as found:
        return found.told("node_states", columns, where, "opened_seq, token_id")


def test_each_attempt_has_its_state_and_its_error() -> None:
    """law T10: a failed attempt stays, with its text; the next one completes."""
    assert states(lawful.effect_retried()) == [
        ("0", "step", 1, "failed", "bad: busy"), ("0", "step", 2, "completed", None), ("0", "out", 1, "completed", None)]


def test_an_attempt_on_record_opens_when_it_begins_and_closes_when_it_ends() -> None:
    """F2: between the two the state is open, without an output."""
    log = lawful.effect_retried()
    begins = place(log, e.StepStarted, 2)
    assert states(log, SPAN, "attempt = 2") == [("0", begins, place(log, e.StepCompleted))]
    assert states(log, "status, output_hash, duration_ms, closed_seq", "attempt = 2", until=begins) == [
        ("open", None, None, None)]


def test_calls_are_numbered_within_their_attempt() -> None:
    """F2: each with its hashes and its latency."""
    log = lawful.effect_retried()
    with told(log) as found:
        assert found.told("calls", "token_id, node_id, attempt, call_index, kind, status, latency_ms", order="seq") == [
            ("0", "step", attempt, call, "http", "200", 0.003) for attempt, call in ((1, 0), (2, 0), (2, 1))]
        said = [event for event in log.stamped() if isinstance(event, e.CallRecorded)]
        assert found.told("calls", "seq, request_hash, response_hash", order="seq") == [
            (event.seq, event.request.sha256, event.response.sha256 if event.response else None) for event in said]


def test_an_attempt_in_which_the_process_died_is_abandoned() -> None:
    """law T10: three times, and then the row leaves by its error edge for that reason."""
    log = lawful.process_died_thrice()
    assert states(log, where="node_id = 'step'") == [
        ("0", "step", attempt, "abandoned", "process_died") for attempt in (1, 2, 3)]
    with told(log) as found:
        assert found.told("token_outcomes", "outcome, sink_name, reason") == [("routed", "errors", "process_died")]


def test_a_row_that_survived_a_death_ends_without_a_reason() -> None:
    """E1: an attempt that died and was made again is no way off the normal path."""
    log = Log(graphs.linear())
    row = log.row()
    log.say(begun("0", "step", row)).resume().say(died("0", "step", 1), begun("0", "step", row, 2))
    log.say(step("0", "step", row, row, attempt=2)).write("out", "0").exhaust().seal(completed=1)
    assert states(log) == [("0", "step", 1, "abandoned", "process_died"), ("0", "step", 2, "completed", None),
                           ("0", "out", 1, "completed", None)]
    with told(log) as found:
        assert found.told("token_outcomes", "outcome, reason, error_hash") == [("completed", None, None)]


@pytest.mark.parametrize("forks", [False, True])
def test_a_gates_attempt_on_record_is_closed_by_its_choice(forks: bool) -> None:
    """E4, F2: after an unclean stop a gate begins on record as well; the state that opened is the one that closes."""
    draft = graphs.Draft().node(SOURCE, "source", on_error=DISCARD).node("gate", "gate", fork_to="ab" if forks else "")
    draft.node("out", "sink", on_error=DISCARD).edge(SOURCE, "gate").edge("gate", "out", "go")
    if forks:
        draft.edge("gate", "out", "a", "copy").edge("gate", "out", "b", "copy")
    log = Log(draft.graph())
    row = log.row()
    log.say(begun("0", "gate", row)).resume().say(died("0", "gate", 1), begun("0", "gate", row, 2))
    log.say(forked("0", "gate", "ab") if forks else routed("0", "gate", "go"))
    assert states(log) == [("0", "gate", 1, "abandoned", "process_died"), ("0", "gate", 2, "completed", None)]
    begins, chose = place(log, e.StepStarted, 2), len(log.said)
    assert states(log, SPAN, "attempt = 2") == [("0", begins, chose)]
    (hashes,) = states(log, "input_hash, output_hash", "attempt = 2")
    assert hashes[0] == hashes[1] is not None


def test_a_held_tokens_state_lasts_from_its_arrival_to_the_resolution() -> None:
    """D4, D7: 5 ms for the one that came first; what it became is its output."""
    log = lawful_groups.all_arrived()
    closed = place(log, e.TokensCoalesced)
    assert states(log, f"{SPAN}, status, duration_ms", "node_id = 'join'") == [
        ("0.b", place(log, e.BranchArrived, 1), closed, "completed", 5.0),
        ("0.a", place(log, e.BranchArrived, 2), closed, "completed", 0.0)]
    with told(log) as found:
        merged = found.one("tokens", "data_hash", "token_id = '0+join'")["data_hash"]
        assert found.told("node_states", "DISTINCT output_hash", "node_id = 'join'") == [(merged,)]


def test_an_arrival_said_twice_opens_one_state() -> None:
    """G4: the state that the first arrival opened stays."""
    log = lawful_groups.said_twice()
    assert states(log, "opened_seq", "node_id = 'join' AND token_id = '0.a'") == [(place(log, e.BranchArrived, 1),)]


def test_the_state_of_a_token_that_is_held_shows_the_group_as_it_stands() -> None:
    """D7, D8: open, with who has come and who has not."""
    log = lawful_groups.held()
    ((status, context),) = states(log, "status, context", "node_id = 'join'")
    known = msgspec.json.decode(str(context))
    assert status == known["status"] == "open" and known["trigger"] is None
    assert (known["branches_arrived"], known["branches_missing"], known["branches_lost"]) == (["a"], ["b"], {})


def test_held_tokens_of_a_failed_group_fail_with_its_reason() -> None:
    """A1, law C5: one state each, closed by the failure."""
    log = lawful_groups.flushed_at_the_end()
    assert states(log, STATE, "node_id = 'join'") == [
        ("0.a", "join", 1, "failed", "incomplete_branches"), ("0.c", "join", 1, "failed", "incomplete_branches"),
        ("0.b", "join", 1, "failed", "incomplete_branches")]


def test_a_late_arrival_has_a_state_of_its_own_at_the_closed_group() -> None:
    """G5: failed at once; its context says how the group had closed."""
    ((*row, context),) = states(lawful_groups.quorum_met(), f"{STATE}, context", "node_id = 'join' AND token_id = '0.d'")
    assert row == ["0.d", "join", 1, "failed", "late_arrival"]
    assert msgspec.json.decode(str(context))["status"] == "merged"


def test_a_members_state_lasts_from_its_buffering_to_the_flush() -> None:
    """F2: a rejected one failed with its reason, the others completed."""
    log = lawful_many.batch_rejected()
    closed = place(log, e.BatchFlushed)
    rows = states(log, f"{SPAN}, status, error", "node_id = 'totals'")
    assert rows == [
        (str(row), place(log, e.TokenBuffered, row + 1), closed,
         *(("failed", "negative: negative") if row == 1 else ("completed", None))) for row in range(4)]


def test_a_member_that_passes_through_a_batch_has_its_new_row_as_output() -> None:
    """F2: in passthrough mode the token goes on with what the batch made of it; a rejected one has no output."""
    log = lawful_many.batch_passed_through()
    flushed = next(event for event in log.said if isinstance(event, e.BatchFlushed))
    assert flushed.outputs is not None and isinstance(flushed.outputs[0].output, e.Commitment)
    outputs = dict(states(log, "token_id, output_hash", "node_id = 'totals'"))
    assert outputs["0"] == flushed.outputs[0].output.sha256 and outputs["1"] is None
    assert states(log, "output_hash = input_hash", "node_id = 'totals' AND token_id = '2'") == [(1,)]


def test_the_members_of_a_failed_batch_fail_with_its_error() -> None:
    """F2: only when it is not tried again; until then they wait."""
    log = lawful_many.batch_timed_out()
    first = place(log, e.BatchFailed, 1)
    assert states(log, STATE, "token_id = '2'", until=first)[-1] == ("2", "totals", 1, "open", None)
    assert ("2", "totals", 1, "failed", "bad_batch: no again") in states(log)


def test_the_members_of_a_batch_that_killed_its_processes_are_abandoned() -> None:
    """law T10: only by the third death; until then, attempt after attempt, they wait."""
    log = lawful_many.batch_died_thrice()
    last = place(log, e.BatchAbandoned, 3)
    assert states(log, SPAN, until=last - 1) == [(str(row), place(log, e.TokenBuffered, row + 1), None) for row in range(2)]
    assert states(log, f"{STATE}, closed_seq", "node_id = 'totals'") == [
        (str(row), "totals", 1, "abandoned", "process_died", last) for row in range(2)]
    with told(log) as found:
        assert found.told("token_outcomes", "outcome, sink_name, reason") == [("routed", "errors", "process_died")] * 2


def test_a_sinks_state_lasts_from_the_intent_to_the_confirmation() -> None:
    """law R3: a write that failed closes the state as failed, and the next intent opens another."""
    log = lawful.write_repeated()
    failed, confirmed = place(log, e.SinkWriteFailed), place(log, e.SinkWriteConfirmed)
    assert states(log, f"{SPAN}, status, error", "node_id = 'out'") == [
        ("0", place(log, e.SinkWriteIntended, 1), failed, "failed", "unreachable: no route"),
        ("0", place(log, e.SinkWriteIntended, 2), confirmed, "completed", None)]
    with told(log) as found:
        assert found.told("sink_writes", "write_id, sink, tokens, status, uri, size_bytes, idempotency_key, seq",
                          order="write_id") == [
            ("hand-made/out/1", "out", '["0"]', "failed", None, None, "hand-made:1", failed),
            ("hand-made/out/2", "out", '["0"]', "confirmed", "mem:out", 1, "hand-made:1", confirmed)]


def test_a_write_that_is_only_intended_is_open_on_both_sides() -> None:
    """D8: what was about to happen when the process died is visible."""
    log = lawful.write_repeated()
    intent = place(log, e.SinkWriteIntended)
    assert states(log, "status", "node_id = 'out'", until=intent) == [("open",)]
    with told(log, intent) as found:
        assert found.told("sink_writes", "status, uri, seq") == [("intended", None, intent)]


def test_a_refused_tokens_state_fails_while_the_others_of_its_write_complete() -> None:
    """E1, law R3: in the same confirmation."""
    log = lawful.refused_to_failsink()
    assert states(log, "token_id, node_id, status, error", "node_id IN ('out', 'errors')") == [
        ("0", "out", "completed", None), ("1", "out", "failed", "refused: too long"), ("1", "errors", "completed", None)]


def test_an_attempt_that_was_given_up_is_abandoned_with_its_reason() -> None:
    """F2: so is each token's outcome, also of one that had no state open."""
    log = lawful.abandoned()
    reason = "abandoned: the customer left"
    assert ("1", "step", 1, "abandoned", "process_died") in states(log)
    with told(log) as found:
        assert found.told("token_outcomes", "token_id, outcome, reason", order="token_id") == [
            ("0", "failed", reason), ("1", "failed", reason)]


def test_the_source_state_of_an_invalid_row_is_failed_with_its_error() -> None:
    """E4, E5, E6: step 0, closed in the event that opened it."""
    for log in (lawful.row_quarantined(), lawful.row_discarded()):
        read = place(log, e.RowRead)
        assert states(log, f"{STATE}, opened_seq, closed_seq", "step_index = 0") == [
            ("0", "source", 1, "failed", "ragged: bad row", read, read)]


@pytest.mark.parametrize(
    ("name", "until", "status"),
    [
        ("write_repeated", 2, "running"),
        ("write_repeated", 7, "interrupted"),
        ("write_repeated", 8, "running"),
        ("write_repeated", None, "completed"),
        ("abandoned", None, "failed"),
        ("held", None, "interrupted"),
    ],
)
def test_the_runs_own_row_follows_its_status(name: str, until: int | None, status: str) -> None:
    """F4, F6: as of any event, with the counts as they were."""
    log = lawful_many.LAWFUL[name]()
    with told(log, until) as found:
        run = found.one("runs")
        assert (run["status"], run["pipeline"], run["events"]) == (status, "by-hand", until or len(log.said))
        assert (run["sealed_at"] is not None) == (status in ("completed", "failed"))
        assert run["unreadable_from_seq"] is None
