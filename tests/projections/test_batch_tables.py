"""Batches of a run that the engine made, in the read tables: who was a member, what became of it, what came of the batch."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from engine.loop import Hooks
from engine.plugin_api import BatchResult, Derived, Rejected, RowError
from ledger import events as e
from projections import answers
from projections.explain import explain
from projections.project import Target, project
from projections.projectors import run_projector
from projections.sqlite_tables import SqliteTables
from tests.kit.batches import Rows, Times, batched, numbered, rejecting, total
from tests.kit.deaths import MortalStore, killed
from tests.kit.pipelines import Ran, trial, tried
from tests.ledger import lawful_many
from tests.projections.reading import Told, dump, make
from tests.projections.reading import told as projected

BATCHES = "batch_id, aggregation, number, status, trigger, size"
STATE = "status, step_index, opened_seq, closed_seq"


def answer(rows: Rows) -> object:
    """Of the first batch one member is rejected and one named by no row; the second fails; the others have a total."""
    if rows[0]["n"] == 0:
        return BatchResult([Derived({"of": [1, 0]}, (1, 0)), Derived({"of": [1]}, (1,))], [Rejected(2, "member 2", "odd")])
    if rows[0]["n"] == 4:
        raise RowError("not these", "gone")
    return total(rows)


@cache
def ran() -> Ran:
    """Ten rows in batches of four; the first batch was computed at the second attempt."""
    plugin = Times([OSError("busy")], answer)
    return tried(batched(trigger={"count": 4}, attempts=2), numbered(10), {"totals": plugin})


@cache
def passed() -> Ran:
    """Three rows that pass through a batch: changed, unchanged, rejected."""

    def plugin(rows: Rows) -> BatchResult:
        return BatchResult([{**rows[0], "seen": True}, rows[1]], [Rejected(2, "member 2")])

    return tried(batched(output_mode="passthrough"), numbered(3), {"totals": plugin})


@contextmanager
def told(of: Ran, until: int | None = None) -> Iterator[Told]:
    """The read tables of a run, as of `until`."""
    head = of.store.head(of.run)
    assert head is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tables.db"
        make(path)
        with SqliteTables(path, write=True) as tables:
            project(of.store, head, Target(tables, run_projector()), until=until)
        found = Told(of.store, path, of.run)
        try:
            yield found
        finally:
            found.close()


def seq(of: Ran, kind: type[Any], n: int = 0) -> int:
    """The place of the n-th event of a kind."""
    return int(of.of(kind)[n].seq)


def story(of: Ran, token: str, until: int | None = None) -> dict[str, Any]:
    """What explain answers."""
    with told(of, until) as found:
        return explain(found.tables, found.store, found.run, token)


def ids(briefs: list[dict[str, Any]]) -> list[str]:
    """The tokens of a list."""
    return [one["token_id"] for one in briefs]


# --- tables ----------------------------------------------------------------------------------------------------------


def test_each_batch_has_a_row_with_its_trigger_and_its_end() -> None:
    """F2, law C7: flushed or failed, numbered, opened by its first member and closed by its last attempt."""
    with told(ran()) as found:
        assert found.told("batches", f"{BATCHES}, opened_seq, closed_seq", order="number") == [
            ("totals@1", "totals", 1, "flushed", "count", 4, seq(ran(), e.TokenBuffered), seq(ran(), e.BatchFlushed)),
            ("totals@2", "totals", 2, "failed", "count", 4, seq(ran(), e.TokenBuffered, 4), seq(ran(), e.BatchFailed, 1)),
            ("totals@3", "totals", 3, "flushed", "end_of_source", 2, seq(ran(), e.TokenBuffered, 8),
             seq(ran(), e.BatchFlushed, 1))]  # fmt: skip
        assert found.told("batch_members", "batch_id, ordinal, token_id", order="batch_id, ordinal") == [
            (f"totals@{n // 4 + 1}", n % 4, str(n)) for n in range(10)]


def test_a_row_of_a_batch_counts_its_attempts_its_rejected_members_and_its_outputs() -> None:
    """F2, F6: and names the error of the last attempt that failed."""
    with told(ran()) as found:
        rows = found.told("batches", "attempts, rejected, outputs, error", order="number")
    assert [row[:3] for row in rows] == [(2, 1, 2), (1, 0, 0), (1, 0, 1)]
    assert [row[3] for row in rows][1:] == ["gone: not these", None]


def test_a_member_is_at_the_aggregation_from_its_buffering_to_the_flush() -> None:
    """F2, D8: as of any event before the flush its state is open; attempts that are made again do not close it."""
    opened, closed = seq(ran(), e.TokenBuffered), seq(ran(), e.BatchFlushed)
    failed = seq(ran(), e.BatchFailed)
    for until in range(opened, closed):
        with told(ran(), until) as found:
            assert found.told("node_states", STATE, "token_id = '0' AND node_id = 'totals'") == [("open", 1, opened, None)]
            trigger = "count" if until >= failed else None
            assert found.told("batches", "status, trigger, closed_seq") == [("open", trigger, None)]
    with told(ran()) as found:
        states = found.told("node_states", STATE, "token_id = '0' AND node_id = 'totals'")
        assert states == [("completed", 1, opened, closed)]


def test_every_member_of_a_batch_has_its_own_end_in_the_states() -> None:
    """F2, E1: completed when it was taken, whether a row names it or not; failed with its reason when it was rejected."""
    with told(ran()) as found:
        states = found.told("node_states", "token_id, status, error", "node_id = 'totals'", order="opened_seq")
    fine, gone = ("completed", None), ("failed", "gone: not these")
    expected = [fine, fine, ("failed", "odd: member 2"), fine, gone, gone, gone, gone, fine, fine]
    assert states == [(str(n), *end) for n, end in enumerate(expected)]


def test_outputs_are_tokens_of_their_batch_with_the_parents_that_the_plugin_named() -> None:
    """G11, law C7: in that order; they descend from no one row and have no step 0."""
    with told(ran()) as found:
        assert found.told("tokens", "token_id, row_index, batch_id, seq", "batch_id IS NOT NULL", "token_id") == [
            ("totals@1:0", None, "totals@1", seq(ran(), e.BatchFlushed)),
            ("totals@1:1", None, "totals@1", seq(ran(), e.BatchFlushed)),
            ("totals@3:0", None, "totals@3", seq(ran(), e.BatchFlushed, 1))]
        assert found.told("token_parents", "token_id, parent_token_id, ordinal", order="token_id, ordinal") == [
            ("totals@1:0", "1", 0), ("totals@1:0", "0", 1), ("totals@1:1", "1", 0),
            ("totals@3:0", "8", 0), ("totals@3:0", "9", 1)]
        assert found.told("node_states", "token_id", "step_index = 0 AND token_id LIKE '%@%'") == []


def test_a_rejected_member_is_no_parent_of_a_row_of_all_the_others() -> None:
    """G11: many parents, and never the quarantined one."""
    with told(tried(batched(on_error="discard"), numbered(4), {"totals": rejecting(1)})) as found:
        assert found.told("token_parents", "*", order="ordinal") == [
            ("tried", "totals@1:0", parent, ordinal) for ordinal, parent in enumerate("023")]
        assert found.one("token_outcomes", "outcome, batch_id, reason", "token_id = '1'") == {
            "outcome": "quarantined", "batch_id": None, "reason": "odd: member 1"}


def test_an_outcome_names_the_batch_that_consumed_its_token() -> None:
    """F2, G11: a rejected member and one of a failed batch have a reason instead."""
    with told(ran()) as found:
        members = "token_id IN (SELECT token_id FROM batch_members) AND outcome != 'dropped_by_filter'"
        assert found.told("token_outcomes", "token_id, outcome, batch_id, reason", members, "token_id") == [
            ("0", "consumed_in_batch", "totals@1", None), ("1", "consumed_in_batch", "totals@1", None),
            ("2", "routed", None, "odd: member 2"),
            *[(str(n), "routed", None, "gone: not these") for n in range(4, 8)],
            ("8", "consumed_in_batch", "totals@3", None), ("9", "consumed_in_batch", "totals@3", None)]
        assert found.told("routing_events", "token_id, mode, edge_id", order="seq") == [
            (token, "divert", "totals:__error_totals__") for token in "24567"]


def test_in_passthrough_the_members_states_have_what_they_became() -> None:
    """F2, law C7: no token is born; the output of an unchanged row is its input."""
    with told(passed()) as found:
        states = found.told("node_states", "token_id, status, input_hash, output_hash", "node_id = 'totals'", "token_id")
        assert [state[:2] for state in states] == [("0", "completed"), ("1", "completed"), ("2", "failed")]
        assert (states[0][2] != states[0][3], states[1][2] == states[1][3], states[2][3]) == (True, True, None)
        assert found.told("tokens", "token_id, batch_id") == [("0", None), ("1", None), ("2", None)]
        assert found.told("token_parents", "*") == []
        written = found.told("node_states", "token_id, input_hash", "node_id = 'out'", "token_id")
        assert written == [(state[0], state[3]) for state in states[:2]]


def test_a_list_that_is_too_long_for_its_event_is_read_all_the_same() -> None:
    """F2, law L4: members, outputs and parents of a batch of a thousand."""
    many = 1000
    rows = [Derived({"of": n}, (n,)) for n in range(0, many, 2)]
    long = tried(batched(), numbered(many), {"totals": lambda _: rows})
    assert long.one(e.BatchFlushed).outputs_list is not None
    with told(long) as found:
        outcomes = Counter(outcome for outcome, in found.told("token_outcomes", "outcome"))
        assert outcomes == dict.fromkeys(["completed", "consumed_in_batch", "dropped_by_filter"], many // 2)
        parents = found.told("token_parents", "token_id, parent_token_id", order="CAST(parent_token_id AS INTEGER)")
        assert parents == [(f"totals@1:{n}", str(2 * n)) for n in range(many // 2)]
        assert found.one("batches", BATCHES)["size"] == many
        assert len(set(found.told("node_states", "input_hash", "node_id = 'out'"))) == many // 2


# --- explain and pending ---------------------------------------------------------------------------------------------


def test_a_members_story_names_its_batch_and_what_came_of_it() -> None:
    """A4, G11, F6: forward to the outputs that name it as a parent, and to no other."""
    found = story(ran(), "0")
    (batch,) = found["batches"]
    assert (batch["batch_id"], batch["trigger"], batch["status"]) == ("totals@1", "count", "flushed")
    assert ids(found["descendants"]) == ["totals@1:0"]
    assert ids(story(ran(), "1")["descendants"]) == ["totals@1:0", "totals@1:1"]
    assert [(one["node_id"], one["status"]) for one in found["node_states"]] == [
        ("source", "completed"), ("totals", "completed")]
    assert (found["outcome"]["outcome"], found["divert_summary"]) == ("consumed_in_batch", None)


def test_an_outputs_story_goes_back_to_its_parents_and_names_the_batch_that_made_it() -> None:
    """A4, G11, F6: the batch with its trigger; many rows, so no one source row."""
    found = story(ran(), "totals@1:0")
    assert ids(found["ancestors"]) == ["1", "0"]
    assert (found["source_row"], found["token"]["data"], found["token"]["batch_id"]) == (None, {"of": [1, 0]}, "totals@1")
    assert [(one["batch_id"], one["trigger"], one["size"]) for one in found["batches"]] == [("totals@1", "count", 4)]
    assert [(one["node_id"], one["status"]) for one in found["node_states"]] == [("out", "completed")]


def test_a_rejected_members_story_has_its_batch_its_reason_and_no_child() -> None:
    """A4, E11, G11: it left from the aggregation by its error edge."""
    found = story(ran(), "2")
    assert ([one["batch_id"] for one in found["batches"]], found["descendants"]) == (["totals@1"], [])
    summary = found["divert_summary"]
    assert (summary["divert_type"], summary["from_node"], summary["to_sink"]) == ("error", "totals", "errors")
    assert found["outcome"]["reason"] == "odd: member 2"


def test_the_story_of_a_member_that_no_row_names_ends_at_its_batch() -> None:
    """A4, F6: dropped, and nothing came of it."""
    found = story(ran(), "3")
    assert ([one["batch_id"] for one in found["batches"]], found["descendants"]) == (["totals@1"], [])
    assert (found["outcome"]["outcome"], found["divert_summary"]) == ("dropped_by_filter", None)


def test_a_story_as_of_an_event_before_the_flush_has_an_open_batch() -> None:
    """F6: nothing of what came later."""
    found = story(ran(), "0", seq(ran(), e.TokenBuffered, 3))
    assert [(one["status"], one["trigger"], one["size"]) for one in found["batches"]] == [("open", None, 4)]
    assert (found["outcome"], found["descendants"]) == (None, [])


@pytest.mark.parametrize(("errors", "asked"), [([], 10), ([OSError("busy")], 11)])
def test_what_is_pending_names_the_batch_that_waits_and_since_when(errors: list[BaseException], asked: int) -> None:
    """D8: one line for the batch and none for its members; a token that waits behind it is one between two steps."""
    made = trial(batched(trigger={"count": 3}, attempts=2), numbered(20), {"totals": Times(errors)})
    left = iter(range(asked))
    made.hooks = Hooks(stopping=lambda: None if next(left, None) is not None else "enough")
    stopped = made.go()
    with told(stopped) as found:
        waiting = answers.pending(found.tables, found.store, found.run)
        (batch,) = [one for one in waiting if one["kind"] == "batch"]
        opened = max(event.seq for event in stopped.of(e.TokenBuffered) if event.ordinal == 0)
        number = 1 if errors else 2
        assert (batch["what"], batch["node"], batch["since_seq"]) == (f"totals@{number}", "totals", opened)
        assert batch["has"] == len([event for event in stopped.of(e.TokenBuffered) if event.batch == number])
        behind = [one["what"] for one in waiting if one["kind"] == "token"]
        members = {event.token for event in stopped.of(e.TokenBuffered)}
        assert behind == [event.token for event in stopped.of(e.RowRead) if event.token not in members]
        assert bool(behind) == bool(errors)


def died(times: int) -> Ran:
    """Six rows in batches of two; the second one has killed the process once, and once more each time it was resumed."""
    store = MortalStore()

    def plugin(rows: Rows) -> object:
        if rows[0]["n"] == 2:
            store.die()
        return total(rows)

    made = trial(batched(trigger={"count": 2}), numbered(6), {"totals": plugin}, store=store)
    killed(made.start)
    for _ in range(times):
        store.revive()
        killed(made.resume)
    store.revive()
    return made.left() if times < 3 else made.again()


def waits_for(found: Told) -> dict[str, str]:
    """What each open batch waits for."""
    waiting = answers.pending(found.tables, found.store, found.run)
    return {one["what"]: one["waits_for"] for one in waiting if one["kind"] == "batch"}


@pytest.mark.parametrize("times", [1, 2])
def test_an_attempt_at_a_batch_that_began_and_did_not_end_is_pending(times: int) -> None:
    """D8, law T10: by its number, also when a process came and went since; a death before it counts as an attempt."""
    left = died(times)
    with told(left) as found:
        row = found.told("batches", "status, trigger, attempts, error", "number = 2")
        assert row == [("open", "count", times - 1, None)]
        assert waits_for(found) == {"totals@2": f"the end of attempt {times}, due by count"}


def test_a_batch_whose_attempt_died_waits_for_the_next_one() -> None:
    """D8, F6: as of the death, and of the events around it."""
    ran = died(3)
    begins, claim, dies = seq(ran, e.BatchStarted, 1), seq(ran, e.RunClaimed, 2), seq(ran, e.BatchAbandoned)
    assert (begins + 1, claim + 1) == (claim, dies)
    ends, tried = "the end of attempt {}, due by count", "attempt 2, due by count"
    waits = {begins - 1: "its trigger", begins: ends.format(1), claim: ends.format(1), dies: tried, dies + 1: ends.format(2)}
    for until, text in waits.items():
        with told(ran, until) as found:
            assert waits_for(found) == {"totals@2": text}


def test_a_batch_that_killed_its_processes_has_failed_and_says_so() -> None:
    """E1, E11, law T10: three attempts, the members abandoned there, and each with its way and its reason."""
    ran = died(3)
    with told(ran) as found:
        assert found.told("batches", "status, trigger, attempts, rejected, outputs, error, closed_seq", "number = 2") == [
            ("failed", "count", 3, 0, 0, "process_died", seq(ran, e.BatchAbandoned, 2))]
        states = found.told("node_states", "token_id, status, error", "node_id = 'totals'", "opened_seq")
        fine, died_there = ("completed", None), ("abandoned", "process_died")
        assert states == [(str(n), *(died_there if n in (2, 3) else fine)) for n in range(6)]
        assert answers.pending(found.tables, found.store, found.run) == []
    told_of = story(ran, "2")
    assert [(one["status"], one["attempts"], one["error"]) for one in told_of["batches"]] == [("failed", 3, "process_died")]
    assert (told_of["outcome"]["reason"], told_of["divert_summary"]["from_node"]) == ("process_died", "totals")


def test_a_batch_that_survived_names_the_death_before() -> None:
    """F2: `error` is the last attempt that gave nothing, also of a batch that was flushed after it."""
    with projected(lawful_many.batches_survived()) as found:
        assert found.told("batches", "status, trigger, attempts, error", order="number") == [
            ("flushed", "count", 3, "process_died"), ("flushed", "condition", 2, "process_died"),
            ("flushed", "timeout", 2, "process_died"), ("flushed", "end_of_source", 2, "process_died")]


def test_tables_that_are_caught_up_at_any_event_are_those_made_at_once() -> None:
    """law P1: also between two attempts of a batch."""
    slow = tried(batched(trigger={"count": 2}, attempts=3), numbered(3), {"totals": Times([OSError("busy")] * 2)})
    head = slow.store.head(slow.run)
    assert head is not None
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.db"
        make(whole)
        with SqliteTables(whole, write=True) as tables:
            project(slow.store, head, Target(tables, run_projector()))
        for cut in range(1, head.size):
            path = Path(folder) / f"{cut}.db"
            make(path)
            with SqliteTables(path, write=True) as tables:
                project(slow.store, head, Target(tables, run_projector()), until=cut)
            with SqliteTables(path, write=True) as tables:
                project(slow.store, head, Target(tables, run_projector()), after=cut)
            assert dump(path) == dump(whole), cut
