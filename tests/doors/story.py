"""One run in which rows come to every kind of end, asked from many sides: run once a module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.doors.kept import url_in
from tests.doors.told import Told, ask, done, tell, write

ROWS = """\
id,text,to
1,fine,store
2,bad,store
x,fine,store
4,fine,strict
5,fine,nowhere
6,half,store
7,drop,store
8,fine,void
9,fine,store
"""
"""Stored, caught by a filter, no number, refused by a sink, a label without a route, one branch lost, dropped, refused."""

PIPELINE = """\
name: story
source:
  plugin: csv
  key: id
  on_success: rows
  options:
    path: in.csv
    on_validation_failure: rejects
    schema: {mode: fixed, fields: ["id: int", "text: str", "to: str"]}
transforms:
  - name: no_bad
    plugin: keyword_filter
    input: rows
    on_success: not_bad
    on_error: rejects
    options: {fields: [text], blocked_patterns: [bad]}
  - name: no_drop
    plugin: keyword_filter
    input: not_bad
    on_success: clean
    on_error: discard
    options: {fields: [text], blocked_patterns: [drop]}
  - name: no_half
    plugin: keyword_filter
    input: b
    on_success: b_done
    on_error: discard
    options: {fields: [text], blocked_patterns: [half]}
gates:
  - name: route
    input: clean
    condition: "row['to']"
    routes: {store: fork, strict: strict, void: void}
    fork_to: [a, b]
coalesce:
  - {name: join, branches: {a: a, b: b_done}, policy: require_all, merge: union, on_success: store}
sinks:
  store: {plugin: csv, options: {path: store.csv}}
  strict: {plugin: json, on_write_failure: rejects, options: {path: strict.jsonl, schema: &}}
  void: {plugin: json, on_write_failure: discard, options: {path: void.jsonl, schema: &}}
  rejects: {plugin: json, options: {path: rejects.jsonl}}
""".replace("&", '{mode: fixed, fields: ["id: int"]}')

OUTCOMES = {"coalesced": 4, "completed": 2, "diverted": 2, "failed": 2, "forked": 3, "quarantined": 3, "routed": 1}


class Story:
    """The ledger with the run, to be asked."""

    def __init__(self, url: str, receipt: dict[str, Any]) -> None:
        self.url = url
        self.receipt = receipt

    def tell(self, *arguments: str) -> Told:
        """A command to this ledger."""
        return tell(*arguments, ledger=self.url)

    def done(self, *arguments: str) -> Told:
        """A command that has to succeed."""
        return done(*arguments, ledger=self.url)

    def ask(self, *arguments: str) -> Any:
        """The JSON answer of a command that has to succeed."""
        return ask(*arguments, ledger=self.url)


def told(folder: Path) -> Story:
    """Run the story, and its rows once more with invalid ones discarded, in `folder`."""
    url = url_in(folder, "story")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COUNTERFOIL_LEDGER", raising=False)
        patch.chdir(folder)
        write({"pipeline.yaml": PIPELINE, "in.csv": ROWS,
               "discards.yaml": PIPELINE.replace("on_validation_failure: rejects", "on_validation_failure: discard")})
        receipt = ask("run", "pipeline.yaml", "--run-id", "story", ledger=url)
        ask("run", "discards.yaml", "--run-id", "discards", ledger=url)
    return Story(url, receipt)
