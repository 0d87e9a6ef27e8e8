"""What counts as a change of the pipeline file between a run and the one that carries it on."""

from __future__ import annotations

import pytest

from engine import changes
from engine.plugin_api import PIPE
from ledger.events import SourceIdentity

FILE = """\
transforms:
  - name: own
    options: {mapping: {id: a, v: b}, steps: [{name: s, k: 1}, {name: s, k: 2}], "a.b": 1}
sinks: {out: {plugin: csv}}
"""


@pytest.mark.parametrize(("was", "now", "field"), [
    ("k: 1", "k: 99", "transforms[own].options.steps[0].k"),
    ("k: 2", "k: 99", "transforms[own].options.steps[1].k"),
    ("{id: a, v: b}", "{v: b, id: a}", "transforms[own].options.mapping (order)"),
    ("{id: a, v: b}", "{id: a, v: b, w: c}", "transforms[own].options.mapping.w"),
    ("{id: a, v: b}", "{id: a}", "transforms[own].options.mapping.v"),
    ('"a.b": 1', "a: {b: 1}", 'transforms[own].options."a.b"'),
    ("plugin: csv", "plugin: json", "sinks.out.plugin"),
])  # fmt: skip
def test_every_difference_that_can_matter_is_a_change(was: str, now: str, field: str) -> None:
    """G13: entries of one name, the order of options, and keys with dots are not taken for one another."""
    assert field in [change.field for change in changes.settings(FILE, FILE.replace(was, now))]


@pytest.mark.parametrize(("was", "now"), [
    ("transforms:", "# a comment\ntransforms:"), ("{plugin: csv}", "{ plugin:   csv }"), ("k: 1", "'k': 1"),
])  # fmt: skip
def test_layout_is_no_change(was: str, now: str) -> None:
    """Comments, blanks and quotes say nothing."""
    assert changes.settings(FILE, FILE.replace(was, now)) == []


def test_what_comes_out_of_a_pipe_is_never_known_to_be_the_same() -> None:
    """G13: nothing tells whether it begins again at its first row; so it has to be accepted."""
    pipe = SourceIdentity(kind="csv" + PIPE, path="in")
    assert [change.field for change in changes.source(pipe, pipe)] == ["source"]
    whole = SourceIdentity(kind="csv", path="in", size_bytes=1, sha256="00")
    assert changes.source(whole, whole) == []
