"""Broken logs, one per way to break a law of groups (C1 to C6)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ledger import events as e
from ledger.graph import DISCARD, SOURCE, CollisionPolicy
from ledger.store import Payload, Store
from tests.kit import graphs, tamper
from tests.kit.graphs import Draft, rule
from tests.kit.log import (
    RUN,
    Log,
    arrived,
    arrived_late,
    begun,
    diverted,
    expanded,
    facts,
    failed,
    filtered,
    forked,
    group_failed,
    lost,
    merged,
    routed,
    step,
)
from tests.ledger.broken import Case
from tests.ledger.broken_log import last_replaced
from tests.ledger.lawful_groups import GROUP, arrive, at, come, dropped, fork, lose

PAIR = facts(GROUP, "require_all", "ab", at("ab"))
MERGED = merged(GROUP, "all_arrived", PAIR, 2)
QUORUM = rule(3, "quorum", quorum=2, timeout_ms=100)


def both() -> Log:
    """Both branches have arrived; the merge is owed."""
    return arrive(fork(rule(2)), "a", "b")


def one(waits_ms: int = 0) -> Log:
    """One of three has arrived at a quorum of two with a timeout of 100 ms; `waits_ms` have passed since."""
    return arrive(fork(QUORUM), "a").wait(waits_ms)


def merging(**fields: object) -> Log:
    """The merge that is owed, with other facts."""
    return both().say(replace(MERGED, facts=replace(PAIR, **fields)))


def failing(**fields: object) -> Log:
    """A failure that is owed (one of three lost, one held), with other facts."""
    known = facts(GROUP, "require_all", "abc", at("a"), dropped("b"))
    log = lose(arrive(fork(rule(3)), "a"), "b")
    return log.say(group_failed(GROUP, "branch_lost", "branch_lost:b", replace(known, **fields)))


def dropping() -> Log:
    """The carrier of `b` was dropped; its group has not been told."""
    log = arrive(fork(rule(2, "best_effort")), "a")
    return log.say(routed("0.b", "gate_b", "go"), filtered("0.b", "step_b", 2))


def losing(**fields: object) -> Log:
    """The loss that is owed, with other fields."""
    return last_replaced(dropping().say(lost("0.b", GROUP, "filtered", "step_b")), **fields)


def first_merged(*events: e.Event) -> Log:
    """`a` came first and was merged, `b` stands before the join; then this is said."""
    log = arrive(fork(rule(2, "first")), "a")
    log.say(merged(GROUP, "first_arrival", facts(GROUP, "first", "ab", at("a")), 2))
    return come(log, "b").say(*events)


def closed_row() -> Log:
    """Everything that came of row 0 has its end."""
    return both().say(MERGED).write("out", GROUP)


def ended(policy_merges: bool) -> Log:
    """At the end of the source a quorum of two of three, with one arrived, is closed as it must not be."""
    log = one().exhaust()
    known = facts(GROUP, "quorum", "abc", at("a"))
    if policy_merges:
        return log.say(merged(GROUP, "end_of_source", known, 2))
    return log.say(group_failed(GROUP, "end_of_source", "incomplete_branches", known))


def timed_out(ms: int, reason: str = "quorum_not_met_at_timeout") -> Log:
    """The quorum fails by its timeout after so much run time."""
    return one(ms).say(group_failed(GROUP, "timeout", reason, facts(GROUP, "quorum", "abc", at("a"), wait=ms)))


def quorum_of(arrivals: str) -> Log:
    """The quorum of two merges with these arrivals."""
    log = arrive(fork(QUORUM), *arrivals)
    return log.say(merged(GROUP, "quorum_met", facts(GROUP, "quorum", "abc", at(arrivals)), 2))


def two_due() -> Log:
    """Two groups are due, and the one that is due later is decided first."""
    log = Log(graphs.forked(rule(2, timeout_ms=100)))
    for row in ("0", "1"):
        n = log.row()
        log.say(forked(row, "fork", "ab"), routed(f"{row}.a", "gate_a", "go"), step(f"{row}.a", "step_a", n, n))
        log.say(arrived(f"{row}.a", f"{row}+join")).wait(10)
    later = facts("1+join", "require_all", "ab", [("a", "1.a", 0)], wait=110)
    return log.wait(100).say(group_failed("1+join", "timeout", "incomplete_branches", later))


def two_carriers() -> Log:
    """A branch that was expanded on its way (which no build lets through) arrives twice."""
    draft = Draft().node(SOURCE, "source").node("fork", "gate", fork_to="ab")
    draft.node("split", "transform", expands=True).node("join", "coalesce", coalesce=rule(2)).node("out", "sink")
    draft.edge(SOURCE, "fork").edge("fork", "split", "a", "copy").edge("fork", "join", "b", "copy")
    log = Log(draft.edge("split", "join").edge("join", "out").graph())
    row = log.row()
    log.say(forked("0", "fork", "ab"), expanded("0.a", "split", row, row, row))
    for token in ("0.a:0", "0.a:1"):
        log.say(e.BranchArrived(token=token, coalesce="join", group=GROUP, branch="a"))
    return log


def merged_row(rows: Sequence[tuple[str, object]], output: object, collision: CollisionPolicy = "last_wins") -> Log:
    """Branches arrive with these rows, in this order, and are merged as `output`."""
    log = fork(rule(2, collision=collision))
    for branch, row in rows:
        come(log, branch, row).say(arrived(f"0.{branch}", GROUP))
    order = "".join(branch for branch, _ in rows)
    known = facts(GROUP, "require_all", "ab", at(order))
    return log.say(merged(GROUP, "all_arrived", known, log.keep(output)))


def colliding(collisions: dict[str, tuple[str, ...]]) -> Log:
    """Two rows that differ in `x` are merged, and the collision is told so."""
    log = merged_row([("a", {"id": 7, "x": 1}), ("b", {"id": 7, "x": 2})], {"id": 7, "x": 2})
    return last_replaced(log, collisions=collisions, collided=log.keep({"x": {"a": 1, "b": 2}}))


def payload_edited(data: bytes) -> Store:
    """A merge of rows whose payload was edited behind the store's back."""
    store = both().say(MERGED).store()
    tamper.edit_payload(store, RUN, 2, Payload(2, b"salt", data))
    return store


