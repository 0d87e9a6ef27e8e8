"""Sources of one's own: what they give is checked before it is taken for a row; what they do wrong is theirs, and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doors.told import ask, done, lines, tell, write

PIPELINE = """\
source:
  plugin: "{plugin}"
  on_success: good
  options: {{what: {what}, on_validation_failure: bad}}
sinks:
  good: {{plugin: json, options: {{path: good.jsonl}}}}
  bad: {{plugin: json, options: {{path: bad.jsonl}}}}
"""

SOURCE = """\
from engine.plugin_api import RowFault, SourceIdentity, SourceRow

ONE, LAST = SourceRow(1, {"n": 1}, None), SourceRow(3, {"n": 2}, None)
GIVEN = {
    "fine": [ONE, SourceRow(5, {"n": 2}, None)],
    "fault": [ONE, SourceRow(2, object(), RowFault("mine", "a\\ud800")), LAST],
    "object": [ONE, SourceRow(2, {"n": object()}, None), LAST],
    "nan": [ONE, SourceRow(2, {"n": float("nan")}, None), LAST],
    "list": [ONE, SourceRow(2, [1], None), LAST],
    "bare": [ONE, {"n": 2}],
    "same": [ONE, SourceRow(1, {"n": 2}, None)],
    "back": [ONE, SourceRow(0, {"n": 2}, None)],
    "place": [ONE, SourceRow("2", {"n": 2}, None)],
    "text": [ONE, SourceRow(2, {"n": 2}, "bad")],
    "raises": [ONE, RuntimeError("lost it")],
    "exits": [ONE, SystemExit(3)],
}

class Given:
    def __init__(self, *, what: str) -> None:
        self.what = what

    def identity(self):
        if self.what == "nobody":
            return None
        return SourceIdentity("given", self.what, None, None)

    def rows(self, after):
        for one in GIVEN[self.what]:
            if isinstance(one, BaseException):
                raise one
            yield one

    def close(self):
        pass

class Refuses(Given):
    def __init__(self, *, what: str) -> None:
        raise RuntimeError("not today")
"""


def given(what: str, plugin: str = "own_source:Given") -> str:
    """The pipeline file with that source."""
    write({"own_source.py": SOURCE})
    return PIPELINE.format(plugin=plugin, what=what)


@pytest.mark.parametrize("what", ["fine", "fault", "object", "nan", "list"])
def test_a_source_of_ones_own_gives_rows_and_what_is_none_is_quarantined(what: str) -> None:
    """E4, E5, E6: a row that no record can hold is kept as text, with the reason; the others go on."""
    write({"pipeline.yaml": given(what)})
    done("run", "pipeline.yaml", "--run-id", "own")
    assert [row["n"] for row in lines("good.jsonl")] == [1, 2]
    assert len(lines("bad.jsonl")) == (0 if what == "fine" else 1)
    if what != "fine":
        reason = ask("explain", "own", "1")["outcome"]["reason"]
        assert reason.startswith("mine: a" if what == "fault" else "bad_row: ")
    assert ask("verify", "own")["ok"] is True


@pytest.mark.parametrize(("what", "said"), [
    ("bare", "TypeError: expected a SourceRow, found dict"), ("same", "past 1, found 1"), ("back", "past 1, found 0"),
    ("place", "'2'"), ("text", "'bad'"), ("raises", "RuntimeError: lost it"), ("exits", "SystemExit: 3"),
])
def test_a_source_of_ones_own_that_fails_interrupts_the_run(what: str, said: str) -> None:
    """W8, W10: exit 4; the rows before are stored; where to go on is on record."""
    write({"pipeline.yaml": given(what)})
    told = tell("run", "pipeline.yaml", "--run-id", "own")
    assert (told.code, told.error.split(":")[0]) == (4, "SOURCE_FAILED")
    assert said in told.error
    assert "after position 1" in told.error
    assert lines("good.jsonl") == [{"n": 1}]
    assert ask("replay", "own")["status"] == "interrupted"


def test_a_plugin_that_cannot_be_made_is_the_settings_fault(folder: Path) -> None:
    """Exit 3 at its line, before anything is made; a source that cannot name itself is 4."""
    write({"pipeline.yaml": given("fine", "own_source:Refuses")})
    before = sorted(folder.iterdir())
    told = tell("run", "pipeline.yaml")
    assert (told.code, told.error.split(":")[0]) == (3, "PLUGIN_REFUSED")
    assert "source.options" in told.error
    assert "RuntimeError: not today" in told.error
    assert "; pipeline.yaml:4; " in told.error
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == before
    write({"pipeline.yaml": given("nobody")})
    assert tell("run", "pipeline.yaml").error.startswith("SOURCE_UNREADABLE")
