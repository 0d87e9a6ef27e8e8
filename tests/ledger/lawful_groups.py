"""Lawful logs of forks and joins, written by hand: every policy, every way to lose a branch, nested and gathered.

`GROUPED` names them; what each must show stands in `test_lawful_groups.py`, and other tests break, cut and edit them.
The graph is `graphs.forked` unless it says otherwise: `fork -> (gate_b -> step_b) per branch -> join -> out`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ledger import events as e
from ledger.graph import DISCARD, CoalesceRule
from tests.kit import graphs
from tests.kit.graphs import rule
from tests.kit.log import (
    Log,
    arrived,
    arrived_late,
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

GROUP = "0+join"


def fork(join: CoalesceRule, on_error: str = "errors") -> Log:
    """A log in which row 0 (payload 2) has just been forked."""
    log = Log(graphs.forked(join, on_error))
    log.row({"id": 7})
    return log.say(forked("0", "fork", join.branches))


def come(log: Log, branch: str, row: object = None) -> Log:
    """The carrier of a branch of row 0 goes as far as the join, changed to `row` on the way if there is one."""
    token = f"0.{branch}"
    log.say(routed(token, f"gate_{branch}", "go"))
    return log.say(step(token, f"step_{branch}", 2, 2 if row is None else log.keep(row)))


def arrive(log: Log, *branches: str) -> Log:
    """Carriers, unchanged, are held at the join."""
    for branch in branches:
        come(log, branch).say(arrived(f"0.{branch}", GROUP))
    return log


def lose(log: Log, branch: str) -> Log:
    """A carrier is dropped by its step, and the group is told."""
    token = f"0.{branch}"
    log.say(routed(token, f"gate_{branch}", "go"), filtered(token, f"step_{branch}", 2))
    return log.say(lost(token, GROUP, "filtered", f"step_{branch}"))


def at(branches: str) -> list[tuple[str, str, int]]:
    """Arrivals, in this order, at the moment the group opened."""
    return [(branch, f"0.{branch}", 0) for branch in branches]


def dropped(branches: str) -> list[tuple[str, str]]:
    """Losses by `lose`."""
    return [(branch, f"filtered:step_{branch}") for branch in branches]


def all_arrived() -> Log:
    """Both branches arrive, changed, 5 ms apart, the second declared one first."""
    log = fork(rule(2))
    come(log, "b", {"id": 7, "b": 1}).say(arrived("0.b", GROUP)).wait(5)
    come(log, "a", {"id": 7, "a": 1}).say(arrived("0.a", GROUP))
    known = facts(GROUP, "require_all", "ab", [("b", "0.b", 0), ("a", "0.a", 5)], wait=5)
    log.say(merged(GROUP, "all_arrived", known, log.keep({"id": 7, "b": 1, "a": 1})))
    return log.write("out", GROUP).exhaust().seal(forked=1, coalesced=2, completed=1)


def said_twice() -> Log:
    """The same arrival is said twice before the other branch comes."""
    log = arrive(fork(rule(2)), "a")
    arrive(log.say(arrived("0.a", GROUP)), "b")
    log.say(merged(GROUP, "all_arrived", facts(GROUP, "require_all", "ab", at("ab")), 2))
    return log.write("out", GROUP).exhaust().seal(forked=1, coalesced=2, completed=1)


def branch_lost() -> Log:
    """`require_all` fails at once when a branch leaves by the error edge; the carrier that comes after fails with it."""
    log = arrive(fork(rule(3)), "a")
    error = log.keep("no good")
    log.say(routed("0.c", "gate_c", "go"), failed("0.c", "step_c", 2, error))
    log.say(diverted("0.c", "step_c", "errors", edge="step_c:__error_step_c__", reason=error.n))
    log.say(lost("0.c", GROUP, "error_routed", "step_c", "bad"))
    known = facts(GROUP, "require_all", "abc", at("a"), [("c", "error_routed:step_c:bad")])
    log.say(group_failed(GROUP, "branch_lost", "branch_lost:c", known))
    come(log, "b").say(arrived_late("0.b", GROUP, "branch_lost:c")).write("errors", "0.c")
    return log.exhaust().seal(forked=1, failed=2, routed=1)


def lost_first() -> Log:
    """The first thing a group hears is a loss: it names the branch, and who had not come."""
    log = lose(fork(rule(2)), "b")
    known = facts(GROUP, "require_all", "ab", (), dropped("b"))
    log.say(group_failed(GROUP, "branch_lost", "branch_lost:b", known))
    come(log, "a").say(arrived_late("0.a", GROUP, "branch_lost:b"))
    return log.exhaust().seal(forked=1, dropped_by_filter=1, failed=1)


def quorum_met() -> Log:
    """Two of three are enough; a loss after the merge is told to nobody, and a carrier after it is late."""
    log = arrive(fork(rule(4, "quorum", quorum=2)), "c", "a")
    log.say(merged(GROUP, "quorum_met", facts(GROUP, "quorum", "abcd", at("ca")), 2))
    log.say(routed("0.b", "gate_b", "go"), filtered("0.b", "step_b", 2)).write("out", GROUP)
    come(log, "d").say(arrived_late("0.d", GROUP, "merged"))
    return log.exhaust().seal(late=1, forked=1, coalesced=2, completed=1, dropped_by_filter=1, failed=1)


def quorum_still_possible() -> Log:
    """One arrived and one lost of three leaves two possible: a quorum of two waits, and is met."""
    log = arrive(lose(arrive(fork(rule(3, "quorum", quorum=2)), "a"), "b"), "c")
    log.say(merged(GROUP, "quorum_met", facts(GROUP, "quorum", "abc", at("ac"), dropped("b")), 2))
    log.write("out", GROUP)
    return log.exhaust().seal(forked=1, coalesced=2, completed=1, dropped_by_filter=1)


def quorum_impossible() -> Log:
    """One arrived and two lost of three leaves one possible, not two: a quorum of two fails at once."""
    log = lose(lose(arrive(fork(rule(3, "quorum", quorum=2)), "a"), "b"), "c")
    known = facts(GROUP, "quorum", "abc", at("a"), dropped("bc"))
    log.say(group_failed(GROUP, "branch_lost", "quorum_impossible:need=2,max_possible=1", known))
    return log.exhaust().seal(forked=1, failed=1, dropped_by_filter=2)


def quorum_timed_out() -> Log:
    """A quorum that is not met when its timeout passes fails then, however late that is said."""
    log = arrive(fork(rule(2, "quorum", quorum=2, timeout_ms=100)), "b").wait(130)
    known = facts(GROUP, "quorum", "ab", at("b"), wait=130)
    log.say(group_failed(GROUP, "timeout", "quorum_not_met_at_timeout", known))
    come(log, "a").say(arrived_late("0.a", GROUP, "quorum_not_met_at_timeout"))
    return log.exhaust().seal(forked=1, failed=2)


def best_effort_lost() -> Log:
    """`best_effort` merges what came once the rest is lost."""
    log = lose(arrive(fork(rule(2, "best_effort", merge="nested")), "b"), "a")
    known = facts(GROUP, "best_effort", "ab", at("b"), dropped("a"), merge="nested")
    log.say(merged(GROUP, "branch_lost", known, log.keep({"b": {"id": 7}}))).write("out", GROUP)
    return log.exhaust().seal(forked=1, coalesced=1, completed=1, dropped_by_filter=1)


def best_effort_timed_out() -> Log:
    """`best_effort` merges at its timeout; the missing branch is named, and lost later to nobody."""
    log = arrive(fork(rule(2, "best_effort", timeout_ms=100)), "a").wait(100)
    log.say(merged(GROUP, "timeout", facts(GROUP, "best_effort", "ab", at("a"), wait=100), 2))
    log.say(routed("0.b", "gate_b", "away")).write("side", "0.b").write("out", GROUP)
    return log.exhaust().seal(forked=1, coalesced=1, completed=1, routed=1)


def first_came() -> Log:
    """`first` merges its first arrival; a later one is late, a later loss is told to nobody."""
    log = arrive(lose(fork(rule(4, "first")), "a"), "c")
    log.say(merged(GROUP, "first_arrival", facts(GROUP, "first", "abcd", at("c"), dropped("a")), 2))
    come(log, "b").say(arrived_late("0.b", GROUP, "merged"))
    log.say(routed("0.d", "gate_d", "go"), filtered("0.d", "step_d", 2)).write("out", GROUP)
    return log.exhaust().seal(late=1, forked=1, coalesced=1, completed=1, dropped_by_filter=2, failed=1)


def all_lost(policy: str = "first") -> Log:
    """Every branch is lost, each in its own way: the group fails, with every reason."""
    log = fork(CoalesceRule(branches=tuple("abcd"), gate="fork", policy=policy, merge="union"), DISCARD)  # type: ignore[arg-type]
    lose(log, "d").say(routed("0.b", "gate_b", "away"), lost("0.b", GROUP, "routed_away", "gate_b", "away"))
    log.say(failed("0.a", "gate_a", 2, log.keep("no such column")), lost("0.a", GROUP, "failed", "gate_a", "bad"))
    error = log.keep("no good")
    log.say(routed("0.c", "gate_c", "go"), failed("0.c", "step_c", 2, error))
    log.say(diverted("0.c", "step_c", DISCARD, reason=error.n), lost("0.c", GROUP, "discarded", "step_c", "bad"))
    reasons = [("a", "failed:gate_a:bad"), ("b", "routed_away:gate_b:away"), ("c", "discarded:step_c:bad"),
               ("d", "filtered:step_d")]
    log.say(group_failed(GROUP, "branch_lost", "all_branches_lost", facts(GROUP, policy, "abcd", (), reasons)))
    log.write("side", "0.b").exhaust()
    return log.seal(forked=1, dropped_by_filter=1, routed=1, failed=1, quarantined=1)


def all_lost_best_effort() -> Log:
    """The same under `best_effort`."""
    return all_lost("best_effort")


def flushed_at_the_end() -> Log:
    """At the end of the source an incomplete `require_all` fails, and so does what it held."""
    log = arrive(fork(rule(3)), "a", "c").exhaust()
    known = facts(GROUP, "require_all", "abc", at("ac"))
    log.say(group_failed(GROUP, "end_of_source", "incomplete_branches", known))
    come(log, "b").say(arrived_late("0.b", GROUP, "incomplete_branches"))
    return log.seal(forked=1, failed=3)


def flushed_and_merged() -> Log:
    """At the end of the source `best_effort` merges what is there."""
    log = arrive(fork(rule(2, "best_effort")), "a").exhaust()
    log.say(merged(GROUP, "end_of_source", facts(GROUP, "best_effort", "ab", at("a")), 2))
    come(log, "b").say(arrived_late("0.b", GROUP, "merged")).write("out", GROUP)
    return log.seal(late=1, forked=1, coalesced=1, completed=1, failed=1)


def selected() -> Log:
    """`select` waits for its branch although the quorum is there, and takes its row."""
    log = arrive(fork(rule(3, "quorum", quorum=1, merge="select", select_branch="b")), "a")
    come(log, "b", {"id": 8}).say(arrived("0.b", GROUP))
    log.say(merged(GROUP, "quorum_met", facts(GROUP, "quorum", "abc", at("ab"), merge="select"), 3))
    come(log, "c").say(arrived_late("0.c", GROUP, "merged")).write("out", GROUP)
    return log.exhaust().seal(late=1, forked=1, coalesced=2, completed=1, failed=1)


def selected_lost() -> Log:
    """`select` fails at once by name when its branch is lost, whatever else arrived."""
    log = lose(arrive(fork(rule(3, "best_effort", merge="select", select_branch="b")), "a", "c"), "b")
    known = facts(GROUP, "best_effort", "abc", at("ac"), dropped("b"), merge="select")
    log.say(group_failed(GROUP, "branch_lost", "branch_lost:b", known))
    return log.exhaust().seal(forked=1, failed=2, dropped_by_filter=1)


def collided() -> Log:
    """A collision under `fail` fails the group, not the run; the values are kept with their branches."""
    log = fork(rule(2, collision="fail"))
    come(log, "a", {"id": 7, "x": 1}).say(arrived("0.a", GROUP))
    come(log, "b", {"id": 7, "x": 2}).say(arrived("0.b", GROUP))
    known = facts(GROUP, "require_all", "ab", at("ab"))
    log.say(e.CoalesceFailed(coalesce="join", group=GROUP, trigger="all_arrived", reason="union_collision", facts=known,
                             collisions={"x": ("a", "b")}, collided=log.keep({"x": {"a": 1, "b": 2}})))
    return log.exhaust().seal(forked=1, failed=2)


def collided_and_won() -> Log:
    """A collision under `last_wins` merges; which branches differed, and their values, stand beside the row."""
    log = fork(rule(2))
    come(log, "b", {"id": 7, "x": 2}).say(arrived("0.b", GROUP))
    come(log, "a", {"id": 7, "x": 1}).say(arrived("0.a", GROUP))
    known = facts(GROUP, "require_all", "ab", at("ba"))
    log.say(e.TokensCoalesced(coalesce="join", group=GROUP, merged=GROUP, trigger="all_arrived", facts=known,
                              output=log.keep({"id": 7, "x": 2}), collisions={"x": ("a", "b")},
                              collided=log.keep({"x": {"a": 1, "b": 2}})))
    return log.write("out", GROUP).exhaust().seal(forked=1, coalesced=2, completed=1)


def abandoned_while_held() -> Log:
    """A run is given up while a token is held: its group is flushed, the rest is abandoned."""
    log = arrive(fork(rule(2)), "a").interrupt().resume()
    known = facts(GROUP, "require_all", "ab", at("a"))
    log.say(group_failed(GROUP, "abandoned", "incomplete_branches", known))
    log.say(e.TokensAbandoned(tokens=("0.b",), code="abandoned"))
    return log.seal(status="failed", forked=1, failed=2)


def held() -> Log:
    """A run that stopped while a token is held and the other is on its way. Not sealed."""
    return arrive(fork(rule(2, timeout_ms=1000)), "a").interrupt()


def nested_joins() -> Log:
    """An inner join's merged token is consumed by the outer one."""
    log = Log(graphs.nested(outer(), inner()))
    row = log.row({"id": 7})
    log.say(forked("0", "outer_fork", "xy"), forked("0.x", "inner_fork", "ab"))
    for token in ("0.x.b", "0.x.a"):
        log.say(step(token, f"step_{token[-1]}", row, row), arrived(token, "0.x+inner"))
    pair = [("b", "0.x.b", 0), ("a", "0.x.a", 0)]
    log.say(merged("0.x+inner", "all_arrived", facts("0.x+inner", "require_all", "ab", pair), row))
    log.say(arrived("0.x+inner", "0+outer"), step("0.y", "step_y", row, row), arrived("0.y", "0+outer"))
    both = [("x", "0.x+inner", 0), ("y", "0.y", 0)]
    log.say(merged("0+outer", "all_arrived", facts("0+outer", "require_all", "xy", both), row))
    return log.write("out", "0+outer").exhaust().seal(forked=2, coalesced=4, completed=1)