def selecting() -> Log:
    """`select: b` whose merged row is that of `a`."""
    log = fork(rule(2, "require_all", merge="select", select_branch="b"))
    come(log, "a", {"id": 1}).say(arrived("0.a", GROUP))
    come(log, "b", {"id": 2}).say(arrived("0.b", GROUP))
    return log.say(merged(GROUP, "all_arrived", facts(GROUP, "require_all", "ab", at("ab"), merge="select"), 3))


def listed_out_of_order() -> Log:
    """A gather whose list is in the order of arrival."""
    log = Log(graphs.gathered())
    row, parts = log.row({"id": 7}), [log.keep({"part": 0}), log.keep({"part": 1})]
    log.say(expanded("0", "split", row, *parts))
    for n in (1, 0):
        log.say(step(f"0:{n}", "work", parts[n].n, parts[n].n), arrived(f"0:{n}", "0+gather"))
    known = facts("0+gather", "require_all", "01", [("1", "0:1", 0), ("0", "0:0", 0)], merge="list")
    return log.say(merged("0+gather", "all_arrived", known, log.keep({"id": 7, "items": [{"part": 1}, {"part": 0}]})))


def unforked_arrival() -> Log:
    """A row that no fork made arrives at a join."""
    draft = Draft().node(SOURCE, "source").node("fork", "gate", fork_to="ab").node("join", "coalesce", coalesce=rule(2))
    draft.node("out", "sink").edge(SOURCE, "join").edge("join", "out")
    log = Log(draft.edge("fork", "join", "a", "copy").edge("fork", "join", "b", "copy").graph())
    log.row()
    return log.say(e.BranchArrived(token="0", coalesce="join", group=GROUP, branch="a"))


def discarded() -> Log:
    """The carrier of `b` was discarded; its group has not been told."""
    log = arrive(fork(rule(2), DISCARD), "a").say(routed("0.b", "gate_b", "go"))
    error = log.keep("no")
    return log.say(failed("0.b", "step_b", 2, error), diverted("0.b", "step_b", DISCARD, reason=error.n))


def filtered_at_join() -> e.BranchArrivedLate:
    """The late carrier's own end."""
    return arrived_late("0.b", GROUP, "merged")


