"""Bad settings as cases: the good pipeline with some text replaced, and what has to be said of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.doors.told import JOINED, tell, write

INPUT = "id,text\n1,a\n"


class Bad(NamedTuple):
    """Replacements of `JOINED`, the code that the error has, and texts that it holds."""

    code: str
    says: tuple[str, ...]
    changes: tuple[tuple[str, str], ...]


def bad(code: str, says: str | tuple[str, ...], *changes: tuple[str, str]) -> Bad:
    """One case."""
    return Bad(code, (says,) if isinstance(says, str) else says, changes)


def refused(text: str, *command: str) -> str:
    """The one line that `run` and `validate` both say; nothing was made beside the input."""
    write({"pipeline.yaml": text, "in.csv": INPUT})
    before = sorted(Path().iterdir())
    told = tell("run", "pipeline.yaml", *command)
    assert told.code == 3, told.err
    assert told.out == ""
    assert [path for path in sorted(Path().iterdir()) if path.name != "__pycache__"] == before
    assert tell("validate", "pipeline.yaml", ledger=None).error == told.error
    return told.error


def marked(text: str) -> int:
    """The number of the line that is marked."""
    found = [number for number, line in enumerate(text.splitlines(), start=1) if "#!" in line]
    assert len(found) == 1, found
    return found[0]


def changed(changes: tuple[tuple[str, str], ...]) -> str:
    """The good pipeline with each of the replacements made once."""
    text = JOINED
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def check(case: Bad, files: Mapping[str, str] | None = None) -> None:
    """The error has the code, the texts, what was expected, the marked line, and a next step."""
    text = changed(case.changes)
    write(files or {})
    error = refused(text)
    code, _, rest = error.partition(": ")
    assert code == case.code, error
    for said in case.says:
        assert said in rest, error
    assert "expected" in rest
    place = f"; pipeline.yaml:{marked(text)}; "
    assert rest.partition(place)[2], f"not at line {marked(text)} with a next step: {error}"