def nested_failure() -> Log:
    """An inner join that fails is a loss to the outer one, which goes on without it."""
    log = Log(graphs.nested(outer("best_effort"), inner()))
    row = log.row({"id": 7})
    log.say(forked("0", "outer_fork", "xy"), forked("0.x", "inner_fork", "ab"))
    log.say(step("0.x.a", "step_a", row, row), arrived("0.x.a", "0.x+inner"))
    log.say(filtered("0.x.b", "step_b", row), lost("0.x.b", "0.x+inner", "filtered", "step_b"))
    known = facts("0.x+inner", "require_all", "ab", [("a", "0.x.a", 0)], dropped("b"))
    log.say(group_failed("0.x+inner", "branch_lost", "branch_lost:b", known))
    log.say(lost("0.x", "0+outer", "group_failed", "inner", "branch_lost:b"))
    log.say(step("0.y", "step_y", row, row), arrived("0.y", "0+outer"))
    without = facts("0+outer", "best_effort", "xy", [("y", "0.y", 0)], [("x", "group_failed:inner:branch_lost:b")])
    log.say(merged("0+outer", "all_arrived", without, row)).write("out", "0+outer").exhaust()
    return log.seal(forked=2, failed=1, dropped_by_filter=1, coalesced=1, completed=1)


