"""`counterfoil verify`: bytes and guards, laws, read tables, completeness; each its own answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from counterfoil import api
from counterfoil.api import Verified
from counterfoil.cli import output, standing
from counterfoil.cli.options import debug_option, form_option, ledger_option, open_ledger
from counterfoil.collector import quiet_collector
from ledger.errors import UsageError


@click.command("verify")
@click.argument("run", required=False)
@click.option("--expect", metavar="SIZE:ROOT", help="A receipt that was kept elsewhere.")
@click.option("--world", is_flag=True, help="Also read the sinks' files again (R4).")
@ledger_option
@form_option
@debug_option
def command(run: str | None, expect: str | None, world: bool, url: str | None, form: str) -> int:
    """Verify RUN, or every run; exit 5 when something does not hold."""
    receipt = _receipt(expect)
    if receipt is not None and run is None:
        raise UsageError("USAGE", "expected a run with --expect", where="counterfoil verify", next_step="name the run")
    quiet_collector()
    with open_ledger(url) as ledger:
        name = api.find_run(ledger, run) if run is not None else None
        standing.announce(ledger)
        found = (api.verify_all(ledger, world=world) if name is None else
                 [api.verify_in(ledger, name, receipt, world=world)])
    answers = [_answer(one) for one in found]
    if form == output.TABLE:
        for one in found:
            _tell(one)
        if not found:
            output.say("no runs")
    elif run is not None:
        output.answer("verify", answers[0], form)
    else:
        output.rows("verify", answers, form)
    broken = next((one for one in found if not one.ok), None)
    if broken is not None:
        again = "counterfoil verify" if run is None else f"counterfoil verify {broken.run}"
        output.note(f"VERIFY_FAILED: {_first(broken):.400}; run {broken.run}; `{again} -o json` lists all that was found")
        return 5
    return 0


def _receipt(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", text)
    if match is None:
        raise UsageError("USAGE", f"expected SIZE:ROOT with a root of 64 hex digits, found {text!r:.100}", where="--expect",
                         next_step="`counterfoil run` prints it as the receipt")
    return int(match.group(1)), match.group(2)


def _answer(one: Verified) -> dict[str, Any]:
    parts = {
        "integrity": [msgspec.to_builtins(fault) for fault in one.integrity],
        "lawfulness": [msgspec.to_builtins(finding) for finding in one.lawfulness],
        "projections": [difference._asdict() for difference in one.projections],
    }
    if one.world is not None:
        parts["world"] = [msgspec.to_builtins(finding) for finding in one.world]
    return {"run": one.run, "ok": one.ok,
            **{name: {"ok": not findings, "findings": findings} for name, findings in parts.items()},
            "completeness": msgspec.to_builtins(one.completeness)}


def _tell(one: Verified) -> None:
    output.say(f"run {one.run}")
    parts: list[tuple[str, Sequence[Any]]] = [("integrity", one.integrity), ("lawfulness", one.lawfulness),
                                              ("projections", one.projections)]
    if one.world is not None:
        parts.append(("world", one.world))
    for name, findings in parts:
        output.say(f"  {name:13}{'ok' if not findings else f'{len(findings)} findings'}")
        for finding in findings[:10]:
            output.say(f"    {_text(finding)}")
    output.say(f"  {'completeness':13}{one.completeness.status.replace('_', ' ')}: {one.completeness.text}")


def _first(one: Verified) -> str:
    findings: list[Any] = [*one.integrity, *one.lawfulness, *one.projections, *(one.world or ())]
    return _text(findings[0]) if findings else one.completeness.text


def _text(finding: Any) -> str:
    if isinstance(finding, tuple):
        return f"{finding[0]}: only {'in the table' if finding[1] == 'here' else 'by the log'}: {finding[2]}"
    return str(finding)