ONE_MERGE = [
    Case("the merged token has another id", "C1", "0+other",
         lambda: both().say(replace(MERGED, merged="0+other"))),
    Case("the arrivals in another order", "C1", GROUP, lambda: merging(arrival_order=PAIR.arrival_order[::-1])),
    Case("a consumed token is not named", "C1", GROUP, lambda: merging(arrival_order=PAIR.arrival_order[:1])),
    Case("a token is named that did not arrive", "C1", GROUP,
         lambda: merging(arrival_order=(e.Arrival("a", "0.a", 0), e.Arrival("b", "1.b", 0)))),
    Case("an arrival at another time", "C1", GROUP,
         lambda: merging(arrival_order=(e.Arrival("a", "0.a", 0), e.Arrival("b", "0.b", 9)))),
]
ONE_RESOLUTION = [
    Case("an arrival after the merge", "C2", "0.b", lambda: first_merged(arrived("0.b", GROUP))),
    Case("a second merge", "C2", GROUP,
         lambda: first_merged(merged(GROUP, "first_arrival", facts(GROUP, "first", "ab", at("a")), 2))),
    Case("a failure after the merge", "C2", GROUP,
         lambda: first_merged(group_failed(GROUP, "end_of_source", "incomplete_branches", PAIR))),
    Case("a merge after the row closed", "C2", GROUP, lambda: closed_row().say(MERGED)),
    Case("late at a group that is open", "C2", "0.b",
         lambda: come(arrive(fork(rule(2)), "a"), "b").say(arrived_late("0.b", GROUP, "failed"))),
    Case("late at a group that never opened", "C2", "0.b",
         lambda: come(fork(rule(2)), "b").say(arrived_late("0.b", GROUP, "failed"))),
    Case("late at a failure that was a merge", "C2", "0.b", lambda: first_merged(arrived_late("0.b", GROUP, "failed"))),
    Case("an open group at the seal", "C2", GROUP, lambda: arrive(fork(rule(2)), "a").exhaust().seal(tokens=3)),
    Case("a step on a held token", "C2", "0.a", lambda: arrive(fork(rule(2)), "a").say(begun("0.a", "join", 2))),
    Case("a held token abandoned outside its group", "C2", "0.a",
         lambda: arrive(fork(rule(2)), "a").say(e.TokensAbandoned(tokens=("0.a",), code="x"))),
]
BRANCHES = [
    Case("an arrival on another branch", "C3", "0.a",
         lambda: last_replaced(come(fork(rule(2)), "a").say(arrived("0.a", GROUP)), branch="b")),
    Case("an arrival in another group", "C3", "0.a",
         lambda: last_replaced(come(fork(rule(2)), "a").say(arrived("0.a", GROUP)), group="1+join")),
    Case("an arrival where the token is no carrier", "C3", "0", unforked_arrival),
    Case("another carrier on an arrived branch", "C3", "0.a:1", two_carriers),
    Case("a loss that nothing caused", "C3", "0.b",
         lambda: arrive(fork(rule(2)), "a").say(lost("0.b", GROUP, "filtered", "step_b"))),
    Case("a loss after the merge", "C3", "0.b",
         lambda: first_merged(filtered_at_join(), lost("0.b", GROUP, "filtered", "step_b"))),
    Case("a carrier's end without its loss", "C3", "0.b", lambda: dropping().exhaust()),
    Case("a discard without its loss", "C3", "0.b", lambda: discarded().exhaust()),
    Case("another way without its loss", "C3", "0.b",
         lambda: fork(rule(2)).say(routed("0.b", "gate_b", "away")).intend("side", "0.b")),
    Case("a loss told twice", "C3", "0.b",
         lambda: lose(fork(rule(3, "best_effort")), "b").say(lost("0.b", GROUP, "filtered", "step_b"))),
    Case("the loss of another branch", "C3", "0.b", lambda: losing(branch="a")),
    Case("a loss in another group", "C3", "0.b", lambda: losing(group="1+join")),
    Case("a loss with another cause", "C3", "0.b", lambda: losing(cause="discarded")),
    Case("a loss at another node", "C3", "0.b", lambda: losing(node="gate_b")),
    Case("a loss with another code", "C3", "0.b", lambda: losing(code="other")),
    Case("a missing branch where none is", "C3", GROUP, lambda: merging(branches_missing=("b",))),
    Case("a lost branch that arrived", "C3", GROUP, lambda: merging(branches_lost=(e.Loss("b", "filtered:step_b"),))),
    Case("other branches than expected", "C3", GROUP, lambda: merging(expected_branches=("a", "b", "c"))),
    Case("another policy on record", "C3", GROUP, lambda: merging(policy="first")),
    Case("another wait on record", "C3", GROUP, lambda: merging(wait_duration_ms=5)),
]
POLICIES = [
    Case("a timeout that comes early", "C4", GROUP, lambda: timed_out(99)),
    Case("a timeout for another reason", "C4", GROUP, lambda: timed_out(100, "incomplete_branches")),
    Case("a timeout where there is none", "C4", GROUP,
         lambda: arrive(fork(rule(2)), "a").wait(10**9).say(
             group_failed(GROUP, "timeout", "incomplete_branches",
                          facts(GROUP, "require_all", "ab", at("a"), wait=10**9)))),
    Case("an arrival after the deadline", "C4", "0.b", lambda: come(one(), "b").wait(100).say(arrived("0.b", GROUP))),
    Case("anything after the deadline", "C4", None, lambda: one(100).exhaust()),
    Case("the later deadline first", "C4", "1+join", two_due),
    Case("a quorum met by one too few", "C4", GROUP, lambda: quorum_of("a")),
    Case("another event than the merge", "C4", None, lambda: both().exhaust()),
    Case("another event than the failure", "C4", "0.b",
         lambda: lose(arrive(fork(rule(3)), "a"), "c").say(begun("0.b", "gate_b", 2))),
    Case("a merge for another trigger", "C4", GROUP, lambda: both().say(replace(MERGED, trigger="quorum_met"))),
    Case("a failure where a merge is due", "C4", GROUP,
         lambda: both().say(group_failed(GROUP, "all_arrived", "incomplete_branches", PAIR))),
    Case("a collision where none fails", "C4", GROUP,
         lambda: both().say(group_failed(GROUP, "all_arrived", "union_collision", PAIR))),
    Case("a merge where a failure is due", "C4", GROUP,
         lambda: lose(arrive(fork(rule(2)), "a"), "b").say(
             merged(GROUP, "branch_lost", facts(GROUP, "require_all", "ab", at("a"), dropped("b")), 2))),
    Case("a failure for another reason", "C4", GROUP,
         lambda: last_replaced(failing(), reason="branch_lost:c")),
    Case("the end before the end of the source", "C4", GROUP,
         lambda: one().say(group_failed(GROUP, "end_of_source", "quorum_not_met",
                                        facts(GROUP, "quorum", "abc", at("a"))))),
    Case("a quorum that merges at the end", "C4", GROUP, lambda: ended(True)),
    Case("a quorum that fails at the end for another reason", "C4", GROUP, lambda: ended(False)),
]
FAILURES = [
    Case("a held token is not named", "C5", GROUP, lambda: failing(arrival_order=())),
    Case("a token that was not held is named", "C5", GROUP,
         lambda: failing(arrival_order=(e.Arrival("a", "0.a", 0), e.Arrival("c", "0.c", 0)))),
    Case("a lost branch is not named", "C5", GROUP, lambda: failing(branches_lost=(), branches_missing=("b", "c"))),
    Case("a lost branch has another reason", "C5", GROUP, lambda: failing(branches_lost=(e.Loss("b", "filtered"),))),
    Case("a missing branch is not named", "C5", GROUP, lambda: failing(branches_missing=())),
]
MERGED_DATA = [
    Case("a field is gone", "C6", GROUP, lambda: merged_row([("a", {"x": 1}), ("b", {"y": 1})], {"x": 1})),
    Case("a value is another", "C6", GROUP, lambda: merged_row([("a", {"x": 1}), ("b", {"y": 1})], {"x": 1, "y": 2})),
    Case("a number is another kind of number", "C6", GROUP,
         lambda: merged_row([("a", {"x": 1}), ("b", {"y": 1})], {"x": 1, "y": 1.0})),
    Case("a value of another type is the same", "C6", GROUP,
         lambda: merged_row([("a", {"x": 1}), ("b", {"x": 1.0})], {"x": 1})),
    Case("a truth is a number", "C6", GROUP, lambda: merged_row([("a", {"x": 1}), ("b", {"x": True})], {"x": 1})),
    Case("the last to arrive wins", "C6", GROUP, lambda: merged_row([("b", {"x": 2}), ("a", {"x": 1})], {"x": 1})),
    Case("the last wins where the first does", "C6", GROUP,
         lambda: merged_row([("a", {"x": 1}), ("b", {"x": 2})], {"x": 2}, "first_wins")),
    Case("a collision that should have failed", "C6", GROUP,
         lambda: merged_row([("a", {"x": 1}), ("b", {"x": 2})], {"x": 2}, "fail")),
    Case("another branch than the selected", "C6", GROUP, selecting),
    Case("a collision that is not told", "C6", GROUP,
         lambda: merged_row([("a", {"x": 1}), ("b", {"x": 2})], {"x": 2})),
    Case("a collision of another field", "C6", GROUP, lambda: colliding({"y": ("a", "b")})),
    Case("a collision that another branch won", "C6", GROUP, lambda: colliding({"x": ("b", "a")})),
    Case("a collision where nothing collides", "C6", GROUP, lambda: colliding({"id": ("a", "b"), "x": ("a", "b")})),
    Case("a collision without its values", "C6", GROUP,
         lambda: last_replaced(colliding({"x": ("a", "b")}), collided=None)),
    Case("a failure for a collision where nothing collides", "C6", GROUP,
         lambda: arrive(fork(rule(2, collision="fail")), "a", "b").say(
             group_failed(GROUP, "all_arrived", "union_collision", PAIR))),
    Case("a payload that is no JSON", "C6", GROUP, lambda: payload_edited(b"{"), 11),
    Case("a payload that is no row", "C6", GROUP, lambda: payload_edited(b"[1]"), 11),
    Case("a list in the order of arrival", "C6", "0+gather", listed_out_of_order),
]
GROUP_CASES = [*ONE_MERGE, *ONE_RESOLUTION, *BRANCHES, *POLICIES, *FAILURES, *MERGED_DATA]
