"""`counterfoil replay`: the verdict on a run, from its log alone."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import click
import msgspec

from counterfoil import api
from counterfoil.cli import output
from counterfoil.cli.options import debug_option, form_option, ledger_option, open_ledger
from counterfoil.collector import quiet_collector
from ledger import replay as replaying
from ledger.errors import UsageError
from ledger.replay import Replayed, Verdict


@click.command("replay")
@click.argument("run")
@click.option("--until", metavar="SEQ|TIME", help="Stop after this event, or at this ISO 8601 time.")
@click.option("--deep", is_flag=True, help="Also weigh the tokens (T7) and make every merge again (C6).")
@ledger_option
@form_option
@debug_option
def command(run: str, until: str | None, deep: bool, url: str | None, form: str) -> int:
    """Fold RUN's log, check every law, and name the first event that breaks one."""
    seq, at = _until(until)
    quiet_collector()
    with open_ledger(url) as ledger:
        replayed = replaying.replay(ledger.store, api.find_run(ledger, run), until_seq=seq, until_at=at, deep=deep)
    verdict = replayed.verdict
    if form == output.TABLE:
        _tell(replayed, deep=deep, whole=until is None)
    else:
        output.answer("replay", {"ok": verdict.lawful, **msgspec.to_builtins(verdict), "open": _open(replayed)}, form)
    if verdict.findings:
        output.note(f"LAW_BROKEN: {verdict.findings[0]}; run {verdict.run}; `counterfoil verify {verdict.run}` says whether "
                    "the bytes hold")
        return 5
    return 0


def _until(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    if re.fullmatch(r"\d{1,18}", text):
        return int(text), None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError("USAGE", f"expected a seq or an ISO 8601 time, found {text!r:.60}", where="--until",
                         next_step="for instance 400 or 2026-11-20T10:15:00Z") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None, int(moment.timestamp() * 1_000_000)


def _open(replayed: Replayed) -> list[dict[str, object]]:
    """The tokens that have no end at this point, where they stand."""
    tokens = (token for token in replayed.state.tokens.values() if token.outcome is None)
    return [{"token_id": token.id, "node_id": token.node, "stage": token.stage.name.lower()} for token in tokens]


def _tell(replayed: Replayed, *, deep: bool, whole: bool) -> None:
    verdict = replayed.verdict
    word = "lawful" if verdict.lawful else "NOT LAWFUL"
    output.say(f"run {verdict.run}: {word}, {verdict.events} events, {verdict.rows} rows, {verdict.tokens} tokens; "
               f"{verdict.status}")
    output.say(_claim(verdict))
    output.table([{"outcome": outcome, "tokens": count} for outcome, count in verdict.outcomes.items()])
    if not whole and verdict.open_tokens:
        output.say(f"open at this point: {verdict.open_tokens} tokens, {verdict.open_groups} groups")
        output.table(_open(replayed)[:20])
    if verdict.late_arrivals:
        output.say(f"{verdict.late_arrivals} late arrivals are among the failed")
    if deep:
        output.say(f"mass and merges were made again; {verdict.unverifiable} merges could not be: their payloads are erased")


def _claim(verdict: Verdict) -> str:
    if not verdict.lawful:
        return f"first offence: {verdict.findings[0]}"
    if not verdict.events:
        return "no event had been recorded at this point"
    if verdict.open_tokens:
        return f"{verdict.open_tokens} tokens are open; every other one has exactly one end"
    return f"every one of {verdict.tokens} tokens has exactly one terminal state"
