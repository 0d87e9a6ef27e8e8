"""Broken logs of expansions and gathers, one per way to break a law of theirs.

The graph is `graphs.gathered` unless it says otherwise: `split (expands) -> work -> gather -> out`. Row 0 is payload 2, its
children's rows follow.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ledger import events as e
from ledger.graph import SOURCE, CoalesceRule, PolicyName
from tests.kit import graphs
from tests.kit.graphs import Draft
from tests.kit.log import (
    Log,
    arrived,
    arrived_late,
    begun,
    expanded,
    facts,
    filtered,
    forked,
    group_failed,
    lost,
    merged,
    step,
)
from tests.ledger.broken import Case
from tests.ledger.broken_log import last_replaced
from tests.ledger.lawful_many import GATHER

ITEMS = [{"part": 0}, {"part": 1}]
WAIT_MS = 50


def split(count: int = 2, policy: PolicyName = "require_all", *, quorum: int | None = None,
          timeout_ms: int | None = None) -> Log:
    """Row 0 was expanded to so many children, `{"part": n}`, which stand before the step."""
    log = Log(graphs.gathered(policy, quorum=quorum, timeout_ms=timeout_ms))
    row = log.row({"id": 7})
    return log.say(expanded("0", "split", row, *(log.keep({"part": n}) for n in range(count))))


def come(log: Log, *ordinals: int) -> Log:
    """Children, unchanged, go as far as the gather."""
    return log.say(*(step(f"0:{n}", "work", 3 + n, 3 + n) for n in ordinals))


def arrive(log: Log, *ordinals: int) -> Log:
    """Children, unchanged, are held at the gather."""
    for n in ordinals:
        come(log, n).say(arrived(f"0:{n}", GATHER))
    return log


def lose(log: Log, ordinal: int) -> Log:
    """A child is dropped by the step, and the gather is told."""
    log.say(filtered(f"0:{ordinal}", "work", 3 + ordinal))
    return log.say(lost(f"0:{ordinal}", GATHER, "filtered", "work"))


def known(count: int, come: Sequence[int] = (), policy: str = "require_all", dropped: Sequence[int] = (), *,
          wait: int = 0) -> e.GroupFacts:
    """What is known of the gather when these have come, in this order, at the moment of the expansion."""
    return facts(GATHER, policy, [str(n) for n in range(count)], [(str(n), f"0:{n}", 0) for n in come],
                 [(str(n), "filtered:work") for n in dropped], wait=wait, merge="list")


def merge(log: Log, here: e.GroupFacts, row: object = None, trigger: e.CoalesceTrigger = "all_arrived") -> Log:
    """The gather merges, as `row` (the parent's with both children's, unless said)."""
    return log.say(merged(GATHER, trigger, here, log.keep({"id": 7, "items": ITEMS} if row is None else row)))


def whole(**fields: object) -> Log:
    """Both children have come and are merged, with other facts."""
    return merge(arrive(split(), 1, 0), replace(known(2, [1, 0]), **fields))


def failing(**fields: object) -> Log:
    """Of three children one is held, one is lost, one has not come: the failure, with other facts."""
    log = lose(arrive(split(3), 2), 0)
    return log.say(group_failed(GATHER, "branch_lost", "branch_lost:0", replace(known(3, [2], dropped=[0]), **fields)))


def first_merged() -> Log:
    """The first child was merged, the second one is on its way, the third stands before the gather."""
    log = arrive(split(3, "first"), 0)
    merge(log, known(3, [0], "first"), {"id": 7, "items": ITEMS[:1]}, "first_arrival")
    return come(log, 2)


def closed() -> Log:
    """Everything that came of row 0 has its end."""
    return whole().write("out", GATHER)


def expanding(count: int, outputs: int) -> Log:
    """An expansion that states another count than it has outputs."""
    return last_replaced(split(outputs), count=count)


def making(row: object) -> Log:
    """Both children are merged as another row."""
    return merge(arrive(split(), 0, 1), known(2, [0, 1]), row)


def empty(policy: PolicyName = "require_all", quorum: int | None = None) -> Log:
    """Row 0 was expanded to nothing; what the policy makes of that is owed."""
    return split(0, policy, quorum=quorum)


def waited(ms: int, policy: PolicyName = "best_effort") -> Log:
    """One of two has come; so much run time has passed since the expansion."""
    return arrive(split(2, policy, timeout_ms=WAIT_MS), 0).wait(ms)


def nested() -> Log:
    """`split -> again -> inner -> outer -> out`: row 0 was expanded to two, its first child to two more (payloads 5, 6)."""
    inner, outer = (CoalesceRule(gathers=name, policy="require_all", merge="list") for name in ("again", "split"))
    draft = Draft().node(SOURCE, "source").node("split", "transform", expands=True).node("again", "transform", expands=True)
    draft.node("inner", "coalesce", coalesce=inner).node("outer", "coalesce", coalesce=outer).node("out", "sink")
    draft.edge(SOURCE, "split").edge("split", "again").edge("again", "inner").edge("inner", "outer").edge("outer", "out")
    log = Log(draft.graph())
    log.say(expanded("0", "split", log.row(), log.keep({"part": 0}), log.keep({"part": 1})))
    return log.say(expanded("0:0", "again", 3, log.keep({"page": 0}), log.keep({"page": 1})))


def skipping() -> Log:
    """What was expanded inside comes to the outer gather (which no build lets through)."""
    inner, outer = (CoalesceRule(gathers=name, policy="require_all", merge="list") for name in ("again", "split"))
    draft = Draft().node(SOURCE, "source").node("split", "transform", expands=True).node("again", "transform", expands=True)
    draft.node("outer", "coalesce", coalesce=outer).node("inner", "coalesce", coalesce=inner).node("out", "sink")
    draft.edge(SOURCE, "split").edge("split", "again").edge("again", "outer").edge("outer", "inner").edge("inner", "out")
    log = Log(draft.graph())
    row = log.row()
    return log.say(expanded("0", "split", row, row), expanded("0:0", "again", row, row))


def at(group: str, token: str, branch: str) -> e.BranchArrived:
    """An arrival as it is said, whatever the token."""
    return e.BranchArrived(token=token, coalesce=group.rpartition("+")[2], group=group, branch=branch)


def quorum_of_nobody() -> Log:
    """A quorum of none: a next token for which no child was consumed."""
    log = split(2, "quorum", quorum=0)
    return merge(log, known(2, policy="quorum"), {"id": 7, "items": []}, "quorum_met")


CHILDREN = [
    Case("fewer outputs than children of a gather", "T8", "0", lambda: expanding(3, 2)),
    Case("more outputs than children of a gather", "T8", "0", lambda: expanding(1, 2)),
    Case("outputs of no children", "T8", "0", lambda: expanding(0, 1)),
    Case("fewer children than none", "T8", "0", lambda: expanding(-1, 0)),
    Case("a child beyond the count", "L4", "0:2", lambda: split().say(begun("0:2", "work", 3))),
    Case("an arrival of a child beyond the count", "L4", "0:2", lambda: arrive(split(), 0).say(at(GATHER, "0:2", "2"))),
    Case("an expansion of a child beyond the count", "T5", "0:2", lambda: nested().say(expanded("0:2", "again", 4))),
    Case("a child of a child that was not expanded", "L4", "0:1:0", lambda: nested().say(at("0:1+inner", "0:1:0", "0"))),
    Case("a child by a branch's id", "L4", "0.0", lambda: split().say(begun("0.0", "work", 3))),
    Case("the next token before its gather merged", "T5", GATHER, lambda: split().say(forked(GATHER, "out", ("a", "b")))),
    Case("a write of the next token before its gather merged", "L4", GATHER, lambda: split().intend("out", GATHER)),
]
WAYS = [
    Case("an expanded row goes on as well", "T2", "0", lambda: split().say(begun("0", "split", 2))),
    Case("an expanded row is dropped as well", "T6", "0", lambda: split().say(filtered("0", "split", 2))),
    Case("an expanded row is written as well", "T6", "0", lambda: split().intend("out", "0")),
    Case("a row is expanded twice", "T1", "0", lambda: split().say(expanded("0", "split", 2, 2))),
    Case("a dropped child is expanded as well", "T6", "0:0",
         lambda: lose(split(2, "first"), 0).say(expanded("0:0", "work", 3))),
    Case("a merged child is written as well", "T6", "0:0", lambda: whole().intend("out", "0:0")),
    Case("a child goes back", "T9", "0:0", lambda: split().say(expanded("0:0", "split", 3, 3))),
    Case("a child arrives before its step", "T9", "0:0", lambda: split().say(arrived("0:0", GATHER))),
    Case("a child is written past its gather", "T9", "0:0", lambda: come(split(), 0).intend("out", "0:0")),
    Case("a child at the gather around its own", "T9", "0:0:0", lambda: nested().say(at("0+outer", "0:0:0", "0"))),
    Case("a gathered row goes back", "T9", GATHER, lambda: whole().say(begun(GATHER, "work", 5))),
    Case("a held child goes on", "C2", "0:0", lambda: arrive(split(), 0).say(begun("0:0", "gather", 3))),
]
RESOLUTIONS = [
    Case("a second merge of a gather", "C2", GATHER, lambda: merge(whole(), known(2, [1, 0]))),
    Case("a second merge of a gather whose row closed", "C2", GATHER, lambda: merge(closed(), known(2, [1, 0]))),
    Case("a failure of a gather that merged", "C2", GATHER,
         lambda: whole().say(group_failed(GATHER, "end_of_source", "incomplete_branches", known(2, [1, 0])))),
    Case("a merge of a gather that failed", "C2", GATHER, lambda: merge(failing(), known(3, [2], dropped=[0]))),
    Case("an arrival at a gather that merged", "C2", "0:2", lambda: first_merged().say(arrived("0:2", GATHER))),
    Case("late at a gather that is open", "C2", "0:1",
         lambda: come(split(), 1).say(arrived_late("0:1", GATHER, "merged"))),
    Case("late at a failure that was a gather's merge", "C2", "0:2",
         lambda: first_merged().say(arrived_late("0:2", GATHER, "incomplete_branches"))),
    Case("a gather open at the seal", "C2", GATHER, lambda: arrive(split(), 0).exhaust().seal(tokens=3, expanded=1)),
    Case("a merge under another id", "C1", "0+other", lambda: last_replaced(whole(), merged="0+other")),
    Case("a merge of a gather of another row", "L4", "1+gather", lambda: last_replaced(whole(), group="1+gather")),
]
MEMBERS = [
    Case("an arrival on an ordinal beyond the count", "C3", "0:0", lambda: come(split(), 0).say(at(GATHER, "0:0", "2"))),
    Case("an arrival on another child's ordinal", "C3", "0:0", lambda: come(split(), 0).say(at(GATHER, "0:0", "1"))),
    Case("an arrival at the gather of another row", "C3", "0:0", lambda: come(split(), 0).say(at("1+gather", "0:0", "0"))),
    Case("an arrival at another gather than its own", "C3", "0:0:0", lambda: skipping().say(at("0+outer", "0:0:0", "0"))),
    Case("a lost child is not told", "C3", "0:0", lambda: split().say(filtered("0:0", "work", 3)).exhaust()),
    Case("another child is told to be lost", "C3", "0:0", lambda: last_replaced(lose(split(), 0), branch="1")),
    Case("a lost child of a gather that closed", "C3", "0:1", lambda: lose(first_merged(), 1)),
    Case("one child fewer is expected", "C3", GATHER, lambda: whole(expected_branches=("0",))),
    Case("one child more is expected", "C3", GATHER,
         lambda: whole(expected_branches=("0", "1", "2"), branches_missing=("2",))),
    Case("the children in the order of their arrival", "C3", GATHER, lambda: whole(expected_branches=("1", "0"))),
    Case("another strategy than the list", "C3", GATHER, lambda: whole(merge_strategy="union")),
    Case("the arrivals in the order of the children", "C1", GATHER,
         lambda: whole(arrival_order=known(2, [0, 1]).arrival_order)),
    Case("a child is consumed and not named", "C1", GATHER, lambda: whole(arrival_order=known(2, [1]).arrival_order)),
    Case("a held child of a failed gather is not named", "C5", GATHER, lambda: failing(arrival_order=())),
    Case("a missing child of a failed gather is not named", "C5", GATHER, lambda: failing(branches_missing=())),
]
DECISIONS = [
    Case("a merge of all before all have come", "C4", GATHER, lambda: merge(arrive(split(), 0), known(2, [0]))),
    Case("a gather of none that is not decided", "C4", None, lambda: empty().exhaust()),
    Case("a gather of none that fails where it merges", "C4", GATHER,
         lambda: empty().say(group_failed(GATHER, "branch_lost", "all_branches_lost", known(0)))),
    Case("a gather of none that merges where a first one has to come", "C4", GATHER,
         lambda: merge(empty("first"), known(0, policy="first"), {"id": 7, "items": []})),
    Case("a gather of none that merges where a quorum has to come", "C4", GATHER,
         lambda: merge(empty("quorum", 1), known(0, policy="quorum"), {"id": 7, "items": []})),
    Case("a quorum beyond the children that waits", "C4", "0:0",
         lambda: split(1, "quorum", quorum=2).say(begun("0:0", "work", 3))),
    Case("a gather that times out before its time", "C4", GATHER,
         lambda: merge(waited(WAIT_MS - 1), known(2, [0], "best_effort", wait=WAIT_MS - 1), trigger="timeout")),
    Case("an arrival after the gather's time", "C4", "0:1",
         lambda: come(waited(0), 1).wait(WAIT_MS).say(arrived("0:1", GATHER))),
    Case("a gather that merges at the end where all have to come", "C4", GATHER,
         lambda: merge(arrive(split(), 0).exhaust(), known(2, [0]), {"id": 7, "items": ITEMS[:1]}, "end_of_source")),
    Case("a collision of a gather", "C4", GATHER,
         lambda: arrive(split(), 0, 1).say(group_failed(GATHER, "all_arrived", "union_collision", known(2, [0, 1])))),
]
DATA = [
    Case("a child is not in the list", "C6", GATHER, lambda: making({"id": 7, "items": ITEMS[:1]})),
    Case("the list under another name", "C6", GATHER, lambda: making({"id": 7, "parts": ITEMS})),
    Case("the list without the parent's row", "C6", GATHER, lambda: making({"items": ITEMS})),
    Case("the parent's row changed", "C6", GATHER, lambda: making({"id": 8, "items": ITEMS})),
    Case("a child that was lost is in the list", "C6", GATHER,
         lambda: merge(lose(arrive(split(2, "best_effort"), 0), 1), known(2, [0], "best_effort", [1]),
                       trigger="branch_lost")),
    Case("a list of something where nothing was expanded", "C6", GATHER, lambda: merge(empty(), known(0))),
    Case("a gathered row of nobody", "L4", GATHER,
         lambda: arrive(split(), 0, 1).say(merged(GATHER, "all_arrived", known(2, [0, 1]), 1))),
    Case("a next token that weighs nothing", "T7", GATHER, quorum_of_nobody),
]
GATHER_CASES = [*CHILDREN, *WAYS, *RESOLUTIONS, *MEMBERS, *DECISIONS, *DATA]
