"""`counterfoil explain`: one token's whole story, or a source row's."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Any

import click

from counterfoil import api
from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, open_ledger
from ledger.errors import UsageError

SHOWN_MAX = 8
"""So many tokens of one generation are named."""


@click.command("explain")
@click.argument("run")
@click.argument("token", required=False)
@click.option("--row", type=click.IntRange(min=0), help="A source row, from 0, instead of a token.")
@click.option("--at", type=click.IntRange(min=1), metavar="SEQ", help="As it was known after this event.")
@ledger_option
@form_option
@debug_option
def command(run: str, token: str | None, row: int | None, at: int | None, url: str | None, form: str) -> int:
    """Tell what became of TOKEN (or of a source row) of RUN, and why."""
    if (token is None) == (row is None):
        raise UsageError("USAGE", "expected a token or --row N", where="counterfoil explain",
                         next_step="`counterfoil tokens RUN` lists tokens")
    with open_ledger(url) as ledger:
        story = api.explain_in(ledger, api.find_run(ledger, run), token, row, at)
    if form == output.TABLE:
        _tell(story)
    else:
        output.answer("explain", story, form)
    return 0


def _tell(story: dict[str, Any]) -> None:
    _tell_end(story)
    _tell_origin(story)
    keys = ("idempotency_key",) if any(state["idempotency_key"] for state in story["node_states"]) else ()
    _section("states", story["node_states"], ("step_index", "node_id", "attempt", "status", "error", "duration_ms",
                                              "opened_seq", "closed_seq", *keys))
    _section("routing", story["routing"], ("seq", "node_id", "label", "to_node", "mode", "flow_type", "reason"))
    for group in story["coalesce_groups"]:
        _tell_group(group)
    _section("batches", story["batches"], ("batch_id", "status", "trigger", "size", "attempts", "rejected", "outputs",
                                           "error", "member"))
    _section("calls", story["calls"], ("seq", "node_id", "attempt", "kind", "status", "latency_ms", "request",
                                          "response"))
    _section("sink writes", story["sink_writes"], ("seq", "sink", "status", "uri", "size_bytes"))
    _section("became", story["descendants"], ("token_id", "outcome", "sink_name", "reason", "ended_seq"))
    if not story["complete"]:
        output.say("incomplete: the run has an event that cannot be read; what is told ends before it")


def _tell_end(story: dict[str, Any]) -> None:
    outcome, summary = story["outcome"], story["divert_summary"]
    output.say(f"token {story['token_id']} of run {story['run']}")
    if outcome is None:
        output.say("  is open: it has no end yet")
    else:
        where = f" at {outcome['sink_name']}" if outcome["sink_name"] else ""
        why = f": {outcome['reason']}" if outcome["reason"] else ""
        output.say(f"  ended {outcome['outcome']}{where}{why} (seq {outcome['seq']})")
    if summary is not None:
        by = f" by {summary['edge_label']} to {summary['to_sink']}" if summary["to_sink"] else ", discarded"
        output.say(f"  left the normal path at {summary['from_node']} ({summary['divert_type']}){by}")


def _tell_origin(story: dict[str, Any]) -> None:
    row = story["source_row"]
    if row is not None:
        key = f", key {row['source_key']}" if row["source_key"] is not None else ""
        valid = "valid" if row["valid"] else "invalid"
        output.say(f"  from source row {row['row_index']} (position {row['source_position']}{key}, {valid}, "
                   f"seq {row['seq']})")
        output.say(f"  source data {output.value_text(row['data'])}")
    if story["ancestors"]:
        output.say("  line " + " < ".join([story["token_id"], *_generations(story["ancestors"])]))
        output.say(f"  data at birth {output.value_text(story['token']['data'])}")


def _generations(ancestors: list[dict[str, Any]]) -> list[str]:
    """Parents, then grandparents, and so on; of many in one generation only the first."""
    generations = groupby(ancestors, key=itemgetter("generation"))
    names = [[one["token_id"] for one in found] for _, found in generations]
    return [", ".join(found[:SHOWN_MAX]) + (f" and {len(found) - SHOWN_MAX} more" if len(found) > SHOWN_MAX else "")
            for found in names]


def _tell_group(group: dict[str, Any]) -> None:
    output.say("")
    why = f": {group['failure_reason']}" if group["failure_reason"] else ""
    output.say(f"coalesce {group['coalesce']} ({group['policy']}, {group['merge_strategy']}), group {group['group_id']}")
    output.say(f"  {group['status']}{why}" + (f" on {group['trigger']}" if group["trigger"] else ""))
    output.say(f"  expected {', '.join(group['expected_branches'])}")
    arrivals = ", ".join(f"{one['branch']} (+{one['offset_ms']} ms)" for one in group["arrival_order"])
    output.say(f"  arrived  {arrivals or 'none'}")
    lost = ", ".join(f"{branch} ({reason})" for branch, reason in group["branches_lost"].items())
    output.say(f"  lost     {lost or 'none'}")
    output.say(f"  missing  {', '.join(group['branches_missing']) or 'none'}")
    if group["collisions"]:
        output.say("  collided " + ", ".join(f"{field} ({' < '.join(of)})" for field, of in group["collisions"].items()))


def _section(title: str, found: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    if found:
        output.say("")
        output.say(title)
        output.table(found, columns)