def outer(policy: str = "require_all") -> CoalesceRule:
    """The rule of the outer join of `graphs.nested`."""
    return CoalesceRule(branches=("x", "y"), gate="outer_fork", policy=policy, merge="union")  # type: ignore[arg-type]


def inner() -> CoalesceRule:
    """The rule of the inner join of `graphs.nested`."""
    return rule(2, gate="inner_fork")


def two_groups_a_row() -> Log:
    """One row makes two groups at one join: each merges its own branches, interleaved as they are."""
    log = Log(graphs.forked_parts(rule(2)))
    row = log.row({"id": 7})
    log.say(expanded("0", "split", row, row, row), forked("0:0", "fork", "ab"), forked("0:1", "fork", "ab"))
    for token in ("0:0.a", "0:1.b", "0:1.a", "0:0.b"):
        log.say(step(token, f"step_{token[-1]}", row, row), arrived(token, f"{token[:3]}+join"))
        if token == "0:1.a":
            one = [("b", "0:1.b", 0), ("a", "0:1.a", 0)]
            log.say(merged("0:1+join", "all_arrived", facts("0:1+join", "require_all", "ab", one), row))
    two = [("a", "0:0.a", 0), ("b", "0:0.b", 0)]
    log.say(merged("0:0+join", "all_arrived", facts("0:0+join", "require_all", "ab", two), row))
    log.write("out", "0:1+join", "0:0+join").exhaust()
    return log.seal(expanded=1, forked=2, coalesced=4, completed=2)


GROUPED: Mapping[str, Callable[[], Log]] = {
    builder.__name__: builder
    for builder in (all_arrived, said_twice, branch_lost, lost_first, quorum_met, quorum_still_possible,
                    quorum_impossible, quorum_timed_out, best_effort_lost, best_effort_timed_out, first_came, all_lost,
                    all_lost_best_effort, flushed_at_the_end, flushed_and_merged, selected, selected_lost, collided,
                    collided_and_won, abandoned_while_held, held, nested_joins, nested_failure, two_groups_a_row)
}
